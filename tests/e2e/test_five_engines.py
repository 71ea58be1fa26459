"""One sweep of five engines, killed three times: each starts, answers, is measured and stops, and no cell is lost."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import pytest

pytestmark = pytest.mark.e2e

ENGINES = ("llama_cpp", "transformers", "vllm", "sglang", "mlx")
SHORT = ("context_length=2048", "workload.requests=3", "workload.output_tokens=24")
MOST_BYTES = 8 * 2**30
"""What a small machine has; an engine that is left alone takes nearly all memory."""


KILLS, LATEST_S = 3, 4.0
"""How often the sweep is killed, and how long at most after an engine was started or was ready."""
PATIENCE_S = 120.0


class Sweep(NamedTuple):
    """What a sweep that was killed has left in the end."""

    paths: list[Path]
    records: dict[str, dict[str, Any]]
    """By engine."""
    said: str


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory, home: Path) -> Sweep:
    """Kill one command line three times at some moment, and let it end the fourth time."""
    directory = tmp_path_factory.mktemp("sweep")
    words = (f"engine={','.join(ENGINES)}", "model=smollm2-135m-instruct", "hw=auto", "rules=engines-2026-11")
    before = running(home)
    chance = random.Random()  # noqa: S311 -- any moment will do
    for _ in range(KILLS):
        with started(directory, home, *words) as process:
            assert process.stderr is not None
            told = (line for line in process.stderr if line.startswith(("starting", "ready")))
            for _ in range(chance.randint(1, 6)):
                next(told, None)
            time.sleep(chance.uniform(0, LATEST_S))
            process.kill()
        deadline_s = time.monotonic() + PATIENCE_S
        while running(home) - before:
            assert time.monotonic() < deadline_s, "what the killed sweep has started still runs"
            time.sleep(0.1)
    with started(directory, home, *words) as process:
        _, said = process.communicate()
    assert process.returncode == 0, said
    assert running(home) <= before
    paths = list(directory.glob("runs/*/*/record.json"))
    found = [json.loads(path.read_bytes()) for path in paths]
    return Sweep(paths, {record["decision"]["engine"]: record for record in found}, said)


@pytest.fixture(scope="module")
def records(sweep: Sweep) -> dict[str, dict[str, Any]]:
    """The records of one command line, by engine."""
    return sweep.records


def started(directory: Path, home: Path, *words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "xinfer", "-m", *words, *SHORT],
        cwd=directory, env={**os.environ, "XINFER_HOME": str(home)},
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def running(home: Path) -> set[int]:
    """Return the processes that have something of the engines' home on their command lines."""
    found = psutil.process_iter(["pid", "cmdline"])
    return {process.pid for process in found if str(home) in " ".join(process.info["cmdline"] or ())}


def test_a_killed_sweep_ends_with_all_its_records(sweep: Sweep) -> None:
    """None is lost and none is there twice, whenever it was killed."""
    assert len(sweep.paths) == len(ENGINES)
    assert set(sweep.records) == set(ENGINES)
    assert sweep.said.startswith("5 of 5 cells can run")


@pytest.mark.parametrize("engine", ENGINES)
def test_an_engine_ends_with_an_ok_record(engine: str, records: dict[str, dict[str, Any]]) -> None:
    record = records[engine]
    assert record["status"] == "ok", record["failure"]
    metrics, workload = record["metrics"], record["config"]["workload"]
    assert (metrics["failed"], metrics["requests"]) == (0, workload["requests"])
    assert metrics["output_tps_full"] > 0
    assert 0 < metrics["peak_rss"] < MOST_BYTES
    assert record["packages"]


@pytest.mark.parametrize("engine", ENGINES)
def test_an_engine_did_the_work_that_was_asked_for(engine: str, records: dict[str, dict[str, Any]]) -> None:
    """Each output has its full length, and no prompt was remembered; a server that does not say so is not believed."""
    record = records[engine]
    assert record["capabilities"]["fixed_length"] is True
    flags = {flag["id"] for flag in record["flags"]}
    assert not flags & {"failed", "osl_mismatch", "cache_hit"}


def test_the_engines_served_the_same_model(records: dict[str, dict[str, Any]]) -> None:
    """Only the format differs, by what an engine can read."""
    specs = {engine: record["decision"]["spec"] for engine, record in records.items()}
    assert {spec["family"] for spec in specs.values()} == {"smollm2-135m-instruct"}
    assert {spec["size"] for spec in specs.values()} == {"0_135"}
    assert {engine: spec["format"] for engine, spec in specs.items() if engine != "mlx"} == {
        "llama_cpp": "ggufv2", "transformers": "pytorch", "vllm": "pytorch", "sglang": "pytorch",
    }  # fmt: skip
