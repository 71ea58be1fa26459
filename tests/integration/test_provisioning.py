"""``xinfer provision`` and ``xinfer environments`` as a user meets them: made, listed, removed, killed in between."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest
from privileges import unprivileged

from xinfer import flow
from xinfer.environments import locks
from xinfer.environments.environment import MARKER

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from package_index import Index

    Ask = Callable[..., subprocess.CompletedProcess[str]]
    Start = Callable[..., subprocess.Popen[str]]
    Find = Callable[[], list[psutil.Process]]

PATIENCE_S = 30.0
"""How long a test waits for what must happen; only a failing test waits that long."""
FAKE = ("model=fake-model", "rules=fake", "workload=tiny", "engine=fake")
WEIGHTS = (*FAKE, "engine.weights=write")
HANGING = (*FAKE, "engine.weights=hang")
TINY = (*WEIGHTS, "engine.installs=[['tiny==1.0']]", "installer=uv")


def until(condition: Callable[[], object]) -> None:
    deadline_s = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline_s, "waited in vain"
        time.sleep(0.05)


def below(home: Path) -> list[str]:
    """Return what lies in the places of a home."""
    return sorted(path.relative_to(home).as_posix() for place in home.iterdir() for path in place.iterdir())


def listed(command: Ask, *words: str) -> list[dict[str, Any]]:
    done = command("environments", "format=json", *words)
    assert (done.returncode, done.stderr) == (0, "")
    rows: list[dict[str, Any]] = json.loads(done.stdout)
    return rows


# Made


def test_everything_is_made_and_told(index: Index, command: Ask, tmp_path: Path) -> None:
    """The document on standard output, the progress beside it; and the next time nothing is made."""
    index.add("tiny")
    first = command("provision", "format=json", *TINY)
    assert first.returncode == 0, first.stderr
    said = first.stderr.splitlines()
    assert [line for line in said if line.startswith(("creating", "installing", "running"))] == [
        "creating a virtual environment", "installing tiny==1.0", f"running {Path(sys.executable).resolve().name}",
    ]  # fmt: skip
    made = json.loads(first.stdout)
    assert (made["engine"], made["version"], made["variant"], made["packages"]) == (
        "fake",
        "0.1",
        "python",
        ["tiny==1.0"],
    )
    environment, (weights,) = made["environment"], made["weights"]
    assert environment["path"].startswith(f"{tmp_path}/home/environments/fake-python-0.1-")
    assert (environment["engine"], environment["version"], environment["packages"]) == ("fake", "0.1", 1)
    assert (weights["kind"], weights["path"]) == ("weights", f"{tmp_path}/home/models/fake-write")
    assert weights["size_bytes"] >= 9999
    assert made["seconds"] >= environment["seconds"] + weights["seconds"] - 0.1
    assert listed(command) == [environment, weights]
    index.files.clear()
    again = command("provision", "format=json", *TINY)
    assert again.returncode == 0
    assert "installing" not in again.stderr
    assert json.loads(again.stdout)["environment"]["made"] == environment["made"]
    assert list((tmp_path / "home" / "provision").iterdir()) == []
    assert not (tmp_path / "runs").exists()


def test_the_text_says_where_and_how_large(command: Ask, tmp_path: Path) -> None:
    """A line for each directory, and what they come to."""
    done = command("provision", *WEIGHTS, f"home={tmp_path}/it's höme")
    assert done.returncode == 0, done.stderr
    title, head, row, total = done.stdout.splitlines()
    assert title == "fake 0.1 (python)"
    assert head.split("  ")[0] == "what"
    assert re.fullmatch(rf"weights +0\.0 MB +- +[\d.]+ s +{re.escape(str(tmp_path))}/it's höme/models/fake-write", row)
    assert re.fullmatch(r"complete after [\d.]+ s; 0\.0 MB", total)


def test_somebody_elses_server_needs_nothing(command: Ask, tmp_path: Path) -> None:
    """Nor is anything written for it."""
    done = command("provision", "engine=external", "engine.url=http://127.0.0.1:1")
    assert done.returncode == 0
    assert "nothing had to be made" in done.stdout
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        pytest.param(("model=qwen2-instruct", "hw=cpu", "engine=vllm"), "refuses vllm: cuda", id="by-the-rules"),
        pytest.param((*WEIGHTS, "hw.gpus=999"), "this machine lacks what hw=auto declares: ", id="by-this-machine"),
    ],
)
def test_a_refusal_is_that_of_a_run(command: Ask, tmp_path: Path, words: tuple[str, ...], said: str) -> None:
    """Nothing is made for what could not be started here."""
    done = command("provision", *words)
    assert (done.returncode, done.stdout) == (3, "")
    assert said in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_the_way_is_told(command: Ask, index: Index) -> None:
    """Without uv there is one line about uv, and nothing is made."""
    assert index.files == {}
    done = command("provision", *TINY, PATH="/usr/bin:/bin")
    assert done.returncode == 4
    assert (
        done.stderr.splitlines()[-1] == "xinfer: uv is not on PATH: install it (pip install uv), or say installer=pip"
    )
    assert not Path("home").exists()


def test_a_read_only_home_that_is_complete_needs_no_more(
    ask: Ask, fake_plugin: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody else has filled it: what would be written there lies elsewhere, and is gone when all is well."""
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(flow, "interpreter", lambda: sys.executable)  # a link that not everybody may follow
    with tempfile.TemporaryDirectory(prefix="xinfer-test-") as name:
        home, scratch = Path(name, "home"), Path(name, "scratch")
        words = ["--config-dir", str(fake_plugin), "provision", *WEIGHTS, f"home={home}"]
        assert ask(*words).returncode == 0
        scratch.mkdir()
        for path, mode in ((Path(name), 0o755), (home, 0o555), (home / "provision", 0o555), (scratch, 0o777)):
            path.chmod(mode)
        monkeypatch.setenv("TMPDIR", str(scratch))
        with unprivileged():
            complete, lacking = ask(*words), ask(*words, "engine.weights=full")
        assert (complete.returncode, lacking.returncode) == (0, 4), complete.stderr
        assert "weights  0.0 MB  -         " in complete.stdout
        assert lacking.stderr.splitlines()[-1] == (
            f"xinfer: {home}/models/fake-full.lock: Permission denied; not all that the plan needs is in this home, "
            "and you cannot write there; unlock it, or choose another home="
        )
        assert list(scratch.iterdir()) == []
        home.chmod(0o755)


# Failed


def test_a_failure_names_its_log(command: Ask, tmp_path: Path) -> None:
    """One line, the program's last words, and the log that has all of them; nothing else is left."""
    done = command("provision", *FAKE, "engine.weights=full")
    assert (done.returncode, done.stdout) == (4, "")
    python = Path(sys.executable).resolve().name
    said, *details, log = done.stderr[done.stderr.index("xinfer: ") :].splitlines()
    assert said == (
        f"xinfer: running {python}: {python} exited with 1: OSError: [Errno 28] No space left on device; "
        "free disk space, or choose another disk with home= (for temporary files: TMPDIR)"
    )
    assert details == ["  OSError: [Errno 28] No space left on device"]
    path = Path(log.removeprefix("  log: "))
    assert "No space left on device" in path.read_text()
    assert below(tmp_path / "home") == [f"provision/{path.name}"]


@pytest.mark.parametrize(
    ("home", "said"),
    [
        pytest.param("/dev/null/h", "/dev/null/h/models: Not a directory; ", id="a-file"),
        pytest.param("x" * 300, "/models: File name too long; ", id="a-name-that-is-too-long"),
    ],
)
def test_a_home_that_cannot_be(command: Ask, tmp_path: Path, home: str, said: str) -> None:
    """The path, what the system says, and what to do; before anything is made."""
    done = command("provision", *WEIGHTS, f"home={home}")
    assert (done.returncode, done.stdout) == (4, "")
    last = done.stderr.splitlines()[-1]
    assert last.startswith("xinfer: ")
    assert f"{said}free or unlock it, or choose another home=" in last
    assert list(tmp_path.iterdir()) == []


# Killed


@pytest.fixture
def hanging(start: Start, tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Return a provision that is in the middle of an installation."""
    with start(tmp_path, "provision", *HANGING) as process:
        try:
            until((tmp_path / "home" / "models" / "fake-hang" / "begun").exists)
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize(
    ("number", "status"),
    [
        pytest.param(signal.SIGINT, 130, id="Ctrl-C"),
        pytest.param(signal.SIGTERM, 128 + signal.SIGTERM, id="SIGTERM"),
    ],
)
def test_an_interrupt_leaves_nothing(
    hanging: subprocess.Popen[str], tmp_path: Path, survivors: Find, number: signal.Signals, status: int
) -> None:
    """No process, no directory, no lock and no log; somebody who pressed Ctrl-C is told."""
    hanging.send_signal(number)
    _, errors = hanging.communicate(timeout=PATIENCE_S)
    assert hanging.returncode == status
    assert ("xinfer: interrupted; everything that was started has been stopped" in errors) == (status == 130)
    assert survivors() == []
    assert below(tmp_path / "home") == []


def test_a_killed_step_is_a_failure(hanging: subprocess.Popen[str], tmp_path: Path, survivors: Find) -> None:
    """As when the system is out of memory; the directory is gone, and the log stays."""
    (step,) = [each for each in survivors() if each.cmdline()[1:2] == ["-c"] and "begun" in each.cmdline()[2]]
    step.kill()
    _, errors = hanging.communicate(timeout=PATIENCE_S)
    assert hanging.returncode == 4
    assert "was ended by signal 9" in errors
    (log,) = below(tmp_path / "home")
    assert f"  log: {tmp_path}/home/{log}\n" in errors


def test_what_a_killed_xinfer_leaves_can_be_removed(
    hanging: subprocess.Popen[str], command: Ask, tmp_path: Path, survivors: Find
) -> None:
    """It is in use until its last process is gone, then incomplete; never complete."""
    hanging.kill()
    hanging.communicate(timeout=PATIENCE_S)
    until(lambda: survivors() == [])
    (row,) = listed(command)
    assert (row["name"], row["complete"], row["in_use"], row["made"]) == ("fake-hang", False, False, None)
    assert re.search(r"^fake-hang .* incomplete$", command("environments").stdout, re.MULTILINE)
    assert command("environments", "remove=fake-hang").returncode == 0
    assert [path for path in below(tmp_path / "home") if not path.startswith("provision/")] == []


def test_what_is_being_made_is_in_use(hanging: subprocess.Popen[str], command: Ask, tmp_path: Path) -> None:
    """It is listed as such, and not removed."""
    (row,) = listed(command)
    assert (row["complete"], row["in_use"]) == (False, True)
    done = command("environments", "remove=*")
    assert done.returncode == 3
    assert done.stderr == "xinfer: fake-hang is being made or used by another xinfer; end that first\n"
    assert (tmp_path / "home" / "models" / "fake-hang" / "begun").exists()
    hanging.send_signal(signal.SIGINT)
    hanging.communicate(timeout=PATIENCE_S)


# Listed and removed


def test_nothing_is_listed_where_nothing_is(command: Ask, tmp_path: Path) -> None:
    """Nothing is created by asking, either."""
    done = command("environments")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"0 directories, 0.0 MB, below {tmp_path}/home\n"
    assert listed(command) == []
    done = command("environments", "remove=*")
    assert done.returncode == 2
    assert done.stderr == "xinfer: remove=*: there is no environment or model of this name; there is none at all\n"
    assert list(tmp_path.iterdir()) == []


def test_what_is_removed_is_made_again(command: Ask, tmp_path: Path) -> None:
    """By its name; a slip removes nothing and is told."""
    assert command("provision", *WEIGHTS).returncode == 0
    slip = command("environments", "remove=fake-rite")
    assert slip.returncode == 2
    assert slip.stderr.endswith("; did you mean 'fake-write'?\n")
    done = command("environments", "remove=fake-write")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1] == "1 directories, 0.0 MB, removed"
    assert below(tmp_path / "home") == []
    assert "running" in command("provision", *WEIGHTS).stderr


def test_what_was_not_used_for_long(command: Ask, tmp_path: Path) -> None:
    """It is listed by days, and removed by the same words with a pattern; a use counts anew."""
    assert command("provision", *WEIGHTS).returncode == 0
    marker = tmp_path / "home" / "models" / "fake-write" / MARKER
    then_s = time.time() - 40 * 86400
    os.utime(marker, (then_s, then_s))
    assert [row["name"] for row in listed(command, "unused_days=39")] == ["fake-write"]
    assert listed(command, "unused_days=41") == []
    assert listed(command, "unused_days=41", "remove=*") == []
    assert marker.exists()
    assert command("provision", *WEIGHTS).returncode == 0
    assert listed(command, "unused_days=39") == []
    os.utime(marker, (then_s, then_s))
    assert [row["name"] for row in listed(command, "unused_days=39", "remove=fake-*")] == ["fake-write"]
    assert not marker.parent.exists()


def test_what_a_server_uses_stays(start: Start, command: Ask, tmp_path: Path) -> None:
    """As long as it serves; a second server from the same directories does not wait for the first."""
    servers: list[subprocess.Popen[str]] = []
    try:
        for port in _ports(2):
            servers.append(start(tmp_path, "serve", *WEIGHTS, f"port={port}"))
            assert is_ready(servers[-1]), servers[-1].communicate()[1]
        (row,) = listed(command)
        assert (row["complete"], row["in_use"]) == (True, True)
        done = command("environments", "remove=fake-write")
        assert done.returncode == 3
        assert done.stderr == "xinfer: fake-write is being made or used by another xinfer; end that first\n"
        assert (tmp_path / "home" / "models" / "fake-write" / "model").exists()
    finally:
        for server in servers:
            server.send_signal(signal.SIGINT)
            server.communicate(timeout=PATIENCE_S)
    assert not locks.is_held(tmp_path / "home" / "models" / "fake-write")
    assert command("environments", "remove=fake-write").returncode == 0


def is_ready(server: subprocess.Popen[str]) -> bool:
    """Wait until a server says where it is; one that never does is killed."""
    assert server.stdout is not None
    watch = threading.Timer(PATIENCE_S, server.kill)
    watch.start()
    try:
        return any(line.startswith("url ") for line in server.stdout)
    finally:
        watch.cancel()


def test_what_somebody_else_has_started_stays(command: Ask, tmp_path: Path) -> None:
    """A plan's command line that was pasted into a shell holds no lock."""
    assert command("provision", *WEIGHTS).returncode == 0
    model = tmp_path / "home" / "models" / "fake-write" / "model"
    pasted = subprocess.Popen([sys.executable, "-c", "input()", f"--model={model}"], stdin=subprocess.PIPE)
    with pasted:
        done = command("environments", "remove=fake-write")
        assert done.returncode == 3
        name = psutil.Process(pasted.pid).name()
        assert done.stderr == f"xinfer: fake-write is in use by {name} (process {pasted.pid}); end that first\n"
        assert model.exists()
        pasted.communicate(b"\n")
    assert command("environments", "remove=fake-write").returncode == 0


def _ports(count: int) -> list[int]:
    probes = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [int(probe.getsockname()[1]) for probe in probes]
    for probe in probes:
        probe.close()
    return ports
