"""What ``pytest --benchmark-json`` writes and ``pytest-benchmark compare`` reads: times, a run being a round.

The format knows seconds alone. A rate is the time that one of what it counts takes, so that its column ``OPS`` is
the rate; bytes, joules and shares have no place in it.
"""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from xinfer.exporting.subject import Figure, Subject

VERSION = "5.3.0"
"""The version of pytest-benchmark whose files these are like."""


def document(subjects: Sequence[Subject]) -> dict[str, Any]:
    """Return a file of saved benchmarks, grouped by metric, so that cells stand beside each other."""
    return {
        "machine_info": {"cpu": {"brand_raw": ", ".join(_once(each.cpu for each in subjects))}},
        "commit_info": {},
        "benchmarks": [made for each in subjects for figure in each.figures for made in _benchmark(each, figure)],
        "datetime": max((each.started for each in subjects), default=""),
        "version": VERSION,
    }


def left_out(subjects: Iterable[Subject]) -> list[str]:
    """Name the metrics that are no times."""
    return _once(figure.metric for each in subjects for figure, _ in each.known if not _seconds(figure))


def _once(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(names))


def _benchmark(each: Subject, figure: Figure) -> list[dict[str, Any]]:
    taken = _seconds(figure)
    if not taken:
        return []
    facts = {"cell": each.cell, "engine": each.engine, "version": each.version, "flags": list(each.flags)}
    return [
        {
            "group": figure.metric, "name": each.name, "fullname": f"{each.name} / {figure.metric}",
            "params": None, "param": None, "extra_info": facts, "options": {}, "stats": stats(taken),
        }
    ]  # fmt: skip


def _seconds(figure: Figure) -> list[float]:
    """Return what it is in seconds; nothing if it is no time, or a rate of nothing."""
    if figure.about.base == "seconds":
        return list(figure.values)
    if not figure.about.base.endswith("_per_second") or 0.0 in figure.values:
        return []
    return [1.0 / value for value in figure.values]


def stats(data: Sequence[float]) -> dict[str, Any]:
    """Return all that is told of some rounds, by pytest-benchmark's own definitions."""
    ordered, mean = sorted(data), statistics.mean(data)
    spread = statistics.stdev(data) if len(data) > 1 else 0.0
    q1, q3 = _quarter(ordered), -_quarter([-value for value in reversed(ordered)])
    low, high = q1 - 1.5 * (q3 - q1), q3 + 1.5 * (q3 - q1)
    far = sum(not mean - spread <= value <= mean + spread for value in data)
    out = sum(not low <= value <= high for value in data)
    return {
        "min": ordered[0], "max": ordered[-1], "mean": mean, "stddev": spread, "rounds": len(data),
        "median": statistics.median(data), "iqr": q3 - q1, "q1": q1, "q3": q3, "iqr_outliers": out,
        "stddev_outliers": far, "outliers": f"{far};{out}",
        "ld15iqr": min(value for value in data if value >= low),
        "hd15iqr": max(value for value in data if value <= high),
        "ops": len(data) / sum(data) if sum(data) else 0.0, "total": sum(data), "data": list(data), "iterations": 1,
    }  # fmt: skip


def _quarter(ordered: Sequence[float]) -> float:
    """Return the first quartile: of an even number the median of the lower half, else between two as method 3 does."""
    n, rest = divmod(len(ordered), 4)
    if rest % 2 == 0:
        return statistics.median(ordered[: len(ordered) // 2])
    if rest == 1:
        return ordered[0] if n == 0 else 0.25 * ordered[n - 1] + 0.75 * ordered[n]
    return 0.75 * ordered[n] + 0.25 * ordered[n + 1]
