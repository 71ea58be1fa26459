"""A model's folder that was fetched is looked at before it counts as complete."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from xinfer.environments.environment import MARKER, provision
from xinfer.errors import ProvisionError
from xinfer.plan import Artefact, LaunchPlan
from xinfer.testing.model_files import folder

COPY = """
import os, shutil, sys
os.makedirs(sys.argv[1], exist_ok=True)
for file in sys.argv[2:]:
    shutil.copy(file, sys.argv[1])
"""
NEITHER = "neither Python nor pickles are fetched; for a copy of your own, say model=local model.path="


def fetch(source: Path, target: Path, *groups: tuple[str, ...]) -> list[str]:
    """Copy some files step by step, as a hub's client would, and return the progress lines."""
    steps = tuple(
        (sys.executable, "-c", COPY, str(target), *(str(source / name) for name in names)) for names in groups
    )
    weights = Artefact(path=str(target), steps=steps, is_model=True)
    lines: list[str] = []
    plan = LaunchPlan(engine="e", version=None, variant="v", weights=(weights,), argv=("serve", str(target)))
    provision(plan, progress=lines.append, log=target.with_name("log"))
    return lines


DESCRIBING = ("config.json", "tokenizer.json", "tokenizer_config.json")


def test_what_needs_nothing_is_used(tmp_path: Path) -> None:
    """It has a configuration, a tokenizer and weights that execute nothing."""
    source, target = folder(tmp_path / "hub"), tmp_path / "m"
    assert len(fetch(source, target, DESCRIBING, ("model.safetensors",))) == 2
    assert (target / MARKER).is_file()


@pytest.mark.parametrize(
    ("config", "groups", "steps", "said"),
    [
        pytest.param(
            {"model_type": "own", "auto_map": {"AutoModel": "own.py"}}, (DESCRIBING, ("model.safetensors",)), 1,
            "is loaded by executing the Python that it names, own.py", id="python-is-seen-before-weights-are-fetched",
        ),
        pytest.param(
            {}, (DESCRIBING, DESCRIBING), 2,
            "has no weights that an engine here could load: no GGUF, no safetensors; only config.json, "
            "tokenizer_config.json, tokenizer.json", id="pickles-alone",
        ),
        pytest.param(
            {}, (DESCRIBING[:1], ("model.safetensors",)), 2,
            "has no tokenizer, such as tokenizer.json; download the whole model", id="not-whole",
        ),
    ],
)  # fmt: skip
def test_what_needs_more_is_refused(
    tmp_path: Path, config: dict[str, Any], groups: tuple[tuple[str, ...], ...], steps: int, said: str
) -> None:
    """The message says what it is and what to do; nothing of it is kept."""
    source, target = folder(tmp_path / "hub", **config), tmp_path / "m"
    with pytest.raises(ProvisionError) as caught:
        fetch(source, target, *groups)
    assert str(caught.value) == f"{target}: {said}; {NEITHER}"
    assert not target.exists()
    assert (tmp_path / "log").read_text().count("$ ") == steps


def test_a_description_that_is_damaged_is_refused(tmp_path: Path) -> None:
    """The file is named."""
    source = folder(tmp_path / "hub", {"config.json": json.dumps([]).encode()})
    with pytest.raises(ProvisionError, match=r"config\.json is no JSON mapping"):
        fetch(source, tmp_path / "m", DESCRIBING, ("model.safetensors",))
