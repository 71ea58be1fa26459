"""What is expected of a row: what a file may say, and what is as expected."""

from __future__ import annotations

import re
from typing import Any

import pytest

from xinfer import expectation
from xinfer.errors import ConfigError
from xinfer.expectation import Expectation, Observed

RUNS, VLLM = expectation.RUNS, Expectation(chooses="vllm")
REFUSED = Expectation(refused_by=("vllm.linux", "vllm.cuda"))
SERVED = Observed(engine="vllm", not_met=("mlx.format",))
NOBODY = Observed(refusal="the page refuses vllm", not_met=("vllm.cuda", "vllm.linux", "mlx.format"))


@pytest.mark.parametrize(
    ("node", "expected", "said"),
    [
        pytest.param("runs", RUNS, "runs", id="any-engine"),
        pytest.param({"chooses": "vllm"}, VLLM, "runs with vllm", id="a-certain-engine"),
        pytest.param(
            {"refused-by": ["vllm.linux", "vllm.cuda"]}, REFUSED, "refused by vllm.linux, vllm.cuda", id="none"
        ),
    ],
)
def test_an_expectation_is_read_and_said(node: Any, expected: Expectation, said: str) -> None:
    """Three kinds, and a refused row is none that runs."""
    found = expectation.read(node, "here")
    assert (found, str(found)) == (expected, said)
    assert found.runs is (expected != REFUSED)


@pytest.mark.parametrize(
    "node",
    [
        pytest.param("run", id="another-word"),
        pytest.param(["runs"], id="a-list"),
        pytest.param({}, id="nothing"),
        pytest.param({"chooses": "vllm", "refused-by": ["vllm.cuda"]}, id="both"),
        pytest.param({"chooses": ["vllm"]}, id="several-engines"),
        pytest.param({"chooses": ""}, id="no-engine"),
        pytest.param({"refused-by": []}, id="no-condition"),
        pytest.param({"refused-by": "vllm.cuda"}, id="a-condition-that-is-no-list"),
        pytest.param({"refused-by": ["cuda"]}, id="a-condition-without-its-engine"),
        pytest.param({"refused-by": [["vllm.cuda"]]}, id="a-list-in-a-list"),
        pytest.param({"refused_by": ["vllm.cuda"]}, id="a-misspelt-kind"),
    ],
)
def test_anything_else_is_an_error(node: Any) -> None:
    """It says what may stand there."""
    takes = re.escape("; it takes runs, {chooses: ENGINE}, or {refused-by: [ENGINE.CONDITION, …]}")
    with pytest.raises(ConfigError, match=rf"^here: expect is .*{takes}$"):
        expectation.read(node, "here")


@pytest.mark.parametrize(
    ("expected", "observed", "fault"),
    [
        pytest.param(RUNS, SERVED, None, id="it-runs"),
        pytest.param(RUNS, NOBODY, "expected: runs; observed: the page refuses vllm", id="it-should-run"),
        pytest.param(VLLM, SERVED, None, id="the-engine-is-chosen"),
        pytest.param(VLLM, Observed(engine="mlx"), "expected: runs with vllm; observed: mlx", id="another-is-chosen"),
        pytest.param(VLLM, NOBODY, "expected: runs with vllm; observed: the page refuses vllm", id="none-is-chosen"),
        pytest.param(REFUSED, NOBODY, None, id="refused-whatever-other-engines-say"),
        pytest.param(
            REFUSED, SERVED, "expected: refused by vllm.linux, vllm.cuda; observed: vllm", id="it-runs-after-all"
        ),
        pytest.param(
            REFUSED, Observed(refusal="no", not_met=("vllm.cuda", "mlx.format")),
            "expected: refused by vllm.linux, vllm.cuda; observed: refused by vllm.cuda", id="one-condition-is-met",
        ),
        pytest.param(
            Expectation(refused_by=("vllm.cuda",)), NOBODY,
            "expected: refused by vllm.cuda; observed: refused by vllm.cuda, vllm.linux", id="one-more-is-not-met",
        ),
        pytest.param(
            REFUSED, Observed(refusal="the plugin broke"),
            "expected: refused by vllm.linux, vllm.cuda; observed: the plugin broke", id="no-rule-was-the-reason",
        ),
    ],
)  # fmt: skip
def test_what_is_not_as_expected_is_said(expected: Expectation, observed: Observed, fault: str | None) -> None:
    """Both sides of it."""
    assert expectation.fault(expected, observed) == fault
