"""Choices of a plan that cost speed or memory: each with its evidence, and with the words that undo it.

What holds for every engine is here; an adapter adds its own with a method ``advice(case)``. Nothing is advised that
was not measured or published.
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from xinfer.judging.rules import Source

if TYPE_CHECKING:
    from collections.abc import Iterator

    from xinfer.catalog import Family, Spec
    from xinfer.engines import Engine, Job
    from xinfer.facts import Gpu, Hardware
    from xinfer.plan import LaunchPlan

BFLOAT16 = {"avx512_bf16", "amx_bf16", "bf16"}
"""Instruction sets that compute in bfloat16."""
MUCH = 4
"""How many times longer than its workload a context is that is worth a word."""
LARGE = 0.25
"""What part of the memory a cache takes that is worth a word."""
STEP = 256
"""A shorter context is advised in steps of so many tokens."""
HALF = 8.5 / 16
"""What a cache of eight bits takes of one of sixteen, its scales included."""
SMALL_B = 1.0
"""Up to so many billion weights engines are compared by figures of a model of 0.135."""
FASTEST = ((39.9, "llama.cpp with 1 request"), (89.4, "vLLM with 4 requests"), (158.4, "vLLM with 16 requests"))
"""Output tokens per second with 64 tokens in and 32 out, and whose they were."""
TODAY = "rules=engines-2026-11"
"""The pack that knows of engines on CPUs."""
HERE = "xinfer/planning/advice.py"
DAY = "2026-11-22"
PLACE = "SmolLM2-135M, one core of an AMD EPYC (Zen 5)"
"""What was measured for the figures that are xinfer's own, and where."""
BATCHES = "llama-batched-bench, Q4_0: 151, 196 and 376 tok/s in batches of 1, 4 and 16"
SPINNING = "llama-bench, Q4_0, one other busy process: 187 tok/s with 1 thread on 2 cores, 11 to 44 with 2"


class Advice(msgspec.Struct, frozen=True, kw_only=True):
    """One choice that costs something, and what to type instead."""

    id: str
    text: str
    """One line: what costs what."""
    override: str
    """The words that apply it; they replace what was typed for the same keys."""
    source: Source


class Case(NamedTuple):
    """A plan, and what it might have been made of instead."""

    job: Job
    launch: LaunchPlan
    family: Family
    day: str | None = None
    """The day whose catalogue is meant; null is any."""
    usual: str | None = None
    """The version that the adapter would have taken; null where it did."""

    def published(self, *, format: str, quantization: str | None = None) -> Spec | None:  # noqa: A002 -- as in Spec
        """Return another artefact of the same size on the same hub; null where there is none."""
        own = self.job.spec
        for spec in self.family.specs(self.day):
            if (spec.size, spec.hub, spec.format) == (own.size, own.hub, format) and quantization in (
                None,
                spec.quantization,
            ):
                return spec
        return None


def measured(at: str, where: str, title: str = PLACE) -> Source:
    """Return the source of figures that were measured with xinfer, or for it."""
    return Source(kind="xinfer", title=f"measured: {title}", date=DAY, where=where, at=at)


def given(engine: Engine, case: Case) -> tuple[Advice, ...]:
    """Return what is known against a plan: by the adapter, if it has a method for that, and of any engine's."""
    own = getattr(engine, "advice", None)
    return (*(own(case) if own else ()), *general(case))


def general(case: Case) -> Iterator[Advice]:
    """Yield what may be said of any engine's plan."""
    yield from _threads(case)
    yield from _slots(case)
    yield from _context(case)
    yield from _gpus(case)
    yield from _old(case)


def _threads(case: Case) -> Iterator[Advice]:
    cores, asked = case.job.hardware.cores, case.job.settings.get("threads")
    free = max(1, (cores or 1) - 1)
    if case.launch.device == "cpu" and cores is not None and isinstance(asked, int) and asked > free:
        yield Advice(
            id="threads-over-cores",
            text=f"{asked} threads for {cores} cores, one of which the load client keeps: one that spins at a "
            "barrier stops the one it waits for",
            override=f"engine.threads={free}",
            source=measured(SPINNING, HERE),
        )


def _slots(case: Case) -> Iterator[Advice]:
    slots, at_once = case.job.settings.get("slots"), case.job.workload.concurrency
    if isinstance(slots, int) and slots < at_once:
        yield Advice(
            id="too-few-slots",
            text=f"{at_once} requests are in flight and {slots} are served at once: the others wait, and weights are "
            "read for fewer tokens at a time",
            override="engine.slots=null",
            source=measured(BATCHES, HERE),
        )


def _context(case: Case) -> Iterator[Advice]:
    job, memory = case.job, case.launch.memory
    need, kv = job.workload.input_tokens + job.workload.output_tokens, memory.kv_gib
    if kv is None or job.context_length <= max(MUCH * need, MUCH * STEP):
        return
    if memory.fits is False or kv > (memory.available_gib or math.inf) * LARGE:
        enough = -(-need // STEP) * STEP
        yield Advice(
            id="context-unused",
            text=f"the cache takes {kv:g} GiB for contexts of {job.context_length} tokens, of which workload "
            f"{job.workload.name} uses {need}",
            override=f"context_length={enough}",
            source=Source(
                kind="xinfer", title="the memory lines of this plan", date=DAY, where="xinfer/planning/memory.py"
            ),
        )


def _old(case: Case) -> Iterator[Advice]:
    version = case.launch.version
    if version is None or case.usual is None:
        return
    asked, usual = _numbers(version), _numbers(case.usual)
    if asked and usual and asked < usual:
        yield Advice(
            id="old-engine",
            text=f"version {version} is older than {case.usual}, which the adapter was written for and measured with",
            override="engine.version=null",
            source=Source(
                kind="xinfer",
                title="xinfer, its plugins",
                date=DAY,
                where=f"plugins/{case.launch.engine}/requirements.yaml",
            ),
        )


def _numbers(version: str) -> tuple[int, ...]:
    """Return a release's numbers; none of what is no plain release."""
    return tuple(map(int, version.split("."))) if re.fullmatch(r"\d+(\.\d+)*", version) else ()


def _gpus(case: Case) -> Iterator[Advice]:
    here, nodes, least = case.job.hardware.gpus or 0, case.job.hardware.nodes, case.launch.memory.least_gpus
    gpus, used = here * nodes, case.launch.tensor * case.launch.stages
    split = Source(kind="xinfer", title="the split of this plan", date=DAY, where="xinfer/planning/parallel.py")
    if nodes > 1 and least is not None and least <= here:
        yield Advice(
            id="one-machine",
            text=f"one machine holds it, with {least} of its {here} GPUs: a server on each answers sooner, and more",
            override="hw.nodes=1",
            source=split,
        )
    elif case.launch.device == "gpu" and gpus > used:
        yield Advice(
            id="idle-gpus",
            text=f"{used} of {gpus} GPUs {'is' if used == 1 else 'are'} used: plan for as many, and start further "
            "servers on the others",
            override=f"hw.gpus={used // nodes}",
            source=split,
        )


def wide_numbers(case: Case, on_cpu: str) -> Iterator[Advice]:
    """Yield a word on float32 where the machine computes in 16 bits; ``on_cpu`` says what that was measured to cost."""
    if case.launch.dtype != "float32" or case.job.dtype != "float32":
        return
    on_gpu = case.launch.device == "gpu"
    if on_gpu or computes_in_bfloat16(case.job.hardware):
        yield Advice(
            id="wide-numbers",
            text="float32 has twice the bytes of 16 bits, and decoding waits for bytes"
            + ("" if on_gpu else "; this CPU has instructions for bfloat16"),
            override="dtype=null",
            source=Source(
                kind="page",
                title="Pope et al., Efficiently Scaling Transformer Inference",
                date="2022-11",
                where="arxiv.org/abs/2211.05102",
                at="section 2",
            )
            if on_gpu
            else measured(on_cpu, f"plugins/{case.launch.engine}/advice.py"),
        )


def computes_in_bfloat16(hardware: Hardware) -> bool:
    """Say whether a CPU is known to have instructions for bfloat16."""
    return not BFLOAT16.isdisjoint(hardware.isa or ())


def narrow_cache(case: Case, override: str, source: Source) -> Iterator[Advice]:
    """Yield a word on a cache of eight bits, where memory does not suffice and then would.

    It is for memory alone: reading such a cache may be slower.
    """
    memory, has = case.launch.memory, case.launch.memory.available_gib
    if memory.fits is not False or memory.kv_gib is None or has is None:
        return
    narrow = (memory.weights_gib or 0) + (memory.overhead_gib or 0) + memory.kv_gib * HALF
    if narrow <= has:
        yield Advice(
            id="narrow-cache",
            text=f"the plan does not fit into {has:g} GiB; with keys and values in 8 bits its known parts are "
            f"{narrow:.1f} GiB",
            override=override,
            source=source,
        )


def prompts_forgotten(case: Case, override: str, source: Source) -> Iterator[Advice]:
    """Yield a word on a prefix cache that was switched off for a workload whose prompts begin alike."""
    share = case.job.workload.shared_prefix
    if share:
        yield Advice(
            id="prompts-forgotten",
            text=f"{share:.0%} of each prompt is that of all others, and is computed again for each".replace("%", " %"),
            override=override,
            source=source,
        )


def slow_engine(case: Case, tps: tuple[float, float, float]) -> Iterator[Advice]:
    """Yield a word on an engine that another outruns on a CPU; ``tps`` is what it gave with 1, 4 and 16 at once."""
    job, column = case.job, sum(case.job.workload.concurrency > most for most in (2, 8))
    is_small = job.spec.parameters_b is not None and job.spec.parameters_b <= SMALL_B
    if case.launch.device != "cpu" or not is_small or job.settings.get("python") or job.settings.get("args"):
        return
    name, format_, (best, why) = (
        ("llama_cpp", "ggufv2", FASTEST[0]) if not column else ("vllm", "pytorch", FASTEST[column])
    )
    able = computes_in_bfloat16(job.hardware) if column else True
    dtype = "" if job.dtype is None else "dtype=null "
    if able and case.published(format=format_) is not None:
        yield Advice(
            id="slow-engine",
            text=f"{why} at once gave {best / tps[column]:.1f} times the tokens on a CPU",
            override=f"engine={name} model.format={format_} model.quantization=null {dtype}{TODAY}",
            source=measured(f"the five engines by their plans: {best:g} tok/s against {tps[column]:g}", HERE),
        )


def is_since(gpu: Gpu, capability: tuple[int, int]) -> bool:
    """Say whether an NVIDIA GPU is known to have a compute capability."""
    known = gpu.compute_capability
    return known is not None and tuple(map(int, known.split("."))) >= capability
