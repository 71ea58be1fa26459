"""What of an MLX plan costs speed, and what says so."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from xinfer.judging.rules import Source
from xinfer.planning import advice
from xinfer.planning.advice import Advice

if TYPE_CHECKING:
    from collections.abc import Iterator

    from xinfer.planning.advice import Case

HERE = "plugins/mlx/advice.py"
BLAS = "prompts of 64 tokens: 16 tok/s with the BLAS that MLX brings, 150 with OpenBLAS, both in float32"
NUMBERS = (
    "1 request at a time, prompts and outputs: 25 and 7.3 tok/s in bfloat16; 150 and 12.5 in float32 with OpenBLAS"
)
SERVER = Source(
    kind="code",
    title="mlx-lm 0.32.2",
    date="2026-10-16",
    where="pypi.org/project/mlx-lm/0.32.2",
    at="server.py, --prompt-cache-size",
)
TPS = (10.7, 26.8, 72.6)
"""Output tokens per second on a CPU with 1, 4 and 16 requests at once, 64 tokens in and 32 out, SmolLM2-135M."""


def of(case: Case) -> Iterator[Advice]:
    """Yield what of a plan costs speed or memory."""
    launch = case.launch
    if launch.device == "cpu" and "--blas" not in launch.argv and "LD_PRELOAD" not in launch.env:
        yield Advice(
            id="reference-blas",
            text="the BLAS that MLX brings computes prompts nine times slower than OpenBLAS, which xinfer's own "
            "environment has",
            override="engine.python=null",
            source=advice.measured(BLAS, HERE),
        )
    if launch.device == "cpu" and launch.dtype == "bfloat16":
        yield Advice(
            id="slow-numbers",
            text="on a CPU MLX is fast in float32 alone: in bfloat16 prompts take six times as long, outputs 1.7 times",
            override="dtype=null",
            source=advice.measured(NUMBERS, HERE),
        )
    if ("--prompt-cache-size", "0") in pairwise(launch.argv):
        yield from advice.prompts_forgotten(case, "engine.args.prompt-cache-size=null", SERVER)
    yield from advice.slow_engine(case, TPS)
