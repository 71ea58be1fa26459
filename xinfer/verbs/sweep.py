"""One cell or many, one after the other; a cell that is refused or fails never ends the sweep."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from xinfer.errors import EngineError, Refused
from xinfer.running.runner import terminating_as_exception
from xinfer.verbs import cell, report

if TYPE_CHECKING:
    from collections.abc import Sequence

    from xinfer.config.compose import Composer
    from xinfer.record import Record


def run(cells: Sequence[Sequence[str]], composer: Composer, *, multirun: bool, api_key: str | None = None) -> int:
    """Run every cell, print the closing table, and return the exit code of the worst one.

    The worst is a failure (4); then, if no cell ran, a refusal (3); a sweep in which some cells ran
    and the rules refused the others is 0.
    """
    records: list[Record] = []
    with terminating_as_exception():
        for number, overrides in enumerate(cells, 1):
            if multirun:
                _say(f"\n[{number}/{len(cells)}] {' '.join(overrides)}")
            records.append(_one(overrides, composer, multirun=multirun, api_key=api_key))
    if multirun or records[0].metrics is not None:
        sys.stdout.write(report.result_table(records) + "\n")
    runs = sorted({str(Path(r.path).parent.parent.parent) for r in records})
    _say(f"{len(records)} records below {', '.join(runs)}" if multirun else f"record: {records[0].path}")
    return exit_code(records)


def exit_code(records: Sequence[Record]) -> int:
    """Return 4 if a cell failed, 0 if one ran, else the code of what refused the last one."""
    if any(record.status == "failed" for record in records):
        return EngineError.exit_code
    if any(record.status == "ok" for record in records):
        return 0
    failure = records[-1].failure
    return failure.exit_code if failure and len(records) == 1 else Refused.exit_code


def _one(overrides: Sequence[str], composer: Composer, *, multirun: bool, api_key: str | None) -> Record:
    made, planned = cell.attempt(overrides, composer, _say, sweeping=multirun, api_key=api_key)
    if made.failure is None:
        return made
    if made.status == "refused" and planned is not None and not multirun:
        sys.stdout.write(report.plan_text(planned))
    _say(f"xinfer: {report.one_line(made.failure.message)}")
    for line in made.failure.details:
        _say(f"  {report.one_line(line)}")
    return made


def _say(line: str) -> None:
    """Tell what goes on, beside the results on standard output."""
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()
