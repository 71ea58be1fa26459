"""A model's own files say which of its layers keep keys and values, and of which tokens."""

from __future__ import annotations

from typing import Any

import pytest

from xinfer.sources import keeping
from xinfer.sources.gguf import Array
from xinfer.sources.keeping import Kept

FULL, WINDOW, LINEAR = "full_attention", "sliding_attention", "linear_attention"


@pytest.mark.parametrize(
    ("config", "layers", "expected"),
    [
        pytest.param({"layer_types": [WINDOW, FULL] * 12}, 24, Kept(sliding=12), id="gpt-oss-lists-them"),
        pytest.param({"layer_types": [LINEAR, LINEAR, LINEAR, FULL]}, 4, Kept(sliding=0, caching=1), id="qwen3-next"),
        pytest.param(
            {"layers_block_type": ["mamba", "attention"]}, 2, Kept(sliding=0, caching=1), id="jamba-and-zamba"
        ),
        pytest.param({"hybrid_override_pattern": "M-M*-"}, 5, Kept(sliding=0, caching=1), id="nemotron-h"),
        pytest.param({"layer_types": []}, 4, Kept(), id="an-empty-list-says-nothing"),
        pytest.param({"layer_types": [1, 2]}, 2, Kept(), id="numbers-are-no-kinds"),
        pytest.param({"full_attention_interval": 4}, 48, Kept(caching=12), id="every-fourth"),
        pytest.param({"full_attention_interval": 0}, 48, Kept(), id="every-none"),
        pytest.param({"attn_layer_indices": [9, 18, 27]}, 32, Kept(caching=3), id="bamba"),
        pytest.param({"attn_layer_indices": []}, 32, Kept(), id="no-indices"),
        pytest.param({"model_type": "gemma3_text", "sliding_window_pattern": 6}, 26, Kept(sliding=22), id="gemma-3"),
        pytest.param({"model_type": "gemma3", "sliding_window_pattern": 0}, 26, Kept(sliding=22), id="no-period"),
        pytest.param({"model_type": "gemma2"}, 26, Kept(sliding=13), id="gemma-2-says-it-by-its-name"),
        pytest.param({"model_type": "mistral"}, 32, Kept(sliding=32), id="mistral-slides-everywhere"),
        pytest.param({"model_type": "qwen2"}, 28, Kept(), id="a-name-that-says-nothing"),
        pytest.param({"model_type": "gemma2"}, None, Kept(), id="how-many-layers-is-not-known"),
    ],
)
def test_of_config(config: dict[str, Any], layers: int | None, expected: Kept) -> None:
    """By the list of layers, by a period, by the kind of network; else it stays open."""
    assert keeping.of_config(config, layers) == expected


@pytest.mark.parametrize(
    ("name", "own", "layers", "expected"),
    [
        pytest.param("gemma3", {}, 18, Kept(sliding=15), id="by-its-name"),
        pytest.param("gemma3", {"attention.sliding_window_pattern": 3}, 18, Kept(sliding=12), id="by-a-period"),
        pytest.param("x", {"attention.sliding_window_pattern": Array(3, (True, False, True))}, 3, Kept(sliding=2),
                     id="by-a-list"),
        pytest.param("lfm2", {"attention.head_count_kv": Array(4, (0, 8, 0, 8))}, 4, Kept(caching=2), id="no-heads"),
        pytest.param("llama", {"attention.head_count_kv": Array(2, (8, 8))}, 2, Kept(), id="heads-everywhere"),
        pytest.param("lfm2", {"attention.head_count_kv": Array(2, (0, 8))}, None, Kept(caching=1), id="of-no-depth"),
    ],
)  # fmt: skip
def test_of_gguf(name: str, own: dict[str, Any], layers: int | None, expected: Kept) -> None:
    """By the header's lists, its period, or the architecture's name."""
    assert keeping.of_gguf(name, own, layers) == expected
