"""The header of a safetensors file: the names, types and shapes of its tensors, never their numbers.

Eight bytes say how long the JSON is that follows them, and the tensors follow it without a gap. The file
may be anything: of none more than its first 25 MB are read, the bound of Hugging Face's own reader, and
none that holds more values than the headers of the largest models.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated

import msgspec

from xinfer.errors import ConfigError
from xinfer.sources import limits

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

MOST_BYTES = 25_000_000
_MOST_VALUES = 2**20
"""Of a tensor there are eight: enough for 131,072 tensors in one file."""
_FIRST_BYTES = 2**16
_LENGTH_BYTES = 8
_SHOWN = 80
_POINTER = b"version "
"""What Git LFS's stand-in for a file begins with."""
_BITS = {
    "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6, "BOOL": 8, "U8": 8, "I8": 8, "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8,
    "U16": 16, "I16": 16, "F16": 16, "BF16": 16, "U32": 32, "I32": 32, "F32": 32, "U64": 64, "I64": 64, "F64": 64,
    "C64": 64,
}  # fmt: skip
"""Of one number of each type; the size of others is not checked."""

_Count = Annotated[int, msgspec.Meta(ge=0, le=2**62)]


class Tensor(msgspec.Struct, frozen=True):
    """One line of the header."""

    dtype: str
    shape: Annotated[tuple[_Count, ...], msgspec.Meta(max_length=16)]
    data_offsets: tuple[_Count, _Count]

    @property
    def elements(self) -> int:
        """How many numbers it has; of a packed one, how many it is stored as."""
        return math.prod(self.shape)

    @property
    def is_whole(self) -> bool:
        """Tell whether it has the bytes that its numbers take; of a type that came later, a bit at least for each."""
        begin, end = self.data_offsets
        has, bits = 8 * (end - begin), _BITS.get(self.dtype)
        return has >= self.elements if bits is None else has == self.elements * bits


class Header(msgspec.Struct, frozen=True, kw_only=True):
    """What a file says of itself."""

    tensors: dict[str, Tensor]
    framework: str | None
    """Whose layout it is, as the file says: pt, mlx…"""


def read(fetch: Callable[[int, int], bytes], size: int, where: str) -> Header:
    """Read a header; ``fetch(start, length)`` returns bytes of the file, ``size`` is the whole file's.

    Raises ConfigError for what is no safetensors, damaged, or not exactly as long as the header says, as a
    download that was broken off is.
    """
    first = fetch(0, min(size, _FIRST_BYTES))
    if first.startswith(_POINTER):
        raise ConfigError(f"{where}: is Git LFS's pointer to the file, not the file; fetch it with git lfs pull")
    length = int.from_bytes(first[:_LENGTH_BYTES], "little")
    begins = _LENGTH_BYTES + length
    if len(first) < _LENGTH_BYTES or begins > size:
        raise _damaged(where, f"{size} bytes are fewer than its header takes")
    if begins > MOST_BYTES:
        raise _damaged(where, "no model's header is longer than 25 MB")
    text = (first + fetch(len(first), begins - len(first)) if begins > len(first) else first)[_LENGTH_BYTES:begins]
    header = _decoded(text, where)
    ends = begins + max((tensor.data_offsets[1] for tensor in header.tensors.values()), default=0)
    if ends != size:
        raise _damaged(where, f"it has {size} bytes, and its header says {ends}")
    return header


def _decoded(text: bytes, where: str) -> Header:
    if (count := limits.values(text)) > _MOST_VALUES:
        raise _damaged(where, f"its header has {count} values, and no model's has more than {_MOST_VALUES}")
    name, tensors = "", dict[str, Tensor]()
    try:
        lines = msgspec.json.decode(text, type=dict[str, msgspec.Raw])
        metadata = msgspec.json.decode(lines.pop("__metadata__", b"{}"), type=dict[str, str])
        for name, line in lines.items():
            tensors[name] = msgspec.json.decode(line, type=Tensor)
    except (ValueError, RecursionError) as error:
        at = f" at {name[:_SHOWN]!r}" if name else ""
        raise _damaged(where, f"its header is not the JSON that it should be{at}: {error}") from error
    _check(tensors, where)
    return Header(tensors=tensors, framework=metadata.get("format"))


def _check(tensors: Mapping[str, Tensor], where: str) -> None:
    """Refuse tensors that do not have the bytes that they take, overlap, or leave a gap."""
    at = 0
    for name, tensor in sorted(tensors.items(), key=lambda item: item[1].data_offsets):
        begin, end = tensor.data_offsets
        if not tensor.is_whole:
            said = f"{end - begin} for {tensor.dtype[:_SHOWN]} {list(tensor.shape)}"
            raise _damaged(where, f"its tensor {name[:_SHOWN]!r} does not have the bytes that its shape takes: {said}")
        if begin != at:
            raise _damaged(where, f"its tensor {name[:_SHOWN]!r} begins at {begin}, not at {at} behind the one before")
        at = end


def _damaged(where: str, why: str) -> ConfigError:
    return ConfigError(f"{where}: is damaged or not whole: {why}; download it again")
