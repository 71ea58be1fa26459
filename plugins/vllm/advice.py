"""What of a vLLM plan costs speed, and what says so."""

from __future__ import annotations

from typing import TYPE_CHECKING

from xinfer.judging.rules import Source
from xinfer.planning import advice
from xinfer.planning.advice import Advice

if TYPE_CHECKING:
    from collections.abc import Iterator

    from xinfer.planning.advice import Case

HERE = "plugins/vllm/advice.py"
COMPILED = "1 and 4 requests at once: eager 22.8 and 70.0 tok/s, compiled 30.6 and 94.0; ready after 47 and 117 s"
WIDE = "1, 4 and 16 requests at once: bfloat16 53, 167, 396 tok/s; float32 34, 106, 293"
FP8_SINCE = (8, 9)
PREFIXES = Source(
    kind="page",
    title="vLLM documentation, Automatic Prefix Caching",
    date="2026-11-22",
    where="docs.vllm.ai/en/latest/features/automatic_prefix_caching",
)
CACHE = Source(
    kind="page",
    title="vLLM documentation, Quantized KV Cache",
    date="2026-11-22",
    where="docs.vllm.ai/en/latest/features/quantization/quantized_kvcache",
)


def of(case: Case) -> Iterator[Advice]:
    """Yield what of a plan costs speed or memory."""
    launch, gpu = case.launch, case.job.hardware.gpu
    if launch.device == "cpu" and "--enforce-eager" in launch.argv:
        yield Advice(
            id="eager",
            text="compiling the network gives 1.34 times the tokens, for a start of 117 s instead of 47 s",
            override="engine.args.enforce-eager=false",
            source=advice.measured(COMPILED, HERE),
        )
    yield from advice.wide_numbers(case, WIDE)
    if "--no-enable-prefix-caching" in launch.argv:
        yield from advice.prompts_forgotten(case, "engine.args.no-enable-prefix-caching=false", PREFIXES)
    if advice.is_since(gpu, FP8_SINCE) and "--kv-cache-dtype" not in launch.argv:
        yield from advice.narrow_cache(case, "engine.args.kv-cache-dtype=fp8", CACHE)
