"""The command line as a process of its own: what it prints where, what it exits with, and what can be pasted."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from xinfer import record

if TYPE_CHECKING:
    from collections.abc import Callable

    import psutil

    Ask = Callable[..., subprocess.CompletedProcess[str]]

PATIENCE_S = 30.0
"""How long a test waits for what must happen; only a failing test waits that long."""
XINFER = [sys.executable, "-m", "xinfer"]
BASH = shutil.which("bash") or "/bin/bash"


def until(condition: Callable[[], object]) -> None:
    deadline_s = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline_s, "waited in vain"
        time.sleep(0.05)


# Words


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        pytest.param("plan engine=vlm", "there is no engine 'vlm'; did you mean 'vllm'?", id="a-name"),
        pytest.param(
            "model=fake-modl", "there is no model 'fake-modl'; did you mean 'fake-model'?", id="a-name-to-run"
        ),
        pytest.param("plan hw.gpuz=1", "hw has no key 'gpuz'; did you mean 'gpu'?", id="a-key"),
        pytest.param("plan hydra.run.dir=x", "hydra.run.dir is a setting of Hydra's own, and has ", id="hydra"),
        pytest.param("plan a=b=c", "'a=b=c' cannot be read as key=value; quote its value, as in ", id="a-form"),
        pytest.param("-m nope,1", "'nope,1' is neither a verb nor key=value; verbs are run, ", id="a-word"),
        pytest.param("runs=/dev/null/x", "runs: /dev/null/x/", id="a-place-for-records"),
    ],
)
def test_bad_input_is_one_line(command: Ask, tmp_path: Path, typed: str, said: str) -> None:
    """As in the table of the unit tests, through a real process; nothing else is printed, and nothing is written."""
    done = command(*typed.split(" "))
    lines = done.stderr.splitlines()
    assert lines[-1].startswith(f"xinfer: {said}")
    assert len(lines) == 1 or typed.startswith("runs")
    assert "Traceback" not in done.stderr
    assert (done.returncode, done.stdout) == (2, "")
    assert list(tmp_path.iterdir()) == []


def test_bytes_that_are_no_text_are_one_line(tmp_path: Path) -> None:
    """A name from a file system of another time."""
    done = subprocess.run([*XINFER, "plan", b"model=\xff"], cwd=tmp_path, capture_output=True, check=False)
    assert (done.returncode, done.stdout) == (2, b"")
    assert done.stderr == b"xinfer: 'model=\\udcff' is not valid UTF-8\n"


def test_help_does_not_pay_for_hydra(tmp_path: Path) -> None:
    """Whoever asks for help gets it at once."""
    code = (
        "import sys; from xinfer import cli; cli.main(['--help']); print('hydra' in sys.modules, 'yaml' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "False False"


def test_a_plan_does_not_pay_for_the_runner(tmp_path: Path) -> None:
    """Neither for the load client nor for process tables, and no engine is imported."""
    code = "import sys; from xinfer import cli; cli.main(['plan', 'hw=cuda']); print(*sys.modules, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    heavy = {"asyncio", "httptools", "psutil", "torch", "vllm", "transformers", "uvloop", "xllamacpp", "pynvml"}
    assert heavy & {name.partition(".")[0] for name in done.stderr.split()} == set()


# Output


def test_a_reader_that_goes_away_is_no_error(tmp_path: Path) -> None:
    """``xinfer grid | head -1`` prints a line and nothing else."""
    grid = subprocess.Popen([*XINFER, "grid"], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    with grid:
        assert grid.stdout is not None
        assert grid.stdout.readline() == b"family,size,format,quantization,engine,verdict,conditions\n"
        grid.stdout.close()
        assert grid.stderr is not None
        assert grid.stderr.read() == b""
    assert grid.returncode == 0


def test_a_terminal_without_the_letters_gets_others(tmp_path: Path) -> None:
    """ASCII has no ellipsis."""
    environ = {**os.environ, "PYTHONIOENCODING": "ascii"}
    words = [*XINFER, "plan", "model=qwen2-instruct", "hw=cuda"]
    done = subprocess.run(words, cwd=tmp_path, env=environ, capture_output=True, check=True)
    assert b"llama-3.1? (57 in all)" in done.stdout
    assert done.stderr == b""


@pytest.mark.parametrize(
    ("redirect", "code", "said"),
    [
        pytest.param(">&-", 0, "", id="closed"),
        pytest.param("> /dev/full", 2, "xinfer: the output cannot be used: No space left on device\n", id="full"),
    ],
)
def test_an_output_that_cannot_be_written(tmp_path: Path, redirect: str, code: int, said: str) -> None:
    """No traceback comes from it, not even at Python's own end."""
    if not Path("/dev/full").exists():
        redirect, code, said = ">&-", 0, ""
    line = f"'{sys.executable}' -m xinfer hardware hw=cuda {redirect}"
    done = subprocess.run([BASH, "-c", line], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (code, said)


def test_an_error_stays_out_of_the_output(tmp_path: Path) -> None:
    """Where standard error is closed, nobody reads it; what is printed is still the answer alone."""
    line = f"'{sys.executable}' -m xinfer plan nope=1 2>&-"
    done = subprocess.run([BASH, "-c", line], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")


def test_a_directory_that_is_gone(tmp_path: Path) -> None:
    """Somebody has removed the one that the command was typed in."""
    line = f"rmdir '{tmp_path}' && '{sys.executable}' -m xinfer plan"
    done = subprocess.run([BASH, "-c", line], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.stderr == "xinfer: the current directory cannot be used: No such file or directory\n"
    assert (done.returncode, done.stdout) == (2, "")


# Another machine


def test_a_run_for_another_machine_is_refused(command: Ask, tmp_path: Path) -> None:
    """The plan is printed, one sentence says what is missing here, a record is kept, and nothing is installed."""
    words = ("model=qwen2-instruct", "hw=cuda", "hw.gpus=999")
    done = command(*words)
    assert done.returncode == 3
    assert done.stdout == command("plan", *words).stdout
    said, path = done.stderr.splitlines()[-2:]
    assert said.startswith("xinfer: this machine lacks what hw=cuda declares: ")
    assert "999 CUDA devices" in said
    assert not (tmp_path / "home").exists()
    found = record.read(tmp_path / path.removeprefix("record: "))
    assert found.status == "refused"
    assert found.failure is not None
    assert (found.failure.stage, found.failure.exit_code) == ("machine", 3)
    assert found.decision is not None
    assert found.decision["engine"] == "vllm"
    assert found.launch is not None
    assert found.files == ()


# Pasting


@pytest.mark.parametrize(
    "typed",
    [
        "hw=cpu",
        "hw=cpu engine.build=native engine=llama_cpp",
        "model=qwen2-instruct hw=cuda",
        "model=qwen2-instruct hw=h100 hw.gpus=4 model.size=72 engine=sglang",
        "model=qwen2-instruct hw=cpu engine=transformers",
        "model=llama-3-instruct hw=m3-max model.format=mlx",
        "engine=external engine.url=http://127.0.0.1:1",
    ],
)
def test_every_shell_plan_is_valid(ask: Ask, typed: str) -> None:
    """Bash reads it without a complaint, even with a cache directory that must be quoted."""
    done = ask("plan", "format=shell", "home=/tmp/it's $HOME", *typed.split())
    assert done.returncode == 0
    checked = subprocess.run([BASH, "-n"], input=done.stdout, capture_output=True, text=True, check=False)
    assert (checked.returncode, checked.stderr) == (0, "")


def test_a_pasted_plan_serves(
    command: Ask, tmp_path: Path, mark: str, survivors: Callable[[], list[psutil.Process]]
) -> None:
    """The server that it starts answers on the port that it names, with the variables that it sets."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    done = command("plan", "model=fake-model", "rules=fake", "format=shell", f"port={port}")
    assert done.returncode == 0
    shell = subprocess.Popen(
        [BASH, "-c", done.stdout], cwd=tmp_path, env={**os.environ, "XINFER_TEST_MARK": mark}, start_new_session=True
    )
    try:
        until(lambda: _health(port) or shell.poll() is not None)
        assert _health(port) == {"ready": True}
        assert "it's 1" in [process.environ().get("FAKE_PLUGIN") for process in survivors()]
    finally:
        os.killpg(shell.pid, signal.SIGKILL)
        shell.wait()
    until(lambda: survivors() == [])


def _health(port: int) -> object:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5) as answer:
            return json.load(answer)
    except OSError:
        return None
