"""What a model's own files say of its network: class, dimensions, context. What they do not say stays null.

Raises ConfigError, which names the field and its value, for a number that no network has.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import msgspec

from xinfer.catalog import Shape
from xinfer.sources import keeping, limits
from xinfer.sources.gguf import Array

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_MOST = 10**9
"""Of tokens, words and dimensions: a hundred times what any model has."""
_MOST_PARTS = 2**16
"""Of layers, heads and experts."""
_LAYERS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers")
_HIDDEN = ("hidden_size", "n_embd", "d_model")
_HEADS = ("num_attention_heads", "n_head", "n_heads")
_KV_HEADS = ("num_key_value_heads", "num_kv_heads", "multi_query_group_num")
_VOCAB = ("vocab_size", "padded_vocab_size")
_INTERMEDIATE = ("intermediate_size", "ffn_hidden_size", "n_inner")
_EXPERTS = ("num_local_experts", "num_experts", "n_routed_experts")
_EXPERTS_PER_TOKEN = ("num_experts_per_tok", "num_experts_per_token", "moe_topk")
_CONTEXT = (
    *("max_position_embeddings", "n_positions", "max_sequence_length", "max_seq_len", "seq_length"),
    *("model_max_length", "n_ctx"),
)
"""The names that configurations have used for one thing, the usual one first."""
_ENDLESS = frozenset({"sliding_window", *_CONTEXT})
_INNER = ("text_config", "llm_config", "language_config")
"""Where models that also see or hear keep their language model's part."""
_STRETCHED = ("linear", "dynamic", "ntk")
"""Kinds of RoPE scaling by whose factor a context is longer than its configuration says; the others' says it whole."""
_GENERATES = ("ForCausalLM", "LMHeadModel", "ForConditionalGeneration")


class Network(msgspec.Struct, frozen=True, kw_only=True):
    """A network as its files describe it."""

    shape: Shape
    context_length: int | None
    abilities: tuple[str, ...]
    notes: tuple[str, ...] = ()
    """Why a part of it is not known."""


def of_config(config: Mapping[str, Any], generation: Mapping[str, Any], *, is_chat: bool) -> Network:
    """Read ``config.json`` and ``generation_config.json``; ``is_chat`` tells whether a chat template is there."""
    inner: dict[str, Any] = next((config[key] for key in _INNER if isinstance(config.get(key), dict)), {})
    whole = {**config, **inner}
    names = config.get("architectures")
    architecture = names[0] if isinstance(names, list) and names and isinstance(names[0], str) else None
    rank, layers = _count(whole, "kv_lora_rank"), _parts(whole, *_LAYERS)
    rope = _count(whole, "qk_rope_head_dim") if rank else None
    kept, window = keeping.of_config(whole, layers), _count(whole, "sliding_window")
    slides = whole.get("use_sliding_window") is not False
    shape = Shape(
        architecture=architecture, layers=layers, hidden=_count(whole, *_HIDDEN),
        heads=_parts(whole, *_HEADS), kv_heads=_kv_heads(whole), head_dim=None if rank else _head_dim(whole),
        kv_lora_rank=rank, rope_head_dim=rope,
        vocab=_count(whole, *_VOCAB), intermediate=_count(whole, *_INTERMEDIATE),
        sliding_window=window if slides else None, caching_layers=kept.caching,
        sliding_layers=kept.sliding if window and slides else None, experts=_parts(whole, *_EXPERTS),
        experts_per_token=_parts(whole, *_EXPERTS_PER_TOKEN), source="its own config.json",
        end_tokens=_tokens(whole.get("eos_token_id"), generation.get("eos_token_id")),
    )  # fmt: skip
    notes = _notes(shape, "config.json names no class in architectures", is_latent=rank is not None)
    return Network(
        shape=shape, context_length=_context(whole), abilities=_abilities(shape, is_chat=is_chat), notes=notes
    )


def of_gguf(metadata: Mapping[str, Any], *, is_chat: bool) -> Network:
    """Read the metadata of a GGUF file; what is optional in them means what it means to llama.cpp."""
    name = metadata.get("general.architecture")
    own = {key.removeprefix(f"{name}."): value for key, value in metadata.items() if key.startswith(f"{name}.")}
    heads, hidden = _parts(own, "attention.head_count"), _count(own, "embedding_length")
    kv_heads = _parts(own, "attention.head_count_kv") if "attention.head_count_kv" in own else heads
    is_latent, layers = "attention.kv_lora_rank" in own, _parts(own, "block_count")
    kept, window = keeping.of_gguf(str(name), own, layers), _count(own, "attention.sliding_window")
    length = _count(own, "attention.key_length") if "attention.key_length" in own else _quotient(hidden, heads)
    tokens = metadata.get("tokenizer.ggml.tokens")
    experts = _parts(own, "expert_count")
    architecture = table()["gguf"].get(name) if isinstance(name, str) else None
    shape = Shape(
        architecture="MixtralForCausalLM" if name == "llama" and experts else architecture,
        layers=layers, hidden=hidden, heads=heads,
        kv_heads=kv_heads, head_dim=None if is_latent else length,
        kv_lora_rank=_count(own, "attention.kv_lora_rank"), caching_layers=kept.caching,
        rope_head_dim=_count(own, "rope.dimension_count") if is_latent else None,
        vocab=_count(own, "vocab_size") or (tokens.length if isinstance(tokens, Array) else None),
        intermediate=_count(own, "feed_forward_length"), sliding_window=window,
        sliding_layers=kept.sliding if window else None,
        experts=experts, experts_per_token=_parts(own, "expert_used_count"), source="the GGUF file's own header",
        end_tokens=_tokens(*(metadata.get(f"tokenizer.ggml.{kind}_token_id") for kind in ("eos", "eot", "eom"))),
    )  # fmt: skip
    notes = _notes(shape, f"no class is known for the GGUF architecture {name!r}", is_latent=is_latent)
    context = _count(own, "context_length")
    return Network(shape=shape, context_length=context, abilities=_abilities(shape, is_chat=is_chat), notes=notes)


def remote_code(config: Mapping[str, Any], tokenizer: Mapping[str, Any]) -> str | None:
    """Name the Python that comes with a model and that an engine must execute to load it; null if there is none.

    A model whose type Transformers has itself is loaded without such files, even where they are named.
    """
    own = config.get("model_file")  # mlx-lm imports it
    if isinstance(own, str):
        return own
    if config.get("model_type") in table()["in_tree"]:
        return None
    for named in (config.get("auto_map"), tokenizer.get("auto_map")):
        files = list(_texts(named))
        if files:
            return files[0]
    return None


@cache
def table() -> dict[str, Any]:
    """Read what the names in a model's files mean, once."""
    from xinfer.config.compose import conf_dir, read  # noqa: PLC0415 -- needed only for models that no catalogue lists

    return read(conf_dir() / "architectures.yaml")


def _texts(node: Any) -> Iterator[str]:
    """Yield the texts in ``auto_map``, whose values are texts or lists of them, however deep."""
    waiting = [node]
    while waiting:
        part = waiting.pop()
        if isinstance(part, str) and part:
            yield part
        elif isinstance(part, (dict, list)):
            waiting += reversed(list(part.values()) if isinstance(part, dict) else part)


def _parts(source: Mapping[str, Any], *names: str) -> int | None:
    """Return a number of layers, heads or experts."""
    return _count(source, *names, most=_MOST_PARTS)


def _count(source: Mapping[str, Any], *names: str, most: int = _MOST) -> int | None:
    """Return the first of some values that is a number of something; one for each layer must be the same for all.

    Zero, and -1 of what may be without end, stand for nothing.
    """
    for name in names:
        value = source.get(name)
        if isinstance(value, Array):
            distinct = set(value.items) - {0}  # a layer without attention has none
            value = distinct.pop() if len(distinct) == 1 else None
        if isinstance(value, int) and not isinstance(value, bool) and not (value == -1 and name in _ENDLESS):
            limits.check(value, most, name)
            if value:
                return value
    return None


def _tokens(*values: Any) -> tuple[int, ...]:
    """Return the ids among some values that are ids, or lists of them."""
    flat = [item for value in values for item in (value if isinstance(value, list) else [value])]
    return tuple(sorted({item for item in flat if isinstance(item, int) and not isinstance(item, bool) and item >= 0}))


def _kv_heads(config: Mapping[str, Any]) -> int | None:
    if config.get("multi_query") is True and not config.get("new_decoder_architecture"):
        return 1
    said = _parts(config, *_KV_HEADS)
    return said or (_parts(config, *_HEADS) if config.get("model_type") in table()["own_keys"] else None)


def _head_dim(config: Mapping[str, Any]) -> int | None:
    said = _count(config, "head_dim", "kv_channels")
    return said or _quotient(_count(config, *_HIDDEN), _parts(config, *_HEADS))


def _quotient(hidden: int | None, heads: int | None) -> int | None:
    return hidden // heads if hidden and heads and hidden % heads == 0 else None


def _context(config: Mapping[str, Any]) -> int | None:
    """Return how many tokens the network was made for, RoPE scaling included."""
    length = _count(config, *_CONTEXT)
    scaling = config.get("rope_scaling") or config.get("rope_parameters")
    if length is None or not isinstance(scaling, dict) or str(config.get("model_type")).startswith("gemma3"):
        return length  # Gemma 3 says its scaled length
    factor = scaling.get("factor")
    is_stretched = scaling.get("rope_type", scaling.get("type")) in _STRETCHED
    if is_stretched and isinstance(factor, (int, float)) and 1 <= factor < _MOST:
        limits.check(length * factor, _MOST, "rope_scaling.factor x the context")
        return int(length * factor)
    return length


def _abilities(shape: Shape, *, is_chat: bool) -> tuple[str, ...]:
    if is_chat:
        return ("chat",)
    return ("generate",) if (shape.architecture or "").endswith(_GENERATES) else ()


def _notes(shape: Shape, nameless: str, *, is_latent: bool) -> tuple[str, ...]:
    latent = "its cache is compressed by latent attention, so that no head's size tells how large it is"
    is_open = is_latent and shape.rope_head_dim is None
    return (*([nameless] if shape.architecture is None else []), *([latent] if is_open else []))
