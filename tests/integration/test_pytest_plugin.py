"""``pytest --xinfer``: each row of a matrix is a test, and without it nothing is as much as imported."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from xinfer import engines
from xinfer.config.compose import Composer
from xinfer.verbs import matrix as verb

MATRIX = Path(__file__).parents[2] / "matrix"
RESOURCES = Path(__file__).parents[1] / "resources"
ROWS = """
axes: {model: qwen2-instruct, hw: [cuda, cpu, rocm]}
expect:
  - {where: {hw: cuda}, expect: {chooses: vllm}}
  - expect: {chooses: transformers}
include:
  - {row: {model: qwen2-instruct, hw: cpu, engine: vllm}, expect: {refused-by: [vllm.cuda]}}
"""
ID = "m.yaml::model=qwen2-instruct hw={}"


@pytest.fixture(scope="module", autouse=True)
def _imported() -> None:
    """Import what judging needs: what a run of pytester imports is forgotten after it, and what is cached is not."""
    verb.load([MATRIX / "cpu.yaml"], verb.Asked(), Composer(engines.conf_directories()))


@pytest.fixture
def rows(pytester: pytest.Pytester) -> pytest.Pytester:
    """Return a directory with a matrix and a test of somebody's own."""
    pytester.path.joinpath("m.yaml").write_text(ROWS, encoding="utf-8")
    pytester.makepyfile(test_own="def test_own():\n    pass\n")
    return pytester


def test_every_row_of_every_file_comes_out_as_expected(pytester: pytest.Pytester) -> None:
    """Chosen by the engine that the page would choose, or refused by exactly these conditions."""
    files = sorted(MATRIX.glob("*.yaml"))
    assert [file.stem for file in files] == ["apple", "cpu", "documented", "h100"]
    done = pytester.runpytest_inprocess("-q", *(word for file in files for word in ("--xinfer", file)))
    outcomes = done.parseoutcomes()
    assert list(outcomes) == ["passed"]
    assert outcomes["passed"] > 600


def test_rows_come_beside_other_tests(rows: pytest.Pytester) -> None:
    """In the order of the file, and once, whether pytest finds the file by itself or not."""
    done = rows.runpytest_inprocess("--xinfer", "m.yaml", "--collect-only", "-q")
    names = [ID.format(name) for name in ("cuda", "cpu", "rocm", "cpu engine=vllm")]
    assert done.outlines[:5] == [*names, "test_own.py::test_own"]
    done = rows.runpytest_inprocess("--xinfer", "m.yaml", "--collect-only", "-q", "test_own.py")
    assert done.outlines[:5] == ["test_own.py::test_own", *names]
    rows.runpytest_inprocess("--xinfer", "m.yaml", "--xinfer", "m.yaml").assert_outcomes(passed=5)


def test_rows_are_chosen_as_tests_are(rows: pytest.Pytester) -> None:
    """By a word of their names, by the file, and by their ids."""
    rows.runpytest_inprocess("--xinfer", "m.yaml", "-k", "cpu and not vllm").assert_outcomes(passed=1, deselected=4)
    rows.runpytest_inprocess("--xinfer", "m.yaml", "m.yaml").assert_outcomes(passed=4)
    rows.mkdir("sub")
    rows.runpytest_inprocess("--xinfer", "sub/../m.yaml", ID.format("rocm")).assert_outcomes(passed=1)


def test_rows_are_shared_out_among_workers(rows: pytest.Pytester) -> None:
    """As xdist does with other tests."""
    done = rows.runpytest_subprocess("--xinfer", "m.yaml", "-n", "2", "-p", "no:cacheprovider")
    done.assert_outcomes(passed=5)


def test_a_failure_is_one_line(rows: pytest.Pytester) -> None:
    """What was expected and what is instead; or what a row cannot mean."""
    rows.path.joinpath("w.yaml").write_text("axes: {model: [llama-3, lama-3], hw: cpu, engine: vllm}", encoding="utf-8")
    done = rows.runpytest_inprocess("--xinfer", "w.yaml", "w.yaml", "-rN")
    done.assert_outcomes(failed=2)
    assert [line for line in done.outlines if "___" in line or ": " in line][-4:] == [
        "_ model=llama-3 hw=cpu engine=vllm _".center(80, "_"),
        "expected: runs; observed: xinference-2024-08 refuses vllm: cuda",
        "_ model=lama-3 hw=cpu engine=vllm _".center(80, "_"),
        f"{rows.path}/w.yaml: model=lama-3 hw=cpu engine=vllm: there is no model 'lama-3'; did you mean 'llama-3'?",
    ]


def test_what_xinfer_did_not_expect_is_a_traceback(rows: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is for a developer."""
    monkeypatch.setattr("xinfer.verbs.matrix.check", "no function")
    done = rows.runpytest_inprocess("--xinfer", "m.yaml", "m.yaml", "-k", "rocm")
    done.assert_outcomes(failed=1, deselected=3)
    done.stdout.fnmatch_lines(["*TypeError: 'str' object is not callable"])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        pytest.param("--xinfer no.yaml", "{dir}/no.yaml: cannot be read: No such file or directory", id="no-such-file"),
        pytest.param("--xinfer bad.yaml", "{dir}/bad.yaml has no key 'axis'; did you mean 'axes'?", id="a-bad-file"),
        pytest.param("--xinfer-measure", "--xinfer-measure needs --xinfer FILE", id="nothing-to-measure"),
        pytest.param(
            "--xinfer m.yaml --xinfer-measure -n 2",
            "--xinfer-measure runs one engine at a time, as two disturb each other; leave -n out", id="two-at-a-time",
        ),
        pytest.param(
            "--xinfer m.yaml --xinfer-config-dir no", "--config-dir: '{dir}/no' is no directory", id="no-such-directory"
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_meant_is_a_usage_error(rows: pytest.Pytester, options: str, said: str) -> None:
    """Nothing is collected then."""
    rows.path.joinpath("bad.yaml").write_text("axis: {hw: cpu}", encoding="utf-8")
    done = rows.runpytest_inprocess(*options.split())
    assert done.ret == pytest.ExitCode.USAGE_ERROR
    assert done.errlines == [f"ERROR: {said.format(dir=rows.path)}", ""]


@pytest.mark.usefixtures("fake_plugin")
def test_rows_are_measured_if_asked_for(rows: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    """A record that is ok is what is expected; what the rules refuse is only judged."""
    monkeypatch.setenv("XINFER_HOME", str(rows.path / "home"))
    rows.path.joinpath("f.yaml").write_text(
        """
        defaults: {rules: fake, workload: tiny, engine: fake}
        axes: {model: fake-model, engine.behaviour: [serve, die-at-start]}
        include: [{row: {model: llama-3}, expect: {refused-by: [fake.family]}}]
        """,
        encoding="utf-8",
    )
    words = ("--xinfer", "f.yaml", "--xinfer-config-dir", RESOURCES / "conf", "--xinfer-measure", "f.yaml", "-rN")
    done = rows.runpytest_inprocess(*words)
    done.assert_outcomes(passed=2, failed=1)
    done.stdout.fnmatch_lines(
        ["xinfer: 3 rows, run where they are expected to", "expected: runs; observed: start: fake ended with *"]
    )
    assert len(list(rows.path.glob("runs/*/*/record.json"))) == 2


def test_other_runs_of_pytest_pay_nothing() -> None:
    """The plugin is there for all of them, and imports only itself."""
    code = (
        "import sys, pytest; before = set(sys.modules); import xinfer.testing.pytest_plugin;"
        "print(*sorted(set(sys.modules) - before))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["xinfer", "xinfer.testing", "xinfer.testing.pytest_plugin"]


def test_other_runs_of_pytest_are_as_they_were(rows: pytest.Pytester) -> None:
    """No row, no word in the header, and no hook but the two that read the options."""
    done = rows.runpytest_inprocess()
    done.assert_outcomes(passed=1)
    done.stdout.no_fnmatch_line("xinfer:*")
