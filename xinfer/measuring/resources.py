"""What a server and its machine used while it was measured: looked at ten times a second, by a thread of this process.

Memory, CPU time and devices are read at each look; the machine's own counters and who belongs to the server's tree once
a second. All looks are kept, so that any part of the time can be added up afterwards.
"""

from __future__ import annotations

import os
import threading
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import psutil

from xinfer import guard
from xinfer.machine import counters, devices
from xinfer.measuring import processes
from xinfer.measuring.usage import Look, Record, Survey

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from xinfer.machine.devices import Card, Reading

INTERVAL_S = 0.1
SURVEY_S = 1.0
SHARE = 0.01
"""The part of a core that surveys may take: where there are thousands of processes, they come less often."""
MOST = 2**14
"""How many looks are kept: half an hour of them. After that each two become one, and the next are twice as rare."""


class Watch:
    """A server being watched; :func:`watching` makes one."""

    def __init__(self, pids: Callable[[], Iterable[int]], cards: Sequence[Card], root: Path) -> None:
        """Look for the first time; ``pids`` returns the server's processes as they are now."""
        self._pids, self._cards, self._root = pids, cards, root
        self._server, self._ours = processes.Account(), processes.Account()
        self._energy = counters.Energy(root)
        self._cpus = processes.cores([os.getpid()])
        self._interval_s, self._cost_s = INTERVAL_S, 0.0
        self._looks: list[Look] = []
        self._surveys: list[Survey] = []
        self._members: tuple[int, ...] = ()
        self._peak_rss: int | None = None
        self._pss: int | None = None
        self._end = threading.Event()
        self._survey()
        self._look()
        self._pss = processes.pss(self._members)
        self._thread = threading.Thread(target=self._run, name="resources", daemon=True)

    @property
    def seen(self) -> Record:
        """Everything that was seen so far."""
        return Record(
            peak_rss=self._peak_rss,
            pss=self._pss,
            cost_s=round(self._cost_s, 6),
            own_cores=self._cpus,
            looks=tuple(self._looks),
            surveys=tuple(self._surveys),
        )

    def start(self) -> None:
        """Go on looking, in a thread."""
        self._thread.start()

    def stop(self) -> None:
        """Look for the last time."""
        self._end.set()
        self._thread.join()
        with suppress(OSError):
            self._survey()
            self._look()
            self._pss = _larger(self._pss, processes.pss(self._members))

    def _run(self) -> None:
        due_s = time.monotonic() + SURVEY_S
        while not self._end.wait(self._interval_s):
            before_s = time.thread_time()
            with suppress(OSError):  # a look that fails, as for want of file descriptors, must not end a measurement
                if time.monotonic() >= due_s:
                    due_s = time.monotonic() + SURVEY_S
                    self._survey()
                    due_s += max(0.0, (time.thread_time() - before_s) / SHARE - SURVEY_S)
                self._look()
            self._cost_s += time.thread_time() - before_s

    def _look(self) -> None:
        readings = processes.read(self._members)
        states = [card.read() for card in self._cards]
        self._looks.append(
            Look(
                t_ns=time.perf_counter_ns(),
                rss=sum(reading.rss for reading in readings.values()),
                cpu_s=self._server.add(readings),
                vram=tuple(state.used_bytes for state in states),
                busy=tuple(state.busy for state in states),
            )
        )
        if len(self._looks) >= MOST:
            self._looks = [merged(*pair) for pair in zip(self._looks[::2], self._looks[1::2], strict=False)]
            self._interval_s *= 2

    def _survey(self) -> None:
        """See which processes there are, and read what the machine has counted."""
        self._members = tuple(self._pids())
        self._peak_rss = _larger(self._peak_rss, processes.peak_rss(self._members))
        everybody = {*guard.tree(guard.processes(), os.getpid()), os.getpid(), *self._members}
        found, states = counters.read(self._root, self._cpus or ()), [card.read() for card in self._cards]
        ours_s = self._ours.add(processes.read(everybody))
        self._surveys.append(
            Survey(
                t_ns=time.perf_counter_ns(),
                ours_s=ours_s,
                cpus=found.cpus or psutil.cpu_count(),
                busy_s=_busy_s() if found.busy_s is None else found.busy_s,
                stolen_s=found.stolen_s,
                throttles=found.throttles,
                held_s=found.held_s,
                frequency_ghz=found.frequency_ghz,
                cpu_joules=self._energy.joules(),
                gpu_joules=_joules(states),
                server_cores=processes.cores(self._members),
                slowed=tuple(dict.fromkeys(reason for state in states for reason in state.slowed)),
            )
        )


@contextmanager
def watching(pids: Callable[[], Iterable[int]], root: Path | None = None) -> Iterator[Watch]:
    """Watch a server for the length of the body; its ``seen`` is complete afterwards."""
    with devices.opened(root or Path("/"), os.environ) as cards:
        watch = Watch(pids, cards, root or Path("/"))
        watch.start()
        try:
            yield watch
        finally:
            watch.stop()


def write(seen: Record, path: Path) -> None:
    """Write JSON lines: the totals under the key ``resources``, then each look and each survey as a list."""
    totals = ("peak_rss", "pss", "cost_s", "own_cores")
    head = {"resources": {name: getattr(seen, name) for name in totals}}
    path.write_bytes(msgspec.json.Encoder().encode_lines([head, *seen.looks, *seen.surveys]))


def merged(first: Look, second: Look) -> Look:
    """Make one look of two: memory at its higher, all else as it was later."""
    vram = tuple(
        max((v for v in pair if v is not None), default=None) for pair in zip(first.vram, second.vram, strict=True)
    )
    return msgspec.structs.replace(second, rss=max(first.rss, second.rss), vram=vram)


def _larger(one: int | None, other: int | None) -> int | None:
    return max((value for value in (one, other) if value is not None), default=None)


def _busy_s() -> float:
    times = psutil.cpu_times()
    return float(times.user + times.nice + times.system)


def _joules(states: Sequence[Reading]) -> float | None:
    """Return the energy of all devices; null where one does not tell, and where there is none."""
    found = [state.joules for state in states if state.joules is not None]
    return sum(found) if found and len(found) == len(states) else None
