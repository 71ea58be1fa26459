"""A sweep's cells handed to a launcher: what shares a server is one job; its records come home as it ends.

Repeats are measured inside their job, so that all are of one machine. A job that dies is sent again.
"""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from xinfer.errors import LaunchError, XinferError
from xinfer.launching import job, launchers
from xinfer.launching.job import Job, Outcome
from xinfer.launching.launcher import Need
from xinfer.machine import hardware
from xinfer.measuring.validity import Flag
from xinfer.verbs import start
from xinfer.verbs.earlier import Carried

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from xinfer.config.launcher import Chosen
    from xinfer.launching.launcher import Launcher
    from xinfer.record import Record
    from xinfer.verbs.agenda import Cell
    from xinfer.verbs.cell import Attempt

    Tell = Callable[[Record], None]
    Group = Sequence[Cell]


@contextmanager
def opened(chosen: Chosen, directories: Sequence[Path]) -> Iterator[Dispatch]:
    """Make a launcher ready for what goes along with every job, and end with it whatever it still runs."""
    with launchers.opened(chosen.name, chosen.node) as launcher:
        yield Dispatch(launcher, directories)


class Dispatch:
    """A launcher, and what goes along with every job."""

    def __init__(self, launcher: Launcher, directories: Sequence[Path]) -> None:
        """Send what ``launcher`` carries the user's own configuration ``directories``."""
        self._launcher = launcher
        self._files = job.configuration(directories)
        self._earlier: dict[Path, Carried] = {}
        self._is_over = threading.Event()

    @property
    def is_elsewhere(self) -> bool:
        """Whether jobs run on other machines than this one."""
        return self._launcher.is_elsewhere

    def kept(self, cell: Cell, *, resume: str) -> tuple[Record, ...]:
        """Return what an earlier sweep had measured elsewhere of the same cell, on whichever machine that was."""
        runs = cell.last.directory.parent.parent
        if runs not in self._earlier:
            self._earlier[runs] = Carried(runs)
        return self._earlier[runs].of(cell.last.config, resume=resume, most=cell.repeat.most or cell.repeat.least)

    def measured(self, cells: Sequence[Cell], tell: Tell) -> None:
        """Give every cell its records, each told as soon as it is home."""
        owner = {id(cell.last): cell for cell in cells}
        groups = [[owner[id(each)] for each in group] for group in start.groups([cell.last for cell in cells])]
        at_once = min(self._launcher.at_once, len(groups))
        with ThreadPoolExecutor(max_workers=at_once) as threads:
            sent = {threads.submit(self._outcome, group): group for group in groups}
            try:
                for done in as_completed(sent):
                    self._take_home(sent[done], done.result(), tell, self._flags(at_once))
            except BaseException:
                self._is_over.set()
                threads.shutdown(wait=False, cancel_futures=True)
                self._launcher.stop()
                raise

    def _outcome(self, group: Group) -> Outcome:
        """Send a job until one of its tries has an outcome, or none is left."""
        first, settings = group[0].last, self._launcher.settings
        asked = Job(
            cells=tuple(cell.last.overrides for cell in group),
            titles=tuple(cell.last.title for cell in group),
            kept=tuple(tuple(job.headed(made) for made in cell.kept) for cell in group),
            capacity=first.asked.capacity,
            directories=self._files,
            cwd=str(Path.cwd()),
            is_alone=settings.alone,
        )
        packed, need = job.packed(asked), _need(first, self._launcher)
        for left in range(settings.retries, -1, -1):
            found = self._tried(packed, need)
            if found.failure is None or self._is_over.is_set() or not left:
                break
            first.progress(f"{first.title}: {found.failure}; it is sent again")
        return found

    def _tried(self, packed: bytes, need: Need) -> Outcome:
        try:
            return job.unpacked(self._launcher.call(packed, need), Outcome)
        except XinferError as error:
            return Outcome(host="", failure=str(error), details=error.details)
        except Exception as error:  # noqa: BLE001 -- whatever ends a job elsewhere, some library raises it here
            words, *rest = str(error).strip().splitlines() or [""]
            return Outcome(host="", failure=f"the job died: {type(error).__name__}: {words}", details=tuple(rest[-8:]))

    def _flags(self, at_once: int) -> tuple[dict[str, Any], ...]:
        """Return the flag of records whose cells may have been measured beside each other."""
        if self._launcher.settings.alone or at_once == 1:
            return ()
        text = "hydra.launcher.alone=false: other cells of the sweep may have been measured on this machine meanwhile"
        return (msgspec.to_builtins(Flag(id="noisy", value=at_once, limit=1, text=text)),)

    def _take_home(self, group: Group, outcome: Outcome, tell: Tell, flags: Sequence[dict[str, Any]]) -> None:
        """Give every cell of a job its records; without any, the reason for that."""
        for number, cell in enumerate(group):
            runs = [run for run in outcome.runs if run.number == number]
            where = f"came home from {outcome.host}" if runs else "is lost"
            cell.last.progress(f"{cell.last.title}: {where}")
            if not runs:
                why = outcome.failure or "the job ended without a record of this cell"
                tell(cell.last.close(LaunchError(why, details=outcome.details)))
            for run in runs:
                if cell.last.record is not None:
                    cell.attempts.append(cell.last.again())
                base = cell.last.directory.parent.parent
                cell.last.record = job.settled(run, base, launcher=self._launcher.name, flags=flags)
                tell(cell.last.record)


def _need(attempt: Attempt, launcher: Launcher) -> Need:
    """Return what the launch plan uses; that of hw=auto is of this machine, and says nothing of another one."""
    launch, machine = attempt.judged.launch, attempt.asked.hardware
    if launch is None or (launcher.is_elsewhere and hardware.is_read(attempt.config["hw"])):
        return Need()
    return Need(gpus=launch.tensor * launch.stages if launch.device == "gpu" else 0, cores=machine.cores)
