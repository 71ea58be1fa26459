"""A plan's speed: from records that are like it, else a bound, and always with how far such estimates were off."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xinfer.catalog import Shape, Spec
from xinfer.plan import LaunchPlan
from xinfer.planning import prediction
from xinfer.planning.bound import Tops
from xinfer.planning.prediction import ALIKE, Asked, Chosen, Flag, Middle, Numbers, Past, Sent
from xinfer.spec import Workload

SHAPE = Shape(layers=10, hidden=1000, heads=10, kv_heads=2, head_dim=100, vocab=10_000, intermediate=4000)
SPEC = Spec(family="f", size="0_154", format="pytorch", quantization="none", hub=None, id=None, shape=SHAPE)
LAUNCH = LaunchPlan(engine="vllm", version="1", variant="cpu", dtype="bfloat16")
WORKLOAD = Workload(name="w", input_tokens=80, output_tokens=40)
TOPS = Tops(bandwidth=3.088e9, flops={"bfloat16": 2.3188e13})
"""A step takes 0.1 s at least, a prompt a millisecond."""


def past(step: float = 0.2, prompt: float = 0.004, at_once: int = 1, **changes: Any) -> Past:
    """Return a record with so many seconds for a step and a prompt."""
    fields: dict[str, Any] = {
        "decision": Chosen(spec=SPEC), "launch": LAUNCH, "ceilings": TOPS,
        "config": Asked(workload=Sent(input_tokens=80, output_tokens=40, concurrency=at_once)),
        "metrics": Numbers(tpot=Middle(step), ttft=Middle(prompt), output_tps=at_once / step),
    }  # fmt: skip
    return Past(**{**fields, **changes})


def predict(*pasts: Past, launch: LaunchPlan = LAUNCH, tops: Tops = TOPS, **load: Any) -> prediction.Prediction:
    return prediction.predict(SPEC, launch, msgspec.structs.replace(WORKLOAD, **load), tops, pasts)


def other(**fields: Any) -> LaunchPlan:
    return msgspec.structs.replace(LAUNCH, **fields)


def test_without_records_it_is_a_bound() -> None:
    """At most ten tokens a second, a millisecond at least; how far off is not known."""
    found = predict()
    assert found.decode_tps.value == pytest.approx(10)
    assert found.prefill_s.value == pytest.approx(0.001)
    for each in (found.decode_tps, found.prefill_s):
        assert (each.is_bound, each.efficiency, each.records, each.error, each.alike) == (True, None, 0, None, ())
    assert found.decode_tps.formula == "309 MB / 3.09 GB/s measured"


def test_records_say_how_near_to_it_a_run_comes() -> None:
    """The median of what they reached: half, and a quarter."""
    found = predict(past(0.2, 0.004), past(0.19, 0.003), past(0.3, 0.02))
    assert found.decode_tps.efficiency == pytest.approx(0.5)
    assert found.decode_tps.value == pytest.approx(5)
    assert found.prefill_s.efficiency == pytest.approx(0.25)
    assert found.prefill_s.value == pytest.approx(0.004)
    assert (found.decode_tps.records, found.decode_tps.alike, found.decode_tps.is_bound) == (3, ALIKE, False)


def test_its_error_is_that_of_records_predicted_from_the_others() -> None:
    """0.2 s, 0.2 s and 0.4 s: of the first two each is predicted from 0.2 s and 0.4 s, the third from 0.2 s twice."""
    found = predict(past(0.2), past(0.2), past(0.4)).decode_tps
    assert found.error_records == 3
    assert found.error == pytest.approx(0.25)  # 0.375 for 0.5, twice, and 0.5 for 0.25
    assert predict(past()).decode_tps.error is None


def test_the_error_of_a_time_is_that_of_the_time() -> None:
    """2 ms and 4 ms: twice as long as predicted, or half."""
    found = predict(past(prompt=0.002), past(prompt=0.004)).prefill_s
    assert found.error == pytest.approx((1.0 + 0.5) / 2)


@pytest.mark.parametrize(
    ("like", "unlike", "alike"),
    [
        pytest.param({}, {"decision": Chosen(spec=msgspec.structs.replace(SPEC, family="g"))}, 4, id="model"),
        pytest.param(
            {"decision": Chosen(spec=msgspec.structs.replace(SPEC, family="g"))},
            {"launch": other(dtype="float16")}, 3, id="format",
        ),
        pytest.param({"launch": other(variant="native")}, {"step": 0.4, "at_once": 4}, 2, id="load"),
        pytest.param({"at_once": 4}, {"launch": other(engine="sglang")}, 1, id="engine"),
    ],
)  # fmt: skip
def test_the_records_that_are_most_like_it_count(like: dict[str, Any], unlike: dict[str, Any], alike: int) -> None:
    """Others do not, however many there are."""
    found = predict(past(**{"step": 0.2, **like}), *[past(**{"step": 0.9, **unlike})] * 5).decode_tps
    expected = predict(past(**{"step": 0.2, **like})).decode_tps
    assert (found.records, found.alike, found.value) == (1, ALIKE[:alike], expected.value)


def test_the_error_is_that_of_estimates_of_the_same_kind() -> None:
    """From another model of the same format: records of the same model do not help each other."""
    small = Chosen(spec=msgspec.structs.replace(SPEC, family="g"))
    mine = Chosen(spec=msgspec.structs.replace(SPEC, family="h"))
    found = predict(past(0.2, decision=small), past(0.2, decision=small), past(0.4, decision=mine)).decode_tps
    assert found.alike == ALIKE[:3]
    assert found.error_records == 3
    assert found.error == pytest.approx(0.5)  # 0.25 for 0.5, twice, and 0.5 for 0.25


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"foreign": {"source": "vllm-bench"}}, id="somebody-elses-numbers"),
        pytest.param({"launch": other(engine="external")}, id="a-server-of-somebody-else"),
        pytest.param({"flags": (Flag(id="short"), Flag(id="cache_hit"))}, id="remembered-prompts"),
        pytest.param({"metrics": Numbers()}, id="no-numbers"),
        pytest.param({"metrics": Numbers(tpot=Middle(None))}, id="no-time"),
        pytest.param({"config": Asked(workload=Sent(input_tokens=80, output_tokens=40, load="poisson"))}, id="a-rate"),
        pytest.param({"ceilings": Tops()}, id="no-ceilings"),
        pytest.param({"launch": other(engine="mlx")}, id="another-engine"),
        pytest.param({"launch": other(device="gpu")}, id="another-device"),
        pytest.param({"decision": Chosen(spec=msgspec.structs.replace(
            SPEC, size="1_4", shape=msgspec.structs.replace(SHAPE, layers=96)))}, id="a-much-larger-model"),
    ],
)  # fmt: skip
def test_a_record_that_tells_nothing_of_it_does_not_count(changes: dict[str, Any]) -> None:
    """The estimate stays a bound."""
    found = predict(past(**changes))
    assert found.decode_tps.is_bound
    assert found.prefill_s.is_bound


def test_a_disturbed_record_counts_where_there_is_no_other() -> None:
    """Its numbers are the engine's, if not the best."""
    noisy = past(0.4, flags=(Flag(id="noisy"),))
    assert predict(noisy).decode_tps.efficiency == pytest.approx(0.25)
    assert predict(noisy, past(0.2), noisy).decode_tps.efficiency == pytest.approx(0.5)
    assert predict(noisy, past(0.2), noisy).decode_tps.error_records == 1


def test_prompts_that_waited_for_others_do_not_count() -> None:
    """With four at once, the first token's time is not the prompt's."""
    found = predict(past(0.2, at_once=4), concurrency=4)
    assert (found.decode_tps.records, found.total_tps.records, found.prefill_s.records) == (1, 1, 0)
    assert found.prefill_s.is_bound


def test_each_figure_has_the_records_that_know_it() -> None:
    """A record without a rate still has steps."""
    found = predict(past(metrics=Numbers(tpot=Middle(0.2))))
    assert (found.decode_tps.records, found.total_tps.records, found.prefill_s.records) == (1, 0, 0)


def test_several_at_once_have_the_tokens_of_all() -> None:
    """And each of them fewer than one alone."""
    one, four = predict(), predict(concurrency=4)
    assert (one.batch, four.batch) == (1, 4)
    assert one.total_tps.value == pytest.approx(one.decode_tps.value or 0)
    assert four.total_tps.value == pytest.approx(4 * (four.decode_tps.value or 0))
    assert (four.decode_tps.value or 0) < (one.decode_tps.value or 0) < (four.total_tps.value or 0)


def test_the_total_is_that_of_records_too() -> None:
    """Half of what their machine could do, so half of what this one can."""
    found = predict(
        past(at_once=4, metrics=Numbers(output_tps=(predict(concurrency=4).total_tps.value or 0) / 2)), concurrency=4
    )
    assert found.total_tps.efficiency == pytest.approx(0.5)


def test_what_prompts_share_is_computed_once() -> None:
    """A quarter less to compute."""
    assert predict(shared_prefix=0.25).prefill_tokens == 60
    assert (predict(shared_prefix=0.25).prefill_s.value or 0) < (predict().prefill_s.value or 0)


def test_where_a_fact_is_missing_there_is_no_figure() -> None:
    """Null, with the reason."""
    found = predict(past(), tops=Tops())
    assert (found.decode_tps.value, found.total_tps.value, found.prefill_s.value) == (None, None, None)
    assert found.decode_tps.note == "the bandwidth of main memory is not known"


def test_the_peak_of_other_numbers_is_a_measure_and_no_bound() -> None:
    """With records of the same kind it serves; alone it says nothing."""
    tops = Tops(bandwidth=3.088e9, flops={"float32": 2.3188e13})
    found = predict(tops=tops).prefill_s
    assert (found.value, found.is_bound) == (None, False)
    assert found.note == "there is no record of a run like it, and the peak of its own type of numbers is not known"
    assert predict(past(ceilings=tops), tops=tops).prefill_s.value == pytest.approx(0.004)


@given(
    bandwidth=st.floats(1e9, 1e13), more=st.floats(1, 100), steps=st.lists(st.floats(0.01, 10), max_size=4),
    concurrency=st.integers(1, 64),
)  # fmt: skip
def test_more_bandwidth_never_predicts_less_speed(
    bandwidth: float, more: float, steps: list[float], concurrency: int
) -> None:
    """Whatever the records say."""
    pasts = [past(step) for step in steps]
    slow, fast = (
        predict(*pasts, tops=Tops(bandwidth=each), concurrency=concurrency).decode_tps.value
        for each in (bandwidth, bandwidth * more)
    )
    assert slow
    assert fast
    assert fast >= slow * (1 - 1e-9)


@given(steps=st.lists(st.floats(0.01, 10), min_size=1, max_size=9), slower=st.floats(1, 10))
def test_slower_records_never_predict_more_speed(steps: list[float], slower: float) -> None:
    """The estimate goes with them."""
    usual = predict(*map(past, steps)).decode_tps.value
    after = predict(*(past(step * slower) for step in steps)).decode_tps.value
    assert usual
    assert after
    assert after <= usual * (1 + 1e-9)


@given(st.lists(st.floats(0.01, 10), min_size=2, max_size=9))
def test_records_that_agree_have_no_error(steps: list[float]) -> None:
    """And those that differ have one."""
    same = predict(*[past(steps[0])] * len(steps)).decode_tps
    assert same.error == pytest.approx(0, abs=1e-9)
    found = predict(*map(past, steps)).decode_tps
    assert found.error is not None
    assert found.error_records == len(steps)
