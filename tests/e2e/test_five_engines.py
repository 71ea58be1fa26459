"""One sweep, five engines: each installs, starts, answers, is measured and stops, on the same model and machine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

pytestmark = pytest.mark.e2e

ENGINES = ("llama_cpp", "transformers", "vllm", "sglang", "mlx")
SHORT = ("context_length=2048", "workload.requests=3", "workload.output_tokens=24")
MOST_BYTES = 8 * 2**30
"""What a small machine has; an engine that is left alone takes nearly all memory."""


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory, home: Path) -> dict[str, dict[str, Any]]:
    """The records of one command line, by engine."""
    directory = tmp_path_factory.mktemp("sweep")
    words = (f"engine={','.join(ENGINES)}", "model=smollm2-135m-instruct", "hw=auto", "rules=engines-2026-11")
    before = {process.pid for process in psutil.process_iter()}
    done = subprocess.run(
        [sys.executable, "-m", "xinfer", "-m", *words, *SHORT],
        cwd=directory, env={**os.environ, "XINFER_HOME": str(home)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    left = [p.info for p in psutil.process_iter(["pid", "cmdline"]) if str(home) in " ".join(p.info["cmdline"] or ())]
    assert not [process for process in left if process["pid"] not in before]
    found = [json.loads(path.read_bytes()) for path in directory.glob("runs/*/*/record.json")]
    return {record["decision"]["engine"]: record for record in found}


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
