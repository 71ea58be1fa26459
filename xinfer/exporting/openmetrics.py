"""OpenMetrics text, each sample at the time of its run: ``promtool tsdb create-blocks-from openmetrics`` reads it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from xinfer.exporting.subject import Figure, Subject

_LABELS = ("name", "model", "engine", "version", "workload", "load", "system", "cpu")
_OVER = {"": "median", "lowest": "lowest", "highest": "highest"}
"""What is put into a family's name, and what it is of a cell's runs."""


def text(subjects: Sequence[Subject]) -> str:
    """Return a gauge for each metric, two more for its lowest and highest run, and how many runs there were."""
    metrics = dict.fromkeys(figure.metric for each in subjects for figure, _ in each.known)
    lines = [line for metric in metrics for over in _OVER for line in _family(metric, over, subjects)]
    runs = ["# TYPE xinfer_runs gauge", "# HELP xinfer_runs How many runs of the cell have numbers."]
    runs += [f"xinfer_runs{{{_labels(each)}}} {each.runs} {_time(each)}" for each in subjects]
    return "\n".join([*lines, *(runs if subjects else ()), "# EOF"]) + "\n"


def _family(metric: str, over: str, subjects: Sequence[Subject]) -> Iterator[str]:
    having = [(each, figure) for each in subjects for figure, _ in each.known if figure.metric == metric]
    unit = having[0][1].about.base
    name = "_".join(part for part in ("xinfer", _stem(metric), over, unit) if part)
    yield f"# TYPE {name} gauge"
    yield f"# UNIT {name} {unit}"
    yield f"# HELP {name} {metric} of the record, {_OVER[over]} of the cell's runs."
    yield from (f"{name}{{{_labels(each)}}} {_value(figure, over)!r} {_time(each)}" for each, figure in having)


def _stem(metric: str) -> str:
    """Return a metric's name without the unit, which follows: ``load_s`` is ``load``, of seconds."""
    name, _, part = metric.partition(".")
    return "_".join(word for word in (*name.split("_"), part) if word not in ("s", "tps", ""))


def _value(figure: Figure, over: str) -> float:
    found = {"": figure.median, "lowest": min(figure.values), "highest": max(figure.values)}[over]
    return float(found or 0.0)


def _labels(each: Subject) -> str:
    said = ((label, getattr(each, label)) for label in _LABELS)
    return ",".join(f'{label}="{_escaped(value)}"' for label, value in said if value)


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def _time(each: Subject) -> str:
    return f"{datetime.fromisoformat(each.started).replace(tzinfo=UTC).timestamp():.0f}"
