"""Jobs and what becomes of them, with a launcher that is a function."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import msgspec
import pytest

from xinfer import __version__, engines, record
from xinfer.config.compose import Composer
from xinfer.errors import EngineError, LaunchError
from xinfer.launching import errand, job, work
from xinfer.launching.job import Job, Outcome
from xinfer.launching.launcher import Need, Settings
from xinfer.record import Record
from xinfer.spec import Workload
from xinfer.verbs import sweep
from xinfer.verbs.dispatch import Dispatch

if TYPE_CHECKING:
    from collections.abc import Callable

    from xinfer.verbs.agenda import Cell

CELL = ("model=fake-model", "rules=fake", "workload=tiny", "engine=fake")
FOUR_GPUS = ("hw=h100", "hw.gpus=4", "engine=vllm", "engine.args.tensor-parallel-size=4", "model=qwen2-instruct")


class Stub:
    """Carries jobs by a function."""

    name: ClassVar[str] = "stub"
    is_elsewhere: ClassVar[bool] = False

    def __init__(self, carry: Callable[[Job], Outcome], *, alone: bool = True, retries: int = 2) -> None:
        self.settings = Settings(alone=alone, retries=retries)
        self.at_once = 2
        self.needs: list[Need] = []
        self.asked: list[Job] = []
        self._carry = carry

    def call(self, job_: bytes, need: Need) -> bytes:
        self.needs.append(need)
        self.asked.append(job.unpacked(job_, Job))
        return job.packed(self._carry(self.asked[-1]))

    def stop(self) -> None:
        pass


class Elsewhere(Stub):
    """Carries them to other machines."""

    is_elsewhere: ClassVar[bool] = True


@pytest.fixture
def swept(fake_plugin: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[Cell]]:
    """Return how to sweep over cells by a launcher."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XINFER_HOME", str(tmp_path / "home"))

    def run(stub: Stub, *cells: tuple[str, ...]) -> list[Cell]:
        composer = Composer([fake_plugin, *engines.conf_directories()])
        return sweep.carried_out(cells, composer, multirun=True, carrier=Dispatch(stub, [fake_plugin]))

    return run


def answered(asked: Job) -> Outcome:
    """Return what comes back of a job whose cells were all measured."""
    runs = []
    for number, (cell, title) in enumerate(zip(asked.cells, asked.titles, strict=False)):
        made = Record(
            cell="c", run=f"r{title[1]}", status="ok", started="", seconds=1.0, overrides=cell,
            protocol=record.PROTOCOL, xinfer=__version__, metrics={"output_tps": 1.0},
        )  # fmt: skip
        files = {"record.json": msgspec.json.encode(made), "engine.log": b"ready"}
        runs.append(job.Run(number=number, cell="c", run=made.run, files=files))
    return Outcome(host="there", runs=tuple(runs))


def test_every_cell_of_a_job_gets_its_records(swept: Callable[..., list[Cell]], tmp_path: Path) -> None:
    """What shares a server is one job; its files lie at home as if they had been made there."""
    stub = Stub(answered)
    cells = swept(stub, (*CELL, "workload.concurrency=1"), (*CELL, "workload.concurrency=2"))
    assert len(stub.asked) == 1
    (asked,) = stub.asked
    assert asked.cells == ((*CELL, "workload.concurrency=1"), (*CELL, "workload.concurrency=2"))
    assert asked.capacity.concurrency == 2
    assert [each.records[0].path for each in cells] == ["runs/c/r1/record.json", "runs/c/r2/record.json"]
    made = record.read(tmp_path / "runs/c/r2/record.json")
    assert (made, made.launcher, made.files) == (cells[1].records[0], "stub", ("engine.log",))
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == ["c"]


def test_a_job_is_sent_again_as_often_as_is_allowed(
    swept: Callable[..., list[Cell]], capsys: pytest.CaptureFixture[str]
) -> None:
    """Whatever a library raises; its first line is the reason, the rest are details."""

    def die(_: Job) -> Outcome:
        raise ValueError("the node is gone\nsince noon")

    stub = Stub(die, retries=1)
    (cell,) = swept(stub, CELL)
    assert len(stub.asked) == 2
    (made,) = cell.records
    assert made.failure == record.Failure(
        stage="launch", message="the job died: ValueError: the node is gone", exit_code=4, details=("since noon",)
    )
    said = capsys.readouterr().err
    assert said.count("the job died: ValueError: the node is gone; it is sent again\n") == 1


def test_a_second_try_may_do(swept: Callable[..., list[Cell]]) -> None:
    """Then nothing is left of the first."""

    def die_once(asked: Job) -> Outcome:
        if len(stub.asked) == 1:
            raise LaunchError("no node")
        return answered(asked)

    stub = Stub(die_once)
    (cell,) = swept(stub, CELL)
    assert [each.status for each in cell.records] == ["ok"]


def test_a_cell_that_did_not_come_back_has_failed(swept: Callable[..., list[Cell]]) -> None:
    """It is not lost because the others of its job are there."""

    def forget(asked: Job) -> Outcome:
        return answered(msgspec.structs.replace(asked, cells=asked.cells[:1]))

    cells = swept(Stub(forget), (*CELL, "workload.concurrency=1"), (*CELL, "workload.concurrency=2"))
    assert [each.records[0].status for each in cells] == ["ok", "failed"]
    failure = cells[1].records[0].failure
    assert failure is not None
    assert failure.message == "the job ended without a record of this cell"


@pytest.mark.parametrize(
    ("alone", "cells", "flagged"),
    [
        pytest.param(False, 2, True, id="two-at-once-may-disturb-each-other"),
        pytest.param(True, 2, False, id="not-if-each-waits-for-the-other"),
        pytest.param(False, 1, False, id="one-has-nobody-beside-it"),
    ],
)
def test_cells_that_may_have_disturbed_each_other_are_flagged(
    swept: Callable[..., list[Cell]], *, alone: bool, cells: int, flagged: bool
) -> None:
    """A flagged row is shown and not ranked."""
    asked = [(*CELL, f"engine.args.gap-s={number}") for number in range(cells)]
    made = swept(Stub(answered, alone=alone), *asked)
    found = [flag["id"] for each in made for flag in each.records[-1].flags]
    assert found == (["noisy"] * cells if flagged else [])


@pytest.mark.parametrize(
    ("words", "need"),
    [
        pytest.param(FOUR_GPUS, Need(gpus=4), id="what-the-plan-for-a-declared-machine-uses"),
        pytest.param(CELL, Need(), id="nothing-where-it-is-not-known-which-machine"),
        pytest.param((*CELL, "hw=cpu", "hw.cores=3"), Need(gpus=0, cores=3), id="the-cores-that-are-declared"),
    ],
)
def test_a_job_needs(swept: Callable[..., list[Cell]], words: tuple[str, ...], need: Need) -> None:
    """GPUs and cores come from the launch plan; a machine that is not this one is judged where it is."""
    stub = Elsewhere(answered)
    (cell,) = swept(stub, words)
    assert stub.needs == [need]
    assert cell.records[0].status == "ok"


def test_what_no_machine_could_run_never_leaves(swept: Callable[..., list[Cell]]) -> None:
    """A declared machine's rules are judged at home."""
    stub = Elsewhere(answered)
    (cell,) = swept(stub, ("model=qwen2-instruct", "hw=h100", "engine=mlx"))
    assert (stub.asked, cell.records[0].status) == ([], "refused")


def test_what_was_measured_elsewhere_is_not_measured_again(swept: Callable[..., list[Cell]], fake_plugin: Path) -> None:
    """By the configuration alone, as nobody knows which machine it will be; unless that is asked for."""
    composer = Composer([fake_plugin, *engines.conf_directories()])

    def measured(asked: Job) -> Outcome:
        (run,) = answered(asked).runs
        made = msgspec.json.decode(run.files["record.json"], type=Record)
        config = record.shortened(composer.compose(asked.cells[0]))
        body = msgspec.json.encode(msgspec.structs.replace(made, config=config))
        again = msgspec.structs.replace(run, run=f"r{len(stub.asked)}", files={"record.json": body})
        return Outcome(host="there", runs=(again,))

    stub = Elsewhere(measured)
    for words, count in ((CELL, 1), (CELL, 1), ((*CELL, "resume=off"), 2), ((*CELL, "port=1"), 3)):
        (cell,) = swept(stub, words)
        assert (len(stub.asked), len(cell.records)) == (count, 1)


# The bytes


def test_what_is_no_job_is_said_to_be_none() -> None:
    """Of another version, or cut off."""
    with pytest.raises(EngineError, match=r"^what came back is no outcome: "):
        job.unpacked(b"x", Outcome)


@pytest.mark.parametrize("name", ["../x", "a/b", "", ".", "-rf", "/etc/x"])
def test_nothing_comes_home_to_another_place(name: str, tmp_path: Path) -> None:
    """A run's names are plain ones."""
    made = Record(cell="c", run="r", status="ok", started="", seconds=0.0)
    files = {"record.json": msgspec.json.encode(made)}
    for run in (
        job.Run(number=0, cell=name, run="r", files=files),
        job.Run(number=0, cell="c", run=name, files=files),
        job.Run(number=0, cell="c", run="r", files={**files, name: b""}),
    ):
        with pytest.raises(EngineError, match=r"came back as the name of a file$"):
            job.settled(run, tmp_path / "runs", launcher="stub")
    assert not list(tmp_path.glob("runs/*/*/*"))


def test_the_users_own_files_go_along(tmp_path: Path) -> None:
    """Those of the groups, and no others."""
    (tmp_path / "conf" / "model").mkdir(parents=True)
    (tmp_path / "conf" / "model" / "mine.yaml").write_text("family: mine\n")
    (tmp_path / "conf" / "secret.yaml").write_text("x: 1\n")
    packed = job.configuration([tmp_path / "conf"])
    assert packed == ({"model/mine.yaml": "family: mine\n"},)
    (there,) = job.laid_out(packed, tmp_path / "there")
    assert (there / "model" / "mine.yaml").read_text() == "family: mine\n"


def test_a_process_that_cannot_start_is_an_outcome(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Its exit code and its last words are the reason."""
    monkeypatch.setattr(sys, "executable", "/bin/false")
    asked = Job(
        cells=(),
        titles=(),
        kept=(),
        capacity=Workload(name="tiny", input_tokens=8, output_tokens=4),
        cwd=str(tmp_path / "gone"),
    )
    found = job.unpacked(work.carried_out(job.packed(asked)), Outcome)
    assert (found.failure, found.runs) == ("the job's process ended with exit code 1", ())


def test_another_version_measures_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its numbers could not be told from those of this one."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    asked = Job(
        xinfer="0.0",
        cells=(),
        titles=(),
        kept=(),
        capacity=Workload(name="tiny", input_tokens=8, output_tokens=4),
        cwd=".",
        is_alone=False,
    )
    found = errand.outcome(asked)
    assert found.failure is not None
    assert found.failure.startswith("the job was sent by xinfer 0.0, and here is xinfer ")
