"""How fast some threads read memory and multiply matrices: ``processor.py THREADS MEBIBYTES SECONDS``.

Prints one line of JSON: bytes per second under ``bandwidth`` and operations per second under ``flops``, each with the
kernel that was fastest and the median beside the best. The libraries below numpy must be told to use one thread each
(``OPENBLAS_NUM_THREADS=1``): the threads are this program's own, and all work at the same time.
"""

from __future__ import annotations

import ctypes
import json
import os
import statistics
import sys
import threading
import time
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

WINDOW = 2**25
"""Bytes that a thread reads at once: milliseconds, so that starting together costs little, and some are undisturbed."""
SIDES = (512, 1024)
"""Rows and columns of the matrices: small ones are done before anything disturbs, large ones cost less beside."""
LEAST_ROUNDS = 5


class Kernel(NamedTuple):
    """One way to do something: how much of it each thread does at once, and what does it."""

    amount: float
    work: Callable[[int], object]


class Found(NamedTuple):
    """The rates of one kernel's rounds, in units of its work per second."""

    kernel: str
    rates: list[float]

    def told(self) -> dict[str, object]:
        """Return the best as JSON has it, and what tells how far it can be trusted."""
        return {
            "best": max(self.rates),
            "median": statistics.median(self.rates),
            "rounds": len(self.rates),
            "kernel": self.kernel,
        }


class Team:
    """Threads that do one thing at the same time."""

    def __init__(self, threads: int) -> None:
        """Say how many."""
        self._threads = threads
        self._spans: list[tuple[float, float]] = [(0.0, 0.0)] * threads

    def seconds(self, work: Callable[[int], object]) -> float:
        """Return how long it takes until the last thread has done its part, from when the first began."""
        gate = threading.Barrier(self._threads)
        others = [threading.Thread(target=self._do, args=(gate, work, index)) for index in range(1, self._threads)]
        for thread in others:
            thread.start()
        self._do(gate, work, 0)
        for thread in others:
            thread.join()
        return max(end for _, end in self._spans) - min(start for start, _ in self._spans)

    def _do(self, gate: threading.Barrier, work: Callable[[int], object], index: int) -> None:
        gate.wait()
        start = time.perf_counter()
        work(index)
        self._spans[index] = (start, time.perf_counter())


class Memory:
    """A buffer for each thread, and what reads a window of it."""

    def __init__(self, team: Team, threads: int, mebibytes: int) -> None:
        """Let each thread write its own buffer first, which puts it into the memory next to its core."""
        windows = max(2, mebibytes * 2**20 // threads // WINDOW)
        self._windows, self._turn = windows, 0
        self._buffers = [np.empty(windows * WINDOW // 4, dtype=np.float32) for _ in range(threads)]
        team.seconds(lambda index: self._buffers[index].fill(1))
        ways: dict[str, Callable[[int], object]] = {
            "dot": lambda index: self._half(index, 0).dot(self._half(index, 1)),
            "max": lambda index: self._window(index).max(),
            "or": lambda index: np.bitwise_or.reduce(self._window(index).view(np.int64)),
        }
        if hasattr(libc := ctypes.CDLL(None), "memchr"):
            libc.memchr.argtypes = (ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t)
            # No byte of 1.0 is 255, so that it looks at all of them; meanwhile other threads may run.
            ways["memchr"] = lambda index: libc.memchr(self._window(index).ctypes.data, 255, WINDOW)
        self.kernels = {name: Kernel(WINDOW, work) for name, work in ways.items()}

    def turn(self) -> None:
        """Go on to the next window: when its turn comes again, no cache can have it any more."""
        self._turn = (self._turn + 1) % self._windows

    def _window(self, index: int) -> np.ndarray[Any, Any]:
        width = WINDOW // 4
        return self._buffers[index][self._turn * width : (self._turn + 1) * width]

    def _half(self, index: int, half: int) -> np.ndarray[Any, Any]:
        middle = WINDOW // 8
        return self._window(index)[half * middle : (half + 1) * middle]


def bandwidth(team: Team, threads: int, mebibytes: int, seconds: float) -> Found:
    """Return the rates of the fastest way to read memory, in bytes per second."""
    memory = Memory(team, threads, mebibytes)

    def rate(kernel: Kernel) -> float:
        memory.turn()
        return threads * kernel.amount / team.seconds(kernel.work)

    return _fastest(memory.kernels, rate, seconds)


def multiplication(team: Team, threads: int, dtype: str, seconds: float) -> Found:
    """Return the rates of matrix products in operations per second: each thread has matrices of its own."""
    kernels = {f"matmul of {side}": Kernel(2 * side**3, _product(threads, side, dtype)) for side in SIDES}
    return _fastest(kernels, lambda kernel: threads * kernel.amount / team.seconds(kernel.work), seconds)


def _product(threads: int, side: int, dtype: str) -> Callable[[int], object]:
    ones = [np.ones((side, side), dtype=dtype) for _ in range(threads)]
    results = [np.empty((side, side), dtype=dtype) for _ in range(threads)]
    return lambda index: np.matmul(ones[index], ones[index], out=results[index])


def _fastest(kernels: dict[str, Kernel], rate: Callable[[Kernel], float], seconds: float) -> Found:
    """Try all in turn, so that a disturbance hits all alike, and return the one whose best round is best."""
    rates: dict[str, list[float]] = {name: [] for name in kernels}
    for name in _turns(list(kernels), seconds):
        rates[name].append(rate(kernels[name]))
    best = max(rates, key=lambda name: max(rates[name]))
    return Found(best, rates[best])


def _turns(names: list[str], seconds: float) -> Iterator[str]:
    end = time.perf_counter() + seconds
    rounds = 0
    while rounds <= LEAST_ROUNDS or time.perf_counter() < end:
        yield from names
        rounds += 1


def main(argv: list[str]) -> None:
    """Measure and print."""
    threads, mebibytes, seconds = int(argv[0]), int(argv[1]), float(argv[2])
    start, team = time.perf_counter(), Team(threads)
    read = bandwidth(team, threads, mebibytes, seconds)
    product = multiplication(team, threads, "float32", seconds)
    told = {
        "bandwidth": read.told(),
        "flops": {"float32": product.told()},
        "notes": {
            "bfloat16": "numpy has no such type",
            "int8": f"numpy {np.__version__} multiplies it without the processor's own instructions",
        },
        "cpu_s": sum(os.times()[:2]),
        "seconds": time.perf_counter() - start,
    }
    print(json.dumps(told))  # noqa: T201 -- the result


if __name__ == "__main__":
    main(sys.argv[1:])
