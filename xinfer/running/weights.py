"""The files that hold a model's weights, found from the command line that loads them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from xinfer.sources import naming

if TYPE_CHECKING:
    from collections.abc import Iterator

    from xinfer.plan import LaunchPlan

SUFFIXES = {".gguf", ".safetensors", ".bin", ".pt", ".pth", ".npz"}


def files(plan: LaunchPlan) -> tuple[Path, ...]:
    """Return the weights' files that lie on this machine; none where the engine fetches a model by its id."""
    found: dict[Path, None] = {}
    for word in plan.argv:
        path = Path(word)
        if path.is_absolute():
            found |= dict.fromkeys(_files(path))
    return tuple(found)


def _files(path: Path) -> Iterator[Path]:
    if path.is_dir():
        yield from sorted(p for p in path.iterdir() if p.suffix in SUFFIXES and p.is_file() and _is_folder(path))
    elif path.suffix in SUFFIXES and path.is_file():
        piece = naming.part(path.name)
        yield from (path.with_name(name) for name in (piece.siblings if piece else (path.name,)))


def _is_folder(path: Path) -> bool:
    """Say whether a folder is a model's: an engine's cache may hold files of the same kind."""
    return (path / "config.json").is_file()
