"""How much CPU a tree of processes has used at an instant that is known only afterwards. Linux alone.

A thread reads each process's own CPU clock ten times a second, which is exact and costs microseconds; between two
readings the use is interpolated. A process that ends keeps what was last read of it.
"""

from __future__ import annotations

import bisect
import os
import threading
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

PROCESS_CLOCK = 2
"""What the kernel adds to a process's number, turned over, to name the clock of its CPU time (CPUCLOCK_SCHED)."""
TICK_S = 0.1
TICKS_PER_SEARCH = 3
"""After so many readings, new processes are looked for."""


class TreeCpu:
    """The CPU seconds of everything that this process has started, itself left out."""

    def __init__(self, but: int | None) -> None:
        self._but = but
        self.used: dict[int, float] = {}
        self.instants: list[int] = []
        self.totals: list[float] = []
        self._over = threading.Event()

    def at(self, t_ns: int) -> float:
        """Return the seconds used until an instant of ``time.perf_counter_ns``."""
        after = bisect.bisect_left(self.instants, t_ns)
        if after in {0, len(self.instants)}:
            return self.totals[min(after, len(self.totals) - 1)]
        begin, end = self.instants[after - 1], self.instants[after]
        low, high = self.totals[after - 1], self.totals[after]
        return low + (high - low) * (t_ns - begin) / (end - begin)

    @property
    def total_s(self) -> float:
        """All that was used, from start to end."""
        return self.totals[-1]

    def watch(self) -> None:
        """Read until told to stop."""
        ticks = 0
        while True:
            if ticks % TICKS_PER_SEARCH == 0:
                self.used |= {pid: self.used.get(pid, 0.0) for pid in descendants(os.getpid(), self._but)}
            ticks += 1
            self._read()
            if self._over.wait(TICK_S):
                self._read()
                return

    def stop(self) -> None:
        """End :meth:`watch`."""
        self._over.set()

    def _read(self) -> None:
        for pid in self.used:
            with suppress(OSError):  # it has ended
                self.used[pid] = time.clock_gettime(~pid << 3 | PROCESS_CLOCK)
        self.instants.append(time.perf_counter_ns())
        self.totals.append(sum(self.used.values()))


def descendants(pid: int, but: int | None) -> Iterator[int]:
    """Yield every process that one has started, directly or not, except ``but`` and what that has started."""
    with suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in map(int, (task / "children").read_text(encoding="ascii").split()):
                if child != but:
                    yield child
                    yield from descendants(child, but)


@contextmanager
def watching(*, but: int | None = None) -> Iterator[TreeCpu]:
    """Watch what this process starts in the body; ``but`` is a process of another's."""
    tree = TreeCpu(but)
    thread = threading.Thread(target=tree.watch, daemon=True)
    thread.start()
    try:
        yield tree
    finally:
        tree.stop()
        thread.join()
