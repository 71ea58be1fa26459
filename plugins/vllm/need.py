"""What vLLM needs of a GPU beside weights and cache: between a least and a bound that published runs kept.

Before vLLM sizes the cache it computes the largest batch that it will ever form. It leaves room for what PyTorch held
at most, for what CUDA and the connections between GPUs took, and for CUDA graphs, whose size it estimates
(``v1/worker/gpu_worker.py``; the estimate is subtracted since 0.21). Formulas are those of its code, 0.33.0.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from xinfer import versions
from xinfer.planning import spread

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from xinfer.catalog import Shape, Spec
    from xinfer.engines import Job
    from xinfer.facts import Gpu
    from xinfer.planning.cache import Place

GIB = 1024**3
RUNS, NEEDED = 42, (43, 92)
"""How many runs were published of what is bounded here, and the parts of the bound that they needed, in per cent:
``tests/published_memory.yaml`` lists each with its address, and a test computes these figures from it."""
CONTEXT_GIB, CONTEXT_OF_MANY_GIB, GRAPHS_GIB = 0.46, 2.21, 1.92
"""The most of those runs: CUDA on one GPU, CUDA and NCCL on each of several that share layers, CUDA graphs."""
HIDDEN_GIB = 0.81
"""The most that CUDA had less than the GPU's nominal memory, of which vLLM is taken to have its share."""
LEAST_CONTEXT_GIB = 0.04
"""The least of those runs and of older ones."""
SAMPLING = 13
"""Bytes for each logit while it is sampled, beside the logit itself: three arrays of float32 and a mask
(``v1/sample/sampler.py``; no more than that in ``v1/worker/gpu/sample/sampler.py``, which has followed it)."""
PENALTIES = 4.125
"""Bytes that are kept for each logit: a count of 32 bits and a mask of one (``v1/worker/gpu/sample/penalties.py``)."""
VECTORS = 8
"""Arrays of the hidden size that are alive at once: at most 4.3 in the runs of one stage, 7.1 in those of several."""
SINCE = "0.17"
"""The first version that samples without sorting all logits, which took 39 bytes for each."""
FORMATS = ("pytorch", "gptq", "awq", "fp8", "compressed-tensors")
LARGE_GIB, HUGE_GIB = 70, 160
"""From which size on a GPU gets larger batches (``EngineArgs.get_batch_defaults``)."""
MOST_GPUS = 8
CAPABILITIES = ("8", "9", "12")
"""Generations of GPUs of which runs are published."""
CHANGING = ("compilation-config", "enable-lora", "performance-mode", "speculative-config")
"""Flags that change what is measured."""
NOT_KNOWN = "vLLM measures it when it starts; no bound is known"


class Batch(NamedTuple):
    """The largest that vLLM forms."""

    tokens: int
    sequences: int
    is_captured: bool = True
    """Whether CUDA graphs are made."""


class Need(NamedTuple):
    """What one GPU must have beside weights and cache, in GiB; null where that is not known."""

    most: float | None
    least: float | None
    why: str


def of(job: Job, version: str | None, dtype: str | None, slots: int | None, place: Place) -> Need:
    """Return the need of a plan that serves ``slots`` at once, or as many as vLLM chooses."""
    reason = next(_reasons(job, version, place), None)
    if reason is not None:
        return Need(None, None, f"{NOT_KNOWN} {reason}")
    return bounds(job.spec.shape, batch(job, slots), 4 if dtype == "float32" else 2, place)


def batch(job: Job, slots: int | None) -> Batch:
    """Return the largest batch by the user's flags, else by the GPU's size and name, as vLLM chooses it."""
    gpu, flags = job.hardware.gpu, spread.flags_of(job.settings)
    is_large = (gpu.memory_gib or 0) >= LARGE_GIB and "a100" not in (gpu.name or "").lower()
    tokens, sequences = (8192, 1024) if is_large else (2048, 256)
    sequences = _count(flags, "max-num-seqs") or slots or sequences
    tokens = _count(flags, "max-num-batched-tokens") or min(tokens, sequences * job.context_length)
    return Batch(tokens, min(sequences, tokens), not flags.get("enforce-eager"))


def bounds(shape: Shape, largest: Batch, width: int, place: Place) -> Need:
    """Return the need for a batch; ``width`` are the bytes of one number that the network computes with."""
    hidden, inner, vocab = shape.hidden or 0, shape.intermediate or 0, shape.vocab or 0
    tokens, sequences, is_captured = largest
    logits = sequences * vocab
    layer = tokens * (3 * inner / place.tensor + VECTORS * hidden) * width
    sampling = logits * (SAMPLING + width) + (tokens + sequences) * hidden * width
    shared = f" / {place.tensor} GPUs" if place.tensor > 1 else ""
    formula = f"{tokens} tokens x (3 x {inner}{shared} + {VECTORS} x {hidden}) x {width} bytes"
    if sampling > layer:
        kept = f"{tokens + sequences} x {hidden} x {width}"
        formula = f"{sequences} x {vocab} logits x {SAMPLING + width} bytes + {kept}"
    held = (max(layer, sampling) + logits * PENALTIES) / GIB
    context = CONTEXT_GIB if place.tensor == 1 else CONTEXT_OF_MANY_GIB
    graphs = GRAPHS_GIB if is_captured else 0.0
    least = tokens * (inner / place.tensor + hidden) * width / GIB + LEAST_CONTEXT_GIB
    runs = f"{RUNS} published runs of vLLM 0.19.0 on H100s needed {NEEDED[0]} to {NEEDED[1]} % of it"
    why = (
        f"an estimated upper bound: {held:.2f} GiB of activations, {formula}, and {PENALTIES} bytes for each of "
        f"{sequences} x {vocab} logits; {context} of CUDA, {graphs} of CUDA graphs and {HIDDEN_GIB} that CUDA has "
        f"not of the GPU, the most that was published; {runs}; {least:.2f} is the least"
    )
    return Need(held + context + graphs + HIDDEN_GIB, least, why)


def _reasons(job: Job, version: str | None, place: Place) -> Iterator[str]:
    """Yield why there is no bound."""
    flags = spread.flags_of(job.settings)
    outside = versions.Bounds(since=versions.read(SINCE), until=None).outside(version)
    if outside is not False:
        yield f"of version {version}: it samples in other ways" if outside else "of an unknown version"
    yield from _of_gpu(job.hardware.gpu)
    if job.hardware.nodes > 1 or place.tensor > MOST_GPUS or (place.tensor > 1 and place.stages > 1):
        yield "for such a split: no run is published"
    yield from _of_network(job.spec)
    for flag in CHANGING:
        if flags.get(flag):
            yield f"with engine.args.{flag}, which changes it"
    for flag in ("max-num-seqs", "max-num-batched-tokens"):
        if flags.get(flag) is not None and not _count(flags, flag):
            yield f"with engine.args.{flag}={flags[flag]}, which is no whole number"


def _of_gpu(gpu: Gpu) -> Iterator[str]:
    if gpu.memory_gib is None or gpu.name is None:
        yield "of a GPU without a name and a size: vLLM chooses its batches by them"
        return
    generation, _, _ = (gpu.compute_capability or "").partition(".")
    is_like = gpu.vendor == "nvidia" and generation in CAPABILITIES and gpu.memory_gib < HUGE_GIB
    if not is_like or "gb10" in gpu.name.lower():
        yield "of such a GPU: no run on one is published"


def _of_network(spec: Spec) -> Iterator[str]:
    shape = spec.shape
    if spec.format not in FORMATS or (spec.format == "pytorch" and spec.quantization not in {None, "none"}):
        yield f"of {spec.format} {spec.quantization}: no run is published"
    if shape.experts is not None:
        yield "of mixtures of experts: it has estimated their CUDA graphs at up to 119 GiB (vLLM #53013)"
    is_plain = shape.kv_lora_rank is None and shape.caching_layers is None and "vision" not in spec.abilities
    if not is_plain or not (shape.architecture or "").endswith("ForCausalLM"):
        yield "of other networks than text decoders with plain attention in every layer"
    if None in (shape.hidden, shape.intermediate, shape.vocab):
        yield "of a network whose hidden size, inner size or vocabulary is not published"


def _count(flags: Mapping[str, object], flag: str) -> int | None:
    """Return a flag's whole number; null where it is none."""
    value = flags.get(flag)
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None
