"""What llama.cpp's plans say of memory: several GPUs, windows, and the cache."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from llama_cpp_plans import SMOLLM2, job, plan
from plans import QWEN2_FILE as QWEN2

from xinfer import engines
from xinfer.catalog import Shape, Spec
from xinfer.errors import ConfigError
from xinfer.facts import Gpu, Hardware
from xinfer.plan import LaunchPlan

LARGE = msgspec.structs.replace(
    SMOLLM2, family="l", size="70", quantization="Q4_K_M", bytes=42_520_395_584,
    shape=Shape(architecture="LlamaForCausalLM", layers=80, heads=64, kv_heads=8, head_dim=128, intermediate=28672),
)  # fmt: skip
GEMMA3 = msgspec.structs.replace(
    SMOLLM2,
    shape=Shape(architecture="Gemma3ForCausalLM", layers=18, kv_heads=1, head_dim=256, sliding_window=512,
                sliding_layers=15),
)  # fmt: skip


def test_memory_besides_weights_and_cache() -> None:
    """The overhead is estimated where the network's width is known, and null where it is not."""
    assert plan().memory.overhead_gib == pytest.approx(0.06 + 512 * 6 * 1536 * 4 / 2**30)
    assert plan(spec=QWEN2).memory.overhead_gib is None


def on_gpus(gpus: int, gib: float | None, spec: Spec = LARGE, **settings: Any) -> LaunchPlan:
    hardware = Hardware(profile="p", os="linux", gpus=gpus, gpu=Gpu(vendor="nvidia", memory_gib=gib), cores=8)
    asked = msgspec.structs.replace(job("cpu", spec), hardware=hardware)
    return engines.get("llama_cpp").plan(msgspec.structs.replace(asked, settings={"name": "llama_cpp", **settings}))


@pytest.mark.parametrize(
    ("gpus", "gib", "settings", "words", "stages"),
    [
        pytest.param(1, 80.0, {}, "", 1, id="one-gpu"),
        pytest.param(4, 80.0, {}, "--split-mode none", 1, id="one-of-four"),
        pytest.param(4, 24.0, {}, "--tensor-split 1,1,0,0", 2, id="two-of-four"),
        pytest.param(2, 24.0, {}, "", 2, id="both"),
        pytest.param(4, None, {}, "", 4, id="all-where-the-memory-is-not-known"),
        pytest.param(4, 80.0, {"args": {"split-mode": "row"}}, "--split-mode row", 4, id="the-users-own-mode"),
        pytest.param(4, 80.0, {"args": {"split-mode": "none"}}, "--split-mode none", 1, id="the-users-own-gpu"),
        pytest.param(4, 80.0, {"gpu_layers": 10}, "", 4, id="only-some-layers"),
    ],
)
def test_gpus(gpus: int, gib: float | None, settings: dict[str, Any], words: str, stages: int) -> None:
    """Layers go to as few GPUs as hold them; llama-server is told only what it would do otherwise."""
    found = on_gpus(gpus, gib, **settings)
    split = [flag for flag in ("--split-mode", "--tensor-split") if flag in found.argv]
    said = " ".join(f"{flag} {found.argv[found.argv.index(flag) + 1]}" for flag in split)
    assert (said, found.stages, found.tensor) == (words, stages, 1)


def test_what_is_needed_on_a_gpu() -> None:
    """What llama.cpp itself leaves free, and one batch's activations."""
    found = on_gpus(2, 24.0).memory
    assert found.overhead_gib == pytest.approx(1 + 512 * 6 * 28672 * 4 / 2**30)
    assert found.least_gpus == 2


def test_a_way_to_split_that_there_is_not() -> None:
    """The message lists those that there are."""
    message = "^engine.args.split-mode=rows: llama.cpp splits by none, layer, row, tensor$"
    with pytest.raises(ConfigError, match=message):
        on_gpus(2, 24.0, args={"split-mode": "rows"})


@pytest.mark.parametrize(
    ("length", "mib"),
    [
        pytest.param(4096, 12 + 15, id="llama.cpps-own-log-of-gemma-3-270m"),
        pytest.param(300, 18 * 512 / 1024, id="shorter-than-a-window-and-a-batch-in-whole-blocks"),
    ],
)
def test_a_window_keeps_itself_and_a_batch(length: int, mib: float) -> None:
    """The cells that llama.cpp has for it."""
    asked = msgspec.structs.replace(job("cpu", GEMMA3), context_length=length)
    found = engines.get("llama_cpp").plan(asked).memory
    assert found.kv_gib == pytest.approx(mib / 1024 * asked.workload.concurrency)


def test_a_window_that_it_does_not_know() -> None:
    """Mistral's windows count for nothing: each layer keeps all."""
    mistral = Shape(architecture="MistralForCausalLM", layers=32, kv_heads=8, head_dim=128, sliding_window=4096,
                    sliding_layers=32)  # fmt: skip
    asked = msgspec.structs.replace(job("cpu", msgspec.structs.replace(SMOLLM2, shape=mistral)), context_length=8192)
    found = engines.get("llama_cpp").plan(asked).memory
    assert found.kv_gib == asked.workload.concurrency * 1.0


def test_the_type_of_the_cache_counts() -> None:
    """Whether a setting or a flag says it."""
    plain, setting, flags = (
        plan(spec=GEMMA3, settings=changes).memory.kv_gib or 0.0
        for changes in ({}, {"cache_type_k": "q8_0", "cache_type_v": "q8_0"}, {"args": {"cache-type-k": "q8_0"}})
    )
    assert (setting / plain, flags / plain) == pytest.approx((8.5 / 16, (8.5 + 16) / 32))
