"""The header of a GGUF file: its metadata and its table of tensors, never the weights.

Versions 2 and 3, little endian. The file may be anything: every length is checked against the file's own
before it is used, of no file more than its first 64 MiB are read, and of these no more is kept than a few million
letters and numbers. A refusal names the entry and the number that cannot be.
"""

from __future__ import annotations

import contextlib
import math
import struct
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from xinfer.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Metadata = dict[str, Any]

MAGIC = b"GGUF"
_VERSIONS = (2, 3)
_POINTER = b"version https://git-lfs"
_LONGEST_MAGIC = len(_POINTER)
MOST_BYTES = 64 * 2**20
"""Four times the header of a model with 262,144 tokens, the largest vocabulary seen."""
_FIRST_BYTES = 4 * 2**20
_KEPT_TEXT, _KEPT_ITEMS = 1024, 1024
"""How much of a text and of a list is kept: enough for names, and for one number for each layer."""
_MOST_KEPT = 2**22
"""Letters and numbers in all: the names of as many tensors as there may be."""
_MOST_DIMENSIONS = 4
_MOST_TEXTS = 2**22
"""Sixteen times the largest vocabulary."""
_MOST_LINES = 2**16
"""Of tensors and of metadata: fifty times as many as the largest models have, and read in half a second."""
_ALIGNMENT = 32
_OLD = {b"lmgg", b"tjgg", b"fmgg", b"algg"}
"""What GGML's formats of before August 2023 begin with."""

_U32, _U64 = struct.Struct("<I"), struct.Struct("<Q")
_NUMBERS = {
    number: struct.Struct(f"<{code}")
    for number, code in zip((0, 1, 2, 3, 4, 5, 6, 7, 10, 11, 12), "BbHhIif?Qqd", strict=True)
}
_TEXT, _LIST = 8, 9


class Array(NamedTuple):
    """A list in the metadata: its length, and its items if they are few and numbers."""

    length: int
    items: tuple[float, ...] = ()


class Type(NamedTuple):
    """How a tensor's numbers are packed: so many of them in so many bytes."""

    name: str
    block: int
    bytes: int


TYPES = {
    0: Type("F32", 1, 4), 1: Type("FP16", 1, 2), 2: Type("Q4_0", 32, 18), 3: Type("Q4_1", 32, 20),
    6: Type("Q5_0", 32, 22), 7: Type("Q5_1", 32, 24), 8: Type("Q8_0", 32, 34), 9: Type("Q8_1", 32, 40),
    10: Type("Q2_K", 256, 84), 11: Type("Q3_K", 256, 110), 12: Type("Q4_K", 256, 144), 13: Type("Q5_K", 256, 176),
    14: Type("Q6_K", 256, 210), 15: Type("Q8_K", 256, 292), 16: Type("IQ2_XXS", 256, 66), 17: Type("IQ2_XS", 256, 74),
    18: Type("IQ3_XXS", 256, 98), 19: Type("IQ1_S", 256, 50), 20: Type("IQ4_NL", 32, 18), 21: Type("IQ3_S", 256, 110),
    22: Type("IQ2_S", 256, 82), 23: Type("IQ4_XS", 256, 136), 24: Type("I8", 1, 1), 25: Type("I16", 1, 2),
    26: Type("I32", 1, 4), 27: Type("I64", 1, 8), 28: Type("F64", 1, 8), 29: Type("IQ1_M", 256, 56),
    30: Type("BF16", 1, 2), 34: Type("TQ1_0", 256, 54), 35: Type("TQ2_0", 256, 66), 39: Type("MXFP4", 32, 17),
    40: Type("NVFP4", 64, 36), 41: Type("Q1_0", 128, 18), 42: Type("Q2_0", 64, 18),
}  # fmt: skip
"""The tensor types of llama.cpp, as llama-cpp-python 0.3.36 has it; those it has removed are missing."""
_UNKNOWN = Type("", 1, 0)
"""Of a type that came later only the number of elements is known."""
FILE_TYPES = {
    0: "F32", 1: "FP16", 2: "Q4_0", 3: "Q4_1", 7: "Q8_0", 8: "Q5_0", 9: "Q5_1", 10: "Q2_K", 11: "Q3_K_S",
    12: "Q3_K_M", 13: "Q3_K_L", 14: "Q4_K_S", 15: "Q4_K_M", 16: "Q5_K_S", 17: "Q5_K_M", 18: "Q6_K", 19: "IQ2_XXS",
    20: "IQ2_XS", 21: "Q2_K_S", 22: "IQ3_XS", 23: "IQ3_XXS", 24: "IQ1_S", 25: "IQ4_NL", 26: "IQ3_S", 27: "IQ3_M",
    28: "IQ2_S", 29: "IQ2_M", 30: "IQ4_XS", 31: "IQ1_M", 32: "BF16", 36: "TQ1_0", 37: "TQ2_0", 38: "MXFP4",
    39: "NVFP4", 40: "Q1_0", 41: "Q2_0",
}  # fmt: skip
"""``general.file_type``: the quantization of a whole file, most of whose tensors are of one type."""


class Size(NamedTuple):
    """How large a tensor is."""

    elements: int
    bytes: int


class Header(msgspec.Struct, frozen=True, kw_only=True):
    """What a file says of itself."""

    metadata: dict[str, Any]
    """Numbers, flags, texts (their beginnings) and lists as :class:`Array`."""
    tensors: int
    parameters: int
    types: frozenset[str]
    """Of the tensors with more than one dimension; vectors stay wide in every quantization."""
    sizes: dict[str, Size] = {}
    """Of each tensor by its name; a type that came later has no bytes."""

    @property
    def quantization(self) -> str | None:
        """The file's own word, else the one type that all its matrices have; null where neither tells."""
        word = FILE_TYPES.get(self.metadata.get("general.file_type", -1))
        return word or (min(self.types) or None if len(self.types) == 1 else None)


def read(fetch: Callable[[int], bytes], size: int, where: str) -> Header:
    """Read a header; ``fetch`` returns that many of the file's first bytes, ``size`` is the whole file's.

    Raises ConfigError for what is no GGUF, damaged, of a version that no engine reads any more, or shorter
    than its tensors need, as a download that was broken off is.
    """
    most = min(size, MOST_BYTES)
    length = min(_FIRST_BYTES, most)
    while True:
        try:
            return _header(_Cursor(fetch(length), size, where))
        except EOFError:
            if length == most:
                raise ConfigError(f"{where}: is damaged: no model's header is longer than 64 MiB") from None
            length = min(4 * length, most)


def beginning(data: bytes, size: int, where: str) -> Metadata:
    """Return the metadata that the first bytes of a file hold whole: the network's come before the tokenizer's."""
    found: Metadata = {}
    with contextlib.suppress(EOFError):
        cursor = _Cursor(data, size, where)
        _, entries = _counts(cursor)
        for key, value in _entries(cursor, entries):
            found[key] = value
    return found


class _Cursor:
    """A place in a file whose first bytes are there."""

    def __init__(self, data: bytes, size: int, where: str) -> None:
        self.data, self.size, self.where, self.at, self.kept = data, size, where, 0, 0
        self.enter("header")

    @property
    def place(self) -> str:
        return f"its {self.what} {self.name[:80]!r}" if self.name else f"its {self.what}"

    def enter(self, what: str, name: str = "") -> None:
        """Note which entry is being read."""
        self.what, self.name = what, name

    def damaged(self, why: str) -> ConfigError:
        return ConfigError(f"{self.where}: is damaged or not whole: {why}; download it again")

    def skip(self, count: int) -> int:
        """Step over some bytes and return where they begin; EOFError if they are further in the file."""
        start, end = self.at, self.at + count
        if end > self.size:
            raise self.damaged(f"{self.place} points beyond its end, to byte {end} of {self.size}")
        if end > len(self.data):
            raise EOFError
        self.at = end
        return start

    def number(self, form: struct.Struct = _U32) -> Any:
        return form.unpack_from(self.data, self.skip(form.size))[0]

    def count(self, what: str, least_bytes: int, most: int = MOST_BYTES) -> int:
        """Read how many of something follow; each takes so many bytes at least."""
        found: int = self.number(_U64)
        if found > most or found * least_bytes > self.size - self.at:
            raise self.damaged(f"{self.place} cannot hold the {found} {what} that it counts")
        return found

    def keep(self, count: int) -> int:
        """Return a count of letters or numbers that will be kept, unless it is one too many."""
        self.kept += count
        if self.kept > _MOST_KEPT:
            raise self.damaged(f"no model has {self.kept} letters in names and numbers in short lists")
        return count

    def text(self) -> str:
        length: int = self.number(_U64)
        start = self.skip(length)
        return self.data[start : start + self.keep(min(length, _KEPT_TEXT))].decode(errors="replace")

    def skip_texts(self, count: int) -> None:
        """Step over texts: a vocabulary has hundreds of thousands, so that each step counts."""
        data, at, last, unpack = self.data, self.at, len(self.data) - _U64.size, _U64.unpack_from
        for _ in range(count):
            if at > last:
                self.skip(at + _U64.size - self.at)  # which raises what there is to raise
            at += _U64.size + unpack(data, at)[0]
        self.skip(at - self.at)


def _header(cursor: _Cursor) -> Header:
    tensors, entries = _counts(cursor)
    metadata: Metadata = {}
    for key, value in _entries(cursor, entries):
        if key in metadata:
            raise cursor.damaged(f"it says {key!r} twice")
        metadata[key] = value
    ends, taken, types, sizes = 0, 0, set(), dict[str, Size]()
    for number in range(tensors):
        cursor.enter("tensor", f"number {number + 1}")
        name, shape, kind, offset = _tensor(cursor)
        if name in sizes:
            raise cursor.damaged(f"{cursor.place} is there twice")
        elements = math.prod(shape)
        if elements > 8 * cursor.size:  # no type, known or not, has less than a bit for a number
            raise cursor.damaged(f"{cursor.place} has {elements} numbers, and the file {cursor.size} bytes")
        sizes[name] = Size(elements, elements // kind.block * kind.bytes)
        ends, taken = max(ends, offset + sizes[name].bytes), taken + sizes[name].bytes
        types |= {kind.name} if len(shape) > 1 else set()
    if taken > cursor.size:
        raise cursor.damaged(f"it has {cursor.size} of the {taken} bytes that its tensors take")
    alignment = metadata.get("general.alignment", _ALIGNMENT)
    if not isinstance(alignment, int) or alignment < 1:
        raise cursor.damaged(f"general.alignment: its tensors are aligned to {alignment!r} bytes")
    needs = -(-cursor.at // alignment) * alignment + ends if ends else cursor.at
    if needs > cursor.size:
        raise cursor.damaged(f"it has {cursor.size} of the {needs} bytes that its tensors take")
    parameters = sum(size.elements for size in sizes.values())
    return Header(metadata=metadata, tensors=tensors, parameters=parameters, types=frozenset(types), sizes=sizes)


def _counts(cursor: _Cursor) -> tuple[int, int]:
    """Check the magic number and the version; return how many tensors and how many metadata there are."""
    _check_magic(cursor.data[:_LONGEST_MAGIC], cursor.where)
    cursor.skip(len(MAGIC))
    version = cursor.number()
    if version not in _VERSIONS:
        what = "big endian" if version % 2**16 == 0 else f"of GGUF version {version}"
        raise ConfigError(f"{cursor.where}: is {what}; engines here read little-endian versions 2 and 3")
    return cursor.count("tensors", 24, _MOST_LINES), cursor.count("metadata", 13, _MOST_LINES)


def _check_magic(first: bytes, where: str) -> None:
    if first.startswith(MAGIC):
        return
    if first[:4] in _OLD:
        raise ConfigError(f"{where}: is GGML of before August 2023, which no engine reads any more; convert it to GGUF")
    if first == _POINTER:
        raise ConfigError(f"{where}: is Git LFS's pointer to the file, not the file; fetch it with git lfs pull")
    raise ConfigError(f"{where}: is no GGUF file; a folder with a config.json is named by its own path")


def _entries(cursor: _Cursor, count: int) -> Iterator[tuple[str, Any]]:
    for number in range(count):
        cursor.enter("metadata", f"number {number + 1}")
        key = cursor.text()
        cursor.enter("metadata", key)
        yield key, _value(cursor, cursor.number())
    cursor.enter("header")


def _value(cursor: _Cursor, kind: int) -> Any:
    if kind in _NUMBERS:
        return cursor.number(_NUMBERS[kind])
    if kind == _TEXT:
        return cursor.text()
    if kind != _LIST:
        raise cursor.damaged(f"{cursor.place} is of a kind {kind} that there is not")
    inner = cursor.number()
    if inner == _TEXT:
        length = cursor.count("texts", _U64.size, _MOST_TEXTS)
        cursor.skip_texts(length)
        return Array(length)
    if inner not in _NUMBERS:
        raise cursor.damaged(f"{cursor.place} is a list of a kind {inner} that there is not")
    form = _NUMBERS[inner]
    length = cursor.count("numbers", form.size)
    start = cursor.skip(length * form.size)
    if length > _KEPT_ITEMS:
        return Array(length)
    return Array(length, struct.unpack_from(f"<{cursor.keep(length)}{form.format[1:]}", cursor.data, start))


def _tensor(cursor: _Cursor) -> tuple[str, list[int], Type, int]:
    """Read a line of the table: a tensor's name, shape and type, and where it begins in the data."""
    name = cursor.text()
    cursor.enter("tensor", name)
    dimensions: int = cursor.number()
    if dimensions > _MOST_DIMENSIONS:
        raise cursor.damaged(f"{cursor.place} has {dimensions} dimensions")
    shape = [cursor.number(_U64) for _ in range(dimensions)]
    kind = TYPES.get(cursor.number(), _UNKNOWN)
    if shape and shape[0] % kind.block:
        raise cursor.damaged(f"{cursor.place} has rows of {shape[0]} numbers, no whole blocks of {kind.name}")
    return name, shape, kind, cursor.number(_U64)
