"""Sweeps through the command line: every cell is a record and a row, whatever becomes of it."""

from __future__ import annotations

import json
import re
import signal
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from xinfer import record
from xinfer.measuring import load
from xinfer.parity import interview
from xinfer.record import Failure, Record
from xinfer.verbs import sweep

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

    import psutil

    Ask = Callable[..., subprocess.CompletedProcess[str]]
    Start = Callable[..., subprocess.Popen[str]]

PATIENCE_S = 30.0
OWN = ("--config-dir", str(Path(__file__).parents[1] / "resources" / "conf"))
TINY = ("rules=fake", "workload=tiny", "engine=fake")


def records(directory: Path) -> list[Record]:
    found = [record.read(path) for path in directory.glob("runs/*/*/record.json")]
    return sorted(found, key=lambda each: (directory / each.path).stat().st_mtime_ns)


def table(output: str) -> list[tuple[str, str]]:
    """Return the status of each row and what stands in its last column."""
    head, *rows = output.splitlines()
    status, flags = head.index("status"), head.index("flags")
    return [(row[status:].split()[0], row[flags:].strip()) for row in rows]


def test_every_kind_of_cell_is_a_record_and_a_row(command: Ask, tmp_path: Path) -> None:
    """One runs, one breaks, two are refused by the rules, two cannot be understood: none ends the sweep."""
    done = command("-m", "model=fake-model,qwen2-instruct,nope", "engine.behaviour=serve,die-at-start", *TINY)
    assert done.returncode == 4
    assert "Traceback" not in done.stderr
    rows = table(done.stdout)
    assert [status for status, _ in rows] == ["ok", "failed", "refused", "refused", "refused", "refused"]
    assert rows[1][1].startswith("start: fake ended with exit code 3 before it was ready; its last words: ")
    assert rows[2] == ("refused", "rules: fake refuses fake: family")
    assert rows[4][1].startswith("config: there is no model 'nope'; ")
    found = {each.overrides[:2]: each for each in records(tmp_path)}
    asked = [
        (f"model={model}", f"engine.behaviour={behaviour}")
        for model in ("fake-model", "qwen2-instruct", "nope")
        for behaviour in ("serve", "die-at-start")
    ]
    assert [found[each].status for each in asked] == [status for status, _ in rows]
    codes = [(failure := found[each].failure) and failure.exit_code for each in asked]
    assert codes == [None, 4, 3, 3, 2, 2]
    assert found[asked[1]].overrides == (*asked[1], *TINY)
    assert len({each.cell for each in found.values()}) == 6
    assert all(found[each].cell.startswith("invalid-") for each in asked[4:])
    titles = re.findall(r"^\[(\d)/6\] (model=\S+) (engine.behaviour=\S+)", done.stderr, re.MULTILINE)
    assert titles == [("1", *asked[0]), ("2", *asked[1])]
    *_, counts, closing = done.stderr.splitlines()
    assert counts == "1 ok, 4 refused, 1 failed"
    assert closing == "6 records below runs"


def test_what_cannot_run_is_known_before_anything_is_started(command: Ask, tmp_path: Path) -> None:
    """Refusals are counted by their reasons, and kept, first."""
    done = command("-m", "model=fake-model,qwen2-instruct,llama-3,nope", *TINY)
    first, *refused, time, disk = done.stderr.splitlines()[:5]
    assert first == "1 of 4 cells can run, with 1 start"
    assert refused[0] == "refused   2 x rules: fake refuses fake: family"
    assert refused[1].startswith("refused   1 x config: there is no model 'nope'; ")
    assert time == "time      not known: there is no record here of such a cell"
    assert disk == "disk      nothing is to be made or fetched"
    assert "starting" in done.stderr
    assert [each.status for each in records(tmp_path)][:3] == ["refused"] * 3


# One start for cells that differ in the workload alone


def test_a_ladder_needs_one_start(command: Ask, tmp_path: Path) -> None:
    """One server, planned for the most demanding step, serves all; each step is a cell of its own."""
    done = command("-m", "model=fake-model", "workload.concurrency=1,4,2", "workload.requests=4", *TINY)
    assert done.returncode == 0, done.stderr
    assert "3 of 3 cells can run, with 1 start\n" in done.stderr
    assert done.stderr.count("starting fake on") == 1
    found = {each.config["workload"]["concurrency"]: each for each in records(tmp_path)}
    assert sorted(found) == [1, 2, 4]
    assert len({each.cell for each in found.values()}) == 3
    assert len({json.dumps(each.launch) for each in found.values()}) == 1
    logs = {(tmp_path / each.path).with_name("engine.log").stat().st_ino for each in found.values()}
    assert len(logs) == 1
    assert {each.metrics and each.metrics["requests"] for each in found.values()} == {4}
    rows = [line.split("tiny")[1].split()[:5] for line in done.stdout.splitlines()[1:]]
    assert rows == [[str(count), "at", "once", "1", "ok"] for count in (1, 4, 2)]


def test_prompts_that_share_a_beginning_need_a_server_of_their_own(command: Ask) -> None:
    """It is started with its prefix cache on, the other one with it off."""
    done = command("-m", "model=fake-model", "+workload.shared_prefix=0,0.5", *TINY)
    assert done.returncode == 0, done.stderr
    assert "2 of 2 cells can run, with 2 starts\n" in done.stderr


def test_a_server_that_dies_takes_one_cell_along(command: Ask, tmp_path: Path) -> None:
    """The others get a new one; which of them could not be served, only trying tells."""
    words = ("engine.behaviour=die-mid-stream", "workload.output_tokens=4,64,2")
    done = command("-m", "model=fake-model", *words, *TINY)
    assert done.returncode == 4
    assert len(records(tmp_path)) == 3
    failed = [each for each in records(tmp_path) if each.status == "failed"]
    assert failed
    assert all(each.failure and each.failure.stage == "load" for each in failed)


def test_a_server_that_never_starts_fails_all_its_cells_at_once(command: Ask, tmp_path: Path) -> None:
    """Trying again would fail again."""
    words = ("engine.behaviour=die-at-start", "workload.concurrency=1,2")
    done = command("-m", "model=fake-model", *words, *TINY)
    assert done.returncode == 4
    assert done.stderr.count("starting fake on") == 1
    assert [each.status for each in records(tmp_path)] == ["failed", "failed"]
    assert {each.failure and each.failure.stage for each in records(tmp_path)} == {"start"}


# Repeats


def test_repeats_take_turns(command: Ask, tmp_path: Path) -> None:
    """Each run has a start of its own, and no cell is measured again before the others were."""
    done = command("-m", "model=fake-model", "engine.args.gap-s=0,0.001", "repeat.least=3", *TINY)
    assert done.returncode == 0
    order = [each.cell for each in records(tmp_path)]
    assert len(set(order)) == 2
    assert order == order[:2] * 3
    assert done.stderr.count("starting fake on") == 6
    assert [line.split("at once")[1].split()[0] for line in done.stdout.splitlines()[1:]] == ["3", "3"]
    assert len({each.run for each in records(tmp_path)}) == 6


def test_a_cell_is_measured_until_its_interval_is_narrow(command: Ask, tmp_path: Path) -> None:
    """Never more often than allowed; with any width allowed, as often as an interval takes."""
    done = command("model=fake-model", "repeat.least=3", "repeat.most=5", "repeat.width=1e-9", *TINY)
    assert (done.returncode, len(records(tmp_path))) == (0, 5)
    assert done.stderr.splitlines()[-1] == "5 records below runs"
    done = command("model=fake-model", "repeat.least=3", "repeat.most=5", "repeat.width=1000", *TINY)
    assert (done.returncode, len(records(tmp_path))) == (0, 8)


def test_what_failed_is_not_tried_again(command: Ask, tmp_path: Path) -> None:
    """Repeats are for numbers."""
    done = command("model=fake-model", "engine.behaviour=die-at-start", "repeat.least=3", *TINY)
    assert (done.returncode, len(records(tmp_path))) == (4, 1)


@pytest.mark.usefixtures("fake_plugin")
@pytest.mark.parametrize(
    ("typed", "code", "statuses"),
    [
        pytest.param(
            ["model=fake-model,qwen2-instruct"], 0, ["ok", "refused"], id="some-run-and-the-rules-refuse-the-others"
        ),
        pytest.param(["model=qwen2-instruct,llama-3"], 3, ["refused", "refused"], id="the-rules-refuse-all"),
        pytest.param(["model=nope,neither"], 2, ["refused", "refused"], id="none-can-be-understood"),
        pytest.param(["model=nope"], 2, ["refused"], id="the-only-one-cannot-be-understood"),
    ],
)
def test_the_exit_code_of_a_sweep(ask: Ask, tmp_path: Path, typed: list[str], code: int, statuses: list[str]) -> None:
    """A cell that the rules refuse is a result; only if none ran is the sweep refused."""
    done = ask(*OWN, "-m", *typed, *TINY)
    assert done.returncode == code
    assert [status for status, _ in table(done.stdout)] == statuses
    assert sorted(each.status for each in records(tmp_path)) == sorted(statuses)


def example(status: record.Status, code: int = 0) -> Record:
    failure = Failure(stage="s", message="m", exit_code=code) if code else None
    return Record(cell="c", run="r", status=status, started="", seconds=0.0, failure=failure)


@pytest.mark.parametrize(
    ("cells", "code"),
    [
        pytest.param([("ok", 0)], 0, id="one-ran"),
        pytest.param([("refused", 3)], 3, id="one-was-refused"),
        pytest.param([("refused", 2)], 2, id="one-was-not-understood"),
        pytest.param([("failed", 4)], 4, id="one-broke"),
        pytest.param([("ok", 0), ("refused", 3)], 0, id="one-ran-and-one-was-refused"),
        pytest.param([("ok", 0), ("failed", 4), ("ok", 0)], 4, id="one-broke-among-others"),
        pytest.param([("refused", 2), ("refused", 3)], 3, id="none-ran"),
        pytest.param([("refused", 2), ("refused", 2)], 2, id="none-was-understood"),
    ],
)
def test_the_worst_cell_decides(cells: list[tuple[record.Status, int]], code: int) -> None:
    """A failure is worse than a refusal, which counts only if nothing ran."""
    assert sweep.exit_code([example(status, number) for status, number in cells]) == code


@pytest.mark.usefixtures("fake_plugin")
def test_a_defect_takes_no_other_cell_along(ask: Ask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next one is tried all the same."""
    drive, calls = load.drive, []

    def break_once(*args: Any, **options: Any) -> Any:
        calls.append(args)
        if len(calls) == 1:
            raise RuntimeError("oh")
        return drive(*args, **options)

    monkeypatch.setattr(load, "drive", break_once)
    done = ask(*OWN, "-m", "model=fake-model", "port=null,null", *TINY)
    assert done.returncode == 4
    assert [each.status for each in records(tmp_path)] == ["failed", "ok"]
    assert table(done.stdout)[0][1] == "xinfer: xinfer itself broke: RuntimeError: oh"


@pytest.mark.usefixtures("fake_plugin")
def test_a_server_is_probed_and_asked_for_an_answer_once(
    ask: Ask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All that it is loaded with knows what it can do, and has its answer."""
    calls: list[str] = []

    def count(module: ModuleType, name: str) -> None:
        called = getattr(module, name)

        def counted(*args: Any) -> Any:
            calls.append(name)
            return called(*args)

        monkeypatch.setattr(module, name, counted)

    count(load, "probe")
    count(interview, "sample")
    ask(*OWN, "-m", "model=fake-model", "workload.concurrency=1,2", *TINY)
    made = records(tmp_path)
    assert [each.status for each in made] == ["ok", "ok"]
    assert made[0].capabilities == made[1].capabilities
    assert made[0].answer == made[1].answer
    assert made[0].answer is not None
    assert calls == ["probe", "sample"]


@pytest.mark.usefixtures("fake_plugin")
def test_records_go_where_each_cell_says(ask: Ask, tmp_path: Path) -> None:
    """Also those of cells that could not be composed."""
    done = ask(*OWN, "-m", "model=nope,qwen2-instruct", "runs=a,b", *TINY)
    assert done.stderr.splitlines()[-1] == "4 records below a, b"
    assert [len(list(tmp_path.glob(f"{name}/*/*/record.json"))) for name in ("a", "b", "runs")] == [2, 2, 0]


@pytest.mark.usefixtures("fake_plugin")
def test_a_sweep_without_a_place_for_its_records_ends_at_once(ask: Ask) -> None:
    """Nothing is tried whose result would be lost."""
    done = ask(*OWN, "-m", "model=fake-model,qwen2-instruct", "runs=/dev/null", *TINY)
    assert (done.returncode, done.stdout) == (2, "")
    assert re.fullmatch(r"xinfer: runs: /dev/null/\S+ cannot be made: Not a directory", done.stderr.splitlines()[-1])
    assert "starting" not in done.stderr


def test_an_interrupt_ends_the_sweep(
    start: Start, tmp_path: Path, survivors: Callable[[], list[psutil.Process]]
) -> None:
    """What is finished is kept, what is running is stopped, and the rest is not tried."""
    words = ("-m", "model=fake-model", "engine.args.gap-s=0,5,0", *TINY)
    with start(tmp_path, *words) as process:
        assert process.stderr is not None
        seen = ""
        while seen.count("measuring workload") < 2:
            line = process.stderr.readline()
            assert line, seen
            seen += line
        process.send_signal(signal.SIGINT)
        output, rest = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 130
    assert output == ""
    assert rest.splitlines() == [
        "cells: 1 done, 2 skipped; the same command goes on with them",
        "xinfer: interrupted; everything that was started has been stopped",
    ]
    assert [each.status for each in records(tmp_path)] == ["ok"]
    assert survivors() == []


def test_a_single_run_prints_no_table_without_numbers(command: Ask) -> None:
    """The plan of a refusal is what is worth printing."""
    done = command("model=qwen2-instruct", *TINY)
    assert done.returncode == 3
    assert done.stdout.startswith("qwen2-instruct ")
    assert "\ndecision: no engine\n" in done.stdout
    assert "xinfer: fake refuses fake: family\n" in done.stderr
