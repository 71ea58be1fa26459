"""How much of what somebody else wrote is taken in: enough for every model there is, and never memory without end."""

from __future__ import annotations

from typing import Any

import msgspec

from xinfer.errors import ConfigError

_DEEPEST = 100
_OPENERS = (b",", b"[", b"{")
_SAYABLE = 10**60
"""Python refuses to write numbers out that have thousands of digits."""


def values(text: bytes) -> int:
    """Return how many values a JSON text holds at most; each takes a hundred bytes of memory or more, and may take one.

    Commas and brackets within texts count too.
    """
    return 1 + sum(text.count(opener) for opener in _OPENERS)


def mapping(text: bytes, *, most: int, where: str) -> dict[str, Any]:
    """Decode a JSON mapping that holds so many values at most; ConfigError names ``where`` for anything else."""
    if (count := values(text)) > most:
        raise ConfigError(f"{where} has {count} values; no such file has more than {most}")
    try:
        found: dict[str, Any] = msgspec.json.decode(text, type=dict[str, Any])
    except (ValueError, RecursionError) as error:
        why = str(error) if isinstance(error, msgspec.DecodeError) else "it is not text, or nested beyond reason"
        raise ConfigError(f"{where} is no JSON mapping: {why}") from error
    if _is_deep(found):
        raise ConfigError(f"{where} is nested more than {_DEEPEST} deep")
    return found


def _is_deep(document: dict[str, Any]) -> bool:
    """Tell whether a document is nested so deeply that what goes through it by recursion might not come back."""
    level: list[Any] = [document]
    for _ in range(_DEEPEST):
        inner = (part for node in level for part in (node.values() if isinstance(node, dict) else node))
        level = [part for part in inner if isinstance(part, (dict, list))]
    return bool(level)


def check(value: float, most: float, name: str) -> None:
    """Raise ConfigError for a number that no model has, by the name of what says it."""
    if not 0 <= value <= most:
        said = "a number of more than 60 digits" if isinstance(value, int) and abs(value) >= _SAYABLE else f"{value}"
        raise ConfigError(f"{name}={said} is not a number from 0 to {most}")
