"""Wakes an event loop at instants that are fixed beforehand, more precisely than its own timers do.

A loop's timer is right to a millisecond or so (uvloop counts nothing smaller). A timer of the kernel's that is watched
like a socket is right to a tenth, and late by just as much as bytes that arrive at that instant would be: so its
lateness is the loop's lag. Where there is none (macOS), a sleeping thread does the same, a little later.
"""

from __future__ import annotations

import ctypes
import os
import struct
import sys
import threading
import time
from abc import ABC, abstractmethod
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Iterable

NS = 1_000_000_000
MONOTONIC, ABSOLUTE = 1, 1
"""Linux's names for the clock that ``time.perf_counter_ns`` reads there, and for an instant on it."""
NONBLOCKING = os.O_NONBLOCK | os.O_CLOEXEC


class Metronome(ABC):
    """Calls a function in a loop's thread, once for each instant, until there are no more or the body has ended."""

    def __init__(self, loop: asyncio.AbstractEventLoop, instants: Iterable[int], call: Callable[[int], object]) -> None:
        """Take the instants on the clock of ``time.perf_counter_ns``, in order; each is given to ``call``."""
        self._loop = loop
        self._instants = iter(instants)
        self._call = call

    @abstractmethod
    def __enter__(self) -> None:
        """Start."""

    @abstractmethod
    def __exit__(self, *_: object) -> None:
        """Stop."""


class KernelTimer(Metronome):
    """By a timer of Linux that is watched like a socket."""

    def __enter__(self) -> None:
        """Start."""
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._timer = self._libc.timerfd_create(MONOTONIC, NONBLOCKING)
        if self._timer < 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
        self._loop.add_reader(self._timer, self._fire)
        self._due_ns = next(self._instants, None)
        self._arm()

    def __exit__(self, *_: object) -> None:
        """Stop."""
        self._loop.remove_reader(self._timer)
        os.close(self._timer)

    def _arm(self) -> None:
        if self._due_ns is not None:
            # An instant in the past fires at once; zero would switch the timer off.
            once = struct.pack("qqqq", 0, 0, *divmod(max(1, self._due_ns), NS))
            self._libc.timerfd_settime(self._timer, ABSOLUTE, once, None)

    def _fire(self) -> None:
        with suppress(BlockingIOError):
            os.read(self._timer, 8)
        while self._due_ns is not None and self._due_ns <= time.perf_counter_ns():
            due_ns, self._due_ns = self._due_ns, next(self._instants, None)
            self._call(due_ns)
        self._arm()


class SleepingThread(Metronome):
    """By a thread that sleeps, on every system."""

    def __enter__(self) -> None:
        """Start."""
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        """Stop; what the loop has been told already it may still call."""
        self._stopped.set()
        self._thread.join()

    def _run(self) -> None:
        for due_ns in self._instants:
            if self._stopped.wait(max(0, due_ns - time.perf_counter_ns()) / NS):
                return
            self._loop.call_soon_threadsafe(self._call, due_ns)


PRECISEST: type[Metronome] = KernelTimer if sys.platform == "linux" else SleepingThread
