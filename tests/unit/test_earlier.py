"""What counts as done: records of the same content, protocol and machine, and nothing that a killed run has left."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from recorded import BASE, MACHINE, changed, repeats, write

from xinfer import record
from xinfer.record import Failure
from xinfer.verbs import earlier

if TYPE_CHECKING:
    from pathlib import Path

HERE = str(MACHINE["id"])
FAILURE = Failure(stage="load", message="it hung", exit_code=4)
RUNS = [f"20261122T12000{number}Z-000000" for number in range(6)]


def history(place: Path, statuses: str) -> None:
    """Write a run for each letter, the oldest first: o is ok, f has failed."""
    made = [
        changed(BASE, run=run, status="ok" if letter == "o" else "failed", failure=None if letter == "o" else FAILURE)
        for run, letter in zip(RUNS, statuses, strict=False)
    ]
    if made:
        write(place, made)


def kept(place: Path, resume: str = "all", most: int = 9) -> list[str]:
    found = earlier.measured(place / BASE.cell, BASE.cell, HERE, resume=resume, most=most)
    return [f"{each.status[0]}{RUNS.index(each.run)}" for each in found]


@pytest.mark.parametrize(
    ("statuses", "resume", "most", "expected"),
    [
        pytest.param("", "all", 1, [], id="nothing-was-measured"),
        pytest.param("o", "all", 1, ["o0"], id="what-ran-is-done"),
        pytest.param("f", "all", 1, ["f0"], id="and-so-is-what-failed"),
        pytest.param("f", "failed", 1, [], id="unless-that-is-to-be-tried-again"),
        pytest.param("o", "failed", 1, ["o0"], id="which-what-ran-is-not"),
        pytest.param("oof", "off", 3, [], id="nothing-is-kept-if-nothing-shall-be"),
        pytest.param("ooo", "all", 2, ["o1", "o2"], id="the-newest-as-many-as-are-asked-for"),
        pytest.param("oof", "all", 3, ["o0", "o1", "f2"], id="a-failure-ends-the-repeats"),
        pytest.param("oofo", "all", 3, ["o0", "o1", "o3"], id="unless-it-was-tried-again"),
        pytest.param("ff", "all", 3, ["f1"], id="only-the-last-failure-counts"),
        pytest.param("oof", "failed", 3, ["o0", "o1"], id="repeats-go-on-where-they-failed"),
    ],
)
def test_what_is_kept(tmp_path: Path, statuses: str, resume: str, most: int, expected: list[str]) -> None:
    """A sweep goes on from what its records say."""
    history(tmp_path, statuses)
    assert kept(tmp_path, resume, most) == expected


@pytest.mark.parametrize(
    "other",
    [
        pytest.param({"machine__id": "ffffffffffff"}, id="of-another-machine"),
        pytest.param({"machine": None}, id="of-a-machine-that-nobody-knows"),
        pytest.param({"protocol": record.PROTOCOL - 1}, id="measured-in-another-way"),
        pytest.param({"cell": "cell-b"}, id="of-another-cell-in-the-folder-of-this-one"),
        pytest.param({"status": "refused"}, id="of-when-it-was-refused"),
    ],
)
def test_what_is_not_of_this_cell_here(tmp_path: Path, other: dict[str, Any]) -> None:
    """The content decides, and no folder's name."""
    history(tmp_path, "o")
    whole = msgspec.to_builtins(changed(BASE, run=RUNS[1], **other))
    path = tmp_path / BASE.cell / RUNS[1] / "record.json"
    path.parent.mkdir()
    path.write_bytes(msgspec.json.encode(whole))
    assert kept(tmp_path) == ["o0"]


def test_what_a_killed_run_has_left_counts_for_nothing(tmp_path: Path) -> None:
    """A folder without a record, and half a record."""
    history(tmp_path, "o")
    for run, files in ((RUNS[1], ["samples.jsonl", ".record.json.partial"]), (RUNS[2], ["record.json"])):
        for name in files:
            path = tmp_path / BASE.cell / run / name
            path.parent.mkdir(exist_ok=True)
            path.write_text('{"schema": 1, "cell"')
    assert kept(tmp_path) == ["o0"]


def test_a_refusal_is_kept_while_its_reason_is_the_same(tmp_path: Path) -> None:
    """Whatever machine it was found on."""
    refusal = Failure(stage="rules", message="no", exit_code=3)
    write(tmp_path, [changed(BASE, run=run, status="refused", failure=refusal, machine=None) for run in RUNS[:2]])
    place = tmp_path / BASE.cell
    (found,) = earlier.refused(place, BASE.cell, refusal, resume="all")
    assert found.run == RUNS[1]
    assert earlier.refused(place, BASE.cell, refusal, resume="off") == ()
    other = msgspec.structs.replace(refusal, message="yet another reason")
    assert earlier.refused(place, BASE.cell, other, resume="all") == ()


def test_heads_are_those_of_this_protocol(tmp_path: Path) -> None:
    """What cannot be read is none."""
    write(tmp_path, repeats([1.0, 2.0]))
    write(tmp_path, [changed(BASE, run=RUNS[5], protocol=1)])
    broken = tmp_path / BASE.cell / RUNS[4] / "record.json"
    broken.parent.mkdir()
    broken.write_text("[]")
    assert [(each.cell, each.seconds) for each in earlier.heads(tmp_path)] == [(BASE.cell, BASE.seconds)] * 2
