"""A peer as a program: started, waited for, and read, whatever becomes of it."""

from __future__ import annotations

import json
import sys
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, ClassVar

import msgspec
import psutil
import pytest

from xinfer.errors import ConfigError, RequestError
from xinfer.loadgens import peers, running
from xinfer.loadgens.aiperf import AiPerf
from xinfer.loadgens.foreign import Foreign, Inproc, Peer, Task
from xinfer.loadgens.peers import Loadgen
from xinfer.measuring.client import Target
from xinfer.measuring.metrics import Metrics
from xinfer.plan import LaunchPlan
from xinfer.spec import Workload
from xinfer.testing.reference_server import Behaviour, serving

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from xinfer.plan import Argv

WORK = Workload(name="w", input_tokens=8, output_tokens=4, requests=2)
TELLS = """
import json, os, pathlib, sys
place = pathlib.Path(sys.argv[1])
told = {"task": sys.argv[2:], "given": (place / "given.txt").read_text(), "environment": dict(os.environ)}
(place / "deep").mkdir()
(place / "deep" / "result.json").write_text("{}")
(place / "result.json").write_text(json.dumps(told))
print("so it is printed")
"""
FAILS = "import sys; sys.exit('Error: no such tokenizer')"
HANGS = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'import time; time.sleep(600)'])"


class Fake(Peer):
    """A program of a few lines."""

    name = "fake"
    title = "fake bench"
    packages = ("no-such-package", "msgspec")
    results = ("result.json", "log")
    key_variable: ClassVar[str | None] = "FAKE_API_KEY"
    program = TELLS

    def argv(self, task: Task) -> Argv:
        return (task.python, "-c", self.program, task.directory, task.url, task.model, task.tokenizer)

    def inputs(self, task: Task) -> dict[str, bytes]:
        return {"given.txt": str(task.seed).encode()}

    def variables(self, task: Task) -> dict[str, str]:
        return {"FAKE": task.run_id}

    def read(self, files: Mapping[str, bytes], task: Task) -> Foreign:
        if "result.json" not in files:
            raise RequestError("fake bench left no result")
        told = json.loads(files["result.json"])
        metrics = Metrics(requests=task.workload.requests, failed=0, duration_s=1.0)
        return Foreign(
            source=self.title,
            metrics=metrics,
            sources={},
            notes=(files["log"].decode(), msgspec.json.encode(told).decode()),
        )


class Refused(Fake):
    """Ends well, though the server took nothing."""

    def read(self, files: Mapping[str, bytes], task: Task) -> Foreign:
        failed = Metrics(requests=2, failed=2, duration_s=1.0)
        return msgspec.structs.replace(super().read(files, task), metrics=failed, errors=("422 ignore_eos",))


class Late(Fake):
    """Leaves its result, and then ends with an error."""

    program = f"{TELLS}\nsys.exit('Error: the disk is full')"


class Keyless(Fake):
    """Takes a key as a flag alone."""

    key_variable = None


class Failing(Fake):
    """Ends with an error."""

    program = FAILS


class Silent(Fake):
    """Does nothing, and is read as AIPerf is."""

    program = ""

    def read(self, files: Mapping[str, bytes], task: Task) -> Foreign:
        return AiPerf().read(files, task)


class Hanging(Fake):
    """Starts something and waits for it for ever."""

    program = HANGS


class Beside(Fake):
    """Needs no server."""

    scope = "inproc"

    def read(self, files: Mapping[str, bytes], task: Task) -> Foreign:
        found = super().read(files, task)
        return msgspec.structs.replace(found, metrics=Inproc())


def use(peer: Peer, monkeypatch: pytest.MonkeyPatch) -> Loadgen:
    """Return a peer as planned, in the interpreter of these tests."""
    monkeypatch.setitem(peers.PEERS, "fake", peer)
    needs = LaunchPlan(engine="fake", version=None, variant="loadgen", env={"OF_THE_PLAN": "1"})
    return Loadgen(name="fake", needs=needs, python=sys.executable, tokenizer="/t")


def run(loadgen: Loadgen, directory: Path, **target: Any) -> Foreign:
    asked = Target(**{"url": "http://127.0.0.1:9/", "model": "m", **target})
    return running.run(loadgen, asked, WORK, run_id="r1", directory=directory)


def test_a_peer_is_told_everything_and_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its command line, its files and its variables are the plan's; what it prints is kept beside what it leaves."""
    found = run(use(Fake(), monkeypatch), tmp_path)
    printed, told = found.notes[0], json.loads(found.notes[1])
    assert found.source == f"fake bench {version('msgspec')}"
    assert told["task"] == ["http://127.0.0.1:9", "m", "/t"]
    assert told["given"] == str(Task(python="", workload=WORK, directory="", run_id="r1").seed)
    assert {"FAKE": "r1", "OF_THE_PLAN": "1", "PYTHONUNBUFFERED": "1"}.items() <= told["environment"].items()
    assert printed == (tmp_path / "fake.log").read_text() == "so it is printed\n"
    assert (tmp_path / "fake" / "given.txt").exists()


def test_a_key_is_a_variable_and_the_users_own_keys_stay_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The peer gets the server's key and no other: it would send the user's own to that server."""
    monkeypatch.setenv("OPENAI_API_KEY", "of-the-users-account")
    told = json.loads(run(use(Fake(), monkeypatch), tmp_path, api_key="of-the-server").notes[1])
    assert told["environment"]["FAKE_API_KEY"] == "of-the-server"
    assert "of-the-server" not in told["task"]
    assert "OPENAI_API_KEY" not in told["environment"]


def test_a_key_that_only_a_flag_would_take_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What everyone's ps shows is no place for a key."""
    with pytest.raises(ConfigError, match="loadgen=fake takes an API key as a flag alone"):
        run(use(Keyless(), monkeypatch), tmp_path, api_key="secret")


def test_the_model_is_the_one_that_the_server_lists(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no name is given, the server is asked for one."""
    with serving(Behaviour(ttft_s=0.0, gap_s=0.0)) as server:
        told = json.loads(run(use(Fake(), monkeypatch), tmp_path, url=server.url, model="").notes[1])
    assert told["task"][:2] == [server.url, "reference"]


def test_a_peer_that_fails_is_quoted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its exit code and its last words are the error, and its log is named."""
    with pytest.raises(RequestError, match="fake ended with exit code 1; its last words: Error: no such tokenizer"):
        run(use(Failing(), monkeypatch), tmp_path)


def test_a_result_of_a_peer_that_ended_badly_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it left may be half of it."""
    with pytest.raises(RequestError, match=r"ended with exit code 1; its last words: .*Error: the disk is full"):
        run(use(Late(), monkeypatch), tmp_path)


def test_a_peer_that_leaves_nothing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It ended well, and there is nothing to read."""
    with pytest.raises(RequestError, match="aiperf profile left no result"):
        run(use(Silent(), monkeypatch), tmp_path)


def test_a_run_in_which_every_request_fails_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A peer that ends well has measured nothing all the same."""
    with pytest.raises(RequestError, match=r"^fake bench: all 2 requests failed: 422 ignore_eos; log: "):
        run(use(Refused(), monkeypatch), tmp_path)


def test_a_peer_that_hangs_is_ended_with_all_that_it_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After as long as the slowest server allowed would take."""
    monkeypatch.setattr(running, "patience_s", lambda _: 1.0)
    before = set(psutil.Process().children(recursive=True))
    with pytest.raises(RequestError, match="fake was not done after 1 s"):
        run(use(Hanging(), monkeypatch), tmp_path)
    assert set(psutil.Process().children(recursive=True)) <= before


@pytest.mark.parametrize(
    ("changes", "seconds"),
    [
        pytest.param({"requests": 8, "warmup": 2, "concurrency": 4}, 3 * 120.0, id="so-many-rounds-of-a-closed-loop"),
        pytest.param({"requests": 8, "warmup": 0, "concurrency": 8, "load": "poisson", "rate": 0.5}, 16 + 120.0,
                     id="as-long-as-requests-still-come"),
    ],
)  # fmt: skip
def test_patience_follows_the_workload(changes: dict[str, Any], seconds: float) -> None:
    """A peer may take as long as if each request took all the time it is allowed."""
    asked = msgspec.structs.replace(WORK, **changes)
    assert running.patience_s(asked) == running.START_S + seconds


def test_a_peer_beside_the_engine_needs_no_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a target there is no address; a program of the user's own has no version that can be looked up."""
    loadgen = use(Beside(), monkeypatch)
    found = running.run(loadgen, None, WORK, run_id="r1", directory=tmp_path)
    assert found.scope == "inproc"
    assert json.loads(found.notes[1])["task"] == ["", "", "/t"]
    own = msgspec.structs.replace(loadgen, python="")
    assert running.version_of(own) == "of unknown version"
