"""The load itself, in a process of its own: ``python -m xinfer.measuring.worker``, told by its standard input.

It sends what it was ordered to, when it was ordered to, and reads what came back when all is over.
"""

from __future__ import annotations

import asyncio
import gc
import math
import os
import random
import resource
import sys
import time
from array import array
from contextlib import suppress
from typing import TYPE_CHECKING

import msgspec
import uvloop

from xinfer.measuring import arrivals, client, orders, stream
from xinfer.measuring.client import explain, judge
from xinfer.measuring.metronome import PRECISEST
from xinfer.measuring.orders import Batch, Order, Ready, Report, Start
from xinfer.measuring.samples import Sample, Worker
from xinfer.measuring.wire import Recording

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from xinfer.measuring.schedule import Due, Phase

TICK_NS = 50_000_000
"""The mean time between two looks at the loop's lag; one costs up to 0.1 ms where the core was asleep (measured on a
virtual machine), so a five-hundredth of a core in all."""
TICKS = 100
"""Of fewer, none is the hundredth."""
BATCH = 256
ORDERS, REPORTS = 0, 1
"""The descriptors of standard input and output."""


class Load:
    """One worker's part of a load, while it runs."""

    def __init__(self, order: Order) -> None:
        self._order = order
        self._wire = order.target.wire()
        self._requests = {index: order.target.asking(order.path, order.bodies.pop(index)) for index in [*order.bodies]}
        self._timeouts = 0
        self._lags = array("q")
        self.recordings: list[tuple[Due, Recording]] = []
        self.started: tuple[int, float] | None = None
        """Stamp, and CPU seconds of this process, when the first measured request's turn came."""
        self.ended = (0, 0.0)

    @property
    def loop_factory(self) -> Callable[[], asyncio.AbstractEventLoop]:
        """What makes the loop that stamps best."""
        return arrivals.Loop if arrivals.AVAILABLE and self._wire.is_plain else uvloop.new_event_loop

    async def run(self) -> None:
        """Do all phases, each from the instant on that all workers are told."""
        loop = asyncio.get_running_loop()
        for phase in self._order.phases:
            orders.write(REPORTS, Ready())
            start = msgspec.msgpack.decode(orders.receive(ORDERS), type=Start)
            loop.add_reader(ORDERS, _leave)
            await asyncio.sleep(max(0, start.at_ns - time.perf_counter_ns()) / 1e9)
            with PRECISEST(loop, _ticks(start.at_ns), self._tick):
                await (self._closed(phase) if phase.places else self._scheduled(phase, start.at_ns))
                self.ended = (time.perf_counter_ns(), time.process_time())
            loop.remove_reader(ORDERS)
            os.set_blocking(ORDERS, True)  # the loop made it otherwise, and the next start is waited for
        await self._wire.close()

    def report(self) -> Report:
        """Return what this worker used, and how punctual it was."""
        started = self.started
        cpu_s = self.ended[1] - started[1] if started else 0.0
        worker = Worker(cpu_s=cpu_s, loop_lag_p99_s=p99_s(self._lags), core=self._order.core)
        return Report(worker, started[0] if started else None, self.ended[0])

    def _tick(self, due_ns: int) -> None:
        if self.started:
            self._lags.append(time.perf_counter_ns() - due_ns)

    async def _closed(self, phase: Phase) -> None:
        """Keep all places busy; the warm-up flows into the measured part without a pause.

        Once a request has ended, all places begin that have not: requests are faster than was thought.
        """
        due = iter(phase.due)
        self._is_filled = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            for begin_ns in phase.places:
                group.create_task(self._place(due, begin_ns / 1e9))

    async def _place(self, due: Iterator[Due], begin_s: float) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._is_filled.wait(), begin_s)
        for one in due:
            if one.is_extra and self._is_time_up():
                return
            await self._send(one, time.perf_counter_ns())
            self._is_filled.set()

    def _is_time_up(self) -> bool:
        passed_s = (time.perf_counter_ns() - self.started[0]) / 1e9 if self.started else 0.0
        return passed_s >= self._order.seconds or self._has_lost_patience()

    def _has_lost_patience(self) -> bool:
        return self._timeouts >= self._order.patience

    async def _scheduled(self, phase: Phase, start_ns: int) -> None:
        """Send each request at its instant, whatever became of those before."""
        loop = asyncio.get_running_loop()
        due = iter(phase.due)
        instants = (start_ns + (one.at_ns or 0) for one in phase.due)
        left = len(phase.due)
        over = loop.create_future()
        running: set[asyncio.Task[None]] = set()

        def end(task: asyncio.Task[None]) -> None:
            nonlocal left
            left -= 1
            running.discard(task)
            if not over.done() and (defect := task.exception()):
                over.set_exception(defect)
            elif not over.done() and not left:
                over.set_result(None)

        def send(due_ns: int) -> None:
            task = loop.create_task(self._send(next(due), due_ns))
            running.add(task)
            task.add_done_callback(end)

        if left:
            with PRECISEST(loop, instants, send):
                await over

    async def _send(self, one: Due, t_sched: int) -> None:
        if not one.warmup and self.started is None:
            self.started = (time.perf_counter_ns(), time.process_time())
        if self._has_lost_patience():
            recording = Recording(t_sched)
            recording.failure, recording.detail = "abandoned", f"after {self._timeouts} time-outs in a row"
        else:
            request = self._requests.pop(one.index)
            recording = await self._wire.exchange(request, timeout_s=self._order.timeout_s, t_sched=t_sched)
            self._timeouts = self._timeouts + 1 if recording.failure == "timeout" else 0
        self.recordings.append((one, recording))


def p99_s(lags_ns: Sequence[int]) -> float | None:
    """Return what 99 of 100 lags do not exceed, in seconds; null for too few of them."""
    return sorted(lags_ns)[math.ceil(0.99 * len(lags_ns)) - 1] / 1e9 if len(lags_ns) >= TICKS else None


def _ticks(start_ns: int) -> Iterator[int]:
    """Yield instants that keep no step with anything a server does at a regular pace."""
    chance = random.Random(start_ns)  # noqa: S311 -- chance, and no secret
    while True:
        yield start_ns + chance.randrange(TICK_NS)
        start_ns += TICK_NS


def _leave() -> None:
    """End at once: nobody is left to report to."""
    os._exit(1)


def samples(order: Order, recordings: list[tuple[Due, Recording]]) -> Iterator[Sample]:
    """Read what was recorded, and let go of each as it is read: together, they may be large."""
    while recordings:
        due, recording = recordings.pop()
        exchange = client.read(recording)
        reply = stream.read(exchange.pieces)
        error = judge(exchange, reply)
        yield Sample(
            index=due.index,
            warmup=due.warmup,
            t_sched=exchange.t_sched,
            t_send=exchange.t_send,
            t_headers=exchange.t_headers,
            t_end=exchange.t_end,
            chunks=tuple(reply.chunks),
            prompt_tokens_asked=due.input_tokens,
            prompt_tokens=reply.prompt_tokens,
            completion_asked=due.output_tokens,
            completion_tokens=reply.completion_tokens,
            cached_tokens=reply.cached_tokens,
            finish_reason=reply.finish_reason,
            status=exchange.status,
            error=error,
            detail=None if error is None else explain(exchange, reply, order.target),
            prompt_hash=order.hashes[due.index],
            worker=order.number,
            resent=recording.resent,
        )


def _settle(order: Order) -> None:
    """Keep to one core, take as many connections as the system allows, and leave the garbage where it is."""
    if order.core is not None and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {order.core})
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):  # macOS says "unlimited" and means less
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    gc.collect()
    gc.freeze()
    gc.disable()


def main() -> None:
    """Work off one order."""
    order = msgspec.msgpack.decode(orders.receive(ORDERS), type=Order)
    load = Load(order)
    _settle(order)
    with asyncio.Runner(loop_factory=load.loop_factory) as runner:
        runner.run(load.run())
    batch: list[Sample] = []
    for sample in samples(order, load.recordings):
        batch.append(sample)
        if len(batch) == BATCH:
            orders.write(REPORTS, Batch(tuple(batch)))
            batch.clear()
    orders.write(REPORTS, Batch(tuple(batch)))
    orders.write(REPORTS, load.report())


if __name__ == "__main__":
    with suppress(BrokenPipeError, EOFError):
        main()
    sys.exit(0)
