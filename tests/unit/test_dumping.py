"""YAML as we write it: what is read back is what was written, in any dialect."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from xinfer.deploying.dumping import dump

SCALARS = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False) | st.text()
TREES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4), max_leaves=12
)


@settings(max_examples=50, deadline=None)
@given(st.dictionaries(st.text(), TREES))
@example({"\n\x85": None, "key": "a\nb\u2028c\r\n"})
def test_a_document_is_read_back(document: dict[str, Any]) -> None:
    """Whatever is in it."""
    assert yaml.safe_load(dump(document)) == document


@settings(max_examples=20, deadline=None)
@given(st.lists(st.dictionaries(st.text(min_size=1), TREES, min_size=1), min_size=2, max_size=3))
def test_several_documents_are_read_back(documents: list[dict[str, Any]]) -> None:
    """Each begins with its own line of dashes."""
    written = dump(*documents)
    assert written.startswith("---\n")
    assert list(yaml.safe_load_all(written)) == documents


@pytest.mark.parametrize(
    "text", ["1e3", "0o17", "0x1f", "1:30", "08", "1_000", "~", "-", "on", "n", "8000", ".5", "=", "<<"]
)
def test_a_text_that_another_dialect_takes_for_something_else(text: str) -> None:
    """It stands in quotes, as programs in Go and others read other rules than Python's."""
    assert dump({"key": text}) in {f'key: "{text}"\n', f"key: '{text}'\n"}


@pytest.mark.parametrize("text", ["--port", "vllm/vllm-openai", "qwen2-instruct", "/xinfer".removeprefix("/")])
def test_a_word_needs_no_quotes(text: str) -> None:
    """Most of a file is read by people."""
    assert dump({"key": text}) == f"key: {text}\n"


def test_a_script_keeps_its_lines() -> None:
    """It can be read as it is run."""
    assert dump({"key": "set -e\nmake\n"}) == "key: |\n  set -e\n  make\n"


def test_lists_stand_below_their_key() -> None:
    """And what is there twice is written twice."""
    words = ["aa", "bb"]
    assert dump({"key": words, "other": words}) == "key:\n  - aa\n  - bb\nother:\n  - aa\n  - bb\n"


def test_a_struct_is_a_document() -> None:
    """As it is in JSON."""
    assert dump(msgspec.defstruct("S", [("name", str)])(name="xx")) == "name: xx\n"
