"""Wakes many replies, each when its next write is due, and none of them before."""

from __future__ import annotations

import asyncio
import ctypes
import heapq
import itertools
import os
import struct
import sys
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    Task = Callable[[int], int | None]

NS = 1_000_000_000
BUDGET_NS = 1_000_000
"""After this long the loop gets its turn: requests that arrive shall not be read late."""
NEAR_NS = 50_000
"""What is due within this is waited for on the spot: to be woken takes about as long."""
CLOCK_MONOTONIC, TFD_NONBLOCK, TFD_CLOEXEC, TFD_TIMER_ABSTIME = 1, 0o4000, 0o2000000, 1
COUNT_BYTES = 8


class Alarm:
    """Calls once at an instant of ``time.perf_counter_ns``.

    The timers of event loops count in milliseconds and some are early. Linux has one that is exact to some microseconds
    and is read like a file; elsewhere the call is late by up to two milliseconds.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, call: Callable[[], None]) -> None:
        self._loop, self._call = loop, call
        self._fd: int | None = None
        if sys.platform == "linux":
            self._library = ctypes.CDLL(None, use_errno=True)
            self._fd = self._library.timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC)
            loop.add_reader(self._fd, self._ring)

    def set(self, due_ns: int) -> None:
        """Call at an instant to come, and not at that of before."""
        if self._fd is None:
            left_ms = max(0, due_ns - time.perf_counter_ns()) // 1_000_000
            self._loop.call_later((left_ms + 2) / 1000, self._call)
        else:
            once = struct.pack("qqqq", 0, 0, *divmod(due_ns, NS))
            self._library.timerfd_settime(self._fd, TFD_TIMER_ABSTIME, once, None)

    def close(self) -> None:
        """Give the system's timer back."""
        if self._fd is not None:
            self._loop.remove_reader(self._fd)
            os.close(self._fd)

    def _ring(self) -> None:
        try:
            os.read(self._fd or 0, COUNT_BYTES)
        except BlockingIOError:
            return  # it was set anew in the meantime
        self._call()


class Clock:
    """A queue of instants, and what is to be called at each."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._alarm = Alarm(loop, self._run)
        self._queue: list[tuple[int, int, Task]] = []
        self._numbers = itertools.count()
        self._due_ns: int | None = None
        """When the alarm goes off."""
        self._is_running = False

    def call_at(self, due_ns: int, task: Task) -> None:
        """Call at an instant, or as soon as possible; what the call returns is the next instant, or null."""
        heapq.heappush(self._queue, (due_ns, next(self._numbers), task))
        if not self._is_running and (self._due_ns is None or due_ns < self._due_ns):
            self._set()

    def close(self) -> None:
        """Call nothing any more."""
        self._alarm.close()

    def _run(self) -> None:
        """Call all that is due."""
        self._is_running = True
        queue, now = self._queue, time.perf_counter_ns
        t_ns = now()
        until_ns = t_ns + BUDGET_NS
        while queue and queue[0][0] <= t_ns + NEAR_NS and t_ns < until_ns:
            due_ns, _, task = heapq.heappop(queue)
            while t_ns < due_ns:
                t_ns = now()
            next_ns = task(t_ns)
            if next_ns is not None:
                heapq.heappush(queue, (next_ns, next(self._numbers), task))
            t_ns = now()
        self._is_running = False
        self._due_ns = None
        self._set()

    def _set(self) -> None:
        """Have :meth:`_run` called when the next is due."""
        if not self._queue:
            return
        self._due_ns = due_ns = self._queue[0][0]
        if due_ns <= time.perf_counter_ns() + NEAR_NS:
            self._loop.call_soon(self._run)
        else:
            self._alarm.set(due_ns)
