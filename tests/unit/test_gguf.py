"""A GGUF header is read exactly, within bounds, and never believed."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xinfer.errors import ConfigError
from xinfer.sources import gguf
from xinfer.sources.gguf import Array, Header
from xinfer.testing.model_files import LLAMA, LLAMA_TENSORS, Value
from xinfer.testing.model_files import gguf as made

if TYPE_CHECKING:
    from collections.abc import Callable

WHOLE = made()
TEXT, LIST = 8, 9
U32, U64 = 4, 10


def read(data: bytes, size: int | None = None) -> Header:
    return gguf.read(lambda length: data[:length], len(data) if size is None else size, "m.gguf")


def refused(data: bytes, size: int | None = None) -> str:
    with pytest.raises(ConfigError) as caught:
        read(data, size)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def header(*, tensors: int = 0, metadata: int = 0, rest: bytes = b"") -> bytes:
    return struct.pack("<4sIQQ", b"GGUF", 3, tensors, metadata) + rest


def entry(key: str, kind: int, content: bytes) -> bytes:
    return struct.pack("<Q", len(key)) + key.encode() + struct.pack("<I", kind) + content


def tensor(name: str, elements: int, kind: int, offset: int) -> bytes:
    return struct.pack("<Q", len(name)) + name.encode() + struct.pack("<IQIQ", 1, elements, kind, offset)


# What is read


@pytest.mark.parametrize("version", [2, 3])
def test_a_header_says_what_was_written(version: int) -> None:
    """Metadata of every kind, how many tensors and parameters, and the types of matrices but not of vectors."""
    found = read(made(version=version))
    assert found.metadata["general.architecture"] == "llama"
    assert found.metadata["llama.block_count"] == 2
    assert found.metadata["tokenizer.ggml.tokens"] == Array(3)
    assert (found.tensors, found.parameters) == (2, 3 * 64 + 64)
    assert found.types == {"Q8_0"}


@pytest.mark.parametrize(
    ("written", "found"),
    [
        pytest.param(Value(0, 255), 255, id="uint8"),
        pytest.param(Value(1, -1), -1, id="int8"),
        pytest.param(Value(2, 65535), 65535, id="uint16"),
        pytest.param(Value(3, -2), -2, id="int16"),
        pytest.param(Value(5, -3), -3, id="int32"),
        pytest.param(0.5, 0.5, id="float32"),
        pytest.param(True, True, id="a-flag"),
        pytest.param("ünï", "ünï", id="a-text"),
        pytest.param("x" * 5000, "x" * 1024, id="the-beginning-of-a-long-text"),
        pytest.param(Value(10, 2**63), 2**63, id="uint64"),
        pytest.param(Value(11, -(2**63)), -(2**63), id="int64"),
        pytest.param(Value(12, 0.1), 0.1, id="float64"),
        pytest.param([3, 3, 1], Array(3, (3, 3, 1)), id="a-list-of-numbers"),
        pytest.param([0] * 1025, Array(1025), id="the-length-of-a-long-list"),
        pytest.param(["a", "", "ccc"], Array(3), id="the-length-of-a-list-of-texts"),
        pytest.param([], Array(0), id="an-empty-list"),
    ],
)
def test_every_kind_of_value_is_read(written: Any, found: Any) -> None:
    """And what follows it is still found."""
    metadata = read(made({"x.value": written, "x.next": 7})).metadata
    assert metadata == {"x.value": found, "x.next": 7}


def test_a_text_that_is_no_utf8_is_read_all_the_same() -> None:
    """Names of tokens and models are bytes to llama.cpp."""
    data = header(metadata=1, rest=entry("x", TEXT, struct.pack("<Q", 2) + b"\xff\xfe"))
    assert read(data).metadata == {"x": "\ufffd\ufffd"}


@pytest.mark.parametrize(
    ("metadata", "tensors", "quantization"),
    [
        pytest.param({"general.file_type": 15}, LLAMA_TENSORS, "Q4_K_M", id="its-own-word"),
        pytest.param({}, LLAMA_TENSORS, "Q8_0", id="the-one-type-of-its-matrices"),
        pytest.param({"general.file_type": 999}, LLAMA_TENSORS, "Q8_0", id="a-word-that-nobody-knows"),
        pytest.param({}, {**LLAMA_TENSORS, "b": ((64, 2), "F16")}, None, id="several-types"),
        pytest.param({}, {"a": ((64,), "F32")}, None, id="no-matrix"),
        pytest.param({"general.file_type": 1}, LLAMA_TENSORS, "FP16", id="f16-is-the-catalogue's-fp16"),
    ],
)
def test_the_quantization_is_what_the_file_says(
    metadata: dict[str, Any], tensors: dict[str, Any], quantization: str | None
) -> None:
    """Or nothing."""
    assert read(made(metadata, tensors)).quantization == quantization


def test_a_type_that_came_later_is_no_error() -> None:
    """Its parameters are counted; how many bytes they take is not known, and neither is the quantization."""
    line = struct.pack("<Q", 1) + b"t" + struct.pack("<IQQIQ", 2, 10, 10, 4242, 0)
    found = read(header(tensors=1, rest=line))
    assert (found.parameters, found.quantization) == (100, None)


def test_an_alignment_of_its_own_is_respected() -> None:
    """The last tensor must still be whole."""
    data = made({"general.alignment": 64}, {"a": ((64,), "F32")}, alignment=64)
    assert read(data).parameters == 64
    assert "bytes that its tensors take" in refused(data[:-1])


def test_a_header_longer_than_the_first_piece_is_read_in_larger_ones() -> None:
    """Never more of the file than its header's neighbourhood."""
    data = made({**LLAMA, "tokenizer.ggml.tokens": ["x" * 100] * 60_000})
    asked: list[int] = []

    def fetch(length: int) -> bytes:
        asked.append(length)
        return data[:length]

    assert gguf.read(fetch, 10**12, "m.gguf").metadata["tokenizer.ggml.tokens"] == Array(60_000)
    assert asked == [4 * 2**20, 16 * 2**20]


def test_the_beginning_of_a_file_tells_what_it_has_whole() -> None:
    """The network's metadata come before the tokenizer's, so that a small part of a file far away is enough."""
    data = made({**{key: LLAMA[key] for key in LLAMA if key.startswith(("general", "llama"))}, "t": ["x" * 50] * 9999})
    found = gguf.beginning(data[:2000], 10**9, "m.gguf")
    assert found["llama.attention.head_count"] == 4
    assert "t" not in found
    assert gguf.beginning(data[:10], 10**9, "m.gguf") == {}
    assert gguf.beginning(WHOLE, len(WHOLE), "m.gguf") == read(WHOLE).metadata


# What is refused


@pytest.mark.parametrize(
    ("data", "said"),
    [
        pytest.param(b"PK\x03\x04" + bytes(100), "is no GGUF file", id="another-format"),
        pytest.param(b"", "is no GGUF file", id="an-empty-file"),
        pytest.param(b"GGU", "is no GGUF file", id="three-bytes"),
        pytest.param(b"lmgg" + bytes(100), "is GGML of before August 2023", id="the-format-before-it"),
        pytest.param(b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull", id="a-pointer-of-git-lfs"),
        pytest.param(struct.pack("<4sI", b"GGUF", 1) + bytes(16), "is of GGUF version 1", id="version-1"),
        pytest.param(struct.pack("<4sI", b"GGUF", 9) + bytes(16), "is of GGUF version 9", id="a-later-version"),
        pytest.param(struct.pack(">4sI", b"GGUF", 3) + bytes(16), "is big endian", id="big-endian"),
        pytest.param(
            header(tensors=10**18), "header cannot hold the 1000000000000000000 tensors", id="more-tensors-than-bytes"
        ),
        pytest.param(
            header(metadata=10**18), "cannot hold the 1000000000000000000 metadata", id="more-metadata-than-bytes"
        ),
        pytest.param(header(tensors=2**16 + 1, rest=bytes(2**21)), "cannot hold", id="tensors-beyond-reason"),
        pytest.param(
            header(metadata=1, rest=struct.pack("<Q", 10**18) + bytes(20)),
            "its metadata 'number 1' points beyond its end, to byte",
            id="an-endless-key",
        ),
        pytest.param(
            header(metadata=1, rest=entry("x", TEXT, struct.pack("<Q", 10**18))),
            "its metadata 'x' points beyond its end, to byte 1000000000000000045 of 45",
            id="an-endless-text",
        ),
        pytest.param(
            header(metadata=1, rest=entry("x", LIST, struct.pack("<IQ", TEXT, 10**18))),
            "its metadata 'x' cannot hold the 1000000000000000000 texts",
            id="endlessly-many-texts",
        ),
        pytest.param(
            header(metadata=1, rest=entry("x", LIST, struct.pack("<IQ", U64, 2**60))),
            "its metadata 'x' cannot hold the 1152921504606846976 numbers",
            id="endlessly-many-numbers",
        ),
        pytest.param(
            header(metadata=1, rest=entry("x", LIST, struct.pack("<IQQ", TEXT, 2, 10**18) + bytes(8))),
            "its metadata 'x' points beyond its end",
            id="an-endless-text-in-a-list",
        ),
        pytest.param(
            header(metadata=1, rest=entry("x", 13, bytes(8))), "its metadata 'x' is of a kind 13", id="an-unknown-kind"
        ),
        pytest.param(
            header(metadata=1, rest=entry("x", LIST, struct.pack("<IQ", LIST, 1) + bytes(8))),
            "its metadata 'x' is a list of a kind 9",
            id="a-list-of-lists",
        ),
        pytest.param(
            header(metadata=2, rest=entry("x", U32, bytes(4)) * 2), "it says 'x' twice", id="the-same-key-twice"
        ),
        pytest.param(
            header(tensors=1, rest=struct.pack("<QI", 0, 5) + bytes(60)), "has 5 dimensions", id="a-fifth-dimension"
        ),
        pytest.param(
            header(tensors=1, rest=struct.pack("<QIQIQ", 0, 1, 33, 8, 0)),
            "rows of 33 numbers, no whole blocks of Q8_0",
            id="a-broken-block",
        ),
        pytest.param(
            header(tensors=2, rest=tensor("t", 10, 30, 0) + tensor("t", 10, 30, 32) + bytes(100)),
            "its tensor 't' is there twice",
            id="the-same-tensor-twice",
        ),
        pytest.param(
            header(tensors=1, rest=tensor("t", 2**40, 4242, 0)),
            "its tensor 't' has 1099511627776 numbers, and the file 57",
            id="more-numbers-than-bits",
        ),
        pytest.param(
            header(tensors=3, rest=b"".join(tensor(name, 20, 0, 0) for name in "abc") + bytes(100)),
            "of the 240 bytes that its tensors take",
            id="tensors-that-lie-on-each-other",
        ),
        pytest.param(
            made({"general.alignment": 0}), "aligned to 0 bytes", id="no-alignment"
        ),
        pytest.param(
            made({"general.alignment": "x"}), "aligned to 'x' bytes", id="an-alignment-that-is-a-text"
        ),
    ],
)  # fmt: skip
def test_what_is_no_gguf_is_refused_in_one_line(data: bytes, said: str) -> None:
    """Whatever it is; nothing is allocated for what it only claims to hold."""
    assert said in refused(data)


def test_a_download_that_was_broken_off_is_told_by_its_size() -> None:
    """The header is whole, and the tensors are not."""
    last = len(WHOLE) - 1
    assert refused(WHOLE[:last]).endswith(
        f"it has {last} of the {last + 1} bytes that its tensors take; download it again"
    )


def test_a_header_without_end_is_given_up() -> None:
    """After 64 MiB, of which none is kept."""
    endless = header(metadata=1, rest=entry("x", LIST, struct.pack("<IQ", U64, 2**25)))
    assert "longer than 64 MiB" in refused(endless + bytes(2**10), size=2**50)


def test_there_is_an_end_to_what_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many short lists take more memory than their file."""
    monkeypatch.setattr(gguf, "_MOST_KEPT", 100)
    assert len(read(made({"a": [1.5] * 50, "b": [0] * 40}, {})).metadata) == 2
    assert "no model has 106 letters in names and numbers" in refused(made({"a": [1.5] * 54, "b": [0] * 50}, {}))
    assert "no model has 101 letters" in refused(made({"a" * 50: "x" * 51}, {}))


def message(work: Callable[[], object]) -> str:
    """Return what our error says; nothing where there is none. Any other error passes through."""
    try:
        work()
    except ConfigError as error:
        return str(error)
    return ""


def mutated(data: bytes, at: int, value: int) -> bytes:
    return data[:at] + bytes([value]) + data[at + 1 :]


@settings(max_examples=400)
@given(at=st.integers(0, len(WHOLE) - 1), value=st.integers(0, 255), cut=st.integers(0, len(WHOLE)), size=st.booleans())
def test_no_damage_raises_anything_but_our_error(at: int, value: int, cut: int, size: bool) -> None:  # noqa: FBT001
    """And no more is asked for than the file has, however long it says that it is."""
    data = mutated(WHOLE, at, value)[:cut]
    asked: list[int] = []

    def fetch(length: int) -> bytes:
        asked.append(length)
        return data[:length]

    said = message(lambda: gguf.read(fetch, len(data) if size else 2**40, "m.gguf"))
    assert "\n" not in said
    assert sum(asked) <= 2 * gguf.MOST_BYTES


@given(st.binary(max_size=300))
def test_noise_behind_the_magic_number_is_our_error(noise: bytes) -> None:
    """Also where the file would be long enough for what the noise counts."""
    data = b"GGUF\x03\0\0\0" + noise
    said = [
        message(lambda: read(data)),
        message(lambda: read(data, 2**62)),
        message(lambda: gguf.beginning(data, 2**62, "m.gguf")),
    ]
    assert {text.partition(":")[0] for text in said} <= {"m.gguf", ""}
