"""Whether repeats of one cell differ from repeats of another: medians, their ratio, and a verdict that needs evidence.

The unit is a repeat, a run with a start of its own: the requests of one run share its luck and are not independent.
Four things are computed of a metric's values, none of which assumes a shape except the first, for want of values:

* the median's 95 % interval: of 3 to 5 values by Student's t, which supposes them normal; of 6 and more the values at
  the two ranks of :func:`xinfer.measuring.distribution.ranks`;
* the ratio of the medians with a percentile bootstrap interval. Where both sides are alike it holds the truth 92 % (4
  repeats) to 98 % of the time; BCa, whose jackknife a median is too rough for, 90 % to 96 %;
* the Mann-Whitney test's two-sided p, always exact, ties included (Mann and Whitney 1947; Streitberg and Roehmel 1986
  for the way of counting), and Holm's correction over a table (Holm 1979);
* the effect that a difference must have to count: 5 %, or twice the baseline's coefficient of variation.
"""

from __future__ import annotations

import math
from statistics import fmean, median, stdev
from typing import TYPE_CHECKING, Literal

import msgspec

from xinfer.measuring.distribution import CONFIDENCE, Interval, ranks

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

Verdict = Literal["better", "worse", "same", "inconclusive"]

ALPHA = 1 - CONFIDENCE
LEAST = 4
"""Repeats on either side below which nothing is concluded: of 3 and 3 even the most extreme order has p = 0.1."""
FLOOR = 0.05
"""The smallest difference that matters to anybody, as a part of the baseline."""
NOISE = 2.0
"""How many coefficients of variation of the baseline a difference must be."""
RESAMPLES = 9_999
RULE = (
    f"better or worse: {LEAST} repeats or more on both sides, Mann-Whitney p < {ALPHA:.2g} by Holm's correction over "
    f"all rows, the ratio's 95 % interval leaves out 1, and the difference is at least {FLOOR:.0%} and {NOISE:g} "
    f"coefficients of variation of A; same: the interval lies within {FLOOR:.0%} of 1; inconclusive: all else, and "
    "whatever is flagged"
)
_SEED = 20_261_122
_STUDENT = {3: 4.302653, 4: 3.182446, 5: 2.776445}
"""The 97.5 % quantile of Student's t for so many values."""


class Centre(msgspec.Struct, frozen=True, kw_only=True):
    """The middle of some repeats, and how far they lie apart."""

    n: int
    median: float
    ci: Interval | None = None
    """Null under 3 values."""
    cv: float | None = None
    """Coefficient of variation: standard deviation / mean; null for one value, and around zero."""


class Effect(msgspec.Struct, frozen=True, kw_only=True):
    """How the repeats of one side compare with those of the baseline."""

    n: tuple[int, int]
    ratio: float
    """Its median / the baseline's."""
    ci: Interval | None
    """Null where a side has fewer than 3 values."""
    p: float
    floor: float
    """The smallest difference that would count, as a part of the baseline."""


def centre(values: Sequence[float]) -> Centre:
    """Return the median of at least one value with its interval."""
    middle, n = fmean(values), len(values)
    spread = stdev(values) if n > 1 else None
    cv = None if spread is None or middle <= 0 else spread / middle
    return Centre(n=n, median=median(values), ci=_interval(sorted(values)), cv=cv)


def _interval(ordered: Sequence[float]) -> Interval | None:
    n = len(ordered)
    if n in _STUDENT:
        middle, half = fmean(ordered), _STUDENT[n] * stdev(ordered) / math.sqrt(n)
        return middle - half, middle + half
    pair = ranks(n, 0.5)
    return pair and (ordered[pair[0] - 1], ordered[pair[1] - 1])


def relative_width(values: Sequence[float]) -> float | None:
    """Return the length of the median's interval relative to it; null under 3 values and where one is not above 0."""
    if not values or min(values) <= 0:
        return None
    found = centre(values)
    return None if found.ci is None else (found.ci[1] - found.ci[0]) / found.median


def effect(base: Sequence[float], other: Sequence[float]) -> Effect | None:
    """Compare repeats with those of the baseline; null where there are none, or a value is not above 0."""
    if not base or not other or min(*base, *other) <= 0:
        return None
    one, two = centre(base), centre(other)
    return Effect(
        n=(one.n, two.n), ratio=two.median / one.median, ci=ratio_interval(base, other) if one.ci and two.ci else None,
        p=p_value(base, other), floor=max(FLOOR, NOISE * (one.cv or 0.0)),
    )  # fmt: skip


def ratio_interval(base: Sequence[float], other: Sequence[float]) -> Interval:
    """Return the 95 % percentile bootstrap interval of the ratio of medians; the same values give the same one."""
    import numpy as np  # noqa: PLC0415 -- a tenth of a second that only a comparison must pay

    draw = np.random.default_rng(_SEED)

    def medians(values: Sequence[float]) -> NDArray[np.float64]:
        resampled: NDArray[np.float64] = np.median(draw.choice(values, (RESAMPLES, len(values))), axis=1)
        return resampled

    below, above = np.quantile(1 / medians(base) * medians(other), (ALPHA / 2, 1 - ALPHA / 2))
    return float(below), float(above)


def p_value(first: Sequence[float], second: Sequence[float]) -> float:
    """Return the two-sided p of the Mann-Whitney test: how often chance alone orders the values as unevenly.

    Every way to choose the first side's values among all is counted by its sum of ranks, so that the p is exact for
    any number of values, and with ties, which share the mean of their ranks.
    """
    import numpy as np  # noqa: PLC0415 -- likewise

    n, values = len(first), np.sort([*first, *second])
    # Twice the mean rank of a value is a whole number: how many are below, and how many are not above, and one.
    doubled = np.searchsorted(values, values, "left") + np.searchsorted(values, values, "right") + 1
    ways = np.zeros((n + 1, int(doubled.sum()) + 1))
    ways[0, 0] = 1.0
    for rank in doubled:
        ways[1:, rank:] += ways[:-1, :-rank].copy()
    seen, chances = int(doubled[np.searchsorted(values, first)].sum()), ways[n] / ways[n].sum()
    return min(1.0, 2 * float(min(chances[: seen + 1].sum(), chances[seen:].sum())))


def holm(ps: Sequence[float]) -> list[float]:
    """Return the ps, in their order, as if each were the only one: corrected for all that were looked at together."""
    corrected, most = [0.0] * len(ps), 0.0
    for done, place in enumerate(sorted(range(len(ps)), key=lambda i: ps[i])):
        most = max(most, min(1.0, (len(ps) - done) * ps[place]))
        corrected[place] = most
    return corrected


def repeats_needed(rows: int) -> int:
    """Return how many repeats a side needs so that one row of so many can differ at all."""
    n = LEAST
    while rows * 2 / math.comb(2 * n, n) >= ALPHA:
        n += 1
    return n


def judge(found: Effect, corrected_p: float, *, rows: int, higher_is_better: bool) -> tuple[Verdict, str]:
    """Return the verdict of :data:`RULE` and, in a few words, what decided; ``rows`` were corrected for together."""
    one, other = found.n
    if found.ci is None or min(found.n) < LEAST:
        return "inconclusive", f"{one}+{other} repeats; fewer than {LEAST}+{LEAST} say nothing"
    low, high = found.ci
    change = f"{found.ratio - 1:+.1%}"
    is_sure = corrected_p < ALPHA and not low <= 1 <= high
    if is_sure and abs(found.ratio - 1) >= found.floor:
        return ("better" if (found.ratio > 1) is higher_is_better else "worse"), change
    if max(1 - low, high - 1) <= FLOOR:
        return "same", f"within {FLOOR:.0%}"
    if is_sure:
        return "inconclusive", f"{change} is less than the {found.floor:.1%} that count beside the baseline's noise"
    if rows * 2 / math.comb(one + other, one) >= ALPHA:
        needed = repeats_needed(rows)
        return "inconclusive", f"{one}+{other} repeats cannot decide {rows} rows; {needed}+{needed} may"
    return "inconclusive", f"p is {corrected_p:.2g}, and the interval reaches beyond {FLOOR:.0%}"
