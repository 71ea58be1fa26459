"""Configuration files: YAML in OmegaConf's dialect, read with libyaml, and errors that name file and line."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, ClassVar

import msgspec
import yaml

from xinfer.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

_FLOAT = re.compile(r"^(?:[-+]?(?:(?:\d+\.\d*|\.\d+)(?:e[-+]?\d+)?|\d+e[-+]?\d+|\.inf)|\.nan)$", re.IGNORECASE)
_MOST_BYTES, _MOST_VALUES, _DEEPEST = 8 * 2**20, 2**19, 60
"""Of a file that a person writes; aliases are counted as what they stand for."""
_PACKED = "packed-json:"
_LONG = 8


class Loader(yaml.CSafeLoader if hasattr(yaml, "CSafeLoader") else yaml.SafeLoader):  # type: ignore[misc]
    """Reads YAML that may be nested only so deep: without a limit libyaml's reader ends the whole process."""

    depth = 0

    def descend_resolver(self, current_node: Any, current_index: Any) -> None:  # noqa: ARG002 -- yaml's
        """Count what is begun; the method's own work is for loaders that resolve by paths."""
        self.depth += 1
        if self.depth > _DEEPEST + 1:
            raise RecursionError

    def ascend_resolver(self) -> None:
        """Count what is ended."""
        self.depth -= 1


class _Loader(Loader):
    """Reads a catalogue file twenty times faster than OmegaConf's own loader."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:  # noqa: FBT001, FBT002 -- yaml's
        """Refuse a key that is written twice, as OmegaConf does."""
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value in seen:
                problem = f"found duplicate key {key.value!r}"
                raise yaml.constructor.ConstructorError(None, None, problem, key.start_mark)
            seen.add(key.value if isinstance(key, yaml.ScalarNode) else None)
        mapping: dict[Any, Any] = super().construct_mapping(node, deep=deep)
        return mapping


# 1e3 is a number and 2024-08-14 a text, unlike in YAML 1.1.
_Loader.yaml_implicit_resolvers = {
    first: [(tag, form) for tag, form in forms if not tag.endswith((":timestamp", ":float"))]
    for first, forms in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver("tag:yaml.org,2002:float", _FLOAT, list("-+0123456789."))


class _Texts(_Loader):
    """Reads every value as the text that stands there, as the command line has it."""

    yaml_implicit_resolvers: ClassVar[dict[Any, Any]] = {}


def read(path: Path, *, as_text: bool = False) -> dict[str, Any]:
    """Load a file that holds a mapping, or nothing; ConfigError names the file and what is wrong where."""
    try:
        body = yaml.load(_text(path), _Texts if as_text else _Loader)  # noqa: S506 -- both are SafeLoaders
        _check(body, path)
    except yaml.MarkedYAMLError as error:
        line = f":{error.problem_mark.line + 1}" if error.problem_mark else ""
        raise ConfigError(f"{path}{line}: not valid YAML: {error.problem}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from error
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    except RecursionError as error:
        raise ConfigError(f"{path}: is nested more than {_DEEPEST} deep") from error
    if body is not None and not isinstance(body, dict):
        raise ConfigError(f"{path}: must be a mapping of keys to values, not {body!r}")
    return body or {}


def _text(path: Path) -> str:
    with path.open("rb") as stream:
        data = stream.read(_MOST_BYTES + 1)
    if len(data) > _MOST_BYTES:
        raise ConfigError(f"{path}: is longer than {_MOST_BYTES // 2**20} MiB; that is no configuration")
    return data.decode()


def _check(body: Any, path: Path) -> None:
    """Refuse what a few lines of aliases make endless, and nesting that nobody could follow."""
    count, waiting = 0, [(body, 0)]
    while waiting:
        node, depth = waiting.pop()
        if not isinstance(node, (dict, list)):
            continue
        count += len(node)
        if depth > _DEEPEST:
            raise ConfigError(f"{path}: is nested more than {_DEEPEST} deep")
        if count > _MOST_VALUES:
            raise ConfigError(f"{path}: holds more than {_MOST_VALUES} values, aliases written out")
        waiting += [(part, depth + 1) for part in (node.values() if isinstance(node, dict) else node)]


def pack(node: Any) -> Any:
    """Turn long lists into one string each, on their way through Hydra.

    OmegaConf makes a node of every scalar and copies all of them at each merge; a family's published
    artefacts cost more than the rest of a plan. A list is only ever replaced as a whole, so nothing is lost.
    """
    if isinstance(node, dict):
        return {key: value if key == "defaults" else pack(value) for key, value in node.items()}
    if isinstance(node, list) and (len(node) > _LONG or any(isinstance(item, dict) for item in node)):
        return _packed(node)
    return node


def seal(body: dict[str, Any]) -> dict[str, Any]:
    """Pack the mappings of a file as well, of which nothing is overridden: a rule pack has a thousand values."""
    return {key: _packed(value) if isinstance(value, dict) else pack({key: value})[key] for key, value in body.items()}


def _packed(node: Any) -> Any:
    text = msgspec.json.encode(node).decode()
    return node if "${" in text else _PACKED + text


def unpack(node: Any) -> Any:
    """Undo :func:`pack`."""
    if isinstance(node, dict):
        return {key: unpack(value) for key, value in node.items()}
    if isinstance(node, str) and node.startswith(_PACKED):
        return msgspec.json.decode(node[len(_PACKED) :])
    return node
