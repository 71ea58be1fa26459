"""A GGUF file's name gives each tensor a type; the sum is the size of real files."""

from __future__ import annotations

import pytest

from xinfer.catalog import Shape, Spec
from xinfer.planning import dimensions, mixture

LLAMA_8B = Shape(
    architecture="LlamaForCausalLM", layers=32, hidden=4096, heads=32, kv_heads=8, head_dim=128, vocab=128256,
    intermediate=14336,
)  # fmt: skip
SMOLLM2 = Shape(
    architecture="LlamaForCausalLM", layers=30, hidden=576, heads=9, kv_heads=3, head_dim=64, vocab=49152,
    intermediate=1536,
)  # fmt: skip
GEMMA3_270M = Shape(
    architecture="Gemma3ForCausalLM", layers=18, hidden=640, heads=4, kv_heads=1, head_dim=256, vocab=262144,
    intermediate=2048,
)  # fmt: skip


def size(shape: Shape, billions: str, quantization: str) -> float | None:
    """Return the bits of a file's weights, and how many weights there are."""
    spec = Spec(family="f", size=billions, format="ggufv2", quantization=quantization, hub=None, id=None, shape=shape)
    count = dimensions.count(spec)
    assert count is not None
    return mixture.bits(shape, count, quantization.lower())


README = {
    "Q2_K": 3.1593, "Q2_K_S": 2.9697, "Q3_K_S": 3.6429, "Q3_K": 3.9960, "Q3_K_M": 3.9960, "Q3_K_L": 4.2979,
    "Q4_K_S": 4.6672, "Q4_K": 4.8944, "Q4_K_M": 4.8944, "Q5_K_S": 5.5704, "Q5_K": 5.7036, "Q5_K_M": 5.7036,
    "Q6_K": 6.5633, "Q8_0": 8.5008, "IQ4_XS": 4.4597, "IQ4_NL": 4.6818,
}  # fmt: skip
"""Bits per weight of Llama-3.1-8B's files, as llama.cpp documents them (tools/quantize/README.md)."""


@pytest.mark.parametrize("quantization", README)
def test_llama_3_1_8b_as_documented(quantization: str) -> None:
    """Within half a percent of what llama.cpp's own page says of every mixture."""
    bits = size(LLAMA_8B, "8", quantization)
    assert bits is not None
    assert bits / 8.03e9 == pytest.approx(README[quantization], rel=0.005)


@pytest.mark.parametrize(
    ("quantization", "gib"), [("Q4_0", 4.34), ("Q4_1", 4.78), ("Q5_0", 5.21), ("Q5_1", 5.65), ("Q8_0", 7.96)]
)
def test_llama_3_8b_of_the_older_types(quantization: str, gib: float) -> None:
    """The head keeps 6 bits, so that a file is larger than its block says; sizes as llama-quantize lists them."""
    bits = size(LLAMA_8B, "8", quantization)
    assert bits is not None
    assert bits / 8 / 2**30 == pytest.approx(gib, rel=0.005)


@pytest.mark.parametrize(
    ("shape", "billions", "quantization", "file", "vocabulary"),
    [
        pytest.param(SMOLLM2, "0_135", "Q4_1", 98_362_432, 1.8e6, id="smollm2-rows-of-576-are-no-256"),
        pytest.param(SMOLLM2, "0_135", "Q4_0", 91_726_912, 1.8e6, id="smollm2-as-it-is-made-here"),
        pytest.param(GEMMA3_270M, "0_27", "Q4_K_M", 253_113_024, 6.5e6, id="gemma3-rows-of-640-are-none-either"),
    ],
)
def test_small_networks(shape: Shape, billions: str, quantization: str, file: int, vocabulary: float) -> None:
    """Real files of networks whose rows are no whole blocks; their vocabulary is no weight."""
    bits = size(shape, billions, quantization)
    assert bits is not None
    assert bits / 8 + vocabulary == pytest.approx(file, rel=0.01)


def test_rows_that_fit_no_block() -> None:
    """They keep 16 bits."""
    odd = Shape(layers=1, hidden=100, heads=1, kv_heads=1, head_dim=100, vocab=100, intermediate=100)
    count = dimensions.Count(embedding=0, head=10_000, attention=40_000, dense=30_000, experts=0)
    assert mixture.bits(odd, count, "q4_k_m") == 16 * count.total


def test_the_values_of_a_large_network() -> None:
    """Llama-3.1-70B in Q4_K_M has 42.5 GB, as its publishers' files have: its few values get five bits."""
    shape = Shape(
        architecture="LlamaForCausalLM", layers=80, hidden=8192, heads=64, kv_heads=8, head_dim=128, vocab=128256,
        intermediate=28672,
    )  # fmt: skip
    bits = size(shape, "70", "Q4_K_M")
    assert bits is not None
    assert bits / 8 == pytest.approx(42.52e9, rel=0.005)


@pytest.mark.parametrize("quantization", ["iq2_xxs", "q4_k_l", "f16"])
def test_a_mixture_that_is_not_known_here(quantization: str) -> None:
    """Null, and another way must be found."""
    assert size(LLAMA_8B, "8", quantization) is None


def test_experts_are_not_known_here() -> None:
    """Their mixtures have rules of their own."""
    count = dimensions.Count(embedding=1, head=1, attention=1, dense=0, experts=8)
    assert mixture.bits(LLAMA_8B, count, "q4_k_m") is None
