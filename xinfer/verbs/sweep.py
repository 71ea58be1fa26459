"""One cell or many: all are judged before any is started; a cell that is refused or fails never ends the sweep.

Cells that differ in nothing but the workload share a server (``start.py``). Repeats take turns: every cell is measured
once before any is measured again, so that a busy moment does not favour one of them.
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from xinfer import forecast, judgement, keys, record
from xinfer.config.pieces import Pieces
from xinfer.errors import EngineError, Refused, XinferError
from xinfer.running.runner import terminating_as_exception
from xinfer.verbs import agenda, earlier, outlook, report, start
from xinfer.verbs.agenda import Cell
from xinfer.verbs.cell import Attempt

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from xinfer.config.compose import Composer
    from xinfer.record import Record
    from xinfer.spec import Workload

__all__ = ["Carrier", "Cell", "carried_out", "exit_code", "obey", "run"]


class Carrier(Protocol):
    """Has cells measured in other processes, or on other machines."""

    @property
    def is_elsewhere(self) -> bool:
        """Whether on other machines than this one."""

    def measured(self, cells: Sequence[Cell], tell: Callable[[Record], None]) -> None:
        """Give every cell its records, and tell each."""

    def kept(self, cell: Cell, *, resume: str) -> tuple[Record, ...]:
        """Return what an earlier sweep had measured elsewhere of the same cell."""


def run(
    cells: Sequence[Sequence[str]],
    composer: Composer,
    *,
    multirun: bool,
    api_key: str | None = None,
    carrier: Carrier | None = None,
) -> int:
    """Run every cell, print the closing table, and return the exit code of the worst one.

    The worst is a failure (4); then, if no cell ran, a refusal (3); a sweep in which some cells ran
    and the rules refused the others is 0.
    """
    tried = carried_out(cells, composer, multirun=multirun, api_key=api_key, carrier=carrier)
    if _is_dry(tried):
        errors = [each.error.exit_code for each in tried if each.error is not None]
        return _of_refusals(errors) if len(errors) == len(tried) else 0
    records = [record for each in tried for record in each.records]
    if multirun or records[0].metrics is not None:
        sys.stdout.write(report.result_table([each.records for each in tried]) + "\n")
    runs = sorted({str(Path(r.path).parent.parent.parent) for r in records})
    planned = tried[0].last.planned
    if not multirun and records[0].status == "ok" and planned and planned.advice:
        _say(outlook.closing(planned.advice))
    if multirun:
        _say(_closing(tried))
    is_one = not multirun and len(records) == 1
    many = "1 record" if len(records) == 1 else f"{len(records)} records"
    _say(f"record: {records[0].path}" if is_one else f"{many} below {', '.join(runs)}")
    return exit_code(records)


def carried_out(
    cells: Sequence[Sequence[str]],
    composer: Composer,
    *,
    multirun: bool,
    api_key: str | None = None,
    carrier: Carrier | None = None,
) -> list[Cell]:
    """Judge all, say what is going to be done, and do it; every cell comes back with its records, unless ``dry=true``.

    ``carrier`` has them measured; null: they are measured here. What an earlier sweep has finished of the same cells is
    kept as ``resume=`` says. That is all of it unless something else is said, failures too: the same command then
    ends at once where there is nothing left to do, and says again how the sweep ended.
    """
    shared = Pieces.over(composer) if len(cells) > 1 else composer
    attempts = [Attempt(each, shared, _say, sweeping=multirun, api_key=api_key) for each in cells]
    with terminating_as_exception():
        for number, each in enumerate(attempts, 1):
            each.is_elsewhere = carrier is not None and carrier.is_elsewhere
            each.title = f"[{number}/{len(attempts)}] {' '.join(each.overrides)}" if multirun else ""
        tried = [Cell(each) for each in attempts]
        for cell in tried:
            _judge(cell, multirun=multirun)
        _settle([each for each in tried if each.error is None and not each.last.is_elsewhere])
        is_dry = _is_dry(tried)
        for cell in tried:
            _look_back(cell, carrier, multirun=multirun)
            if cell.error is not None and not cell.kept and not is_dry:
                _refuse(cell, cell.error, multirun=multirun)
        due = [each for each in tried if each.is_due]
        _announce(tried, due, multirun=multirun, is_dry=is_dry)
        if not is_dry and due:
            _carry_out(tried, due, carrier)
    return tried


def obey(cells: Sequence[Cell], more: Sequence[Workload]) -> None:
    """Measure what another process's sweep has found to be due, on servers that could carry ``more`` as well."""
    for cell in cells:
        _judge(cell, multirun=True)
    _settle([each for each in cells if each.error is None], more)
    for cell in cells:
        if cell.error is not None:
            _refuse(cell, cell.error, multirun=True)
    _in_turns([each for each in cells if each.is_due])


def _judge(cell: Cell, *, multirun: bool) -> None:
    """Decide whether a cell can run."""
    try:
        planned = cell.last.judge()
    except XinferError as error:
        cell.error = error
    except Exception as unforeseen:  # noqa: BLE001 -- one cell's defect must not take the others' records along
        cell.error = report.defect(unforeseen)
    else:
        if not multirun:
            _say(report.summary(planned))


def _settle(cells: Sequence[Cell], more: Sequence[Workload] = ()) -> None:
    """Plan every server for all that it will carry, what is kept of it included: only then cells have their ids."""
    owner = {id(each.last): each for each in cells}
    for group in start.groups([each.last for each in cells]):
        try:
            start.settle(group, more)
        except XinferError as error:
            for each in group:
                owner[id(each)].error = error


def _look_back(cell: Cell, carrier: Carrier | None, *, multirun: bool) -> None:
    """Take over what an earlier sweep has finished; a single run is always measured."""
    attempt, said = cell.last, cell.last.said("resume")
    resume = "off" if said is False or not multirun else str(said or "all")
    place = attempt.directory.parent
    if cell.error is None and carrier is not None and carrier.is_elsewhere:
        cell.kept = carrier.kept(cell, resume=resume)
    elif cell.error is not None:
        cell.kept = earlier.refused(place, attempt.cell, record.failure(cell.error, attempt.api_key), resume=resume)
    else:
        most = cell.repeat.most or cell.repeat.least
        machine = judgement.this_machine().id
        cell.kept = earlier.measured(place, attempt.cell, machine, resume=resume, most=most)


def _refuse(cell: Cell, error: XinferError, *, multirun: bool) -> None:
    """Write the record of a cell that cannot run."""
    made, planned = cell.last.close(error), cell.last.planned
    if multirun and made.status == "refused":
        return
    if made.status == "refused" and planned is not None:
        sys.stdout.write(report.plan_text(forecast.foreseen(planned)))
    _tell(made)


def _announce(tried: Sequence[Cell], due: Sequence[Cell], *, multirun: bool, is_dry: bool) -> None:
    """Say what the sweep is going to do; that is the result if it is all that was asked for."""
    if multirun or is_dry:
        text = "\n".join(agenda.lines(tried, _groups(due)))
        if is_dry:
            sys.stdout.write(f"{text}\n")
        else:
            _say(text)


def _groups(cells: Sequence[Cell]) -> list[list[Attempt]]:
    return start.in_order(start.groups([each.last for each in cells]))


def _carry_out(tried: Sequence[Cell], due: Sequence[Cell], carrier: Carrier | None) -> None:
    try:
        if carrier is None:
            _in_turns(due)
        else:
            carrier.measured(due, _tell)
    except BaseException:
        skipped = sum(not each.records for each in tried)
        if len(tried) > 1:
            _say(f"cells: {len(tried) - skipped} done, {skipped} skipped; the same command goes on with them")
        raise


def _is_dry(cells: Sequence[Cell]) -> bool:
    return any(each.last.said("dry") in (True, "true") for each in cells)


def _closing(cells: Sequence[Cell]) -> str:
    """Count the cells by what became of them."""
    found = Counter(each.records[-1].status for each in cells)
    kept = sum(bool(each.kept) and each.last.record is None for each in cells)
    counts = ", ".join(f"{found[status]} {status}" for status in ("ok", "refused", "failed"))
    return f"{counts}{f'; {kept} of them kept from an earlier sweep' if kept else ''}"


def _in_turns(cells: Sequence[Cell]) -> None:
    """Measure all in turns, until each has been measured often enough."""
    while cells:
        measured(_groups(cells), _tell)
        cells = [each for each in cells if each.is_due]
        for each in cells:
            each.attempts.append(each.last.again())
        if cells:
            _cool([each.last for each in cells])


def measured(groups: Sequence[Sequence[Attempt]], tell: Callable[[Record], None]) -> None:
    """Measure each group with a start of its own, here and one after another; all attempts are closed then."""
    for number, group in enumerate(groups):
        if number:
            _cool(group)
        start.measure(group, tell=tell)


def _cool(attempts: Sequence[Attempt]) -> None:
    """Pause as long as the most patient of those that come next asks for."""
    time.sleep(max(keys.repeat(each.config["repeat"]).cooldown_s for each in attempts))


def exit_code(records: Sequence[Record]) -> int:
    """Return 4 if a cell failed, 0 if one ran, 2 if none was understood, else 3."""
    if any(record.status == "failed" for record in records):
        return EngineError.exit_code
    if any(record.status == "ok" for record in records):
        return 0
    return _of_refusals([record.failure.exit_code for record in records if record.failure])


def _of_refusals(codes: Sequence[int]) -> int:
    """Return the one code that all have; cells that are refused for several kinds of reason are refused."""
    return codes[0] if len(set(codes)) == 1 else Refused.exit_code


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
