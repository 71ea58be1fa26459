"""A set of measured values in short: percentiles only where there are enough values, with honest intervals."""

from __future__ import annotations

import bisect
import math
import statistics
from functools import cache
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

CONFIDENCE = 0.95
GROUPS = 6
"""How many groups of dependent values say how much they differ."""
Interval = tuple[float, float]


class Distribution(msgspec.Struct, frozen=True, kw_only=True):
    """Some values in short; an upper percentile is null where its interval cannot be had.

    The 95 % intervals assume no shape: their ends are the values at two ranks, see :func:`ranks`. They
    need 6 values for p50, 72 for p95 and 368 for p99: as many that are independent, see :func:`describe_groups`.
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


def describe(values: Iterable[float]) -> Distribution | None:
    """Return the distribution of independent values; null if there are none."""
    ordered = sorted(values)
    return _described(ordered, lambda _: len(ordered)) if ordered else None


def describe_groups(groups: Iterable[Sequence[float]]) -> Distribution | None:
    """Return the distribution of values of which those in a group depend on each other, as the gaps of one request do.

    They count for fewer than they are: for as many independent ones as would make the share of values up to a
    percentile vary as little as it does between groups (Kish's effective sample size, with Korn and Graubard's
    correction for few groups, 1998). Of fewer than 6 groups that cannot be told, so there are no intervals.
    """
    each = [sorted(group) for group in groups if group]
    ordered = sorted(value for group in each for value in group)
    return _described(ordered, lambda p: _effective(each, _quantile(ordered, p), p)) if ordered else None


def _described(ordered: Sequence[float], effective: Callable[[float], int]) -> Distribution:
    """Describe sorted values; ``effective`` says for how many independent ones they count at a percentile."""

    def interval(p: float) -> Interval | None:
        n, m = len(ordered), effective(p)
        pair = ranks(m, p)
        return pair and (ordered[(pair[0] - 1) * n // m], ordered[-(-pair[1] * n // m) - 1])

    p50, p95, p99 = ((_quantile(ordered, p), interval(p)) for p in (0.5, 0.95, 0.99))
    return Distribution(
        n=len(ordered), mean=statistics.fmean(ordered), min=ordered[0], max=ordered[-1],
        p50=p50[0], p95=p95[1] and p95[0], p99=p99[1] and p99[0], p50_ci=p50[1], p95_ci=p95[1], p99_ci=p99[1],
    )  # fmt: skip


def _effective(groups: Sequence[Sequence[float]], quantile: float, p: float) -> int:
    """Return for how many independent values sorted groups count, at most as many as there are; 0 for few groups."""
    n, k = sum(map(len, groups)), len(groups)
    if k < GROUPS:
        return 0
    below = [bisect.bisect_right(group, quantile) for group in groups]
    share = sum(below) / n
    between = k / (k - 1) * sum((b - share * len(group)) ** 2 for b, group in zip(below, groups, strict=True))
    alone = n * p * (1 - p)
    few = (_student(n - 1) / _student(k - 1)) ** 2
    return math.floor(n * few * min(1.0, alone / between if between else 1.0))


def _student(freedom: int) -> float:
    """Return the 97.5 % quantile of Student's t, right to 0.2 % from 5 degrees of freedom on (Cornish and Fisher)."""
    z = statistics.NormalDist().inv_cdf((1 + CONFIDENCE) / 2)
    terms = (z**3 + z) / 4, (5 * z**5 + 16 * z**3 + 3 * z) / 96, (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
    return z + sum(term / float(freedom) ** power for power, term in enumerate(terms, 1))
