"""Which cores a server may use, and which are its load's."""

from __future__ import annotations

import os


def usable_cores() -> tuple[int | None, ...]:
    """Return the cores that this process may use; null for each where a process cannot choose among them."""
    return (
        tuple(sorted(os.sched_getaffinity(0))) if hasattr(os, "sched_getaffinity") else (None,) * (os.cpu_count() or 1)
    )


def left_to_the_server() -> tuple[int, ...] | None:
    """Return the cores that a server may use without disturbing its load: all but the last, where there are several.

    Null where cores cannot be chosen, or there is one only.
    """
    usable = [core for core in usable_cores() if core is not None]
    return tuple(usable[:-1]) or None
