"""One cell or many: all are judged before any is started; a cell that is refused or fails never ends the sweep.

Cells that differ in nothing but the workload share a server (``start.py``). Repeats take turns: every cell is measured
once before any is measured again, so that a busy moment does not favour one of them.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from xinfer import forecast, keys
from xinfer.errors import EngineError, Refused, XinferError
from xinfer.running.runner import terminating_as_exception
from xinfer.spec import Repeat
from xinfer.verbs import outlook, report, start
from xinfer.verbs.cell import Attempt

if TYPE_CHECKING:
    from collections.abc import Sequence

    from xinfer.config.compose import Composer
    from xinfer.record import Record


class Cell:
    """A cell, and every time it was tried."""

    def __init__(self, attempt: Attempt) -> None:
        self.attempts = [attempt]
        node = attempt.config.get("repeat")
        self.repeat = keys.repeat(node) if node else Repeat()

    @property
    def last(self) -> Attempt:
        """The attempt that is due, or was the last."""
        return self.attempts[-1]

    @property
    def records(self) -> list[Record]:
        """What became of each attempt."""
        return [each.record for each in self.attempts if each.record is not None]

    def is_wanted_again(self) -> bool:
        """Say whether its numbers need another run: too few, or too far apart."""
        made = self.records
        if made[-1].status != "ok" or len(made) >= (self.repeat.most or self.repeat.least):
            return False
        if len(made) < self.repeat.least:
            return True
        from xinfer.measuring import statistics  # noqa: PLC0415 -- a single measurement needs none

        width = statistics.relative_width([(each.metrics or {}).get("output_tps") or 0.0 for each in made])
        return width is None or width > self.repeat.width


def run(cells: Sequence[Sequence[str]], composer: Composer, *, multirun: bool, api_key: str | None = None) -> int:
    """Run every cell, print the closing table, and return the exit code of the worst one.

    The worst is a failure (4); then, if no cell ran, a refusal (3); a sweep in which some cells ran
    and the rules refused the others is 0.
    """
    attempts = [Attempt(each, composer, _say, sweeping=multirun, api_key=api_key) for each in cells]
    with terminating_as_exception():
        for number, each in enumerate(attempts, 1):
            each.title = f"[{number}/{len(attempts)}] {' '.join(each.overrides)}" if multirun else ""
            _judge(each, multirun=multirun)
        tried = [Cell(each) for each in attempts]
        able = [each for each in tried if not each.records]
        if multirun:
            count = len(start.groups([each.last for each in able]))
            _say(f"{len(able)} of {len(tried)} cells can run, with {count} {'start' if count == 1 else 'starts'}")
        _measure(able)
    records = [record for each in tried for record in each.records]
    if multirun or records[0].metrics is not None:
        sys.stdout.write(report.result_table([each.records for each in tried]) + "\n")
    runs = sorted({str(Path(r.path).parent.parent.parent) for r in records})
    planned = tried[0].last.planned
    if not multirun and records[0].status == "ok" and planned and planned.advice:
        _say(outlook.closing(planned.advice))
    is_one = not multirun and len(records) == 1
    _say(f"record: {records[0].path}" if is_one else f"{len(records)} records below {', '.join(runs)}")
    return exit_code(records)


def _judge(attempt: Attempt, *, multirun: bool) -> None:
    """Decide; a cell that is refused has its record at once."""
    try:
        planned = attempt.judge()
    except XinferError as error:
        made = attempt.close(error)
        if attempt.title:
            _say(f"\n{attempt.title}")
        if made.status == "refused" and attempt.planned is not None and not multirun:
            sys.stdout.write(report.plan_text(forecast.foreseen(attempt.planned)))
        _tell(made)
    except Exception as unforeseen:  # noqa: BLE001 -- one cell's defect must not take the others' records along
        _tell(attempt.close(report.defect(unforeseen)))
    else:
        if not multirun:
            _say(report.summary(planned))


def _measure(cells: Sequence[Cell]) -> None:
    """Measure all in turns, until each has been measured often enough."""
    turn = 0
    while cells:
        for number, group in enumerate(start.groups([each.last for each in cells])):
            if turn or number:
                time.sleep(max(keys.repeat(each.config["repeat"]).cooldown_s for each in group))
            start.measure(group, tell=_tell)
        turn += 1
        cells = [each for each in cells if each.is_wanted_again()]
        for each in cells:
            each.attempts.append(each.last.again())


def exit_code(records: Sequence[Record]) -> int:
    """Return 4 if a cell failed, 0 if one ran, else the code of what refused the last one."""
    if any(record.status == "failed" for record in records):
        return EngineError.exit_code
    if any(record.status == "ok" for record in records):
        return 0
    failure = records[-1].failure
    return failure.exit_code if failure and len(records) == 1 else Refused.exit_code


def _tell(made: Record) -> None:
    """Say why a cell has no numbers."""
    if made.failure is not None:
        _say(f"xinfer: {report.one_line(made.failure.message)}")
        for line in made.failure.details:
            _say(f"  {report.one_line(line)}")


def _say(line: str) -> None:
    """Tell what goes on, beside the results on standard output."""
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()
