"""A job's process: reads the job, measures its cells as any sweep does, and writes the outcome to standard output.

Run as ``python -m xinfer.launching.errand`` by ``work.py``; whoever wrote the job is gone when the input ends.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import tempfile
import threading
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from xinfer import __version__, engines
from xinfer.config.compose import Composer
from xinfer.environments import locks
from xinfer.errors import EngineError, XinferError
from xinfer.launching import job
from xinfer.launching.job import Job, Outcome
from xinfer.launching.work import HEAD
from xinfer.running.runner import terminating_as_exception
from xinfer.verbs import report, sweep
from xinfer.verbs.agenda import Cell
from xinfer.verbs.cell import Attempt


def main() -> None:
    """Answer one job."""
    answer = os.dup(sys.stdout.fileno())
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # whatever is printed is no answer
    stdin = sys.stdin.buffer
    asked = job.unpacked(stdin.read(int.from_bytes(stdin.read(HEAD))), Job)
    with terminating_as_exception():
        threading.Thread(target=_end_with_the_input, daemon=True).start()
        found = job.packed(outcome(asked))
    with os.fdopen(answer, "wb") as stream:
        stream.write(found)


def _end_with_the_input() -> None:
    while os.read(sys.stdin.fileno(), 1):  # a buffered reader would be in the way when this process ends
        pass
    os.kill(os.getpid(), signal.SIGTERM)


def outcome(asked: Job) -> Outcome:
    """Measure a job's cells, and return what came of it; it never raises."""
    host = socket.gethostname()
    try:
        with tempfile.TemporaryDirectory(prefix="xinfer-job-") as name, _turn(is_alone=asked.is_alone):
            return Outcome(host=host, runs=_measured(asked, Path(name)))
    except XinferError as error:
        return Outcome(host=host, failure=str(error), details=error.details)
    except Exception as unforeseen:  # noqa: BLE001 -- it is told at home
        defect = report.defect(unforeseen)
        return Outcome(host=host, failure=str(defect), details=defect.details)


def _turn(*, is_alone: bool) -> AbstractContextManager[object]:
    """Wait until this user's other jobs on this machine have ended, as they would be measured too."""
    if not is_alone:
        return nullcontext()
    place = Path(tempfile.gettempdir()) / f"xinfer-jobs-of-{os.getuid()}"
    return locks.held(place, waiting=lambda: _say("waiting for another job on this machine"))


def _measured(asked: Job, place: Path) -> tuple[job.Run, ...]:
    if asked.xinfer != __version__:
        raise EngineError(f"the job was sent by xinfer {asked.xinfer}, and here is xinfer {__version__}")
    composer = Composer([*job.laid_out(asked.directories, place / "conf"), *engines.conf_directories()])
    attempts = [Attempt(cell, composer, _say, sweeping=True) for cell in asked.cells]
    for attempt, title in zip(attempts, asked.titles, strict=True):
        attempt.title, attempt.place = title, place / "runs"
    cells = [Cell(attempt) for attempt in attempts]
    for cell, kept in zip(cells, asked.kept, strict=True):
        cell.kept = kept
    sweep.obey(cells, [asked.capacity])
    made = ((number, each.record) for number, cell in enumerate(cells) for each in cell.attempts)
    return tuple(job.gathered(number, each) for number, each in made if each is not None)


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    main()
