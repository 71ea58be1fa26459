"""What the user typed, composed by Hydra into one plain mapping; the only module that knows Hydra.

Raises ConfigError, one line, for whatever Hydra or OmegaConf refuse: a key, a group's option, a
value, or YAML that does not parse.
"""

from __future__ import annotations

import itertools
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra._internal.core_plugins.file_config_source import FileConfigSource
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Glob
from hydra.core.override_parser.types import Override as HydraOverride
from hydra.core.plugins import Plugins
from hydra.errors import HydraException
from hydra.plugins.config_source import ConfigResult
from hydra.plugins.search_path_plugin import SearchPathPlugin
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from xinfer import apikey
from xinfer.config.document import pack, read, seal, unpack
from xinfer.config.overrides import LABELS, NAMES, Override, quote, several
from xinfer.config.overrides import read as read_override
from xinfer.config.parts import whole
from xinfer.errors import ConfigError, nearest

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from hydra.core.config_search_path import ConfigSearchPath

__all__ = ["Composer", "conf_dir", "read"]


def conf_dir() -> Path:
    """Return xinfer's own configuration: inside the package when installed, beside it in a checkout."""
    package = Path(__file__).resolve().parents[1]
    inside = package / "conf"
    return inside if inside.is_dir() else package.parent / "conf"


class Composer:
    """Composes configurations from xinfer's own folder, the plugins' and the user's."""

    def __init__(self, directories: Sequence[Path] = ()) -> None:
        """Search ``directories`` (the user's first, then the plugins') before xinfer's own."""
        for directory in directories:
            if not directory.is_dir():
                raise ConfigError(f"--config-dir: {str(directory)!r} is no directory")
        self.directories = (*directories, conf_dir())

    def options(self, group: str) -> tuple[str, ...]:
        """Return the names that a group offers, sorted; a leading underscore marks what others are made of."""
        found = {p.stem for d in self.directories for p in (d / group).glob("[!_]*.yaml")}
        return tuple(sorted(found, key=str.lower))

    def file(self, group: str, name: str) -> Path:
        """Return the YAML file of a group's option."""
        path = self._find(group, name)
        if path is None:
            raise ConfigError(f"there is no {LABELS[group]} {name!r}{nearest(name, self.options(group))}")
        return path

    def _find(self, group: str, name: str) -> Path | None:
        paths = (directory / group / f"{name}.yaml" for directory in self.directories)
        return None if name.startswith("_") else next((path for path in paths if path.is_file()), None)

    def rules(self, name: str) -> dict[str, Any]:
        """Return a rule pack as it is written, over its parts."""
        path = self.file("rules", name)
        return self.over_parts(read(path), path)

    def over_parts(self, body: dict[str, Any], path: Path, inside: tuple[Path, ...] = ()) -> dict[str, Any]:
        """Lay a rule pack over its parts; one that nobody has is an engine without rules, as its plugin is missing."""
        if path in inside:
            raise ConfigError(f"{path}: is a part of itself")

        def part(name: str) -> dict[str, Any]:
            found = self._find("rules", name)
            return self.over_parts(read(found), found, (*inside, path)) if found else {"engines": {name: {}}}

        return whole(body, str(path), part)

    def compose(self, overrides: Sequence[str]) -> dict[str, Any]:
        """Return the configuration as a plain mapping with every interpolation resolved."""
        typed = [read_override(text) for text in overrides]
        for override in typed:
            override.check(self.options)
            if override.is_forbidden_removal:
                raise ConfigError(self._no_removal(override, typed))
        is_sealed = not any("rules." in override.text or override.key == "experiment" for override in typed)
        _register(self, is_sealed=is_sealed)  # Hydra has one search path for a process
        try:
            with initialize_config_dir(str(conf_dir()), version_base="1.3", job_name="xinfer"):
                config = hydra_compose("config", overrides=[override.quoted() for override in typed])
            plain: Any = unpack(OmegaConf.to_container(config, resolve=True, throw_on_missing=True))
        except (HydraException, OmegaConfBaseException, ValueError) as error:
            raise ConfigError(self._explain(error, typed)) from error
        apikey.check(plain)
        return dict(plain)

    def expand(self, overrides: Sequence[str]) -> list[list[str]]:
        """Return the override lists of a sweep's cells: every combination, the last one fastest."""
        typed = [read_override(text) for text in overrides]
        axes = [list(self._values(override)) for override in typed]
        empty = next((override.text for override, axis in zip(typed, axes, strict=True) if not axis), None)
        if empty is not None:
            raise ConfigError(f"{empty!r} stands for no value at all")
        return [list(cell) for cell in itertools.product(*axes)]

    def _values(self, override: Override) -> Iterator[str]:
        """Yield an override for each value that a sweep gives it."""
        left = f"{override.sign}{override.key}="
        if override.is_text:
            yield from (f"{left}{item}" for item in (override.value or "").split(","))
            return
        parsed = _parse(override)
        if not parsed.is_sweep_override():
            yield override.text
        elif isinstance(parsed.value(), Glob):
            pattern: Any = parsed.value()
            yield from (f"{left}{name}" for name in pattern.filter(list(self.options(override.key))))
        elif parsed.is_discrete_sweep():
            yield from (f"{left}{value}" for value in parsed.sweep_string_iterator())
        else:
            raise ConfigError(f"{override.text!r} cannot be counted out; list its values, or use range()")

    def _explain(self, error: Exception, typed: Sequence[Override]) -> str:
        """Say in one line what Hydra says in several, with the nearest key where one was misspelt."""
        unknown = _UNKNOWN_KEY.search(str(error))
        if unknown:
            return self._no_key(next(key for key in unknown.groups() if key), typed)
        for override in typed:
            if _parse(override).is_sweep_override():
                return str(several(override.text))
        first = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
        said = re.sub(r"^\w+ raised while resolving interpolation: ", "", first).strip('".')
        return f"{key}: {said[0].lower()}{said[1:]}" if (key := getattr(error, "full_key", None)) else said

    def _no_removal(self, override: Override, typed: Sequence[Override]) -> str:
        if override.key in _paths(self._chosen(typed)):
            return f"{override.key} can be set, but not removed; ~ switches off rules, as in ~rules.engines.vllm.family"
        return self._no_key(override.key, typed)

    def _no_key(self, key: str, typed: Sequence[Override]) -> str:
        """Say that a key does not exist, and what does where it was looked for."""
        plain = self._chosen(typed)
        parent, _, leaf = key.rpartition(".")
        node = _node(plain, parent)
        if not node:
            paths = list(_paths(plain))
            inside = [path for path in paths if path.endswith(f".{key}")]
            return f"there is no key {key!r}" + (f"; did you mean {inside[0]!r}?" if inside else nearest(key, paths))
        others = {"engine": self.options("engine"), "model": _OPEN}.get(parent, ())
        owners = [name for name in others if leaf in read(self.file(parent, name))]
        if owners:
            chosen = f"{parent}={node.get('name', node.get('family'))}"
            return f"{chosen} has no key {leaf!r}; {parent}={'|'.join(owners)} has"
        listed = f"; it has {', '.join(map(str, node))}"
        return f"{parent} has no key {leaf!r}{nearest(leaf, node) or listed}"

    def _chosen(self, typed: Sequence[Override]) -> dict[str, Any]:
        """Compose with nothing but the chosen files: what there is to be overridden."""
        return self.compose([override.text for override in typed if override.key in LABELS and override.sign != "~"])


_OPEN = ("hf", "local")
"""The files of models that no catalogue lists, which have keys that no family has."""
_UNKNOWN_KEY = re.compile(
    r"Could not override '([^']+)'|Could not delete from config\. '([^']+)'|Key '([^']+)' is not in struct"
)


def _parse(override: Override) -> HydraOverride:
    try:
        return OverridesParser.create().parse_override(override.quoted())
    except (HydraException, ValueError) as error:
        if not re.fullmatch(r"[\w.@/-]+", override.key, re.ASCII):
            raise ConfigError(f"there is no key {override.key!r}") from error
        quoted = f"{override.key}={quote(override.value or '')}"
        message = f'{override.text!r} cannot be read as key=value; quote its value, as in "{quoted}"'
        raise ConfigError(message) from error


def _node(plain: Any, path: str) -> dict[str, Any]:
    """Return the mapping at a path; nothing where there is none, and at the top."""
    node = plain if path else None
    for part in path.split("."):
        node = node.get(part) if isinstance(node, dict) else None
    return node if isinstance(node, dict) else {}


def _paths(node: Any, prefix: str = "") -> Iterator[str]:
    for key, value in node.items():
        yield f"{prefix}{key}"
        if isinstance(value, dict):
            yield from _paths(value, f"{prefix}{key}.")


class _Source(FileConfigSource):
    """A configuration source that reads with libyaml."""

    composer: ClassVar[Composer]
    is_sealed: ClassVar[bool]
    """Whether nothing overrides what stands in a rule pack."""

    @staticmethod
    def scheme() -> str:
        return "xinfer"

    def is_config(self, config_path: str) -> bool:
        """Find files of groups anywhere, but the primary one only where it is ours."""
        is_ours = "/" in config_path or Path(self.path) == conf_dir()
        return is_ours and bool(super().is_config(config_path))

    def load_config(self, config_path: str) -> ConfigResult:
        path = Path(self.path) / self._normalize_file_name(config_path)
        body = named(path, config_path)
        if config_path.startswith("rules/"):
            body = self.composer.over_parts(body, path)
            if "defaults" in body:  # what it names is read next, and lies under it
                _Source.is_sealed = False
            body = seal(body) if self.is_sealed else pack(body)
        else:
            body = pack(body)
        with path.open(encoding="utf-8") as stream:
            header = self._get_header_dict(stream.read(512))
        try:
            config = OmegaConf.create(body)
        except OmegaConfBaseException as error:
            raise ConfigError(f"{path}: {error.full_key}: {str(error).splitlines()[0]}") from error
        return ConfigResult(config=config, path=f"xinfer://{self.path}", provider=self.provider, header=header)


def named(path: Path, config_path: str) -> dict[str, Any]:
    """Read a file that is one of several to choose from; it bears its own name, whether it says so or not."""
    body = read(path)
    group, _, name = config_path.removesuffix(".yaml").partition("/")
    key = next((key for key, owner in NAMES.items() if owner == group), "").partition(".")[2]
    if not key:
        return body
    if body.get(key, name) != name:
        raise ConfigError(f"{path}: {key} must be the file's name, {name!r}, not {body[key]!r}")
    return {key: name, **body}


def _register(composer: Composer, *, is_sealed: bool) -> None:
    """Put the directories in front of Hydra's search path."""
    _Source.composer, _Source.is_sealed = composer, is_sealed

    class XinferSearchPath(SearchPathPlugin):
        def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
            for directory in composer.directories:  # each is put right in front of "main"
                search_path.prepend(provider="xinfer", path=f"xinfer://{directory}", anchor="main")

    plugins = Plugins.instance()
    known = plugins.plugin_type_to_subclass_list[SearchPathPlugin]
    known[:] = [plugin for plugin in known if plugin.__name__ != XinferSearchPath.__name__]
    plugins.register(_Source)
    plugins.register(XinferSearchPath)
