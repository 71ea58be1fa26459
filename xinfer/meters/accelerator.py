"""How fast PyTorch's device reads its memory and multiplies matrices: ``accelerator.py DEVICE DTYPES THREADS SECONDS``.

DEVICE is cuda, which is also ROCm's name, or cpu, of which only the products are measured. Prints one line of JSON as
``processor.py`` does; what this PyTorch cannot multiply is under ``notes``. It runs in an engine's environment.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import time
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

BUFFER = 2**32
"""Bytes that are read at once, where a quarter of the free memory is that much: far beyond any cache."""
SIDE = {"cuda": 8192, "cpu": 1024}
"""Rows and columns of the matrices; four times as many where many threads share the work."""
MANY_THREADS = 8
LEAST_ROUNDS = 5
PATIENCE = 4
"""How many times longer than asked it may take to do that many rounds."""


class Meter:
    """A device, and a clock for what is done on it."""

    def __init__(self, device: str, threads: int, seconds: float) -> None:
        """Load PyTorch; raises whatever it raises where there is no such device."""
        self.torch = import_module("torch")
        self.device, self._seconds = device, seconds
        self._side = SIDE[device] * (4 if device == "cpu" and threads >= MANY_THREADS else 1)
        if threads:
            self.torch.set_num_threads(threads)
        self.torch.zeros(1, device=device)

    def rates(self, kernel: str, amount: float, work: Callable[[], object]) -> dict[str, object]:
        """Do something for a while, and return its best and its median rate."""
        self._timed(work)  # a warm-up: what is compiled or allocated first is not the device's speed
        found: list[float] = []
        begun = time.perf_counter()
        while not found or time.perf_counter() - begun < self._seconds * (
            1 if len(found) >= LEAST_ROUNDS else PATIENCE
        ):
            found.append(amount / self._timed(work))
        return {"best": max(found), "median": statistics.median(found), "rounds": len(found), "kernel": kernel}

    def _timed(self, work: Callable[[], object]) -> float:
        start = time.perf_counter()
        work()
        self._wait()
        return time.perf_counter() - start

    def _wait(self) -> None:
        if self.device != "cpu":
            self.torch.cuda.synchronize()

    def bandwidth(self) -> dict[str, object]:
        """Return the fastest way to read the device's memory, in bytes per second."""
        free, _ = self.torch.cuda.mem_get_info()
        side = 2**14
        rows = min(BUFFER, free // 4) // (2 * side)
        weights = self.torch.ones(rows, side, dtype=self.torch.float16, device=self.device)
        vector, size = self.torch.ones(side, dtype=self.torch.float16, device=self.device), rows * side * 2
        ways: dict[str, Callable[[], object]] = {
            "matrix by vector": lambda: self.torch.mv(weights, vector),
            "max": lambda: weights.view(self.torch.int32).max(),
            "sum": weights.sum,
        }
        found = [self.rates(name, size, work) for name, work in ways.items()]
        return max(found, key=_best)

    def product(self, dtype: str) -> dict[str, object]:
        """Return how fast matrices are multiplied, in operations per second."""
        side = self._side
        shape, kind = (side, side), getattr(self.torch, dtype)
        left, right = (self.torch.ones(shape, dtype=kind, device=self.device) for _ in range(2))
        multiply = self.torch._int_mm if dtype == "int8" else self.torch.matmul  # noqa: SLF001 -- it has no other name
        return self.rates(f"matmul of {side}", 2 * side**3, lambda: multiply(left, right))


def _best(found: dict[str, Any]) -> float:
    return float(found["best"])


def main(argv: Sequence[str]) -> None:
    """Measure and print."""
    device, dtypes, threads, seconds = argv
    meter = Meter(device, int(threads), float(seconds))
    start, before = time.perf_counter(), sum(os.times()[:2])
    told: dict[str, Any] = {"flops": {}, "notes": {}}
    with meter.torch.inference_mode():
        told["bandwidth"] = None if device == "cpu" else meter.bandwidth()
        for dtype in dtypes.split(","):
            try:
                told["flops"][dtype] = meter.product(dtype)
            except (RuntimeError, AttributeError, NotImplementedError) as error:
                told["notes"][dtype] = f"PyTorch {meter.torch.__version__}: {str(error).partition(chr(10))[0][:160]}"
    told["cpu_s"] = sum(os.times()[:2]) - before
    told["seconds"] = time.perf_counter() - start
    if device != "cpu":
        told["device"] = meter.torch.cuda.get_device_name()
    print(json.dumps(told))  # noqa: T201 -- the result


if __name__ == "__main__":
    main(sys.argv[1:])
