"""The load's processes, from their start to their end: nothing of them is left however xinfer ends."""

from __future__ import annotations

import math
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Self

from xinfer.errors import RequestError
from xinfer.measuring import orders
from xinfer.measuring.orders import LENGTH, Batch, Ready, Report, Start
from xinfer.measuring.schedule import last_s

if TYPE_CHECKING:
    from collections.abc import Sequence

    from xinfer.measuring.orders import Order, Word
    from xinfer.measuring.samples import Sample

MODULE = "xinfer.measuring.worker"
READY_S = 120.0
"""How long a worker may take to begin; a second is usual."""
HEAD_START_S = 0.05
"""Between the word to start and the start, so that all workers hear of it before."""
REPORT_S = 60.0
"""How long a worker may be silent while it reads what came back."""
DEATH_S = 10.0
"""How long a worker that has hung up may take to end."""
STREAMS = 512
"""How many streams one worker carries with stamps that are milliseconds late at most."""
DELIVERIES_PER_S = 40_000
"""How many a worker stamps in half of its core's time, at 12 microseconds for one."""
ENGINE_SHARE = 4
"""Of so many cores, one is the load's."""


def cores(streams: int, deliveries_per_s: float, usable: Sequence[int | None]) -> tuple[int | None, ...]:
    """Return the core of each worker that such a load takes: the last of those that may be used.

    Null is a worker that goes where the system puts it: where there is one core only, or cores cannot be chosen.
    """
    wanted = max(1, math.ceil(streams / STREAMS), math.ceil(deliveries_per_s / DELIVERIES_PER_S))
    count = min(wanted, max(1, len(usable) // ENGINE_SHARE), streams)
    return tuple(usable[-count:]) if len(usable) > 1 else (None,)


def environment() -> dict[str, str]:
    """Return the variables of a Python that has its modules from where this one has them, wherever it is started."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(str(Path(path).absolute()) for path in sys.path)}


class Crew:
    """Workers with one order each, for the length of a ``with`` body."""

    def __init__(self, given: Sequence[Order]) -> None:
        self._orders = given
        self._members: list[_Member] = []
        self._selector = selectors.DefaultSelector()
        self.samples: list[Sample] = []

    def __enter__(self) -> Self:
        """Start the processes and hand out the orders."""
        try:
            for _ in self._orders:
                member = _Member()
                self._members.append(member)
                self._selector.register(member.reports, selectors.EVENT_READ, member)
            for member, order in zip(self._members, self._orders, strict=True):
                member.tell(order)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """End what still runs; what was asked of it is not wanted any more."""
        for member in self._members:
            member.end()
        self._selector.close()

    @property
    def reports(self) -> list[Report]:
        """What the workers said last, in the order of their numbers."""
        return [member.report for member in self._members if member.report is not None]

    def run(self) -> None:
        """Let all workers work, phase by phase from common instants; raise RequestError if one dies or hangs."""
        limit_s = READY_S
        for phases in zip(*(order.phases for order in self._orders), strict=True):
            self._hear(Ready, limit_s)
            start = Start(time.perf_counter_ns() + round(HEAD_START_S * 1e9))
            for member in self._members:
                member.tell(start)
            limit_s = READY_S + max(
                last_s(phase, order.timeout_s, order.seconds) for phase, order in zip(phases, self._orders, strict=True)
            )
        self._hear(Report, limit_s)

    def _hear(self, kind: type[Ready | Report], limit_s: float) -> None:
        """Wait for a word of one kind from every worker, and keep what else they say."""
        deadline_s = time.monotonic() + limit_s
        waiting = set(self._members)
        while waiting:
            ready = self._selector.select(max(0.0, deadline_s - time.monotonic()))
            if not ready:
                raise RequestError(f"the load generator did not answer within {limit_s:g} s, and was ended")
            for key, _ in ready:
                for word in key.data.words():
                    if isinstance(word, kind):
                        waiting.discard(key.data)
                    if isinstance(word, Report):
                        key.data.report = word
                        self._selector.unregister(key.fd)
                    elif isinstance(word, Batch):
                        self.samples += word.samples
                        deadline_s = max(deadline_s, time.monotonic() + REPORT_S)


class _Member:
    """One worker's process."""

    def __init__(self) -> None:
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 -- closed with the process
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", MODULE],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            bufsize=0,
            env=environment(),
            start_new_session=True,  # an interrupt of the terminal is xinfer's alone
        )
        self._heard = bytearray()
        self.report: Report | None = None

    @property
    def reports(self) -> int:
        """The descriptor to read from."""
        return self._pipes()[1]

    def _pipes(self) -> tuple[int, int]:
        stdin, stdout = self._process.stdin, self._process.stdout
        if stdin is None or stdout is None:
            raise RuntimeError("a worker without pipes")
        return stdin.fileno(), stdout.fileno()

    def tell(self, value: object) -> None:
        """Say something; a worker that is dead is an error."""
        try:
            orders.write(self._pipes()[0], value)
        except OSError:
            raise self._death() from None

    def words(self) -> list[Word]:
        """Return what was said since, as far as it is complete."""
        piece = os.read(self.reports, orders.PIECE)
        if not piece:
            raise self._death()
        self._heard += piece
        found: list[Word] = []
        while len(self._heard) >= LENGTH.size:
            end = LENGTH.size + LENGTH.unpack_from(self._heard)[0]
            if len(self._heard) < end:
                break
            found.append(orders.read_word(bytes(self._heard[LENGTH.size : end])))
            del self._heard[:end]
        return found

    def _death(self) -> RequestError:
        """Say how it died, and what it said."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(DEATH_S)
        self._process.kill()
        status = self._process.wait()
        how = f"was killed by {signal.Signals(-status).name}" if status < 0 else f"ended with exit code {status}"
        self._errors.seek(0)
        said = self._errors.read()[-4096:].decode(errors="replace").splitlines()[-10:]
        return RequestError(f"the load generator {how} while it worked", details=tuple(said))

    def end(self) -> None:
        """Kill it, unless it has ended, and let go of it."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout, self._errors):
            if pipe is not None:
                pipe.close()
