"""Models that no catalogue lists: on this machine by their path, on the Hugging Face hub by their id."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from xinfer import catalog
from xinfer.catalog import CHOICES, Spec
from xinfer.config import spelling
from xinfer.engines import typed
from xinfer.errors import ConfigError, nearest
from xinfer.sources import contents, files, naming
from xinfer.sources.contents import Allowed

if TYPE_CHECKING:
    from collections.abc import Mapping

    from xinfer.sources.hub import Access


class _Source(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What every ``model`` node of this kind has."""

    family: str
    size: str | float | None = None
    format: str | None = None
    quantization: str | None = None
    hub: str | None = None
    allow_remote_code: bool = False
    allow_pickle: bool = False

    @property
    def allowed(self) -> Allowed:
        """What an engine may execute."""
        return Allowed(self.allow_remote_code, self.allow_pickle)


class Local(_Source, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``model=local``: a GGUF file, or a folder."""

    source: Literal["local"]
    path: str | None = None


class Hub(_Source, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``model=hf``: a repository on the hub or in its cache."""

    source: Literal["huggingface"]
    id: str | None = None
    revision: str | None = None
    file: str | None = None


_KINDS: dict[str, type[Local | Hub]] = {"local": Local, "huggingface": Hub}
_UNNAMED = {"local": "local", "huggingface": "hf"}
"""What xinfer's own files are called; one of the user's names its model."""


def specs(node: Mapping[str, Any]) -> tuple[Spec, ...]:
    """Return the artefacts that a ``model`` node means, as their own files describe them.

    Raises ConfigError for what is not there, is damaged, is not what was chosen or needs an allowance, and
    ProvisionError where the hub does not answer and its cache has nothing.
    """
    kind = _KINDS.get(str(node["source"]))
    if kind is None:
        raise ConfigError(f"model.source={node['source']} is not one of {', '.join(_KINDS)}")
    asked = typed(dict(node), kind, "model")
    name = None if asked.family == _UNNAMED[asked.source] else asked.family
    found = _local(asked, name) if isinstance(asked, Local) else _on_hub(asked, name)
    chosen = _chosen(found, asked)
    _check_distinct(chosen, "path" if isinstance(asked, Local) else "file")
    return chosen


def _local(asked: Local, name: str | None) -> tuple[Spec, ...]:
    if not asked.path:
        raise ConfigError(f"model={asked.family} needs a path, as in model.path=/models/model.gguf")
    path = _path(asked.path)
    if path.is_dir():
        return contents.artefacts(files.folder(path), name or _copied(path), asked.allowed)
    if not path.is_file():
        raise ConfigError(f"{path}: is neither a file nor a folder")
    if path.suffix == ".safetensors":
        raise ConfigError(f"{path}: is a part of a model; name its folder, model.path={path.parent}")
    piece = naming.part(path.name)
    group = piece.siblings if piece else (path.name,)
    found = tuple(contents.gguf(files.named(path.parent, group), group, name))
    if not found:
        raise ConfigError(f"{path}: is no model, but an adapter or a part of one; name the model itself")
    return found


def _path(text: str) -> Path:
    """Return an absolute path to something; ConfigError says why there is nothing."""
    try:
        path = Path(text).expanduser().absolute()
        if ".." in path.parts:  # the same model has one name, wherever it is asked for; a link keeps its own
            path = path.resolve() if path.name == ".." else path.parent.resolve() / path.name
        path.stat()
    except FileNotFoundError as error:
        raise ConfigError(f"model.path: there is no file or folder {text!r}") from error
    except OSError as error:
        raise ConfigError(f"model.path cannot be read: {error.strerror}: {text!r}") from error
    except ValueError as error:
        raise ConfigError(f"model.path is no path: {text!r}") from error
    except RuntimeError as error:
        raise ConfigError(f"model.path: there is no such home directory: {text!r}") from error
    return path


def _copied(path: Path) -> str | None:
    """Return the name of the repository that a folder in the hub's cache is a copy of; its own is a commit's."""
    repository = path.parent.parent.name
    is_copy = path.parent.name == "snapshots" and repository.startswith("models--")
    return naming.family(repository.rpartition("--")[2]) if is_copy else None


def _on_hub(asked: Hub, name: str | None) -> tuple[Spec, ...]:
    from xinfer.sources import hub  # noqa: PLC0415 -- only this needs HTTP

    if not asked.id:
        raise ConfigError(f"model={asked.family} needs an id, as in model.id=Qwen/Qwen2-0.5B-Instruct")
    by = hub.access(os.environ)
    found = _asked(asked.id, asked.revision, name or naming.family(asked.id.rpartition("/")[2]), asked.allowed, by)
    if asked.file is None:
        return found
    same = tuple(spec for spec in found if spec.file == asked.file)
    if not same:
        there = [spec.file for spec in found if spec.file]
        hint = nearest(asked.file, there) or f"; it has {', '.join(there[:12]) or 'none'}"
        raise ConfigError(f"{asked.id} has no GGUF file {asked.file!r}{hint}")
    return same


@cache
def _asked(identity: str, revision: str | None, name: str, allowed: Allowed, by: Access) -> tuple[Spec, ...]:
    """Ask once in a process: all cells of a sweep are about the same commit."""
    from xinfer.sources import hub  # noqa: PLC0415 -- see above

    return contents.artefacts(hub.repository(identity, revision, by), name, allowed)


def _chosen(found: tuple[Spec, ...], asked: _Source) -> tuple[Spec, ...]:
    """Return the artefacts that the user chose; ConfigError for a value that none of them has."""
    said: list[str] = []
    for field in CHOICES:
        value = getattr(asked, field)
        if value is None:
            continue
        narrowed = catalog.matching(found, field, str(value))
        if not narrowed:
            there = list(dict.fromkeys(str(known) for spec in found if (known := getattr(spec, field)) is not None))
            listed = f"it has {', '.join(there)}" if there else "its own files do not say which it has"
            hint = spelling.suggestion(field, str(value), there)
            subject = " ".join([found[0].family, *said])
            raise ConfigError(f"{subject} has no {field} {str(value)!r}; {listed}{hint}")
        found = narrowed
        said.append(str(getattr(found[0], field)))
    return found


def _check_distinct(found: tuple[Spec, ...], key: str) -> None:
    """Refuse to guess among GGUF files that are of several models, or that no choice tells from each other."""
    ggufs = [spec for spec in found if spec.format == "ggufv2"]
    names = list(dict.fromkeys(spec.family for spec in ggufs))
    if len(names) > 1:
        raise ConfigError(f"there are GGUF files of several models, {', '.join(names[:5])}; name one with model.{key}=")
    seen: dict[tuple[str | None, str | None], Spec] = {}
    for spec in ggufs:
        other = seen.setdefault((spec.size, spec.quantization), spec)
        if other is not spec:
            both = f"{other.file or other.id} and {spec.file or spec.id}"
            raise ConfigError(
                f"{both} are both {spec.quantization or 'of no known quantization'}; name one with model.{key}="
            )
