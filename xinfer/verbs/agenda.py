"""What a sweep is going to do, told before anything is started: what runs, what is refused, how long, how much disk.

Times are those of records of this machine, sizes those of what is published or lies here; what nobody knows is called
so, and nothing is guessed.
"""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import msgspec

from xinfer import flow, judgement, keys
from xinfer.environments import environment, storage
from xinfer.spec import Repeat
from xinfer.verbs import earlier, report

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from xinfer.errors import XinferError
    from xinfer.plan import Artefact
    from xinfer.record import Record
    from xinfer.verbs.cell import Attempt

_GIB = 2**30
_MINUTE_S, _HOUR_S = 60, 3600
_MOST_REASONS = 20
"""Of refusals, the most frequent first; the closing table has them all."""


class Cell:
    """A cell, and every time it was tried."""

    def __init__(self, attempt: Attempt) -> None:
        self.attempts = [attempt]
        self.kept: tuple[Record, ...] = ()
        """What an earlier sweep has measured of it, or why it was refused."""
        self.error: XinferError | None = None
        """Why it cannot run."""

    @property
    def repeat(self) -> Repeat:
        """How often it is to be measured."""
        node = self.last.config.get("repeat")
        return keys.repeat(node) if node else Repeat()

    @property
    def last(self) -> Attempt:
        """The attempt that is due, or was the last."""
        return self.attempts[-1]

    @property
    def records(self) -> list[Record]:
        """What became of each attempt, those of an earlier sweep first."""
        return [*self.kept, *(each.record for each in self.attempts if each.record is not None)]

    @property
    def is_due(self) -> bool:
        """Say whether it is to be measured, for the first time or once more."""
        return self.error is None and (not self.records or self.is_wanted_again())

    def is_wanted_again(self) -> bool:
        """Say whether its numbers need another run: too few, or too far apart."""
        made, repeat = self.records, self.repeat
        if made[-1].status != "ok" or len(made) >= (repeat.most or repeat.least):
            return False
        if len(made) < repeat.least:
            return True
        from xinfer.measuring import statistics  # noqa: PLC0415 -- a single measurement needs none

        width = statistics.relative_width([(each.metrics or {}).get("output_tps") or 0.0 for each in made])
        return width is None or width > repeat.width


def lines(cells: Sequence[Cell], groups: Sequence[Sequence[Attempt]]) -> Iterator[str]:
    """Yield what is going to be done with all cells; ``groups`` are those that are due, by what serves them."""
    able = [each for each in cells if each.error is None]
    starts = f"{len(groups)} {'start' if len(groups) == 1 else 'starts'}"
    kept = [each for each in able if not each.is_due]
    of_them = f"; {len(kept)} of them are done already" if kept else ""
    yield f"{len(able)} of {len(cells)} cells can run, with {starts}{of_them}"
    if kept:
        failed = sum(each.kept[-1].status == "failed" for each in kept)
        more = f"; {failed} of these failed, and resume=failed tries them again" if failed else ""
        yield f"kept      resume=off measures them anew{more}"
    refused = Counter(_reason(each.error) for each in cells if each.error is not None).most_common()
    for reason, count in refused[:_MOST_REASONS]:
        yield f"refused   {count} x {reason}"
    if len(refused) > _MOST_REASONS:
        yield f"refused   {sum(count for _, count in refused[_MOST_REASONS:])} x for other reasons"
    if groups:
        yield f"time      {_time([each for each in able if each.is_due])}"
        yield f"disk      {_disk([group[0] for group in groups])}"


def _reason(error: XinferError) -> str:
    return report.one_line(f"{error.stage}: {error}")


def _time(due: Sequence[Cell]) -> str:
    """Sum up how long such cells took on this machine."""
    known = _Durations({each.last.directory.parent.parent for each in due})
    found = [(max(1, each.repeat.least - len(each.kept)), known.of(each.last)) for each in due]
    sum_s = sum(times * seconds for times, seconds in found if seconds is not None)
    count = sum(seconds is not None for _, seconds in found)
    if not count:
        return "not known: there is no record here of such a cell"
    rest = f"; of the other {len(due) - count} there is no record" if count < len(due) else ""
    return f"about {_span(sum_s)} for {count} of {len(due)}, by records of such cells{rest}"


def _span(seconds: float) -> str:
    if seconds < _MINUTE_S:
        return f"{seconds:.0f} s"
    return f"{seconds / _MINUTE_S:.0f} min" if seconds < _HOUR_S else f"{seconds / _HOUR_S:.1f} h"


class _Durations:
    """How long cells took that were measured here."""

    def __init__(self, places: Iterable[Path]) -> None:
        machine = judgement.this_machine().id
        self._cells: dict[str, list[float]] = {}
        self._kinds: dict[bytes, list[float]] = {}
        for each in (head for place in places for head in earlier.heads(place)):
            if each.status == "ok" and each.machine is not None and each.machine.id == machine:
                decision = each.decision or {}
                kind = _kind(decision.get("engine"), decision.get("spec"), each.config.get("workload"))
                self._cells.setdefault(each.cell, []).append(each.seconds)
                self._kinds.setdefault(kind, []).append(each.seconds)

    def of(self, attempt: Attempt) -> float | None:
        """Return the median of the same cell, or else of the same engine, artefact and workload; null without any."""
        made = attempt.judged.decision
        kind = _kind(made.engine, msgspec.to_builtins(made.spec), attempt.config["workload"])
        found = self._cells.get(attempt.cell) or self._kinds.get(kind)
        return median(found) if found else None


def _kind(*parts: Any) -> bytes:
    return msgspec.json.encode(parts, order="sorted")


def _disk(attempts: Sequence[Attempt]) -> str:
    """Say what is to be made or fetched, and how large that is."""
    wanted = dict(_missing(attempts))
    if not wanted:
        return "nothing is to be made or fetched"
    known = [size for size in wanted.values() if size is not None]
    names = ", ".join(Path(path).name for path, size in wanted.items() if size is None)
    unknown = f"; how large is not known of {names}" if names else ""
    home = next(each for each in (flow.home(attempts[0].config), Path("/")) if each.exists())
    free = f"{shutil.disk_usage(home).free / _GIB:.1f} GiB are free"
    of_them = f" for {len(known)} of them" if names else ""
    sizes = f", {sum(known) / _GIB:.1f} GiB{of_them}" if known else ""
    return f"{len(wanted)} to be made or fetched{sizes}{unknown}; {free}"


def _missing(attempts: Sequence[Attempt]) -> Iterator[tuple[str, float | None]]:
    """Yield what is not there yet, and its size in bytes where that is known."""
    for attempt in attempts:
        launch, spec = attempt.judged.launch, attempt.judged.decision.spec
        if launch is None or attempt.is_elsewhere:
            continue
        for root in environment.roots(launch):
            if environment.marker(root) is not None:
                continue
            if root == launch.environment:
                yield root.path, _alike(root)
            else:
                weights = launch.memory.weights_gib
                yield root.path, spec.bytes or (None if weights is None else weights * _GIB)


def _alike(missing: Artefact) -> float | None:
    """Return the size of the newest environment of the same engine and build that is there."""
    path = Path(missing.path)
    own = storage.parts(path)
    others = [each for each in path.parent.glob(f"{own.get('engine')}-*") if environment.read(each) is not None]
    same = [each for each in others if storage.parts(each).get("variant") == own.get("variant")]
    return float(storage.disk_usage(max(same, key=lambda each: each.stat().st_mtime))) if same else None
