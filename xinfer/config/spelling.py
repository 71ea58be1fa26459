"""Match what a user types to what the catalogue publishes, through one table: ``conf/spelling.yaml``."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from xinfer.errors import ConfigError, nearest

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

Table = dict[str, dict[str, frozenset[str]]]
"""For each field, every spelling in lower case with all the spellings of its value."""


def matching(field: str, typed: str, published: Collection[str]) -> frozenset[str]:
    """Return the published values that ``typed`` means: the same but for case, else the same number, else by the table.

    Counted sizes are of no table: 7_62 is also 7.62 and 7.62b.
    """
    lowered = typed.lower()
    same = frozenset(value for value in published if value.lower() == lowered)
    if same:
        return same
    number = _number(typed) if field == "size" else None
    same = frozenset(value for value in published if number is not None and _number(value) == number)
    if same:
        return same
    line = table()[field].get(lowered, frozenset())
    return frozenset(value for value in published if value.lower() in line)


def suggestion(field: str, typed: str, published: Collection[str]) -> str:
    """Return ``"; did you mean 'x'?"`` for the published value, or a way to type it, that is nearest.

    A size always has a nearest one. Elsewhere a spelling that the table has is no slip of the
    keyboard, and nothing is suggested.
    """
    size = _number(typed) if field == "size" else None
    if size is not None:
        near = min(published, key=lambda value: abs((_number(value) or 0.0) - size), default=None)
        return f"; did you mean {near!r}?" if near else ""
    lines = table()[field]
    if typed.lower() in lines:
        return ""
    accepted = {spelling for value in published for spelling in lines.get(value.lower(), ())}
    return nearest(typed, [*sorted(accepted), *published])


@cache
def table() -> Table:
    """Read the table, once, and only when somebody typed what no catalogue publishes."""
    from xinfer.config.compose import conf_dir, read  # noqa: PLC0415 -- Hydra is dear, and rarely needed here

    path = conf_dir() / "spelling.yaml"
    return {field: index(lines, f"{path.name}: {field}") for field, lines in read(path).items()}


def index(lines: Mapping[str, Any], where: str) -> dict[str, frozenset[str]]:
    """Return every spelling of some lines with all the spellings of its line.

    Raises ConfigError when a spelling stands in two lines: it would mean two things.
    """
    spellings: dict[str, frozenset[str]] = {}
    for value, others in lines.items():
        line = frozenset(str(spelling).lower() for spelling in (value, *others))
        for spelling in sorted(line):
            if spelling in spellings:
                message = f"{where}: {spelling!r} stands in two lines; it can mean only one value"
                raise ConfigError(message)
            spellings[spelling] = line
    return spellings


def _number(size: str) -> float | None:
    """Read a size in billions, written as ``7``, ``0_5``, ``0.5`` or ``7b``."""
    try:
        return float(size.lower().removesuffix("b").replace("_", "."))
    except ValueError:
        return None
