"""What an interpreter would import is listed by itself, with or without pip."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from xinfer.environments import packages
from xinfer.errors import ProvisionError

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture
def python(tmp_path: Path) -> Path:
    """Return the interpreter of an environment without pip."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "e")], check=True)
    return tmp_path / "e" / "bin" / "python"


@pytest.fixture
def add(python: Path) -> Callable[[str, str], None]:
    """Return how to put a package's description into the environment."""
    (place,) = (python.parent.parent / "lib").glob("python*/site-packages")

    def write(folder: str, metadata: str) -> None:
        (place / folder).mkdir()
        (place / folder / "METADATA").write_text(f"Metadata-Version: 2.1\n{metadata}")

    return write


def test_packages_are_sorted_by_name(python: Path, add: Callable[[str, str], None]) -> None:
    """Whatever their spelling; what has no name or version is left out."""
    add("b-1.dist-info", "Name: b\nVersion: 1.0+cpu\n")
    add("A-2.dist-info", "Name: A\nVersion: 2\n")
    add("c.d-3.dist-info", "Name: c.d\nVersion: 3\n")
    add("n-4.dist-info", "Version: 4\n")
    add("v-5.dist-info", "Name: v\n")
    assert packages.of(python) == ("A==2", "b==1.0+cpu", "c.d==3")


def test_the_working_directory_does_not_count(python: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor does PYTHONPATH: neither is there when the engine runs."""
    (tmp_path / "x-1.dist-info").mkdir()
    (tmp_path / "x-1.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: x\nVersion: 1\n")
    (tmp_path / "json.py").write_text("raise SystemExit('the wrong module')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert packages.of(python) == ()


def test_an_interpreter_that_is_none_is_one_line(tmp_path: Path) -> None:
    """Whether it is not there, or fails, or answers something else."""
    with pytest.raises(ProvisionError, match=r"its packages cannot be listed: .*No such file"):
        packages.of(tmp_path / "python")
    for answer in ("exit 3", "echo hello"):
        (tmp_path / "python").write_text(f"#!/bin/sh\n{answer}\n")
        (tmp_path / "python").chmod(0o755)
        with pytest.raises(ProvisionError, match="its packages cannot be listed: "):
            packages.of(tmp_path / "python")


def test_the_packages_beside_a_program(python: Path, add: Callable[[str, str], None]) -> None:
    """A command's interpreter is its first word, or the python beside it."""
    add("a-1.dist-info", "Name: a\nVersion: 1\n")
    assert packages.beside((str(python), "-m", "a")) == ("a==1",)
    assert packages.beside((str(python.with_name("serve")), "--port", "1")) == ("a==1",)
    assert packages.beside(("/no/such/serve",)) == ()
    assert packages.beside(()) == ()
