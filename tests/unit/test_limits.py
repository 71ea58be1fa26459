"""What others wrote is taken in up to a limit, and refused by the name of its file beyond."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xinfer.errors import ConfigError
from xinfer.sources import limits

documents = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=4),
    max_leaves=20,
)


def nodes(document: Any) -> int:
    inner = document.values() if isinstance(document, dict) else document if isinstance(document, list) else ()
    return 1 + sum(map(nodes, inner))


@given(documents)
def test_no_text_holds_more_values_than_are_counted(document: Any) -> None:
    """So that a limit on what is counted is one on what is made."""
    assert nodes(document) <= limits.values(json.dumps(document).encode())


def test_a_text_within_the_limit_is_decoded() -> None:
    """As a mapping."""
    assert limits.mapping(b'{"a": [1]}', most=3, where="x") == {"a": [1]}


@pytest.mark.parametrize(("depth", "is_taken"), [(99, True), (100, False), (500, False)])
def test_a_text_may_be_nested_only_so_deep(depth: int, is_taken: bool) -> None:  # noqa: FBT001
    """What goes through it by recursion comes back."""
    text = b'{"a": ' + b"[" * depth + b"]" * depth + b"}"
    if is_taken:
        assert list(limits.mapping(text, most=1000, where="x")) == ["a"]
        return
    with pytest.raises(ConfigError, match=r"^x is nested more than 100 deep$"):
        limits.mapping(text, most=1000, where="x")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        pytest.param(b'{"a": [1, 2]}', "x has 4 values; no such file has more than 3", id="too-many"),
        pytest.param(b"[]", "x is no JSON mapping: Expected `object`, got `array`", id="another-type"),
        pytest.param(b"{", "x is no JSON mapping: Input data was truncated", id="no-json"),
        pytest.param(b'{"":"\xff"}', "x is no JSON mapping: it is not text, or nested beyond reason", id="no-text"),
    ],
)
def test_any_other_text_is_refused(text: bytes, said: str) -> None:
    """In one line."""
    with pytest.raises(ConfigError, match=f"^{re.escape(said)}$"):
        limits.mapping(text, most=3, where="x")


@pytest.mark.parametrize("value", [0, 1, 7, 0.5])
def test_a_number_within_its_bounds_is_taken(value: float) -> None:
    """Both ends too."""
    limits.check(value, 7, "layers")


@pytest.mark.parametrize(
    ("value", "said"),
    [
        pytest.param(-1, "layers=-1", id="less-than-none"),
        pytest.param(8, "layers=8", id="one-too-many"),
        pytest.param(1e300, "layers=1e+300", id="beyond-reason"),
        pytest.param(float("nan"), "layers=nan", id="no-number"),
        pytest.param(10**5000, "layers=a number of more than 60 digits", id="too-long-to-be-written"),
    ],
)
def test_any_other_number_is_refused(value: float, said: str) -> None:
    """By its name and value."""
    with pytest.raises(ConfigError, match=f"^{re.escape(said)} is not a number from 0 to 7$"):
        limits.check(value, 7, "layers")
