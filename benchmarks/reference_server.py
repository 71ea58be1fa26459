"""How true the reference server is to its own schedule, and what a token costs it.

``python benchmarks/reference_server.py [--streams N…] [--cores SERVER CLIENT]`` prints a table. The client here reads
and throws away: it is nobody's client, and only has to be cheaper than any that is to be held against the server.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import sys
from typing import NamedTuple, cast

import msgspec
import uvloop

from xinfer.testing.reference_server import Behaviour, Remote, spawned

STREAMS = (1, 32, 128, 512)
TOKENS = 128
PACED = Behaviour(ttft_s=0.05, gap_s=0.01)
LAST = b"\r\n0\r\n\r\n"
SECONDS = 5.0


class Row(NamedTuple):
    """What was seen at one load."""

    streams: int
    tokens: int
    late_us: tuple[float, float, float]
    """Median, 99th percentile, and most."""
    cpu_us: float
    """Of the server, per token."""
    core: float
    """The part of a core that the server used."""


class Sink(asyncio.Protocol):
    """Asks again as soon as the answer has ended, so many times."""

    def __init__(self, request: bytes, times: int, left: asyncio.Semaphore) -> None:
        self._request, self._times, self._left = request, times, left

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._ask()

    def data_received(self, data: bytes) -> None:
        if data.endswith(LAST) or data == LAST[2:]:
            self._ask()

    def _ask(self) -> None:
        if self._times:
            self._times -= 1
            self._transport.write(self._request)
        else:
            self._transport.close()
            self._left.release()


async def drain(remote: Remote, streams: int, times: int) -> None:
    """Keep so many streams going for so many requests each."""
    body = msgspec.json.encode({"prompt": list(range(128)), "max_tokens": TOKENS, "stream": True})
    head = f"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    port, left = int(remote.url.rpartition(":")[2]), asyncio.Semaphore(0)
    for _ in range(streams):
        await asyncio.get_running_loop().create_connection(lambda: Sink(head + body, times, left), "127.0.0.1", port)
    for _ in range(streams):
        await left.acquire()


def measure(remote: Remote, streams: int, behaviour: Behaviour) -> Row:
    """Return how late the server's writes were at one load."""
    remote.become(behaviour)
    per_request_s = behaviour.ttft_s + behaviour.gap_s * TOKENS
    before_s = remote.cpu_s()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(drain(remote, streams, max(2, round(SECONDS / per_request_s))))
    cpu_s, log = remote.cpu_s() - before_s, remote.log()
    late_us = sorted(late / 1000 for served in log for late in served.late_ns)
    seconds = (max(s.ended_ns or 0 for s in log) - min(s.received_ns for s in log)) / 1e9
    most = (statistics.median(late_us), late_us[len(late_us) * 99 // 100], late_us[-1])
    return Row(streams, len(late_us), most, cpu_s / len(late_us) * 1e6, cpu_s / seconds)


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--streams", type=int, nargs="*", default=STREAMS)
    parser.add_argument("--cores", type=int, nargs=2, default=(0, 1), metavar=("SERVER", "CLIENT"))
    options = parser.parse_args()
    if sys.platform == "linux":
        os.sched_setaffinity(0, {options.cores[1]})
    print("streams  tokens  late p50 us  late p99 us  late max us  server cpu us/token  server core")
    with spawned(PACED, core=options.cores[0]) as remote:
        for streams in options.streams:
            row = measure(remote, streams, PACED)
            late = "  ".join(f"{value:11.0f}" for value in row.late_us)
            print(f"{row.streams:7}  {row.tokens:6}  {late}  {row.cpu_us:19.1f}  {row.core:10.0%}", flush=True)


if __name__ == "__main__":
    main()
