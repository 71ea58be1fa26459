"""Bencher Metric Format, version 0: a benchmark has measures, and each a value with the bounds of its runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from xinfer.exporting.subject import Figure, Subject


def document(subjects: Iterable[Subject]) -> dict[str, dict[str, dict[str, float]]]:
    """Return the measures of each benchmark, with the names and in the units of the record: bytes, seconds."""
    return {each.name: {figure.metric: _metric(figure, value) for figure, value in each.known} for each in subjects}


def _metric(figure: Figure, value: float) -> dict[str, float]:
    if len(figure.values) == 1:
        return {"value": value}
    return {"value": value, "lower_value": min(figure.values), "upper_value": max(figure.values)}
