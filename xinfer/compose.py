"""What the user typed, composed by Hydra into one plain mapping; the only module that knows Hydra.

Raises ConfigError, one line, for whatever Hydra or OmegaConf refuse: a key, a group's option, a
value, or YAML that does not parse.
"""

from __future__ import annotations

import itertools
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import yaml
from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra._internal.core_plugins.file_config_source import FileConfigSource
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.errors import HydraException
from hydra.plugins.config_source import ConfigResult
from hydra.plugins.search_path_plugin import SearchPathPlugin
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from xinfer.errors import ConfigError, nearest

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from hydra.core.config_search_path import ConfigSearchPath

GROUPS = ("model", "hw", "engine", "workload", "rules", "experiment")
_VERBATIM = re.compile(
    r"^(\+{0,2}(?:model\.(?:size|quantization|format|revision|id|file)|engine\.version|catalog"
    r"|hw\.gpu\.compute_capability))=(?P<value>.*)$",
    re.DOTALL,
)
"""Keys whose value is text whatever it looks like: Hydra reads 1_5 as 15 and 3.10 as 3.1."""


def conf_dir() -> Path:
    """Return xinfer's own configuration: inside the package when installed, beside it in a checkout."""
    package = Path(__file__).resolve().parent
    inside = package / "conf"
    return inside if inside.is_dir() else package.parent / "conf"


class Composer:
    """Composes configurations from xinfer's own folder, the plugins' and the user's."""

    def __init__(self, directories: Sequence[Path] = ()) -> None:
        """Search ``directories`` (the user's first, then the plugins') before xinfer's own."""
        for directory in directories:
            if not directory.is_dir():
                message = f"configuration directory {str(directory)!r} does not exist"
                raise ConfigError(message)
        self.directories = (*directories, conf_dir())
        _register(self.directories)

    def options(self, group: str) -> tuple[str, ...]:
        """Return the names that a group offers, sorted."""
        found = {p.stem for d in self.directories for p in (d / group).glob("*.yaml")}
        return tuple(sorted(found, key=str.lower))

    def file(self, group: str, name: str) -> Path:
        """Return the YAML file of a group's option."""
        for directory in self.directories:
            path = directory / group / f"{name}.yaml"
            if path.is_file():
                return path
        known = self.options(group)
        message = f"there is no {group} {name!r}; see {group}= in --help{nearest(name, known)}"
        raise ConfigError(message)

    def compose(self, overrides: Sequence[str]) -> dict[str, Any]:
        """Return the configuration as a plain mapping with every interpolation resolved."""
        for override in overrides:
            self._check_option(override)
        quoted = [_quote(override) for override in overrides]
        try:
            with initialize_config_dir(str(conf_dir()), version_base="1.3", job_name="xinfer"):
                config = hydra_compose("config", overrides=quoted)
            plain: Any = _unpack(OmegaConf.to_container(config, resolve=True, throw_on_missing=True))
        except (HydraException, OmegaConfBaseException, yaml.YAMLError) as error:
            raise ConfigError(self._explain(error, overrides)) from error
        return dict(plain)

    def expand(self, overrides: Sequence[str]) -> list[list[str]]:
        """Return the override lists of a sweep's cells: every combination, the last one fastest."""
        quoted = [_quote(override) for override in overrides]
        try:
            with initialize_config_dir(str(conf_dir()), version_base="1.3", job_name="xinfer"):
                axes = [list(_values(override)) for override in quoted]
        except (HydraException, OmegaConfBaseException) as error:
            raise ConfigError(self._explain(error, overrides)) from error
        return [list(cell) for cell in itertools.product(*axes)]

    def _check_option(self, override: str) -> None:
        """Refuse a group option that does not exist before Hydra says so in ten lines."""
        key, separator, value = override.partition("=")
        group = key.lstrip("+")
        known = self.options(group) if group in GROUPS else ()
        if not separator or not known or value in (*known, "null", "''"):
            return
        if re.search(r"[,({\[]", value):
            message = f"{override!r} names several values; sweep over them with -m in front"
            raise ConfigError(message)
        listed = f"; there are {', '.join(known)}" if len(known) <= _LISTED else f" ({len(known)} are known)"
        message = f"there is no {group} {value!r}{nearest(value, known) or listed}"
        raise ConfigError(message)

    def _explain(self, error: Exception, overrides: Sequence[str]) -> str:
        """Say in one line what Hydra says in several, with the nearest key where one was misspelt."""
        text = str(error)
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        first = (lines[0] if lines else type(error).__name__).rstrip(".")
        unknown = _UNKNOWN_KEY.search(text)
        if unknown:
            key = next(group for group in unknown.groups() if group)
            return f"there is no key {key!r}{nearest(key, self._keys())}"
        if "Ambiguous value" in text:
            return f"{first}; sweep over several values with -m in front"
        if isinstance(error, yaml.YAMLError):
            return f"a configuration file is not valid YAML: {' '.join(lines)}"
        unreadable = next((o for o in overrides if not _parses(o)), None)
        return f"{unreadable!r} cannot be read as key=value: {first}" if unreadable else first

    def _keys(self) -> list[str]:
        plain = self.compose([])
        return list(_paths(plain)) + list(GROUPS)


_UNKNOWN_KEY = re.compile(
    r"Could not override '([^']+)'|Could not delete from config\. '([^']+)'|Key '([^']+)' is not in struct"
)


def _parses(override: str) -> bool:
    try:
        OverridesParser.create().parse_override(_quote(override))
    except HydraException:
        return False
    return True


def _paths(node: Any, prefix: str = "") -> Iterator[str]:
    for key, value in node.items():
        yield f"{prefix}{key}"
        if isinstance(value, dict):
            yield from _paths(value, f"{prefix}{key}.")


def _quote(override: str) -> str:
    """Quote values that must stay text, each item of a sweep on its own."""
    match = _VERBATIM.match(override)
    if match is None or match["value"] in ("", "null") or re.search(r"[\"'\[({]", match["value"]):
        return override
    items = ",".join(item if item == "null" else f"'{item}'" for item in match["value"].split(","))
    return f"{match[1]}={items}"


def _values(override: str) -> Iterator[str]:
    parsed = OverridesParser.create().parse_override(override)
    if not parsed.is_sweep_override():
        yield override
        return
    key = parsed.get_key_element()
    for value in parsed.sweep_string_iterator():
        yield f"{key}={value}"


_LISTED = 12


class _Loader(yaml.CSafeLoader if hasattr(yaml, "CSafeLoader") else yaml.SafeLoader):  # type: ignore[misc]
    """OmegaConf's YAML dialect on libyaml: it reads a catalogue file twenty times faster."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:  # noqa: FBT001, FBT002 -- yaml's
        """Refuse a key that is written twice, as OmegaConf does."""
        seen = set()
        for key, _ in node.value:
            if key.value in seen:
                problem = f"found duplicate key {key.value!r}"
                raise yaml.constructor.ConstructorError(None, None, problem, key.start_mark)
            seen.add(key.value)
        mapping: dict[Any, Any] = super().construct_mapping(node, deep=deep)
        return mapping


def read(path: Path) -> Any:
    """Load one YAML file with the loader that all configuration goes through."""
    with path.open("rb") as stream:
        return yaml.load(stream, _Loader)  # noqa: S506 -- _Loader is a SafeLoader


_PACKED = "packed-json:"
_LONG = 8


def _pack(node: Any) -> Any:
    """Turn long lists into one string each, on their way through Hydra.

    OmegaConf makes a node of every scalar and copies all of them at each merge; a family's published
    artefacts cost more than the rest of a plan. A list is only ever replaced as a whole, so nothing is lost.
    """
    if isinstance(node, dict):
        return {key: value if key == "defaults" else _pack(value) for key, value in node.items()}
    if isinstance(node, list) and (len(node) > _LONG or any(isinstance(item, dict) for item in node)):
        packed = msgspec.json.encode(node).decode()
        return node if "${" in packed else _PACKED + packed
    return node


def _unpack(node: Any) -> Any:
    if isinstance(node, dict):
        return {key: _unpack(value) for key, value in node.items()}
    if isinstance(node, str) and node.startswith(_PACKED):
        return msgspec.json.decode(node[len(_PACKED) :])
    return node


class _Source(FileConfigSource):
    """A configuration source that reads with libyaml."""

    @staticmethod
    def scheme() -> str:
        return "xinfer"

    def load_config(self, config_path: str) -> ConfigResult:
        path = Path(self.path) / self._normalize_file_name(config_path)
        with path.open(encoding="utf-8") as stream:
            header = self._get_header_dict(stream.read(512))
        return ConfigResult(
            config=OmegaConf.create(_pack(read(path) or {})), path=f"xinfer://{self.path}",
            provider=self.provider, header=header,
        )  # fmt: skip


def _register(directories: Sequence[Path]) -> None:
    """Put the directories in front of Hydra's search path."""

    class XinferSearchPath(SearchPathPlugin):
        def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
            for directory in reversed(directories):
                search_path.prepend(provider="xinfer", path=f"xinfer://{directory}", anchor="main")

    plugins = Plugins.instance()
    known = plugins.plugin_type_to_subclass_list[SearchPathPlugin]
    known[:] = [plugin for plugin in known if plugin.__name__ != XinferSearchPath.__name__]
    plugins.register(_Source)
    plugins.register(XinferSearchPath)
