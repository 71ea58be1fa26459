"""Files that say which cells there are and what is expected of each: read, checked, and written out row by row.

Every value is taken as it is typed on the command line: 3.10 is 3.10 and null is null. A list stands for each of its
values. ``load`` reads a file, ``Matrix.rows`` are its rows; nothing here composes or judges one.
"""

from __future__ import annotations

import itertools
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec

from xinfer import expectation
from xinfer.config.document import read
from xinfer.config.overrides import NAMES
from xinfer.engines import typed
from xinfer.errors import ConfigError, nearest
from xinfer.expectation import RUNS, Expectation

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

Cell = dict[str, str]
"""What a row has for each key."""
Values = dict[str, tuple[str, ...]]
"""The values that each key may have."""
GITHUB_MOST = 256
"""How many jobs GitHub allows a matrix."""


class Budget(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What measuring may take."""

    minutes: Annotated[float, msgspec.Meta(gt=0)] | None = None
    """After so long no row is started."""
    rows: Annotated[int, msgspec.Meta(ge=1)] | None = None
    """If more than so many are to run, none is started."""


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One cell of a file: what is typed for it, and what is expected of it."""

    file: str
    name: str
    """The overrides that not every row of the file has; no two rows of a file have the same."""
    overrides: tuple[str, ...]
    expect: Expectation
    is_canary: bool = False
    """Whether it goes first, and the others only if it is as expected."""


Composed = tuple[Row, Mapping[str, Any]]
"""A row, and the configuration that Hydra makes of it."""


class Matrix(msgspec.Struct, frozen=True, kw_only=True):
    """A file, read."""

    path: Path
    title: str
    budget: Budget
    rows: tuple[Row, ...]
    """The canary first, else in the order of the file, the last axis fastest."""


class _File(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What stands in a file; the parts that may have any key are read one by one."""

    title: str = ""
    defaults: Any = {}
    """What every row has, unless it says otherwise itself."""
    axes: Any = {}
    """Every combination of these is a row."""
    exclude: list[Any] = []
    """Combinations that are none."""
    expect: list[Any] = []
    """What is expected of the combinations: the first line that fits says it; a row that none fits runs."""
    include: list[Any] = []
    """Further rows, each with its own expectation; lists in one make a row of every combination."""
    budget: Any = {}
    canary: Any = None
    """Which row goes first; of several that fit, the first."""


class _Line(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    where: Any = {}
    expect: Any = None


class _Included(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    row: Any = None
    expect: Any = "runs"


def load(path: Path) -> Matrix:
    """Read a file and write its rows out; ConfigError names the file, the part of it, and what may stand there.

    A part that fits no row, and a row that is there twice, are errors: something else was meant.
    """
    file = typed(read(path, as_text=True), _File, str(path))
    defaults = {key: _single(key, found, path) for key, found in _values(file.defaults, f"{path}: defaults").items()}
    made = [*_combined(file, defaults, path), *_included(file.include, defaults, path)]
    if not made:
        raise ConfigError(f"{path}: has no rows; say axes or include")
    rows = [
        Row(file=str(path), name=_name(cell, defaults), overrides=_words(cell), expect=expect) for cell, expect in made
    ]
    _check_once(rows, path)
    if file.canary is not None:
        cells = [cell for cell, _ in made]
        first = _first(cells, _values(file.canary, f"{path}: canary"), f"{path}: canary")
        rows.insert(0, msgspec.structs.replace(rows.pop(first), is_canary=True))
    budget = typed(file.budget, Budget, f"{path}: budget", strict=False)
    return Matrix(path=path, title=file.title, budget=budget, rows=tuple(rows))


def _combined(file: _File, defaults: Cell, path: Path) -> Iterator[tuple[Cell, Expectation]]:
    """Yield every combination of the axes that is not excluded, with what is expected of it."""
    axes = _values(file.axes, f"{path}: axes")
    cells = [{**defaults, **cell} for cell in _product(axes)] if axes else []
    for number, node in enumerate(file.exclude, 1):
        excluded = _values(node, f"{path}: exclude {number}")
        _first(cells, excluded, f"{path}: exclude {number}")
        cells = [cell for cell in cells if not _fits(cell, excluded)]
    lines = [_line(node, f"{path}: expect {number}") for number, node in enumerate(file.expect, 1)]
    reached = [next((n for n, (values, _) in enumerate(lines) if _fits(cell, values)), None) for cell in cells]
    for idle in range(len(lines)):
        if idle not in reached:
            raise ConfigError(f"{path}: expect {idle + 1} fits no row that the lines above it leave")
    for cell, fitting in zip(cells, reached, strict=True):
        yield cell, RUNS if fitting is None else lines[fitting][1]


def _line(node: Any, where: str) -> tuple[Values, Expectation]:
    line = typed(node, _Line, where)
    return _values(line.where, where), expectation.read(line.expect, where)


def _included(nodes: Sequence[Any], defaults: Cell, path: Path) -> Iterator[tuple[Cell, Expectation]]:
    """Yield the further rows."""
    for number, node in enumerate(nodes, 1):
        where = f"{path}: include {number}"
        part = typed(node, _Included, where)
        expect = expectation.read(part.expect, where)
        for cell in _product(_values(part.row, where)):
            yield {**defaults, **cell}, expect


def _values(node: Any, where: str) -> Values:
    """Read a mapping of keys to a value, or to a list of them."""
    if not isinstance(node, dict):
        raise ConfigError(f"{where}: {json(node)} is not a mapping of keys to values, as in {{engine: [vllm, mlx]}}")
    found = {key: tuple(value) if isinstance(value, list) else (value,) for key, value in node.items()}
    for key, values in found.items():
        if not values or not all(isinstance(value, str) for value in values):
            raise ConfigError(f"{where}: {key} is {json(node[key])}; it takes a value, or a list of values")
    return found


def _single(key: str, values: Sequence[str], path: Path) -> str:
    if len(values) > 1:
        raise ConfigError(f"{path}: defaults: {key} has {len(values)} values; several are for axes")
    return values[0]


def _product(values: Values) -> Iterator[Cell]:
    """Yield every combination, the last key fastest."""
    for chosen in itertools.product(*values.values()):
        yield dict(zip(values, chosen, strict=True))


def _fits(cell: Cell, values: Values) -> bool:
    return all(cell.get(key) in allowed for key, allowed in values.items())


def _first(cells: Sequence[Cell], values: Values, where: str) -> int:
    """Return which row is the first that fits; ConfigError if none does."""
    for number, cell in enumerate(cells):
        if _fits(cell, values):
            return number
    raise ConfigError(f"{where} fits no row: none has {' '.join(_words({k: '|'.join(v) for k, v in values.items()}))}")


def _words(cell: Cell) -> tuple[str, ...]:
    """Return what is typed; a rule that is switched off with ~ has no value."""
    return tuple(key if key.startswith("~") and not value else f"{key}={value}" for key, value in cell.items())


def _name(cell: Cell, defaults: Cell) -> str:
    own = {key: value for key, value in cell.items() if defaults.get(key) != value}
    return " ".join(_words(own or cell))


def _check_once(rows: Iterable[Row], path: Path) -> None:
    seen: set[frozenset[str]] = set()
    for row in rows:
        words = frozenset(row.overrides)
        if words in seen:
            raise ConfigError(f"{path}: the row {row.name!r} is there twice; exclude one of them")
        seen.add(words)


# What is made of rows


def overlaid(row: Row, overrides: Sequence[str]) -> Row:
    """Return a row with further overrides, in place of its own for the same keys."""
    keys = {word.partition("=")[0] for word in overrides}
    own = (word for word in row.overrides if word.partition("=")[0] not in keys)
    return msgspec.structs.replace(row, overrides=(*own, *overrides))


def narrowed(rows: Iterable[Composed], filters: Iterable[str]) -> list[Composed]:
    """Return the rows whose configurations have what each filter says; ConfigError for a filter that fits none.

    A filter is ``KEY=VALUE``, or several values with commas between. A group is known by its option's name, and
    ``expect`` is runs or refused.
    """
    kept = list(rows)
    for text in filters:
        key, _, values = text.partition("=")
        if not key or not values:
            raise ConfigError(f"filter={text} is not KEY=VALUE, as in filter=engine=vllm")
        there = sorted({choice for each in kept if (choice := _choice(*each, key)) is not None})
        if set(values.split(",")).isdisjoint(there):
            known = f"{key} is {', '.join(there)}" if there else f"none has {key}"
            hint = nearest(values, there) or nearest(key, () if there else {"expect", *kept[0][1]})
            raise ConfigError(f"filter={text} leaves no row: {known}{hint}")
        kept = [each for each in kept if _choice(*each, key) in values.split(",")]
    return kept


def _choice(row: Row, config: Mapping[str, Any], key: str) -> str | None:
    """Return what a row has chosen for a key, as it is typed; null if there is no such key."""
    if key == "expect":
        return "runs" if row.expect.runs else "refused"
    node: Any = config
    for part in _NAMED.get(key, key).split("."):
        if not isinstance(node, dict) or part not in node:
            return None
        node = node[part]
    return node if isinstance(node, str) else json(node)


def jobs(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Return what GitHub Actions takes as ``strategy.matrix``, in as many parts as its limit demands."""
    found = [
        {
            "matrix": Path(row.file).stem, "name": row.name, "overrides": shlex.join(row.overrides),
            "expect": str(row.expect), "canary": row.is_canary,
        }
        for row in rows
    ]  # fmt: skip
    return [{"include": found[start : start + GITHUB_MOST]} for start in range(0, len(found), GITHUB_MOST)]


def json(node: Any) -> str:
    """Write a value as a command line and a message show it."""
    return msgspec.json.encode(node).decode()


_NAMED = {group: path for path, group in NAMES.items()}
"""Where each group's option says its own name."""
