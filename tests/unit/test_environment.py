"""When a directory counts as complete."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import pytest

from xinfer.environment import MARKER, Marker, marker
from xinfer.plan import Artefact

if TYPE_CHECKING:
    from pathlib import Path

STEPS = (("python", "-m", "venv", "/e"), ("/e/bin/python", "-m", "pip", "install", "a==1"))
FOUND = Marker(steps=STEPS, resolved=("a==1",), made="2026-11-22T05:43:37+00:00", seconds=7.6)


def test_a_marker_of_the_same_steps_counts(tmp_path: Path) -> None:
    """The directory was filled by what the plan says, to the end."""
    (tmp_path / MARKER).write_bytes(msgspec.json.encode(FOUND))
    assert marker(Artefact(path=str(tmp_path), steps=STEPS)) == FOUND


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(None, id="there-is-none"),
        pytest.param(b"", id="it-is-empty"),
        pytest.param(msgspec.json.encode(FOUND)[:-10], id="it-is-cut-off"),
        pytest.param(b'{"steps": []}', id="it-lacks-a-field"),
        pytest.param(b"\xff\xfe", id="it-is-no-text"),
        pytest.param(msgspec.json.encode(msgspec.structs.replace(FOUND, steps=STEPS[:1])), id="a-step-less"),
    ],
)
def test_nothing_else_counts(tmp_path: Path, content: bytes | None) -> None:
    """Whatever is in the directory without such a marker is not taken for complete."""
    if content is not None:
        (tmp_path / MARKER).write_bytes(content)
    assert marker(Artefact(path=str(tmp_path), steps=STEPS)) is None
