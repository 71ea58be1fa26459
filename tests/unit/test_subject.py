"""A cell as a benchmark: its name stays, its numbers are those of the runs that count, and the rest is told."""

from __future__ import annotations

from typing import Any

import pytest
from recorded import BASE, changed, repeats

from xinfer.exporting.subject import USUAL, Subject, subjects
from xinfer.history import Cell
from xinfer.measuring.quantity import METRICS
from xinfer.record import Failure, Record

NOISY = [{"id": "noisy"}, {"id": "short"}]
NAME = "smollm2-135m-instruct 0_135 ggufv2 Q4_1 / llama_cpp / short / 1 at once"


def cell(*runs: Record) -> Cell:
    return Cell(runs[0].cell, runs)


def one(*runs: Record, **asked: Any) -> Subject:
    ((found,), left_out) = subjects([cell(*runs)], **asked)
    assert left_out == []
    return found


def test_the_usual_metrics_are_metrics() -> None:
    """And each is there once."""
    assert set(USUAL) <= set(METRICS)
    assert len(USUAL) == len(set(USUAL))


def test_a_cell_has_the_median_of_its_runs() -> None:
    """And every value, so that a range can be given."""
    found = one(*repeats([90.0, 110, 100]), metrics=["output_tps", "goodput"])
    assert [(each.metric, each.values, each.median) for each in found.figures] == [
        ("output_tps", (90.0, 110.0, 100.0), 100.0),
        ("goodput", (), None),
    ]
    assert [(each.metric, value) for each, value in found.known] == [("output_tps", 100.0)]
    assert (found.runs, found.flags, found.version, found.cpu) == (3, (), "2026.10", "AMD EPYC")


@pytest.mark.parametrize(
    ("run", "why"),
    [
        pytest.param(changed(flags=NOISY), "flagged: noisy, short", id="a-flagged-run"),
        pytest.param(
            changed(status="failed", metrics=None, failure={"stage": "start", "message": "no\nmemory", "exit_code": 4}),
            "failed: no memory",
            id="a-failed-run",
        ),
        pytest.param(changed(status="skipped"), "skipped: nothing was measured", id="a-skipped-run"),
        pytest.param(changed(metrics=None), "ok: nothing was measured", id="a-run-without-numbers"),
    ],
)
def test_a_run_that_does_not_count_is_told(run: Record, why: str) -> None:
    """Beside those that do, whose numbers it does not touch."""
    good = changed(run="20261122T120001Z-000001", metrics__output_tps=50.0)
    (found,), left_out = subjects([cell(run, good)], ["output_tps"])
    assert found.figures[0].values == (50.0,)
    assert left_out == [f"cell-a/{run.run}: {why}"]
    assert subjects([cell(run)]) == ([], left_out)


def test_flagged_runs_count_where_that_is_asked() -> None:
    """What they were found wanting in goes with the numbers, each once."""
    runs = [changed(flags=NOISY), changed(run="20261122T120001Z-000001", flags=NOISY[:1], metrics__output_tps=50.0)]
    found = one(*runs, metrics=["output_tps"], flagged=True)
    assert (found.flags, found.figures[0].values) == (("noisy", "short"), (100.0, 50.0))


# Names


@pytest.mark.parametrize(
    ("change", "name"),
    [
        pytest.param({}, NAME, id="what-is-measured"),
        pytest.param({"cell": "cell-z", "launch__version": "2027.1"}, NAME, id="not-the-engines-version"),
        pytest.param({"hardware__cpu": "Xeon", "machine__id": "f"}, NAME, id="not-the-processor"),
        pytest.param({"hardware__os": "linux", "hardware__arch": "x86_64"}, f"{NAME} / linux x86_64", id="the-system"),
        pytest.param({"hardware__gpus": 2, "hardware__gpu": {"name": "H100"}}, f"{NAME} / 2 x H100", id="its-gpus"),
        pytest.param({"hardware__gpus": 1}, f"{NAME} / 1 x GPU", id="a-gpu-without-a-name"),
        pytest.param(
            {"overrides": ["engine=llama_cpp", "engine.threads=1", "repeat.least=5", "runs=x", "model.size=0_135"]},
            f"{NAME} / engine.threads=1",
            id="what-was-asked-for-besides",
        ),
        pytest.param(
            {"overrides": ["~rules.engines.vllm.family", "+prefer.formats=[gguf]", "rules=p"]}, NAME,
            id="not-how-it-was-chosen",
        ),
        pytest.param({"overrides": ["experiment=fast"]}, f"{NAME} / experiment=fast", id="an-experiment"),
        pytest.param(
            {"foreign": {"source": "vllm bench 0.32"}},
            NAME.replace("1 at once", "1 at once, vllm bench 0.32"),
            id="whose-load-generator",
        ),
        pytest.param({"decision": None, "launch": None, "config": {}}, "-", id="a-record-of-hardly-anything"),
    ],
)  # fmt: skip
def test_a_name_outlives_what_changes_by_itself(change: dict[str, Any], name: str) -> None:
    """Or a tracker would begin a new history with each version and each processor."""
    assert one(changed(**change)).name == name


def test_two_cells_never_have_one_name() -> None:
    """A tracker that finds entries by name would compare one with the other."""
    several = [cell(changed(cell=f"slug-{digest}")) for digest in ("0a1b", "2c3d")]
    found, _ = subjects([*several, cell(changed(cell="slug-4e5f", launch__engine="vllm"))])
    assert [each.name for each in found] == [f"{NAME} / 0a1b", f"{NAME} / 2c3d", NAME.replace("llama_cpp", "vllm")]


def test_a_failure_is_typed() -> None:
    """The record that the tables above change has the shape of a real one."""
    assert isinstance(changed(BASE, failure={"stage": "s", "message": "m", "exit_code": 4}).failure, Failure)
