"""The scripts of the benchmark workflow, run as GitHub runs them; a stand-in for xinfer says what it was asked for."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from recorded import changed, repeats, write

from xinfer.deploying import workflow

FILE = Path(__file__).parents[2] / ".github" / "workflows" / "benchmark.yml"
SCRIPTS = {
    f"{name}: {step['name']}": step["run"]
    for name, job in yaml.safe_load(FILE.read_text(encoding="utf-8"))["jobs"].items()
    for step in job["steps"]
    if "run" in step
}
OVERRIDES = ["engine=fake", "engine.args.x=a b", "it's=$HOME", "~rules.x"]
STANDIN = """\
#!/usr/bin/env bash
# Notes where it was called and with which words, makes a run where it was told to, and ends as it was told to.
printf '%s\\n' "$(basename "$PWD") $(printf '[%s]' "$@")" >> "$LOG"
if [ "$2" = venv ]; then mkdir -p "$3/bin" && cp "$0" "$3/bin/python"; exit; fi
for word in "$@"; do
  if [[ $word == runs=* ]]; then mkdir -p "${word#runs=}/cell/$RANDOM$RANDOM"; fi
done
echo "$SAYS"
if [ "$(basename "$PWD")" = "$BREAKS" ]; then exit "$CODE"; fi
"""


def script(name: str) -> str:
    """Return a script of the first job that has one of this name."""
    return next(str(text) for label, text in SCRIPTS.items() if label.endswith(f": {name}"))


def run(where: Path, text: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run a script with ``shell: bash``, as GitHub documents it."""
    path = where / "script.sh"
    path.write_text(text, encoding="utf-8")
    known = {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "HOME": str(where), "LOG": str(where / "log"),
        "GITHUB_STEP_SUMMARY": str(where / "summary.md"), "OVERRIDES": shlex.join(OVERRIDES), "XINFER_TURNS": "3",
        "XINFER_GATE": "output_tps,ttft", "BREAKS": "", "CODE": "0", "SAYS": "",
    }  # fmt: skip
    words = ["bash", "--noprofile", "--norc", "-eo", "pipefail", str(path)]
    return subprocess.run(words, cwd=where, env={**known, **environ}, capture_output=True, text=True, check=False)


@pytest.fixture
def job(tmp_path: Path) -> Path:
    """Return a job's directory, with two checkouts and a stand-in for the xinfer of each."""
    for side in ("head", "base"):
        python = tmp_path / "venv" / side / "bin" / "python"
        python.parent.mkdir(parents=True)
        python.write_text(STANDIN, encoding="utf-8")
        python.chmod(0o755)
        (tmp_path / side).mkdir()
    return tmp_path


def calls(job: Path) -> list[str]:
    return (job / "log").read_text(encoding="utf-8").splitlines()


def kept(job: Path, side: str) -> int:
    return len(list(job.glob(f"runs/{side}/cell/*")))


def test_base_and_head_are_measured_in_turns(job: Path) -> None:
    """Who goes first alternates; every word arrives as it was typed; all runs lie together in the end."""
    done = run(job, script("measure in turns"))
    assert done.returncode == 0, done.stderr
    words = "".join(f"[{word}]" for word in OVERRIDES)
    order = [("base", 1), ("head", 1), ("head", 2), ("base", 2), ("base", 3), ("head", 3)]
    assert calls(job) == [f"{side} [-m][xinfer][runs=../turns/{side}/{turn}]{words}" for side, turn in order]
    assert (kept(job, "base"), kept(job, "head")) == (3, 3)


def test_a_base_that_cannot_run_the_row_is_left_out(job: Path) -> None:
    """The head is measured as often as if there were none."""
    done = run(job, script("measure in turns"), BREAKS="base", CODE="2")
    assert done.returncode == 0
    assert "::warning::the base commit cannot run this row" in done.stdout
    assert [call.split()[0] for call in calls(job)] == ["base", "head", "head", "head"]
    assert kept(job, "head") == 3
    assert not (job / "runs" / "base").exists()
    assert run(job, script("compare with the base commit")).returncode == 0
    assert len(calls(job)) == 4


def test_a_head_that_cannot_run_the_row_fails(job: Path) -> None:
    """What it left is kept."""
    (job / "base").rmdir()
    done = run(job, script("measure in turns"), BREAKS="head", CODE="4")
    assert (done.returncode != 0, len(calls(job)), kept(job, "head")) == (True, 1, 1)


@pytest.mark.parametrize(
    ("code", "ends", "says"),
    [
        pytest.param("0", 0, "", id="no-worse"),
        pytest.param("5", 5, "", id="worse"),
        pytest.param("2", 0, "::warning::the base and the head may not be compared", id="not-to-be-compared"),
        pytest.param("4", 4, "", id="broken"),
    ],
)
def test_the_comparison_decides(job: Path, code: str, ends: int, says: str) -> None:
    """And stands in the summary."""
    (job / "runs" / "base").mkdir(parents=True)
    done = run(job, script("compare with the base commit"), BREAKS=job.name, CODE=code, SAYS="a table")
    assert (done.returncode, done.stdout.startswith(says)) == (ends, True)
    assert (job / "summary.md").read_text(encoding="utf-8") == "a table\n"
    words = "[-m][xinfer][compare][runs/base][runs/head][metric=output_tps,ttft][format=markdown]"
    assert calls(job) == [f"{job.name} {words}"]


def test_what_is_kept_is_named_by_what_is_installed(job: Path) -> None:
    """Two rows with one environment share it."""
    plan = json.dumps({"launch": {"install": [["pip", "install", "engine==1"]], "argv": ["other"]}})
    done = run(job, script("name what the plan installs").replace("../venv", f"{job}/venv"), SAYS=plan)
    assert done.returncode == 0, done.stderr
    assert json.loads((job.parent / "install.json").read_text(encoding="utf-8")) == [["pip", "install", "engine==1"]]


@pytest.mark.parametrize(
    ("breaks", "ends", "left"),
    [
        pytest.param("", 0, ["base", "head"], id="both"),
        pytest.param("base", 0, ["head"], id="a-base-that-cannot-be-installed"),
        pytest.param("head", 1, ["base", "head"], id="a-head-that-cannot-be-installed"),
    ],
)
def test_each_commit_gets_an_environment(job: Path, breaks: str, ends: int, left: list[str]) -> None:
    """A base that cannot be installed is left out; nothing can be measured without a head."""
    shutil.move(job / "venv" / "head" / "bin", job / "bin")
    path = f"{job}/bin:{os.environ['PATH']}"
    done = run(job, script("install xinfer of both"), PATH=path, XINFER_INSTALL=". [x]", BREAKS=breaks, CODE="1")
    assert done.returncode == ends
    assert [side for side in ("base", "head") if (job / side).exists()] == left
    assert "head [-m][pip][install][--quiet][. [x]]" in calls(job)


def test_every_file_is_checked(job: Path) -> None:
    """Names may have spaces."""
    shutil.move(job / "venv" / "head" / "bin", job / "bin")
    run(job, script("check every row"), PATH=f"{job}/bin:{os.environ['PATH']}", FILES="a.yaml 'b c.yaml'")
    assert calls(job) == [f"{job.name} [-m][xinfer][matrix][a.yaml][b c.yaml]"]


def test_all_results_are_exported_and_compared(tmp_path: Path) -> None:
    """By xinfer itself; a comparison that finds something worse is shown, and decides nothing twice."""
    several = repeats([70.0, 71, 69, 70.5, 69.5])
    slower = [changed(each, run=f"{each.run}-head") for each in several]
    write(tmp_path / "runs" / "base", repeats([100.0, 101, 99, 100.5, 99.5]))
    write(tmp_path / "runs" / "head", [*slower, changed(cell="cell-b", flags=[{"id": "x"}])])
    done = run(tmp_path, script("export and compare"))
    assert done.returncode == 0, done.stderr
    assert "::notice::the comparison of all rows ended with exit code 5" in done.stdout
    assert sorted(path.name for path in (tmp_path / "results").iterdir()) == [
        "all.csv", "bencher.json", "comparison.md", "customBiggerIsBetter.json", "customSmallerIsBetter.json",
        "openmetrics.txt", "pytest-benchmark.json", "table.md",
    ]  # fmt: skip
    summary = (tmp_path / "summary.md").read_text(encoding="utf-8")
    assert "| model | engine |" in summary
    assert "worse: -30.0%" in summary
    assert "left out: cell-b" in done.stderr


def test_the_scripts_are_those_of_the_module() -> None:
    """None is left untested."""
    assert set(SCRIPTS.values()) == {
        workflow.CHECK, workflow.INSTALL, workflow.KEY, workflow.MEASURE, workflow.DECIDE, workflow.EXPORT,
        workflow.INSTALL_ONE,
    }  # fmt: skip
