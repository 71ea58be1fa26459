"""Engines compared through the real command line: two that are one, in every dialect and with every flaw."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from xinfer import record
from xinfer.parity import answers

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable

    import psutil

    Start = Callable[..., subprocess.Popen[str]]
    Find = Callable[[], list[psutil.Process]]

PLUGIN = Path(__file__).parents[1] / "resources" / "parity_plugin"
ASKED = ("parity", "model=fake-model", "rules=twins", "parity.tokens=8")
PATIENCE_S = 60.0
PROMPTS = len(answers.fixed().prompts)


class Compared(NamedTuple):
    code: int
    out: str
    err: str
    directory: Path

    @property
    def document(self) -> Any:
        return json.loads(self.out)

    @property
    def pair(self) -> Any:
        (only,) = self.document["pairs"]
        return only

    @property
    def record(self) -> record.Record:
        (path,) = self.directory.glob("runs/parity-*/*/record.json")
        return record.read(path)


Compare = "Callable[..., Compared]"


def configure(directory: Path, **engines: dict[str, str]) -> list[str]:
    """Write the user's own settings of engines, and return the flag that puts them before the plugin's."""
    (directory / "own" / "engine").mkdir(parents=True)
    for name, settings in engines.items():
        body: dict[str, object] = {"name": name, "version": None, "python": None, "args": {}, "env": {}, **settings}
        (directory / "own" / "engine" / f"{name}.yaml").write_text(json.dumps(body))
    return ["--config-dir", str(directory / "own")]


@pytest.fixture
def compare(tmp_path: Path, start: Start) -> Callable[..., Compared]:
    """Return how to compare the engines, set as the test wants them."""

    def run(*words: str, **engines: dict[str, str]) -> Compared:
        own = configure(tmp_path, **engines) if engines else []
        with start(tmp_path, *own, *ASKED, *words, PYTHONPATH=str(PLUGIN)) as process:
            out, err = process.communicate(timeout=PATIENCE_S)
        return Compared(process.returncode, out, err, tmp_path)

    return run


def test_engines_that_are_alike(compare: Callable[..., Compared]) -> None:
    """One row for each engine, one for every two, and no error."""
    found = compare()
    assert found.code == 0, found.err
    assert "gamma: no" not in found.err
    head, _, columns, alpha, beta, gamma, _, pairs, row = found.out.splitlines()
    assert head.startswith("parity-1, 8 tokens for each prompt, greedy")
    assert columns.split()[:3] == ["engine", "version", "weights"]
    assert alpha.split() == ["alpha", "0.1", "pytorch", "none", "float32", "server", "ok"]
    assert beta.split()[0] == "beta"
    assert gamma.split()[:2] == ["gamma", "-"]
    assert "refused: twins refuses gamma: format" in gamma
    assert pairs.split()[:4] == ["pair", "same", "tie", "different"]
    assert row.split() == ["alpha", "beta", str(PROMPTS), "0", "0", "0.0000", "0.01", "0.0000"]


def test_everything_is_kept(compare: Callable[..., Compared]) -> None:
    """The comparison in the record, the answers and the logs beside it."""
    found = compare("format=json")
    kept = found.record
    assert (kept.status, kept.failure, kept.overrides) == ("ok", None, (*ASKED[1:], "format=json"))
    assert kept.parity == found.document
    assert [member["engine"] for member in found.document["members"]] == ["alpha", "beta", "gamma"]
    assert found.document["members"][0]["launch"]["dtype"] == "float32"
    assert found.document["members"][0]["packages"]
    assert (kept.config["rules"], "specs" in kept.config["model"]) == ("twins", False)
    directory = Path(found.directory / kept.path).parent
    raw = json.loads((directory / "answers.json").read_text())
    assert list(raw) == ["alpha", "beta"]
    assert list(raw["alpha"]) == list(answers.fixed().prompts)
    assert len(raw["alpha"]["fact"]["steps"]) == 8
    assert {"alpha.log", "beta.log", "answers.json"} <= set(kept.files)


@pytest.mark.parametrize(
    ("settings", "dialect", "logprobs"),
    [
        pytest.param({"dialect": "vllm"}, "vllm", "server", id="vllm"),
        pytest.param({"dialect": "sglang"}, "sglang", "server", id="sglang"),
        pytest.param({"dialect": "llama_cpp"}, "llama_cpp", "server", id="llama-server"),
        pytest.param({"dialect": "mlx"}, "mlx", "server", id="mlx"),
        pytest.param({"dialect": "openai"}, "openai", "server", id="a-server-that-gives-texts"),
        pytest.param({"dialect": "text"}, "text", "program", id="a-program-of-the-engine's-own"),
        pytest.param({"dialect": "text", "scorer": "none"}, "text", None, id="no-log-probabilities-at-all"),
    ],
)
def test_dialects_agree(
    compare: Callable[..., Compared], settings: dict[str, str], dialect: str, logprobs: str | None
) -> None:
    """However a server tells what it says, it is understood: no difference is found where there is none."""
    found = compare("format=json", alpha={"dialect": "sglang"}, beta=settings)
    assert found.code == 0, found.err
    assert (found.pair["same"], found.pair["tie"], found.pair["different"]) == (PROMPTS, 0, 0)
    assert (found.document["members"][1]["dialect"], found.document["members"][1]["logprobs"]) == (dialect, logprobs)
    assert (found.pair["first_delta"] is None) == (logprobs is None)


@pytest.mark.parametrize(
    ("dialect", "flaw", "counts", "code"),
    [
        pytest.param("vllm", "wrong", (0, 0, PROMPTS), 4, id="a-wrong-token"),
        pytest.param("sglang", "wrong", (0, 0, PROMPTS), 4, id="a-wrong-token-of-sglang"),
        pytest.param("llama_cpp", "wrong", (0, 0, PROMPTS), 4, id="a-wrong-token-of-llama-server"),
        pytest.param("mlx", "wrong", (0, 0, PROMPTS), 4, id="a-wrong-token-of-mlx"),
        pytest.param("openai", "wrong", (0, 0, PROMPTS), 4, id="a-wrong-token-of-a-server-that-gives-texts-alone"),
        pytest.param("mlx", "tie", (0, PROMPTS, 0), 0, id="a-tie"),
        pytest.param("text", "tie", (0, PROMPTS, 0), 0, id="a-tie-with-a-server-that-gives-nothing-else"),
        pytest.param("llama_cpp", "drift", (0, 0, PROMPTS), 4, id="other-probabilities"),
        pytest.param("sglang", "bos", (0, 0, PROMPTS), 4, id="another-reading-of-the-prompt"),
    ],
)
def test_a_flaw_is_seen(
    compare: Callable[..., Compared], dialect: str, flaw: str, counts: tuple[int, int, int], code: int
) -> None:
    """Two engines of which one answers otherwise: an error, unless both tokens were about as likely."""
    found = compare(
        "format=json", alpha={"dialect": "sglang"}, beta={"dialect": dialect, "flaw": flaw, "scorer": "none"}
    )
    assert (found.pair["same"], found.pair["tie"], found.pair["different"]) == counts, found.pair
    assert found.code == code
    assert found.record.status == ("failed" if code else "ok")
    if code:
        assert f"xinfer: answers differ {PROMPTS} times\n  alpha and beta on fact: " in found.err
        assert found.record.failure is not None
        assert found.record.failure.stage == "parity"


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        pytest.param({"flaw": "refuse"}, "no answer: http 500", id="no-answer"),
        pytest.param({"flaw": "die"}, "no answer: closed early", id="death"),
        pytest.param({"dialect": "text", "scorer": "broken"}, "no log-probabilities: ", id="a-broken-program"),
        pytest.param({"dialect": "text", "scorer": "silent"}, "beta-scores.json", id="a-program-that-says-nothing"),
    ],
)
def test_a_failing_engine_does_not_end_the_others(
    compare: Callable[..., Compared], survivors: Find, settings: dict[str, str], why: str
) -> None:
    """Its reason is in the table and in the record, and nothing of it runs on."""
    found = compare("format=json", alpha=settings) if "flaw" in settings else compare("format=json", beta=settings)
    assert found.code == 4
    failed, fine = sorted(found.document["members"][:2], key=lambda each: each["status"])
    assert (failed["status"], fine["status"]) == ("failed", "ok")
    assert why in failed["failure"]["message"]
    assert found.document["pairs"] == []
    assert f"xinfer: {failed['engine']} failed" in found.err
    assert found.record.status == "failed"
    assert survivors() == []


def test_engines_can_be_named(compare: Callable[..., Compared]) -> None:
    """One that is named and refused is an error before anything is started."""
    found = compare("parity.engines=[alpha,gamma]")
    assert found.code == 3
    assert "xinfer: parity.engines: gamma: twins refuses gamma: format" in found.err
    assert not (found.directory / "runs").exists()


def test_another_machine_cannot_be_asked(compare: Callable[..., Compared]) -> None:
    """What a profile declares must be here."""
    found = compare("hw=big")
    assert found.code == 3
    assert "xinfer: this machine lacks what hw=big declares" in found.err
    assert not (found.directory / "runs").exists()


def test_an_interrupt_leaves_nothing(tmp_path: Path, start: Start, survivors: Find) -> None:
    """No process, and no record of half a comparison."""
    own = configure(tmp_path, beta={"dialect": "vllm"})
    with start(tmp_path, *own, *ASKED, PYTHONPATH=str(PLUGIN)) as process:
        deadline_s = time.monotonic() + PATIENCE_S
        while not list(tmp_path.glob("runs/*/*/alpha.log")):
            assert time.monotonic() < deadline_s
            time.sleep(0.02)
        os.kill(process.pid, signal.SIGINT)
        _, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 130
    assert "xinfer: interrupted; everything that was started has been stopped" in err
    assert survivors() == []
    assert not list(tmp_path.glob("runs/*/*/record.json"))
