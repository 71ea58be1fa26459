"""The least time of a step and of a prompt, by hand for numbers that are easy."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xinfer.catalog import Shape, Spec
from xinfer.facts import Gpu, Hardware
from xinfer.plan import LaunchPlan
from xinfer.planning import bound
from xinfer.planning.bound import Load, Plan, Tops

SHAPE = Shape(layers=10, hidden=1000, heads=10, kv_heads=2, head_dim=100, vocab=10_000, intermediate=4000)
SPEC = Spec(family="f", size="0_154", format="pytorch", quantization="none", hub=None, id=None, shape=SHAPE)
"""154 million weights: 14.4 million in each layer, and a head of 10 million."""
WEIGHTS = 308_000_000
KV = 2 * 10 * 2 * 100 * 2
"""Bytes of a token's keys and values in 16 bits."""
LAUNCH = LaunchPlan(engine="vllm", version="1", variant="cpu", dtype="bfloat16")
ON_GPU = msgspec.structs.replace(LAUNCH, device="gpu")
PLAN = Plan(SPEC, LAUNCH, Tops(bandwidth=3.088e9), Load(batch=1.0, prompt=80.0, output=40.0, length=100.0))
PROMPT = 2 * (144e6 * 80 + 10e6) + 4 * 10 * 10 * 100 * (80 * 80 / 2)


def spec(**fields: Any) -> Spec:
    return msgspec.structs.replace(SPEC, **fields)


def tops(bandwidth: float | None = 3.088e9, **flops: float) -> Tops:
    return Tops(bandwidth=bandwidth, flops=flops)


def test_a_step_reads_the_weights_and_every_sequence() -> None:
    """Once for all of them, and each its own."""
    one, four = bound.step(PLAN), bound.step(PLAN._replace(load=PLAN.load._replace(batch=4.0)))
    assert one.seconds == pytest.approx((WEIGHTS + 100 * KV) / 3.088e9) == pytest.approx(0.1)
    assert (one.amount, four.amount) == (WEIGHTS + 100 * KV, WEIGHTS + 400 * KV)
    assert one.formula == "309 MB / 3.09 GB/s measured"
    assert one.is_sure


def test_a_step_that_computes_longer_than_it_reads() -> None:
    """Two operations for each weight and sequence; the amount by which runs are likened is still that of bytes."""
    found = bound.step(PLAN._replace(tops=tops(bfloat16=1e9)))
    assert found.seconds == pytest.approx(0.308)
    assert found.amount == WEIGHTS + 100 * KV
    assert found.formula == "308 MFLOP / 1 GFLOP/s measured"
    assert bound.step(PLAN._replace(tops=tops(bfloat16=1e12))).seconds == pytest.approx(0.1)


def test_the_peak_of_other_numbers_bounds_no_step() -> None:
    """It may be lower than that of its own."""
    assert bound.step(PLAN._replace(tops=tops(float32=1e9))).seconds == pytest.approx(0.1)


def test_a_prompt_computes() -> None:
    """Each token with all weights, and with those before it; the head for the last."""
    found = bound.prompt(PLAN._replace(tops=tops(bfloat16=1e12)))
    assert found.seconds == pytest.approx(PROMPT / 1e12)
    assert found.is_sure
    assert found.formula == "23.2 GFLOP / 1 TFLOP/s measured"
    other = bound.prompt(PLAN._replace(tops=tops(float32=1e12)))
    assert (other.seconds, other.is_sure) == (found.seconds, False)


@pytest.mark.parametrize(
    ("plan", "step", "prompt"),
    [
        pytest.param(
            PLAN._replace(tops=Tops()), "the bandwidth of main memory is not known",
            "the peak of matrix products is not known", id="machine",
        ),
        pytest.param(
            PLAN._replace(tops=Tops(), launch=ON_GPU), "the bandwidth of the GPU's memory is not known",
            "the peak of matrix products is not known", id="gpu",
        ),
        pytest.param(
            PLAN._replace(spec=spec(shape=Shape())), "the network's dimensions are not all published",
            "the network's dimensions are not all published", id="network",
        ),
        pytest.param(
            PLAN._replace(spec=spec(shape=msgspec.structs.replace(SHAPE, kv_lora_rank=512))),
            "the network's layers, kv heads or head size are not published",
            "the peak of matrix products is not known", id="cache",
        ),
        pytest.param(
            PLAN._replace(spec=spec(format="awq", quantization="odd")), "no bits per weight are known for awq odd",
            "no bits per weight are known for awq odd", id="bits",
        ),
    ],
)  # fmt: skip
def test_what_is_not_known_is_null_and_says_why(plan: Plan, step: str, prompt: str) -> None:
    """Never zero, never a guess."""
    assert (bound.step(plan).seconds, bound.step(plan).why) == (None, step)
    assert (bound.prompt(plan).seconds, bound.prompt(plan).why) == (None, prompt)


def test_a_cycle_waits_for_its_prompts_or_for_its_outputs() -> None:
    """For whichever takes longer: one can be done while the other waits."""
    four = PLAN._replace(load=PLAN.load._replace(batch=4.0), tops=tops(bfloat16=1e12))
    step, prompt = bound.step(four), bound.prompt(four)
    outputs = bound.cycle(four)
    assert outputs.seconds == pytest.approx(40 * (step.seconds or 0))
    assert outputs.formula == f"40 steps of {step.formula}"
    slow = four._replace(tops=tops(1e12, bfloat16=1e10))
    prompts = bound.cycle(slow)
    assert prompts.seconds == pytest.approx(4 * PROMPT / 1e10)
    assert prompts.formula == f"4 prompts of {bound.prompt(slow).formula}"
    assert prompts.amount == outputs.amount == step.amount
    assert prompt.seconds


@pytest.mark.parametrize("flops", [{}, {"float32": 1e6}], ids=["unknown", "of-other-numbers"])
def test_a_cycle_is_bounded_by_its_outputs_where_no_prompt_is(flops: dict[str, float]) -> None:
    """And not known where they are not."""
    assert bound.cycle(PLAN._replace(tops=tops(**flops))).seconds == pytest.approx(4.0)
    found = bound.cycle(PLAN._replace(tops=Tops()))
    assert (found.seconds, found.why) == (None, "the bandwidth of main memory is not known")


def test_devices_that_share_a_layer_work_together() -> None:
    """Four read four times as fast."""
    four = msgspec.structs.replace(ON_GPU, argv=("serve", "--tensor-parallel-size", "4"))
    one, shared = (PLAN._replace(launch=each, tops=tops(bfloat16=1e12)) for each in (ON_GPU, four))
    assert bound.step(one).seconds == pytest.approx(4 * (bound.step(shared).seconds or 0))
    assert bound.prompt(one).seconds == pytest.approx(4 * (bound.prompt(shared).seconds or 0))


@pytest.mark.parametrize(
    ("format_", "launch", "is_sure"),
    [
        pytest.param("awq", msgspec.structs.replace(ON_GPU, dtype=None), True, id="unpacked-on-a-gpu"),
        pytest.param("ggufv2", msgspec.structs.replace(ON_GPU, dtype=None), False, id="multiplied-as-integers"),
        pytest.param("awq", msgspec.structs.replace(LAUNCH, dtype=None), False, id="on-a-cpu"),
    ],
)
def test_packed_weights_are_multiplied_as_their_engine_does(format_: str, launch: LaunchPlan, is_sure: bool) -> None:  # noqa: FBT001
    """A peak of 16 bits bounds only what is multiplied in 16 bits."""
    quantization = "Q4_0" if format_ == "ggufv2" else "Int4"
    plan = PLAN._replace(spec=spec(format=format_, quantization=quantization), launch=launch, tops=tops(bfloat16=1e12))
    assert bound.prompt(plan).is_sure is is_sure


def test_what_is_published_of_a_machine() -> None:
    """Of the device that the plan uses: of main memory no peak is."""
    gpu = Gpu(vendor="nvidia", bandwidth_gbs=3350, tflops_16bit=989)
    found = bound.published(Hardware(profile="p", gpus=1, gpu=gpu, bandwidth_gbs=460), ON_GPU)
    assert found == Tops(bandwidth=3.35e12, flops={"bfloat16": 9.89e14, "float16": 9.89e14}, source="published")
    found = bound.published(Hardware(profile="p", gpus=1, gpu=gpu, bandwidth_gbs=460), LAUNCH)
    assert found == Tops(bandwidth=4.6e11, source="published")
    assert bound.published(Hardware(profile="p"), LAUNCH) == Tops(source="published")


@pytest.mark.parametrize(
    ("value", "text"), [(2.5e15, "2.5 P"), (1e12, "1 T"), (98.64e9, "98.6 G"), (308e6, "308 M"), (5e5, "0.5 M")]
)
def test_amounts_are_written_with_a_prefix(value: float, text: str) -> None:
    """Three digits are enough."""
    assert bound._metric(value) == text


@given(
    batch=st.floats(1, 512), length=st.floats(1, 1e5), bandwidth=st.floats(1e9, 1e13), peak=st.floats(1e9, 1e15),
    more=st.floats(1, 10),
)  # fmt: skip
def test_a_faster_machine_never_needs_longer(
    batch: float, length: float, bandwidth: float, peak: float, more: float
) -> None:
    """And a larger load is never done sooner."""

    def seconds(batch: float, length: float, bandwidth: float, peak: float) -> float:
        plan = PLAN._replace(tops=tops(bandwidth, bfloat16=peak), load=Load(batch, length, length, length))
        found = [each(plan).seconds for each in (bound.step, bound.prompt, bound.cycle)]
        assert all(found)
        return sum(each or 0.0 for each in found)

    usual = seconds(batch, length, bandwidth, peak) * (1 + 1e-9)
    assert seconds(batch, length, bandwidth * more, peak) <= usual
    assert seconds(batch, length, bandwidth, peak * more) <= usual
    assert seconds(batch * more, length * more, bandwidth, peak) * (1 + 1e-9) >= usual / (1 + 1e-9)
