"""A cell as others' tools see it: a benchmark with a name that stays, and numbers of its runs."""

from __future__ import annotations

from collections import Counter
from statistics import median
from typing import TYPE_CHECKING

import msgspec

from xinfer import keys
from xinfer.measuring.quantity import METRICS, Metric, value
from xinfer.verbs import report

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from xinfer.history import Cell
    from xinfer.record import Record

USUAL = (
    *("output_tps", "total_tps", "req_rate", "goodput"),
    *("ttft.p50", "ttft.p99", "tpot.p50", "tpot.p99", "icl.p99", "e2e.p50", "e2e.p99"),
    *("prefill_tps.p50", "decode_tps.p50", "ready_s", "peak_rss", "peak_vram", "joules"),
)
"""The metrics that are exported where none are asked for."""
_SAID = ("model", "engine", "workload", "hw", "workload.concurrency", "workload.rate", "workload.load")
"""Keys whose values stand in a name in any case."""
_ASIDE = (*keys.OF_THE_COMMAND, "rules", "catalog", "installer", "prefer")
"""Keys that do not say what is measured; nor do those below them."""


class Figure(msgspec.Struct, frozen=True, kw_only=True):
    """One metric of one cell, in the unit of the record; no values where no run supports it."""

    metric: str
    values: tuple[float, ...]

    @property
    def about(self) -> Metric:
        """Its units, and whether more of it is better."""
        return METRICS[self.metric]

    @property
    def median(self) -> float | None:
        """The median of its runs."""
        return median(self.values) if self.values else None


class Subject(msgspec.Struct, frozen=True, kw_only=True):
    """A cell, and the figures of those of its runs that count."""

    name: str
    """What was asked for and where it ran: it outlives new versions of an engine and another processor."""
    cell: str
    model: str
    engine: str
    version: str
    workload: str
    load: str
    system: str
    cpu: str
    runs: int
    flags: tuple[str, ...]
    started: str
    """When the last of these runs did; UTC, ISO 8601."""
    figures: tuple[Figure, ...]

    @property
    def known(self) -> Iterator[tuple[Figure, float]]:
        """The figures that it has, and the median of each."""
        return ((each, found) for each in self.figures if (found := each.median) is not None)


def subjects(
    cells: Sequence[Cell], metrics: Sequence[str] = (), *, flagged: bool = False
) -> tuple[list[Subject], list[str]]:
    """Return every cell that has numbers, and a line for each run that gives none; a flagged run does if asked."""
    kept = [(cell, [made for made in cell.runs if _reason(made, flagged=flagged) is None]) for cell in cells]
    found = [_subject(runs, metrics or USUAL) for _, runs in kept if runs]
    every = (made for cell in cells for made in cell.runs)
    reasons = ((made, _reason(made, flagged=flagged)) for made in every)
    return _apart(found), [f"{made.cell}/{made.run}: {why}" for made, why in reasons if why]


def _reason(made: Record, *, flagged: bool) -> str | None:
    """Say why a run gives no numbers."""
    if made.failure is not None:
        return report.one_line(f"{made.status}: {made.failure.message}")
    if made.status != "ok" or not made.metrics:
        return f"{made.status}: nothing was measured"
    return f"flagged: {', '.join(each['id'] for each in made.flags)}" if made.flags and not flagged else None


def _subject(runs: Sequence[Record], metrics: Sequence[str]) -> Subject:
    last = runs[-1]
    spec, launch, facts = (last.decision or {}).get("spec") or {}, last.launch or {}, last.hardware or {}
    workload = last.config.get("workload") or {}
    said = {
        "model": " ".join(str(spec[key]) for key in ("family", "size", "format", "quantization") if spec.get(key)),
        "engine": str(launch.get("engine") or ""),
        "workload": str(workload.get("name") or ""),
        "load": f"{report.load(workload)}, {last.foreign['source']}" if last.foreign else report.load(workload),
        "system": " ".join(str(part) for part in _system(last) if part),
    }
    name = " / ".join(part for part in (*said.values(), " ".join(_particular(last.overrides))) if part)
    return Subject(
        name=report.one_line(name), cell=last.cell, version=str(launch.get("version") or ""), cpu=str(facts.get("cpu")),
        runs=len(runs), flags=tuple(dict.fromkeys(str(flag["id"]) for made in runs for flag in made.flags)),
        started=last.started, figures=tuple(_figure(metric, runs) for metric in metrics), **said,
    )  # fmt: skip


def _figure(metric: str, runs: Sequence[Record]) -> Figure:
    values = (value(made.metrics or {}, metric) for made in runs)
    return Figure(metric=metric, values=tuple(each for each in values if each is not None))


def _system(made: Record) -> tuple[object, ...]:
    facts = made.hardware or {}
    gpu = f"{facts['gpus']} x {(facts.get('gpu') or {}).get('name') or 'GPU'}" if facts.get("gpus") else None
    return facts.get("os"), facts.get("arch"), gpu


def _particular(overrides: Iterable[str]) -> list[str]:
    """Return what was asked for beyond what every name has."""
    keys = [(word, word.lstrip("~+").partition("=")[0]) for word in overrides]
    return [
        word for word, key in keys
        if key not in _SAID and key.partition(".")[0] not in _ASIDE and not key.startswith("model.")
    ]  # fmt: skip


def _apart(found: Sequence[Subject]) -> list[Subject]:
    """Give those that have one name the hash of their cell in addition."""
    often = Counter(each.name for each in found)
    return [
        each if often[each.name] == 1
        else msgspec.structs.replace(each, name=f"{each.name} / {each.cell.rpartition('-')[2]}")
        for each in found
    ]  # fmt: skip
