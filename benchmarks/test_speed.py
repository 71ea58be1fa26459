"""How fast xinfer itself is. No time is asserted; with ``-s``, the table at the end says what was measured."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from speed_table import Result, printed

from xinfer import catalog, engines, flow
from xinfer.config.compose import Composer, conf_dir, read
from xinfer.judging import packs, rules
from xinfer.machine import hardware
from xinfer.verbs import grid

EMPTY = [sys.executable, str(Path(__file__).with_name("empty_app"))]
XINFER = [sys.executable, "-m", "xinfer"]
PACKS = ("xinference-2024-07", "xinference-2024-08")
ENGINES = ("vllm", "sglang", "transformers", "llama_cpp", "mlx")

table = pytest.fixture(printed, scope="module")


def seconds(argv: list[str], directory: Path) -> float:
    """Run a command to its end and return how long it took."""
    began_s = time.perf_counter()
    subprocess.run(
        argv, cwd=directory, env={**os.environ, "XINFER_HOME": str(directory)}, capture_output=True, check=True
    )
    return time.perf_counter() - began_s


def test_plan_against_an_empty_hydra_application(benchmark: Any, table: list[Result], tmp_path: Path) -> None:
    """Whole processes, one after the other and pair by pair, so that a busy moment slows both."""
    plan = [*XINFER, "plan", "model=qwen2-instruct", "hw=cuda"]
    pairs: list[tuple[float, float]] = []

    def pair() -> None:
        pairs.append((seconds(EMPTY, tmp_path), seconds(plan, tmp_path)))

    benchmark.pedantic(pair, rounds=20, warmup_rounds=1)
    empty_ms, plan_ms = (1000 * statistics.median(column) for column in zip(*pairs, strict=True))
    ratio = statistics.median(planned / empty for empty, planned in pairs)
    table.append(Result("an empty Hydra application, whole process", f"{empty_ms:.0f} ms", ""))
    table.append(Result("xinfer plan model=qwen2-instruct hw=cuda, whole process", f"{plan_ms:.0f} ms", ""))
    table.append(Result("the second divided by the first, median of pairs", f"{ratio:.2f}", "at most 1.5"))


def test_grid_of_both_packs_as_processes(benchmark: Any, table: list[Result], tmp_path: Path) -> None:
    """The whole catalogue, one machine, five engines."""
    taken: list[float] = []

    def both() -> None:
        taken.append(sum(seconds([*XINFER, "grid", "hw=cuda", f"rules={pack}"], tmp_path) for pack in PACKS))

    benchmark.pedantic(both, rounds=5, warmup_rounds=1)
    measured = f"{statistics.median(taken):.2f} s"
    table.append(Result("xinfer grid hw=cuda, one pack and then the other, whole processes", measured, "below 2 s"))


def test_grid_of_both_packs_in_this_process(benchmark: Any, table: list[Result]) -> None:
    """The same without starting Python and composing."""
    composer = Composer(engines.conf_directories())
    configs = [composer.compose(["hw=cuda", f"rules={pack}"]) for pack in PACKS]
    taken: list[float] = []

    def both() -> int:
        began_s = time.perf_counter()
        count = sum(len(grid.rows(config, composer)) for config in configs)
        taken.append(time.perf_counter() - began_s)
        return count

    verdicts = benchmark.pedantic(both, rounds=5, warmup_rounds=1)
    assert verdicts > 10_000
    measured = f"{1000 * statistics.median(taken):.0f} ms"
    table.append(Result(f"the same {verdicts} verdicts in one process, composed already", measured, ""))


def test_the_whole_grid_on_one_core(benchmark: Any, table: list[Result]) -> None:
    """All that was ever published, on every profile, by all engines of all packs; nothing was judged before."""
    composer = Composer(engines.conf_directories())
    profiles = [read(composer.file("hw", name)) for name in composer.options("hw")]
    machines = [hardware.declared(profile) for profile in profiles if not profile["detect"]]
    specs = catalog.rows(grid.families(composer).values(), None)
    names = [path.stem for path in (conf_dir() / "rules").glob("*.yaml")]
    if benchmark.disabled:
        machines, specs = machines[:1], specs[::10]
    rates: list[float] = []

    def whole() -> int:
        packs.named.cache_clear()
        loaded = [packs.named(name, composer) for name in names]
        began_s, count = time.perf_counter(), 0
        for spec in specs:
            for machine in machines:
                facts = rules.gather(spec, machine)
                for pack in loaded:
                    for engine in pack.engines:
                        count += len(pack.judge(engine, facts).findings) > 0
        rates.append(count / (time.perf_counter() - began_s))
        return count

    verdicts = benchmark.pedantic(whole, rounds=5)
    said = f"{len(specs)} artefacts x {len(machines)} profiles x engines of {len(names)} packs, {verdicts} verdicts"
    table.append(Result(said, f"{statistics.median(rates):,.0f}/s", "100,000/s or more"))


@pytest.mark.parametrize("engine", ENGINES)
def test_a_verdict_with_all_its_findings(benchmark: Any, table: list[Result], engine: str) -> None:
    """One engine's conditions for one artefact on one machine, each with what was observed and expected."""
    composer = Composer(engines.conf_directories())
    asked = flow.ask(composer.compose(["model=qwen2-instruct", "hw=h100"]), composer)
    facts = rules.gather(asked.candidates[0], asked.hardware)
    verdict = benchmark(asked.pack.judge, engine, facts)
    assert len(verdict.findings) == len(asked.pack.engines[engine])
    measured = "-" if benchmark.stats is None else f"{benchmark.stats.stats.median * 1e6:.1f} µs"
    table.append(Result(f"a verdict on {engine}, conditions: {len(verdict.findings)}", measured, "below 20 µs"))
