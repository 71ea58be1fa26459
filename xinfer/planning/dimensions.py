"""How many weights a network's parts have, counted from its dimensions.

The name of a model rounds: "7" is 7.6e9 weights of Qwen2 and 6.7e9 of Llama 2. What is counted is believed where it
comes near enough to the name to be the same network.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

    from xinfer.catalog import Shape, Spec

_NEAR, _FAR, _COUNTED = 0.1, 0.25, 0.03
"""How far a count may be from the name: most are near it, Gemma's "7" has 8.5e9; and how far from another count."""
TIED = frozenset(
    {
        *("CohereForCausalLM", "Cohere2ForCausalLM", "GemmaForCausalLM", "Gemma2ForCausalLM", "Gemma3ForCausalLM"),
        "Gemma3ForConditionalGeneration",
    }
)
"""Networks whose head is always their embedding (``tie_word_embeddings`` of their configurations, Transformers)."""


class Count(NamedTuple):
    """The weights of a network's parts; vectors, such as those of norms, are too few to count."""

    embedding: int
    """None where the head is the same matrix."""
    head: int
    attention: int
    dense: int
    """What follows attention in every layer, unless experts do."""
    experts: int

    @property
    def total(self) -> int:
        """All of them."""
        return sum(self)

    @property
    def ends(self) -> int:
        """What lies before the first layer and after the last: quantizations often leave it wide."""
        return self.embedding + self.head


def count(spec: Spec) -> Count | None:
    """Count a network's weights; null where dimensions are missing, or give another size than the published one."""
    size, choices = spec.weights_b, _choices(spec.shape)
    if size is None:
        return None
    if spec.shape.total_b is not None:
        near = _within(choices, size, _COUNTED)
        return min(near, key=lambda each: abs(each.total / 1e9 - size)) if near else None
    # Where a head of its own and a shared one are both near the name, it has its own: most of that size have.
    near = _within(choices, size, _NEAR) or _within(choices, size, _FAR)
    return near[0] if near else None


def _within(choices: Sequence[Count], size: float, tolerance: float) -> list[Count]:
    return [each for each in choices if abs(each.total / 1e9 - size) <= tolerance * size]


def _choices(shape: Shape) -> list[Count]:
    """Return what the dimensions may mean; nothing for attention of other kinds than queries, keys and values."""
    parts = (shape.layers, shape.hidden, shape.heads, shape.kv_heads, shape.head_dim, shape.vocab, shape.intermediate)
    if None in parts or shape.kv_lora_rank is not None or shape.caching_layers is not None:
        return []
    layers, hidden, heads, kv_heads, head_dim, vocab, inner = (part or 0 for part in parts)
    after, experts = layers * 3 * hidden * inner, shape.experts or 1
    own = Count(
        embedding=vocab * hidden, head=vocab * hidden, attention=layers * 2 * hidden * head_dim * (heads + kv_heads),
        dense=after if experts == 1 else 0, experts=experts * after if experts > 1 else 0,
    )  # fmt: skip
    shared = own._replace(embedding=0)
    return [shared] if shape.architecture in TIED else [own, shared]
