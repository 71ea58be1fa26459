"""Composes the cells of a sweep from parts that its other cells have too, and exactly as Hydra composes each alone.

A file that names no other and no package adds to its own group's node and to nothing else, and an override changes
nothing but the node that it begins with, as long as no value refers to another. So a node is composed once for each
choice and each set of overrides of its own; whatever else a file or an override does is left to Hydra.
"""

from __future__ import annotations

import re
from functools import cache, cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from xinfer import apikey
from xinfer.config.compose import Composer, named
from xinfer.config.document import pack, unpack
from xinfer.config.overrides import LABELS, Override
from xinfer.config.overrides import read as read_override
from xinfer.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from hydra.core.override_parser.types import Override as HydraOverride

_REFERRING = (b"${", b"???")
"""What makes a file's values depend on something that stands elsewhere."""
_PACKAGE = b"@package"
"""What puts a file's values elsewhere."""
_KEY = re.compile(r"[\w-]+(?:\.[\w-]+)*", re.ASCII)
_FAILED = object()


class _Typed(NamedTuple):
    """An override as it was typed, and as Hydra reads it."""

    own: Override
    parsed: HydraOverride


class Pieces(Composer):
    """Composes like any :class:`Composer` and remembers the parts, which are shared and so not to be changed."""

    def __init__(self, directories: Sequence[Path] = ()) -> None:
        """Search ``directories`` as a composer does; what they hold is read once."""
        super().__init__(directories)
        self._names = cache(super().options)
        self._option = cache(self._read_option)
        self._typed: dict[str, _Typed | None] = {}
        self._nodes: dict[tuple[str, ...], Any] = {}
        self._errors: dict[tuple[str, ...], str] = {}

    @classmethod
    def over(cls, composer: Composer) -> Pieces:
        """Return what composes as another composer does; itself if that remembers already."""
        return composer if isinstance(composer, cls) else cls(composer.directories[:-1])  # its own come last again

    def options(self, group: str) -> tuple[str, ...]:
        """Return the names that a group offers, as they were the first time."""
        return self._names(group)

    def compose(self, overrides: Sequence[str]) -> dict[str, Any]:
        """Return what a composer returns, or raise what it raises."""
        typed = [each for text in overrides if (each := self._read(text))]
        chosen = {each.own.key: each.own.value or "" for each in typed if each.own.key in LABELS}
        nodes = {group: self._option(group, name) for group, name in chosen.items()}
        others = [each for each in typed if each.own.key not in LABELS]
        if len(nodes) + len(others) < len(overrides) or None in nodes.values():
            return super().compose(overrides)
        plain = {**self._defaults, **nodes}
        failing = []
        for top in dict.fromkeys(each.own.top for each in others):
            mine = [each for each in others if each.own.top == top]
            node = self._node(top, plain, chosen.get(top, ""), mine)
            if node is _FAILED:
                failing += [top]
            plain[top] = node
        if failing:
            guilty = [each.own.text for each in others if each.own.top in failing]
            return self._refused((*(f"{key}={name}" for key, name in chosen.items()), *guilty), overrides)
        apikey.check(plain)
        return plain

    @cached_property
    def _defaults(self) -> dict[str, Any]:
        return super().compose([])

    def _read(self, text: str) -> _Typed | None:
        """Read an override; null for one that only a whole configuration gives a meaning."""
        if text not in self._typed:
            own = read_override(text)
            if (text,) in self._errors:
                raise ConfigError(self._errors[text,])
            try:
                own.check(self.options)
            except ConfigError as error:
                self._errors[text,] = str(error)
                raise
            self._typed[text] = _parsed(own)
        return self._typed[text]

    def _node(self, top: str, plain: Mapping[str, Any], chosen: str, typed: Sequence[_Typed]) -> Any:
        """Return a node with its overrides."""
        key = (top, chosen, *(each.own.text for each in typed))
        if key not in self._nodes:
            try:
                self._nodes[key] = _applied(top, plain, typed)
            except (HydraException, OmegaConfBaseException, ValueError):
                self._nodes[key] = _FAILED
        return self._nodes[key]

    def _refused(self, key: tuple[str, ...], overrides: Sequence[str]) -> dict[str, Any]:
        """Raise what Hydra has against some overrides; it is the same whatever other nodes are like."""
        if key not in self._errors:
            try:
                return super().compose(overrides)
            except ConfigError as error:
                self._errors[key] = str(error)
        raise ConfigError(self._errors[key])

    def _read_option(self, group: str, name: str) -> dict[str, Any] | None:
        """Return the node that a file makes; null where more than the file itself decides on it."""
        if group == "experiment":
            return None
        path = self.file(group, name)
        body = named(path, f"{group}/{path.name}")
        body = self.over_parts(body, path) if group == "rules" else body
        written = msgspec.msgpack.encode(body)
        if any(mark in written for mark in _REFERRING) or _PACKAGE in path.read_bytes():
            return None
        if "defaults" not in body and "parts" not in body:
            return _plain(OmegaConf.create(pack(body)))
        if all(isinstance(each, str) and each.isidentifier() for each in body.get("defaults", ())):
            found: dict[str, Any] = super().compose([f"{group}={name}"])[group]
            return found
        return None


def _parsed(own: Override) -> _Typed | None:
    if own.is_forbidden_removal or "${" in own.text or not _KEY.fullmatch(own.key):
        return None
    try:
        parsed = OverridesParser.create().parse_override(own.quoted())
    except (HydraException, ValueError):
        return None
    return None if parsed.is_sweep_override() else _Typed(own, parsed)


def _applied(top: str, plain: Mapping[str, Any], typed: Sequence[_Typed]) -> Any:
    """Let Hydra apply overrides of one node to that node."""
    config = OmegaConf.create({top: pack(plain[top])} if top in plain else {})
    OmegaConf.set_struct(config, value=True)
    ConfigLoaderImpl._apply_overrides_to_config([each.parsed for each in typed], config)  # noqa: SLF001 -- it is how
    return _plain(config)[top]


def _plain(config: Any) -> dict[str, Any]:
    plain: dict[str, Any] = unpack(OmegaConf.to_container(config, resolve=True, throw_on_missing=True))
    return plain
