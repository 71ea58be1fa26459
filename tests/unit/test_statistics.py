"""Whether repeats differ: every number beside what SciPy or a count of all cases says; no verdict without evidence."""

from __future__ import annotations

import itertools
import math
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from xinfer.measuring import statistics
from xinfer.measuring.distribution import ranks
from xinfer.measuring.statistics import Effect

positive = st.floats(1e-3, 1e6)
few = st.lists(positive, min_size=1, max_size=8)
tied = st.lists(st.integers(1, 4).map(float), min_size=1, max_size=6)
fast = settings(deadline=None, max_examples=60)


# The middle of one side


@pytest.mark.parametrize("n", [3, 4, 5])
def test_few_values_have_students_interval(n: int) -> None:
    """As SciPy computes it."""
    values = [100.0, 101.0, 97.0, 103.0, 99.5][:n]
    expected = stats.t.interval(0.95, n - 1, loc=np.mean(values), scale=stats.sem(values))
    assert statistics.centre(values).ci == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("n", [6, 9, 20])
def test_more_values_have_an_interval_without_a_shape(n: int) -> None:
    """Two of the values themselves, so that one wild run moves it to no wilder one."""
    values = [float(k) for k in range(1, n)] + [1e6]
    assert statistics.centre(values[::-1]).ci == tuple(values[rank - 1] for rank in ranks(n, 0.5) or ())


@pytest.mark.parametrize(
    ("values", "cv"),
    [
        pytest.param([7.0], None, id="one-value"),
        pytest.param([5.0, 5.0], 0.0, id="two-equal-values"),
        pytest.param([90.0, 110.0], math.sqrt(200) / 100, id="two-values"),
        pytest.param([-1.0, 1.0], None, id="around-zero"),
    ],
)
def test_the_spread_of_one_or_two_values(values: list[float], cv: float | None) -> None:
    """Two have a spread; neither has an interval."""
    found = statistics.centre(values)
    assert found.cv == pytest.approx(cv)
    assert found.ci is None
    assert found.n == len(values)


@fast
@given(values=st.lists(positive, min_size=3, max_size=30))
def test_the_interval_holds_the_median(values: list[float]) -> None:
    """Whatever the values are."""
    found = statistics.centre(values)
    assert found.ci is not None
    slack = 1e-9 * found.median
    assert found.ci[0] - slack <= found.median <= found.ci[1] + slack
    assert found.median == pytest.approx(float(np.median(values)))


@pytest.mark.parametrize(
    ("values", "width"),
    [
        pytest.param([], None, id="none"),
        pytest.param([100.0, 100.0], None, id="two-are-too-few"),
        pytest.param([100.0, 0.0, 100.0], None, id="a-run-without-the-number"),
        pytest.param([100.0, 100.0, 100.0], 0.0, id="three-equal"),
        pytest.param([99.0, 100.0, 101.0], 2 * 4.302653 / math.sqrt(3) / 100, id="three"),
        pytest.param([96.0, 98.0, 100.0, 100.0, 103.0, 104.0], 0.08, id="six-from-the-least-to-the-most"),
    ],
)
def test_how_wide_the_interval_is(values: list[float], width: float | None) -> None:
    """Relative to the median; null says: measure again."""
    assert statistics.relative_width(values) == (None if width is None else pytest.approx(width, rel=1e-6))


@fast
@given(values=st.lists(positive, min_size=3, max_size=12), factor=st.floats(0.01, 100))
def test_the_width_has_no_unit(values: list[float], factor: float) -> None:
    """Milliseconds or seconds: the same evidence."""
    scaled = statistics.relative_width([value * factor for value in values])
    assert scaled == pytest.approx(statistics.relative_width(values), rel=1e-6, abs=1e-9)


# The test


@fast
@given(first=few, second=few)
def test_p_is_scipys(first: list[float], second: list[float]) -> None:
    """Where no value occurs twice SciPy has an exact p too."""
    values = {*first, *second}
    if len(values) == len(first) + len(second):
        expected = stats.mannwhitneyu(first, second, method="exact").pvalue
        assert statistics.p_value(first, second) == pytest.approx(expected)


@fast
@given(first=tied, second=tied)
def test_p_is_exact_with_ties(first: list[float], second: list[float]) -> None:
    """As counted over every way to deal the values out to both sides."""
    values = [*first, *second]
    mid = stats.rankdata(values)
    sums = [sum(mid[list(chosen)]) for chosen in itertools.combinations(range(len(values)), len(first))]
    seen = sum(mid[: len(first)])
    tails = sum(s <= seen + 1e-9 for s in sums), sum(s >= seen - 1e-9 for s in sums)
    assert statistics.p_value(first, second) == pytest.approx(min(1.0, 2 * min(tails) / len(sums)))


@fast
@given(first=few, second=few)
def test_p_does_not_ask_who_is_first(first: list[float], second: list[float]) -> None:
    """Nor about the order of the repeats."""
    p = statistics.p_value(first, second)
    assert p == pytest.approx(statistics.p_value(second, first))
    assert p == pytest.approx(statistics.p_value(first[::-1], sorted(second)))
    assert 0 < p <= 1


@pytest.mark.parametrize(("n", "p"), [(3, 0.1), (4, 2 / 70), (5, 2 / 252), (60, 2 / math.comb(120, 60))])
def test_the_most_extreme_order(n: int, p: float) -> None:
    """Three and three can never be below 0.05; many are no trouble."""
    assert statistics.p_value([float(k) for k in range(n)], [1e3 + k for k in range(n)]) == pytest.approx(p)


@fast
@given(ps=st.lists(st.floats(1e-9, 1), max_size=12))
def test_holm_is_scipy_s_step_down(ps: list[float]) -> None:
    """By its definition: the i-th smallest of m is multiplied by m - i, never below one before it, at most 1."""
    found = statistics.holm(ps)
    order = sorted(range(len(ps)), key=lambda i: ps[i])
    expected = [max(min(1.0, (len(ps) - j) * ps[order[j]]) for j in range(i + 1)) for i in range(len(ps))]
    assert [found[i] for i in order] == pytest.approx(expected)
    assert all(corrected >= p for corrected, p in zip(found, ps, strict=True))


def test_holm_by_hand() -> None:
    """Four tests at 5 %: the first two stand, as in Holm's own scheme."""
    assert statistics.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


@pytest.mark.parametrize(("rows", "needed"), [(1, 4), (5, 5), (6, 5), (7, 6), (23, 6), (24, 7), (60, 7)])
def test_how_many_repeats_a_table_needs(rows: int, needed: int) -> None:
    """With fewer no order of the values is unlikely enough."""
    assert statistics.repeats_needed(rows) == needed
    assert rows * 2 / math.comb(2 * needed, needed) < 0.05
    assert needed == 4 or rows * 2 / math.comb(2 * needed - 2, needed - 1) >= 0.05


# The ratio


@fast
@given(base=st.lists(positive, min_size=2, max_size=8), other=st.lists(positive, min_size=2, max_size=8))
def test_the_ratios_interval_is_within_what_was_seen(base: list[float], other: list[float]) -> None:
    """From the least to the most that any two values give; the same values give the same interval."""
    low, high = statistics.ratio_interval(base, other)
    assert min(other) / max(base) <= low * (1 + 1e-9)
    assert low <= high <= max(other) / min(base) * (1 + 1e-9)
    assert statistics.ratio_interval(base, other) == (low, high)


def test_the_ratios_interval_is_scipys() -> None:
    """To within what another draw of resamples changes."""
    base, other = [100.0, 101, 99, 103, 98, 100.5, 102], [110.0, 113, 109, 111, 112, 108, 115]
    draw = np.random.default_rng(1)
    found = stats.bootstrap(
        (base, other), lambda a, b, axis: np.median(b, axis=axis) / np.median(a, axis=axis),
        method="percentile", n_resamples=20_000, rng=draw, vectorized=True,
    ).confidence_interval  # fmt: skip
    assert statistics.ratio_interval(base, other) == pytest.approx((found.low, found.high), abs=0.004)


@pytest.mark.parametrize(("n", "least"), [(4, 0.88), (8, 0.92)])
def test_the_interval_holds_the_truth_as_often_as_it_says(n: int, least: float) -> None:
    """Of two sides that are alike, with a spread of 3 % and now and then a slow run."""
    draw = np.random.default_rng(n)

    def repeats() -> list[float]:
        slow = 1 - 0.1 * (draw.random(n) < 0.1)
        values: list[float] = (100 * (1 + 0.03 * draw.standard_normal(n)) * slow).tolist()
        return values

    held = [low <= 1 <= high for low, high in (statistics.ratio_interval(repeats(), repeats()) for _ in range(150))]
    assert sum(held) / len(held) >= least


@pytest.mark.parametrize(
    ("base", "other"),
    [
        pytest.param([], [1.0], id="no-baseline"),
        pytest.param([1.0], [], id="nothing-to-compare"),
        pytest.param([1.0, 0.0], [1.0], id="a-zero"),
    ],
)
def test_no_ratio(base: list[float], other: list[float]) -> None:
    """Nothing is compared with nothing."""
    assert statistics.effect(base, other) is None


def test_one_repeat_has_a_ratio_and_a_floor() -> None:
    """But no spread, and so no noise to be above."""
    assert statistics.effect([2.0], [3.0]) == Effect(n=(1, 1), ratio=1.5, ci=None, p=1.0, floor=0.05)


def test_a_noisy_baseline_raises_the_floor() -> None:
    """To twice its coefficient of variation."""
    base = [80.0, 90.0, 100.0, 110.0, 120.0]
    found = statistics.effect(base, [150.0] * 5)
    assert found is not None
    assert found.floor == pytest.approx(2 * statistics.centre(base).cv)  # type: ignore[operator]
    assert found.floor > 0.3


# The verdict


def effect(ratio: float, low: float, high: float, *, n: int = 5, floor: float = 0.05) -> Effect:
    return Effect(n=(n, n), ratio=ratio, ci=(low, high), p=0.01, floor=floor)


ONE = Effect(n=(1, 4), ratio=1.5, ci=None, p=0.4, floor=0.05)


@pytest.mark.parametrize(
    ("found", "p", "rows", "verdict", "why"),
    [
        pytest.param(effect(1.2, 1.1, 1.3), 0.04, 5, "better", "+20.0%", id="more-is-better"),
        pytest.param(effect(0.8, 0.7, 0.9), 0.04, 5, "worse", "-20.0%", id="less-is-worse"),
        pytest.param(effect(1.01, 0.98, 1.03), 0.5, 5, "same", "within 5%", id="within-the-floor"),
        pytest.param(effect(1.04, 1.03, 1.049), 0.01, 5, "same", "within 5%", id="a-sure-difference-that-is-too-small"),
        pytest.param(
            effect(1.2, 1.1, 1.3, n=3), 1.0, 5, "inconclusive", "3+3 repeats; fewer than 4+4 say nothing", id="three"
        ),
        pytest.param(ONE, 1.0, 5, "inconclusive", "1+4 repeats; fewer than 4+4 say nothing", id="one"),
        pytest.param(
            effect(1.0, 1.0, 1.0, n=3), 1.0, 5, "inconclusive", "3+3 repeats; fewer than 4+4 say nothing",
            id="three-alike",
        ),
        pytest.param(
            effect(1.2, 1.1, 1.3, n=4), 0.14, 5, "inconclusive", "4+4 repeats cannot decide 5 rows; 5+5 may",
            id="too-few-for-the-table",
        ),
        pytest.param(
            effect(1.2, 1.1, 1.3, floor=0.3), 0.01, 5, "inconclusive",
            "+20.0% is less than the 30.0% that count beside the baseline's noise", id="below-the-noise",
        ),
        pytest.param(
            effect(1.1, 0.97, 1.3), 0.2, 5, "inconclusive", "p is 0.2, and the interval reaches beyond 5%", id="unsure"
        ),
        pytest.param(
            effect(1.1, 0.97, 1.3), 0.01, 5, "inconclusive", "p is 0.01, and the interval reaches beyond 5%",
            id="the-interval-disagrees-with-the-test",
        ),
    ],
)  # fmt: skip
def test_the_verdict(found: Effect, p: float, rows: int, verdict: str, why: str) -> None:
    """Neither a difference nor its absence is claimed without evidence."""
    assert statistics.judge(found, p, rows=rows, higher_is_better=True) == (verdict, why)


def test_less_may_be_better() -> None:
    """Of a latency it is."""
    assert statistics.judge(effect(0.8, 0.7, 0.9), 0.01, rows=1, higher_is_better=False)[0] == "better"
    assert statistics.judge(effect(1.2, 1.1, 1.3), 0.01, rows=1, higher_is_better=False)[0] == "worse"


@fast
@given(base=st.lists(positive, min_size=4, max_size=7), factor=st.floats(0.5, 2), better=st.booleans())
def test_a_verdict_is_never_against_the_ratio(base: list[float], factor: float, better: bool) -> None:  # noqa: FBT001
    """Better is on the better side of 1, and both directions of reading agree."""
    found = statistics.effect(base, [value * factor for value in base])
    assert found is not None
    verdict, _ = statistics.judge(found, found.p, rows=1, higher_is_better=better)
    if verdict in ("better", "worse"):
        assert (found.ratio > 1) is ((verdict == "better") is better)
        assert abs(found.ratio - 1) >= 0.05
    if verdict == "same":
        assert 0.95 <= found.ratio <= 1.05


@fast
@given(values=st.lists(positive, min_size=4, max_size=7))
def test_nothing_is_better_than_itself(values: list[float]) -> None:
    """However it is spread."""
    found = statistics.effect(values, values)
    assert found is not None
    assert statistics.judge(found, found.p, rows=1, higher_is_better=True)[0] in ("same", "inconclusive")


def test_chance_alone_is_seldom_taken_for_a_difference() -> None:
    """Of 100 tables of five rows without a difference, fewer than one in twenty claims any."""
    draw = np.random.default_rng(0)
    wrong = 0
    for _ in range(100):
        sides = [(draw.normal(100, 8, 6).tolist(), draw.normal(100, 8, 6).tolist()) for _ in range(5)]
        found = [each for each in (statistics.effect(*side) for side in sides) if each]
        corrected = statistics.holm([each.p for each in found])
        verdicts = [
            statistics.judge(each, p, rows=5, higher_is_better=True)[0]
            for each, p in zip(found, corrected, strict=True)
        ]
        wrong += bool({"better", "worse"} & set(verdicts))
    assert wrong / 100 < 0.05


def test_a_large_difference_is_seen() -> None:
    """Five repeats of either side with 1 % of noise, 20 % apart, in a table of five rows."""
    draw = np.random.default_rng(0)
    found = statistics.effect(draw.normal(100, 1, 5).tolist(), draw.normal(120, 1, 5).tolist())
    assert found is not None
    assert statistics.judge(found, found.p * 5, rows=5, higher_is_better=True)[0] == "better"


def test_numpy_is_loaded_only_where_something_is_compared() -> None:
    """Whoever plans, or repeats until it is sure, does not wait for it."""
    code = (
        "import sys; from xinfer.measuring import statistics as s; s.relative_width([1, 2, 3.]); "
        "print('numpy' in sys.modules); s.p_value([1.0], [2.0]); print('numpy' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\nTrue\n"
