"""The least time that a step and a prompt of a plan can take: the roofline of its machine.

A step that gives each of N sequences one token reads the weights and N caches; it takes at least

    bytes / bandwidth, or operations / peak where that is longer,

and a prompt at least operations / peak. Bytes and operations are those of :mod:`xinfer.measuring.work`, and
:mod:`xinfer.measuring.roofline` has the sources.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

import msgspec

from xinfer.measuring import roofline, work

if TYPE_CHECKING:
    from xinfer.catalog import Spec
    from xinfer.facts import Hardware
    from xinfer.plan import LaunchPlan

SIXTEEN = ("bfloat16", "float16")
PLAIN = {"pytorch", "gptq", "awq", "mlx"}
"""Formats that a GPU multiplies in 16 bits, if nothing else is said."""


class Tops(msgspec.Struct, frozen=True, kw_only=True):
    """What one device of a machine can do at most; null and missing where it is not known."""

    bandwidth: float | None = None
    """Bytes read from memory per second."""
    flops: dict[str, float] = {}
    """Operations per second, by the type of the numbers that are multiplied."""
    source: Literal["measured", "published"] = "measured"


class Load(NamedTuple):
    """What is asked of a server while it computes."""

    batch: float
    """Sequences that get a token in each step."""
    prompt: float
    """Tokens of a prompt that are computed."""
    output: float
    length: float
    """Tokens that a sequence has on average while it grows."""


class Plan(NamedTuple):
    """What is computed, and on what."""

    spec: Spec
    launch: LaunchPlan
    tops: Tops
    load: Load


class Least(NamedTuple):
    """The least time that something takes on a machine."""

    seconds: float | None
    amount: float = 0.0
    """Bytes of a step, or operations of a prompt."""
    formula: str = ""
    is_sure: bool = True
    """Whether nothing is faster: not where the peak is that of another type of numbers."""
    why: str = ""
    """Why it is not known."""


def published(hardware: Hardware, launch: LaunchPlan) -> Tops:
    """Return what is published of the device that a plan uses."""
    gpu, on_gpu = hardware.gpu, launch.device == "gpu"
    gbs, peak = (gpu.bandwidth_gbs, gpu.tflops_16bit) if on_gpu else (hardware.bandwidth_gbs, None)
    flops = {} if peak is None else dict.fromkeys(SIXTEEN, peak * 1e12)
    return Tops(bandwidth=None if gbs is None else gbs * 1e9, flops=flops, source="published")


def step(plan: Plan) -> Least:
    """Return the least time of a step: all bytes are read, and all operations computed."""
    weights, batch = work.weights(plan.spec, None, plan.launch.dtype), plan.load.batch
    if isinstance(weights, str):
        return Least(None, why=weights)
    kv = work.kv_bytes(plan.spec.shape, plan.load.length, roofline.cache_width(plan.launch))
    if kv is None:
        return Least(None, why="the network's layers, kv heads or head size are not published")
    if plan.tops.bandwidth is None:
        memory = "the GPU's memory" if plan.launch.device == "gpu" else "main memory"
        return Least(None, why=f"the bandwidth of {memory} is not known")
    amount = weights.read_bytes(batch) + batch * kv
    waits_for_memory = _least(amount, plan.tops.bandwidth, "B", plan)
    peak, is_own = _peak(plan)
    if peak is None or not is_own or weights.active is None:
        return waits_for_memory
    computes = _least(2 * (weights.active + weights.head_parameters) * batch, peak, "FLOP", plan)
    longer = max(waits_for_memory, computes, key=lambda least: least.seconds or 0.0)
    return longer._replace(amount=amount)


def prompt(plan: Plan) -> Least:
    """Return the least time of a prompt: all operations are computed."""
    weights = work.weights(plan.spec, None, plan.launch.dtype)
    if isinstance(weights, str):
        return Least(None, why=weights)
    flops, (peak, is_own) = work.prefill_flops(weights, plan.spec.shape, plan.load.prompt), _peak(plan)
    if flops is None or peak is None:
        return Least(None, why="the peak of matrix products is not known")
    return _least(flops, peak, "FLOP", plan)._replace(is_sure=is_own)


def cycle(plan: Plan) -> Least:
    """Return the least time in which each sequence of a batch has its prompt read and its output written.

    Prompts wait for arithmetic while outputs wait for memory, so that at best one hides behind the other.
    """
    steps, one = step(plan), prompt(plan)
    if steps.seconds is None:
        return steps
    outputs = steps._replace(
        seconds=steps.seconds * plan.load.output, formula=f"{plan.load.output:g} steps of {steps.formula}"
    )
    if one.seconds is None or not one.is_sure:
        return outputs
    prompts = one._replace(
        seconds=one.seconds * plan.load.batch, formula=f"{plan.load.batch:g} prompts of {one.formula}"
    )
    return max(outputs, prompts, key=lambda least: least.seconds or 0.0)._replace(amount=steps.amount)


def _least(amount: float, rate: float, unit: str, plan: Plan) -> Least:
    """Return how long an amount takes where all devices that share a layer work on it."""
    together = rate * roofline.devices(plan.launch)
    formula = f"{_metric(amount)}{unit} / {_metric(together)}{unit}/s {plan.tops.source}"
    return Least(amount / together, amount, formula)


def _peak(plan: Plan) -> tuple[float | None, bool]:
    """Return the peak of the numbers that are multiplied, else that of others, and whether it is their own."""
    own, flops = roofline.own_dtype(plan.spec, plan.launch), plan.tops.flops
    if own == "int8" and plan.launch.device == "gpu" and plan.spec.format in PLAIN:
        own = SIXTEEN[0]
    name = next((dtype for dtype in (own, "float32", *SIXTEEN) if dtype in flops), None)
    return (None, False) if name is None else (flops[name], name == own)


def _metric(value: float) -> str:
    """Write an amount with a metric prefix, as in 98.6 M."""
    for factor, prefix in ((1e15, "P"), (1e12, "T"), (1e9, "G")):
        if value >= factor:
            return f"{value / factor:.3g} {prefix}"
    return f"{value / 1e6:.3g} M"
