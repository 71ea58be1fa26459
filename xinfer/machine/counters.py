"""What this machine has counted since it was started: time at work, time taken by others, throttling, energy.

Linux alone tells these things. A counter that cannot be read is null.
"""

from __future__ import annotations

import os
from itertools import takewhile
from typing import TYPE_CHECKING

import msgspec

from xinfer.machine.probes import cgroups, number, pairs, text

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

_USER, _NICE, _SYSTEM, _STOLEN = 0, 1, 2, 7
"""The columns of ``/proc/stat`` (proc_stat(5)): user time holds what guests of this machine used."""
_MOST_CPUS = 64
"""Of how many CPUs the frequency is read: each costs a call into its driver."""
_ENERGY = "sys/class/powercap"


class Counters(msgspec.Struct, frozen=True, kw_only=True):
    """All counters at one instant, added up over the machine's CPUs; only differences of them mean anything."""

    cpus: int | None = None
    """How many CPUs are counted: all of the machine, or of the virtual machine."""
    busy_s: float | None = None
    """CPU time of all processes together."""
    stolen_s: float | None = None
    """CPU time in which this virtual machine would have run, and its host ran others."""
    throttles: int | None = None
    """How often a core was slowed down because it was too hot; Intel's processors count it."""
    held_s: float | None = None
    """How long a control group was kept from running because its CPU quota was used up."""
    frequency_ghz: float | None = None
    """Of the CPUs this process may use, on average, at this instant."""


def read(root: Path, cpus: Iterable[int] = ()) -> Counters:
    """Read every counter from the tree that holds ``/proc`` and ``/sys``; ``cpus`` are those this process may use."""
    totals, count = _times(root)
    tick = os.sysconf("SC_CLK_TCK")
    return Counters(
        cpus=count,
        busy_s=sum(totals[column] for column in (_USER, _NICE, _SYSTEM)) / tick if totals else None,
        stolen_s=totals[_STOLEN] / tick if totals else None,
        throttles=_throttles(root),
        held_s=_held_s(root),
        frequency_ghz=_frequency_ghz(root, cpus),
    )


def _times(root: Path) -> tuple[list[int], int | None]:
    """Return the first line of ``/proc/stat`` and how many CPUs it adds up."""
    try:
        with (root / "proc/stat").open(encoding="ascii", errors="replace") as lines:
            # What follows is a number for each interrupt, of which large machines have thousands.
            rows = [line.split() for line in takewhile(lambda line: line.startswith("cpu"), lines)]
    except OSError:
        rows = []
    totals = [int(word) for word in rows[0][1:] if word.isdecimal()] if rows else []
    return (totals, len(rows) - 1) if len(totals) > _STOLEN else ([], None)


def _throttles(root: Path) -> int | None:
    counts = [
        found
        for path in root.glob("sys/devices/system/cpu/cpu[0-9]*/thermal_throttle/core_throttle_count")
        if (found := number(text(path))) is not None
    ]
    return sum(counts) if counts else None


def _held_s(root: Path) -> float | None:
    """Return the longest time for which a control group of this process was held; one without a quota counts none."""
    held: list[float] = []
    for group in cgroups(root):
        table = pairs(text(group / "cpu.stat"), " ")
        microseconds, nanoseconds = number(table.get("throttled_usec")), number(table.get("throttled_time"))
        if microseconds is not None or nanoseconds is not None:
            held.append((microseconds or 0) / 1e6 + (nanoseconds or 0) / 1e9)
    return max(held, default=None)


def _frequency_ghz(root: Path, cpus: Iterable[int]) -> float | None:
    files = (root / f"sys/devices/system/cpu/cpu{cpu}/cpufreq/scaling_cur_freq" for cpu in sorted(cpus)[:_MOST_CPUS])
    found = [kilohertz for path in files if (kilohertz := number(text(path))) is not None]
    return sum(found) / len(found) / 1e6 if found else None


class Energy:
    """What the processors and their memory have used since this was made, by the counters of their packages.

    The counters run over every few minutes, so that it must be read more often than that. On most systems only root
    may read them (Linux ``Documentation/power/powercap``).
    """

    def __init__(self, root: Path) -> None:
        """Find the packages, and their memory where that is counted beside them."""
        zones = sorted((root / _ENERGY).glob("intel-rapl:*"))
        names = {zone: text(zone / "name") for zone in zones}
        self._ranges = {
            zone / "energy_uj": number(text(zone / "max_energy_range_uj"))
            for zone, name in names.items()
            if name.startswith("package") or name == "dram"
        }
        self._last = {path: self._read(path) for path in self._ranges}
        self._microjoules = 0

    def joules(self) -> float | None:
        """Return what was used so far; null where any part of it cannot be read."""
        for path, before in self._last.items():
            now, over = self._read(path), self._ranges[path]
            if now is None or before is None or (now < before and not over):
                return None
            self._microjoules += now - before + ((over or 0) if now < before else 0)
            self._last[path] = now
        return self._microjoules / 1e6 if self._last else None

    @staticmethod
    def _read(path: Path) -> int | None:
        return number(text(path))
