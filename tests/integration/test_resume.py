"""A sweep that ended anywhere, killed or not, is continued by the same command; and each failure ends its own cell."""

from __future__ import annotations

import random
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from xinfer import record

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable

    import psutil

    from xinfer.record import Record

    Ask = Callable[..., subprocess.CompletedProcess[str]]
    Start = Callable[..., subprocess.Popen[str]]
    Find = Callable[[], list[psutil.Process]]

PATIENCE_S = 60.0
KILLS = 3
OWN = ("--config-dir", str(Path(__file__).parents[1] / "resources" / "conf"))
TINY = ("-m", "model=fake-model", "rules=fake", "workload=tiny", "engine=fake")


def records(directory: Path) -> list[Record]:
    found = [record.read(path) for path in directory.glob("runs/*/*/record.json")]
    return sorted(found, key=lambda each: each.started)


def statuses(directory: Path) -> Counter[str]:
    return Counter(each.status for each in records(directory))


def test_what_is_finished_is_not_done_again(command: Ask, tmp_path: Path) -> None:
    """Unless that is asked for: failures alone, or all."""
    words = (*TINY, "engine.behaviour=serve,die-at-start", "workload.concurrency=1,2")
    first = command(*words)
    assert (first.returncode, statuses(tmp_path)) == (4, {"ok": 2, "failed": 2})
    again = command(*words)
    assert (again.returncode, statuses(tmp_path)) == (4, {"ok": 2, "failed": 2})
    assert again.stdout == first.stdout
    assert again.stderr.splitlines() == [
        "4 of 4 cells can run, with 0 starts; 4 of them are done already",
        "kept      resume=off measures them anew; 2 of these failed, and resume=failed tries them again",
        "2 ok, 0 refused, 2 failed; 4 of them kept from an earlier sweep",
        "4 records below runs",
    ]
    more = command(*words, "repeat.least=2", "resume=failed")
    assert (more.returncode, statuses(tmp_path)) == (4, {"ok": 4, "failed": 4})
    assert more.stderr.startswith("4 of 4 cells can run, with 2 starts\ntime      about ")
    anew = command(*words, "resume=off")
    assert (anew.returncode, statuses(tmp_path)) == (4, {"ok": 6, "failed": 6})


def test_a_server_is_planned_for_what_was_measured_before_too(command: Ask, tmp_path: Path) -> None:
    """Whether a sweep was interrupted makes no other cells of those that are left."""
    words = (*TINY, "workload.concurrency=4,2")
    assert command(*words).returncode == 0
    lost = next(each for each in records(tmp_path) if each.config["workload"]["concurrency"] == 2)
    Path(tmp_path, lost.path).unlink()
    again = command(*words)
    assert again.stderr.startswith("2 of 2 cells can run, with 1 start; 1 of them are done already\n")
    assert len(records(tmp_path)) == 2
    (made,) = [each for each in records(tmp_path) if each.config["workload"]["concurrency"] == 2]
    assert made.cell == lost.cell


@pytest.mark.usefixtures("fake_plugin")
def test_refusals_are_kept_once(ask: Ask, tmp_path: Path) -> None:
    """By the rules, and because nobody can understand what was asked."""
    words = (*OWN, "-m", "model=qwen2-instruct,llama-3,nope", *TINY[2:])
    first, again = ask(*words), ask(*words)
    assert (first.returncode, again.returncode) == (3, 3)
    assert first.stdout == again.stdout
    assert statuses(tmp_path) == {"refused": 3}
    ask(*words, "resume=off")
    assert statuses(tmp_path) == {"refused": 6}


@pytest.mark.usefixtures("fake_plugin")
@pytest.mark.parametrize(
    ("typed", "code", "first"),
    [
        pytest.param(["-m", "model=fake-model,qwen2-instruct"], 0, "1 of 2 cells can run, with 1 start", id="one-can"),
        pytest.param(["-m", "model=qwen2-instruct,nope"], 3, "0 of 2 cells can run, with 0 starts", id="none-can"),
        pytest.param(["model=fake-model"], 0, "1 of 1 cells can run, with 1 start", id="a-single-cell"),
    ],
)
def test_a_dry_sweep_says_what_it_would_do(ask: Ask, tmp_path: Path, typed: list[str], code: int, first: str) -> None:
    """On standard output, and leaves nothing."""
    done = ask(*OWN, *typed, *TINY[2:], "dry=true", "engine.weights=write")
    assert (done.returncode, done.stdout.splitlines()[0]) == (code, first)
    assert not (tmp_path / "runs").exists()
    assert not (tmp_path / "home").exists()
    if code == 0:
        assert "\ndisk      1 to be made or fetched" in done.stdout


def test_a_single_run_is_always_measured(command: Ask, tmp_path: Path) -> None:
    """Who asks for one cell wants its numbers as they are now."""
    for _ in range(2):
        assert command(*TINY[1:]).returncode == 0
    assert statuses(tmp_path) == {"ok": 2}


# Stages that do not end


def test_what_hangs_fails_its_cell_alone(command: Ask, tmp_path: Path, survivors: Find) -> None:
    """The stage and the key that ended it are named, and the next cell has its turn."""
    words = ("engine.args.gap-s=60,0", "measure_timeout_s=5")
    done = command(*TINY, *words)
    assert done.returncode == 4
    (failed,) = (each.failure for each in records(tmp_path) if each.failure)
    assert (failed.stage, failed.message) == ("load", "workload tiny took longer than measure_timeout_s=5")
    assert statuses(tmp_path) == {"ok": 1, "failed": 1}
    done = command(*TINY, "engine.weights=hang,null", "install_timeout_s=0.5", "runs=others")
    assert done.returncode == 4
    assert "provision: what it needs was not complete after install_timeout_s=0.5" in done.stdout
    assert done.stderr.splitlines()[-2:] == ["1 ok, 0 refused, 1 failed", "2 records below others"]
    assert survivors() == []


def test_an_engine_that_is_killed_fails_its_cell_alone(command: Ask, tmp_path: Path) -> None:
    """How it ended is said."""
    done = command(*TINY, "engine.behaviour=be-killed-mid-stream,serve")
    assert (done.returncode, statuses(tmp_path)) == (4, {"ok": 1, "failed": 1})
    (failure,) = (each.failure for each in records(tmp_path) if each.failure)
    assert any("was ended by SIGKILL" in line for line in (failure.message, *failure.details))


# Killed


def test_a_sweep_that_is_killed_goes_on(start: Start, tmp_path: Path, survivors: Find) -> None:
    """Three times at some moment: no cell is lost, none is doubled, nothing is left running."""
    chance = random.Random()  # noqa: S311 -- any moment will do
    words = (*TINY, "engine.args.gap-s=0,0.001,0.002", "workload.requests=4,5")
    ended = 0
    for _ in range(KILLS):
        before = {each.run for each in records(tmp_path)}
        with start(tmp_path, *words) as process:
            assert process.stderr is not None
            for _ in range(chance.randint(1, 12)):
                ended += not process.stderr.readline()
            process.kill()
        until(lambda: not survivors())
        assert before <= {each.run for each in records(tmp_path)}
    with start(tmp_path, *words) as process:
        output, said = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, said
    assert said.splitlines()[-2].startswith("6 ok, 0 refused, 0 failed")
    assert len(output.splitlines()) == 1 + 6
    assert Counter(each.cell for each in records(tmp_path)) == dict.fromkeys({r.cell for r in records(tmp_path)}, 1)
    assert statuses(tmp_path) == {"ok": 6}
    assert survivors() == []


def until(condition: Callable[[], object]) -> None:
    deadline_s = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline_s, "waited in vain"
        time.sleep(0.05)
