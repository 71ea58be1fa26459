"""Shared memory that appears while an engine runs, and whether it is the engine's: it bears no owner's name."""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SHARED = Path("/dev/shm")  # noqa: S108 -- where Linux keeps shared memory, which is looked at and not written to
TICK_S = 0.1
PATIENCE_S = 5.0
"""How long a file is watched before it is said to be left: some outlive their program by a moment."""


class SharedMemory:
    """Watches from its making until it is closed; what other programs were seen to use is none of the engine's."""

    def __init__(self, is_ours: Callable[[int], bool]) -> None:
        """Begin; ``is_ours`` says of a process id whether it is one of the engine's."""
        self._is_ours = is_ours
        self._before = names()
        self._theirs: set[str] = set()
        self._closed = threading.Event()
        self._watcher = threading.Thread(target=self._watch, daemon=True)
        self._watcher.start()

    def close(self) -> None:
        """Watch no longer."""
        self._closed.set()
        self._watcher.join()

    def left(self) -> list[Path]:
        """Return what is there for good and was seen in no other program's use."""
        deadline_s = time.monotonic() + PATIENCE_S
        while (new := self._unclaimed()) and time.monotonic() < deadline_s:
            time.sleep(TICK_S)
        return [SHARED / name for name in sorted(new)]

    def _unclaimed(self) -> set[str]:
        return names() - self._before - self._theirs

    def _watch(self) -> None:
        while not self._closed.wait(TICK_S):
            if self._unclaimed():
                self._theirs |= {name for pid, name in users() if not self._is_ours(pid)}


def names() -> set[str]:
    """Return the names of all there is; nothing where the system keeps it elsewhere."""
    return {path.name for path in SHARED.iterdir()} if SHARED.is_dir() else set()


def users() -> Iterator[tuple[int, str]]:
    """Yield each process that has a file of it in its memory, or open, and the file's name."""
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it ended meanwhile, or is somebody else's
            lines = (process / "maps").read_text(errors="replace").splitlines()
            used = [line[line.index("/") :] for line in lines if f" {SHARED}/" in line]
            used += [str(link.readlink()) for link in (process / "fd").iterdir()]
            prefix = f"{SHARED}/"
            yield from ((int(process.name), path.removeprefix(prefix)) for path in used if path.startswith(prefix))
