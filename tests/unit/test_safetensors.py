"""A safetensors header is read exactly, within bounds, and checked against the length of its file."""

from __future__ import annotations

import json
import struct
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xinfer.errors import ConfigError
from xinfer.sources import safetensors
from xinfer.sources.safetensors import Header
from xinfer.testing.model_files import safetensors as made

WHOLE = made(metadata={"format": "pt"})


def read(data: bytes, size: int | None = None) -> Header:
    def fetch(start: int, length: int) -> bytes:
        return data[start : start + length]

    return safetensors.read(fetch, len(data) if size is None else size, "m.safetensors")


def refused(data: bytes, size: int | None = None) -> str:
    with pytest.raises(ConfigError) as caught:
        read(data, size)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def framed(header: Any, data: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def test_a_header_says_what_was_written() -> None:
    """Every tensor with its type and elements, and whose layout it is."""
    found = read(WHOLE)
    assert {name: (tensor.dtype, tensor.elements) for name, tensor in found.tensors.items()} == {
        "model.embed_tokens.weight": ("BF16", 192), "model.norm.weight": ("BF16", 64),
    }  # fmt: skip
    assert found.framework == "pt"


def test_a_header_need_not_say_whose_layout_it_is() -> None:
    """Then nothing is known of that."""
    assert read(made()).framework is None
    assert read(made({})).tensors == {}


def test_a_header_longer_than_the_first_piece_is_read_to_its_end() -> None:
    """Exactly to its end, and none of the tensors."""
    tensors = {f"model.layers.{number}.weight": ("BF16", (1,)) for number in range(3000)}
    data, asked = made(tensors), list[tuple[int, int]]()

    def fetch(start: int, length: int) -> bytes:
        asked.append((start, length))
        return data[start : start + length]

    assert len(safetensors.read(fetch, len(data), "m").tensors) == 3000
    (begin, first), (second, rest) = asked
    assert (begin, first, second) == (0, 2**16, 2**16)
    assert second + rest == len(data) - 6000


def test_a_type_that_came_later_is_no_error() -> None:
    """The size of such tensors is not checked; the length of the file still is."""
    header = {"x": {"dtype": "F2", "shape": [8], "data_offsets": [0, 2]}}
    assert read(framed(header, bytes(2))).tensors["x"].elements == 8
    assert "its header says" in refused(framed(header, bytes(3)))


@pytest.mark.parametrize(
    ("data", "said"),
    [
        pytest.param(b"", "fewer than its header takes", id="an-empty-file"),
        pytest.param(bytes(7), "fewer than its header takes", id="seven-bytes"),
        pytest.param(struct.pack("<Q", 10**18) + bytes(9), "fewer than its header takes", id="an-endless-header"),
        pytest.param(b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull", id="a-pointer-of-git-lfs"),
        pytest.param(framed(b"no json"), "not the JSON", id="no-json"),
        pytest.param(framed(b'{"a":"\xff"}'), "not the JSON", id="no-text"),
        pytest.param(framed(b"[" * 100_000), "not the JSON", id="nested-without-end"),
        pytest.param(framed([1]), "not the JSON", id="a-list"),
        pytest.param(framed({"x": 1}), "not the JSON", id="a-tensor-that-is-a-number"),
        pytest.param(framed({"__metadata__": {"format": 1}}), "not the JSON", id="metadata-that-are-no-texts"),
        pytest.param(
            framed({"x": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}}), "not the JSON", id="less-than-none"
        ),
        pytest.param(
            framed({"x": {"dtype": "F32", "shape": [1] * 17, "data_offsets": [0, 4]}}, bytes(4)),
            "not the JSON",
            id="more-dimensions-than-a-tensor-has",
        ),
        pytest.param(
            framed({"x": {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]}}, bytes(4)),
            "'x' does not have the bytes",
            id="a-shape-that-takes-more",
        ),
        pytest.param(
            framed({"x": {"dtype": "?", "shape": [], "data_offsets": [4, 0]}}),
            "'x' does not have the bytes",
            id="an-end-before-the-beginning",
        ),
        pytest.param(
            framed(
                {
                    "a": {"dtype": "U8", "shape": [2], "data_offsets": [0, 2]},
                    "b": {"dtype": "U8", "shape": [2], "data_offsets": [1, 3]},
                },
                bytes(3),
            ),
            "its tensor 'b' begins at 1, not at 2 behind the one before",
            id="tensors-that-lie-on-each-other",
        ),
        pytest.param(
            framed({"a": {"dtype": "U8", "shape": [1], "data_offsets": [1, 2]}}, bytes(2)),
            "its tensor 'a' begins at 1, not at 0",
            id="a-gap",
        ),
        pytest.param(
            framed({"x": {"dtype": "?", "shape": [2**60, 2**60], "data_offsets": [0, 4]}}, bytes(4)),
            "'x' does not have the bytes that its shape takes: 4 for ? [1152921504606846976, 1152921504606846976]",
            id="more-numbers-than-bits",
        ),
        pytest.param(framed({"a.b": 1}), "not the JSON that it should be at 'a.b': Expected", id="it-says-where"),
        pytest.param(WHOLE[:-1], "its header says", id="a-download-that-was-broken-off"),
        pytest.param(WHOLE + b"x", "its header says", id="a-byte-too-many"),
    ],
)
def test_what_is_no_safetensors_is_refused_in_one_line(data: bytes, said: str) -> None:
    """Whatever it is."""
    assert said in refused(data)


def test_a_header_beyond_reason_is_not_read() -> None:
    """25 MB is the bound of Hugging Face's own reader."""
    assert "longer than 25 MB" in refused(struct.pack("<Q", 26_000_000) + bytes(2**16), size=10**12)


def test_a_header_of_endlessly_many_values_is_not_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each would take a hundred bytes."""
    monkeypatch.setattr(safetensors, "_MOST_VALUES", 15)
    assert len(read(made({"a": ("U8", (1,)), "b": ("U8", (1,))})).tensors) == 2
    assert "its header has 22 values, and no model's has more than 15" in refused(
        made({"a": ("U8", (1,)), "b": ("U8", (1,)), "c": ("U8", (1,))})
    )


@settings(max_examples=400)
@given(
    at=st.integers(0, len(WHOLE) - 1),
    value=st.integers(0, 255),
    cut=st.integers(0, len(WHOLE)),
    long=st.booleans(),
)
def test_no_damage_raises_anything_but_our_error(at: int, value: int, cut: int, long: bool) -> None:  # noqa: FBT001
    """And no more is asked for than the bound, however long the file says that it is."""
    data = (WHOLE[:at] + bytes([value]) + WHOLE[at + 1 :])[:cut]
    asked: list[int] = []

    def fetch(start: int, length: int) -> bytes:
        asked.append(length)
        return data[start : start + length]

    said = ""
    try:
        safetensors.read(fetch, 2**40 if long else len(data), "m.safetensors")
    except ConfigError as error:
        said = str(error)
    assert "\n" not in said
    assert sum(asked) <= safetensors.MOST_BYTES


@given(st.integers(0, len(WHOLE) - 1))
def test_a_file_is_whole_or_refused(cut: int) -> None:
    """There is no byte of it that could be missing."""
    assert "download it again" in refused(WHOLE[:cut])
