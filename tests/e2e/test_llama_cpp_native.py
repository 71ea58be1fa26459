"""llama.cpp compiled for this machine: llama-server itself, with the real model.

It compiles for minutes; ``XINFER_TEST_HOME`` names a cache directory that is kept for the next time.
"""

from __future__ import annotations

import http.client
import json
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest
from plans import SMOLLM2_FILE as SMOLLM2

from xinfer.engines import Job, get
from xinfer.environments.environment import provision
from xinfer.errors import ProvisionError
from xinfer.machine.hardware import detect
from xinfer.plan import LaunchPlan
from xinfer.running.runner import running
from xinfer.spec import Workload

pytestmark = pytest.mark.e2e


def plan(home: Path, **settings: Any) -> LaunchPlan:
    """Return the plan of a native build for this machine's CPU."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    job = Job(
        spec=SMOLLM2,
        hardware=detect(),
        settings={"name": "llama_cpp", "build": "native", "backend": "cpu", **settings},
        workload=Workload(name="test", input_tokens=64, output_tokens=64, concurrency=2),
        context_length=2048,
        home=str(home),
        python=str(Path(sys.executable).resolve()),
        port=port,
    )
    return get("llama_cpp").plan(job)


def complete(launch: LaunchPlan, **body: object) -> Any:
    """Ask for a completion and return the decoded answer."""
    connection = http.client.HTTPConnection(launch.host, launch.port, timeout=120)
    try:
        connection.request("POST", "/v1/completions", json.dumps(body), {"Content-Type": "application/json"})
        return json.loads(connection.getresponse().read())
    finally:
        connection.close()


@pytest.fixture(scope="module")
def home(home: Path) -> Path:
    """Return the cache with the compiled engine and the model in it."""
    log = home / "provision.log"
    packages = provision(plan(home), progress=lambda line: sys.stderr.write(f"{line}\n"), log=log)
    assert "llama_cpp_python==0.3.36" in packages
    return home


def test_the_compiled_server_answers(home: Path, tmp_path: Path) -> None:
    """A greedy completion makes sense, ends where it was told to, and nothing stays behind."""
    launch = plan(home)
    with running(launch, log=tmp_path / "engine.log") as server:
        answer = complete(launch, prompt="The capital of France is", temperature=0, max_tokens=32, **launch.request)
        processes = [psutil.Process(pid) for pid in server.pids()]
    assert "Paris" in answer["choices"][0]["text"]
    assert answer["choices"][0]["finish_reason"] == "length"
    assert answer["usage"]["completion_tokens"] == 32
    assert not any(process.is_running() for process in processes)


def test_it_uses_what_the_cpu_has(home: Path) -> None:
    """That is what the minutes are spent for; the Python binding of the same compilation says so."""
    python = Path(plan(home).argv[0]).with_name("python")
    code = "import llama_cpp; print(llama_cpp.llama_print_system_info().decode())"
    done = subprocess.run([python, "-I", "-c", code], capture_output=True, text=True, check=True)
    for flag, name in (("avx2", "AVX2"), ("avx512f", "AVX512"), ("avx512_vnni", "AVX512_VNNI")):
        assert (f" {name} = 1 " in done.stdout) == (flag in (detect().isa or ())), done.stdout


def test_the_tools_of_the_same_compilation_run(home: Path) -> None:
    """llama-quantize and llama-bench lie beside the server and find their libraries."""
    for tool in ("llama-quantize", "llama-bench", "llama-fit-params"):
        program = Path(plan(home).argv[0]).with_name(tool)
        done = subprocess.run([program, "--help"], capture_output=True, text=True, check=False)
        assert "usage" in (done.stdout + done.stderr).lower()


def test_without_a_compiler_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """CMake's own words and a remedy; nothing stays behind."""
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "env").symlink_to("/usr/bin/env")
    monkeypatch.setenv("PATH", str(programs))
    for compiler in ("CC", "CXX"):
        monkeypatch.delenv(compiler, raising=False)
    launch = plan(tmp_path)
    assert launch.environment
    with pytest.raises(ProvisionError) as caught:
        provision(launch, progress=lambda _: None, log=tmp_path / "provision.log")
    assert str(caught.value) == (
        "installing llama-cpp-python==0.3.36: python exited with 1: "
        "CMake Error: CMAKE_CXX_COMPILER not set, after EnableLanguage; "
        "install a C++ compiler (g++ or clang), then run it again"
    )
    assert not Path(launch.environment.path).exists()
