"""Cells beside a baseline: who is compared with whom, by which runs, and what is said of each number."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from recorded import changed, repeats

from xinfer.history import Cell
from xinfer.loadgens.foreign import Inproc
from xinfer.measuring import statistics
from xinfer.measuring.metrics import Metrics
from xinfer.measuring.quantity import METRICS
from xinfer.record import Failure
from xinfer.verbs import ranking
from xinfer.verbs.ranking import USUAL, Contestant, Pair

if TYPE_CHECKING:
    from collections.abc import Sequence

    from xinfer.record import Record

SLOW = [100.0, 101, 99, 100.5, 99.5]
FAST = [130.0, 131, 129, 130.5, 129.5]
VLLM: dict[str, Any] = {"launch__engine": "vllm", "config__engine": {"name": "vllm"}}


def contestant(letter: str, runs: Sequence[Record]) -> Contestant:
    return Contestant(letter, f"runs/{runs[0].cell}", Cell(runs[0].cell, tuple(runs)))


def compared(base: Sequence[Record], other: Sequence[Record], **options: Any) -> Pair:
    asked = {"allowed": (), **options}
    (pair,) = ranking.compare([contestant("A", base)], [contestant("B", other)], **asked)
    return pair


def verdicts(pair: Pair) -> dict[str, str]:
    return {row.metric: row.verdict for row in pair.rows}


def test_every_number_of_a_record_has_a_direction_or_has_none() -> None:
    """A new one must be put where it belongs."""
    neutral = {
        "scope", "requests", "resent", "failed", "prompt_tokens", "output_tokens", "duration_s", "window_s",
        "tokens_per_chunk", "concurrency_avg",
    }  # fmt: skip
    assert {name.partition(".")[0] for name in METRICS} | neutral == {
        *Metrics.__struct_fields__,
        *Inproc.__struct_fields__,
    }
    assert set(USUAL) <= set(METRICS)


def test_a_better_engine_is_better_in_each_direction() -> None:
    """More tokens per second, fewer milliseconds, as much memory."""
    pair = compared(repeats(SLOW), repeats(FAST, cell="cell-b"))
    assert verdicts(pair) == {
        "output_tps": "better", "ttft.p50": "better", "tpot.p50": "better", "e2e.p50": "better", "peak_rss": "same",
    }  # fmt: skip
    row = pair.rows[0]
    assert row.effect is not None
    assert row.effect.ratio == pytest.approx(1.3)
    assert row.corrected_p == pytest.approx(5 * 2 / 252)
    assert row.base == statistics.centre(SLOW)
    assert row.other == statistics.centre(FAST)


def test_a_worse_one_is_worse() -> None:
    """The same runs the other way round."""
    pair = compared(repeats(FAST), repeats(SLOW, cell="cell-b"))
    assert [row.verdict for row in pair.rows] == ["worse"] * 4 + ["same"]


def test_the_correction_is_for_the_whole_table() -> None:
    """What decides five rows does not decide twenty."""
    others = [contestant(letter, repeats(FAST, cell=f"cell-{letter}")) for letter in "BCDE"]
    pairs = ranking.compare([contestant("A", repeats(SLOW))], others, allowed=())
    rows = [row for pair in pairs for row in pair.rows]
    assert len(rows) == 20
    assert rows[0].corrected_p == pytest.approx(20 * 2 / 252)
    assert (rows[0].verdict, rows[0].why) == ("inconclusive", "5+5 repeats cannot decide 20 rows; 6+6 may")


@pytest.mark.parametrize("n", [1, 2, 3])
def test_few_repeats_say_nothing(n: int) -> None:
    """However far they are apart; and they are no part of what is corrected for."""
    pair = compared(repeats(SLOW[:n]), repeats(FAST, cell="cell-b"))
    assert {row.verdict for row in pair.rows} == {"inconclusive"}
    assert {row.corrected_p for row in pair.rows} == {None}
    assert pair.rows[0].why == f"{n}+5 repeats; fewer than 4+4 say nothing"


def test_flagged_runs_are_shown_and_not_ranked() -> None:
    """Where all of a side are."""
    flagged = repeats(FAST, cell="cell-b", flags=[{"id": "noisy"}, {"id": "short"}])
    pair = compared(repeats(SLOW), flagged)
    assert {(row.verdict, row.why, row.is_flagged) for row in pair.rows} == {
        ("inconclusive", "flagged (noisy, short)", True)
    }
    assert pair.rows[0].effect is not None
    assert pair.rows[0].corrected_p is None
    assert pair.other.flags == ("noisy", "short")
    assert pair.other.repeats == 5


def test_runs_without_a_flag_count_alone() -> None:
    """The flagged ones and the failed ones are left out, and that is said."""
    noisy = changed(repeats([500.0], cell="cell-b")[0], run="noisy", flags=[{"id": "noisy"}])
    failure = Failure(stage="start", message="it died", exit_code=4)
    failed = changed(run="dead", cell="cell-b", status="failed", metrics=None, failure=msgspec.to_builtins(failure))
    odd = changed(run="odd", cell="cell-b", metrics=None)
    pair = compared(repeats(SLOW), (*repeats(FAST, cell="cell-b"), noisy, failed, odd))
    assert pair.other.repeats == 5
    assert pair.other.flags == ()
    assert pair.other.left_out == ("noisy: noisy", "dead: failed: it died", "odd: no numbers")
    assert pair.rows[0].verdict == "better"


@pytest.mark.parametrize(
    ("paths", "why"),
    [
        pytest.param({"metrics__output_tps": None}, "not measured in B", id="a-number-that-is-not-there"),
        pytest.param({"metrics__output_tps": 0.0}, "a value is not above 0", id="a-number-that-is-nothing"),
    ],
)
def test_what_was_not_measured_is_not_compared(paths: dict[str, Any], why: str) -> None:
    """And says so."""
    other = tuple(changed(made, **paths) for made in repeats(FAST, cell="cell-b"))
    row = compared(repeats(SLOW), other).rows[0]
    assert (row.verdict, row.why, row.effect) == ("inconclusive", why, None)


def test_what_neither_has_is_not_compared() -> None:
    """A percentile that the samples do not support is null in both."""
    (row,) = compared(repeats(SLOW), repeats(FAST, cell="cell-b"), metrics=("ttft.p99",)).rows
    assert (row.base, row.other, row.why) == (None, None, "not measured in A and B")


def test_what_was_run_without_a_server_has_its_own_numbers() -> None:
    """Where none are asked for, those are shown that there are."""
    numbers = {"scope": "inproc", "prefill_tps": {"p50": 500.0}, "decode_tps": {"p50": 90.0}}
    runs = [
        changed(run=str(n), metrics=numbers, prompts_hash=None, foreign={"source": "llama-bench"}) for n in range(8)
    ]
    assert [row.metric for row in compared(runs[:4], runs[4:]).rows] == ["prefill_tps.p50", "decode_tps.p50"]


# Who is compared with whom


def test_other_work_is_refused() -> None:
    """With every reason, and without rows."""
    other = repeats(FAST, cell="cell-b", config__workload__concurrency=4, prompts_hash="ff")
    pair = compared(repeats(SLOW), other)
    assert [each.key for each in pair.refused] == ["workload.concurrency", "workload.warmup", "prompts_hash"]
    assert pair.rows == ()


def test_every_run_must_be_alike() -> None:
    """One repeat with other prompts spoils the cell, on either side."""
    runs = repeats(FAST, cell="cell-b")
    spoiled = (*runs[:4], changed(runs[4], prompts_hash="ff"))
    for base, other in itertools.permutations([repeats(SLOW), spoiled]):
        assert [each.key for each in compared(base, other).refused] == ["prompts_hash"]


def test_leave_is_told() -> None:
    """What was let differ stands beside what is compared."""
    other = repeats(FAST, cell="cell-b", decision__spec__quantization="Q8_0", **VLLM)
    assert compared(repeats(SLOW), other).refused
    pair = compared(repeats(SLOW), other, allowed=("quantization",))
    assert [(each.key, each.values) for each in pair.allowed] == [("model.quantization", ("Q4_1", "Q8_0"))]
    assert pair.rows[0].verdict == "better"


def test_what_is_compared_is_named() -> None:
    """Settings by the names that can be typed."""
    paths: dict[str, Any] = {
        "config__engine__threads": 2,
        "config__engine__args": {"mlock": True},
        "launch__dtype": "float32",
    }
    pair = compared(repeats(SLOW), repeats(FAST, cell="cell-b", **paths))
    assert [(each.key, each.values) for each in pair.compared] == [
        ("engine.threads", (1, 2)), ("dtype", (None, "float32")), ("engine.args.mlock", (None, True)),
    ]  # fmt: skip
    assert pair.base.engine == "llama_cpp 2026.10 wheel-cpu"
    assert pair.base.model == "smollm2-135m-instruct 0_135 ggufv2 Q4_1"
    assert pair.machine == "AMD EPYC, 2 cores"


def test_a_machine_with_gpus_says_so() -> None:
    """By number and name."""
    one = repeats(SLOW, hardware={"cpu": "x", "gpus": 2, "gpu": {"name": "H200"}})
    two = repeats(SLOW, hardware={"cpu": "x", "gpus": 1, "gpu": {}}, cell="cell-b")
    assert compared(one, two).machine == "x, 2 x H200"
    assert compared(two, one).machine == "x, 1 x GPU"


def cells(letter: str, **kinds: dict[str, Any]) -> list[Contestant]:
    return [contestant(letter, repeats(SLOW, cell=name, **paths)) for name, paths in kinds.items()]


@pytest.mark.parametrize(
    ("base", "others", "expected"),
    [
        pytest.param(
            cells("A", llama={}, vllm=VLLM), cells("B", llama={}, vllm=VLLM), ["llama llama", "vllm vllm"],
            id="each-engine-with-itself",
        ),
        pytest.param(
            cells("A", one={}, two={"config__engine__threads": 2}),
            cells("B", one={}, two={"config__engine__threads": 2}),
            ["one one", "two two"], id="and-each-setting",
        ),
        pytest.param(
            cells("A", llama={}, vllm=VLLM), cells("B", new={"launch__engine": "sglang"}), ["llama new", "vllm new"],
            id="a-new-engine-with-every-old-one",
        ),
        pytest.param(
            cells("A", one={}, four={"config__workload__concurrency": 4}),
            cells("B", four={"config__workload__concurrency": 4}, one={}),
            ["four four", "one one"], id="each-load-with-itself",
        ),
        pytest.param(
            cells("A", one={}, four={"config__workload__concurrency": 4, "prompts_hash": "f"}),
            cells("B", eight={"config__workload__concurrency": 8}),
            ["one eight refused"], id="what-has-no-counterpart-is-refused-beside-the-nearest",
        ),
    ],
)  # fmt: skip
def test_cells_are_paired(base: list[Contestant], others: list[Contestant], expected: list[str]) -> None:
    """By what must be the same, then by engine, then by settings."""
    pairs = ranking.compare(base, others, metrics=("output_tps",), allowed=())
    said = [f"{pair.base.cell} {pair.other.cell}{' refused' if pair.refused else ''}" for pair in pairs]
    assert said == expected


@settings(deadline=None, max_examples=30)
@given(
    base=st.lists(st.floats(90, 110), min_size=1, max_size=7),
    other=st.lists(st.floats(80, 140), min_size=1, max_size=7),
)
def test_no_verdict_without_evidence(base: list[float], other: list[float]) -> None:
    """Whatever the repeats are, each row says why, and what is ranked is what the rule ranks."""
    pair = compared(repeats(base), repeats(other, cell="cell-b"))
    for row in pair.rows:
        assert row.why
        assert row.effect is not None
        if row.verdict != "inconclusive":
            assert min(row.effect.n) >= 4
        if row.verdict in ("better", "worse"):
            assert row.corrected_p is not None
            assert row.corrected_p < 0.05
            assert abs(row.effect.ratio - 1) >= row.effect.floor
            assert row.effect.ci is not None
            assert not row.effect.ci[0] <= 1 <= row.effect.ci[1]


def test_a_record_without_parts_is_described_all_the_same() -> None:
    """Of an old one little may be known."""
    bare = changed(config={}, launch=None, decision=None, hardware=None)
    pair = compared([bare], [changed(bare, run="other")])
    assert (pair.base.model, pair.base.engine, pair.machine) == ("", "", "")
    assert pair.workload == {}
