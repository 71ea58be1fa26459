"""What a plan is worth: each engine started by its plan, by the best flags known by hand, and by its own defaults.

``python benchmarks/engines.py [--rounds N] [ENGINE…]`` measures on this machine and prints a table. The engine is
pinned to one core and the client to another; the three ways take turns, so that a busy moment does not favour one of
them. Only ratios within one run mean anything.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from xinfer import engines, judgement
from xinfer.config.compose import Composer
from xinfer.environments import environment
from xinfer.flow import free_port
from xinfer.measuring import load, metrics
from xinfer.measuring.client import Target
from xinfer.measuring.processes import peak_rss
from xinfer.running.runner import running
from xinfer.spec import Workload
from xinfer.verbs import report

if TYPE_CHECKING:
    from xinfer.plan import LaunchPlan

CONCURRENCY = (1, 4)
ENGINE_CORE, CLIENT_CORE = {0}, {1}
OVERRIDES = ("rules=engines-2026-11", "hw=auto", "context_length=2048", "workload.concurrency=4")
OPENBLAS = "/usr/lib/x86_64-linux-gnu/openblas-pthread/libopenblas.so.0"
OFFLINE = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}


class Way(NamedTuple):
    """One way to start an engine: what follows the program, and the variables; {m} is the model, {p} the port."""

    argv: str
    env: dict[str, str]
    request: dict[str, Any] | None = None
    """Null: as the plan asks."""
    model: str | None = None


BY_HAND = {
    "llama_cpp": Way("--model {m} --host 127.0.0.1 --port {p} -c 8192 -np 4 -t 1 -tb 1 --cache-ram 0 --no-webui", {}),
    "vllm": Way(
        "-m vllm.entrypoints.openai.api_server --model {m} --served-model-name m --host 127.0.0.1 --port {p} --dtype "
        "bfloat16 --max-model-len 2048 --max-num-seqs 4 --enforce-eager --no-enable-prefix-caching",
        {**OFFLINE, "VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_HOST_IP": "127.0.0.1", "VLLM_NO_USAGE_STATS": "1"},
        {"ignore_eos": True}, "m",
    ),
    "sglang": Way(
        "-m sglang.launch_server --model-path {m} --served-model-name m --host 127.0.0.1 --port {p} --device cpu "
        "--attention-backend torch_native --model-impl transformers --dtype bfloat16 --max-total-tokens 8192 "
        "--max-running-requests 4 --disable-radix-cache",
        {**OFFLINE, "OMP_NUM_THREADS": "1", "SGLANG_CPU_OMP_THREADS_BIND": "0"},
        {"ignore_eos": True}, "m",
    ),
    "transformers": Way(
        "-m transformers.cli.transformers serve {m} --host 127.0.0.1 --port {p} --device cpu --dtype bfloat16 "
        "--continuous-batching --cb-num-blocks 256 --cb-block-size 32 --cb-max-batch-tokens 512",
        {**OFFLINE, "OMP_NUM_THREADS": "1"},
    ),
    "mlx": Way(
        "-m mlx_lm server --model {m} --host 127.0.0.1 --port {p} --log-level WARNING",
        {**OFFLINE, "OPENBLAS_NUM_THREADS": "1", "LD_PRELOAD": OPENBLAS},
    ),
}  # fmt: skip
"""The best that was found by trying flags on a machine of two cores."""
BARE = {
    "llama_cpp": Way("--model {m} --host 127.0.0.1 --port {p}", {}),
    "vllm": Way(
        "-m vllm.entrypoints.openai.api_server --model {m} --served-model-name m --host 127.0.0.1 --port {p}",
        {**OFFLINE, "VLLM_CPU_KVCACHE_SPACE": "2"}, {"ignore_eos": True}, "m",
    ),
    "sglang": Way(
        "-m sglang.launch_server --model-path {m} --served-model-name m --host 127.0.0.1 --port {p} --device cpu "
        "--attention-backend torch_native --model-impl transformers --max-total-tokens 65536",
        OFFLINE, {"ignore_eos": True}, "m",
    ),
    "transformers": Way("-m transformers.cli.transformers serve {m} --host 127.0.0.1 --port {p}", OFFLINE),
    "mlx": Way("-m mlx_lm server --model {m} --host 127.0.0.1 --port {p}", OFFLINE),
}  # fmt: skip
"""The engine's first command, with its memory bounded where it would take all, and what it does not start without."""


class Figures(NamedTuple):
    """What one start of a server gave."""

    tokens_per_s: dict[int, float]
    """Output tokens per second for each number of requests in flight."""
    ready_s: float
    peak_gib: float


def planned(engine: str, composer: Composer) -> LaunchPlan:
    """Return the plan for this machine; bfloat16, but float32 where the engine's plan says so."""
    overrides = [f"engine={engine}", *OVERRIDES]
    if engine == "llama_cpp":
        overrides.append("model.quantization=Q4_1")
    first = judgement.first(composer.compose(overrides), composer)
    return judgement.launched(judgement.here(first, composer, print, port=free_port()))


def started(plan: LaunchPlan, way: Way | None) -> LaunchPlan:
    """Return the plan with another way's flags and variables, or with a fresh port alone."""
    port = free_port()
    if way is None:
        argv = tuple(str(port) if word == str(plan.port) else word for word in plan.argv)
        return msgspec.structs.replace(plan, argv=argv, port=port)
    place = next((w for w in plan.argv if w.startswith("/") and "/models/" in w), plan.model)
    program = plan.argv[:3] if plan.engine == "llama_cpp" else plan.argv[:1]
    argv = (*program, *(w.format(m=place, p=port) if "{" in w else w for w in way.argv.split()))
    model = way.model or (plan.model if plan.model != place else place)
    request = plan.request if way.request is None else way.request
    return msgspec.structs.replace(plan, argv=argv, env=way.env, port=port, model=model, request=request)


def measure(plan: LaunchPlan, log: Path) -> Figures:
    """Start a server on its core, load it from another, and stop it."""
    os.sched_setaffinity(0, ENGINE_CORE)
    with running(plan, log=log, start_timeout_s=600) as server:
        os.sched_setaffinity(0, CLIENT_CORE)
        rates = {}
        for at_once in CONCURRENCY:
            work = Workload(
                name="bench", input_tokens=64, output_tokens=64,
                concurrency=at_once, requests=2 * at_once + 2, warmup=at_once,
            )  # fmt: skip
            tokenizer = plan.outside(plan.tokenizer)
            target = Target(url=plan.url, model=plan.model, request=plan.request, tokenizer=tokenizer)
            samples = load.drive(target, work, run_id=f"r{at_once}")
            found = metrics.summarize(samples, work)
            rates[at_once] = found.output_tps_full or 0.0
        peak = peak_rss(server.pids()) or 0
        return Figures(rates, server.startup.ready_s, peak / 2**30)


def compare(engine: str, composer: Composer, directory: Path, rounds: int) -> list[dict[str, Any]]:
    """Measure the three ways of one engine in turns, and return a row for each."""
    plan = planned(engine, composer)
    environment.provision(plan, progress=lambda line: print(f"  {line}", file=sys.stderr), log=directory / "provision")
    ways = {"plan": None, "by hand": BY_HAND[engine], "bare": BARE[engine]}
    seen: dict[str, list[Figures]] = {name: [] for name in ways}
    for turn in range(rounds):
        names = list(ways)
        for name in names[turn % 3 :] + names[: turn % 3]:
            try:
                figures = measure(started(plan, ways[name]), directory / f"{engine}-{name}-{turn}.log")
            except Exception as error:  # noqa: BLE001 -- a bare engine that does not start is a result, too
                print(f"  {engine} {name}: {error}", file=sys.stderr)
                continue
            seen[name].append(figures)
            print(f"  {engine} {name}: {figures}", file=sys.stderr)
    return [row(engine, name, seen) for name in ways if seen[name]]


def row(engine: str, name: str, seen: dict[str, list[Figures]]) -> dict[str, Any]:
    """Return medians, and the medians of the ratios to the same turn by hand."""
    ours, theirs = seen[name], seen["by hand"]
    made: dict[str, Any] = {"engine": engine, "way": name}
    for at_once in CONCURRENCY:
        made[f"tok/s c={at_once}"] = round(statistics.median(f.tokens_per_s[at_once] for f in ours), 1)
        ratios = [a.tokens_per_s[at_once] / b.tokens_per_s[at_once] for a, b in zip(ours, theirs, strict=False)]
        made[f"x c={at_once}"] = round(statistics.median(ratios), 2) if ratios else None
    made["ready s"] = round(statistics.median(f.ready_s for f in ours), 1)
    made["peak GiB"] = round(max(f.peak_gib for f in ours), 2)
    return made


def main() -> None:
    """Measure the engines named, or all; the table goes to standard output."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("engines", nargs="*", choices=[*BY_HAND, []], metavar="ENGINE")
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    composer = Composer(engines.conf_directories())
    with tempfile.TemporaryDirectory() as directory:
        rows = [
            made for name in asked.engines or BY_HAND for made in compare(name, composer, Path(directory), asked.rounds)
        ]
    print(report.rows_text(rows))


if __name__ == "__main__":
    main()
