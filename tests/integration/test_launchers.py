"""Sweeps that a launcher carries to other processes: the same records, and no cell is lost with a process."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

from xinfer import record
from xinfer.record import Record

if TYPE_CHECKING:
    from collections.abc import Callable

    Ask = Callable[..., subprocess.CompletedProcess[str]]
    Start = Callable[..., subprocess.Popen[str]]

TINY = ("rules=fake", "workload=tiny", "engine=fake")
LADDER = ("model=fake-model", "workload.concurrency=1,2", *TINY)
SLOW = ("model=fake-model", "engine.args.gap-s=0.1", *TINY)
"""A cell that lasts long enough to be disturbed."""
PATIENCE_S = 60.0


def records(directory: Path) -> list[Record]:
    found = [record.read(path) for path in directory.glob("runs/*/*/record.json")]
    return sorted(found, key=lambda each: each.run)


@pytest.mark.parametrize("launcher", ["joblib", "submitit_local"])
def test_a_launcher_runs_the_sweep_unchanged(launcher: str, command: Ask, tmp_path: Path) -> None:
    """Repeats and raw files come home, what is refused never leaves, and the same command knows that all is done."""
    words = ("-m", "model=fake-model,qwen2-instruct", *LADDER[1:], "repeat.least=2", f"hydra/launcher={launcher}")
    done = command(*words)
    assert done.returncode == 0, done.stderr
    assert "2 of 4 cells can run, with 1 start\n" in done.stderr
    assert done.stderr.count(" came home from ") == 2
    made = records(tmp_path)
    measured = [each for each in made if each.status == "ok"]
    assert (len(made), len(measured)) == (6, 4)
    assert len({each.cell for each in measured}) == 2
    for each in measured:
        path = tmp_path / each.path
        assert path.is_relative_to(tmp_path / "runs" / each.cell / each.run)
        assert {"engine.log", "samples.jsonl"} <= {file.name for file in path.parent.iterdir()}
        assert each.overrides[0] == "model=fake-model"
        assert (each.launcher, each.config["runs"]) == (launcher, "runs")
    assert not any("launcher" in word for each in made for word in each.overrides)
    assert {path.name for path in tmp_path.iterdir()} <= {"runs", "home", ".submitit"}
    assert not list(tmp_path.glob(".submitit/*/*"))
    again = command(*words)
    assert (again.returncode, len(records(tmp_path))) == (0, 6)
    assert "with 0 starts; 2 of them are done already" in again.stderr


def until(process: subprocess.Popen[str], said: str) -> str:
    """Read what a process says until it has said something."""
    assert process.stderr is not None
    seen = ""
    while said not in seen:
        line = process.stderr.readline()
        assert line, seen
        seen += line
    return seen


def errand(process: subprocess.Popen[str]) -> psutil.Process:
    """Return the process that measures a job."""
    below = psutil.Process(process.pid).children(recursive=True)
    return next(each for each in below if each.is_running() and "xinfer.launching.errand" in each.cmdline())


@pytest.mark.parametrize(
    ("above", "said"),
    [
        pytest.param(0, "the job's process was ended by SIGKILL; it is sent again", id="its-own-process"),
        pytest.param(1, "the job died: TerminatedWorkerError: ", id="the-launchers"),
    ],
)
def test_a_job_that_dies_is_sent_again(above: int, said: str, start: Start, tmp_path: Path) -> None:
    """As when the system is out of memory; its second try has the cell's only record."""
    with start(tmp_path, "-m", *SLOW, "hydra/launcher=joblib") as process:
        until(process, "measuring workload")
        own = errand(process)
        [own, *own.parents()][above].kill()
        output, rest = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, rest
    assert said in rest
    assert "tiny" in output
    assert [each.status for each in records(tmp_path)] == ["ok"]


def test_cells_beside_each_other_are_flagged(command: Ask, tmp_path: Path) -> None:
    """Two at once on one machine are not what either would be alone; one at a time is."""
    words = ("-m", "model=fake-model", "engine.args.gap-s=0,0.001", *TINY, "hydra/launcher=joblib")
    done = command(*words, "hydra.launcher.n_jobs=2", "hydra.launcher.alone=false")
    assert done.returncode == 0, done.stderr
    said = [[flag["text"] for flag in each.flags if "other cells" in flag["text"]] for each in records(tmp_path)]
    text = "hydra.launcher.alone=false: other cells of the sweep may have been measured on this machine meanwhile"
    assert said == [[text], [text]]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["interrupted", "terminated"])
def test_what_ends_the_sweep_ends_its_jobs(
    number: signal.Signals, start: Start, tmp_path: Path, survivors: Callable[[], list[psutil.Process]]
) -> None:
    """Nothing of them is left, and there is no record of what was not finished."""
    with start(tmp_path, "-m", *SLOW, "engine.args.gap-s=5", "hydra/launcher=joblib") as process:
        until(process, "measuring workload")
        process.send_signal(number)
        _, rest = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == {signal.SIGINT: 130, signal.SIGTERM: 143}[number]
    assert "Traceback" not in rest
    assert records(tmp_path) == []
    psutil.wait_procs(survivors(), timeout=PATIENCE_S)
    assert survivors() == []
