"""What a network must do for a token at least: the bytes that it reads and the operations that it computes.

To generate one token, every weight that takes part is read once for all sequences of the batch, and of each sequence
the keys and values of all its tokens so far (Pope et al., Efficiently Scaling Transformer Inference, 2022, section 2).
Of an embedding only one row is read, unless it is also the head that the next token is chosen by. Each weight that
takes part costs a multiplication and an addition for each token (Chowdhery et al., PaLM, 2022, appendix B).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from xinfer.planning import memory

if TYPE_CHECKING:
    from collections.abc import Iterable

    from xinfer.catalog import Shape, Spec

WIDTHS = {"float32": 4, "bfloat16": 2, "float16": 2}
PLAIN = {"pytorch", "mlx"}
"""Formats whose unquantized weights an engine holds in the type it computes in, whatever type the files have."""
CLOSE = 0.05
"""How far a shape's number of weights may be from the published size for the shape to be believed."""
_EMBEDDINGS = {"token_embd", "embed_tokens", "wte", "word_embeddings", "tok_embeddings", "embed_in"}
_POSITIONS = {"position_embd", "token_types", "wpe", "embed_positions", "rope_freqs", "inv_freq"}
_HEADS = {"lm_head", "embed_out", "output_layer"}
_ELSEWHERE = {"visual", "vision_tower", "vision_model", "multi_modal_projector", "audio_tower", "mm"}
"""Parts of a network that generate no text."""
_EXPERT = re.compile(r"ffn_\w+_exps\b|\.ffn_(gate|up|down)\.\d+\.|\.experts\.")


class Tensor(NamedTuple):
    """One tensor as a file has it."""

    name: str
    elements: int
    bytes: int
    is_packed: bool
    """Whether its elements are no weights each, but words or scales."""


class Weights(msgspec.Struct, frozen=True, kw_only=True):
    """What takes part in generating a token."""

    bytes: int
    """Of all that every token needs: attention, norms, what is no expert, and the head."""
    parameters: int | None
    """The same, counted; null where packed tensors do not tell."""
    head_parameters: int
    """Those of them that only the last token of a prompt needs."""
    expert_bytes: int = 0
    """Of all experts together."""
    expert_parameters: int = 0
    experts: int = 1
    experts_per_token: int = 1
    source: str

    def read_bytes(self, batch: float) -> float:
        """Return the bytes of one step for so many sequences; each picks its experts, evenly spread, for itself."""
        missed: float = (1 - self.experts_per_token / self.experts) ** batch
        return self.bytes + self.expert_bytes * (1 - missed)

    @property
    def active(self) -> float | None:
        """How many weights one token is multiplied with, without the head."""
        if self.parameters is None:
            return None
        return self.parameters - self.head_parameters + self.expert_parameters * self.experts_per_token / self.experts


def weights(spec: Spec, tensors: Iterable[Tensor] | None, dtype: str | None) -> Weights | str:
    """Return what takes part, from the files' own tensors, else from the network's shape; or why it is not known.

    ``dtype`` is what the network is computed in; null where the files' types decide.
    """
    by_shape = of_shape(spec, dtype)
    if tensors is None:
        return by_shape
    width = WIDTHS.get(dtype or "") if spec.format in PLAIN and is_plain(spec) else None
    found = _of_tensors(tensors, spec.shape, width)
    if isinstance(found, str) or found.parameters is not None or isinstance(by_shape, str):
        return found
    return msgspec.structs.replace(
        found,
        parameters=by_shape.parameters,
        head_parameters=by_shape.head_parameters,
        expert_parameters=by_shape.expert_parameters,
    )


def is_plain(spec: Spec) -> bool:
    """Tell whether each weight of an artefact is a number of its own."""
    return (spec.quantization or "none").lower() == "none"


def _of_tensors(tensors: Iterable[Tensor], shape: Shape, width: int | None) -> Weights | str:
    sums = {kind: [0, 0] for kind in ("embedding", "head", "expert", "every")}
    packed = False
    for tensor in tensors:
        kind = _kind(tensor.name)
        if kind is not None:
            packed = packed or tensor.is_packed
            sums[kind][0] += tensor.elements * width if width and not tensor.is_packed else tensor.bytes
            sums[kind][1] += tensor.elements
    head = sums["head"] if sums["head"][1] else sums["embedding"]  # without a head of its own, they are the same tensor
    if sums["expert"][1] and not (shape.experts and shape.experts_per_token):
        return "how many of its experts a token needs is not known"
    if not sums["every"][0] or not head[0]:
        return "its tensors have names that are not known here"
    return Weights(
        bytes=sums["every"][0] + head[0],
        parameters=None if packed else sums["every"][1] + head[1],
        head_parameters=head[1],
        expert_bytes=sums["expert"][0],
        expert_parameters=sums["expert"][1],
        experts=shape.experts or 1,
        experts_per_token=shape.experts_per_token or 1,
        source="the tensors of its files",
    )


def _kind(name: str) -> str | None:
    """Tell which part of a network a tensor is; null for what generating reads a row of at most, or nothing."""
    parts = name.split(".")
    module = parts[-2] if len(parts) > 1 else name
    if module in _POSITIONS or name in _POSITIONS or not _ELSEWHERE.isdisjoint(parts):
        return None
    if module in _EMBEDDINGS:
        return "embedding"
    if module in _HEADS or parts[:-1] == ["output"]:
        return "head"
    return "expert" if _EXPERT.search(name) else "every"


def of_shape(spec: Spec, dtype: str | None) -> Weights | str:
    """Return what takes part by a network's dimensions, if they give the published size; or why it is not known.

    A layer has four projections for attention and three matrices, or three for each expert, after it.
    """
    shape, size, bits = spec.shape, spec.parameters_b, _bits(spec, dtype)
    parts = (shape.layers, shape.hidden, shape.heads, shape.kv_heads, shape.head_dim, shape.vocab, shape.intermediate)
    if None in parts:
        return "the network's dimensions are not all published"
    if bits is None:
        return f"no bits per weight are known for {spec.format} {spec.quantization}"
    layers, hidden, heads, kv_heads, head_dim, vocab, inner = (part or 0 for part in parts)
    attention = layers * 2 * hidden * head_dim * (heads + kv_heads)
    experts, after, head = shape.experts or 1, layers * 3 * hidden * inner, vocab * hidden
    totals = [attention + experts * after + head * times for times in (1, 2)]
    if size is None or all(abs(total / 1e9 - size) > CLOSE * size for total in totals):
        return "the network's dimensions do not give its published size"
    is_mixed = experts > 1
    every = attention + head + (0 if is_mixed else after)
    return Weights(
        bytes=int(every * bits / 8),
        parameters=every,
        head_parameters=head,
        expert_bytes=int(experts * after * bits / 8) if is_mixed else 0,
        expert_parameters=experts * after if is_mixed else 0,
        experts=experts,
        experts_per_token=shape.experts_per_token or experts,
        source=f"the network's dimensions, with {bits:g} bits for each weight",
    )


def _bits(spec: Spec, dtype: str | None) -> float | None:
    if dtype in WIDTHS and spec.format in PLAIN and is_plain(spec):
        return 8.0 * WIDTHS[dtype]
    return memory.bits_per_weight(spec)


def kv_bytes(shape: Shape, length: float, width: float) -> float | None:
    """Return the bytes of a sequence's keys and values; ``width`` is that of one number.

    Where a window slides, nothing before it is read. Where it does so in some layers, and it is not known in how many,
    this is less than is read.
    """
    per_token = shape.kv_bytes_per_token
    if per_token is None:
        return None
    window = min(length, shape.sliding_window or length)
    layers = shape.layers if shape.caching_layers is None else shape.caching_layers
    sliding = 1.0 if shape.sliding_layers is None or not layers else min(1.0, shape.sliding_layers / layers)
    return per_token / 2 * width * (sliding * window + (1 - sliding) * length)


def prefill_flops(weights: Weights, shape: Shape, tokens: float) -> float | None:
    """Return the operations that reading a prompt takes: with the weights, and of each token with those before it."""
    active = weights.active
    if active is None or shape.layers is None or shape.heads is None or shape.head_dim is None:
        return None
    window = min(tokens, shape.sliding_window or tokens)
    pairs = tokens * window - window**2 / 2  # without a window that is half of all
    attention = 4 * shape.layers * shape.heads * shape.head_dim * pairs
    return 2 * (active * tokens + weights.head_parameters) + attention
