"""What it costs in Python at least to read each token as it comes: a loop around epoll and recv, and nothing else.

It is nobody's client: it knows no time-outs, no errors and no other load. Its CPU is what the system takes, and Python.
Linux alone. ``python benchmarks/fidelity.py --clients xinfer plain-loop`` shows it beside xinfer's client.

Tokens come one by one, so each takes a recv of its own, which on a loopback also sends and delivers the
acknowledgement, and at 128 streams most take a wake too. xinfer's client saves wakes: while much comes it rests, and
has the stamps from the kernel (``xinfer/measuring/arrivals.py``). Nobody saves the recv and the acknowledgement of a
token that has to be told from the next: acknowledging later (TCP_QUICKACK) would keep a server waiting that leaves
Nagle's algorithm on, and so change what is measured. What is left then is told by ``--clients rested-loop``: this loop,
with the kernel's stamps and a rest after each turn (14.4 us a token at 128 streams and 12.0 at 512, of which the kernel
takes 8, on two cores of a virtual machine; xinfer's client 17.4 and 13.5 in the same rounds).
"""

from __future__ import annotations

import select
import socket
import time

from xinfer.measuring import arrivals, client, stream
from xinfer.measuring.capabilities import COMPLETIONS, completion
from xinfer.measuring.client import Target
from xinfer.measuring.wire import Recording
from xinfer.spec import Workload

LAST = b"\r\n0\r\n\r\n"


class PlainLoop:
    """A closed loop of equal requests, each place with a connection of its own."""

    def __init__(self, url: str, workload: Workload, *, rests: bool = False) -> None:
        target = Target(url=url, model="reference")
        prompt = list(range(workload.input_tokens))
        body = completion(target, prompt, workload.output_tokens, extras=False, stream_options=True)
        self._request = target.asking(COMPLETIONS, body)
        self._left = workload.warmups + workload.requests
        address = ("127.0.0.1", int(url.rpartition(":")[2]))
        self._sockets = [socket.create_connection(address) for _ in range(workload.concurrency)]
        self._rests = rests
        for connection in self._sockets if rests else ():
            connection.setsockopt(socket.SOL_SOCKET, arrivals.SO_TIMESTAMPNS, 1)
        self._under_way: dict[int, Recording] = {}
        self.recordings: list[Recording] = []

    def run(self, ramp_s: float) -> None:
        """Send everything; the places begin one after another, as those of xinfer's client do."""
        with select.epoll() as poller:
            for connection in self._sockets:
                poller.register(connection, select.EPOLLIN)
                self._send(connection)
                time.sleep(ramp_s / len(self._sockets))
            (self._read_rested if self._rests else self._read)(poller)
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
        buffer = memoryview(bytearray(arrivals.BUFFER_BYTES))
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

    def _read_rested(self, poller: select.epoll) -> None:
        """Do the same with the kernel's stamps, and rest after each turn."""
        sockets, under_way, unpack = (
            {one.fileno(): one for one in self._sockets},
            self._under_way,
            arrivals.STAMP.unpack,
        )
        buffers = [buffer := memoryview(bytearray(arrivals.BUFFER_BYTES))]
        while under_way:
            events, offset_ns = poller.poll(), arrivals.offset_ns()
            for number, _ in events:
                size, said, _, _ = sockets[number].recvmsg_into(buffers, arrivals.STAMP_BYTES)
                if not size:
                    raise ConnectionError("the server closed the connection")
                seconds, nanoseconds = unpack(said[0][2])
                recording = under_way[number]
                raw = recording.raw
                raw += buffer[:size]
                recording.stamps.append(seconds * arrivals.NS + nanoseconds + offset_ns)
                recording.counts.append(len(raw))
                if raw.endswith(LAST):
                    self._send(sockets[number])
            time.sleep(arrivals.REST_S)


def recordings(url: str, workload: Workload, *, rests: bool = False) -> list[Recording]:
    """Return the measured requests, in the order of sending; one that was sent before tells how long each may take."""
    alone = Workload(
        name="alone", input_tokens=workload.input_tokens, output_tokens=workload.output_tokens, requests=1, warmup=0
    )
    begun_s = time.perf_counter()
    PlainLoop(url, alone, rests=rests).run(0.0)
    loop = PlainLoop(url, workload, rests=rests)
    loop.run(time.perf_counter() - begun_s)
    return loop.recordings[workload.warmups :]


def stamps(recording: Recording) -> list[int]:
    """Return when each token came."""
    return [chunk.t_ns for chunk in stream.read(client.read(recording).pieces).chunks if chunk.is_token]
