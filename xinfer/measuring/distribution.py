"""A set of measured values in short: percentiles only where there are enough values, with honest intervals."""

from __future__ import annotations

import math
import statistics
from functools import cache
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

CONFIDENCE = 0.95
Interval = tuple[float, float]


class Distribution(msgspec.Struct, frozen=True, kw_only=True):
    """Some values in short; an upper percentile is null where its interval cannot be had.

    The 95 % intervals assume no shape: their ends are the values at two ranks, see :func:`ranks`. They
    need 6 values for p50, 72 for p95 and 368 for p99. Those of ``icl`` are null, because the gaps of one
    request are not independent of each other.
    """

    n: int
    mean: float
    min: float
    max: float
    p50: float
    p95: float | None = None
    p99: float | None = None
    p50_ci: Interval | None = None
    p95_ci: Interval | None = None
    p99_ci: Interval | None = None


@cache
def ranks(n: int, p: float) -> tuple[int, int] | None:
    """Return which two of n sorted values enclose the p-quantile with 95 % confidence, counted from 1.

    How many of n independent values lie below the quantile is binomial B(n, p), whatever their shape. So
    the quantile lies between the values at ranks l and u if l is the largest with P(B < l) <= 2.5 % and
    u the smallest with P(B < u) >= 97.5 %. Null if there is no such l above 0 or no such u up to n.
    """
    tail = (1 - CONFIDENCE) / 2
    spread = 10 * math.sqrt(n * p * (1 - p)) + 10  # what lies further out is below 1e-20
    low, below = 0, 0.0
    for k in range(max(0, math.floor(n * p - spread)), n):
        below += math.exp(
            math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
            + k * math.log(p) + (n - k) * math.log1p(-p)
        )  # fmt: skip
        if below <= tail:
            low = k + 1
        if below >= 1 - tail:
            return (low, k + 1) if low else None
    return None


def _quantile(ordered: Sequence[float], p: float) -> float:
    """Interpolate linearly between the two nearest ranks."""
    place = (len(ordered) - 1) * p
    below = math.floor(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)


def describe(values: Iterable[float], *, independent: bool = True) -> Distribution | None:
    """Return the distribution of values; null if there are none."""
    ordered = sorted(values)
    if not ordered:
        return None

    def upper(p: float) -> float | None:
        return _quantile(ordered, p) if ranks(len(ordered), p) else None

    def interval(p: float) -> Interval | None:
        pair = ranks(len(ordered), p) if independent else None
        return pair and (ordered[pair[0] - 1], ordered[pair[1] - 1])

    return Distribution(
        n=len(ordered), mean=statistics.fmean(ordered), min=ordered[0], max=ordered[-1],
        p50=_quantile(ordered, 0.5), p95=upper(0.95), p99=upper(0.99),
        p50_ci=interval(0.5), p95_ci=interval(0.95), p99_ci=interval(0.99),
    )  # fmt: skip
