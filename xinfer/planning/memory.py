"""How much memory an artefact needs on a machine: weights, key-value cache, overhead; each with its formula.

All figures are about one device: main memory, or each of the GPUs that share a network. A part that cannot be known is
null, never zero. ``fits`` is false as soon as the known parts alone exceed what is available, and true only when every
part is known. An overhead that is known within bounds counts with its least for the one, with its most for the other.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal, NamedTuple

from xinfer.plan import Memory
from xinfer.planning import bits, cache
from xinfer.planning.cache import WHOLE, Place, Widths

if TYPE_CHECKING:
    from xinfer.catalog import Spec
    from xinfer.facts import Hardware
    from xinfer.planning.bits import Weights

GIB = 1024**3
SPARE = 0.9
"""The share of a device that the known parts may take where it is not known what an engine needs beside them."""
Device = Literal["cpu", "gpu"]
bits_per_weight = bits.per_weight
_NOTHING = Memory()


class Demand(NamedTuple):
    """What is asked of the memory of one device."""

    length: int
    """Tokens of one sequence."""
    sequences: int = 1
    dtype: str | None = None
    """What the network is computed in; null where its files say it."""
    widths: Widths = Widths()
    """The types of the cache."""
    place: Place = WHOLE


def available(hardware: Hardware, device: Device) -> float | None:
    """Return the memory that a model may use, in GiB: of one GPU, or main memory."""
    if device == "cpu" or hardware.gpu.vendor == "apple":
        return hardware.memory_gib
    return None if hardware.gpus is None else hardware.gpu.memory_gib


def together(hardware: Hardware, device: Device) -> float | None:
    """Return the memory of all GPUs together, or main memory."""
    has = available(hardware, device)
    shared = device == "cpu" or hardware.gpu.vendor == "apple"
    return has if has is None or shared else has * (hardware.gpus or 1)


def device_of(hardware: Hardware) -> Device:
    """Return where a model runs when nothing else decides: on the GPUs if there are any."""
    return "gpu" if hardware.gpus else "cpu"


def known_gib(spec: Spec, demand: Demand) -> float:
    """Return what weights and cache take on one device at least, in GiB; what is not known counts as nothing."""
    size = weights_of(spec, demand).bytes or 0.0
    kept = cache.size(spec.shape, demand.length, demand.sequences, demand.widths, demand.place) or 0.0
    return (size + kept) / GIB


def holds(spec: Spec, demand: Demand, has: float | None, overhead_gib: float | None = None) -> bool | None:
    """Say whether ``has`` GiB hold a network's part; null where its size or theirs is not known.

    ``overhead_gib`` is the most that it may be. Where it is not known, a part of the memory is left for it.
    """
    if has is None:
        return None
    if known_gib(spec, demand) + (overhead_gib or 0.0) > has * (SPARE if overhead_gib is None else 1.0):
        return False
    kept = cache.size(spec.shape, demand.length, demand.sequences, demand.widths, demand.place)
    return None if kept is None or weights_of(spec, demand).bytes is None else True


def weights_of(spec: Spec, demand: Demand) -> Weights:
    """Return the size of the weights on one device: its part of each layer, and of the layers those of its stage."""
    whole = bits.weights(spec, demand.dtype)
    tensor, stages = demand.place
    if whole.bytes is None or tensor * stages == 1:
        return whole
    layers = spec.shape.layers or stages
    dealt = math.ceil(layers / stages)
    part = "" if stages == 1 else f", {dealt} of {layers} layers" if spec.shape.layers else f", one of {stages} stages"
    shared = f", one of {tensor} GPUs" if tensor > 1 else ""
    return bits.Weights(whole.bytes * dealt / layers / tensor, f"{whole.formula}{part}{shared}")


def estimate(  # noqa: PLR0913 -- all that an estimate depends on, by name
    spec: Spec,
    hardware: Hardware,
    *,
    tokens: int,
    device: Device,
    dtype: str | None = None,
    overhead_gib: float | None = None,
    overhead_why: str = "not measured for this engine",
    sequences: int = 1,
    widths: Widths | None = None,
    place: Place = WHOLE,
    given: Memory = _NOTHING,
) -> Memory:
    """Estimate the memory for ``tokens`` tokens of key-value cache over all sequences.

    The cache takes 16 bits for each number, or 32 where the network is computed in float32, unless ``widths`` say
    otherwise. ``given`` has what the engine fixes itself: the cache that it sets aside, the share that it takes, and
    the least of an overhead of which ``overhead_gib`` is the most.
    """
    own = cache.widths((), dtype) if widths is None else widths
    demand = Demand(max(tokens, 0) // max(sequences, 1), max(sequences, 1), dtype, own, place)
    weights = weights_of(spec, demand)
    kept = cache.size(spec.shape, demand.length, demand.sequences, demand.widths, place)
    formula = {
        "weights_gib": weights.formula,
        "kv_gib": cache.formula(spec.shape, demand.length, demand.sequences, demand.widths, place),
        "overhead_gib": overhead_why,
        "available_gib": where(hardware, device, place),
    }
    kv_gib = given.kv_gib if given.kv_gib is not None else None if kept is None else kept / GIB
    has = given.available_gib if given.available_gib is not None else available(hardware, device)
    weights_gib = None if weights.bytes is None else weights.bytes / GIB
    longest = _longest(spec, demand, weights_gib, overhead_gib, has)
    formula |= {"largest_context": _longest_why(spec, demand, longest, overhead_gib)} if longest is not None else {}
    parts = (weights_gib, kv_gib, overhead_gib)
    total = None if None in parts else sum(part for part in parts if part is not None)
    least_gib = overhead_gib if given.least_overhead_gib is None else given.least_overhead_gib
    least = sum(part for part in (weights_gib, kv_gib, least_gib) if part is not None)
    return Memory(
        weights_gib=_rounded(weights_gib), kv_gib=_rounded(kv_gib), overhead_gib=_rounded(overhead_gib),
        least_overhead_gib=_rounded(given.least_overhead_gib),
        total_gib=_rounded(total), available_gib=_rounded(has), largest_context=longest, least_gpus=given.least_gpus,
        fits=None if has is None else _fits(least, total, has), formula=formula | given.formula,
    )  # fmt: skip


def _fits(least: float, total: float | None, has: float) -> bool | None:
    """Say whether what is known fits; null where it may or may not."""
    if least > has:
        return False
    return True if total is not None and total <= has else None


def where(hardware: Hardware, device: Device, place: Place) -> str:
    """Name the device; one whose memory is not known is said to be so."""
    gpu, used = hardware.gpu.name or "GPU", place.tensor * place.stages
    machines = f"{hardware.nodes} x " if hardware.nodes > 1 else ""
    named = "main memory" if device == "cpu" else gpu if hardware.gpus is None else f"{machines}{hardware.gpus} x {gpu}"
    if available(hardware, device) is None:
        return f"not known for {named}"
    total = (hardware.gpus or 1) * hardware.nodes
    if device == "cpu" or total == 1:
        return named
    if used == total:
        return f"each of {named}"
    return f"one of {named}" if used == 1 else f"each of {used} of {named}"


def _longest(
    spec: Spec, demand: Demand, weights_gib: float | None, overhead_gib: float | None, has: float | None
) -> int | None:
    """Return how long each of the sequences can be; null where a size is not known."""
    if has is None or weights_gib is None:
        return None
    room = (has - weights_gib - (overhead_gib or 0.0)) * GIB
    found = cache.longest(spec.shape, room, demand.sequences, demand.widths, demand.place)
    most = spec.context_length if spec.context_length is not None else math.inf
    return None if found is None or min(found, most) == math.inf else int(min(found, most))


def _longest_why(spec: Spec, demand: Demand, longest: int, overhead_gib: float | None) -> str:
    for_each = f"for each of {demand.sequences} sequences" if demand.sequences > 1 else "for one sequence"
    if longest == spec.context_length:
        return f"{for_each}: all that the model was made for"
    unless = "" if overhead_gib is not None else ", less what the overhead takes, which is not known"
    return f"{for_each}, in what the weights and the overhead leave{unless}"


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)
