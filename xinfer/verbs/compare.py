"""``xinfer compare A B …``: whether what was measured in B is better than in A, worse, or the same."""

from __future__ import annotations

import math
import textwrap
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from xinfer import history
from xinfer.comparability import ALLOWABLE
from xinfer.errors import ConfigError, Worse, nearest
from xinfer.exporting import tables
from xinfer.measuring import statistics
from xinfer.measuring.quantity import METRICS
from xinfer.verbs import ranking, report
from xinfer.verbs.ranking import Contestant, Pair, Row, Side

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence
    from pathlib import Path

    from xinfer.comparability import Difference
    from xinfer.measuring.distribution import Interval

_DIM, _PLAIN = "\x1b[2m", "\x1b[22m"
_NUMBERS = tuple(dict.fromkeys(name.partition(".")[0] for name in METRICS))
"""The metrics without .p50, which is meant where nothing is said, .p95, .p99 and .mean."""
_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


class Asked(NamedTuple):
    """What was typed beside the paths."""

    metrics: tuple[str, ...]
    """None for the usual ones."""
    allowed: tuple[str, ...]
    format: str


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that was compared with the baseline."""

    schema: int = 1
    rule: str = statistics.RULE
    allow: tuple[str, ...]
    pairs: tuple[Pair, ...]
    without: tuple[str, ...] = ()
    """Cells that have no numbers, and the baseline's that nothing was compared with."""


def asked(overrides: Sequence[str]) -> Asked:
    """Read ``metric=``, ``allow=`` and ``format=``, and nothing else; raise ConfigError."""
    said = {"metric": "", "allow": "", "format": "text"}
    for word in overrides:
        key, _, value = word.partition("=")
        if key not in said:
            raise ConfigError(f"compare takes no key {key!r}; it has {', '.join(said)}{nearest(key, said)}")
        said[key] = value
    metrics = [name if name in METRICS else f"{name}.p50" for name in _listed(said["metric"])]
    for name in metrics:
        _check("metric", name.removesuffix(".p50"), [metric.removesuffix(".p50") for metric in METRICS], _NUMBERS)
    for name in _listed(said["allow"]):
        _check("allow", name, ALLOWABLE)
    _check("format", said["format"], ("text", "json", "markdown"))
    return Asked(tuple(dict.fromkeys(metrics)), tuple(_listed(said["allow"])), said["format"])


def _listed(value: str) -> list[str]:
    return [name.strip() for name in value.strip("[]").split(",") if name.strip()]


def _check(key: str, name: str, known: Collection[str], shown: Collection[str] = ()) -> None:
    if name not in known:
        raise ConfigError(f"{key}={name} is not one of {', '.join(shown or known)}{nearest(name, known)}")


def run(paths: Sequence[Path], asked: Asked) -> Comparison:
    """Read what lies at the paths and compare each with the first; ConfigError where nothing can be compared."""
    if len(paths) < 2:  # noqa: PLR2004 -- a comparison is of two
        raise ConfigError("compare takes two paths or more: the baseline, then what is compared with it")
    if len(paths) > len(_LETTERS):
        raise ConfigError(f"compare takes at most {len(_LETTERS)} paths; these are {len(paths)}")
    sides = [_contestants(letter, path) for letter, path in zip(_LETTERS, paths, strict=False)]
    _check_apart(sides)
    able = [[each for each in side if each.able] for side in sides]
    base, others = able[0], [each for side in able[1:] for each in side]
    pairs = ranking.compare(base, others, metrics=asked.metrics, allowed=asked.allowed)
    if all(pair.refused for pair in pairs):
        first, *rest = map(_refusal, pairs)
        raise ConfigError(first, details=tuple(rest))
    used = {(pair.base.letter, pair.base.cell) for pair in pairs if not pair.refused}
    alone = [f"{each.letter}: {each.cell.id} has no counterpart" for each in base if ("A", each.cell.id) not in used]
    idle = [f"{e.letter}: {e.cell.id} has no numbers: {_reason(e)}" for side in sides for e in side if not e.able]
    return Comparison(allow=asked.allowed, pairs=tuple(pairs), without=(*alone, *idle))


def _contestants(letter: str, path: Path) -> list[Contestant]:
    """Read one side; ConfigError if nothing on it has numbers. Comparisons of answers have none, and are not meant."""
    cells = [cell for cell in history.cells(path) if all(made.parity is None for made in cell.runs)]
    found = [Contestant(letter, str(path / cell.id if len(cells) > 1 else path), cell) for cell in cells]
    if not any(each.able for each in found):
        why = f": {_reason(found[0])}" if found else ""
        raise ConfigError(f"{path}: no run in {letter} has numbers{why}")
    return found


def _check_apart(sides: Sequence[Sequence[Contestant]]) -> None:
    """Refuse to compare a run with itself."""
    seen: dict[tuple[str, str], str] = {}
    for side in sides:
        for each in side:
            for made in each.cell.runs:
                other = seen.setdefault((made.cell, made.run), each.letter)
                if other != each.letter:
                    raise ConfigError(f"{made.path}: this run is in {other} and in {each.letter}, where it is the same")


def _reason(each: Contestant) -> str:
    last = each.cell.runs[-1]
    return report.one_line(f"{last.status}: {last.failure.message}" if last.failure else "nothing was measured")


def worse(found: Comparison) -> Worse | None:
    """Return what is worse than in the baseline, as the error that it is for a gate."""
    rows = [(pair, row) for pair in found.pairs for row in pair.rows if row.verdict == "worse"]
    lines = tuple(f"{pair.other.letter} ({pair.other.cell}): {row.metric} {row.why}" for pair, row in rows)
    count = f"{len(lines)} {'number is' if len(lines) == 1 else 'numbers are'}"
    return Worse(f"{count} worse than in the baseline", details=lines) if lines else None


def text(found: Comparison, *, is_terminal: bool) -> str:
    """Print each pair, what differs, a row for each metric, and the rule; flagged rows are grey on a terminal."""
    blocks = ["\n".join(_block(pair, is_terminal=is_terminal)) for pair in found.pairs if not pair.refused]
    others = _others(found)
    blocks += ["\n".join(["not compared", *(f"  {line}" for line in others)])] if others else []
    return "\n\n".join([*blocks, "\n".join(textwrap.wrap(found.rule, 116, subsequent_indent="  "))]) + "\n"


def markdown(found: Comparison) -> str:
    """Return the same for a job's summary or a comment."""
    blocks = ["\n".join(_section(pair)) for pair in found.pairs if not pair.refused]
    others = [f"- {tables.escaped(line)}" for line in _others(found)]
    blocks += ["\n".join(["#### Not compared", "", *others])] if others else []
    return "\n\n".join([*blocks, tables.escaped(found.rule)]) + "\n"


def _others(found: Comparison) -> list[str]:
    return [*(_refusal(pair) for pair in found.pairs if pair.refused), *found.without]


def _section(pair: Pair) -> Iterator[str]:
    title, *facts = _facts(pair)
    yield from (f"#### {tables.escaped(title)}", "", *(f"- {tables.escaped(fact)}" for fact in facts), "")
    rows = [_cells(row, pair) for row in pair.rows]
    yield tables.markdown([list(rows[0]), *(["-" if v is None else str(v) for v in row.values()] for row in rows)])[:-1]


def _facts(pair: Pair) -> Iterator[str]:
    """Say what was sent, what each side is, and in what they differ."""
    asked = pair.workload
    shape = f"{asked.get('name')}: {asked.get('input_tokens')} tokens in, {asked.get('output_tokens')} out"
    yield ", ".join(part for part in (shape, report.load(asked), pair.machine) if part)
    for side in (pair.base, pair.other):
        yield f"{side.letter}  {_side(side)}"
    yield from (_differs(each, pair) for each in pair.compared)
    yield from (f"{_differs(each, pair)}, as allow= permits" for each in pair.allowed)


def _block(pair: Pair, *, is_terminal: bool) -> Iterator[str]:
    title, *facts = _facts(pair)
    yield from (title, *(f"  {fact}" for fact in facts))
    head, *lines = report.rows_text([_cells(row, pair) for row in pair.rows]).splitlines()
    yield head
    for row, line in zip(pair.rows, lines, strict=True):
        yield f"{_DIM}{line}{_PLAIN}" if row.is_flagged and is_terminal else line


def _side(side: Side) -> str:
    runs = f"{side.repeats} {'run' if side.repeats == 1 else 'runs'}"
    flags = [f"flagged: {', '.join(side.flags)}"] if side.flags else []
    left_out = [f"left out: {report.one_line('; '.join(side.left_out))}"] if side.left_out else []
    return "  ".join([side.model, side.engine, runs, *flags, *left_out, side.path])


def _differs(each: Difference, pair: Pair) -> str:
    one, other = (_said(value) for value in each.values)
    if one == other:
        return f"{each.key} is {one} in {pair.base.letter} and {pair.other.letter}"
    return f"{each.key} is {one} in {pair.base.letter} and {other} in {pair.other.letter}"


def _refusal(pair: Pair) -> str:
    other, base = (f"{side.letter} ({side.cell})" for side in (pair.other, pair.base))
    why = "; ".join(_differs(each, pair) for each in pair.refused)
    return report.one_line(f"{other} may not be compared with {base}: {why}")


def _said(value: object) -> str:
    return "not known" if value is None else value if isinstance(value, str) else msgspec.json.encode(value).decode()


def _cells(row: Row, pair: Pair) -> dict[str, object]:
    scale, unit = METRICS[row.metric].scale, METRICS[row.metric].unit
    base, other = pair.base.letter, pair.other.letter
    return {
        "metric": f"{row.metric} {unit}",
        base: row.base and _number(row.base.median, row.base.ci, scale),
        other: row.other and _number(row.other.median, row.other.ci, scale),
        f"{other} / {base}": row.effect and _number(row.effect.ratio, row.effect.ci, 1.0, decimals=3),
        "p": row.corrected_p and f"{row.corrected_p:.2g}",
        "verdict": f"{row.verdict}: {row.why}",
    }


def _number(value: float, ci: Interval | None, scale: float, decimals: int | None = None) -> str:
    """Print a value with four digits, or so many decimals, and its interval alike."""
    if decimals is None:
        decimals = max(0, 3 - math.floor(math.log10(abs(value * scale)))) if value else 0
    ends = "" if ci is None else " [" + ", ".join(f"{end * scale:.{decimals}f}" for end in ci) + "]"
    return f"{value * scale:.{decimals}f}{ends}"
