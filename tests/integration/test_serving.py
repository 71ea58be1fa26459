"""``xinfer serve`` as a process of its own, with an engine that does as it is told: ready, stopped, killed, keyed."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

from xinfer import engines, judgement, record
from xinfer.config.compose import Composer
from xinfer.plan import LaunchPlan
from xinfer.verbs import serve

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Ask = Callable[..., subprocess.CompletedProcess[str]]
    Start = Callable[..., subprocess.Popen[str]]
    Find = Callable[[], list[psutil.Process]]

PATIENCE_S = 30.0
"""How long a test waits for what must happen; only a failing test waits that long."""
FAKE = ("model=fake-model", "rules=fake", "workload=tiny", "engine=fake")
OWN = ("--config-dir", str(Path(__file__).parents[1] / "resources" / "conf"))
KEY = "sk-not-to-be-seen-1234"
STOPPED = "stopped; nothing is left running\n"
LOG = Path("/a cache/serve/fake-8000/engine.log")
SHOW = "curl() { printf '%s\\0' \"$@\"; }\n"
"""In the place of curl: print its words."""


def until(condition: Callable[[], object]) -> None:
    deadline_s = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline_s, "waited in vain"
        time.sleep(0.05)


@pytest.fixture
def port() -> int:
    """Return a port of the loopback interface that is free."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def serving(start: Start, directory: Path, *words: str, **environ: str) -> Iterator[subprocess.Popen[str]]:
    """Start a server; end it with the test, whatever that finds."""
    with start(directory, "serve", *FAKE, *words, **environ) as process:
        try:
            yield process
        finally:
            process.kill()


def block_of(process: subprocess.Popen[str]) -> str:
    """Return what a server prints once it is ready."""
    assert process.stdout is not None
    lines = ""
    while not re.search(r"^curl .*\n\n", lines, re.MULTILINE):
        line = process.stdout.readline()
        assert line, process.communicate(timeout=PATIENCE_S)[1]
        lines += line
    return lines


def value(block: str, name: str) -> str:
    (found,) = re.findall(rf"^{name} +(.*)$", block, re.MULTILINE)
    return str(found)


def status(block: str, key: str | None = None) -> int:
    """Ask for a completion and return the status of the answer."""
    headers = {"Content-Type": "application/json", **({"Authorization": f"Bearer {key}"} if key else {})}
    body = json.dumps({"model": value(block, "model"), "prompt": "one two", "max_tokens": 2}).encode()
    request = urllib.request.Request(f"{value(block, 'url')}/completions", body, headers)  # noqa: S310
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:  # noqa: S310
            return int(answer.status)
    except urllib.error.HTTPError as refused:
        with refused:
            return refused.code


def files_with(directory: Path, text: str) -> list[Path]:
    """Return every file that has the text in it."""
    files = [path for path in directory.rglob("*") if path.is_file()]
    assert files
    return [path for path in files if text.encode() in path.read_bytes()]


# Ready


def test_it_says_where_it_is_and_answers_there(start: Start, tmp_path: Path, port: int) -> None:
    """The block is all there is on standard output; the log is where it says; nothing is measured or recorded."""
    with serving(start, tmp_path, f"port={port}") as process:
        block = block_of(process)
        assert value(block, "url") == f"http://127.0.0.1:{port}/v1"
        assert value(block, "model") == "fake-model"
        assert Path(value(block, "log")).read_text().startswith("fake engine: serve as process ")
        assert status(block) == 200
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=PATIENCE_S)
    assert out == ""
    assert f"\nstarting fake on http://127.0.0.1:{port}\nready after " in err
    assert {path.name for path in tmp_path.iterdir()} == {"home"}


def test_the_example_can_be_pasted(start: Start, tmp_path: Path, port: int) -> None:
    """Into the shell of somebody who has the key in the same variable."""
    with serving(start, tmp_path, f"port={port}", "api_key_env=MY_KEY", MY_KEY=KEY) as process:
        example = block_of(process)
        url, _, kind, _, key, _, body = pasted(example, KEY)
        headers = dict(header.split(": ") for header in (kind, key))
        with urllib.request.urlopen(  # noqa: S310
            urllib.request.Request(url, body.encode(), headers),  # noqa: S310
            timeout=PATIENCE_S,
        ) as answer:
            assert json.load(answer)["usage"]["completion_tokens"] == 16


@pytest.mark.usefixtures("fake_plugin")
def test_the_port_is_the_engines_own() -> None:
    """The one that its users know, and always the same; a run takes any that is free."""
    composer = Composer([Path(OWN[1]), *engines.conf_directories()])
    planned = judgement.first(composer.compose(FAKE), composer)
    for wanted, found in ((None, 9009), (1234, 1234)):
        assert judgement.launched(judgement.here(planned, composer, print, port=wanted)).port == found


# Not ready


@pytest.mark.parametrize(
    ("words", "said", "last"),
    [
        pytest.param(
            ["engine.behaviour=die-at-start"],
            r"fake ended with exit code 3 before it was ready; its last words: .*",
            "  fake engine: cannot load the model",
            id="it-dies-at-start",
        ),
        pytest.param(
            ["engine.behaviour=hang-at-start", "start_timeout_s=1"],
            r"fake was not ready after 1 s: /health: .*",
            r"  fake engine: hang-at-start as process",
            id="it-hangs",
        ),
        pytest.param(
            ["engine.python=/no/such/python"],
            r"fake cannot be started: '/no/such/python' is not an executable file",
            "",
            id="it-is-not-there",
        ),
    ],
)
@pytest.mark.usefixtures("fake_plugin")
def test_an_engine_that_does_not_start_is_one_line(
    ask: Ask, tmp_path: Path, survivors: Find, port: int, words: list[str], said: str, last: str
) -> None:
    """With the end of its log below it; the exit code is 4, no record is written, and nothing is left running."""
    done = ask(*OWN, "serve", *FAKE, f"port={port}", *words)
    assert (done.returncode, done.stdout) == (4, "")
    line = next(line for line in done.stderr.splitlines() if line.startswith("xinfer: "))
    assert re.fullmatch(f"xinfer: {said}", line)
    assert last in done.stderr
    assert list(tmp_path.rglob("record.json")) == []
    assert survivors() == []


@pytest.mark.usefixtures("fake_plugin")
def test_a_taken_port_is_one_line_before_anything_is_installed(ask: Ask, tmp_path: Path) -> None:
    """It says what to do; whoever has the port keeps it."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        done = ask(*OWN, "serve", *FAKE, f"port={port}")
    assert (done.returncode, done.stdout) == (4, "")
    assert done.stderr == f"xinfer: port {port} on 127.0.0.1 is already in use; choose another with port=\n"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("fake_plugin")
def test_what_the_rules_refuse_is_not_served(ask: Ask, tmp_path: Path) -> None:
    """As when it is run: the condition that failed, and 3."""
    done = ask(*OWN, "serve", *FAKE[1:], "model=qwen2-instruct")
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr.startswith("xinfer: fake refuses fake: family\n")
    assert list(tmp_path.iterdir()) == []


# Stopped


@pytest.mark.parametrize(
    ("number", "code", "said"),
    [
        pytest.param(signal.SIGINT, 0, f"stopping fake; Ctrl-C once more kills it\n{STOPPED}", id="ctrl-c"),
        pytest.param(signal.SIGTERM, 0, f"stopping fake\n{STOPPED}", id="sigterm"),
        pytest.param(signal.SIGHUP, 129, "", id="a-terminal-that-is-closed"),
    ],
)
def test_a_signal_stops_it(
    start: Start, tmp_path: Path, survivors: Find, port: int, number: int, code: int, said: str
) -> None:
    """An interrupt is how a server ends well, so that it is 0; nothing is left running, and the port is free."""
    with serving(start, tmp_path, f"port={port}") as process:
        block_of(process)
        assert len(survivors()) == 3
        process.send_signal(number)
        err = process.communicate(timeout=PATIENCE_S)[1]
        assert process.returncode == code
        assert err.endswith(f" s\n\n{said}" if number == signal.SIGINT else f" s\n{said}")
        assert survivors() == []
    with socket.create_server(("127.0.0.1", port)):
        pass


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_asking_twice_kills_a_stubborn_engine(
    start: Start, tmp_path: Path, survivors: Find, port: int, number: int, code: int
) -> None:
    """A second Ctrl-C does not abandon it."""
    with serving(start, tmp_path, f"port={port}", "engine.behaviour=ignore-sigterm") as process:
        log = Path(value(block_of(process), "log"))
        process.send_signal(number)
        until(lambda: log.read_text().endswith("fake engine: no\n"))
        process.send_signal(number)
        process.communicate(timeout=PATIENCE_S)
        assert process.returncode == code
        assert survivors() == []


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupt_before_it_is_ready_is_no_success(
    start: Start, tmp_path: Path, survivors: Find, port: int, number: int, code: int
) -> None:
    """What was asked for was not done."""
    with serving(start, tmp_path, f"port={port}", "engine.behaviour=hang-at-start") as process:
        until(lambda: [log for log in tmp_path.glob("home/serve/*/engine.log") if log.read_text().endswith("\n")])
        process.send_signal(number)
        out, _ = process.communicate(timeout=PATIENCE_S)
        assert (process.returncode, out) == (code, "")
        assert survivors() == []


def test_a_killed_xinfer_leaves_no_engine(start: Start, tmp_path: Path, survivors: Find, port: int) -> None:
    """SIGKILL gives it no chance to tidy up; the guard does."""
    with serving(start, tmp_path, f"port={port}") as process:
        block_of(process)
        process.kill()
    until(lambda: survivors() == [])


def test_an_engine_that_dies_is_one_line(start: Start, tmp_path: Path, survivors: Find, port: int) -> None:
    """How it ended, what it said last and where its log is; the exit code is 4."""
    with serving(start, tmp_path, f"port={port}") as process:
        block = block_of(process)
        (engine,) = [each for each in survivors() if "fake_engine" in each.cmdline()[1]]
        engine.kill()
        err = process.communicate(timeout=PATIENCE_S)[1]
        assert process.returncode == 4
        *_, line, tail = err.splitlines()
        assert line == (
            f"xinfer: fake was ended by SIGKILL while it was in use; "
            f"its last words: fake engine: serve as process {engine.pid}; log: {value(block, 'log')}"
        )
        assert tail == f"  fake engine: serve as process {engine.pid}"
        assert survivors() == []


# A key


@pytest.mark.parametrize(
    ("word", "variable"),
    [
        pytest.param(f"api_key={KEY}", "API_KEY", id="typed"),
        pytest.param("api_key_env=MY_KEY", "MY_KEY", id="a-variable"),
    ],
)
def test_a_key_is_asked_for_and_is_nowhere(
    start: Start, tmp_path: Path, survivors: Find, port: int, word: str, variable: str
) -> None:
    """Only who has it is answered; it is in no file, no output and no command line of ours but the one typed."""
    with serving(start, tmp_path, f"port={port}", word, MY_KEY=KEY) as process:
        block = block_of(process)
        assert [status(block, key) for key in (KEY, "sk-wrong", None)] == [200, 401, 401]
        assert f"${variable}" in value(block, "key")
        others = [each.cmdline() for each in survivors() if each.pid != process.pid]
        assert len(others) == 2
        assert KEY not in str(others)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0
    assert KEY not in block + out + err
    assert files_with(tmp_path, KEY) == []


@pytest.mark.usefixtures("fake_plugin")
def test_a_careless_engine_is_not_repeated(ask: Ask, port: int) -> None:
    """It writes the key into its log and its answer; the error, which has both, does not."""
    done = ask(*OWN, "serve", *FAKE, f"port={port}", f"api_key={KEY}", "engine.behaviour=tell-key")
    assert done.returncode == 4
    assert 'failed its first completion: /v1/completions answered 500: {"error": "sent: Bearer ***"}' in done.stderr
    assert "\n  fake engine: asked with Bearer ***\n" in done.stderr
    assert KEY not in done.stdout + done.stderr


@pytest.mark.usefixtures("fake_plugin")
def test_a_key_of_somebody_elses_is_not_asked_for(ask: Ask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which server a run measures does not depend on what else the environment has."""
    monkeypatch.setenv("FAKE_API_KEY", KEY)
    assert ask(*OWN, *FAKE).returncode == 0
    assert files_with(tmp_path, KEY) == []


@pytest.mark.parametrize("word", [f"api_key={KEY}", "api_key_env=MY_KEY"])
def test_a_run_with_a_key_measures_and_keeps_it_nowhere(command: Ask, tmp_path: Path, word: str) -> None:
    """The record says that there was one."""
    done = command(*FAKE, word, f"engine.python={sys.executable}", MY_KEY=KEY)
    assert done.returncode == 0, done.stderr
    (path,) = tmp_path.glob("runs/*/*/record.json")
    found = record.read(path)
    shown = word.replace(KEY, "***")
    assert (found.status, found.overrides[-2]) == ("ok", shown)
    assert f"{'api_key_env' if 'env' in word else 'api_key'}={found.config[shown.partition('=')[0]]}" == shown
    assert found.metrics is not None
    assert found.metrics["failed"] == 0
    assert files_with(tmp_path, KEY) == []
    assert KEY not in done.stdout + done.stderr


@pytest.mark.usefixtures("fake_plugin")
def test_a_failed_run_with_a_key_keeps_it_nowhere(ask: Ask, tmp_path: Path) -> None:
    """Neither in what is printed nor in the record, though the engine said it."""
    done = ask(*OWN, *FAKE, f"api_key={KEY}", "engine.behaviour=tell-key")
    assert done.returncode == 4
    assert KEY not in done.stdout + done.stderr
    assert [path.name for path in files_with(tmp_path, KEY)] == ["engine.log"]


@pytest.mark.parametrize("words", [["--cfg"], ["plan"], ["plan", "format=json"], ["plan", "format=shell"]])
@pytest.mark.usefixtures("fake_plugin")
def test_a_key_is_not_printed(ask: Ask, words: list[str]) -> None:
    """Neither with the configuration nor with a plan."""
    done = ask(*OWN, *words, *FAKE, f"api_key={KEY}")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout
    assert KEY not in done.stdout


# What is said when it is ready


def launch(model: str = "a-model") -> LaunchPlan:
    return LaunchPlan(engine="fake", version=None, variant="test", port=8000, model=model)


def pasted(block: str, key: str = "") -> list[str]:
    """Let a shell read the example, and return the words that curl would get."""
    example = block.split("\n\n")[-2]
    environ = {"MY_KEY": key}
    done = subprocess.run(["/bin/sh", "-c", SHOW + example], env=environ, capture_output=True, check=True)
    return done.stdout.decode().split("\0")[:-1]


def test_the_block_says_where_and_how() -> None:
    """A name and a value in each line, then the example, with an empty line around each."""
    block = serve.ready(launch(), "/v1/completions", LOG, None)
    table, example, rest = block.removeprefix("\n").split("\n\n")
    assert table.splitlines() == [
        "url     http://127.0.0.1:8000/v1",
        "model   a-model",
        "log     /a cache/serve/fake-8000/engine.log",
        "stop    Ctrl-C",
    ]
    assert example.startswith("curl http://127.0.0.1:8000/v1/completions ")
    assert (block[0], rest) == ("\n", "")


@pytest.mark.parametrize("model", ["a-model", '/it\'s a $HOME; "model" `x`\\', "modèle 模型", "a\nb"])
@pytest.mark.parametrize("path", list(serve.QUESTIONS))
def test_the_example_survives_a_shell(model: str, path: str) -> None:
    """Whatever the model is called, curl gets an address, a header and a body in JSON."""
    url, *words = pasted(serve.ready(launch(model), path, LOG, None))
    assert url == f"http://127.0.0.1:8000{path}"
    assert words[:-1] == ["-H", "Content-Type: application/json", "-d"]
    body = json.loads(words[-1])
    assert body["model"] == model
    assert set(body) == {"model", "max_tokens", "prompt" if path == "/v1/completions" else "messages"}


def test_the_example_takes_the_key_from_a_variable() -> None:
    """The value is nowhere in it; the shell puts it there."""
    block = serve.ready(launch(), "/v1/completions", LOG, "MY_KEY")
    assert "key     as a bearer token; the example takes it from $MY_KEY\n" in block
    assert pasted(block, "sk-1 $x")[3:5] == ["-H", "Authorization: Bearer sk-1 $x"]
