"""What is kept below xinfer's home: environments, models and engines' caches, how large they are, and how old."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import msgspec
import psutil

from xinfer.environments import environment, locks

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

Kind = Literal["environment", "tool", "weights", "cache"]
KINDS = get_args(Kind)
ENVIRONMENTS, MODELS, CACHES = "environments", "models", "caches"
TOOLS = ("tool-", "loadgen-")
"""How the names of environments begin that are no engine's."""
ASIDE = ".removed-"
"""What stands, with a random word, behind the name of a directory that is being removed."""
_BUILD = re.compile(r"(?P<engine>\w+)-(?P<variant>.+)-(?P<version>[^-]+)-[0-9a-f]{8}")
_ASIDE = re.compile(rf".+{re.escape(ASIDE)}[0-9a-f]{{8}}")
_BLOCK = 512
"""The unit of ``st_blocks``, whatever the file system's own is."""


class Command(msgspec.Struct, frozen=True, kw_only=True):
    """A running process, by what it was started with."""

    process: str
    words: tuple[str, ...]
    values: tuple[str, ...] = ()
    """Of its environment's variables, as far as this user may see them."""


class Stored(msgspec.Struct, frozen=True, kw_only=True):
    """One directory that xinfer has made, or begun to make, or that engines fill because a plan says so."""

    kind: Kind
    name: str
    """Of a cache with its place in front, as engines and their caches are called alike."""
    path: str
    engine: str | None = None
    version: str | None = None
    variant: str | None = None
    size_bytes: int
    """On the disk; what several links of one directory share counts once."""
    made: str | None = None
    """UTC, ISO 8601, as ``used``."""
    seconds: float | None = None
    """How long making it took."""
    used: str
    """When it was last asked for; of an incomplete one or a cache, when it last changed."""
    packages: int | None = None
    complete: bool
    """Always true of a cache: an engine makes again what it lacks."""
    in_use: bool
    """Whether it is being made, or a process names it or something in it."""


def stored(home: Path) -> tuple[Stored, ...]:
    """Return everything below a home by kind and name, what killed installations have left included."""
    running = commands()
    places = (ENVIRONMENTS, MODELS, CACHES)
    paths = (path for place in places for path in _children(home / place) if _is_ours(path))
    return tuple(sorted((entry(path, running) for path in paths), key=lambda row: (KINDS.index(row.kind), row.name)))


def entry(path: Path, running: Sequence[Command] = ()) -> Stored:
    """Describe one directory, given what runs on this machine."""
    marker = None if is_aside(path) else environment.read(path)
    if path.parent.name == CACHES:
        return Stored(
            name=f"{CACHES}/{path.name}", path=str(path), kind="cache", size_bytes=disk_usage(path),
            used=_written(_changed_s(path)), complete=not is_aside(path), in_use=bool(users(path, running)),
        )  # fmt: skip
    return Stored(
        name=path.name, path=str(path), **parts(path), size_bytes=disk_usage(path),
        made=marker.made if marker else None, seconds=marker.seconds if marker else None,
        used=_time(path / environment.MARKER if marker else path),
        packages=len(marker.resolved) if marker and marker.resolved else None, complete=marker is not None,
        in_use=locks.is_held(path) or bool(users(path, running)),
    )  # fmt: skip


def parts(path: Path) -> dict[str, Any]:
    """Read from a path of what kind it is and, of an engine's environment, which engine, variant and version."""
    if path.parent.name != ENVIRONMENTS:
        return {"kind": "weights"}
    if path.name.startswith(TOOLS):
        return {"kind": "tool"}
    named = _BUILD.fullmatch(path.name)
    return {"kind": "environment", **(named.groupdict() if named else {})}


def is_aside(path: Path) -> bool:
    """Say whether a path is what a removal has begun with."""
    return bool(_ASIDE.fullmatch(path.name))


def commands() -> tuple[Command, ...]:
    """Return what this machine's processes were started with as far as this user may see it, without our own."""
    ours = {os.getpid(), *(process.pid for process in psutil.Process().parents())}
    found = psutil.process_iter(["name", "cmdline", "environ"])
    return tuple(
        Command(
            process=f"{process.info['name']} (process {process.pid})", words=tuple(process.info["cmdline"] or ()),
            values=tuple((process.info["environ"] or {}).values()),
        )
        for process in found
        if process.pid not in ours
    )  # fmt: skip


def users(path: Path, running: Sequence[Command]) -> list[str]:
    """Return the processes that name a directory or something in it: a server that somebody else has started.

    Caches are named in variables; there, a shell that has an environment on its PATH would name that.
    """
    inside = f"{path}{os.sep}"
    said = [(each.process, each.values if path.parent.name == CACHES else each.words) for each in running]
    return [process for process, words in said if any(word == str(path) or inside in word for word in words)]


def disk_usage(path: Path) -> int:
    """Return the bytes that a directory takes on the disk; what vanishes meanwhile counts nothing."""
    files: dict[tuple[int, int], int] = {}
    waiting = [str(path)]
    with suppress(OSError):
        _count(path.lstat(), files)
    while waiting:
        with suppress(OSError), os.scandir(waiting.pop()) as entries:
            for each in entries:
                with suppress(OSError):
                    _count(each.stat(follow_symlinks=False), files)
                if each.is_dir(follow_symlinks=False):
                    waiting.append(each.path)
    return sum(files.values()) * _BLOCK


def _count(found: os.stat_result, files: dict[tuple[int, int], int]) -> None:
    files[found.st_dev, found.st_ino] = found.st_blocks


def _children(directory: Path) -> Iterator[Path]:
    with suppress(FileNotFoundError, NotADirectoryError):
        yield from directory.iterdir()


def _is_ours(path: Path) -> bool:
    """Say whether xinfer has made it: a home may be a place where others keep models, too."""
    if path.name.endswith(locks.SUFFIX):
        return False
    if path.parent.name == CACHES:
        return path.is_dir()
    has_lock = locks.of(path).is_file()
    return has_lock or (path / environment.MARKER).is_file() or is_aside(path)


def _changed_s(path: Path) -> float:
    """Return when anything in a directory last changed."""
    places = (Path(place, name) for place, _, names in os.walk(path) for name in ("", *names))
    return max((_modified_s(place) for place in places), default=0.0)


def _modified_s(path: Path) -> float:
    try:
        return path.lstat().st_mtime
    except OSError:  # it vanished meanwhile
        return 0.0


def _time(path: Path) -> str:
    return _written(_modified_s(path))


def _written(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
