"""A model that no catalogue lists is named and measured as the catalogue's own are."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xinfer.sources import naming


@pytest.mark.parametrize(
    ("texts", "name"),
    [
        pytest.param(["Qwen2-7B-Instruct"], "Qwen2-7B-Instruct", id="a-usual-name-stays"),
        pytest.param(["Smollm2 135M 8k"], "Smollm2-135M-8k", id="spaces-become-hyphens"),
        pytest.param(["Modèle Été"], "Modele-Ete", id="accents-go"),
        pytest.param(["日本語", "file.q4"], "file.q4", id="the-next-text-where-nothing-is-left"),
        pytest.param(["", "   ", "日本語"], "model", id="there-is-always-a-name"),
        pytest.param(["--trust-remote-code"], "trust-remote-code", id="a-name-is-no-flag"),
        pytest.param(["../../etc/passwd"], "etc-passwd", id="a-name-is-no-path"),
        pytest.param(["a\nb\x1b[31m"], "a-b-31m", id="no-control-characters"),
        pytest.param(["x" * 200], "x" * 80, id="not-longer-than-a-directory-may-be"),
    ],
)
def test_a_family_is_a_word_for_requests_and_directories(texts: list[str], name: str) -> None:
    """Whatever a file says that it is called."""
    assert naming.family(*texts) == name


@given(st.lists(st.text()))
def test_a_family_is_always_safe(texts: list[str]) -> None:
    """It is ASCII, begins with a letter or digit, and is never empty."""
    assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}", naming.family(*texts))


@pytest.mark.parametrize(
    ("parameters", "size"),
    [
        pytest.param(134_515_008, "0_135", id="smollm2-135m"),
        pytest.param(494_032_768, "0_494", id="qwen2-0.5b"),
        pytest.param(7_615_616_512, "7_62", id="qwen2-7b"),
        pytest.param(70_000_000_000, "70", id="a-round-number-has-no-zeros-behind-it"),
        pytest.param(405_853_388_800, "406", id="llama-3.1-405b"),
        pytest.param(1_234_567_890_123, "1230", id="more-than-a-thousand-billions"),
        pytest.param(192, "0_000000192", id="a-test's-model"),
    ],
)
def test_a_size_is_counted_to_three_digits(parameters: int, size: str) -> None:
    """In billions, with the catalogue's underscore."""
    assert naming.size(parameters) == size


@pytest.mark.parametrize(
    ("file", "quantization"),
    [
        pytest.param("qwen2-0_5b-instruct-q4_k_m.gguf", "Q4_K_M", id="lower-case"),
        pytest.param("SmolLM2-135M-Instruct.Q4_1.gguf", "Q4_1", id="behind-a-dot"),
        pytest.param("gemma-3-27b-it-IQ4_XS-imat.gguf", "IQ4_XS", id="not-at-the-end"),
        pytest.param("Model-UD-Q4_K_XL.gguf", "UD-Q4_K_XL", id="a-mixture-of-its-own"),
        pytest.param("Q8_0/model-Q8_0-00001-of-00003.gguf", "Q8_0", id="split-and-in-a-folder"),
        pytest.param("model-f16.GGUF", "FP16", id="f16-is-the-catalogue's-fp16"),
        pytest.param("model-fp32.gguf", "F32", id="fp32-is-the-catalogue's-f32"),
        pytest.param("model-bf16.gguf", "BF16", id="bf16"),
        pytest.param("gpt-oss-20b-mxfp4.gguf", "MXFP4", id="mxfp4"),
        pytest.param("bitnet-TQ2_0.gguf", "TQ2_0", id="ternary"),
        pytest.param("Q3-model.gguf", "Q3", id="a-word-that-is-all"),
        pytest.param("model.gguf", None, id="none"),
        pytest.param("qwen2.5-q.gguf", None, id="a-letter-is-none"),
    ],
)
def test_a_file_name_tells_the_quantization(file: str, quantization: str | None) -> None:
    """The last word that is one."""
    assert naming.quantization(file) == quantization


@pytest.mark.parametrize(
    ("file", "part"),
    [
        pytest.param("m-00002-of-00003.gguf", ("m", 2, 3, ".gguf"), id="gguf"),
        pytest.param("m-00001-of-00002.safetensors", ("m", 1, 2, ".safetensors"), id="safetensors"),
        pytest.param("m-00003-of-00002.gguf", None, id="more-than-there-are"),
        pytest.param("m-00000-of-00002.gguf", None, id="they-are-counted-from-one"),
        pytest.param("m-1-of-2.gguf", None, id="five-digits"),
        pytest.param("m.gguf", None, id="whole"),
    ],
)
def test_a_piece_says_how_many_there_are(file: str, part: tuple[str, int, int, str] | None) -> None:
    """As llama.cpp and Hugging Face's tools count them."""
    assert naming.part(file) == part


def test_a_piece_names_all_pieces() -> None:
    """In order, so that the first is the one that engines are given."""
    piece = naming.part("m-00002-of-00002.gguf")
    assert piece is not None
    assert piece.siblings == ("m-00001-of-00002.gguf", "m-00002-of-00002.gguf")


@pytest.mark.parametrize(
    ("file", "is_model"),
    [
        pytest.param("a.gguf", True, id="a-model"),
        pytest.param("a.GGUF", True, id="in-capitals"),
        pytest.param("mmproj-a-f16.gguf", False, id="a-vision-projector"),
        pytest.param("a.imatrix.gguf", False, id="an-importance-matrix"),
        pytest.param("a.bin", False, id="another-format"),
    ],
)
def test_what_belongs_to_a_model_is_none(file: str, is_model: bool) -> None:  # noqa: FBT001 -- a column of the table
    """A name tells a network from what is loaded beside it."""
    assert naming.is_model(file) is is_model
