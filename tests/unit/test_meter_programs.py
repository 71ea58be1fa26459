"""The meters' own arithmetic: in this process, with little work, and with a PyTorch that is played."""

from __future__ import annotations

import json
import sys
import threading
import time
from contextlib import nullcontext
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from xinfer.meters import accelerator, processor


def test_the_processor_prints_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    """With the best and the median of each quantity, what was fastest, and what it took."""
    processor.main(["2", "64", "0.01"])
    told = json.loads(capsys.readouterr().out)
    assert set(told) == {"bandwidth", "flops", "notes", "cpu_s", "seconds"}
    for rate in (told["bandwidth"], told["flops"]["float32"]):
        assert rate["best"] >= rate["median"] > 0
        assert rate["rounds"] > processor.LEAST_ROUNDS


def test_a_team_works_at_the_same_time() -> None:
    """Each does its part once; it takes as long as from the first's beginning to the last's end."""
    met, done = threading.Barrier(3, timeout=10), []

    def work(index: int) -> None:
        met.wait()
        time.sleep(0.02 * index)
        done.append(index)

    passed = processor.Team(3).seconds(work)
    assert sorted(done) == [0, 1, 2]
    assert passed >= 0.04


def test_each_turn_reads_other_memory() -> None:
    """All of the buffer before any of it again; every kernel reads exactly its window."""
    memory = processor.Memory(processor.Team(1), 1, 128)
    places = []
    for _ in range(8):
        memory.turn()
        places.append(memory._window(0).ctypes.data)
    assert places[:4] == places[4:]
    assert len(set(places)) == 4
    assert memory._window(0).nbytes == processor.WINDOW
    assert {name: kernel.amount for name, kernel in memory.kernels.items()} == dict.fromkeys(
        memory.kernels, processor.WINDOW
    )
    assert memory.kernels["dot"].work(0) == processor.WINDOW // 8
    assert memory.kernels["max"].work(0) == 1.0
    if "memchr" in memory.kernels:
        assert not memory.kernels["memchr"].work(0)


def test_the_fastest_way_counts() -> None:
    """By its best round; its own rounds make the median."""
    rates = {"slow": iter([1.0] * 99), "fast": iter([5.0, 1.0, 9.0, 1.0, 1.0, 1.0] * 9)}
    kernels = {name: processor.Kernel(1, lambda _: None) for name in rates}
    names = {id(kernel): name for name, kernel in kernels.items()}
    found = processor._fastest(kernels, lambda kernel: next(rates[names[id(kernel)]]), 0.0)
    assert found.kernel == "fast"
    assert found.told() == {"best": 9.0, "median": 1.0, "rounds": 6, "kernel": "fast"}


class Tensor:
    """Takes part in what a played PyTorch computes."""

    def view(self, _: object) -> Tensor:
        return self

    def max(self) -> None:
        time.sleep(0.002)

    def sum(self) -> None:
        time.sleep(0.001)


class Torch(ModuleType):
    """Stands in for PyTorch: products take a while, those of int8 do not exist, nor a vector's."""

    __version__ = "2.99"
    float16, float32, bfloat16, int8, int32 = "float16", "float32", "bfloat16", "int8", "int32"

    def __init__(self, free: int = 2**33) -> None:
        super().__init__("torch")
        self.asked: list[tuple[int, ...]] = []
        self.waited = 0
        self.threads = 0
        self.cuda = SimpleNamespace(
            synchronize=self._wait, mem_get_info=lambda: (free, free), get_device_name=lambda: "H100"
        )

    def _wait(self) -> None:
        self.waited += 1

    def set_num_threads(self, count: int) -> None:
        self.threads = count

    def inference_mode(self) -> nullcontext[None]:
        return nullcontext()

    def zeros(self, *_: object, **__: object) -> None:
        return None

    def ones(self, *shape: Any, **_: object) -> Tensor:
        self.asked.append(shape[0] if isinstance(shape[0], tuple) else shape)
        return Tensor()

    def mv(self, *_: object) -> None:
        time.sleep(0.004)

    def matmul(self, *_: object) -> None:
        time.sleep(0.001)

    def _int_mm(self, *_: object) -> None:
        raise RuntimeError("CUBLAS_STATUS_NOT_SUPPORTED\nlong explanation")


def told(
    torch: Torch, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *words: str
) -> dict[str, Any]:
    monkeypatch.setitem(sys.modules, "torch", torch)
    accelerator.main(words)
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_a_gpu(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Its memory by the fastest way to read it, its products by type; what it cannot multiply is said in a line."""
    torch = Torch()
    found = told(torch, monkeypatch, capsys, "cuda", "float32,int8", "0", "0.01")
    assert found["bandwidth"]["kernel"] == "sum"
    assert found["bandwidth"]["best"] < 2**31 / 0.001
    assert set(found["flops"]) == {"float32"}
    assert 0 < found["flops"]["float32"]["best"] < 2 * 8192**3 / 0.001
    assert found["notes"] == {"int8": "PyTorch 2.99: CUBLAS_STATUS_NOT_SUPPORTED"}
    assert found["device"] == "H100"
    assert torch.asked[0] == (2**31 // 2**15, 2**14)
    assert torch.threads == 0
    assert torch.waited > 4 * accelerator.LEAST_ROUNDS


@pytest.mark.parametrize(("threads", "side"), [("2", 1024), ("16", 4096)])
def test_a_cpu(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], threads: str, side: int) -> None:
    """Only products, with as many threads as were asked for, of matrices large enough for them."""
    torch = Torch()
    found = told(torch, monkeypatch, capsys, "cpu", "bfloat16", threads, "0.01")
    assert found["bandwidth"] is None
    assert found["flops"]["bfloat16"]["kernel"] == f"matmul of {side}"
    assert (torch.threads, torch.waited, torch.asked[0]) == (int(threads), 0, (side, side))


def test_what_is_slow_is_not_waited_for() -> None:
    """At least one round is measured, and not five of a product that takes seconds."""
    meter = accelerator.Meter.__new__(accelerator.Meter)
    meter.device, meter._seconds = "cpu", 0.001
    found = meter.rates("slow", 1.0, lambda: time.sleep(0.01))
    assert found["rounds"] == 1
