"""What of a Transformers plan costs speed, and what says so."""

from __future__ import annotations

from typing import TYPE_CHECKING

from xinfer.planning import advice
from xinfer.planning.advice import Advice

if TYPE_CHECKING:
    from collections.abc import Iterator

    from xinfer.planning.advice import Case

HERE = "plugins/transformers/advice.py"
ONE_BY_ONE = "4 requests at once: 10.8 tok/s without continuous batching, 38.2 with it"
WIDE = "prompts of 128 tokens: 740 to 890 tok/s in bfloat16, 340 in float32"
EMULATED = (
    "PyTorch 2.13, products for 128 tokens: bfloat16 48 ms and float32 19 ms with AVX-512, 93 and 20 ms with "
    "AVX2 (ONEDNN_MAX_CPU_ISA)"
)
TPS = (14.2, 45.7, 80.0)
"""Output tokens per second on a CPU with 1, 4 and 16 requests at once, 64 tokens in and 32 out, SmolLM2-135M."""


def of(case: Case) -> Iterator[Advice]:
    """Yield what of a plan costs speed or memory."""
    launch, hardware, at_once = case.launch, case.job.hardware, case.job.workload.concurrency
    if "--continuous-batching" not in launch.argv and at_once > 1:
        yield Advice(
            id="one-at-a-time",
            text=f"{at_once} requests are in flight and are served one after another: 0.28 times the tokens of "
            "continuous batching",
            override="engine.args.continuous-batching=true",
            source=advice.measured(ONE_BY_ONE, HERE),
        )
    yield from advice.wide_numbers(case, WIDE)
    is_emulated = launch.device == "cpu" and hardware.isa is not None and not advice.computes_in_bfloat16(hardware)
    if is_emulated and launch.dtype == "bfloat16":
        yield Advice(
            id="emulated-bfloat16",
            text="this CPU has no instructions for bfloat16: a prompt takes two to five times as long as in float32",
            override="dtype=null",
            source=advice.measured(EMULATED, HERE),
        )
    yield from advice.slow_engine(case, TPS)
