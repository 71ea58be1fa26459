"""Percentiles and their intervals."""

from __future__ import annotations

import math
import statistics

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from xinfer.measuring.distribution import _student, describe, describe_groups, ranks

finite = st.floats(0, 1e6, allow_nan=False)


@pytest.mark.parametrize(
    ("n", "p", "expected"),
    [
        # Expected ranks were counted by hand from sums of binomial coefficients: for n = 10 and p = 1/2,
        # P(B < 2) = 11/1024 <= 2.5 % < P(B < 3) = 56/1024, and the upper rank by symmetry.
        pytest.param(10, 0.5, (2, 9), id="ten-values-around-the-median"),
        pytest.param(5, 0.5, None, id="five-values-have-no-interval"),
        pytest.param(6, 0.5, (1, 6), id="six-values-have-the-widest"),
        pytest.param(71, 0.95, None, id="p95-needs-72"),
        pytest.param(72, 0.95, (64, 72), id="p95-at-72"),
        pytest.param(367, 0.99, None, id="p99-needs-368"),
        pytest.param(368, 0.99, (360, 368), id="p99-at-368"),
    ],
)
def test_ranks(n: int, p: float, expected: tuple[int, int] | None) -> None:
    """The ranks enclose the quantile with 95 % confidence, or there are none."""
    assert ranks(n, p) == expected


@settings(deadline=None)
@given(n=st.integers(1, 400), p=st.sampled_from([0.5, 0.95, 0.99]))
def test_ranks_keep_their_promise(n: int, p: float) -> None:
    """Each side leaves out at most 2.5 % and would leave out more if it were one rank further in."""
    pair = ranks(n, p)
    terms = [math.comb(n, k) * p**k * (1 - p) ** (n - k) for k in range(n + 1)]
    if pair is None:
        assert min(terms[0], 1) > 0.025 or sum(terms[:n]) < 0.975
        return
    low, high = pair
    assert sum(terms[:low]) <= 0.025 < sum(terms[: low + 1])
    assert sum(terms[: high - 1]) < 0.975 <= sum(terms[:high])


def test_a_million_values_are_no_trouble() -> None:
    """The normal approximation holds where the exact sum would be long."""
    low, high = ranks(1_000_000, 0.5) or (0, 0)
    assert low == pytest.approx(500_000 - 980, abs=2)
    assert high == pytest.approx(500_000 + 980, abs=2)


def test_no_values_have_no_distribution() -> None:
    """Nothing measured is null, not zero."""
    assert describe([]) is None


def test_few_values_have_a_median_and_no_more() -> None:
    """Upper percentiles and intervals are null where the sample does not support them."""
    found = describe([3.0, 1.0, 2.0, 4.0])
    assert found is not None
    assert (found.n, found.mean, found.min, found.max, found.p50) == (4, 2.5, 1.0, 4.0, 2.5)
    assert (found.p95, found.p99, found.p50_ci, found.p95_ci, found.p99_ci) == (None,) * 5


def test_many_values_have_everything() -> None:
    """With 400 values all percentiles and intervals are there, at the ranks of :func:`ranks`."""
    found = describe(range(1, 401))
    assert found is not None
    assert found.p50 == 200.5
    assert found.p95 == pytest.approx(380.05)
    assert found.p99 == pytest.approx(396.01)
    assert found.p50_ci == ranks(400, 0.5)
    assert found.p95_ci == ranks(400, 0.95)
    assert found.p99_ci == ranks(400, 0.99)


# Values that depend on each other


@pytest.mark.parametrize("freedom", [5, 6, 10, 29, 1000])
def test_students_quantile(freedom: int) -> None:
    """Right to 0.2 % where it is asked for."""
    assert _student(freedom) == pytest.approx(stats.t.ppf(0.975, freedom), rel=2e-3)


def test_no_groups_have_no_distribution() -> None:
    """Nor have groups of nothing."""
    assert describe_groups([]) is None
    assert describe_groups([[], []]) is None


def test_few_groups_have_no_intervals() -> None:
    """A thousand gaps of five requests are five looks at the engine: no interval, and so no upper percentile."""
    found = describe_groups([[float(k) for k in range(200)]] * 5)
    assert found is not None
    assert (found.n, found.p50) == (1000, 99.5)
    assert (found.p50_ci, found.p95, found.p95_ci, found.p99, found.p99_ci) == (None,) * 5


def test_groups_that_are_alike_count_as_their_values_but_for_the_doubt_of_few() -> None:
    """Each of 40 groups has the same 100 values: nothing varies between them, so nearly all 4000 count."""
    found = describe_groups([[float(k) for k in range(100)]] * 40)
    plain = describe([float(k) for k in range(100)] * 40)
    assert found is not None
    assert plain is not None
    assert (found.p50, found.p95, found.p99) == (plain.p50, plain.p95, plain.p99)
    pairs = ((found.p50_ci, plain.p50_ci), (found.p95_ci, plain.p95_ci), (found.p99_ci, plain.p99_ci))
    assert all(ours and theirs and ours[0] <= theirs[0] <= theirs[1] <= ours[1] for ours, theirs in pairs)


def test_values_that_follow_their_group_count_as_one() -> None:
    """Of 100 requests each with 50 equal gaps: p95 stands on 100 values and not on 5000, and p99 on nothing."""
    found = describe_groups([[float(k)] * 50 for k in range(100)])
    assert found is not None
    assert found.n == 5000
    assert found.p95_ci is not None
    assert found.p95_ci[0] <= 90
    assert found.p95_ci[1] >= 98
    assert (found.p99, found.p99_ci) == (None, None)


@pytest.mark.parametrize("share", [0.0, 0.5, 0.95], ids=lambda share: f"{share:.0%}-of-it-is-the-group")
@pytest.mark.parametrize("p", [0.5, 0.95])
def test_the_interval_holds_the_truth_however_much_a_group_decides(share: float, p: float) -> None:
    """Gaps of 100 requests, 30 each, that share a part of their variance: at least nine times of ten, at 95 %."""
    draw = np.random.default_rng(7)
    truth = stats.norm.ppf(p)
    held = []
    for _ in range(60):
        own, common = draw.standard_normal((100, 30)), draw.standard_normal((100, 1))
        found = describe_groups((math.sqrt(1 - share) * own + math.sqrt(share) * common).tolist())
        assert found is not None
        ci = {0.5: found.p50_ci, 0.95: found.p95_ci}[p]
        held += [ci[0] <= truth <= ci[1]] if ci else []
    assert len(held) > 30
    assert sum(held) / len(held) >= 0.9


@settings(deadline=None)
@given(groups=st.lists(st.lists(finite, max_size=20), max_size=40))
def test_groups_are_described_in_order(groups: list[list[float]]) -> None:
    """The same middle and ends as without groups; wider intervals or none; percentiles inside theirs."""
    found, plain = describe_groups(groups), describe([value for group in groups for value in group])
    if found is None or plain is None:
        assert found is plain
        return
    assert (found.n, found.mean, found.min, found.max, found.p50) == (
        plain.n, plain.mean, plain.min, plain.max, plain.p50
    )  # fmt: skip
    for p, ci, without in (
        (found.p50, found.p50_ci, plain.p50_ci), (found.p95, found.p95_ci, plain.p95_ci),
        (found.p99, found.p99_ci, plain.p99_ci),
    ):  # fmt: skip
        assert ci is None or (p is not None and ci[0] <= p <= ci[1])
        assert ci is None or (without is not None and ci[0] <= without[0] <= without[1] <= ci[1])


@settings(deadline=None)
@given(n=st.integers(1, 800))
def test_a_percentile_is_shown_where_its_interval_is(n: int) -> None:
    """p95 from 72 values and p99 from 368, and never without an interval."""
    found = describe(range(n))
    assert found is not None
    assert (found.p95 is None) is (found.p95_ci is None) is (n < 72)
    assert (found.p99 is None) is (found.p99_ci is None) is (n < 368)
    assert (found.p50_ci is None) is (n < 6)


@settings(deadline=None)
@given(values=st.lists(finite, min_size=1, max_size=500))
def test_percentiles_are_ordered(values: list[float]) -> None:
    """Percentiles lie between minimum and maximum, in order, and inside their intervals."""
    found = describe(values)
    assert found is not None
    assert found.p50 == pytest.approx(statistics.median(values))
    shown = [found.min, found.p50, *(p for p in (found.p95, found.p99) if p is not None), found.max]
    assert shown == sorted(shown)
    pairs = ((found.p50, found.p50_ci), (found.p95, found.p95_ci), (found.p99, found.p99_ci))
    assert all(ci is None or (p is not None and ci[0] <= p <= ci[1]) for p, ci in pairs)
