"""``compare``: what is typed, what is printed, and one line for whatever cannot be compared."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from recorded import changed, repeats, write

from xinfer import cli, record
from xinfer.exporting import tables
from xinfer.measuring import statistics
from xinfer.verbs import compare

if TYPE_CHECKING:
    from collections.abc import Callable

    Ask = Callable[..., subprocess.CompletedProcess[str]]

SLOW, FAST = [100.0, 101, 99, 100.5, 99.5], [130.0, 131, 129, 130.5, 129.5]
TWO: dict[str, Any] = {"cell": "cell-b", "config__engine__threads": 2}


@pytest.fixture(autouse=True)
def runs(tmp_path: Path) -> Path:
    """Make two cells of five runs each, the second faster."""
    write(tmp_path / "runs", (*repeats(SLOW), *repeats(FAST, **TWO)))
    return tmp_path / "runs"


# Words


@pytest.mark.parametrize(
    ("typed", "overrides", "paths"),
    [
        pytest.param("compare a b c", [], ["a", "b", "c"], id="paths"),
        pytest.param("metric=ttft compare a format=json b", ["metric=ttft", "format=json"], ["a", "b"], id="any-order"),
        pytest.param("compare /x=y ./a=b run", [], ["/x=y", "./a=b", "run"], id="paths-that-look-like-something-else"),
    ],
)
def test_other_words_are_paths(typed: str, overrides: list[str], paths: list[str]) -> None:
    """For this verb alone, and after it."""
    line = cli.parse(typed.split())
    assert (line.verb, line.overrides, line.paths) == ("compare", overrides, [Path(path) for path in paths])


@pytest.mark.parametrize(
    ("typed", "metrics"),
    [
        pytest.param([], (), id="the-usual-ones"),
        pytest.param(["metric="], (), id="none-is-the-usual-ones"),
        pytest.param(["metric=ttft,output_tps"], ("ttft.p50", "output_tps"), id="a-time-is-its-median"),
        pytest.param(["metric=[ttft.p99, ttft,ttft.p50]"], ("ttft.p99", "ttft.p50"), id="each-once"),
    ],
)
def test_the_metrics_can_be_chosen(typed: list[str], metrics: tuple[str, ...]) -> None:
    """By the names that stand in a record."""
    assert compare.asked(typed).metrics == metrics


# What is printed


def test_the_table(ask: Ask) -> None:
    """What was compared, how, and what may be said of it; the same bytes each time."""
    done = ask("compare", "runs/cell-a", "runs/cell-b")
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[:8] == [
        "short: 128 tokens in, 128 out, 1 at once, AMD EPYC, 2 cores",
        "  A  smollm2-135m-instruct 0_135 ggufv2 Q4_1  llama_cpp 2026.10 wheel-cpu  5 runs  runs/cell-a",
        "  B  smollm2-135m-instruct 0_135 ggufv2 Q4_1  llama_cpp 2026.10 wheel-cpu  5 runs  runs/cell-b",
        "  engine.threads is 1 in A and 2 in B",
        "metric            A                     B                     B / A                 p     verdict",
        "output_tps tok/s  100.0 [99.0, 101.0]   130.0 [129.0, 131.0]  1.300 [1.284, 1.317]  0.04  better: +30.0%",
        "ttft.p50 ms       50.00 [49.51, 50.49]  38.46 [38.17, 38.75]  0.769 [0.760, 0.779]  0.04  better: -23.1%",
        "tpot.p50 ms       10.00 [9.90, 10.10]   7.692 [7.634, 7.751]  0.769 [0.760, 0.779]  0.04  better: -23.1%",
    ]  # fmt: skip
    assert lines[9] == (
        "peak_rss MiB      256.0 [256.0, 256.0]  256.0 [256.0, 256.0]  1.000 [1.000, 1.000]  1     same: within 5%"
    )
    assert " ".join(" ".join(lines[11:]).split()) == statistics.RULE
    assert ask("compare", "runs/cell-a", "runs/cell-b").stdout == done.stdout


def test_json_has_everything(ask: Ask) -> None:
    """Values as they are in the records, and the rule."""
    found = json.loads(ask("compare", "runs/cell-a", "runs/cell-b", "format=json", "metric=output_tps").stdout)
    assert (found["schema"], found["rule"], found["allow"], found["without"]) == (1, statistics.RULE, [], [])
    (pair,) = found["pairs"]
    assert pair["base"]["path"] == "runs/cell-a"
    assert pair["compared"] == [{"key": "engine.threads", "values": [1, 2]}]
    (row,) = pair["rows"]
    assert row["base"] | {"ci": None} == {"n": 5, "median": 100.0, "ci": None, "cv": statistics.centre(SLOW).cv}
    assert row["effect"]["ratio"] == 1.3
    assert (row["corrected_p"], row["verdict"], row["is_flagged"]) == (pytest.approx(2 / 252), "better", False)


def test_markdown_has_the_same(ask: Ask) -> None:
    """For a job's summary: a section for each pair, with what differs and a row for each metric."""
    out = ask("compare", "runs/cell-a", "runs/cell-b", "format=markdown", "metric=output_tps").stdout.splitlines()
    side = "smollm2-135m-instruct 0_135 ggufv2 Q4_1 llama_cpp 2026.10 wheel-cpu 5 runs"
    assert out[:9] == [
        "#### short: 128 tokens in, 128 out, 1 at once, AMD EPYC, 2 cores",
        "",
        f"- A {side} runs/cell-a",
        f"- B {side} runs/cell-b",
        "- engine.threads is 1 in A and 2 in B",
        "",
        "| metric | A | B | B / A | p | verdict |",
        "| --- | --- | --- | --- | --- | --- |",
        (
            r"| output_tps tok/s | 100.0 \[99.0, 101.0\] | 130.0 \[129.0, 131.0\] | 1.300 \[1.284, 1.317\] | 0.0079 "
            "| better: +30.0% |"
        ),
    ]
    assert out[10] == tables.escaped(statistics.RULE)


def test_markdown_names_what_is_not_compared(runs: Path, ask: Ask) -> None:
    """In a section of its own; a number that is not there is a dash."""
    write(runs / "more", [*repeats(FAST, **TWO), changed(cell="cell-c", config__workload__input_tokens=64)])
    found = ask("compare", "runs/cell-a", "runs/more", "format=markdown", "metric=output_tps,goodput").stdout
    assert "#### Not compared\n\n- B (cell-c) may not be compared with A (cell-a): " in found
    assert "| goodput req/s | - | - | - | - | inconclusive: not measured in A and B |" in found


def test_something_worse_ends_with_a_code_of_its_own(ask: Ask) -> None:
    """So that a pipeline stops; what is worse is named after the table."""
    done = ask("compare", "runs/cell-b", "runs/cell-a", "metric=output_tps,peak_rss")
    assert done.returncode == 5
    assert "worse: -23.1%" in done.stdout
    assert done.stderr == "xinfer: 1 number is worse than in the baseline\n  B (cell-a): output_tps -23.1%\n"
    done = ask("compare", "runs/cell-b", "runs/cell-a", "format=json")
    assert done.returncode == 5
    assert json.loads(done.stdout)["pairs"]
    assert done.stderr.startswith("xinfer: 4 numbers are worse than in the baseline\n")


def test_a_single_run_says_nothing(ask: Ask) -> None:
    """It is shown all the same."""
    one, other = (min(Path(f"runs/{cell}").iterdir()) for cell in ("cell-a", "cell-b"))
    out = ask("compare", str(one), f"{other}/record.json", "metric=output_tps").stdout
    assert "1 run  runs/cell-a/" in out
    assert "output_tps tok/s  100.0  130.0  1.300  -  inconclusive: 1+1 repeats; fewer than 4+4 say nothing\n" in out


def test_flagged_runs_are_grey_on_a_terminal_only(runs: Path, ask: Ask) -> None:
    """And say so where there are no colours."""
    write(runs, repeats(FAST, cell="cell-c", flags=[{"id": "noisy"}]))
    out = ask("compare", "runs/cell-a", "runs/cell-b", "runs/cell-c", "metric=output_tps").stdout
    assert "\x1b" not in out
    assert "5 runs  flagged: noisy  runs/cell-c" in out
    asked = compare.asked(["metric=output_tps"])
    found = compare.run([runs / f"cell-{name}" for name in "abc"], asked)
    grey = [line for line in compare.text(found, is_terminal=True).splitlines() if "\x1b" in line]
    assert len(grey) == 1
    assert grey[0].startswith("\x1b[2moutput_tps tok/s  100.0")
    assert grey[0].endswith("-  inconclusive: flagged (noisy)\x1b[22m")


def test_runs_that_do_not_count_are_told(runs: Path, ask: Ask) -> None:
    """With the reason of each."""
    write(runs, [changed(run="20261122T130000Z-noisy", flags=[{"id": "noisy"}])])
    out = ask("compare", "runs/cell-a", "runs/cell-b").stdout
    assert "5 runs  left out: 20261122T130000Z-noisy: noisy  runs/cell-a" in out


def test_whole_directories_are_compared_cell_by_cell(tmp_path: Path, ask: Ask) -> None:
    """What has no counterpart, or no numbers, is named at the end."""
    dead = changed(
        cell="cell-dead",
        status="failed",
        metrics=None,
        failure={"stage": "start", "message": "no\nport", "exit_code": 4},
    )
    alone = repeats(SLOW, cell="cell-c", config__workload__concurrency=4)
    later = (changed(made, run=f"{made.run}-later") for made in (*repeats(FAST), *repeats(FAST, **TWO), dead))
    write(tmp_path / "later", later)
    write(tmp_path / "runs", alone)
    out = ask("compare", "runs", "later", "metric=output_tps").stdout
    first, second, rest, _ = out.split("\n\n")
    assert ("better: +30.0%" in first, "same: within 5%" in second) == (True, True)
    assert "5 runs  runs/cell-a\n" in first
    assert "5 runs  later/cell-a\n" in first
    assert rest.splitlines() == [
        "not compared",
        "  A: cell-c has no counterpart",
        "  B: cell-dead has no numbers: failed: no port",
    ]


def test_what_may_not_be_compared_stands_beside_what_may(runs: Path, ask: Ask) -> None:
    """One cell's difference does not take the others along."""
    write(runs, repeats(FAST, cell="cell-c", config__workload__concurrency=4, prompts_hash="f"))
    out = ask("compare", "runs/cell-a", "runs/cell-b", "runs/cell-c").stdout
    assert "better" in out
    assert (
        "\nnot compared\n  C (cell-c) may not be compared with A (cell-a): workload.concurrency is 1 in A and 4 in C; "
        "workload.warmup is 1 in A and 4 in C; prompts_hash is 8d3d7fcdce4f133a in A and f in C\n"
    ) in out


def test_leave_is_printed(runs: Path, ask: Ask) -> None:
    """Nobody shall take a table of two quantizations for one of engines."""
    write(runs, repeats(FAST, cell="cell-c", decision__spec__quantization="Q8_0"))
    out = ask("compare", "runs/cell-a", "runs/cell-c", "allow=quantization").stdout
    assert "\n  model.quantization is Q4_1 in A and Q8_0 in B, as allow= permits\n" in out


# What cannot be compared


def test_other_work_is_refused_with_every_reason(runs: Path, ask: Ask) -> None:
    """A line for each cell."""
    write(runs, repeats(FAST, cell="cell-c", config__workload__concurrency=4, prompts_hash=None))
    twice = ask("compare", "runs/cell-a", "runs/cell-c", "runs/cell-b", "runs/cell-c").stderr
    assert twice.endswith("this run is in B and in D, where it is the same\n")
    write(runs, repeats(FAST, cell="cell-d", protocol=1))
    done = ask("compare", "runs/cell-a", "runs/cell-c", "runs/cell-d")
    assert (done.returncode, done.stdout) == (2, "")
    first, second = done.stderr.splitlines()
    assert first == (
        "xinfer: B (cell-c) may not be compared with A (cell-a): workload.concurrency is 1 in A and 4 in B; "
        "workload.warmup is 1 in A and 4 in B; prompts_hash is 8d3d7fcdce4f133a in A and not known in B"
    )
    why = f"protocol is {record.PROTOCOL} in A and 1 in C"
    assert second == f"  C (cell-d) may not be compared with A (cell-a): {why}"


def test_what_neither_knows_is_said_once(runs: Path, ask: Ask) -> None:
    """As of records from before a key was kept."""
    write(runs, repeats(SLOW, cell="cell-c", protocol=None))
    write(runs, repeats(SLOW, cell="cell-d", protocol=None))
    done = ask("compare", "runs/cell-c", "runs/cell-d")
    assert done.stderr == "xinfer: B (cell-d) may not be compared with A (cell-c): protocol is not known in A and B\n"


@pytest.mark.parametrize(
    ("paths", "said"),
    [
        pytest.param(["runs/cell-a", "runs/cell-a"], "this run is in A and in B, where it is the same", id="twice"),
        pytest.param(["runs/cell-b", "runs"], "this run is in A and in B, where it is the same", id="a-part-of-it"),
        pytest.param(["runs/cell-b", "copy"], "this run is in A and in B, where it is the same", id="a-copy-of-it"),
        pytest.param(["runs/cell-a", "runs/dead"], "no run in B has numbers: failed: it died", id="none-that-worked"),
        pytest.param(["runs/idle", "runs/cell-a"], "no run in A has numbers: nothing was measured", id="no-numbers"),
        pytest.param(["runs/cell-a", "runs/parity-x"], "no run in B has numbers\n", id="a-comparison-of-answers"),
        pytest.param(["runs/cell-a", "empty"], "empty: there are no records; say a record.json, or ", id="none-there"),
        pytest.param(["runs/cell-a", "broken.json"], "broken.json: not a record: ", id="a-corrupt-file"),
        pytest.param(
            ["runs/cell-a", "new.json"], "new.json: a record of schema 2; this xinfer reads", id="a-newer-one"
        ),
    ],
)
def test_what_cannot_be_compared_is_one_line(runs: Path, ask: Ask, paths: list[str], said: str) -> None:
    """It names the path; nothing is printed as a result."""
    failure = {"stage": "start", "message": "it died", "exit_code": 4}
    write(runs, [changed(cell="dead", status="failed", metrics=None, failure=failure)])
    write(runs, [changed(cell="idle", metrics=None), changed(cell="parity-x", metrics=None, parity={"pairs": []})])
    shutil.copytree(runs / "cell-b", runs.parent / "copy")
    (runs.parent / "empty").mkdir()
    (runs.parent / "broken.json").write_text('{"schema": 1, "cell":', encoding="utf-8")
    (runs.parent / "new.json").write_text('{"schema": 2}', encoding="utf-8")
    done = ask("compare", *paths)
    assert said in done.stderr
    assert done.stderr.startswith("xinfer: ")
    assert done.stderr.count("\n") == 1
    assert (done.returncode, done.stdout) == (2, "")


def test_planning_does_not_wait_for_numpy(tmp_path: Path) -> None:
    """Only a comparison loads it."""
    code = (
        "import sys; from xinfer import cli; cli.main(['plan', 'hw=cpu', 'engine=llama_cpp', 'format=shell']); "
        "sys.exit('numpy' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, bool(done.stdout)) == (0, True)
