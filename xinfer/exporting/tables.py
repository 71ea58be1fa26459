"""Tables: comma-separated values with every number, and Markdown as GitHub shows it."""

from __future__ import annotations

import csv
import io
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from xinfer.exporting.subject import Figure, Subject

_ABOUT = ("name", "cell", "model", "engine", "version", "workload", "load", "system", "cpu", "started")
_SPECIAL = re.compile(r"[\\`*\[\]|~]|(?<!\w)_|_(?!\w)")
"""What begins an element of Markdown; an underscore within a word begins none."""
_NUMBERS = ("metric", "unit", "better", "runs", "median", "lowest", "highest", "flags")


def comma_separated(subjects: Iterable[Subject]) -> str:
    """Return a row for each cell and metric, in the units of the record; no number where a cell does not support it."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([*_ABOUT, *_NUMBERS])
    for each in subjects:
        writer.writerows([*(getattr(each, name) for name in _ABOUT), *_row(each, figure)] for figure in each.figures)
    return out.getvalue()


def _row(each: Subject, figure: Figure) -> list[object]:
    values = figure.values
    ends = [figure.median, min(values, default=None), max(values, default=None)]
    better = "higher" if figure.about.higher_is_better else "lower"
    return [figure.metric, figure.about.base, better, len(values), *ends, " ".join(each.flags)]


def markdown(rows: Sequence[Sequence[str]]) -> str:
    """Return a table of GitHub-flavoured Markdown; the first row is its head, and no cell can break out of its own."""
    head, *others = [f"| {' | '.join(map(escaped, row))} |" for row in rows]
    return "\n".join([head, f"|{' --- |' * len(rows[0])}", *others]) + "\n"


def escaped(text: str) -> str:
    """Return text that Markdown shows as it is, on one line: error messages carry paths, flags and brackets."""
    line = _SPECIAL.sub(r"\\\g<0>", " ".join(text.split()))
    return line.replace("&", "&amp;").replace("<", "&lt;")
