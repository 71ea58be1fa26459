"""The dimensions of a network: what its size in memory and its ways to be split follow from."""

from __future__ import annotations

import msgspec


class Shape(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A network's dimensions, as its configuration publishes them; null where none was found."""

    architecture: str | None = None
    layers: int | None = None
    hidden: int | None = None
    heads: int | None = None
    kv_heads: int | None = None
    head_dim: int | None = None
    vocab: int | None = None
    intermediate: int | None = None
    sliding_window: int | None = None
    """Tokens that a layer with a window sees and keeps; null where every layer sees all."""
    sliding_layers: int | None = None
    """How many layers have the window; the others see all. Null where it is not known: all then count as seeing all."""
    caching_layers: int | None = None
    """How many layers keep keys and values, where linear attention or state spaces take the place of the others;
    null: all of them."""
    kv_lora_rank: int | None = None
    """Of multi-head latent attention (DeepSeek V2, V3): the numbers that a token keeps in each layer, for all heads
    together and for keys and values in one; ``rope_head_dim`` come on top."""
    rope_head_dim: int | None = None
    """Of multi-head latent attention: ``qk_rope_head_dim``."""
    experts: int | None = None
    experts_per_token: int | None = None
    total_b: float | None = None
    """All parameters in billions, as counted, where the published size is rounded or counts the active ones only."""
    active_b: float | None = None
    """Of a mixture of experts, the parameters that one token needs, in billions."""
    end_tokens: tuple[int, ...] = ()
    """Ids of the tokens that end an output; none where they are not known."""
    source: str | None = None

    @property
    def kv_bytes_per_token(self) -> int | None:
        """Key and value bytes of one token at 16 bits, where no window slides; null unless all is known."""
        if self.layers is None:
            return None
        layers = self.layers if self.caching_layers is None else self.caching_layers
        if self.kv_lora_rank is not None:
            return None if self.rope_head_dim is None else layers * (self.kv_lora_rank + self.rope_head_dim) * 2
        if self.kv_heads is None or self.head_dim is None:
            return None
        return 2 * layers * self.kv_heads * self.head_dim * 2
