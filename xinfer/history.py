"""What was measured before: the records at a path, grouped by the cell that each is a run of."""

from __future__ import annotations

from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from xinfer import record
from xinfer.errors import ConfigError
from xinfer.machine import fingerprint, hardware
from xinfer.planning.prediction import Past

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from xinfer.evidence import Evidence
    from xinfer.facts import Hardware
    from xinfer.record import Record
    from xinfer.spec import Workload

PLACES = ("record.json", "*/record.json", "*/*/record.json")
"""Where the records of a run, of a cell's runs and of many cells' runs lie in their directory."""
MOST = 1000
"""How many records a choice by measurement is made from, the newest first: reading them takes a tenth of a second."""


class Cell(NamedTuple):
    """All runs of one cell that lie in one place, the oldest first."""

    id: str
    runs: tuple[Record, ...]


class _Kind(msgspec.Struct):
    schema: int


def cells(path: Path) -> list[Cell]:
    """Return what lies at a path: a record, or the directory of a run, of a cell or of many cells.

    Raises ConfigError, one line, if there is nothing, no record, or one that cannot be read.
    """
    if not path.exists():
        raise ConfigError(f"{path}: there is no such file or directory")
    files = [path] if path.is_file() else next(filter(None, (sorted(path.glob(place)) for place in PLACES)), [])
    if not files:
        raise ConfigError(f"{path}: there are no records; say a record.json, or a run's, a cell's or a runs= directory")
    return _grouped(read(file) for file in files)


def _grouped(records: Iterable[Record]) -> list[Cell]:
    found: dict[str, list[Record]] = {}
    for each in sorted(records, key=lambda made: (made.cell, made.run)):
        found.setdefault(each.cell, []).append(each)
    return [Cell(name, tuple(runs)) for name, runs in found.items()]


def read(file: Path) -> Record:
    """Read one record of this schema; its ``path`` becomes where it lies now."""
    try:
        body = file.read_bytes()
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read: {error.strerror}") from error
    try:
        schema = msgspec.json.decode(body, type=_Kind).schema
        if schema != record.SCHEMA:
            raise ConfigError(f"{file}: a record of schema {schema}; this xinfer reads schema {record.SCHEMA}")
        made = msgspec.json.decode(body, type=record.Record)
    except ValueError as wrong:
        raise ConfigError(f"{file}: not a record: {wrong}") from wrong
    return msgspec.structs.replace(made, path=str(file))


def recent(runs: Path, most: int) -> list[Past]:
    """Return what is needed to predict from the newest records below ``runs``; what cannot be read tells nothing."""
    found = []
    for file in newest(runs, most):
        with suppress(OSError, ValueError):
            found.append(msgspec.json.decode(file.read_bytes(), type=Past))
    return found


def evidence(
    config: Mapping[str, Any],
    asked: Hardware,
    workload: Workload,
    detect: Callable[[], Hardware],
    defaults: Callable[[str], Mapping[str, Any]],
) -> Evidence | None:
    """Return what a choice by measurement goes by: the newest records below ``runs=``, and what is asked for.

    Null where the choice is the documented one.
    """
    if config["choose"] != "measured":
        return None
    from xinfer.evidence import Archive, Evidence  # noqa: PLC0415 -- its statistics take longer to import than to plan

    here = detect()
    lacks = hardware.missing(asked, here)
    elsewhere = f"this machine is not {asked.profile}: it lacks {'; '.join(lacks)}" if lacks else ""
    archive = Archive(config["runs"], *_kept(Path(config["runs"]).expanduser(), here), elsewhere)
    return Evidence(archive, workload, asked, config["engine"], config["dtype"], defaults)


@cache
def _kept(runs: Path, here: Hardware) -> tuple[tuple[Record, ...], dict[str, Any]]:
    """Return the newest records and this machine's fingerprint, read once: a sweep decides on all its cells first."""
    records = []
    for file in newest(runs, MOST):
        with suppress(ConfigError):
            records.append(read(file))
    return tuple(records), msgspec.json.decode(msgspec.json.encode(fingerprint.take(here)))


def newest(runs: Path, most: int) -> list[Path]:
    """Return where the newest records below a directory of many cells' runs lie."""
    return sorted(runs.glob(PLACES[-1]), key=lambda file: file.parent.name, reverse=True)[:most]
