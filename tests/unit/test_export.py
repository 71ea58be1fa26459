"""``export``: what is typed, and what is told of that which is not exported."""

from __future__ import annotations

import csv
import io
import json
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from recorded import changed, repeats, write

from xinfer.measuring.quantity import METRICS
from xinfer.verbs import export

if TYPE_CHECKING:
    from collections.abc import Callable

    Ask = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(autouse=True)
def runs(tmp_path: Path) -> Path:
    """Make a cell that ran three times, one that was flagged, and one that failed."""
    failure = {"stage": "start", "message": "it | died", "exit_code": 4}
    write(tmp_path / "runs", repeats([90.0, 110, 100]))
    write(tmp_path / "runs", [changed(cell="cell-b", launch__engine="vllm", flags=[{"id": "noisy"}])])
    write(tmp_path / "runs", [changed(cell="cell-c", status="failed", failure=failure, metrics=None)])
    return tmp_path / "runs"


@pytest.mark.parametrize(
    ("typed", "asked"),
    [
        pytest.param([], {}, id="nothing"),
        pytest.param(
            ["metric=[ttft, ttft.p50,tpot.p99]"], {"metrics": ("ttft.p50", "tpot.p99")}, id="each-metric-once"
        ),
        pytest.param(["metric=all"], {"metrics": tuple(METRICS)}, id="all-metrics"),
        pytest.param(["format=bencher", "flagged=true"], {"format": "bencher", "flagged": True}, id="flagged-runs-too"),
        pytest.param(
            ["direction=smaller", "format=github-action-benchmark"],
            {"format": "github-action-benchmark", "direction": "smaller"},
            id="a-direction",
        ),
    ],
)
def test_what_is_typed(typed: list[str], asked: dict[str, Any]) -> None:
    """In any order; a distribution without a part is its median."""
    assert export.asked(typed) == export.Asked(**asked)


def test_numbers_of_runs_that_count(ask: Ask) -> None:
    """What does not count is told, and nothing else is printed with the document."""
    done = ask("export", "runs", "metric=output_tps")
    assert [(row["cell"], row["median"]) for row in csv.DictReader(io.StringIO(done.stdout))] == [("cell-a", "100.0")]
    assert done.stderr.splitlines() == [
        "left out: cell-b/20261122T120000Z-000000: flagged: noisy",
        "left out: cell-c/20261122T120000Z-000000: failed: it | died",
    ]
    assert done.returncode == 0


def test_a_cell_whose_runs_lie_apart_is_one(ask: Ask) -> None:
    """Each run counts once, however often it is named."""
    one, two, _ = sorted(str(each) for each in Path("runs/cell-a").iterdir())
    out = ask("export", one, two, "runs/cell-a", "format=bencher", "metric=output_tps").stdout
    ((measures),) = json.loads(out).values()
    assert measures == {"output_tps": {"value": 100.0, "lower_value": 90.0, "upper_value": 110.0}}


def test_a_comparison_of_answers_has_no_numbers(runs: Path, ask: Ask) -> None:
    """It is neither exported nor missed."""
    write(runs, [changed(cell="cell-p", parity={"pairs": []})])
    done = ask("export", "runs", "format=markdown")
    assert "cell-p" not in done.stdout + done.stderr
    assert len(done.stdout.splitlines()) == 2 + 3


def test_markdown_is_the_closing_table(ask: Ask) -> None:
    """With the flags and the failures, which stand in it."""
    done = ask("export", "runs", "format=markdown")
    head, line, *rows = done.stdout.splitlines()
    assert (head[:18], line[:13]) == ("| model | engine |", "| --- | --- |")
    assert [row.split(" | ")[4:6] for row in rows] == [["3", "ok"], ["1", "ok"], ["0", "failed"]]
    assert rows[1].endswith("| noisy |")
    assert rows[2].endswith(r"| start: it \| died |")
    assert done.stderr == ""


def test_metrics_that_a_format_has_no_place_for_are_told(ask: Ask) -> None:
    """Memory is no time."""
    done = ask("export", "runs/cell-a", "format=pytest-benchmark")
    assert done.stderr == "left out: peak_rss: no time, for which pytest-benchmark has no place\n"
