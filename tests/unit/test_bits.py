"""Weights are as large as their files, else as their format packs each part of the network."""

from __future__ import annotations

from typing import Any

import pytest

from xinfer.catalog import Shape, Spec
from xinfer.planning import bits

QWEN2_7B = Shape(
    architecture="Qwen2ForCausalLM", layers=28, hidden=3584, heads=28, kv_heads=4, head_dim=128, vocab=152064,
    intermediate=18944,
)  # fmt: skip
GPT_OSS_20B = Shape(
    architecture="GptOssForCausalLM", layers=24, hidden=2880, heads=64, kv_heads=8, head_dim=64, vocab=201088,
    intermediate=2880, experts=32, experts_per_token=4, total_b=20.91,
)  # fmt: skip


def spec(form: str, quantization: str, size: str = "7", shape: Shape = QWEN2_7B, **more: Any) -> Spec:
    return Spec(
        family="f", size=size, format=form, quantization=quantization, hub=None, id=None, shape=shape, **more
    )  # fmt: skip


@pytest.mark.parametrize(
    ("of", "dtype", "gigabytes", "why"),
    [
        pytest.param(spec("pytorch", "none"), None, 15.23,
                     "7.615e9 weights, counted from the network's dimensions, x 16 bits / 8", id="half-precision"),
        pytest.param(spec("pytorch", "none"), "float32", 30.46,
                     "7.615e9 weights, counted from the network's dimensions, x 32 bits / 8", id="full-precision"),
        pytest.param(spec("mlx", "none"), "float32", 30.46,
                     "7.615e9 weights, counted from the network's dimensions, x 32 bits / 8", id="mlx-made-wider"),
        # 5.57 GB on the hub: the embedding and the head of Qwen2-7B-Instruct-GPTQ-Int4 are not packed
        pytest.param(spec("gptq", "Int4"), None, 5.57,
                     "7.615e9 weights, counted from the network's dimensions, x 4.16 bits / 8, "
                     "but 16 bits for the 1.09e9 of embedding and head", id="gptq"),
        pytest.param(spec("pytorch", "4-bit"), "float32", 7.62,
                     "7.615e9 weights, counted from the network's dimensions, x 4 bits / 8, "
                     "but 32 bits for the 1.09e9 of embedding and head", id="packed-while-loading"),
        pytest.param(spec("mlx", "4-bit"), None, 4.284,
                     "7.615e9 weights, counted from the network's dimensions, x 4.5 bits / 8", id="mlx-packs-all"),
        pytest.param(spec("ggufv2", "fp16"), None, 15.23,
                     "7.615e9 weights, counted from the network's dimensions, x 16.0005 bits / 8", id="gguf-unpacked"),
        pytest.param(spec("ggufv2", "Q4_K_M"), None, 4.683,
                     "7.615e9 weights, counted from the network's dimensions, x 4.912 bits / 8: llama.cpp's types, "
                     "tensor by tensor", id="gguf"),
        # 13.76 GB on the hub
        pytest.param(spec("mxfp4", "mxfp4", "20", GPT_OSS_20B), None, 13.76,
                     "20.91e9 weights, counted from the network's dimensions, x 4.25 bits / 8, "
                     "but 16 bits for the 1.8e9 that are no experts'", id="experts-alone-are-packed"),
        pytest.param(spec("ggufv2", "MXFP4", "20", GPT_OSS_20B), None, 12.07,
                     "20.91e9 weights, counted from the network's dimensions, x 4.25 bits / 8, "
                     "but 8.5 bits for the 1.8e9 that are no experts'", id="llama.cpp-packs-the-rest-too"),
        pytest.param(spec("ggufv2", "Q4_K_M", "9", Shape()), None, 5.506, "9e9 parameters x 4.8944 bits / 8",
                     id="where-nothing-can-be-counted-the-name-must-do"),
        pytest.param(spec("pytorch", "none", "14", Shape(total_b=57.4), size_counts="active"), None, 114.8,
                     "57.4e9 parameters x 16 bits / 8", id="a-total-that-somebody-counted"),
    ],
)  # fmt: skip
def test_weights(of: Spec, dtype: str | None, gigabytes: float, why: str) -> None:
    """Each part of a network at the width that its format gives it."""
    found = bits.weights(of, dtype)
    assert found.bytes is not None
    assert found.bytes / 1e9 == pytest.approx(gigabytes, rel=0.01)
    assert found.formula == why


@pytest.mark.parametrize(
    ("of", "dtype", "size", "why"),
    [
        pytest.param(spec("pytorch", "none", bytes=15_230_000_000), "bfloat16", 15_230_000_000,
                     "the file's 15230000000 bytes", id="as-it-is"),
        pytest.param(spec("pytorch", "none", "7_615", bytes=30_460_000_000), "bfloat16", 15_230_000_000,
                     "the file's 30460000000 bytes x 16 / 32: loaded as bfloat16", id="loaded-narrower"),
        pytest.param(spec("pytorch", "none", "7_615", bytes=15_230_000_000), "float32", 30_460_000_000,
                     "the file's 15230000000 bytes x 32 / 16: loaded as float32", id="loaded-wider"),
        pytest.param(spec("pytorch", "none", bytes=99), "float32", 99, "the file's 99 bytes", id="of-no-known-width"),
        pytest.param(spec("gptq", "Int4", bytes=5_570_000_000), "float16", 5_570_000_000,
                     "the file's 5570000000 bytes", id="packed"),
        pytest.param(spec("pytorch", "none", "14", size_counts="active", bytes=7), "float32", 7, "the file's 7 bytes",
                     id="how-many-weights-is-not-known"),
    ],
)  # fmt: skip
def test_files(of: Spec, dtype: str | None, size: float, why: str) -> None:
    """A file's own bytes count, unless an engine loads its numbers as others."""
    assert bits.weights(of, dtype) == bits.Weights(size, why)
