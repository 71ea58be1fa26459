"""How much of some files the system still has in memory, asked without reading them.

An engine that starts on files that are there starts warm; else it waits for the disk.
"""

from __future__ import annotations

import ctypes
import mmap
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

WINDOW = 2**20
"""Bytes that are asked about at once."""
WINDOWS = 256
"""How many such windows, evenly spread, are asked about in each file: a page costs 0.1 µs, so all of a large one would
take seconds."""
_RESIDENT = 1
"""The bit of a page's byte that says so (mincore(2), on Linux and macOS)."""


def share(paths: Iterable[Path]) -> float | None:
    """Return which part of some files' bytes is in memory, from 0 to 1; null where the system does not tell.

    Linux tells only of files that this user owns or may write to, and says "all" of others (mincore(2)): of such
    nothing is known here either.
    """
    total, present = 0, 0.0
    for path in paths:
        try:
            size = path.stat().st_size
            found = _resident(path, size) if size else 0.0
        except (OSError, ValueError):
            return None
        if found is None:
            return None
        total, present = total + size, present + found * size
    return present / total if total else None


def _resident(path: Path, size: int) -> float | None:
    mincore = getattr(ctypes.CDLL(None, use_errno=True), "mincore", None)
    if mincore is None or not os.access(path, os.W_OK):
        return None
    mincore.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p)
    # Private: so it may be writable, which ctypes needs to find its address, while the file is only read.
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY) as mapped:
        anchor = ctypes.c_char.from_buffer(mapped)
        try:
            return _counted(mincore, ctypes.addressof(anchor), size)
        finally:
            del anchor  # a map that something points into cannot be closed


def _counted(mincore: ctypes._NamedFuncPointer, start: int, size: int) -> float | None:
    page = mmap.PAGESIZE
    pages = resident = 0
    for offset in offsets(size):
        length = min(WINDOW, size - offset)
        answer = ctypes.create_string_buffer(-(-length // page))
        if mincore(start + offset, length, answer):
            return None
        pages += len(answer)
        resident += sum(byte & _RESIDENT for byte in answer.raw)
    return resident / pages


def offsets(size: int) -> list[int]:
    """Return where the windows of a file begin."""
    count = -(-size // WINDOW)
    step = max(1, -(-count // WINDOWS))
    return [index * WINDOW for index in range(0, count, step)]
