"""What is printed of a plan's own speed: one line for each figure, with how it came about."""

from __future__ import annotations

from typing import Any

import pytest

from xinfer.judging.rules import Source
from xinfer.planning.advice import Advice
from xinfer.planning.prediction import Estimate, Prediction
from xinfer.verbs import outlook

SOURCE = Source(kind="page", title="A page", date="2026-11-22", where="example.org")
ONE = Advice(id="slow", text="this costs that", override="a=1", source=SOURCE)
OTHER = Advice(id="slower", text="that costs this", override="b=2 c=3", source=SOURCE)


def prediction(batch: int = 1, prefill: Estimate | None = None, **decode: Any) -> Prediction:
    estimate = Estimate(**{"value": 41.26, "formula": "0.1 GB / 4 GB/s measured", **decode})
    total = Estimate(value=None if estimate.value is None else estimate.value * batch, is_bound=True, formula="all")
    return Prediction(
        batch=batch, decode_tps=estimate, total_tps=total, prefill_tokens=32,
        prefill_s=prefill or Estimate(value=0.25, formula="8 GFLOP / 32 GFLOP/s measured", is_bound=True),
    )  # fmt: skip


def test_an_advice_has_its_evidence_and_its_words() -> None:
    """As a finding has its source and its fix."""
    assert list(outlook.advice_text([ONE, OTHER])) == [
        "advice",
        "  slow: this costs that  [page: A page, 2026-11-22]",
        "            a=1",
        "  slower: that costs this  [page: A page, 2026-11-22]",
        "            b=2 c=3",
        "",
    ]
    assert list(outlook.advice_text([])) == []


def test_a_run_ends_with_the_words_alone() -> None:
    """One line, or none."""
    assert outlook.closing([ONE, OTHER]) == "advice: a=1 b=2 c=3  (slow, slower; plan says why)"
    assert outlook.closing([]) == ""


def test_a_prediction_says_what_it_rests_on() -> None:
    """How many records, what they have in common with the plan, and how far such estimates were off."""
    found = prediction(efficiency=0.221, records=6, alike=("engine", "format"), error=0.124, error_records=25)
    head, decode, _, end = outlook.prediction_text(found)
    assert (head, end) == ("predicted", "")
    assert decode == (
        "  decode    41.3 tok/s  0.1 GB / 4 GB/s measured x 0.221, the median of 6 records of the same engine, format; "
        "error 12 % on 25 records"
    )


def test_a_bound_is_called_one() -> None:
    """At most for a rate, at least for a time."""
    _, decode, prefill, _ = outlook.prediction_text(prediction(is_bound=True))
    limit = ", the machine's limit: no record of a run like it, so the error is not known"
    assert decode == f"  decode    at most 41.3 tok/s  0.1 GB / 4 GB/s measured{limit}"
    assert prefill == f"  prefill   at least 0.25 s  32 tokens: 8 GFLOP / 32 GFLOP/s measured{limit}"


def test_several_at_once_have_a_total() -> None:
    """After what each of them gets; of thousands, no thousandths."""
    _, decode, total, _, _ = outlook.prediction_text(prediction(100, is_bound=True))
    assert decode.startswith("  decode    at most 41.3 tok/s  for each request: 0.1 GB")
    assert total.startswith("  total     at most 4126 tok/s  100 requests at once: all, the machine's limit")


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        pytest.param({}, "; error not known: no record can be predicted from others", id="none"),
        pytest.param({"error": 0.5, "error_records": 1}, "; error 50 % on 1 record", id="one"),
    ],
)
def test_a_single_record_is_not_many(changes: dict[str, Any], text: str) -> None:
    """Where none can be predicted from others, the error is not known."""
    _, decode, *_ = outlook.prediction_text(prediction(efficiency=0.2, records=1, alike=("engine",), **changes))
    assert decode.endswith(f" x 0.2, 1 record of the same engine{text}")


@pytest.mark.parametrize("batch", [1, 4])
def test_what_is_not_known_is_said_to_be(batch: int) -> None:
    """With the reason in place of a figure."""
    found = prediction(batch, value=None, note="no bandwidth", prefill=Estimate(note="no peak"))
    _, decode, *total, prefill, _ = outlook.prediction_text(found)
    assert (decode, prefill) == ("  decode    not known: no bandwidth", "  prefill   not known: no peak")
    assert total == ["  total     not known: "] * (batch > 1)


def test_nothing_is_said_where_nothing_was_asked() -> None:
    """A plan that was not predicted has no empty heading."""
    assert list(outlook.prediction_text(None)) == []
