"""The files that a model consists of, wherever they are: what an inspection needs to know of them, and no more."""

from __future__ import annotations

import hashlib
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from xinfer.errors import ConfigError
from xinfer.sources import gguf, limits

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

MOST_JSON_BYTES = 8 * 2**20
"""Four times the largest configuration seen, of a tokenizer with many added tokens."""
MOST_INDEX_BYTES = 48 * 2**20
"""Five times the largest index seen."""
_MOST_VALUES = 2**19
"""Twice as many as the indices of the largest mixtures of experts have; they take 150 MB at most."""
_MOST_FILES = 100_000
_SAMPLES, _SAMPLE_BYTES = 8, 4096
_NAMED = 3


class Weights(NamedTuple):
    """What is known of a GGUF file; null where only its beginning was read."""

    metadata: dict[str, Any]
    parameters: int | None
    quantization: str | None


class Files(Protocol):
    """A folder, or a repository on a hub."""

    place: str
    """Where they are, as messages say it."""
    hub: str
    revision: str | None
    sizes: Mapping[str, int]
    """By name, relative to the folder; with forward slashes."""
    parameters: int | None
    """How many elements all safetensors have, where somebody has counted them already."""
    is_near: bool
    """Whether reading costs next to nothing."""

    def read(self, name: str, start: int, length: int) -> bytes:
        """Return exactly these bytes of a file."""
        ...

    def gguf(self, name: str) -> Weights:
        """Return what a GGUF file says of itself; ConfigError for one that cannot be loaded."""
        ...

    def address(self, name: str | None) -> tuple[str, str | None]:
        """Return the id and the file by which engines find a GGUF file, or the whole folder."""
        ...


class Folder:
    """Files on this machine."""

    parameters: int | None = None
    is_near = True

    def __init__(
        self, path: Path, sizes: Mapping[str, int], *, hub: str = "local", name: str = "", revision: str | None = None
    ) -> None:
        """Take a folder with files that are known; ``name`` is that of the repository that it is a copy of."""
        self.path = path
        self.sizes: Mapping[str, int] = sizes
        self.place = f"{name} in {path}" if name else str(path)
        self.hub, self.revision, self._name = hub, revision, name

    def read(self, name: str, start: int, length: int) -> bytes:
        """Return exactly these bytes of a file; ConfigError where that cannot be."""
        path = self.path / name
        try:
            with path.open("rb") as stream:
                stream.seek(start)
                found = stream.read(length)
        except OSError as error:
            raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
        if len(found) != length:
            raise ConfigError(f"{path}: changed while it was read; wait until it is whole")
        return found

    def gguf(self, name: str) -> Weights:
        """Read a GGUF file's header, and whether all that it describes is there."""
        header = gguf.read(lambda length: self.read(name, 0, length), self.sizes[name], str(self.path / name))
        return Weights(header.metadata, header.parameters, header.quantization)

    def address(self, name: str | None) -> tuple[str, str | None]:
        """Return an absolute path, or what the folder is a copy of."""
        if self.hub != "local":
            return self._name, name
        return str(self.path / name if name else self.path), None


def fingerprint(files: Files, names: Iterable[str]) -> str | None:
    """Hash the sizes of some files here, and blocks from the beginning to the end of each; null where a revision is.

    A time of change would call a copy another model, and a hash of the headers would call all fine-tunings
    of one network the same; a hash of everything would take minutes.
    """
    if files.hub != "local":
        return None
    digest = hashlib.sha256()
    for name in names:
        size = files.sizes[name]
        digest.update(b"%d\n" % size)
        length = min(size, _SAMPLE_BYTES)
        for sample in range(_SAMPLES):
            digest.update(files.read(name, (size - length) * sample // (_SAMPLES - 1), length))
    return f"sampled-sha256:{digest.hexdigest()}"


def folder(path: Path, **origin: Any) -> Folder:
    """List a folder's own files, or all below it for the copy of a repository; ConfigError if it cannot be listed."""
    sizes: dict[str, int] = {}
    try:
        for entry in path.rglob("*") if origin else path.iterdir():
            if (size := _size(entry)) is not None:
                sizes[entry.relative_to(path).as_posix()] = size
            if len(sizes) > _MOST_FILES:
                raise ConfigError(f"{path}: has more than {_MOST_FILES} files; that is no model's folder")
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    return Folder(path, sizes, **origin)


def named(path: Path, names: Sequence[str]) -> Folder:
    """Take some files of a folder, which itself need not be readable; ConfigError names those that are missing."""
    sizes = {name: size for name in names if (size := _size(path / name)) is not None}
    require(names, sizes, str(path))
    return Folder(path, sizes)


def require(wanted: Sequence[str], there: Collection[str], place: str) -> None:
    """Raise ConfigError that names the files that are wanted and not there."""
    missing = [name for name in wanted if name not in there]
    if missing:
        more = f" and {len(missing) - _NAMED} more" if len(missing) > _NAMED else ""
        which = f"{', '.join(missing[:_NAMED])}{more}"
        raise ConfigError(f"{place}: is not whole: there is no {which}; download the missing files")


def mapping(files: Files, name: str, *, most_bytes: int = MOST_JSON_BYTES) -> dict[str, Any]:
    """Read a JSON file that holds a mapping, or nothing where there is no such file; ConfigError for any other."""
    size = files.sizes.get(name)
    if size is None:
        return {}
    if size > most_bytes:
        said = f"has {size} bytes and is longer than {most_bytes // 2**20} MiB; that is no such file"
        raise ConfigError(f"{files.place}: {name} {said}")
    return limits.mapping(files.read(name, 0, size), most=_MOST_VALUES, where=f"{files.place}: {name}")


def _size(path: Path) -> int | None:
    """Return a file's size; null for what is no file, or is a link to nothing."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return status.st_size if stat.S_ISREG(status.st_mode) else None
