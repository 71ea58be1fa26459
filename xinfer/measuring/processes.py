"""Processes and what they have used: memory now and at its highest, and CPU time, also of those that have ended."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import psutil

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_KIB = 1024
_PAGE = os.sysconf("SC_PAGE_SIZE")
_TICKS = os.sysconf("SC_CLK_TCK")
_IS_LINUX = sys.platform == "linux"
_CPU, _START, _RSS = slice(11, 15), 19, 21
"""Where ``/proc/PID/stat`` has them, counted from the state, which follows the name (proc_pid_stat(5))."""

Id = tuple[int, int]
"""A process's number, and when it started: numbers are given again."""


class Reading(NamedTuple):
    """One process at one instant."""

    own_s: float
    """CPU time of all its threads."""
    reaped_s: float
    """The same of its children that have ended and that it has waited for, with theirs; 0 where that is not told."""
    rss: int

    @property
    def whole_s(self) -> float:
        """Its own CPU time and that of its ended children."""
        return self.own_s + self.reaped_s


def read(pids: Iterable[int]) -> dict[Id, Reading]:
    """Read processes; one that has ended, or is not to be read, is not among the readings."""
    found: dict[Id, Reading] = {}
    for pid in pids:
        with suppress(OSError, psutil.Error):
            identity, reading = _linux(pid) if _IS_LINUX else _elsewhere(pid)
            found[identity] = reading
    return found


def _linux(pid: int) -> tuple[Id, Reading]:
    words = parse(Path(f"/proc/{pid}/stat").read_bytes())
    return (pid, words[0]), words[1]


def parse(stat: bytes) -> tuple[int, Reading]:
    """Read ``/proc/PID/stat``: when the process started, and what it has used; its name may contain anything."""
    words = stat.rpartition(b")")[2].split()
    user, system, reaped_user, reaped_system = (int(word) / _TICKS for word in words[_CPU])
    return int(words[_START]), Reading(user + system, reaped_user + reaped_system, int(words[_RSS]) * _PAGE)


def _elsewhere(pid: int) -> tuple[Id, Reading]:
    process = psutil.Process(pid)
    with process.oneshot():
        times = process.cpu_times()
        return (pid, int(process.create_time())), Reading(times.user + times.system, 0.0, process.memory_info().rss)


class Account:
    """The CPU time of a changing set of processes, since the first reading."""

    def __init__(self) -> None:
        """Begin without any process."""
        self._before: dict[Id, Reading] = {}
        self._last: dict[Id, Reading] = {}
        self._began = False
        self.seconds = 0.0

    def add(self, readings: Mapping[Id, Reading]) -> float:
        """Take in what was read now, and return the CPU seconds so far.

        Where those that ended were waited for by one of the others, the system has added their time to it, to the
        last moment, also of processes that came and went between two readings. Where not, their last readings count.
        """
        if not self._began:
            self._before, self._began = dict(readings), True
        self._last |= readings
        known = sum(last.own_s - self._start(one).own_s for one, last in self._last.items())
        whole = sum(reading.whole_s for reading in readings.values()) - sum(r.whole_s for r in self._before.values())
        self.seconds = max(self.seconds, known, whole)
        return self.seconds

    def _start(self, one: Id) -> Reading:
        return self._before.get(one, Reading(0.0, 0.0, 0))


def cores(pids: Iterable[int]) -> tuple[int, ...] | None:
    """Return the cores that any of some processes may run on; null where the system does not tell, or none lives."""
    if not hasattr(os, "sched_getaffinity"):
        return None
    found: set[int] = set()
    for pid in pids:
        with suppress(OSError):
            found |= os.sched_getaffinity(pid)
    return tuple(sorted(found)) or None


def peak_rss(pids: Iterable[int]) -> int | None:
    """Return the sum of each process's own highest resident size, in bytes; null when none can be read.

    Pages that several share count once for each.
    """
    sizes: list[int] = []
    for pid in pids:
        with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            sizes.append(_mark(pid))
    return sum(sizes) if sizes else None


def _mark(pid: int) -> int:
    """Return the kernel's own high-water mark where it keeps one, else what is resident now."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        lines = []
    mark = next((line.split()[1] for line in lines if line.startswith("VmHWM:")), None)
    return int(mark) * _KIB if mark else int(psutil.Process(pid).memory_info().rss)


def pss(pids: Iterable[int]) -> int | None:
    """Return what processes hold in memory together, in bytes, each shared page counted once over all that share it.

    The kernel walks all their pages for it, which takes milliseconds for each gigabyte. Null where one cannot be read.
    """
    total, count = 0, 0
    for pid in pids:
        try:
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii", errors="replace").splitlines()
        except (FileNotFoundError, ProcessLookupError):  # it has ended, or this system does not tell
            continue
        except OSError:
            return None
        total += sum(int(line.split()[1]) * _KIB for line in lines if line.startswith("Pss:"))
        count += 1
    return total if count else None
