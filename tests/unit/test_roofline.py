"""How far a run is from its machine's limits: by hand, for numbers that are easy."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from xinfer.catalog import Shape, Spec
from xinfer.measuring import roofline
from xinfer.measuring.ceilings import Ceilings
from xinfer.measuring.distribution import Distribution, describe
from xinfer.measuring.metrics import Metrics
from xinfer.measuring.roofline import Lengths, Limits, distance
from xinfer.measuring.samples import Sample
from xinfer.measuring.work import Tensor
from xinfer.plan import LaunchPlan

SHAPE = Shape(layers=2, hidden=8, heads=4, kv_heads=2, head_dim=2, vocab=100, intermediate=16)
SPEC = Spec(family="f", size=None, format="ggufv2", quantization="F32", hub=None, id=None, shape=SHAPE)
TENSORS = (Tensor("token_embd.weight", 1000, 4000, is_packed=False), Tensor("blk.0.attn_q.weight", 1500, 6000, False))  # noqa: FBT003
PLAN = LaunchPlan(engine="llama_cpp", version="1", variant="cpu", argv=("serve", "--threads", "1"))
KV = 2 * 2 * 2 * 2 * 2
"""Bytes of a token's keys and values at 16 bits."""
CEILINGS = Ceilings(device="cpu", threads=1, bandwidth=2e6, flops={"float32": 1e7})
LENGTHS = Lengths(prompt=90, cached=0, output=20)


def constant(value: float) -> Distribution | None:
    return describe([value] * 3)


def run(*, tpot: float | None = 0.01, ttft: float | None = 0.1, **changes: Any) -> Metrics:
    """Return a run of one sequence at a time, of 100 tokens a second."""
    made = Metrics(
        requests=3, failed=0, duration_s=1, output_tps=100.0, ttft=constant(ttft) if ttft else None,
        tpot=constant(tpot) if tpot else None,
    )  # fmt: skip
    return msgspec.structs.replace(made, **changes)


def limits(
    metrics: Metrics | None = None, plan: LaunchPlan = PLAN, ceilings: Ceilings = CEILINGS, **changes: Any
) -> Limits:
    known = {"spec": SPEC, "lengths": LENGTHS, "tensors": TENSORS, **changes}
    return distance(
        metrics or run(), known["spec"], plan, known["lengths"], ceilings, tensors=known["tensors"]
    )  # fmt: skip


def test_one_sequence() -> None:
    """Each step reads all weights, and the keys and values of a sequence at its mean length of 100."""
    found = limits()
    step = 10_000 + 100 * KV
    assert found.step_bytes == step
    assert found.weights_bytes == 10_000
    assert found.batch == 1
    assert found.decode_bytes_per_s == pytest.approx(step * 100)
    assert found.decode_share == pytest.approx(step * 100 / 2e6)
    flops = 2 * (1500 * 90 + 1000) + 4 * 2 * 4 * 2 * 90 * 90 / 2
    assert found.prefill_flops == flops
    assert found.prefill_share == pytest.approx(flops / 0.1 / 1e7)
    assert (found.peak_dtype, found.notes) == ("float32", {"weights": "the tensors of its files"})
    assert found.text == (
        "decode at 66 % of memory bandwidth (0.00132 of 0.002 GB/s), "
        "prefill at 53 % of the float32 peak (0.00531 of 0.01 GFLOP/s)"
    )


def test_several_sequences_share_the_weights() -> None:
    """Four sequences of which each gets a token in 10 ms: the weights are read once, their caches each."""
    found = limits(run(output_tps=400.0))
    assert found.batch == pytest.approx(4)
    assert found.step_bytes == pytest.approx(10_000 + 4 * 100 * KV)
    assert "prefill at at least" not in found.text
    assert "prefill at 53 % or more of the float32 peak" in found.text


def test_a_server_that_waits_has_still_one_in_its_steps() -> None:
    """Between requests nothing is read, and a step without a sequence there is none."""
    assert limits(run(output_tps=10.0)).batch == 1
    assert limits(run(output_tps=None, output_tps_full=200.0)).batch == pytest.approx(2)


def test_a_cached_prompt_is_read_and_not_computed() -> None:
    """Its keys and values count for decoding, its operations do not for prefill."""
    found, plain = limits(lengths=Lengths(90, 50, 20)), limits()
    assert found.step_bytes == plain.step_bytes
    assert found.prefill_flops == 2 * (1500 * 40 + 1000) + 4 * 2 * 4 * 2 * 40 * 40 / 2


@pytest.mark.parametrize(
    ("plan", "width"),
    [
        pytest.param({}, 2, id="sixteen-bits"),
        pytest.param({"dtype": "float32"}, 4, id="as-wide-as-what-is-computed-in"),
        pytest.param({"argv": ("s", "--cache-type-k", "q8_0")}, (8.5 + 16) / 16, id="narrow-keys"),
        pytest.param({"argv": ("s", "--cache-type-k", "q8_0", "--cache-type-v", "q4_0")}, 13 / 16, id="both-narrow"),
        pytest.param({"argv": ("s", "--kv-cache-dtype", "fp8")}, 1, id="one-flag-for-both"),
        pytest.param({"argv": ("s", "--kv-cache-dtype", "auto")}, 2, id="a-word-that-says-nothing"),
    ],
)
def test_the_width_of_the_cache(plan: dict[str, Any], width: float) -> None:
    """The engine's own flags decide, else the type that is computed in."""
    found = limits(plan=msgspec.structs.replace(PLAN, **plan))
    assert found.step_bytes == pytest.approx(10_000 + 100 * KV * width / 2)


def test_several_devices_read_at_once() -> None:
    """Those that share each layer; a flag about GPUs means nothing on a CPU."""
    argv = ("serve", "--tensor-parallel-size", "4")
    on_gpu = limits(plan=msgspec.structs.replace(PLAN, argv=argv, device="gpu"))
    on_cpu = limits(plan=msgspec.structs.replace(PLAN, argv=argv))
    assert (on_gpu.bandwidth, on_gpu.peak_flops) == (8e6, 4e7)
    assert (on_cpu.bandwidth, on_cpu.peak_flops) == (2e6, 1e7)


@pytest.mark.parametrize(
    ("quantization", "dtype", "format_", "flops", "expected"),
    [
        pytest.param("F32", None, "ggufv2", {"float32": 1.0, "int8": 2.0}, ("float32", None), id="its-own"),
        pytest.param("Q4_1", None, "ggufv2", {"float32": 1.0, "int8": 2.0}, ("int8", None), id="packed-as-integers"),
        pytest.param("BF16", None, "ggufv2", {"float32": 1.0, "bfloat16": 2.0}, ("bfloat16", None), id="bfloat16"),
        pytest.param("none", "float16", "pytorch", {"float32": 1.0, "float16": 2.0}, ("float16", None), id="asked-for"),
        pytest.param("none", None, "mlx", {"bfloat16": 2.0}, ("bfloat16", None), id="the-common-type"),
        pytest.param("Q4_1", None, "ggufv2", {"float32": 1.0},
                     ("float32", "the ceiling is that of float32; int8: no such type"), id="another-type-is-said"),
        pytest.param("BF16", None, "ggufv2", {"float32": 1.0},
                     ("float32", "the ceiling is that of float32; bfloat16: it was not measured"), id="without-a-note"),
        pytest.param("Q4_1", None, "ggufv2", {}, (None, "int8: no such type"), id="nothing-was-measured"),
    ],
)  # fmt: skip
def test_the_peak_has_a_type(
    quantization: str, dtype: str | None, format_: str, flops: dict[str, float], expected: tuple[str | None, str | None]
) -> None:
    """That in which the network is computed, if it was measured."""
    known = msgspec.structs.replace(SPEC, quantization=quantization, format=format_)
    ceilings = msgspec.structs.replace(CEILINGS, flops=flops, notes={"int8": "no such type"})
    found = limits(plan=msgspec.structs.replace(PLAN, dtype=dtype), ceilings=ceilings, spec=known)
    assert (found.peak_dtype, found.notes.get("prefill")) == expected
    assert (found.prefill_share is None) is (expected[0] is None)
    assert found.prefill_flops_per_s is not None


def test_more_than_the_ceiling_is_said() -> None:
    """It happens where a part of the weights stays in a cache."""
    found = limits(ceilings=msgspec.structs.replace(CEILINGS, bandwidth=1e6, busy="others used 30%"))
    assert found.decode_share == pytest.approx(1.32)
    assert "stay in a cache" in found.notes["bandwidth"]
    assert found.notes["ceilings"] == "others used 30%"


def test_a_published_ceiling_is_called_so() -> None:
    """It was not measured here."""
    found = limits(ceilings=msgspec.structs.replace(CEILINGS, source="published"))
    assert found.text.startswith("decode at 66 % of the published memory bandwidth")


@pytest.mark.parametrize(
    ("changes", "key", "why"),
    [
        pytest.param({"metrics": run(tpot=None)}, "decode", "no time per token", id="one-token-replies"),
        pytest.param({"metrics": run(output_tps=None)}, "decode", "no time per token", id="no-rate"),
        pytest.param({"metrics": run(ttft=None)}, "prefill", "no time to the first token", id="no-first-token"),
        pytest.param(
            {"ceilings": msgspec.structs.replace(CEILINGS, bandwidth=None, notes={"bandwidth": "no PyTorch"})},
            "bandwidth", "no PyTorch", id="no-ceiling",
        ),
        pytest.param(
            {"ceilings": msgspec.structs.replace(CEILINGS, bandwidth=None)}, "bandwidth", "could not be measured",
            id="no-ceiling-without-a-reason",
        ),
        pytest.param(
            {"spec": msgspec.structs.replace(SPEC, shape=msgspec.structs.replace(SHAPE, head_dim=None))},
            "decode", "not published", id="no-cache-size",
        ),
        pytest.param(
            {"spec": msgspec.structs.replace(SPEC, shape=msgspec.structs.replace(SHAPE, heads=None))},
            "prefill", "are not known", id="no-heads",
        ),
        pytest.param({"tensors": ()}, "decode", "names that are not known", id="no-weights"),
        pytest.param({"plan": msgspec.structs.replace(PLAN, engine="external")}, "decode", "did not start",
                     id="somebody-elses-server"),
    ],
)  # fmt: skip
def test_what_is_not_known_is_null(changes: dict[str, Any], key: str, why: str) -> None:
    """With the reason; the other half is told all the same where it can be."""
    found = limits(**changes)
    assert why in found.notes[key]
    share = found.prefill_share if key == "prefill" else found.decode_share
    assert share is None
    assert ("prefill" if key == "prefill" else "decode") not in found.text


def sample(**changes: Any) -> Sample:
    made = Sample(
        index=0, warmup=False, t_sched=0, t_send=0, t_headers=0, t_end=1, chunks=(), prompt_tokens_asked=10,
        prompt_tokens=12, completion_asked=4, completion_tokens=4, cached_tokens=0, finish_reason="length",
        status=200, error=None, detail=None, prompt_hash="",
    )  # fmt: skip
    return msgspec.structs.replace(made, **changes)


def test_lengths() -> None:
    """By the server's count of what succeeded, else as asked."""
    several = (sample(), sample(prompt_tokens=20, cached_tokens=8, completion_tokens=2), sample(error="timeout"))
    assert roofline.lengths(several, prompt=10, output=4) == Lengths(16, 4, 3)
    uncounted = sample(prompt_tokens=None, cached_tokens=None, completion_tokens=None)
    assert roofline.lengths([uncounted], prompt=10, output=4) == Lengths(10, 0, 4)
    assert roofline.lengths([], prompt=10, output=4) == Lengths(10, 0, 4)
