"""Sweeps through the command line: every cell is a record and a row, whatever becomes of it."""

from __future__ import annotations

import re
import signal
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from xinfer import record
from xinfer.measuring import load
from xinfer.record import Failure, Record
from xinfer.verbs import sweep

if TYPE_CHECKING:
    from collections.abc import Callable

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
    found = records(tmp_path)
    assert [each.status for each in found] == [status for status, _ in rows]
    assert [each.failure.exit_code if each.failure else 0 for each in found] == [0, 4, 3, 3, 2, 2]
    assert found[1].overrides == ("model=fake-model", "engine.behaviour=die-at-start", *TINY)
    assert len({each.cell for each in found}) == 6
    assert all(each.cell.startswith("invalid-") for each in found[4:])
    assert re.findall(r"^\[\d/6\] model=\S+ engine.behaviour=\S+", done.stderr, re.MULTILINE) == [
        f"[{number}/6] model={model} engine.behaviour={behaviour}"
        for number, (model, behaviour) in enumerate(
            [(m, b) for m in ("fake-model", "qwen2-instruct", "nope") for b in ("serve", "die-at-start")], 1
        )
    ]
    assert done.stderr.splitlines()[-1] == "6 records below runs"


@pytest.mark.usefixtures("fake_plugin")
@pytest.mark.parametrize(
    ("typed", "code", "statuses"),
    [
        pytest.param(
            ["model=fake-model,qwen2-instruct"], 0, ["ok", "refused"], id="some-run-and-the-rules-refuse-the-others"
        ),
        pytest.param(["model=qwen2-instruct,llama-3"], 3, ["refused", "refused"], id="the-rules-refuse-all"),
        pytest.param(["model=nope,neither"], 3, ["refused", "refused"], id="none-can-be-understood"),
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
    assert rest == "xinfer: interrupted; everything that was started has been stopped\n"
    assert [each.status for each in records(tmp_path)] == ["ok"]
    assert survivors() == []


def test_a_single_run_prints_no_table_without_numbers(command: Ask) -> None:
    """The plan of a refusal is what is worth printing."""
    done = command("model=qwen2-instruct", *TINY)
    assert done.returncode == 3
    assert done.stdout.startswith("qwen2-instruct ")
    assert "\ndecision: no engine\n" in done.stdout
    assert "xinfer: fake refuses fake: family\n" in done.stderr
