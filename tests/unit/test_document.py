"""A configuration file is read within bounds, whatever somebody wrote into it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from xinfer.config import document
from xinfer.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12)
)


def refused(tmp_path: Path, text: str) -> str:
    path = tmp_path / "x.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        document.read(path)
    said = str(caught.value)
    assert "\n" not in said
    assert said.startswith(f"{path}: ")
    return said.removeprefix(f"{path}: ")


def test_a_file_is_a_mapping(tmp_path: Path) -> None:
    """With aliases, if it likes."""
    (tmp_path / "x.yaml").write_text("a: &a [1, 2]\nb: [*a, *a]\n")
    assert document.read(tmp_path / "x.yaml") == {"a": [1, 2], "b": [[1, 2], [1, 2]]}
    (tmp_path / "x.yaml").write_text("")
    assert document.read(tmp_path / "x.yaml") == {}


@pytest.mark.parametrize("depth", [61, 500, 5000, 100_000])
def test_nesting_beyond_reason_is_refused(tmp_path: Path, depth: int) -> None:
    """And ends neither the stack nor the program."""
    assert "nest" in refused(tmp_path, "a: " + "[" * depth + "]" * depth)


def test_a_few_lines_that_stand_for_billions_of_values_are_refused(tmp_path: Path) -> None:
    """They take no memory until somebody copies them."""
    assert refused(tmp_path, BOMB) == "holds more than 524288 values, aliases written out"


def test_what_holds_itself_is_refused(tmp_path: Path) -> None:
    """It has no end."""
    assert refused(tmp_path, "a: &a\n  b: *a\n") == "is nested more than 60 deep"


def test_a_file_without_end_is_refused(tmp_path: Path) -> None:
    """After its first 8 MiB."""
    assert refused(tmp_path, "a: " + "x" * 2**23) == "is longer than 8 MiB; that is no configuration"
