"""Whether others used the machine while something of ours was measured on it."""

from __future__ import annotations

import resource
import time
from pathlib import Path

from xinfer.machine import counters

OTHERS_SHARE = 0.05
"""Of all the machine's CPU time: what a system does for itself stays below it."""
STOLEN_SHARE = 0.02
"""Less than repeats on rented machines differ by anyhow."""


class Disturbance:
    """What others do with the machine from when this is made."""

    def __init__(self) -> None:
        """Read what the machine has counted so far."""
        self._before = self._read()

    @staticmethod
    def _read() -> tuple[float, float, counters.Counters]:
        used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        return time.perf_counter(), sum(u.ru_utime + u.ru_stime for u in used), counters.read(Path("/"))

    def said(self) -> str | None:
        """Say that they took too much of it; null where they did not, or that is not known.

        Ours are this process and its children that have ended.
        """
        (began, own, before), (ended, own_now, now) = self._before, self._read()
        if before.busy_s is None or now.busy_s is None or not now.cpus:
            return None
        busy_s, stolen_s = now.busy_s - before.busy_s, (now.stolen_s or 0) - (before.stolen_s or 0)
        others = max(0.0, busy_s - (own_now - own)) / ((ended - began) * now.cpus)
        if others > OTHERS_SHARE:
            return f"others used {others:.0%} of the machine's CPU time meanwhile"
        stolen = stolen_s / max(1e-9, busy_s + stolen_s)
        return f"the host took {stolen:.1%} of the CPU time meanwhile" if stolen > STOLEN_SHARE else None
