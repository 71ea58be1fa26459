"""What of an engine's plan may be tuned: keys of the configuration, the values to try beside the plan's own, and why.

A plugin declares them in ``conf/tunables/<engine>.yaml``; ``tune.space`` adds to them, changes them or leaves some out.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from xinfer.engines import typed
from xinfer.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

Value = bool | int | float | str
Space = dict[str, tuple[Value | None, ...]]
"""What each key may be; null, the first of all, is the plan's own value, whatever that is."""
_KEY = re.compile(r"engine\.[\w.-]+|dtype|context_length|model\.quantization")
_OWN = "tune.space"


class Tunable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One key, what it may be, and why that matters."""

    why: str
    source: str
    values: tuple[Value, ...] = ()
    least: int | None = None
    """Instead of values: from here, doubled again and again, up to ``most``."""
    most: int | Literal["cores", "concurrency"] | None = None
    device: Literal["cpu", "gpu"] | None = None
    """Where it has an effect; null: everywhere."""
    lossy: bool = False
    """Whether it may change the answers."""


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """What bounds a domain."""

    device: str
    cores: int | None
    concurrency: int


def declared(body: Mapping[str, Any], where: str) -> dict[str, Tunable]:
    """Check what a file declares; ConfigError names the file, the key and what it takes."""
    found = {}
    for key, node in body.items():
        each = typed(node, Tunable, f"{where}: {key}")
        if not _KEY.fullmatch(key):
            raise ConfigError(f"{where}: {key} cannot be tuned; keys are engine.NAME, dtype and such")
        if bool(each.values) is (each.least is not None and each.most is not None):
            raise ConfigError(f"{where}: {key} needs either values, or least and most")
        found[key] = each
    return found


def chosen(known: Mapping[str, Tunable], asked: Mapping[str, Any]) -> dict[str, Tunable]:
    """Lay ``tune.space`` over what an engine declares: a list is what to try, null leaves a key and all below alone."""
    found = dict(known)
    for key, values in _flat(asked):
        if not _KEY.fullmatch(key):
            raise ConfigError(f"{_OWN}.{key} cannot be tuned; say {_OWN}.engine.NAME=[…] or {_OWN}.dtype=[…]")
        if values is None:
            found = {name: each for name, each in found.items() if name != key and not name.startswith(f"{key}.")}
        elif isinstance(values, list) and values and all(isinstance(value, Value) for value in values):
            own = known.get(key) or Tunable(why="asked for", source=_OWN, values=(True,))
            found[key] = msgspec.structs.replace(own, values=tuple(values), least=None, most=None, device=None)
        else:
            raise ConfigError(f"{_OWN}.{key}={values!r} is not a list of values; say [1,2], or null to leave it alone")
    return found


def named(asked: Mapping[str, Any]) -> set[str]:
    """Return the keys that ``tune.space`` is about."""
    return {key for key, _ in _flat(asked)}


def _flat(node: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in node.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def space(tunables: Mapping[str, Tunable], place: Place, *, fixed: Collection[str], lossy: bool) -> Space:
    """Return what is tried: nothing that the user has fixed, and nothing that would have no effect here."""
    found: Space = {}
    for key, each in tunables.items():
        if key in fixed or each.device not in {None, place.device} or (each.lossy and not lossy):
            continue
        values = each.values or _doubled(each.least or 1, _bound(each.most, place))
        if values:
            found[key] = (None, *values)
    return found


def _bound(most: int | str | None, place: Place) -> int:
    if isinstance(most, int):
        return most
    return (place.cores or 0) if most == "cores" else place.concurrency


def _doubled(least: int, most: int) -> tuple[int, ...]:
    found = []
    while least < most:
        found.append(least)
        least *= 2
    return (*found, most) if found or least == most else ()


def size(found: Space) -> int:
    """Return how many combinations there are."""
    count = 1
    for values in found.values():
        count *= len(values)
    return count


def words(point: Mapping[str, Value | None]) -> list[str]:
    """Return the overrides that make a plan of a point of a space."""
    return [f"{key}={_said(value)}" for key, value in point.items() if value is not None]


def _said(value: Value) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
