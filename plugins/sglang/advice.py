"""What of an SGLang plan costs speed, and what says so."""

from __future__ import annotations

from typing import TYPE_CHECKING

from xinfer.judging.rules import Source
from xinfer.planning import advice

if TYPE_CHECKING:
    from collections.abc import Iterator

    from xinfer.planning.advice import Advice, Case

WIDE = "1, 4 and 16 requests at once: bfloat16 20, 61, 132 tok/s; float32 16, 36, 86"
FP8_SINCE = (8, 9)
PREFIXES = Source(
    kind="page",
    title="LMSYS, Fast and Expressive LLM Inference with RadixAttention and SGLang",
    date="2024-01-17",
    where="lmsys.org/blog/2024-01-17-sglang",
)
CACHE = Source(
    kind="page",
    title="SGLang documentation, Quantized KV Cache",
    date="2026-11-22",
    where="docs.sglang.io/docs/advanced_features/quantized_kv_cache",
)
TPS = (12.5, 32.5, 76.8)
"""Output tokens per second on a CPU with 1, 4 and 16 requests at once, 64 tokens in and 32 out, SmolLM2-135M."""


def of(case: Case) -> Iterator[Advice]:
    """Yield what of a plan costs speed or memory."""
    launch, gpu = case.launch, case.job.hardware.gpu
    yield from advice.wide_numbers(case, WIDE)
    if "--disable-radix-cache" in launch.argv:
        yield from advice.prompts_forgotten(case, "engine.args.disable-radix-cache=false", PREFIXES)
    if advice.is_since(gpu, FP8_SINCE) and "--kv-cache-dtype" not in launch.argv:
        yield from advice.narrow_cache(case, "engine.args.kv-cache-dtype=fp8_e4m3", CACHE)
    yield from advice.slow_engine(case, TPS)
