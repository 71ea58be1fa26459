"""Locks beside directories: one maker, or any number of users, whoever of them is killed.

The lock of a directory is the file of the same name with ``.lock`` behind it. It may be removed by whoever
holds it alone; all others then notice that the file they have locked is not the one that is there.
"""

from __future__ import annotations

import fcntl
import os
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import IO

SUFFIX = ".lock"


def of(directory: Path) -> Path:
    """Return the lock's file."""
    return directory.with_name(f"{directory.name}{SUFFIX}")


@contextmanager
def held(directory: Path, *, is_shared: bool = False, waiting: Callable[[], object] | None = None) -> Iterator[int]:
    """Hold a directory's lock, alone or with others, and yield its descriptor.

    ``waiting`` is called once if somebody else has it; without it, BlockingIOError is raised instead.
    """
    path = of(directory)
    kind = fcntl.LOCK_SH if is_shared else fcntl.LOCK_EX
    path.parent.mkdir(parents=True, exist_ok=True)
    while True:
        with _opened(path, is_shared=is_shared) as file:
            try:
                fcntl.flock(file, kind | fcntl.LOCK_NB)
            except BlockingIOError:
                if waiting is None:
                    raise
                waiting()
                fcntl.flock(file, kind)
            if _is_there(file.fileno(), path):
                yield file.fileno()
                return


def _opened(path: Path, *, is_shared: bool) -> IO[bytes]:
    """Open the lock's file; for a user it need not be writable, so that a home may be used that others fill."""
    if is_shared:
        with suppress(FileNotFoundError):
            return path.open("rb")
    return path.open("ab")


def is_held(directory: Path) -> bool:
    """Say whether anybody makes or uses a directory; nothing is created."""
    try:
        with of(directory).open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # there is no lock, or this user may not see it
        return False
    return False


def _is_there(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False
