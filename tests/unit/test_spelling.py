"""One closed table says which spellings mean the same, and keeps distinct values distinct."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from xinfer import catalog
from xinfer.config import spelling
from xinfer.config.compose import conf_dir
from xinfer.errors import ConfigError

SPECS = [spec for family in catalog.load(conf_dir() / "model").values() for spec in family.specs()]


@pytest.mark.parametrize("field", catalog.CHOICES)
def test_every_published_spelling_is_in_the_table(field: str) -> None:
    """Whatever stands in the catalogue on any day can also be typed in another spelling."""
    published = {getattr(spec, field) for spec in SPECS}
    assert published
    assert {value for value in published if value.lower() not in spelling.table()[field]} == set()


def groups() -> dict[tuple[Any, ...], set[str]]:
    """Give what one family publishes in one size and format on one day."""
    found: dict[tuple[Any, ...], set[str]] = {}
    for spec in SPECS:
        for day in spec.listed or catalog.DAYS:
            found.setdefault((day, spec.family, spec.size, spec.format), set()).add(spec.quantization or "")
    return found


def test_no_two_published_quantizations_of_one_artefact_are_merged() -> None:
    """Within one size and format of one day, each published spelling is a value of its own."""
    merged = [
        (group, pair)
        for group, values in groups().items()
        for pair in itertools.combinations(sorted(values), 2)
        if spelling.matching("quantization", pair[0].upper(), {pair[1]})
    ]
    assert merged == []


@pytest.mark.parametrize(
    ("field", "typed", "published"),
    [
        pytest.param("size", "7b", "7", id="7b"),
        pytest.param("size", "0.5", "0_5", id="0.5"),
        pytest.param("size", "0.5B", "0_5", id="0.5B"),
        pytest.param("size", "135m", "0_135", id="135m"),
        pytest.param("size", "7.62", "7_62", id="a-counted-size"),
        pytest.param("size", "7.620B", "7_62", id="a-counted-size-with-a-zero-behind-it"),
        pytest.param("size", "8x7b", "46_7", id="8x7b-is-46.7-billion"),
        pytest.param("format", "gguf", "ggufv2", id="gguf"),
        pytest.param("format", "GGML", "ggmlv3", id="ggml"),
        pytest.param("format", "hf", "pytorch", id="hf-the-format"),
        pytest.param("hub", "hf", "huggingface", id="hf-the-hub"),
        pytest.param("quantization", "q4_k_m", "Q4_K_M", id="q4_k_m"),
        pytest.param("quantization", "Q4_K_M", "q4_K_M", id="ggml's-mixed-case"),
        pytest.param("quantization", "q4-k-m", "q4_k_m", id="hyphens"),
        pytest.param("quantization", "int4", "4-bit", id="int4-is-4-bit"),
        pytest.param("quantization", "4bit", "Int4", id="4bit-is-Int4"),
        pytest.param("quantization", "4bits", "4bit", id="4bits"),
        pytest.param("quantization", "8-bit", "8bits", id="8-bit-is-8bits"),
        pytest.param("quantization", "INT8", "8-bit", id="int8-is-8-bit"),
        pytest.param("quantization", "none", "None", id="none"),
        pytest.param("quantization", "f16", "fp16", id="f16"),
    ],
)
def test_these_mean_the_same(field: str, typed: str, published: str) -> None:
    """The table is symmetric, and case never matters."""
    assert spelling.matching(field, typed, {published}) == {published}
    assert spelling.matching(field, published, {typed}) == {typed}


@pytest.mark.parametrize(
    ("field", "one", "other"),
    [
        pytest.param("quantization", "Q4_K", "Q4_K_M", id="Q4_K-and-Q4_K_M"),
        pytest.param("quantization", "Q4_K_S", "Q4_K_M", id="Q4_K_S-and-Q4_K_M"),
        pytest.param("quantization", "Q6", "Q6_K", id="Q6-and-Q6_K"),
        pytest.param("quantization", "Q4_0", "Int4", id="Q4_0-and-Int4"),
        pytest.param("quantization", "IQ4_NL", "IQ4_XS", id="IQ4"),
        pytest.param("quantization", "Int4-Int8Mix", "Int4", id="a-mix-is-not-Int4"),
        pytest.param("quantization", "Int4-Int8Mix", "Int8", id="a-mix-is-not-Int8"),
        pytest.param("quantization", "Int3", "Int4", id="Int3-and-Int4"),
        pytest.param("quantization", "fp8", "Int8", id="fp8-and-Int8"),
        pytest.param("quantization", "FP16", "BF16", id="FP16-and-BF16"),
        pytest.param("quantization", "FP16", "none", id="FP16-is-not-none"),
        pytest.param("size", "13", "1_3", id="13-and-1.3"),
        pytest.param("size", "7", "0_7", id="7-and-0.7"),
        pytest.param("format", "ggufv2", "ggmlv3", id="gguf-and-ggml"),
        pytest.param("format", "gptq", "awq", id="gptq-and-awq"),
        pytest.param("format", "safetensors", "pytorch", id="safetensors-is-no-format"),
    ],
)
def test_these_never_mean_the_same(field: str, one: str, other: str) -> None:
    """What looks alike is not therefore alike."""
    assert spelling.matching(field, one, {other}) == frozenset()
    assert spelling.matching(field, other, {one}) == frozenset()


def test_a_published_spelling_needs_no_table(monkeypatch: pytest.MonkeyPatch) -> None:
    """The table is read only when what was typed is published in no case at all."""
    monkeypatch.setattr(spelling, "table", lambda: pytest.fail("the table was read"))
    assert spelling.matching("quantization", "int4", {"Int4", "4-bit"}) == {"Int4"}


def test_one_value_may_be_published_in_two_spellings() -> None:
    """Across days a value has several spellings, and a third one finds them all."""
    assert spelling.matching("quantization", "int4", {"4-bit", "4bit", "8-bit"}) == {"4-bit", "4bit"}


def test_outside_the_table_is_nothing() -> None:
    """No rule guesses at what is not written down."""
    assert spelling.matching("quantization", "w4a16", {"Int4", "4-bit"}) == frozenset()


def test_a_spelling_in_two_lines_is_refused() -> None:
    """A spelling can mean only one value."""
    with pytest.raises(
        ConfigError, match=r"^spelling\.yaml: format: 'x' stands in two lines; it can mean only one value$"
    ):
        spelling.index({"a": ["x"], "b": ["X"]}, "spelling.yaml: format")


@pytest.mark.parametrize(
    ("field", "typed", "published", "expected"),
    [
        pytest.param("size", "8", ["0_5", "7", "72"], "; did you mean '7'?", id="the-nearest-number"),
        pytest.param("size", "0.6b", ["0_5", "7"], "; did you mean '0_5'?", id="a-fraction"),
        pytest.param("size", "seven", ["0_5", "7"], "", id="no-number"),
        pytest.param("size", "8", [], "", id="nothing-published"),
        pytest.param("quantization", "q4_k_n", ["Q4_K_M", "Q8_0"], "; did you mean 'Q4_K_M'?", id="as-published"),
        pytest.param("format", "guf", ["ggufv2"], "; did you mean 'gguf'?", id="a-shorter-way"),
        pytest.param("quantization", "Int3", ["Int4", "Int8"], "", id="known-but-not-published"),
    ],
)
def test_suggestion(field: str, typed: str, published: list[str], expected: str) -> None:
    """A slip gets the nearest published value; a value that merely is not published gets no guess."""
    assert spelling.suggestion(field, typed, published) == expected
