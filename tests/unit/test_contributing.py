"""The tutorial for plugins shows the example's files as they are."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PLUGIN = ROOT / "tests" / "resources" / "third_party_plugin"
TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
EXCERPTS = re.findall(r"<!-- excerpt: (\S+) -->\n```\w+\n(.*?)\n```\n", TEXT, re.DOTALL)


def test_every_step_has_its_excerpt() -> None:
    """Entry point, adapter, requirements, settings, rules and contract."""
    assert [name for name, _ in EXCERPTS] == [
        "pyproject.toml", "xinfer_markov/adapter.py", "xinfer_markov/requirements.yaml",
        "xinfer_markov/conf/engine/markov.yaml", "xinfer_markov/conf/rules/markov.yaml", "tests/test_markov.py",
    ]  # fmt: skip
    assert TEXT.count("<!-- excerpt: ") == TEXT.count("```") / 2 == len(EXCERPTS)


@pytest.mark.parametrize(("name", "excerpt"), EXCERPTS, ids=[name for name, _ in EXCERPTS])
def test_an_excerpt_is_what_the_file_says(name: str, excerpt: str) -> None:
    """Line for line, without a gap."""
    lines, shown = (PLUGIN / name).read_text(encoding="utf-8").splitlines(), excerpt.splitlines()
    starts = [i for i, line in enumerate(lines) if line == shown[0]]
    assert any(lines[start : start + len(shown)] == shown for start in starts)


def test_every_file_of_the_example_is_there() -> None:
    """The tutorial's list names what the plugin has."""
    named = re.findall(r"^ {4}(xinfer_markov/\S+\.\w+|tests/\S+\.py) ", TEXT, re.MULTILINE)
    assert len(named) == 7
    assert all((PLUGIN / name).is_file() for name in named)
