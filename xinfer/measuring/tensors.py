"""The tensors of a model that lies on this machine: their names and sizes, from the headers of its files."""

from __future__ import annotations

from typing import TYPE_CHECKING

from xinfer.errors import ConfigError
from xinfer.measuring.work import Tensor
from xinfer.sources import gguf, safetensors

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

_FLOATS = {"F64", "F32", "F16", "BF16"}


def read(paths: Iterable[Path]) -> tuple[Tensor, ...] | None:
    """Return the tensors of all files together; null where one has no header that is read here, or none are given."""
    found: list[Tensor] = []
    paths = tuple(paths)
    for path in paths:
        try:
            found += _of_gguf(path) if path.suffix == ".gguf" else _of_safetensors(path)
        except (OSError, ConfigError):
            return None
    return tuple(found) or None


def _of_gguf(path: Path) -> list[Tensor]:
    with path.open("rb") as file:

        def fetch(length: int) -> bytes:
            file.seek(0)
            return file.read(length)

        header = gguf.read(fetch, path.stat().st_size, str(path))
    return [Tensor(name, size.elements, size.bytes, is_packed=False) for name, size in header.sizes.items()]


def _of_safetensors(path: Path) -> list[Tensor]:
    if path.suffix != ".safetensors":
        raise ConfigError(f"{path}: has no header that tells its tensors")
    with path.open("rb") as file:

        def fetch(start: int, length: int) -> bytes:
            file.seek(start)
            return file.read(length)

        header = safetensors.read(fetch, path.stat().st_size, str(path))
    return [
        Tensor(name, one.elements, one.data_offsets[1] - one.data_offsets[0], is_packed=one.dtype not in _FLOATS)
        for name, one in header.tensors.items()
    ]
