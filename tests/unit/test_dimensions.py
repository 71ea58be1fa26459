"""Weights counted from a network's dimensions are those that its authors count."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from xinfer.catalog import Shape, Spec
from xinfer.planning import dimensions

LLAMA = {"architecture": "LlamaForCausalLM"}
QWEN2 = {"architecture": "Qwen2ForCausalLM"}
KNOWN = {
    "llama-2 7B": ("7", {**LLAMA, "layers": 32, "hidden": 4096, "heads": 32, "kv_heads": 32, "head_dim": 128,
                         "vocab": 32000, "intermediate": 11008}, 6.738),
    "llama-3.1 8B": ("8", {**LLAMA, "layers": 32, "hidden": 4096, "heads": 32, "kv_heads": 8, "head_dim": 128,
                           "vocab": 128256, "intermediate": 14336}, 8.030),
    "llama-3.1 70B": ("70", {**LLAMA, "layers": 80, "hidden": 8192, "heads": 64, "kv_heads": 8, "head_dim": 128,
                             "vocab": 128256, "intermediate": 28672}, 70.554),
    "qwen2 0.5B": ("0_5", {**QWEN2, "layers": 24, "hidden": 896, "heads": 14, "kv_heads": 2, "head_dim": 64,
                           "vocab": 151936, "intermediate": 4864}, 0.494),
    "qwen2 7B": ("7", {**QWEN2, "layers": 28, "hidden": 3584, "heads": 28, "kv_heads": 4, "head_dim": 128,
                       "vocab": 152064, "intermediate": 18944}, 7.616),
    "gemma 7B": ("7", {"architecture": "GemmaForCausalLM", "layers": 28, "hidden": 3072, "heads": 16, "kv_heads": 16,
                       "head_dim": 256, "vocab": 256000, "intermediate": 24576}, 8.538),
    "gemma-2 9B": ("9", {"architecture": "Gemma2ForCausalLM", "layers": 42, "hidden": 3584, "heads": 16, "kv_heads": 8,
                         "head_dim": 256, "vocab": 256000, "intermediate": 14336}, 9.242),
    "mixtral 8x7B": ("46_7", {"architecture": "MixtralForCausalLM", "layers": 32, "hidden": 4096, "heads": 32,
                              "kv_heads": 8, "head_dim": 128, "vocab": 32000, "intermediate": 14336, "experts": 8,
                              "experts_per_token": 2}, 46.703),
    "smollm2 135M": ("0_135", {**LLAMA, "layers": 30, "hidden": 576, "heads": 9, "kv_heads": 3, "head_dim": 64,
                               "vocab": 49152, "intermediate": 1536}, 0.1345),
}  # fmt: skip
"""Sizes as named, dimensions as configured, and billions of weights as the hubs count them."""


def spec(size: str | None, **shape: Any) -> Spec:
    return Spec(family="f", size=size, format="pytorch", quantization="none", hub=None, id=None, shape=Shape(**shape))


@pytest.mark.parametrize("name", KNOWN)
def test_known_networks(name: str) -> None:
    """To the third digit; norms and biases are left out."""
    size, shape, billions = KNOWN[name]
    found = dimensions.count(spec(size, **shape))
    assert found is not None
    assert found.total / 1e9 == pytest.approx(billions, rel=1e-3)


def test_the_parts() -> None:
    """Embedding and head, attention, and what follows it."""
    size, shape, _ = KNOWN["llama-3.1 8B"]
    found = dimensions.count(spec(size, **shape))
    assert found == dimensions.Count(
        embedding=128256 * 4096, head=128256 * 4096, attention=32 * 4096 * 128 * (2 * 32 + 2 * 8),
        dense=32 * 3 * 4096 * 14336, experts=0,
    )  # fmt: skip
    assert found.ends == 2 * 128256 * 4096


def test_a_mixture_has_experts_in_place_of_a_dense_part() -> None:
    """Every one of them counts."""
    size, shape, _ = KNOWN["mixtral 8x7B"]
    found = dimensions.count(spec(size, **shape))
    assert found is not None
    assert (found.dense, found.experts) == (0, 32 * 8 * 3 * 4096 * 14336)


def test_a_head_that_is_the_embedding_counts_once() -> None:
    """The name tells, or the class of the network does."""
    shared, own = (dimensions.count(spec(KNOWN[name][0], **KNOWN[name][1])) for name in ("gemma 7B", "qwen2 7B"))
    assert shared is not None
    assert own is not None
    assert (shared.embedding, own.embedding) == (0, 152064 * 3584)


def test_a_counted_total_decides() -> None:
    """Where the total is known, the nearest reading of the dimensions is taken, or none."""
    _, shape, _ = KNOWN["qwen2 7B"]
    tied, own, neither = (dimensions.count(spec("7", **shape, total_b=total)) for total in (7.07, 7.616, 9.0))
    assert (tied.embedding if tied else None, own.embedding if own else None) == (0, 152064 * 3584)
    assert neither is None


@pytest.mark.parametrize(
    ("size", "changed"),
    [
        pytest.param("7", {"layers": None}, id="a-dimension-is-missing"),
        pytest.param("7", {"kv_lora_rank": 512}, id="latent-attention-has-other-matrices"),
        pytest.param("7", {"caching_layers": 7}, id="other-layers-have-others"),
        pytest.param("14", {}, id="it-is-another-size"),
        pytest.param(None, {}, id="the-size-is-not-known"),
    ],
)
def test_what_is_not_counted(size: str | None, changed: dict[str, Any]) -> None:
    """Null, and never the count of another network."""
    _, shape, _ = KNOWN["qwen2 7B"]
    assert dimensions.count(spec(size, **(shape | changed))) is None


def test_an_active_size_is_no_size() -> None:
    """A mixture named after its active parameters says nothing of all."""
    _, shape, _ = KNOWN["qwen2 7B"]
    assert dimensions.count(msgspec.structs.replace(spec("7", **shape), size_counts="active")) is None
