"""What each tensor of a GGUF file is packed as: the types that llama.cpp's quantizer mixes under one name.

A name such as Q4_K_M gives some tensors more bits than the rest: values, what leads back after the experts' or the
dense part, the head; and rows that are no whole blocks get another type. So one name is 4.9 bits for each weight of a
large network and 6.4 of a small one. Source: ``src/llama-quant.cpp`` of llama.cpp, as in llama-cpp-python 0.3.36,
without an importance matrix.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from xinfer.catalog import Shape
    from xinfer.planning.dimensions import Count

Rules = tuple[tuple[str, str], ...]
"""Types and where they apply, the first that does wins."""
BLOCKS = {
    "q4_0": (32, 18), "q4_1": (32, 20), "q5_0": (32, 22), "q5_1": (32, 24), "q8_0": (32, 34), "iq4_nl": (32, 18),
    "q2_k": (256, 84), "q3_k": (256, 110), "q4_k": (256, 144), "q5_k": (256, 176), "q6_k": (256, 210),
    "iq4_xs": (256, 136), "f16": (1, 2),
}  # fmt: skip
"""So many weights in so many bytes."""
_INSTEAD = {"q2_k": "q4_0", "q3_k": "q4_0", "iq4_xs": "iq4_nl", "q4_k": "q5_0", "q5_k": "q5_1", "q6_k": "q8_0"}
"""What rows get that are no whole blocks."""
_SHARING = 4
"""From so many heads on that share keys and values, those are cheap to keep in more bits."""
_LARGE = 80
"""Layers of the networks that llama.cpp calls 70B."""


class Mix(NamedTuple):
    """What one name gives to which tensors."""

    base: str
    value: Rules = ()
    down: Rules = ()
    output: str | None = None


_MORE: Rules = (("q6_k", "more"),)
_MIXES = {
    "q2_k": Mix("q2_k", (("q4_k", "shared"), ("q3_k", "all")), (("q3_k", "all"),), "q3_k"),
    "q2_k_s": Mix("q2_k", (("q4_k", "shared"),), (("q4_k", "eighth"),)),
    "q3_k_s": Mix("q3_k"),
    "q3_k_m": Mix("q3_k", (("q5_k", "two"), ("q4_k", "all")), (("q5_k", "sixteenth"), ("q4_k", "all")), "q4_k"),
    "q3_k_l": Mix("q3_k", (("q5_k", "all"),), (("q5_k", "all"),), "q5_k"),
    "q4_k_s": Mix("q4_k", (("q5_k", "four"),), (("q5_k", "eighth"),)),
    "q4_k_m": Mix("q4_k", _MORE, _MORE),
    "q5_k_s": Mix("q5_k"),
    "q5_k_m": Mix("q5_k", _MORE, _MORE),
    "iq4_xs": Mix("iq4_xs", (("q5_k", "shared"),), (("q5_k", "eighth"),)),
    "iq4_nl": Mix("iq4_nl", (("q5_k", "shared"),), (("q5_k", "eighth"),)),
    **{name: Mix(name) for name in ("q4_0", "q4_1", "q5_0", "q5_1", "q8_0", "q6_k")},
}
_MIXES |= {"q3_k": _MIXES["q3_k_m"], "q4_k": _MIXES["q4_k_m"], "q5_k": _MIXES["q5_k_m"], "q6": _MIXES["q6_k"]}


def bits(shape: Shape, count: Count, quantization: str) -> float | None:
    """Return the bits of all weights of a file; null for a name or a network whose tensors are not known here."""
    mix = _MIXES.get(quantization)
    if mix is None or count.experts:
        return None
    layers, hidden, heads = shape.layers or 0, shape.hidden or 0, shape.heads or 0
    kv_heads, inner = shape.kv_heads or 0, shape.intermediate or 0
    wide, narrow = heads * (shape.head_dim or 0), kv_heads * (shape.head_dim or 0)
    base = hidden * (wide + narrow + 2 * inner) * _each(mix.base, hidden)  # queries, keys, gate and up
    base += wide * hidden * _each(mix.output or mix.base, wide)
    is_large = layers == _LARGE and heads != kv_heads
    varied = 0.0
    for layer in range(layers):
        value = _chosen(mix.value, mix.base, layer, shape)
        value = "q5_k" if is_large and value in {"q3_k", "q4_k"} else value
        varied += hidden * narrow * _each(value, hidden)
        varied += inner * hidden * _each(_chosen(mix.down, mix.base, layer, shape), inner)
    head = "q8_0" if mix.base == "q8_0" else "q6_k"
    return layers * base + varied + count.head * _each(head, hidden) + count.embedding * _each(mix.base, hidden)


def _each(kind: str, row: int) -> float:
    """Return the bits of one weight in rows of that length."""
    if row % BLOCKS[kind][0]:
        kind = _INSTEAD.get(kind, "f16")
    if row % BLOCKS[kind][0]:
        kind = "f16"
    weights, size = BLOCKS[kind]
    return 8 * size / weights


def _chosen(rules: Rules, base: str, layer: int, shape: Shape) -> str:
    layers = shape.layers or 0
    first, last = layers // 8, 7 * layers // 8
    applies = {
        "all": True,
        "more": layer < first or layer >= last or (layer - first) % 3 == 2,  # noqa: PLR2004 -- each third layer
        "eighth": layer < first,
        "sixteenth": layer < layers // 16,
        "four": layer < 4,  # noqa: PLR2004 -- as it is named
        "two": layer < 2,  # noqa: PLR2004 -- as it is named
        "shared": (shape.heads or 0) >= _SHARING * (shape.kv_heads or 1),
    }
    return next((kind for kind, where in rules if applies[where]), base)
