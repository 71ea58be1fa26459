"""The weights' files, found from command lines."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from xinfer.plan import LaunchPlan
from xinfer.running import weights
from xinfer.running.server import Startup

if TYPE_CHECKING:
    from pathlib import Path

FILES = (
    "one.gguf", "two-00001-of-00002.gguf", "two-00002-of-00002.gguf", "m/config.json", "m/a.safetensors",
    "m/b.safetensors", "m/tokenizer.json", "cache/x.bin", "script.py",
)  # fmt: skip


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        pytest.param(["{}/script.py", "--model", "{}/one.gguf"], ["one.gguf"], id="a-file"),
        pytest.param(["--model", "{}/two-00001-of-00002.gguf"], list(FILES[1:3]), id="a-split-file"),
        pytest.param(["serve", "{}/m"], ["m/a.safetensors", "m/b.safetensors"], id="a-folder"),
        pytest.param(
            ["serve", "{}/m", "--tokenizer", "{}/m"], ["m/a.safetensors", "m/b.safetensors"], id="named-twice"
        ),
        pytest.param(["--cache", "{}/cache"], [], id="a-folder-that-is-no-model"),
        pytest.param(["--model", "{}/absent.gguf"], [], id="a-file-that-is-not-there"),
        pytest.param(["serve", "Qwen/Qwen2-7B-Instruct", "one.gguf"], [], id="an-id-on-a-hub"),
    ],
)
def test_files(tmp_path: Path, words: list[str], expected: list[str]) -> None:
    """Every absolute path of weights counts, with all its pieces, once."""
    for name in FILES:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    plan = LaunchPlan(engine="e", version=None, variant="v", argv=tuple(word.format(tmp_path) for word in words))
    assert [path.relative_to(tmp_path).as_posix() for path in weights.files(plan)] == expected


@pytest.mark.parametrize(
    ("cached", "kind"),
    [(None, None), (1.0, "warm"), (0.9, "warm"), (0.89, "mixed"), (0.11, "mixed"), (0.1, "cold"), (0.0, "cold")],
)
def test_a_start_is_cold_or_warm(cached: float | None, kind: str | None) -> None:
    """By the part of the weights that was in memory."""
    assert Startup(ready_s=1, first_request_s=1, weights_cached=cached).kind == kind
