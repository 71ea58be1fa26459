"""Workflows: today's, clean by the linters of others, and nothing from outside becomes a part of a script.

``XINFER_UPDATE_GOLDEN=1 pytest tests/unit/test_workflow.py`` writes those of this repository anew.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
import yaml

from xinfer import expectation, matrix
from xinfer.deploying import dumping, workflow
from xinfer.expectation import Observed
from xinfer.matrix import Row
from xinfer.verbs import matrix as verb

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
KEPT = ROOT / ".github" / "workflows"
BIN = Path(sys.executable).parent
MADE_BY = ("matrix", "matrix/cpu.yaml", "format=workflow", "workload.requests=40")
"""What makes the benchmark: with so few requests as the file has, no number would count."""
SYSTEMS = ("ubuntu-24.04", "ubuntu-24.04-arm", "macos-15")
"""Linux on two kinds of processors, and macOS: what pyproject.toml names."""
RUNS = expectation.RUNS
ROW = Row(file="m.yaml", name="engine=fake", overrides=("engine=fake", "engine.args.x=a b"), expect=RUNS)


def unit_tests() -> str:
    """Return the workflow of this repository's tests, by what pyproject.toml claims."""
    named = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["classifiers"]
    pythons = [found[1] for each in named if (found := re.fullmatch(r".* :: Python :: (\d\.\d+)", each))]
    system = {"os": list(SYSTEMS), "python": pythons}
    fetched = [workflow.checkout(), workflow.python("${{ matrix.python }}")]
    tested = {
        "name": "test",
        "env": {"PYTHON": "${{ matrix.python }}"},
        "run": 'pip install nox\nnox -s "tests_on-$PYTHON"\n',
    }
    return "# Made by tests/unit/test_workflow.py of pyproject.toml; see there.\n" + workflow.commented(
        dumping.dump({
            "name": "tests", "on": workflow.EVENTS, "permissions": {"contents": "read"},
            "concurrency": workflow.CONCURRENCY, "defaults": workflow.DEFAULTS,
            "jobs": {
                "all": {
                    "name": "the test line of the README", "runs-on": "ubuntu-24.04", "timeout-minutes": 90,
                    "steps": [workflow.checkout(), workflow.python(), {"name": "test", "run": "bash .ci/run\n"}],
                },
                "tests": {
                    "name": "Python ${{ matrix.python }} on ${{ matrix.os }}", "runs-on": "${{ matrix.os }}",
                    "timeout-minutes": 60, "strategy": {"fail-fast": False, "matrix": system},
                    "steps": [*fetched, tested],
                },
            },
        })
    )  # fmt: skip


def steps(document: str) -> Iterator[dict[str, Any]]:
    for job in yaml.safe_load(document)["jobs"].values():
        yield from job["steps"]


def made(*rows: Row, directories: tuple[str, ...] = ()) -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load(workflow.text(rows, ["matrix"], directories=directories))
    return document


def rows(count: int) -> list[Row]:
    return [msgspec.structs.replace(ROW, name=f"n={n}", overrides=(f"n={n}",)) for n in range(count)]


# This repository's


def current(name: str, text: str) -> bool:
    if os.environ.get("XINFER_UPDATE_GOLDEN"):
        (KEPT / name).write_text(text, encoding="utf-8")
    return (KEPT / name).read_text(encoding="utf-8") == text


def test_the_benchmark_is_that_of_the_matrix(monkeypatch: pytest.MonkeyPatch) -> None:
    """As the command in its first line makes it; the rows are judged by the tests of the matrix."""
    monkeypatch.chdir(ROOT)
    asked = verb.asked(MADE_BY[2:])
    found = [matrix.overlaid(row, asked.overrides) for row in matrix.load(Path(MADE_BY[1])).rows]
    checked = [verb.Checked(row=row, observed=Observed()) for row in found]
    text = verb.text(asked, checked)
    assert text.startswith(f"# python -m xinfer {' '.join(MADE_BY)}\n")
    assert current("benchmark.yml", text)


def test_the_tests_are_those_of_the_project() -> None:
    """On three systems with three Pythons."""
    text = unit_tests()
    of = yaml.safe_load(text)["jobs"]["tests"]["strategy"]["matrix"]
    assert (len(of["os"]), len(of["python"])) == (3, 3)
    assert current("tests.yml", text)


def test_nothing_else_is_kept() -> None:
    """A file by hand would be nobody's."""
    assert sorted(path.name for path in KEPT.iterdir()) == ["benchmark.yml", "tests.yml"]


# What the linters of others say


def lint(tmp_path: Path, document: str) -> tuple[list[str], list[str]]:
    """Return what actionlint, with shellcheck, and zizmor find."""
    path = tmp_path / ".github" / "workflows" / "x.yml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(document, encoding="utf-8")
    shellcheck = shutil.which("shellcheck", path=str(BIN))
    assert shellcheck
    strictly = ("--offline", "--no-config", "--persona=pedantic", "--format=plain", "--color=never")
    words = [
        [str(BIN / "actionlint"), "-oneline", "-no-color", "-shellcheck", shellcheck, str(path)],
        [str(BIN / "zizmor"), *strictly, str(path)],
    ]
    one, other = (subprocess.run(each, capture_output=True, text=True, check=False, cwd=tmp_path) for each in words)
    assert one.returncode in (0, 1), one.stderr
    return one.stdout.splitlines(), re.findall(r"^(?:error|warning|info|help)\[\S+\]", other.stdout, re.MULTILINE)


def test_all_kept_are_clean(tmp_path: Path) -> None:
    """By syntax, types, shell, and security: nothing is found, small remarks included."""
    assert [lint(tmp_path, path.read_text(encoding="utf-8")) for path in KEPT.iterdir()] == [([], []), ([], [])]


def test_the_linters_find_what_is_wrong(tmp_path: Path) -> None:
    """An action by its tag, a title that becomes a script, a word that is split."""
    text = (KEPT / "tests.yml").read_text(encoding="utf-8")
    commit, _ = workflow.ACTIONS["actions/checkout"]
    bad = text.replace(f"@{commit}", "@v6").replace(
        "bash .ci/run", "echo ${{ github.event.pull_request.title }} $PYTHON"
    )
    first, second = lint(tmp_path, bad)
    assert any("untrusted" in line for line in first)
    assert any("SC2086" in line for line in first)
    assert {"error[unpinned-uses]", "error[template-injection]"} <= set(second)


@pytest.mark.parametrize("name", ["benchmark.yml", "tests.yml"])
def test_a_script_is_the_same_whatever_happens(name: str) -> None:
    """No expression stands in one; actions are commits; a file may only be read, and no token stays behind."""
    text = (KEPT / name).read_text(encoding="utf-8")
    for step in steps(text):
        assert "${{" not in step.get("run", "")
        assert re.fullmatch(r"[\w/-]+@[0-9a-f]{40}", step.get("uses", f"a@{'0' * 40}"))
        if step.get("uses", "").startswith("actions/checkout"):
            assert step["with"]["persist-credentials"] is False
    document = yaml.safe_load(text)
    assert document["permissions"] == {"contents": "read"}
    assert all(job["timeout-minutes"] <= 90 for job in document["jobs"].values())


# Anybody's


def test_a_row_reaches_its_script_as_words() -> None:
    """Quoted as the shell does, with the flags that it needs."""
    job = made(ROW, directories=("--config-dir", "my conf"))["jobs"]["measure-1"]
    (row,) = job["strategy"]["matrix"]["include"]
    assert row == {"name": "engine=fake", "overrides": "--config-dir 'my conf' engine=fake 'engine.args.x=a b'"}
    assert job["env"]["OVERRIDES"] == "${{ matrix.overrides }}"


def test_the_canary_goes_first() -> None:
    """And all others wait for it; without one they wait for the check."""
    canary = msgspec.structs.replace(ROW, is_canary=True, name="canary")
    jobs = made(canary, *rows(2))["jobs"]
    assert {name: job.get("needs") for name, job in jobs.items()} == {
        "check": None, "canary": ["check"], "measure-1": ["canary"], "results": ["canary", "measure-1"],
    }  # fmt: skip
    jobs = made(*rows(2))["jobs"]
    assert {name: job.get("needs") for name, job in jobs.items()} == {
        "check": None, "measure-1": ["check"], "results": ["measure-1"],
    }  # fmt: skip


def test_many_rows_are_several_jobs() -> None:
    """GitHub takes so many in one matrix."""
    jobs = made(*rows(matrix.GITHUB_MOST + 1))["jobs"]
    sizes = [len(jobs[name]["strategy"]["matrix"]["include"]) for name in ("measure-1", "measure-2")]
    assert sizes == [matrix.GITHUB_MOST, 1]
    names = {step["with"]["name"] for step in steps(yaml.safe_dump({"jobs": jobs})) if "upload" in step.get("uses", "")}
    assert names == {"runs-1-${{ strategy.job-index }}", "runs-2-${{ strategy.job-index }}", "results"}


def test_a_row_that_is_refused_is_checked_and_not_measured() -> None:
    """There is nothing to measure."""
    refused = msgspec.structs.replace(ROW, name="no", expect=expectation.read({"refused-by": ["fake.os"]}, "m.yaml"))
    jobs = made(ROW, refused)["jobs"]
    assert [row["name"] for row in jobs["measure-1"]["strategy"]["matrix"]["include"]] == ["engine=fake"]
    assert jobs["check"]["steps"][-1]["env"]["FILES"] == "m.yaml"
