"""Five engines, one model, the very same weights: the same answers."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from xinfer.parity import agreement

if TYPE_CHECKING:
    from background import Background

pytestmark = pytest.mark.e2e

ENGINES = {"llama_cpp", "vllm", "sglang", "transformers", "mlx"}
PYTORCH = {"vllm", "sglang", "transformers"}
"""Those that compute with PyTorch, each in its own way."""


@pytest.fixture(scope="module")
def found(background: Background) -> Any:
    """Compare all engines once, in float32."""
    done = background.end("test_same_answers")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_every_engine_takes_part(found: Any) -> None:
    """With its own way of telling tokens and log-probabilities."""
    members = {each["engine"]: each for each in found["members"]}
    assert {name: each["status"] for name, each in members.items()} == dict.fromkeys(ENGINES, "ok")
    assert {each["precision"] for each in members.values()} == {"float32"}
    assert {name: each["logprobs"] for name, each in members.items()} == {
        **dict.fromkeys(ENGINES, "server"),
        "transformers": "program",
    }


def test_no_two_engines_differ(found: Any) -> None:
    """Ten pairs; a near tie is recognised as one."""
    assert len(found["pairs"]) == 10
    assert {tuple(each["engines"]): each["different"] for each in found["pairs"] if each["different"]} == {}


def test_log_probabilities_are_those_of_the_weights(found: Any) -> None:
    """To a hundredth of the first tokens; where PyTorch computes, of every token."""
    for pair in found["pairs"]:
        assert pair["first_delta"] <= agreement.TOLERANCES["float32"]
        assert min(each["shared"] for each in pair["prompts"]) >= 4
        if set(pair["engines"]) <= PYTORCH:
            assert pair["path_delta"] <= agreement.TOLERANCES["float32"]
