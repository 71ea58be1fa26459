"""What an earlier sweep has left of a cell, so that the same command goes on where that one ended.

A record counts for a cell if it is of the same id, which is a hash of all that was resolved, of the same protocol and,
unless it is a refusal, of the same machine. What a killed run has left behind has no record, and counts for nothing.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

import msgspec

from xinfer import __version__, history, record
from xinfer.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from xinfer.record import Failure, Record

_MOST = 2000
"""How many records are looked at for the time that cells take."""


class _Machine(msgspec.Struct):
    id: str


class Head(msgspec.Struct, frozen=True):
    """As much of a record as tells what it is a record of."""

    cell: str
    status: record.Status
    seconds: float
    protocol: int | None = None
    machine: _Machine | None = None
    config: dict[str, Any] = {}
    decision: dict[str, Any] | None = None


def measured(place: Path, cell: str, machine: str, *, resume: str, most: int) -> tuple[Record, ...]:
    """Return the newest records of a cell that can run, the oldest of them first; ``place`` is where they would lie.

    A failure counts only as the newest: after an older one the cell was tried again.
    """
    of_it = [each for each in _read(place, cell) if each.machine is not None and each.machine.get("id") == machine]
    return _newest([each for each in of_it if each.status != "refused"], resume=resume, most=most)


def _newest(records: Sequence[Record], *, resume: str, most: int) -> tuple[Record, ...]:
    if resume == "off":
        return ()
    found: list[Record] = []
    for each in records:
        if each.status != "failed" or resume != "failed":
            found = [*(other for other in found if other.status == "ok"), each]
    return tuple(found[-most:])


class Carried:
    """Records of cells that a launcher had measured: of the same configuration, on whichever machine that was.

    Before it is there, nobody knows the machine and so the cell's id.
    """

    def __init__(self, runs: Path) -> None:
        """Read those that lie below a directory, the newest last."""
        self._found: dict[bytes, list[Record]] = {}
        for file in sorted(runs.glob(history.PLACES[2]), key=lambda path: path.parent.name):
            with suppress(ConfigError):
                made = history.read(file)
                if made.launcher is not None and made.protocol == record.PROTOCOL and made.xinfer == __version__:
                    self._found.setdefault(_content(made.config), []).append(made)

    def of(self, config: dict[str, Any], *, resume: str, most: int) -> tuple[Record, ...]:
        """Return the newest records of a cell, the oldest of them first, as :func:`measured` does."""
        return _newest(self._found.get(_content(record.shortened(config)), []), resume=resume, most=most)


def _content(config: dict[str, Any]) -> bytes:
    asked = {key: value for key, value in config.items() if key not in {"runs", "repeat", "resume", "dry"}}
    return msgspec.json.encode(asked, order="sorted")


def refused(place: Path, cell: str, failure: Failure, *, resume: str) -> tuple[Record, ...]:
    """Return the newest record of the same refusal, if there is one."""
    same = [each for each in _read(place, cell) if each.failure == failure]
    return () if resume == "off" else tuple(same[-1:])


def heads(runs: Path) -> list[Head]:
    """Return what the newest records below a directory are records of, if they are of this protocol."""
    found = []
    for file in history.newest(runs, _MOST):
        with suppress(OSError, ValueError):
            found.append(msgspec.json.decode(file.read_bytes(), type=Head))
    return [each for each in found if each.protocol == record.PROTOCOL]


def _read(place: Path, cell: str) -> Sequence[Record]:
    """Read the records of a cell, the oldest first; what cannot be read is none."""
    found = []
    for file in sorted(place.glob(history.PLACES[1])):
        with suppress(ConfigError):
            found.append(history.read(file))
    return [each for each in found if each.cell == cell and each.protocol == record.PROTOCOL]
