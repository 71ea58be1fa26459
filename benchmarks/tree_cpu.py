"""How much CPU a tree of processes has used at an instant that is known only afterwards. Linux alone.

A thread reads each process's own CPU clock ten times a second, which is exact and costs microseconds; between two
readings the use is interpolated. A process that ends keeps what was last read of it. The kernel's part of it is read in
hundredths of a second.
"""

from __future__ import annotations

import bisect
import os
import threading
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

PROCESS_CLOCK = 2
"""What the kernel adds to a process's number, turned over, to name the clock of its CPU time (CPUCLOCK_SCHED)."""
KERNEL_FIELD = 12
"""Where the kernel's part stands behind a process's name in /proc/PID/stat, in ticks (proc(5): stime)."""
TICK_S = 0.1
TICKS_PER_SEARCH = 3
"""After so many readings, new processes are looked for."""


class Used(NamedTuple):
    """CPU seconds."""

    total: float
    kernel: float


NOTHING = Used(0.0, 0.0)


class TreeCpu:
    """What everything that this process has started has used, itself left out."""

    def __init__(self, but: int | None) -> None:
        self._but = but
        self.used: dict[int, Used] = {}
        self.instants: list[int] = []
        self.sums: list[Used] = []
        self._over = threading.Event()

    def at(self, t_ns: int) -> Used:
        """Return what was used until an instant of ``time.perf_counter_ns``."""
        after = bisect.bisect_left(self.instants, t_ns)
        if after in {0, len(self.instants)}:
            return self.sums[min(after, len(self.sums) - 1)]
        begin, end = self.instants[after - 1], self.instants[after]
        part = (t_ns - begin) / (end - begin)
        return Used(*(low + (high - low) * part for low, high in zip(*self.sums[after - 1 : after + 1], strict=True)))

    @property
    def total_s(self) -> float:
        """All that was used, from start to end."""
        return self.sums[-1].total

    def watch(self) -> None:
        """Read until told to stop."""
        ticks = 0
        while True:
            if ticks % TICKS_PER_SEARCH == 0:
                self.used |= {pid: self.used.get(pid, NOTHING) for pid in descendants(os.getpid(), self._but)}
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
                self.used[pid] = Used(time.clock_gettime(~pid << 3 | PROCESS_CLOCK), _kernel_s(pid))
        self.instants.append(time.perf_counter_ns())
        self.sums.append(Used(*map(sum, zip(NOTHING, *self.used.values(), strict=True))))


def _kernel_s(pid: int) -> float:
    behind_name = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2]
    return int(behind_name.split()[KERNEL_FIELD]) / os.sysconf("SC_CLK_TCK")


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
