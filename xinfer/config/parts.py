"""Files that are made of others of their group: ``parts`` names them, and what the file says itself lies over theirs.

Hydra's own ``defaults`` do the same, but node by node: five rule packs cost it a tenth of a plan.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from xinfer.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


def whole(body: Mapping[str, Any], where: str, part: Callable[[str], Mapping[str, Any]]) -> dict[str, Any]:
    """Return a file's body over the mappings of its parts; ``part`` reads one of them.

    Raises ConfigError, naming ``where``, for parts that are no list of names, or that call two sources alike.
    """
    names = body.get("parts") or ()
    if not isinstance(names, (list, tuple)) or not all(isinstance(name, str) for name in names):
        raise ConfigError(f"{where}: parts must be a list of names, not {names!r}")
    below: dict[str, Any] = {}
    for name in names:
        given = {key: value for key, value in part(name).items() if isinstance(value, dict)}
        _check(below.get("sources", {}), given.get("sources", {}), f"{where}: part {name}")
        below = _over(given, below)
    return _over(body, below)


def _over(upper: Mapping[str, Any], lower: Mapping[str, Any]) -> dict[str, Any]:
    """Lay one mapping over another, at every depth."""
    found = dict(lower)
    for key, value in upper.items():
        under = lower.get(key)
        found[key] = _over(value, under) if isinstance(value, dict) and isinstance(under, dict) else value
    return found


def _check(known: Mapping[str, Any], given: Mapping[str, Any], where: str) -> None:
    """Refuse a source that two parts describe differently, as a rule's would become another's."""
    for name in known.keys() & given.keys():
        if known[name] != given[name]:
            raise ConfigError(f"{where}: its source {name!r} is another than that of a part before it")
