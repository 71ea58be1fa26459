"""What a plan says of memory, beside what the engine then says or holds: weights, key-value cache, all together.

``python benchmarks/memory.py [ENGINE…]`` starts each engine by its plan on this machine with the real SmolLM2-135M,
fills the cache with prompts, and prints a table in Markdown. What an engine itself says of a part is taken from its
log; what it holds altogether is the memory of its processes, pages that they share counted once.
"""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from xinfer import engines, judgement
from xinfer.config.compose import Composer
from xinfer.environments import environment
from xinfer.flow import free_port
from xinfer.measuring import load
from xinfer.measuring.client import Target
from xinfer.measuring.processes import peak_rss, pss
from xinfer.running.runner import running
from xinfer.spec import Workload

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from xinfer.plan import LaunchPlan

GIB, MIB = 2**30, 2**20
AT_ONCE, CONTEXT = 2, 1024
WORK = Workload(
    name="fill", input_tokens=CONTEXT - 64, output_tokens=16, concurrency=AT_ONCE, requests=AT_ONCE, warmup=0,
    timeout_s=600,
)  # fmt: skip
"""Prompts that take nearly all of what the slots have."""
CELLS = {
    "llama_cpp": (("Q4_1", "engine.args.verbosity=9"), ("Q8_0", "engine.args.verbosity=9"),
                  ("Q4_1", "engine.args.verbosity=9", "engine.cache_type_k=q8_0", "engine.cache_type_v=q8_0",
                   "engine.args.flash-attn=on")),
    "vllm": (("none",), ("none", "dtype=float32")),
    "sglang": (("none",), ("none", "dtype=float32")),
    "transformers": (("none",), ("none", "dtype=float32")),
    "mlx": (("none",),),
}  # fmt: skip
"""For each engine the quantization, and what else is asked for."""


class Said(NamedTuple):
    """What an engine's log says that it has set aside, in bytes; null where it says nothing."""

    weights: float | None = None
    kv: float | None = None
    source: str = ""


class Row(NamedTuple):
    """One figure of one cell."""

    cell: str
    part: str
    planned: float | None
    held: float | None
    source: str


def planned(engine: str, asked: tuple[str, ...], composer: Composer) -> LaunchPlan:
    """Return the plan for this machine."""
    quantization, *others = asked
    form = {"llama_cpp": "ggufv2", "mlx": "mlx"}.get(engine, "pytorch")
    overrides = [
        f"engine={engine}", "rules=engines-2026-11", "hw=auto", "model=smollm2-135m-instruct",
        f"model.format={form}", f"model.quantization={quantization}", f"context_length={CONTEXT}",
        f"workload.concurrency={AT_ONCE}", *others,
    ]  # fmt: skip
    first = judgement.first(composer.compose(overrides), composer)
    return judgement.launched(judgement.here(first, composer, print, port=free_port()))


def said(launch: LaunchPlan, log: str) -> Said:
    """Read an engine's own figures in its log."""
    per_token = 23_040 * (2 if launch.dtype == "float32" else 1)
    if launch.engine == "llama_cpp":
        weights, kept = (sum(_buffers(log, f"{name} buffer size")) for name in ("model", "KV"))
        return Said(weights or None, kept or None, "its log's buffer sizes")
    files = sum(file.stat().st_size for word in launch.argv for file in Path(word).glob("*.safetensors"))
    if launch.engine == "vllm":
        tokens = _last(log, r"KV cache size: ([\d,]+) tokens")
        return Said(files, tokens and tokens * per_token, f"the files that it loads; its log: {tokens or 0:g} tokens")
    if launch.engine == "sglang":
        tokens = _last(log, r"KV Cache is allocated\..*?#tokens: ([\d,]+)")
        return Said(files, tokens and tokens * per_token, f"the files that it loads; its log: {tokens or 0:g} tokens")
    return Said(files, None, "the files that it loads")


def _buffers(log: str, name: str) -> Iterator[float]:
    """Yield the last size of each device's buffer, in bytes: a dry run before gives nothing."""
    found = dict(re.findall(rf"(\S+)\s+{name} =\s+([\d.]+) MiB", log))
    yield from (float(size) * MIB for size in found.values())


def _last(log: str, pattern: str) -> float | None:
    found = re.findall(pattern, log)
    return float(found[-1].replace(",", "")) if found else None


def measure(engine: str, asked: tuple[str, ...], composer: Composer, directory: Path) -> list[Row]:
    """Start an engine by its plan, fill its cache, and return what was planned beside what is held."""
    launch = planned(engine, asked, composer)
    log = directory / f"{engine}.log"
    environment.provision(launch, progress=lambda line: print(line, file=sys.stderr), log=directory / "provision")
    with running(launch, log=log, start_timeout_s=600) as server:
        tokenizer = launch.outside(launch.tokenizer)
        target = Target(url=launch.url, model=launch.model, request=launch.request, tokenizer=tokenizer)
        load.drive(target, WORK, run_id="fill")
        held, peak = pss(server.pids()), peak_rss(server.pids())
    own, plan = said(launch, log.read_text(errors="replace")), launch.memory
    cell = " ".join([engine, *(part for part in asked if "verbosity" not in part)])
    figures = (
        ("weights", plan.weights_gib, own.weights, own.source),
        ("cache", plan.kv_gib, own.kv, own.source),
        ("total", plan.total_gib, held, "its processes, shared pages once"),
        ("total", plan.total_gib, peak, "the most that each process had, added up"),
    )
    return [Row(cell, part, value, None if size is None else size / GIB, why) for part, value, size, why in figures]


def table(rows: Iterable[Row]) -> str:
    """Return the rows as Markdown."""
    lines = ["| cell | part | planned GiB | held GiB | planned / held | held, by |", "|---|---|---|---|---|---|"]
    for row in rows:
        ratio = "" if row.planned is None or not row.held else f"{row.planned / row.held:.2f}"
        numbers = ("-" if value is None else f"{value:.3f}" for value in (row.planned, row.held))
        if row.held is not None:
            lines.append(f"| {row.cell} | {row.part} | {' | '.join(numbers)} | {ratio} | {row.source} |")
    return "\n".join(lines)


def main() -> None:
    """Measure the engines named, or all; the table goes to standard output."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("engines", nargs="*", choices=[*CELLS, []], metavar="ENGINE")
    asked = parser.parse_args()
    composer = Composer(engines.conf_directories())
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as directory:
        for engine in asked.engines or CELLS:
            for cell in CELLS[engine]:
                try:
                    found = measure(engine, cell, composer, Path(directory))
                except Exception as error:  # noqa: BLE001 -- one engine that does not start leaves the others
                    print(f"{engine} {' '.join(cell)}: {error}", file=sys.stderr)
                    continue
                rows += found
                print(*found, sep="\n", file=sys.stderr, flush=True)
    print(table(rows))


if __name__ == "__main__":
    main()
