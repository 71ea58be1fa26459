"""Both ways to wake a loop at given instants."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Iterator

import pytest
import uvloop

from xinfer.measuring.metronome import PRECISEST, KernelTimer, Metronome, SleepingThread

WAYS = [SleepingThread, *([KernelTimer] if sys.platform == "linux" else [])]
LOOPS = [asyncio.new_event_loop, uvloop.new_event_loop]


@pytest.mark.parametrize("new", LOOPS)
@pytest.mark.parametrize("way", WAYS)
def test_every_instant_is_called_once_in_order_and_never_early(way: type[Metronome], new: type) -> None:
    """Also those that are past, or alike."""

    async def run() -> list[tuple[int, int]]:
        start = time.perf_counter_ns()
        instants = [start - 10**9, start + 2_000_000, start + 2_000_000, start + 5_000_000]
        calls: list[tuple[int, int]] = []
        over = asyncio.Event()

        def call(due_ns: int) -> None:
            calls.append((due_ns, time.perf_counter_ns()))
            if len(calls) == len(instants):
                over.set()

        with way(asyncio.get_running_loop(), instants, call):
            await over.wait()
        assert [due for due, _ in calls] == instants
        return calls

    with asyncio.Runner(loop_factory=new) as runner:
        calls = runner.run(run())
    assert all(now >= due for due, now in calls)


@pytest.mark.parametrize("new", LOOPS)
@pytest.mark.parametrize("way", WAYS)
def test_it_stops_with_its_body(way: type[Metronome], new: type) -> None:
    """However many instants there would be."""

    def ticks() -> Iterator[int]:
        at = time.perf_counter_ns()
        while True:
            at += 1_000_000
            yield at

    async def run() -> None:
        calls: list[int] = []
        begun = asyncio.Event()

        def call(due_ns: int) -> None:
            calls.append(due_ns)
            begun.set()

        with way(asyncio.get_running_loop(), ticks(), call):
            await begun.wait()
        await asyncio.sleep(0.005)
        count = len(calls)
        await asyncio.sleep(0.01)
        assert len(calls) == count

    with asyncio.Runner(loop_factory=new) as runner:
        runner.run(run())


def test_nothing_to_call_is_no_error() -> None:
    """On any system's best way."""

    async def run() -> None:
        with PRECISEST(asyncio.get_running_loop(), [], print):
            await asyncio.sleep(0)

    asyncio.run(run())
