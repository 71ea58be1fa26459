"""Which layers of a network keep keys and values, and of which tokens, as a model's own files say it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from xinfer.sources.gguf import Array

if TYPE_CHECKING:
    from collections.abc import Mapping

_EVERY = {
    "gemma2": 2, "gemma3": 6, "gemma3_text": 6, "gpt_oss": 2, "gpt-oss": 2, "cohere2": 4, "mistral": None,
    "mixtral": None, "phi3": None, "starcoder2": None,
}  # fmt: skip
"""By ``model_type``, or GGUF's architecture: every so many layers one sees all tokens, the others a window; null: none
sees all. What a configuration means that does not list its layers (Transformers 5.23, llama.cpp)."""
_KEEPING = ("attention", "full_attention", "sliding_attention", "chunked_attention", "hybrid", "*")
"""Kinds of layers that keep keys and values; others are state spaces, linear attention, convolutions or no mixing."""


class Kept(NamedTuple):
    """How many layers have a window, and how many keep anything; null where all do, or where it is not known."""

    sliding: int | None = None
    caching: int | None = None


def of_config(config: Mapping[str, Any], layers: int | None) -> Kept:
    """Read what ``config.json`` says: a list of its layers, a period, or nothing but its type."""
    kinds = next((found for key in ("layer_types", "layers_block_type") if (found := _kinds(config.get(key)))), None)
    pattern = config.get("hybrid_override_pattern")
    if kinds is None and isinstance(pattern, str) and pattern:
        kinds = list(pattern)
    if kinds is not None:
        caching = sum(kind in _KEEPING for kind in kinds)
        sliding = sum(kind == "sliding_attention" for kind in kinds)
        return Kept(sliding, None if caching == len(kinds) else caching)
    if layers is None:
        return Kept()
    period = config.get("full_attention_interval")
    if isinstance(period, int) and period > 0:
        return Kept(caching=layers // period)
    indices = config.get("attn_layer_indices")
    if isinstance(indices, list) and indices:
        return Kept(caching=min(layers, len(indices)))
    name, period = str(config.get("model_type")), config.get("sliding_window_pattern")
    return _every(layers, period) if isinstance(period, int) and period > 0 else _by_name(name, layers)


def of_gguf(name: str, own: Mapping[str, Any], layers: int | None) -> Kept:
    """Read what a GGUF's header says; a layer without key-value heads keeps nothing."""
    heads, windows = own.get("attention.head_count_kv"), own.get("attention.sliding_window_pattern")
    caching = None
    if isinstance(heads, Array) and 0 in heads.items:
        caching = sum(count > 0 for count in heads.items)
    if isinstance(windows, Array) and windows.items:
        return Kept(sum(bool(slides) for slides in windows.items), caching)
    if layers is None:
        return Kept(caching=caching)
    found = _every(layers, windows) if isinstance(windows, int) and windows > 0 else _by_name(name, layers)
    return found._replace(caching=caching)


def _kinds(value: Any) -> list[str] | None:
    return value if isinstance(value, list) and value and all(isinstance(kind, str) for kind in value) else None


def _every(layers: int, period: int) -> Kept:
    return Kept(sliding=layers - layers // period)


def _by_name(name: str, layers: int) -> Kept:
    if name not in _EVERY:
        return Kept()
    period = _EVERY[name]
    return Kept(sliding=layers) if period is None else _every(layers, period)
