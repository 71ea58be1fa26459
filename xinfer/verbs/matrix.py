"""``xinfer matrix FILE …``: the rows of files judged, and run if asked for; does each come out as expected?"""

from __future__ import annotations

import math
import os
import shlex
import time
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from xinfer import expectation, flow, judgement, matrix
from xinfer.config.pieces import Pieces
from xinfer.deploying import workflow
from xinfer.errors import ConfigError, Unexpected, XinferError, nearest
from xinfer.expectation import Observed
from xinfer.matrix import Row
from xinfer.record import Record
from xinfer.verbs import report, sweep

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from xinfer.config.compose import Composer
    from xinfer.flow import Planned
    from xinfer.matrix import Budget, Matrix

_WIDE = 44
"""How much of a reason fits the table; what is not as expected is told in full below it."""
FORMATS = ("table", "json", "github", "hydra", "workflow")


class Asked(NamedTuple):
    """What was typed beside the files."""

    format: str = "table"
    filters: tuple[str, ...] = ()
    measure: bool = False
    part: int | None = None
    """Of the documents for GitHub; null for all."""
    overrides: tuple[str, ...] = ()
    """What every row is given besides, in place of its own."""


class Checked(msgspec.Struct, frozen=True, kw_only=True):
    """A row, and what became of it."""

    row: Row
    observed: Observed
    records: tuple[Record, ...] = ()
    """Of each time that it was measured."""

    @property
    def fault(self) -> str | None:
        """Say what is not as expected; null if all is."""
        return expectation.fault(self.row.expect, self.observed)

    def document(self) -> dict[str, Any]:
        """Return what ``format=json`` prints of it."""
        row = msgspec.to_builtins(self.row)
        return {
            **row, "expect": row["expect"] or "runs", "observed": msgspec.to_builtins(self.observed),
            "records": [each.path for each in self.records], "is_as_expected": self.fault is None,
        }  # fmt: skip


def asked(typed: Sequence[str]) -> Asked:
    """Split the verb's own words from what every row is given; raise ConfigError."""
    said: dict[str, list[str]] = {"format": ["table"], "measure": ["false"], "part": [""], "filter": []}
    others = []
    for word in typed:
        key, _, value = word.partition("=")
        if key in said:
            said[key].append(value)
        else:
            others.append(word)
    how, measure, part = (said[key][-1] for key in ("format", "measure", "part"))
    for key, value, known in (("format", how, FORMATS), ("measure", measure, ("true", "false"))):
        if value not in known:
            raise ConfigError(f"{key}={value} is not one of {', '.join(known)}{nearest(value, known)}")
    if part and how != "github":
        raise ConfigError(f"part={part} is for format=github, which puts {matrix.GITHUB_MOST} rows into one")
    return Asked(how, tuple(said["filter"]), measure == "true", _part(part), tuple(others))


def _part(text: str) -> int | None:
    if text and not (text.isdecimal() and int(text)):
        raise ConfigError(f"part={text} is not a number from 1")
    return int(text) if text else None


def load(paths: Sequence[Path], asked: Asked, composer: Composer) -> tuple[list[Matrix], list[Checked]]:
    """Read files, leave out the rows that were not asked for, and judge the others."""
    if not paths:
        raise ConfigError("matrix takes the files that name the rows, as in matrix matrix/cpu.yaml")
    found = [matrix.load(path) for path in dict.fromkeys(paths)]
    rows = [matrix.overlaid(row, asked.overrides) for each in found for row in each.rows]
    shared = Pieces.over(composer)
    kept = matrix.narrowed([(row, composed(row, shared)) for row in rows], asked.filters)
    return found, [judged(row, config, shared) for row, config in kept]


def check(row: Row, composer: Composer) -> Checked:
    """Compose a row, judge it and plan it; ConfigError names it where it means nothing."""
    return judged(row, composed(row, composer), composer)


def composed(row: Row, composer: Composer) -> dict[str, Any]:
    """Compose a row; ConfigError names it."""
    try:
        config = composer.compose(row.overrides)
    except ConfigError as error:
        raise _of(row, error) from error
    if config["tune"]["metric"] is not None:
        raise _of(row, ConfigError("tune= measures many settings, and a row is one; leave it out"))
    return config


def judged(row: Row, config: Mapping[str, Any], composer: Composer) -> Checked:
    """Judge a composed row and plan it."""
    try:
        planned = flow.plan(flow.ask(dict(config), composer, detect=judgement.detect), composer, compares=False)
    except ConfigError as error:
        raise _of(row, error) from error
    except XinferError as error:
        return Checked(row=row, observed=Observed(refusal=str(error)))
    return Checked(row=row, observed=_observed(planned))


def _of(row: Row, error: ConfigError) -> ConfigError:
    return ConfigError(f"{row.file}: {row.name}: {error}")


def _observed(planned: Planned) -> Observed:
    made = planned.decision
    not_met = [f"{each.engine}.{f.id}" for each in made.verdicts for f in each.of("failed", "unknown")]
    return Observed(engine=made.engine, refusal="" if made.engine else made.because[0], not_met=tuple(not_met))


# Measuring


def measured(
    found: Sequence[Matrix],
    checked: Sequence[Checked],
    composer: Composer,
    say: Callable[[str], None],
    *,
    api_key: str | None = None,
) -> list[Checked]:
    """Run those rows that are expected to run, file by file, and return all in their order.

    A file's canary goes first; unless it comes out as expected no other is started, and none after the minutes.
    """
    sheets = [(each, [row for row in checked if row.row.file == str(each.path)]) for each in found]
    shared = Pieces.over(composer)
    for each, own in sheets:
        _check_rows(each, _able(own))
    return [
        row
        for each, own in sheets
        for row in _of_file(each.budget, own, say, lambda rows: run(rows, shared, api_key=api_key))
    ]


def _able(checked: Sequence[Checked]) -> list[Checked]:
    return [each for each in checked if each.row.expect.runs and each.fault is None]


def _check_rows(found: Matrix, able: Sequence[Checked]) -> None:
    most = found.budget.rows
    if most is not None and len(able) > most:
        left = f"its budget allows {most}; leave some out with filter="
        raise ConfigError(f"{found.path}: {len(able)} rows are to run, and {left}")


def _of_file(
    budget: Budget,
    checked: Sequence[Checked],
    say: Callable[[str], None],
    run: Callable[[list[Checked]], list[Checked]],
) -> list[Checked]:
    ends = time.monotonic() + 60 * (budget.minutes or math.inf)
    stop = "".join(_canary_fault(each) for each in checked)
    outcomes: dict[str, Checked] = {}
    left: list[Checked] = []
    for course in _courses(_able(checked), by_server=budget.minutes is not None):
        if not stop and time.monotonic() > ends:
            stop = f"the {budget.minutes:g} minutes of the budget are over"
        if stop:
            left += course
            continue
        made = run(course)
        outcomes.update({each.row.name: each for each in made})
        stop = "".join(_canary_fault(each) for each in made)
    if left:
        say(f"{len(left)} {'row is' if len(left) == 1 else 'rows are'} not started: {stop}")
    reason = Observed(refusal=f"not started: {stop}")
    outcomes.update({each.row.name: Checked(row=each.row, observed=reason) for each in left})
    return [outcomes.get(each.row.name, each) for each in checked]


def _courses(able: Sequence[Checked], *, by_server: bool) -> list[list[Checked]]:
    """Put together what is handed to the sweep at once: the canary alone, then the others, or those of each server."""
    courses: dict[Any, list[Checked]] = {}
    for each in able:
        server = tuple(word for word in each.row.overrides if not word.startswith("workload")) if by_server else ()
        courses.setdefault(each.row.is_canary or server, []).append(each)
    return list(courses.values())


def _canary_fault(each: Checked) -> str:
    return f"the canary {each.row.name} is not as expected" if each.row.is_canary and each.fault else ""


def run(rows: Sequence[Checked], composer: Composer, *, api_key: str | None = None) -> list[Checked]:
    """Measure rows, as one sweep."""
    cells = sweep.carried_out([each.row.overrides for each in rows], composer, multirun=True, api_key=api_key)
    return [_recorded(each, cell.records) for each, cell in zip(rows, cells, strict=True)]


def _recorded(judged: Checked, records: Sequence[Record]) -> Checked:
    """Return what the records say: the engine that ran, or the first reason for which it did not."""
    if not records:  # dry=true
        return judged
    row = judged.row
    failure = next((each.failure for each in records if each.failure is not None), None)
    if failure is not None:
        return Checked(
            row=row, observed=Observed(refusal=f"{failure.stage}: {failure.message}"), records=tuple(records)
        )
    engine = (records[-1].decision or {}).get("engine")
    return Checked(row=row, observed=Observed(engine=engine), records=tuple(records))


# Printing


def text(asked: Asked, checked: Sequence[Checked], directories: Sequence[str] = ()) -> str:
    """Print the rows in the format that was asked for; ``directories`` are the flags that were typed."""
    if asked.format == "json":
        return f"{report.json_text({'schema': 1, 'rows': [each.document() for each in checked]})}\n"
    if asked.format == "github":
        parts = matrix.jobs([each.row for each in checked])
        if asked.part is not None and asked.part > len(parts):
            raise ConfigError(f"part={asked.part} is not there; these rows make {len(parts)}")
        chosen = parts if asked.part is None else [parts[asked.part - 1]]
        return "".join(f"{matrix.json(part)}\n" for part in chosen)
    if asked.format == "hydra":
        return "".join(f"{shlex.join([*directories, *each.row.overrides])}\n" for each in checked)
    if asked.format == "workflow":
        return _workflow(asked, [each.row for each in checked], directories)
    cells = [each.records for each in checked if each.records]
    results = f"{report.result_table(cells)}\n\n" if cells else ""
    return f"{results}{report.rows_text([_line(each) for each in checked])}\n"


def _workflow(asked: Asked, rows: Sequence[Row], directories: Sequence[str]) -> str:
    """Return what GitHub Actions runs, where directories and files are those of a checkout."""
    flags = [word if word.startswith("--") else os.path.relpath(word) for word in directories]
    filters = [f"filter={each}" for each in asked.filters]
    files = dict.fromkeys(row.file for row in rows)
    again = ["matrix", *files, "format=workflow", *filters, *asked.overrides, *flags]
    return workflow.text(rows, again, directories=flags)


def _line(each: Checked) -> dict[str, Any]:
    said = {"expected": str(each.row.expect), "observed": str(each.observed)}
    cut = {key: text if len(text) <= _WIDE else f"{text[: _WIDE - 1]}…" for key, text in said.items()}
    return {"": "NOT" if each.fault else "ok", **cut, "row": each.row.name}


def unexpected(checked: Sequence[Checked]) -> Unexpected | None:
    """Return the error that says which rows are not as expected; null if all are."""
    faults = tuple(f"{each.row.file}: {each.row.name}: {each.fault}" for each in checked if each.fault)
    if not faults:
        return None
    return Unexpected(f"{len(faults)} of {len(checked)} rows are not as expected", details=faults)
