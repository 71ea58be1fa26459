"""How far a run is from what its machine could do: a roofline of two lines, one for decoding and one for prefill.

Decoding waits for memory. A step gives each of N sequences one token; it takes ``tpot``, and must read W bytes of
weights and, of each sequence, K bytes of keys and values at its mean length:

    bytes per second = (W + N x K) / tpot,    N = output_tps x tpot, and 1 at least

``W`` and ``K`` are what :mod:`xinfer.measuring.work` says must be read, so that the quotient by the measured bandwidth
is at most 1, unless a part of the weights stays in a cache. Prefill waits for arithmetic:

    operations per second = (2 x (P x T + H) + 4 x layers x heads x head_dim x T x T / 2) / ttft

for T prompt tokens, P weights that take part and H weights of the head, over the measured speed of matrix products.
Where several requests are in flight, ``ttft`` holds the waiting for others too, and the share is a lower bound.

Sources: Williams, Waterman and Patterson, Roofline, CACM 52(4), 2009; Pope et al., Efficiently Scaling Transformer
Inference, 2022; Chowdhery et al., PaLM, 2022, appendix B; N is Little's law.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Literal, NamedTuple

import msgspec

from xinfer.measuring import work

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from xinfer.catalog import Spec
    from xinfer.measuring.ceilings import Ceilings
    from xinfer.measuring.metrics import Metrics
    from xinfer.measuring.samples import Sample
    from xinfer.measuring.work import Tensor
    from xinfer.plan import LaunchPlan

_GIGA = 1e9
_ALONE = 1.05
"""Up to this many sequences at once, a request waits for no other's prompt."""
_DEVICE_FLAGS = ("--tensor-parallel-size", "--tp-size", "--tp")
_CACHE_FLAGS = {"--cache-type-k": 1, "--cache-type-v": 1, "--kv-cache-dtype": 2}
"""Flags that say what keys and values are kept in, and how many of the two each is about."""
_CACHE_BITS = {
    "f32": 32.0, "float32": 32.0, "f16": 16.0, "float16": 16.0, "bf16": 16.0, "bfloat16": 16.0, "q8_0": 8.5,
    "q5_1": 6.0, "q5_0": 5.5, "q4_1": 5.0, "q4_0": 4.5, "iq4_nl": 4.5, "fp8": 8.0, "fp8_e4m3": 8.0, "fp8_e5m2": 8.0,
}  # fmt: skip
_DTYPES = {"f32": "float32", "fp16": "float16", "bf16": "bfloat16"}
"""What files are computed in whose quantization is a type of numbers; all other integers are multiplied as int8."""


class Lengths(NamedTuple):
    """Tokens of a request, on average."""

    prompt: float
    cached: float
    """Of the prompt, those that the server had in a cache."""
    output: float


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """How far a run is from its machine's limits; null where facts are missing, and ``notes`` says which."""

    decode_share: float | None = None
    """Of the memory's bandwidth."""
    decode_bytes_per_s: float | None = None
    """What decoding must have read."""
    bandwidth: float | None = None
    """The ceiling: bytes per second of all devices that share each layer."""
    step_bytes: float | None = None
    weights_bytes: float | None = None
    """Of them, those of weights; the rest are keys and values."""
    batch: float | None = None
    """Sequences that got a token in each step, on average."""
    prefill_share: float | None = None
    """Of the peak; a lower bound where several requests were in flight."""
    prefill_flops_per_s: float | None = None
    prefill_flops: float | None = None
    """Of one prompt."""
    peak_flops: float | None = None
    peak_dtype: str | None = None
    """The type of numbers whose products were measured for the peak."""
    source: Literal["measured", "published"] = "measured"
    """Where the ceiling of bandwidth comes from."""
    text: str = ""
    """The above as one phrase; empty where nothing is known."""
    notes: dict[str, str] = {}


def distance(
    metrics: Metrics,
    spec: Spec,
    launch: LaunchPlan,
    lengths: Lengths,
    ceilings: Ceilings,
    *,
    tensors: Sequence[Tensor] | None = None,
) -> Limits:
    """Return how far a run is from the ceilings of its machine."""
    if launch.engine == "external":
        return Limits(notes={"decode": "what a server reads that xinfer did not start is not known"})
    found = work.weights(spec, tensors, launch.dtype)
    if isinstance(found, str):
        return Limits(notes={"decode": found, "prefill": found})
    notes = {"weights": found.source, **({"ceilings": ceilings.busy} if ceilings.busy else {})}
    run = Run(metrics, spec, launch, lengths, found, ceilings)
    decode, prefill = _decode(run), _prefill(run)
    limits = msgspec.structs.replace(
        decode,
        prefill_share=prefill.prefill_share,
        prefill_flops_per_s=prefill.prefill_flops_per_s,
        prefill_flops=prefill.prefill_flops,
        peak_flops=prefill.peak_flops,
        peak_dtype=prefill.peak_dtype,
        notes=notes | decode.notes | prefill.notes,
    )
    return msgspec.structs.replace(limits, text=phrase(limits))


def lengths(samples: Iterable[Sample], *, prompt: int, output: int) -> Lengths:
    """Return the mean lengths of the requests that succeeded, by the server's count; else what was asked for."""
    fine = [sample for sample in samples if sample.error is None]

    def mean(values: list[int | None], otherwise: float) -> float:
        known = [value for value in values if value is not None]
        return sum(known) / len(known) if known else otherwise

    return Lengths(
        prompt=mean([sample.prompt_tokens for sample in fine], prompt),
        cached=mean([sample.cached_tokens for sample in fine], 0),
        output=mean([sample.completion_tokens for sample in fine], output),
    )


class Run(NamedTuple):
    """All that a distance is computed from."""

    metrics: Metrics
    spec: Spec
    launch: LaunchPlan
    lengths: Lengths
    weights: work.Weights
    ceilings: Ceilings


def _decode(run: Run) -> Limits:
    tpot = run.metrics.tpot.p50 if run.metrics.tpot else None
    rate = run.metrics.output_tps if run.metrics.output_tps is not None else run.metrics.output_tps_full
    if not tpot or rate is None:
        return Limits(notes={"decode": "the run has no time per token, or no tokens per second"})
    kv = work.kv_bytes(run.spec.shape, run.lengths.prompt + run.lengths.output / 2, cache_width(run.launch))
    if kv is None:
        return Limits(notes={"decode": "the network's layers, kv heads or head size are not published"})
    batch = max(1.0, rate * tpot)
    weights_bytes = run.weights.read_bytes(batch)
    step = weights_bytes + batch * kv
    limits = Limits(decode_bytes_per_s=step / tpot, step_bytes=step, weights_bytes=weights_bytes, batch=batch)
    if run.ceilings.bandwidth is None:
        why = run.ceilings.notes.get("bandwidth", "it could not be measured")
        return msgspec.structs.replace(limits, notes={"bandwidth": why})
    bandwidth = run.ceilings.bandwidth * devices(run.launch)
    share = step / tpot / bandwidth
    notes = {"bandwidth": "more than its ceiling: weights stay in a cache, or it was measured too low"}
    return msgspec.structs.replace(
        limits,
        decode_share=share,
        bandwidth=bandwidth,
        source=run.ceilings.source,
        notes=notes if share > 1 else {},
    )


def _prefill(run: Run) -> Limits:
    ttft = run.metrics.ttft.p50 if run.metrics.ttft else None
    if not ttft:
        return Limits(notes={"prefill": "the run has no time to the first token"})
    flops = work.prefill_flops(run.weights, run.spec.shape, run.lengths.prompt - run.lengths.cached)
    if flops is None:
        return Limits(notes={"prefill": "the number of weights, or the network's heads, are not known"})
    dtype, why = _peak(run)
    notes = {"prefill": why} if why else {}
    limits = Limits(prefill_flops=flops, prefill_flops_per_s=flops / ttft, peak_dtype=dtype, notes=notes)
    if dtype is None:
        return limits
    peak = run.ceilings.flops[dtype] * devices(run.launch)
    return msgspec.structs.replace(limits, prefill_share=flops / ttft / peak, peak_flops=peak)


def _peak(run: Run) -> tuple[str | None, str]:
    """Return the type of numbers whose peak is the ceiling: the network's own, else another, and why that."""
    own = own_dtype(run.spec, run.launch)
    measured = run.ceilings.flops
    if own in measured:
        return own, ""
    other = next((dtype for dtype in ("float32", "bfloat16", "float16") if dtype in measured), None)
    why = run.ceilings.notes.get(own, "it was not measured")
    return other, f"{own}: {why}" if other is None else f"the ceiling is that of {other}; {own}: {why}"


def own_dtype(spec: Spec, launch: LaunchPlan) -> str:
    """Return what a network's weights are multiplied as, as far as it is known: packed ones as integers."""
    plain = _DTYPES.get((spec.quantization or "none").lower())
    return launch.dtype or plain or ("bfloat16" if work.is_plain(spec) else "int8")


def phrase(limits: Limits) -> str:
    """Say how far a run is from the limits, as in ``decode at 61 % of memory bandwidth (12.3 of 20.1 GB/s)``."""
    parts = []
    if limits.decode_share is not None and limits.decode_bytes_per_s and limits.bandwidth:
        moved, ceiling = limits.decode_bytes_per_s / _GIGA, limits.bandwidth / _GIGA
        where = "memory bandwidth" if limits.source == "measured" else "the published memory bandwidth"
        parts.append(f"decode at {limits.decode_share:.0%} of {where} ({moved:.3g} of {ceiling:.3g} GB/s)")
    if limits.prefill_share is not None and limits.prefill_flops_per_s and limits.peak_flops:
        done, peak = limits.prefill_flops_per_s / _GIGA, limits.peak_flops / _GIGA
        more = "" if (limits.batch or 1.0) <= _ALONE else " or more"
        parts.append(
            f"prefill at {limits.prefill_share:.0%}{more} of the {limits.peak_dtype} peak "
            f"({done:.3g} of {peak:.3g} GFLOP/s)"
        )
    return ", ".join(parts).replace("%", " %")


def devices(launch: LaunchPlan) -> int:
    """Return how many devices share each layer, and so read at the same time."""
    given = _flag(launch, _DEVICE_FLAGS)
    return int(given) if launch.device == "gpu" and given and given.isdecimal() else 1


def cache_width(launch: LaunchPlan) -> float:
    """Return the bytes of one number of the cache: by the engine's flags, else of the type that is computed in."""
    own = 32.0 if launch.dtype == "float32" else 16.0
    bits = [own, own]
    for flag, count in _CACHE_FLAGS.items():
        given = _CACHE_BITS.get(_flag(launch, (flag,)) or "")
        if given is not None:
            bits = [given] * count + bits[: 2 - count]
    return sum(bits) / 16


def _flag(launch: LaunchPlan, names: tuple[str, ...]) -> str | None:
    """Return the word that follows one of some flags on the command line."""
    return next((value for flag, value in pairwise(launch.argv) if flag in names), None)
