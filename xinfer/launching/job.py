"""What is sent to another process or machine and what comes back: bytes, whoever carries them.

They need no file system in common: the user's own configuration files go along, the run directories come back.
"""

from __future__ import annotations

import re
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from xinfer import __version__, record
from xinfer.config.overrides import LABELS
from xinfer.errors import EngineError
from xinfer.record import Record
from xinfer.spec import Workload

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

T = TypeVar("T")
RECORD = "record.json"
_NAME = re.compile(r"\w[\w.+-]*", re.ASCII)


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """Cells that one server can serve, to be measured somewhere by this version of xinfer."""

    xinfer: str = __version__
    cells: tuple[tuple[str, ...], ...]
    """The overrides of each."""
    titles: tuple[str, ...]
    kept: tuple[tuple[Record, ...], ...]
    """Of each, what was measured before: as much of it as tells whether it is to be measured once more."""
    capacity: Workload
    """What the server must be able to carry besides: some of the cells that it is for may have been measured before."""
    directories: tuple[dict[str, str], ...] = ()
    """The files of each directory that the user added to the search path."""
    cwd: str
    """What relative paths stand for, where there is such a directory."""
    is_alone: bool = True
    """Whether it waits until no other job runs on its machine."""


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """One run's directory."""

    number: int
    """Which of the job's cells it is of."""
    cell: str
    run: str
    files: dict[str, bytes]


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a job."""

    host: str
    runs: tuple[Run, ...] = ()
    failure: str | None = None
    """Why there are no runs."""
    details: tuple[str, ...] = ()


def packed(document: Job | Outcome) -> bytes:
    """Write a job or an outcome as bytes; raw stamps shrink to a fraction."""
    return zlib.compress(msgspec.msgpack.encode(document))


def unpacked(data: bytes, kind: type[T]) -> T:
    """Read what :func:`packed` has written; EngineError where it is something else."""
    try:
        return msgspec.msgpack.decode(zlib.decompress(data), type=kind)
    except (zlib.error, msgspec.DecodeError) as error:
        raise EngineError(f"what came back is no {kind.__name__.lower()}: {error}") from error


def configuration(directories: Iterable[Path]) -> tuple[dict[str, str], ...]:
    """Return the files of each directory that Hydra would look for in it."""
    return tuple(
        {f"{group}/{path.name}": path.read_text("utf-8") for group in LABELS for path in (top / group).glob("*.yaml")}
        for top in directories
    )


def laid_out(directories: Sequence[Mapping[str, str]], place: Path) -> list[Path]:
    """Write them below a place, and return where each is."""
    tops = [place / str(number) for number in range(len(directories))]
    for top, files in zip(tops, directories, strict=True):
        top.mkdir(parents=True)
        for name, text in files.items():
            path = top.joinpath(*map(_name, name.split("/")))
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, "utf-8")
    return tops


def headed(made: Record) -> Record:
    """Return as much of a record as tells whether its cell is to be measured once more."""
    numbers = {"output_tps": (made.metrics or {}).get("output_tps")}
    return Record(
        cell=made.cell, run=made.run, status=made.status, started=made.started, seconds=made.seconds, metrics=numbers
    )


def gathered(number: int, made: Record) -> Run:
    """Return a run with all its files."""
    files = {each.name: each.read_bytes() for each in Path(made.path).parent.iterdir() if each.is_file()}
    return Run(number=number, cell=made.cell, run=made.run, files=files)


def settled(run: Run, runs: Path, *, launcher: str, flags: Sequence[dict[str, Any]] = ()) -> Record:
    """Put a run among the others at home, whole or not at all, and return its record.

    EngineError for one that would lie anywhere else.
    """
    place, partial = runs / _name(run.cell) / _name(run.run), runs / f".arriving-{_name(run.run)}"
    made = msgspec.json.decode(run.files[RECORD], type=Record)
    partial.mkdir(parents=True)
    for name in run.files.keys() - {RECORD}:
        (partial / _name(name)).write_bytes(run.files[name])
    ours = msgspec.structs.replace(made, launcher=launcher, flags=(*made.flags, *flags))
    kept = record.write(partial, ours, place=place)
    place.parent.mkdir(exist_ok=True)
    partial.replace(place)
    return kept


def _name(text: str) -> str:
    if _NAME.fullmatch(text) is None:
        raise EngineError(f"{text!r} came back as the name of a file")
    return text
