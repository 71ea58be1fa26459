"""What of a llama.cpp plan costs speed, and what says so."""

from __future__ import annotations

from typing import TYPE_CHECKING

from xinfer import engines
from xinfer.judging.rules import Source
from xinfer.planning import advice
from xinfer.planning.advice import Advice

from .settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from xinfer.planning.advice import Case

HERE = "plugins/llama_cpp/advice.py"
NATIVE_BLOCKS = "llama-bench, 1 thread, prompts and outputs of Q4_1: 233 and 128 tok/s; of Q4_0: 1064 and 228"
WHEEL_BLOCKS = (
    "the wheel's server, 1 request at a time, prompts and outputs of Q4_1: 175 and 78 tok/s; of Q4_0: 371 and 115"
)
BUILDS = "llama-server, Q4_0, 1, 4 and 16 requests at once: wheel 69, 70, 84 tok/s; native 119, 128, 160"
OFFLOAD = Source(
    kind="page",
    title="Ollama, issue 14258, measured with llama-3.1 8B on an RTX 5070 Ti",
    date="2026-08-19",
    where="github.com/ollama/ollama/issues/14258",
    at="24 of 33 layers on the GPU: 31.9 tok/s; all: 105.8",
)
CACHE = Source(
    kind="code",
    title="llama.cpp in llama-cpp-python 0.3.36",
    date="2026-10-01",
    where="github.com/ggml-org/llama.cpp@0c1e57098",
    at="--cache-type-k and --cache-type-v; q8_0 has 34 bytes for 32 numbers",
)


def of(case: Case) -> Iterator[Advice]:
    """Yield what of a plan costs speed or memory."""
    settings = engines.settings(case.job, Settings)
    if case.launch.device == "cpu":
        yield from _quantization(case, settings)
        yield from _build(case, settings)
    else:
        yield from _layers(case, settings)
    if settings.cache_type_k is None and settings.cache_type_v is None:
        yield from advice.narrow_cache(case, "engine.cache_type_k=q8_0 engine.cache_type_v=q8_0", CACHE)


def _quantization(case: Case, settings: Settings) -> Iterator[Advice]:
    """Q4_1 has no repacked kernels on a CPU; Q4_0, of nearly the same size, has."""
    spec, isa = case.job.spec, case.job.hardware.isa or ()
    is_slow = spec.format == "ggufv2" and (spec.quantization or "").lower() == "q4_1" and "avx2" in isa
    found = [case.published(format="ggufv2", quantization=name) for name in ("Q4_0", "q4_0")] if is_slow else []
    other = next(filter(None, found), None)
    times, source = (
        ("4.5 times, outputs 1.8", NATIVE_BLOCKS)
        if settings.build == "native"
        else ("2.1 times, outputs 1.5", WHEEL_BLOCKS)
    )
    if other is not None:
        yield Advice(
            id="slow-quantization",
            text=f"{spec.quantization} has no fast kernels on this CPU: prompts take {times} times as "
            f"long as with {other.quantization}",
            override=f"model.quantization={other.quantization}",
            source=advice.measured(source, HERE),
        )


def _build(case: Case, settings: Settings) -> Iterator[Advice]:
    """The wheel stops at AVX2."""
    hardware = case.job.hardware
    if settings.build == "wheel" and settings.python is None and settings.index is None and (
        "avx512f" in (hardware.isa or ()) and hardware.os == "linux"
    ):  # fmt: skip
        yield Advice(
            id="prebuilt-wheel",
            text="the wheel uses no more than AVX2, and this CPU has AVX-512: compiled for it, in minutes and once, "
            "llama.cpp gives 1.7 to 1.9 times the tokens",
            override="engine.build=native",
            source=advice.measured(BUILDS, HERE),
        )


def _layers(case: Case, settings: Settings) -> Iterator[Advice]:
    """A layer on the CPU makes the GPU wait."""
    layers, asked = case.job.spec.shape.layers, settings.gpu_layers
    if not isinstance(asked, int) or case.launch.memory.fits is False or (asked and layers is None):
        return
    if layers is None or asked <= layers:  # the output layer counts as one more
        of_all = f"{asked} of {layers + 1}" if layers else f"{asked}"
        yield Advice(
            id="layers-on-cpu",
            text=f"{of_all} layers are on the GPU: with 9 of 33 on the CPU decoding took 3.3 times as long",
            override="engine.gpu_layers=null",
            source=OFFLOAD,
        )
