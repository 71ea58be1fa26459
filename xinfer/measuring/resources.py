"""What a tree of processes has used: memory at its highest, and CPU time."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import psutil

if TYPE_CHECKING:
    from collections.abc import Iterable

_KIB = 1024


class Usage(NamedTuple):
    """Of several processes together; null when none could be read."""

    peak_rss: int | None
    """Sum of each process's own highest resident size, in bytes; shared pages count once per process."""
    cpu_s: float | None


def usage(pids: Iterable[int]) -> Usage:
    """Read what these processes have used so far; one that has ended counts nothing."""
    sizes: list[int] = []
    seconds: list[float] = []
    for pid in pids:
        try:
            process = psutil.Process(pid)
            times = process.cpu_times()
            sizes.append(_peak(process))
            seconds.append(times.user + times.system)
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return Usage(sum(sizes) if sizes else None, sum(seconds) if seconds else None)


def _peak(process: psutil.Process) -> int:
    """Return the kernel's own high-water mark where it keeps one, else what is resident now."""
    try:
        lines = Path(f"/proc/{process.pid}/status").read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        lines = []
    mark = next((line.split()[1] for line in lines if line.startswith("VmHWM:")), None)
    return int(mark) * _KIB if mark else int(process.memory_info().rss)
