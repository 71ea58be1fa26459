"""The README's main job, as a person runs it: the real engine, the real model, and a record that is true."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import statistics
import subprocess
import sys
import time
from http import HTTPStatus
from pathlib import Path
from typing import Any

import psutil
import pytest

from xinfer.measuring.samples import Samples, read

pytestmark = pytest.mark.e2e

NS = 1e9


class Done:
    """A finished command line of xinfer."""

    def __init__(self, cwd: Path, home: Path, *words: str) -> None:
        self.cwd = cwd
        done = subprocess.run(
            [sys.executable, "-m", "xinfer", *words],
            cwd=cwd, env={**os.environ, "XINFER_HOME": str(home)}, capture_output=True, text=True, check=False,
        )  # fmt: skip
        self.code, self.out, self.err = done.returncode, done.stdout, done.stderr

    @property
    def records(self) -> list[dict[str, Any]]:
        """Every record below ``runs/``, in the order of their paths."""
        return [json.loads(path.read_bytes()) for path in sorted(self.cwd.glob("runs/*/*/record.json"))]

    @property
    def samples(self) -> Samples:
        """The raw stamps of the only run."""
        (path,) = self.cwd.glob("runs/*/*/samples.jsonl")
        return read(path)


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One cache for all tests of this file, empty at first, under a name that shells dislike."""
    return tmp_path_factory.mktemp("a cache; ünïcode $HOME")


@pytest.fixture(scope="session")
def first(tmp_path_factory: pytest.TempPathFactory, home: Path) -> Done:
    """``python -m xinfer`` with no arguments and nothing in the cache."""
    return Done(tmp_path_factory.mktemp("first"), home)


def test_the_first_run_measures_the_default_model_on_llama_cpp(first: Done) -> None:
    assert first.code == 0, first.err
    (record,) = first.records
    assert record["status"] == "ok"
    assert record["decision"]["engine"] == "llama_cpp"
    assert record["decision"]["spec"]["family"] == "smollm2-135m-instruct"
    assert any(package.startswith("xllamacpp==") for package in record["packages"])
    assert record["files"] == ["engine.log", "provision.log", "resources.jsonl", "samples.jsonl"]
    assert "smollm2-135m-instruct" in first.out
    assert "llama_cpp" in first.out


def test_every_number_of_the_record_follows_from_its_raw_stamps(first: Done) -> None:
    (record,) = first.records
    metrics, workload = record["metrics"], record["config"]["workload"]
    measured = [s for s in first.samples.samples if not s.warmup]
    assert len(measured) == workload["requests"] == metrics["requests"]
    assert workload["warmup"] is None, "one warm-up for each in flight"
    assert len(first.samples.samples) == workload["requests"] + workload["concurrency"]
    tokens = [[c.t_ns for c in s.chunks if c.is_token] for s in measured]
    ttfts = [(stamps[0] - s.t_send) / NS for s, stamps in zip(measured, tokens, strict=True)]
    e2es = [(stamps[-1] - s.t_send) / NS for s, stamps in zip(measured, tokens, strict=True)]
    tpots = [
        (stamps[-1] - stamps[0]) / ((s.completion_tokens or 0) - 1) / NS
        for s, stamps in zip(measured, tokens, strict=True)
    ]
    for name, values in (("ttft", ttfts), ("e2e", e2es), ("tpot", tpots)):
        assert metrics[name]["n"] == len(values)
        assert metrics[name]["mean"] == pytest.approx(statistics.fmean(values))
        assert metrics[name]["p50"] == pytest.approx(statistics.median(values))
        assert metrics[name]["p99"] is None, "a p99 of a handful of requests is not a p99"
    duration = (max(s.t_end for s in measured) - min(s.t_send for s in measured)) / NS
    assert metrics["output_tps_full"] == pytest.approx(sum(s.completion_tokens or 0 for s in measured) / duration)


def test_the_work_was_what_was_asked_for(first: Done) -> None:
    (record,) = first.records
    workload = record["config"]["workload"]
    for sample in first.samples.samples:
        assert sample.error is None
        assert sample.prompt_tokens == workload["input_tokens"]
        assert sample.completion_tokens == workload["output_tokens"]
        assert sample.finish_reason == "length"
        assert sample.cached_tokens in (0, None)
    assert len({sample.prompt_hash for sample in first.samples.samples}) == len(first.samples.samples)
    assert not {flag["id"] for flag in record["flags"]} & {"failed", "osl_mismatch", "isl_mismatch", "cache_hit"}


def test_the_server_saw_what_the_client_counted(first: Done) -> None:
    (record,) = first.records
    metrics = record["metrics"]
    assert metrics["ready_s"] > 0
    assert metrics["first_request_s"] > 0
    assert metrics["cpu_s"] > 0
    weights = record["decision"]["spec"]["bytes"]
    assert metrics["peak_rss"] > weights
    assert metrics["peak_rss"] < 4 * 1024**3


def test_the_distance_from_the_machines_limit_follows_from_the_file(first: Done) -> None:
    """Each step reads all of Q4_1's weights, the embedding too, which is the head."""
    (record,) = first.records
    limits, metrics, asked = record["limits"], record["metrics"], record["config"]["workload"]
    weights = record["decision"]["spec"]["bytes"]
    assert 0.95 * weights < limits["weights_bytes"] < weights
    cached = 2 * 30 * 3 * 64 * 2 * (asked["input_tokens"] + asked["output_tokens"] / 2)
    assert limits["step_bytes"] == pytest.approx(limits["weights_bytes"] + cached * limits["batch"])
    moved = limits["step_bytes"] / metrics["tpot"]["p50"]
    assert limits["decode_bytes_per_s"] == pytest.approx(moved)
    assert limits["decode_share"] == pytest.approx(moved / record["ceilings"]["bandwidth"])
    assert limits["decode_share"] > 0
    assert limits["text"] in first.err
    assert record["startup"]["kind"] in {"cold", "mixed", "warm"}
    assert record["machine"]["id"] == record["ceilings"]["fingerprint"]


def test_a_second_run_reuses_the_environment_and_names_the_same_cell(first: Done, home: Path, tmp_path: Path) -> None:
    second = Done(tmp_path, home)
    assert second.code == 0, second.err
    assert "creating a virtual environment" in first.err
    assert "creating a virtual environment" not in second.err
    assert second.records[0]["cell"] == first.records[0]["cell"]
    assert second.records[0]["run"] != first.records[0]["run"]


def test_the_pasted_plan_serves_a_sensible_greedy_completion(home: Path, first: Done) -> None:
    assert first.code == 0
    planned = Done(first.cwd, home, "plan", "format=json", "port=18437")
    launch = json.loads(planned.out)["launch"]
    server = subprocess.Popen(
        launch["argv"], env={**os.environ, **launch["env"]}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        body = {"model": launch["model"], "prompt": "The capital of France is", "max_tokens": 8, "temperature": 0}
        answer = post(18437, body, server)
    finally:
        server.terminate()
        server.wait(20)
    assert "Paris" in answer["choices"][0]["text"]
    assert answer["usage"]["completion_tokens"] <= 8


def post(port: int, body: dict[str, Any], server: subprocess.Popen[bytes]) -> Any:
    """Post until the server has loaded its model; fail if it ends before."""
    for _ in range(300):
        assert server.poll() is None, "the server ended"
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        with contextlib.suppress(ConnectionError), contextlib.closing(connection):
            connection.request("POST", "/v1/completions", json.dumps(body), {"Content-Type": "application/json"})
            reply = connection.getresponse()
            if reply.status == HTTPStatus.OK:
                return json.loads(reply.read())
            assert reply.status == HTTPStatus.SERVICE_UNAVAILABLE
        time.sleep(0.1)
    pytest.fail("the server never answered")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -9)])
def test_an_interrupted_run_leaves_no_server_and_no_record(
    number: signal.Signals, code: int, home: Path, first: Done, tmp_path: Path
) -> None:
    assert first.code == 0
    before = engines()
    running = subprocess.Popen(
        [sys.executable, "-m", "xinfer", "workload.requests=100000"],
        cwd=tmp_path, env={**os.environ, "XINFER_HOME": str(home)}, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert running.stderr is not None
    with running.stderr as lines:
        assert any("measuring workload" in line for line in lines)
        assert engines() - before
        running.send_signal(number)
        lines.read()
        assert running.wait(60) == code
    deadline = time.monotonic() + 30
    while engines() - before and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not engines() - before
    assert not list(tmp_path.glob("runs/*/*/record.json"))


def engines() -> set[int]:
    """Return the pids of every llama.cpp server that this machine runs."""
    found = set()
    for process in psutil.process_iter(["cmdline"]):
        words = process.info["cmdline"] or []
        if "--ctx-size" in words and "--alias" in words:
            found.add(process.pid)
    return found


def test_a_sweep_keeps_going_and_keeps_a_record_of_every_cell(home: Path, first: Done, tmp_path: Path) -> None:
    assert first.code == 0
    swept = Done(tmp_path, home, "-m", "engine=llama_cpp,mlx", "model=smollm2-135m-instruct,nonsense")
    assert swept.code == 0, swept.err
    assert sorted(record["status"] for record in swept.records) == ["ok", "refused", "refused", "refused"]
    assert "Traceback" not in swept.err
    assert len(swept.out.splitlines()) == 5
