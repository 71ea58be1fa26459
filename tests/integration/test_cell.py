"""One cell through the real command line, with an engine that does as it is told: what is kept, and what is left."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from xinfer import engines, flow, record
from xinfer.config.compose import Composer
from xinfer.measuring import load, metrics, validity
from xinfer.spec import Workload
from xinfer.testing.reference_server import Behaviour, serving

if TYPE_CHECKING:
    from collections.abc import Callable

    import psutil

    from xinfer.record import Record

    Ask = Callable[..., subprocess.CompletedProcess[str]]
    Start = Callable[..., subprocess.Popen[str]]
    Find = Callable[[], list[psutil.Process]]

PATIENCE_S = 30.0
"""How long a test waits for what must happen; only a failing test waits that long."""
CELL = ("model=fake-model", "rules=fake", "workload=tiny")
OWN = ("--config-dir", str(Path(__file__).parents[1] / "resources" / "conf"))
TINY = Workload(name="tiny", input_tokens=8, output_tokens=4, concurrency=2, requests=4, warmup=1, timeout_s=10)


def until(condition: Callable[[], object]) -> None:
    deadline_s = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline_s, "waited in vain"
        time.sleep(0.05)


def records(directory: Path) -> list[Record]:
    return [record.read(path) for path in sorted(directory.glob("runs/*/*/record.json"))]


def only(directory: Path) -> Record:
    (found,) = records(directory)
    return found


# A cell that runs


class Twice(msgspec.Struct):
    """The same cell, run twice."""

    directory: Path
    outputs: list[str]
    errors: list[str]
    codes: list[int]
    records: list[Record]


@pytest.fixture(scope="module")
def twice(tmp_path_factory: pytest.TempPathFactory, start: Start) -> Twice:
    directory = tmp_path_factory.mktemp("twice")
    outputs, codes = [], []
    for _ in range(2):
        with start(directory, *CELL, f"engine.python={sys.executable}") as process:
            outputs.append(process.communicate(timeout=PATIENCE_S))
        codes.append(process.returncode)
    found = sorted(records(directory), key=lambda each: each.run)
    return Twice(directory, [out for out, _ in outputs], [err for _, err in outputs], codes, found)


def test_a_run_ends_well(twice: Twice) -> None:
    """One table row on standard output, everything else beside it."""
    assert twice.codes == [0, 0]
    for output in twice.outputs:
        head, row = output.splitlines()
        words = "model engine workload load runs status TTFT ms TPOT ms out tok/s of limit flags"
        assert head.split() == words.split()
        assert re.match(
            r"fake-model 7 pytorch none +fake +tiny +2 at once +1 +ok +[\d.]+ +\S+ +[\d.]+ +- +.*short", row
        )
    assert [found.status for found in twice.records] == ["ok", "ok"]


def test_progress_is_told_step_by_step(twice: Twice) -> None:
    """What was chosen and why, what is being done, and where the record is."""
    text = twice.errors[0]
    assert "engine    fake is the first in the order of fake that may serve it; all its conditions hold\n" in text
    assert "          llama_cpp: no (format)\n" in text
    steps = [
        r"^starting fake on http://127\.0\.0\.1:\d+$",
        r"^ready after [\d.]+ s$",
        r"^measuring workload tiny$",
        r"^advice: engine=llama_cpp  \(fake; plan says why\)$",
        "^record: ",
    ]
    found = [re.search(step, text, re.MULTILINE) for step in steps]
    assert all(found)
    assert text.splitlines()[-1] == f"record: {twice.records[0].path}"


def test_a_cell_has_one_name_and_each_run_its_own(twice: Twice) -> None:
    """So that repetitions are found together."""
    first, second = twice.records
    assert first.cell == second.cell
    assert first.cell.startswith("fake-model-fake-tiny-")
    assert first.run != second.run
    assert [each.path for each in twice.records] == [
        f"runs/{each.cell}/{each.run}/record.json" for each in twice.records
    ]


def test_a_record_has_everything(twice: Twice) -> None:
    """What was asked, the machine, every verdict, the plan, the packages, the numbers and the doubts."""
    found = twice.records[0]
    assert found.overrides == (*CELL, f"engine.python={sys.executable}")
    assert [each["id"] for each in found.advice] == ["fake"]
    assert found.predicted is not None
    assert found.predicted["decode_tps"]["note"]
    assert (found.config["rules"], found.config["workload"]["requests"]) == ("fake", 4)
    assert "specs" not in found.config["model"]
    assert found.hardware is not None
    assert found.hardware["cores"] >= 1
    assert found.decision is not None
    assert [verdict["engine"] for verdict in found.decision["verdicts"]] == ["fake", "llama_cpp", "absent", "partial"]
    assert found.model == found.decision["spec"]
    assert found.answer is not None
    assert (found.answer["prompt"], found.answer["text"].split()[-1]) == ("fact", "word7")
    assert found.launch is not None
    assert found.launch["argv"][-6:] == [
        "--port", str(found.launch["port"]), "--model", "fake-model", "--behaviour", "serve",
    ]  # fmt: skip
    assert any(package.startswith("hydra-core==") for package in found.packages)
    assert found.capabilities is not None
    assert found.capabilities["model"] == "fake-model"
    assert found.failure is None
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", found.started)
    assert 0 < found.seconds < PATIENCE_S
    assert "short" in [flag["id"] for flag in found.flags]


def test_the_plan_in_the_record_is_a_plan(twice: Twice) -> None:
    """The same document as ``plan format=json`` prints, with the port that was free."""
    composer = Composer([Path(__file__).parents[1] / "resources" / "conf", *engines.conf_directories()])
    found = twice.records[0]
    assert found.launch is not None
    assert set(found.launch) == set(_document(composer)["launch"])
    assert set(found.decision or ()) == set(_document(composer)["decision"])


def _document(composer: Composer) -> dict[str, Any]:
    asked = flow.ask(composer.compose(["hw=cpu"]), composer)
    document: dict[str, Any] = msgspec.to_builtins(flow.plan(asked, composer).document())
    return document


def test_the_numbers_follow_from_the_raw_stamps(twice: Twice) -> None:
    """Computed anew from the file that lies beside the record."""
    for found in twice.records:
        samples = load.read(twice.directory / Path(found.path).with_name("samples.jsonl"))
        again = msgspec.to_builtins(metrics.summarize(samples, TINY))
        around = {"ready_s", "first_request_s", "peak_rss", "cpu_s"}
        assert found.metrics is not None
        assert {key: value for key, value in found.metrics.items() if key not in around} == {
            key: value for key, value in again.items() if key not in around
        }
        assert all(found.metrics[key] > 0 for key in around - {"cpu_s"})
        assert found.metrics["cpu_s"] >= 0  # the system counts hundredths of seconds
        assert (found.metrics["requests"], found.metrics["failed"]) == (4, 0)
        assert (found.protocol, bool(found.prompts_hash)) == (record.PROTOCOL, True)
        assert len(samples.samples) == 5
        flags = msgspec.to_builtins(validity.flags(samples, TINY))
        of_machine = {"noisy", "shared_core", "throttled"}
        assert [flag for flag in found.flags if flag["id"] not in of_machine] == list(flags)


def test_the_record_is_written_last(twice: Twice) -> None:
    """Everything it names is there before it."""
    for found in twice.records:
        path = twice.directory / found.path
        beside = {each.name for each in path.parent.iterdir()} - {"record.json"}
        assert set(found.files) == beside == {"engine.log", "provision.log", "resources.jsonl", "samples.jsonl"}
        assert all(path.stat().st_mtime_ns >= each.stat().st_mtime_ns for each in path.parent.iterdir())


def test_nothing_runs_when_it_is_over(twice: Twice, survivors: Find) -> None:
    """Neither the engine nor its guard."""
    assert twice.records
    assert survivors() == []


# A cell that fails


@pytest.mark.parametrize(
    ("words", "stage", "said", "last"),
    [
        pytest.param(
            ["engine.behaviour=die-at-start"],
            "start",
            r"fake ended with exit code 3 before it was ready; its last words: .*",
            "fake engine: cannot load the model",
            id="it-dies-at-start",
        ),
        pytest.param(
            ["engine.behaviour=hang-at-start", "start_timeout_s=1"],
            "start",
            r"fake was not ready after 1 s: /health: .*",
            "fake engine: hang-at-start as process",
            id="it-hangs",
        ),
        pytest.param(
            ["engine.behaviour=refuse-completion"],
            "start",
            r"fake failed its first completion: /v1/completions answered 500: .*",
            "fake engine: refuse-completion as process",
            id="it-refuses",
        ),
        pytest.param(
            ["engine.behaviour=die-mid-stream"],
            "load",
            r"http://127\.0\.0\.1:\d+/v1/completions: no completion: closed early: .*",
            "fake engine: the stream was too long",
            id="it-dies-in-a-stream",
        ),
        pytest.param(
            ["engine.python=/no/such/python"],
            "start",
            r"fake cannot be started: '/no/such/python' is not an executable file",
            "",
            id="it-is-not-there",
        ),
    ],
)
@pytest.mark.usefixtures("fake_plugin")
def test_a_server_that_fails_is_one_line_and_a_record(
    ask: Ask, tmp_path: Path, survivors: Find, words: list[str], stage: str, said: str, last: str
) -> None:
    """The line says what happened, the last lines of the log stand below it, and nothing is left running."""
    done = ask(*OWN, *CELL, "engine=fake", *words)
    assert (done.returncode, done.stdout) == (4, "")
    assert "Traceback" not in done.stderr
    line = next(line for line in done.stderr.splitlines() if line.startswith("xinfer: "))
    assert re.fullmatch(f"xinfer: {said}", line)
    assert f"\n  {last}" in done.stderr or not last
    found = only(tmp_path)
    assert found.failure is not None
    assert (found.status, found.failure.stage, found.failure.exit_code) == ("failed", stage, 4)
    assert found.failure.message == line.removeprefix("xinfer: ")
    assert found.metrics is None
    assert (tmp_path / found.path).with_name("engine.log").exists() is (last != "")
    assert survivors() == []


@pytest.mark.usefixtures("fake_plugin")
def test_a_plugin_that_breaks_is_one_line_and_a_record(ask: Ask, tmp_path: Path) -> None:
    """It says whose fault it is."""
    done = ask(*OWN, *CELL, "engine=fake", "engine.breaks=plan")
    assert (done.returncode, done.stdout) == (4, "")
    assert done.stderr.splitlines()[0] == "xinfer: the plugin of fake broke while it planned: KeyError: 'launch'"
    assert only(tmp_path).status == "failed"


@pytest.mark.usefixtures("fake_plugin")
def test_a_taken_port_is_one_line(ask: Ask, tmp_path: Path) -> None:
    """Whoever has it keeps it."""
    with serving(Behaviour()) as server:
        done = ask(*OWN, *CELL, f"port={server.port}")
    assert done.returncode == 4
    assert f"xinfer: port {server.port} on 127.0.0.1 is already in use; choose another with port=\n" in done.stderr
    assert only(tmp_path).status == "failed"
    assert server.log == []


# A cell that is interrupted


STARTING = ("starting fake", "engine.behaviour=hang-at-start")
MEASURING = ("measuring workload", "engine.args.gap-s=2")
INTERRUPTED = "xinfer: interrupted; everything that was started has been stopped\n"


@pytest.mark.parametrize(
    ("number", "when", "code", "said"),
    [
        pytest.param(signal.SIGINT, STARTING, 130, INTERRUPTED, id="ctrl-c-while-it-starts"),
        pytest.param(signal.SIGINT, MEASURING, 130, INTERRUPTED, id="ctrl-c-while-it-is-measured"),
        pytest.param(signal.SIGTERM, STARTING, 143, "", id="sigterm-while-it-starts"),
        pytest.param(signal.SIGTERM, MEASURING, 143, "", id="sigterm-while-it-is-measured"),
        pytest.param(signal.SIGHUP, MEASURING, 129, "", id="a-terminal-that-is-closed"),
    ],
)
def test_an_interrupt_stops_everything(
    start: Start, tmp_path: Path, survivors: Find, number: int, when: tuple[str, str], code: int, said: str
) -> None:
    """The exit code says which signal it was; nothing is left running, and nothing looks finished."""
    with start(tmp_path, *CELL, "engine=fake", when[1]) as process:
        assert process.stderr is not None
        seen = ""
        while when[0] not in seen:
            line = process.stderr.readline()
            assert line, seen
            seen += line
        until(lambda: list(tmp_path.glob("runs/*/*/engine.log")))
        process.send_signal(number)
        rest = process.communicate(timeout=PATIENCE_S)[1]
    assert process.returncode == code
    assert rest == said
    assert survivors() == []
    assert list(tmp_path.glob("runs/*/*/*record.json*")) == []


def test_a_killed_xinfer_leaves_no_engine(start: Start, tmp_path: Path, survivors: Find) -> None:
    """SIGKILL gives it no chance to tidy up; the guard does."""
    with start(tmp_path, *CELL, "engine=fake", "engine.args.gap-s=2") as process:
        assert process.stderr is not None
        until(lambda: "measuring workload" in process.stderr.readline())  # type: ignore[union-attr]
        assert len(survivors()) == 3
        process.kill()
    until(lambda: survivors() == [])
    assert list(tmp_path.glob("runs/*/*/*record.json*")) == []


# A server that somebody else runs

KEY = "sk-not-to-be-written"
EXTERNAL = ("engine=external", "workload=tiny")


def test_an_external_server_is_measured_and_left_alone(command: Ask, tmp_path: Path) -> None:
    """Its first model is asked for; it serves before and after."""
    with serving(Behaviour(api_key=KEY)) as server:
        words = (*EXTERNAL, f"engine.url={server.url}/v1", "engine.api_key_env=MY_KEY")
        done = command(*words, MY_KEY=KEY)
        assert len(server.log) > 5
        assert command(*words, MY_KEY=KEY).returncode == 0
    assert done.returncode == 0
    assert re.match(r"reference +external +tiny +2 at once +1 +ok +\d", done.stdout.splitlines()[1])
    first, second = records(tmp_path)
    assert first.cell == second.cell
    assert first.cell.startswith("external-tiny-")
    assert first.status == "ok"
    assert first.capabilities is not None
    assert first.capabilities["model"] == "reference"
    assert first.metrics is not None
    assert first.metrics["ready_s"] is None
    assert first.metrics["failed"] == 0
    assert first.files == ("resources.jsonl", "samples.jsonl")
    assert (first.config["engine"]["api_key_env"], first.packages) == ("MY_KEY", ())
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert [path for path in written if KEY in path.read_text(encoding="utf-8")] == []
    assert KEY not in done.stdout + done.stderr


@pytest.mark.parametrize("typed", [f"api_key={KEY}", "api_key_env=MY_KEY"], ids=["typed", "in-a-variable"])
def test_an_external_servers_key_is_given_as_any_others(command: Ask, tmp_path: Path, typed: str) -> None:
    """It is sent with every request, the probe's and the sample's too, and written nowhere."""
    with serving(Behaviour(api_key=KEY)) as server:
        done = command(*EXTERNAL, f"engine.url={server.url}", typed, MY_KEY=KEY)
        asked = len(server.log)
    assert done.returncode == 0, done.stderr
    found = only(tmp_path)
    assert found.metrics is not None
    assert (found.status, found.metrics["failed"]) == ("ok", 0)
    assert asked > found.metrics["requests"]
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert [path for path in written if KEY in path.read_text(encoding="utf-8")] == []
    assert KEY not in done.stdout + done.stderr


def test_without_its_key_an_external_server_is_not_measured(ask: Ask, tmp_path: Path) -> None:
    """It says so itself, in one line."""
    with serving(Behaviour(api_key=KEY)) as server:
        done = ask(*OWN, *EXTERNAL, f"engine.url={server.url}")
    assert done.returncode == 4
    assert "no completion: http 401: " in done.stderr
    assert only(tmp_path).status == "failed"


def test_two_keys_for_one_server_are_one_too_many(ask: Ask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which of them was meant is not guessed."""
    monkeypatch.setenv("MY_KEY", KEY)
    with serving(Behaviour()) as server:
        done = ask(*OWN, *EXTERNAL, f"engine.url={server.url}", "engine.api_key_env=MY_KEY", "api_key_env=MY_KEY")
    assert (done.returncode, server.log, records(tmp_path)) == (2, [], [])
    assert done.stderr.splitlines()[-1] == (
        "xinfer: engine.api_key_env= and api_key= or api_key_env= both give a key; leave one of them out"
    )


def test_a_wrong_key_is_not_repeated(ask: Ask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Careless servers show it in their error; it goes neither to the terminal nor into the record."""
    wrong = "sk-wrong-but-secret"
    monkeypatch.setenv("MY_KEY", wrong)
    with serving(Behaviour(api_key=KEY)) as server:
        done = ask(*OWN, *EXTERNAL, f"engine.url={server.url}", "engine.api_key_env=MY_KEY")
    assert done.returncode == 4
    assert "no completion: http 401: " in done.stderr
    found = only(tmp_path)
    assert found.failure is not None
    assert (found.status, found.failure.stage) == ("failed", "load")
    assert wrong not in done.stderr + done.stdout + (tmp_path / found.path).read_text(encoding="utf-8")


def test_a_key_that_is_not_there_is_asked_for(ask: Ask, tmp_path: Path) -> None:
    """Before anything is sent."""
    with serving(Behaviour()) as server:
        done = ask(*OWN, *EXTERNAL, f"engine.url={server.url}", "engine.api_key_env=XINFER_NO_SUCH_KEY")
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1] == (
        "xinfer: engine.api_key_env=XINFER_NO_SUCH_KEY: there is no such environment variable"
    )
    assert server.log == []
    assert records(tmp_path) == []


def test_an_address_where_nobody_listens(ask: Ask, tmp_path: Path) -> None:
    """One line, and a failed record."""
    with serving(Behaviour()) as server:
        url = server.url
    done = ask(*OWN, *EXTERNAL, f"engine.url={url}")
    assert done.returncode == 4
    line = next(line for line in done.stderr.splitlines() if line.startswith("xinfer: "))
    assert line == f"xinfer: {url}/v1/models: lists no model: connection refused; name one with engine.model="
    assert only(tmp_path).status == "failed"


def test_every_request_that_fails_is_in_the_record(ask: Ask, tmp_path: Path) -> None:
    """A run in which all fail is a failed one, with its stamps."""
    with serving(Behaviour(fail="close", healthy=3)) as server:
        done = ask(*OWN, *EXTERNAL, f"engine.url={server.url}")
    assert done.returncode == 4
    assert "xinfer: all 4 requests failed: closed early\n" in done.stderr
    found = only(tmp_path)
    assert found.status == "failed"
    assert found.metrics is not None
    assert (found.metrics["requests"], found.metrics["failed"]) == (4, 4)
    assert "failed" in [flag["id"] for flag in found.flags]
    samples = load.read(tmp_path / Path(found.path).with_name("samples.jsonl"))
    assert {sample.error for sample in samples.measured} == {"closed early"}


# In this process


@pytest.mark.usefixtures("fake_plugin")
def test_the_same_cell_in_this_process(ask: Ask, tmp_path: Path) -> None:
    """The command line is a function too."""
    done = ask(*OWN, *CELL)
    assert done.returncode == 0
    assert only(tmp_path).status == "ok"


@pytest.mark.usefixtures("fake_plugin")
def test_a_place_for_records_may_be_the_users_home(ask: Ask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not every shell expands the tilde."""
    monkeypatch.setenv("HOME", str(tmp_path / "me"))
    ask(*OWN, *CELL, "model=qwen2-instruct", "engine=fake", "runs=~/kept")
    assert [path.name for path in tmp_path.glob("me/kept/*/*/*")] == ["record.json"]


@pytest.mark.usefixtures("fake_plugin")
def test_a_warning_about_memory(ask: Ask) -> None:
    """A model that is known to be too large is started all the same: the estimate may be wrong."""
    done = ask(*OWN, *CELL, "model.quantization=none", "hw.memory_gib=0.5")
    assert "warning: needs at least 13.0 GiB; 0.5 GiB are available\n" in done.stderr
    assert done.returncode == 0


@pytest.mark.usefixtures("fake_plugin")
def test_a_defect_is_a_failed_record(ask: Ask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What nobody thought of is written down with the place where it happened."""

    def break_off(*_: object, **__: object) -> None:
        raise RuntimeError("oh")

    monkeypatch.setattr(load, "drive", break_off)
    done = ask(*OWN, *CELL)
    found = only(tmp_path)
    assert done.returncode == 4
    assert found.failure is not None
    assert (found.failure.stage, found.failure.message) == ("xinfer", "xinfer itself broke: RuntimeError: oh")
    assert any("test_cell.py" in line for line in found.failure.details)
    assert json.loads((tmp_path / found.path).read_bytes())["status"] == "failed"
