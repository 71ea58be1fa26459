"""What stamping each token at its arrival costs in Python at least: a loop around epoll and recv, and nothing else.

It is nobody's client: it knows no time-outs, no errors and no other load. Its CPU is what the system takes, and Python;
what a client takes beyond that is the client's own work. Linux alone.

Tokens come one by one, so each takes a recv of its own, which on a loopback also sends and delivers the
acknowledgement, and at 128 streams most take a wake too. What the kernel takes for that is saved by no client that
stamps each token as it comes; ``python benchmarks/fidelity.py --clients xinfer plain-loop`` tells it, in brackets. A
rest after each wake saves wakes and no acknowledgements, and the stamps are late by as much; acknowledging later
(TCP_QUICKACK) would keep a server waiting that leaves Nagle's algorithm on, and so change what is measured.
"""

from __future__ import annotations

import select
import socket
import time

from xinfer.measuring import client, stream
from xinfer.measuring.capabilities import COMPLETIONS, completion
from xinfer.measuring.client import Target
from xinfer.measuring.wire import Recording
from xinfer.spec import Workload

LAST = b"\r\n0\r\n\r\n"
BUFFER_BYTES = 2**18


class PlainLoop:
    """A closed loop of equal requests, each place with a connection of its own."""

    def __init__(self, url: str, workload: Workload) -> None:
        target = Target(url=url, model="reference")
        prompt = list(range(workload.input_tokens))
        body = completion(target, prompt, workload.output_tokens, extras=False, stream_options=True)
        self._request = target.asking(COMPLETIONS, body)
        self._left = workload.warmups + workload.requests
        address = ("127.0.0.1", int(url.rpartition(":")[2]))
        self._sockets = [socket.create_connection(address) for _ in range(workload.concurrency)]
        self._under_way: dict[int, Recording] = {}
        self.recordings: list[Recording] = []

    def run(self, ramp_s: float) -> None:
        """Send everything; the places begin one after another, as those of xinfer's client do."""
        with select.epoll() as poller:
            for connection in self._sockets:
                poller.register(connection, select.EPOLLIN)
                self._send(connection)
                time.sleep(ramp_s / len(self._sockets))
            self._read(poller)
        for connection in self._sockets:
            connection.close()

    def _send(self, connection: socket.socket) -> None:
        """Send the next request, if there is one."""
        if self._left:
            self._left -= 1
            recording = self._under_way[connection.fileno()] = Recording(time.perf_counter_ns())
            self.recordings.append(recording)
            connection.sendall(self._request)
        else:
            self._under_way.pop(connection.fileno(), None)

    def _read(self, poller: select.epoll) -> None:
        """Stamp and keep what comes, until all has come."""
        sockets, under_way, now = {one.fileno(): one for one in self._sockets}, self._under_way, time.perf_counter_ns
        buffer = memoryview(bytearray(BUFFER_BYTES))
        while under_way:
            for number, _ in poller.poll():
                size = sockets[number].recv_into(buffer)
                t_ns = now()
                if not size:
                    raise ConnectionError("the server closed the connection")
                recording = under_way[number]
                raw = recording.raw
                raw += buffer[:size]
                recording.stamps.append(t_ns)
                recording.counts.append(len(raw))
                if raw.endswith(LAST):
                    self._send(sockets[number])


def recordings(url: str, workload: Workload) -> list[Recording]:
    """Return the measured requests, in the order of sending; one that was sent before tells how long each may take."""
    alone = Workload(
        name="alone", input_tokens=workload.input_tokens, output_tokens=workload.output_tokens, requests=1, warmup=0
    )
    begun_s = time.perf_counter()
    PlainLoop(url, alone).run(0.0)
    loop = PlainLoop(url, workload)
    loop.run(time.perf_counter() - begun_s)
    return loop.recordings[workload.warmups :]


def stamps(recording: Recording) -> list[int]:
    """Return when each token came."""
    return [chunk.t_ns for chunk in stream.read(client.read(recording).pieces).chunks if chunk.is_token]
