"""What of a file is in memory."""

from __future__ import annotations

import ctypes
import os
from typing import TYPE_CHECKING

import pytest

from xinfer.machine import pagecache

if TYPE_CHECKING:
    from pathlib import Path

MIB = 2**20


def test_what_was_just_written_is_there(tmp_path: Path) -> None:
    """Linux and macOS tell."""
    path = tmp_path / "weights"
    path.write_bytes(os.urandom(3 * MIB + 17))
    assert pagecache.share([path]) == pytest.approx(1.0)


def test_what_was_never_touched_is_not_there(tmp_path: Path) -> None:
    """A hole of a file is on the disk at most; asking does not read it."""
    written, hole = tmp_path / "written", tmp_path / "hole"
    written.write_bytes(os.urandom(2 * MIB))
    with hole.open("wb") as file:
        file.truncate(2 * MIB)
    assert [pagecache.share([hole]) for _ in range(2)] == [0.0, 0.0]
    assert pagecache.share([written, hole]) == pytest.approx(0.5)


def test_larger_files_count_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The share is one of bytes."""
    sizes = {"small": 1000, "large": 3000}
    for name, size in sizes.items():
        (tmp_path / name).write_bytes(bytes(size))
    monkeypatch.setattr(pagecache, "_resident", lambda path, _: {"small": 1.0, "large": 0.2}[path.name])
    assert pagecache.share(tmp_path / name for name in sizes) == pytest.approx((1000 + 600) / 4000)


@pytest.mark.parametrize("names", [[], ["empty"], ["missing"], ["empty", "missing"]], ids=" ".join)
def test_nothing_to_ask_about(tmp_path: Path, names: list[str]) -> None:
    """No file, none with content, or one that vanished: nothing is known."""
    (tmp_path / "empty").touch()
    assert pagecache.share(tmp_path / name for name in names) is None


def test_files_of_others_are_not_believed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel says of them that all is there, whatever is."""
    path = tmp_path / "weights"
    path.write_bytes(bytes(5000))
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert pagecache.share([path]) is None


def test_a_system_that_does_not_tell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the call, nothing is known."""
    path = tmp_path / "weights"
    path.write_bytes(bytes(5000))
    monkeypatch.setattr(ctypes, "CDLL", lambda *_, **__: object())
    assert pagecache.share([path]) is None


def test_a_large_file_is_asked_about_in_parts() -> None:
    """Few enough to cost nothing, from its beginning to its end."""
    places = pagecache.offsets(200 * 2**30)
    assert 128 <= len(places) <= pagecache.WINDOWS
    assert (places[0], places[-1] > 198 * 2**30) == (0, True)
    assert pagecache.offsets(3 * MIB + 1) == [0, MIB, 2 * MIB, 3 * MIB]
