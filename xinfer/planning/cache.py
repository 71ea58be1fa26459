"""How large a key-value cache is: what each layer keeps of each token, and in which type of numbers.

A layer that sees every token keeps every token; one with a sliding window keeps the window; one of linear attention
or of a state space keeps none. Multi-head latent attention keeps one vector for all heads and no values.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from xinfer.catalog import Shape

BITS = {
    "f32": 32.0, "float32": 32.0, "f16": 16.0, "float16": 16.0, "bf16": 16.0, "bfloat16": 16.0, "q8_0": 8.5,
    "q5_1": 6.0, "q5_0": 5.5, "q4_1": 5.0, "q4_0": 4.5, "iq4_nl": 4.5, "fp8": 8.0, "fp8_e4m3": 8.0, "fp8_e5m2": 8.0,
}  # fmt: skip
"""Of one number with its share of a block's scale, as engines name the types."""
_GROUP = 64
"""Numbers that share a scale and a bias of 16 bits each in MLX's packed caches, unless a flag says otherwise."""


class Widths(NamedTuple):
    """The bits of one number of the keys and of the values; null for a type that is not known here."""

    key: float | None = 16.0
    value: float | None = 16.0

    @property
    def pair(self) -> float | None:
        """The bytes of a key's number and of a value's together."""
        return None if self.key is None or self.value is None else (self.key + self.value) / 8


class Place(NamedTuple):
    """What part of a cache one GPU has."""

    tensor: int = 1
    """The GPUs that share the heads of each layer."""
    stages: int = 1
    """The groups of GPUs that the layers are dealt to."""


WHOLE = Place()


def widths(argv: Sequence[str], dtype: str | None) -> Widths:
    """Return the types of a cache by an engine's flags, else that of what is computed in."""
    flags = {flag: value.lower() for flag, value in pairwise((*argv, "")) if flag.startswith("--")}
    own = BITS.get(dtype or "", 16.0)
    if flags.get("--kv-bits", "").isdecimal():
        group = flags.get("--kv-group-size", "")
        packed = int(flags["--kv-bits"]) + 32 / (int(group) if group.isdecimal() and int(group) else _GROUP)
        return Widths(packed, packed)
    both = flags.get("--kv-cache-dtype", "auto")
    if both != "auto":
        return Widths(BITS.get(both), BITS.get(both))
    key, value = (flags.get(f"--cache-type-{which}") for which in "kv")
    return Widths(BITS.get(key) if key else own, BITS.get(value) if value else own)


def words(args: Mapping[str, object]) -> tuple[str, ...]:
    """Return a mapping of flags as the words of a command line."""
    return tuple(word for flag, value in args.items() for word in (f"--{flag}", str(value)))


def size(shape: Shape, length: int, sequences: int, widths: Widths, place: Place = WHOLE) -> float | None:
    """Return the bytes that some sequences of a length take on one GPU; null where a dimension is not known."""
    layers, each = _layers(shape, place), _each(shape, widths, place)
    if layers is None or each is None:
        return None
    window = min(length, shape.sliding_window or length)
    return sequences * each * (layers.full * length + layers.sliding * window)


def longest(shape: Shape, room: float, sequences: int, widths: Widths, place: Place = WHOLE) -> float | None:
    """Return how long so many sequences can be in some bytes, infinite where length costs nothing; null as above."""
    layers, each = _layers(shape, place), _each(shape, widths, place)
    if layers is None or each is None:
        return None
    window = shape.sliding_window or 0
    wide, narrow = (sequences * each * count for count in (layers.full + layers.sliding, layers.full))
    if room <= wide * window or not layers.sliding:
        return max(0.0, room // wide) if wide else math.inf
    return window + (room - wide * window) // narrow if narrow else math.inf


def formula(shape: Shape, length: int, sequences: int, widths: Widths, place: Place = WHOLE) -> str:
    """Say how the size comes about, or what is missing for it."""
    layers = _layers(shape, place)
    if widths.pair is None:
        return "not known: how large one number of this cache's type is"
    if layers is None or _each(shape, widths, place) is None:
        return "not known: the network's layers, kv heads or head size are not published"
    if shape.kv_lora_rank is not None:
        pair, each = "", f"({shape.kv_lora_rank} + {shape.rope_head_dim}) x {(widths.key or 0) / 8:g} bytes"
    else:
        heads, same = _heads(shape, place), widths.key == widths.value
        number = f"{(widths.key or 0) / 8:g} bytes" if same else f"{widths.pair:g} bytes"
        pair, each = "2 x " if same else "", f"{heads} kv heads x {shape.head_dim} x {number}"
    window = min(length, shape.sliding_window or length)
    shared = f", one of {place.tensor} GPUs" if place.tensor > 1 else ""
    if layers.sliding and window < length:
        tokens = f"({layers.full} layers x {length} tokens + {layers.sliding} layers x {window})"
        return f"{pair}{tokens} x {each}{f' x {sequences} sequences' if sequences > 1 else ''}{shared}"
    return f"{pair}{layers.full + layers.sliding} layers x {each} x {length * sequences} tokens{shared}"


class _Layers(NamedTuple):
    full: int
    sliding: int


def _layers(shape: Shape, place: Place) -> _Layers | None:
    """Return the layers of one stage that keep all tokens, and those that keep a window."""
    keeping = shape.layers if shape.caching_layers is None else shape.caching_layers
    if keeping is None:
        return None
    sliding = min(keeping, shape.sliding_layers or 0) if shape.sliding_window else 0
    return _Layers(math.ceil((keeping - sliding) / place.stages), math.ceil(sliding / place.stages))


def _heads(shape: Shape, place: Place) -> int:
    """Return the key-value heads on one GPU: where there are fewer than GPUs, each has a copy of one."""
    return math.ceil((shape.kv_heads or 0) / place.tensor)


def _each(shape: Shape, widths: Widths, place: Place) -> float | None:
    """Return the bytes of one token in one layer; a latent vector is copied to all GPUs that share the layer."""
    if shape.kv_lora_rank is not None:
        latent = None if shape.rope_head_dim is None else shape.kv_lora_rank + shape.rope_head_dim
        return None if latent is None or widths.key is None else latent * widths.key / 8
    if shape.kv_heads is None or shape.head_dim is None or widths.pair is None:
        return None
    return _heads(shape, place) * shape.head_dim * widths.pair
