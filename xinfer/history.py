"""What was measured before: the records at a path, grouped by the cell that each is a run of."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from xinfer import record
from xinfer.errors import ConfigError
from xinfer.planning.prediction import Past

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from xinfer.record import Record

PLACES = ("record.json", "*/record.json", "*/*/record.json")
"""Where the records of a run, of a cell's runs and of many cells' runs lie in their directory."""


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
    files = sorted(runs.glob(PLACES[-1]), key=lambda file: file.parent.name, reverse=True)[:most]
    found = []
    for file in files:
        with suppress(OSError, ValueError):
            found.append(msgspec.json.decode(file.read_bytes(), type=Past))
    return found
