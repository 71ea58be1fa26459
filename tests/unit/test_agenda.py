"""What a sweep says before it starts anything: counts, reasons, time by records, disk by what lies there."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from recorded import BASE, changed, write

from xinfer import engines, judgement
from xinfer.config.pieces import Pieces
from xinfer.environments import environment
from xinfer.errors import ConfigError, Refused, XinferError
from xinfer.record import Failure
from xinfer.verbs import agenda, start
from xinfer.verbs.agenda import Cell
from xinfer.verbs.cell import Attempt

if TYPE_CHECKING:
    from collections.abc import Callable

    from xinfer.plan import Artefact

    Make = Callable[..., Cell]

TWO_GIB = 2**31
FAILURE = Failure(stage="load", message="it hung", exit_code=4)


@pytest.fixture(scope="module")
def composer() -> Pieces:
    return Pieces(engines.conf_directories())


@pytest.fixture
def make(composer: Pieces, tmp_path: Path) -> Make:
    """Return how to make a cell that is judged, with its records and its home below the test's directory."""

    def cell(*typed: str, error: XinferError | None = None) -> Cell:
        words = ["engine=llama_cpp", f"home={tmp_path / 'home'}", f"runs={tmp_path / 'runs'}", *typed]
        made = Cell(Attempt(words, composer, lambda _: None, sweeping=True))
        made.error = error
        if error is None:
            made.last.judge()
        return made

    return cell


def said(*cells: Cell) -> list[str]:
    return list(agenda.lines(cells, start.groups([each.last for each in cells if each.is_due])))


def record_of(cell: Cell, **more: Any) -> Any:
    """Return a run of a cell on this machine."""
    made = cell.last
    decision = {"engine": made.judged.decision.engine, "spec": msgspec.to_builtins(made.judged.decision.spec)}
    found = changed(BASE, cell=made.cell, config__workload=dict(made.config["workload"]), decision=decision)
    machine = msgspec.to_builtins(judgement.this_machine())
    return msgspec.structs.replace(found, machine=machine, **more)


def complete(artefact: Artefact, size: int = 0) -> None:
    """Make a directory what the plan's steps would have made of it."""
    directory = Path(artefact.path)
    directory.mkdir(parents=True)
    (directory / "file").write_bytes(b"x" * size)
    marker = environment.Marker(steps=artefact.steps, resolved=(), made="2026-11-22T12:00:00+00:00", seconds=1.0)
    (directory / environment.MARKER).write_bytes(msgspec.json.encode(marker))


def test_refusals_are_counted_by_their_reasons(make: Make) -> None:
    """The most frequent first; of very many, the rest together."""
    cells = [make(error=Refused(f"reason {number % 25}")) for number in range(30)]
    lines = said(*cells, make(error=ConfigError("what is this")))
    assert lines[0] == "0 of 31 cells can run, with 0 starts"
    assert lines[1:6] == [f"refused   2 x rules: reason {number}" for number in range(5)]
    assert lines[6] == "refused   1 x rules: reason 5"
    assert lines[-1] == "refused   6 x for other reasons"
    assert len(lines) == 22


def test_what_is_kept_is_told(make: Make) -> None:
    """With how to measure it all the same, and what of it failed."""
    kept, failed, due = make(), make("workload=chat"), make("workload=short")
    kept.kept, failed.kept = (record_of(kept),), (record_of(failed, status="failed", failure=FAILURE),)
    assert said(kept)[:2] == [
        "1 of 1 cells can run, with 0 starts; 1 of them are done already",
        "kept      resume=off measures them anew",
    ]
    assert said(kept, failed, due)[:2] == [
        "3 of 3 cells can run, with 1 start; 2 of them are done already",
        "kept      resume=off measures them anew; 1 of these failed, and resume=failed tries them again",
    ]


def test_times_are_those_of_records(make: Make, tmp_path: Path) -> None:
    """Of the same cell, else of the same engine, artefact and workload on this machine; of others nothing is said."""
    same, alike, other = make("repeat.least=3"), make("engine.threads=1"), make("workload=chat")
    assert said(same)[1] == "time      not known: there is no record here of such a cell"
    runs = tmp_path / "runs"
    write(runs, [record_of(same, run=f"r{number}", seconds=float(number)) for number in (10, 20, 90)])
    assert said(same)[1] == "time      about 1 min for 1 of 1, by records of such cells"
    assert said(alike)[1] == "time      about 20 s for 1 of 1, by records of such cells"
    assert said(other)[1] == "time      not known: there is no record here of such a cell"
    assert said(alike, other)[1] == (
        "time      about 20 s for 1 of 2, by records of such cells; of the other 1 there is no record"
    )
    elsewhere = msgspec.structs.replace(record_of(other), machine={"id": "ffff"})
    write(runs, [elsewhere, record_of(other, run="failed", status="failed", failure=FAILURE)])
    assert said(other)[1] == "time      not known: there is no record here of such a cell"
    write(runs, [record_of(other, run="slow", seconds=9000.0)])
    assert said(other)[1] == "time      about 2.5 h for 1 of 1, by records of such cells"


def test_disk_is_what_is_published_and_what_lies_there(make: Make) -> None:
    """The size of an environment is known where there is one of the same engine and build."""
    cell = make()
    launch = cell.last.judged.launch
    assert launch is not None
    assert launch.environment is not None
    own, *weights = environment.roots(launch)
    first = said(cell)[2]
    assert first.startswith(
        "disk      2 to be made or fetched, 0.1 GiB for 1 of them; how large is not known of llama_cpp-"
    )
    assert first.endswith(" GiB are free")
    older = msgspec.structs.replace(own, path=own.path.replace("-wheel-cpu-", "-wheel-cpu-1."))
    complete(older, 2**20)
    assert said(cell)[2].startswith("disk      2 to be made or fetched, 0.1 GiB; ")
    for each in (own, *weights):
        complete(each)
    assert said(cell)[2] == "disk      nothing is to be made or fetched"


def test_what_is_installed_goes_first(make: Make) -> None:
    """Then what shares an environment, then what shares weights; all else stays in its order."""
    typed = {
        "new": ("model=qwen2-instruct", "engine=transformers"),
        "small": ("model=smollm2-135m-instruct",),
        "other": ("model=qwen2-instruct", "model.format=ggufv2"),
        "again": ("model=smollm2-135m-instruct", "context_length=512"),
        "own": ("model=smollm2-135m-instruct", "context_length=1024", f"engine.python={sys.executable}"),
    }
    attempts = {name: make(*words).last for name, words in typed.items()}

    def order() -> list[str]:
        groups = start.in_order([[each] for each in attempts.values()])
        return [next(name for name, each in attempts.items() if each is group[0]) for group in groups]

    assert order() == ["new", "small", "again", "other", "own"]
    launch = attempts["small"].judged.launch
    assert launch is not None
    for root in environment.roots(launch):
        complete(root)
    assert order() == ["small", "again", "own", "new", "other"]
