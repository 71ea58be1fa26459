"""What the numbers of a record are."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from xinfer.loadgens.foreign import Inproc
from xinfer.measuring import quantity
from xinfer.measuring.distribution import Distribution
from xinfer.measuring.metrics import Metrics

METRICS: dict[str, Any] = {"output_tps": 100.0, "peak_rss": 2**28, "goodput": None, "ttft": {"p50": 0.05, "p99": None}}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        pytest.param("output_tps", 100.0, id="a-number"),
        pytest.param("peak_rss", 268435456.0, id="a-whole-number"),
        pytest.param("goodput", None, id="a-number-that-is-not-supported"),
        pytest.param("joules", None, id="a-number-from-after-the-record"),
        pytest.param("ttft.p50", 0.05, id="a-part-of-a-distribution"),
        pytest.param("ttft.p99", None, id="a-part-that-is-not-supported"),
        pytest.param("tpot.p50", None, id="a-distribution-that-is-not-there"),
    ],
)
def test_a_number_is_read_by_its_name(name: str, value: float | None) -> None:
    """What a run does not support is null."""
    assert quantity.value(METRICS, name) == value


@pytest.mark.parametrize("name", quantity.METRICS)
def test_every_metric_is_one_of_a_record(name: str) -> None:
    """A name that no record has would never be shown."""
    fields = {field.name for kind in (Metrics, Inproc) for field in msgspec.structs.fields(kind)}
    first, _, part = name.partition(".")
    assert first in fields
    assert not part or part in {field.name for field in msgspec.structs.fields(Distribution)}
