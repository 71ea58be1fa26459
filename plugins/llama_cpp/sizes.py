"""What llama.cpp holds beside the weights: the cells of its caches, activations and the program."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from xinfer.plan import Memory
from xinfer.planning import cache, memory
from xinfer.planning.cache import Place

if TYPE_CHECKING:
    from collections.abc import Mapping

    from xinfer.catalog import Shape
    from xinfer.engines import Job
    from xinfer.planning.parallel import Holds, Split

    from .settings import Settings

BATCH = 512
"""Tokens that are computed at once (--ubatch-size), unless the user says otherwise."""
PROGRAM_GIB = 0.06
"""llama-server without model, cache and activations; resident, measured with xllamacpp 2026.10.11549 on Linux."""
MARGIN_GIB = 1.0
"""What llama.cpp itself leaves free on each GPU where it fits a model to the memory (``--fit-target``)."""
PADDED = 256
"""Caches have whole multiples of so many cells."""
WINDOWED = frozenset(
    {
        *("Gemma2ForCausalLM", "Gemma3ForCausalLM", "Gemma3ForConditionalGeneration", "Cohere2ForCausalLM"),
        *("GptOssForCausalLM", "Exaone4ForCausalLM"),
    }
)
"""Networks whose windows it knows (``llama_kv_cache_iswa``); of all others, as of Mistral, each layer keeps all."""


def memory_of(job: Job, flags: Mapping[str, object], settings: Settings, split: Split, *, on_gpu: bool) -> Memory:
    """Return what llama.cpp sets aside for its slots, and what it needs besides, on each device."""
    length, slots = job.context_length, settings.slots or job.workload.concurrency
    kept, widths = _kept(job.spec.shape, length), _widths(settings, flags)
    cells = -(-length // PADDED) * PADDED
    size = cache.size(kept, cells, slots, widths, split.place)
    overhead, why = _overhead(job.spec.shape, on_gpu=on_gpu)
    formula = {"overhead_gib": why} if why else {}
    if size is not None:
        formula["kv_gib"] = cache.formula(kept, cells, slots, widths, split.place)
    return Memory(
        overhead_gib=overhead, kv_gib=None if size is None else size / 2**30, least_gpus=split.least, formula=formula
    )


def holder(job: Job, settings: Settings, flags: Mapping[str, object]) -> Holds:
    """Return what says whether each of some GPUs holds its layers."""
    spec = msgspec.structs.replace(job.spec, shape=_kept(job.spec.shape, job.context_length))
    slots, has = settings.slots or job.workload.concurrency, memory.available(job.hardware, "gpu")
    widths = _widths(settings, flags)

    def holds(place: Place) -> bool | None:
        demand = memory.Demand(job.context_length, slots, None, widths, place)
        return memory.holds(spec, demand, has, _overhead(spec.shape, on_gpu=True)[0])

    return holds


def _kept(shape: Shape, length: int) -> Shape:
    """Return the shape of what is kept: a window and one batch, where windows are known, and else everything."""
    if shape.architecture not in WINDOWED or shape.sliding_window is None:
        return msgspec.structs.replace(shape, sliding_window=None)
    cells = -(-(shape.sliding_window + BATCH) // PADDED) * PADDED
    return msgspec.structs.replace(shape, sliding_window=min(cells, -(-length // PADDED) * PADDED))


def _widths(settings: Settings, flags: Mapping[str, object]) -> cache.Widths:
    own = {"cache-type-k": settings.cache_type_k, "cache-type-v": settings.cache_type_v}
    given = {name: value for name, value in (own | dict(flags)).items() if value is not None}
    return cache.widths(cache.words(given), None)


def _overhead(shape: Shape, *, on_gpu: bool) -> tuple[float | None, str]:
    """Return what is needed besides weights and cache; null where the network's width is not known.

    llama.cpp reports 17.5 MiB of activations for SmolLM2-135M (18.0 here) and 23.3 for Gemma-3-270M (24.0 here).
    """
    width = shape.intermediate
    if width is None:
        return None, ""
    activations = BATCH * 6 * width * 4 / 2**30
    text = f"the activations of {BATCH} tokens: {BATCH} x 6 x {width} x 4 bytes"
    if not on_gpu:
        return PROGRAM_GIB + activations, f"{PROGRAM_GIB} GiB of program, and {text}"
    margin = f"{MARGIN_GIB:g} GiB that llama.cpp leaves free where it chooses itself (--fit-target), and {text}"
    return MARGIN_GIB + activations, margin
