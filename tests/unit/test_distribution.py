"""Percentiles and their intervals."""

from __future__ import annotations

import math
import statistics

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xinfer.measuring.distribution import describe, ranks

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


def test_dependent_values_have_no_intervals() -> None:
    """Percentiles of pooled gaps are shown without an interval that would be too narrow."""
    found = describe(range(400), independent=False)
    assert found is not None
    assert found.p99 is not None
    assert (found.p50_ci, found.p95_ci, found.p99_ci) == (None, None, None)


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
