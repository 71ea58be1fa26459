"""``xinfer export PATH… format=…``: what was measured, for tools that keep and compare numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from xinfer import history
from xinfer.errors import ConfigError, nearest
from xinfer.exporting import formats, pytest_benchmark, tables
from xinfer.exporting.subject import subjects
from xinfer.history import Cell
from xinfer.measuring.quantity import METRICS
from xinfer.verbs import report

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from xinfer.record import Record

_KEYS = {
    "format": formats.NAMES,
    "direction": ("bigger", "smaller"),
    "flagged": ("false", "true"),
    "metric": (*METRICS, "all"),
}


class Asked(NamedTuple):
    """What was typed beside the paths."""

    format: str = "csv"
    direction: str | None = None
    """Of which metrics github-action-benchmark gets a file: those of which bigger, or smaller, is better."""
    flagged: bool = False
    """Whether runs that were found wanting give numbers too."""
    metrics: tuple[str, ...] = ()
    """None for the usual ones."""


class Exported(NamedTuple):
    """A document, and what is not in it."""

    text: str
    left_out: tuple[str, ...]


def asked(overrides: Sequence[str]) -> Asked:
    """Read ``format=``, ``metric=``, ``flagged=`` and ``direction=``, and nothing else; raise ConfigError."""
    said: dict[str, list[str]] = {}
    for word in overrides:
        key, _, typed = word.partition("=")
        if key not in _KEYS:
            raise ConfigError(f"export takes no key {key!r}; it has {', '.join(_KEYS)}{nearest(key, _KEYS)}")
        said[key] = list(_values(key, typed))
    one = {key: values[-1] for key, values in said.items() if values}
    how, direction = one.get("format", formats.NAMES[0]), one.get("direction")
    if (how == "github-action-benchmark") is (direction is None):
        raise ConfigError(
            "format=github-action-benchmark takes direction=bigger or direction=smaller: the action reads one direction"
            " from a file, as its tool customBiggerIsBetter or customSmallerIsBetter; no other format takes direction="
        )
    metrics = tuple(METRICS) if "all" in said.get("metric", ()) else tuple(dict.fromkeys(said.get("metric", ())))
    return Asked(how, direction, one.get("flagged") == "true", metrics)


def _values(key: str, typed: str) -> Iterator[str]:
    for word in typed.strip("[]").split(",") if key == "metric" else [typed]:
        value = word.strip()
        known = _KEYS[key]
        value = f"{value}.p50" if key == "metric" and f"{value}.p50" in known else value
        if value not in known:
            shown = dict.fromkeys(name.partition(".")[0] for name in known) if key == "metric" else known
            raise ConfigError(f"{key}={word} is not one of {', '.join(shown)}{nearest(value, known)}")
        yield value


def run(paths: Sequence[Path], asked: Asked) -> Exported:
    """Read what lies at the paths and put its numbers into a format; ConfigError where there is nothing to read."""
    if not paths:
        raise ConfigError("export takes one path or more: a record.json, or a run's, a cell's or a runs= directory")
    cells = _together([cell for path in paths for cell in history.cells(path)])
    if asked.format == "markdown":  # the table that closes a sweep: it says itself what is flagged, and what has failed
        return Exported(tables.markdown(report.result_rows([cell.runs for cell in cells])), ())
    found, left_out = subjects(cells, asked.metrics, flagged=asked.flagged)
    if asked.format == "pytest-benchmark":
        untimed = pytest_benchmark.left_out(found)
        left_out += [f"{metric}: no time, for which pytest-benchmark has no place" for metric in untimed]
    text = formats.text(asked.format, found, higher_is_better=asked.direction == "bigger")
    return Exported(text, tuple(left_out))


def _together(cells: Sequence[Cell]) -> list[Cell]:
    """Join the runs of a cell that lie in several places, each once; comparisons of answers have no numbers."""
    found: dict[str, dict[str, Record]] = {}
    for cell in cells:
        runs = found.setdefault(cell.id, {})
        runs |= {made.run: made for made in cell.runs if made.parity is None}
    return [Cell(name, tuple(runs[run] for run in sorted(runs))) for name, runs in found.items() if runs]
