"""Errors: the tree in the module's docstring is the truth, and the nearest name is found."""

from __future__ import annotations

import re

import pytest

from xinfer import errors
from xinfer.errors import ConfigError, EngineError, Missing, Refused, XinferError, nearest


def test_the_tree_in_the_docstring_is_the_classes() -> None:
    """Every class is in it, under its base, with its base's exit code."""
    text = errors.__doc__ or ""
    drawn = re.findall(r"^([│├└─ ]*)(\w+)(?: {2,}.*?(?:exit (\d))?)?$", text.split("\n\n")[1], re.MULTILINE)
    parents: list[str] = []
    for indent, name, code in drawn:
        depth = len(indent) // 4
        parents[depth:] = [name]
        kind = getattr(errors, name)
        if depth:
            assert kind.__base__ is getattr(errors, parents[depth - 1])
        if code:
            assert kind.exit_code == int(code)
    every = {name for name, value in vars(errors).items() if isinstance(value, type) and issubclass(value, XinferError)}
    assert {name for _, name, _ in drawn} == every


def test_an_error_carries_its_line_and_its_details() -> None:
    """The line is what is shown first; the details may be many."""
    error = EngineError("it broke", details=("one", "two"))
    assert str(error) == "it broke"
    assert error.details == ("one", "two")
    assert ConfigError("x").details == ()


def test_a_machine_that_is_missing_is_a_refusal() -> None:
    """Both end with the same code, and the record can tell them apart."""
    assert issubclass(Missing, Refused)
    assert (Missing.exit_code, Refused.exit_code) == (3, 3)
    assert Missing.stage != Refused.stage


@pytest.mark.parametrize(
    ("name", "said"),
    [
        pytest.param("vlm", "; did you mean 'vllm'?", id="a-letter-missing"),
        pytest.param("VLLM", "; did you mean 'vllm'?", id="another-case"),
        pytest.param("yi-chat", "; did you mean 'Yi-chat'?", id="the-known-name-keeps-its-case"),
        pytest.param("banana", "", id="nothing-like-it"),
        pytest.param("", "", id="nothing-at-all"),
    ],
)
def test_the_nearest_name(name: str, said: str) -> None:
    """It is offered only if it is near."""
    assert nearest(name, ["vllm", "sglang", "Yi-chat"]) == said
