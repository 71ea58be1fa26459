"""Requests on connections of our own: what arrives is stamped and kept, and read after the run.

A stream costs the client one call per delivery of the network, in which nothing is parsed: work there would delay the
stamps of all other streams.
"""

from __future__ import annotations

import asyncio
import os
import re
import socket
import time
from array import array
from typing import TYPE_CHECKING, Any, cast

from xinfer.measuring import arrivals
from xinfer.measuring.framing import Framing

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterator

MOST_BYTES = 2**26
"""Of one response; a hundred thousand tokens take a half of it."""
MANY_BYTES, ENOUGH_BYTES = 2**30, 2**24
"""Of all responses that are under way: of many at once each may have its share only, but never less than is enough."""
GRACE_S = 0.1
"""How long a stream that has said ``[DONE]`` may take to end, where its connection is worth keeping."""
MOST_HEAD_BYTES = 2**18
"""Of its header."""
ENDS = (b"\r\n\r\n", b"]\n\n\r\n", b"]\n\n", b"]\n")
"""How a header ends, a body in chunks, and the line ``[DONE]`` in one or without; few other deliveries do."""
DONE_LINE = re.compile(rb"\ndata: *\[DONE\] *\r?\n")
"""What a model wrote cannot look like this: within an event, a new line is written as an escape."""
DONE_BYTES = 24
"""The most that the line takes."""


class Recording:
    """One exchange, in raw bytes and stamps; filled while it happens."""

    __slots__ = ("counts", "detail", "failure", "raw", "resent", "stamps", "t_end", "t_sched", "t_send")

    def __init__(self, t_sched: int) -> None:
        self.t_sched = self.t_send = self.t_end = t_sched
        self.raw = bytearray()
        self.stamps = array("q")
        """When each delivery of the network came."""
        self.counts = array("q")
        """How many bytes there were then."""
        self.resent = 0
        """How often it was sent once more, as the server had given up the connection that it went out on."""
        self.failure: str | None = None
        """How it ended if it did not end well: a word of ``Sample.error``."""
        self.detail: str | None = None

    def fail(self, failure: str, detail: str) -> None:
        """Note what went wrong, and that it was over by then."""
        self.failure, self.detail, self.t_end = failure, detail, time.perf_counter_ns()

    @property
    def deliveries(self) -> Iterator[tuple[int, int]]:
        """Yield each instant, and how many bytes there were by then."""
        return zip(self.stamps, self.counts, strict=True)


class Connection(asyncio.Protocol):
    """One connection, which carries one exchange at a time."""

    __slots__ = ("_fed", "_framing", "_grace", "_looks", "_most", "_over", "_recording", "_transport", "_wire")

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._transport: asyncio.Transport | None = None
        self._recording: Recording | None = None
        self._grace: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Let a request leave when it is written, and not when the loop has done everything else."""
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(0)
        self._wire.opened.add(self)

    async def carry(self, request: bytes, recording: Recording) -> None:
        """Send a request and record the answer to its end."""
        self._recording, self._framing = recording, Framing()
        self._fed = 0
        self._looks = True
        self._most = min(MOST_BYTES, max(ENOUGH_BYTES, MANY_BYTES // max(1, len(self._wire.opened))))
        self._over = asyncio.get_running_loop().create_future()
        recording.t_send = recording.t_end = time.perf_counter_ns()
        try:
            if self._transport is None:
                recording.fail("closed early", "the server closed the connection")
            else:
                self._transport.write(request)
                await self._over
        finally:
            if self._recording is recording:  # and not already that of the next, who may have come first
                self._end()

    def data_received(self, data: bytes) -> None:
        """Take what nobody has stamped yet."""
        self.arrived(data, time.perf_counter_ns())

    def arrived(self, data: bytes | memoryview, t_ns: int) -> bool:
        """Keep what arrived, and when; look closer at what may be an end alone, and say whether that was done."""
        recording = self._recording
        if recording is None:
            self.drop()  # nobody had asked
            return True
        raw = recording.raw
        raw += data
        size = len(raw)
        recording.stamps.append(t_ns)
        recording.counts.append(size)
        if raw.endswith(ENDS) or self._looks or size > self._most:
            self._look(recording, t_ns, len(data))
            return True
        return False

    def _look(self, recording: Recording, t_ns: int, size: int) -> None:
        """Find out whether the response is over."""
        raw, framing = recording.raw, self._framing
        if self._grace is None:
            recording.t_end = t_ns
        try:
            with memoryview(raw) as view, view[self._fed :] as news:
                framing.feed(news)
        except ValueError as error:
            recording.fail("garbage", str(error))
        self._fed = len(raw)
        # A header may end anywhere, and a body of known length has no mark at its end.
        self._looks = not framing.has_head or not (framing.is_chunked or framing.ends_with_connection)
        most = self._most if framing.has_head else MOST_HEAD_BYTES
        if len(raw) > most and not recording.failure:
            recording.fail("too large", f"more than {most >> 10} KiB{'' if framing.has_head else ' of header'}")
        if framing.is_over or recording.failure:
            self._end()
        elif self._grace is None and DONE_LINE.search(raw, max(0, len(raw) - size - DONE_BYTES)):
            self._wait_for_end()

    def _wait_for_end(self) -> None:
        """Give a stream that said ``[DONE]`` the time to end, where a further request could follow on it."""
        if self._wire.lingers or not self._framing.keeps_alive:
            self._end()
        else:
            self._grace = asyncio.get_running_loop().call_later(GRACE_S, self._stop_waiting)

    def _stop_waiting(self) -> None:
        """Remember that this server does not end its streams, so that nobody waits for it again."""
        self._wire.lingers = True
        self._end()

    def connection_lost(self, exc: Exception | None) -> None:
        """Judge whether the end of the connection was that of the response."""
        self._transport = None
        self._wire.opened.discard(self)
        self._wire.idle.discard(self)
        recording = self._recording
        if recording is None:
            return
        if self._grace is None and (exc is not None or not self._framing.ends_with_connection):
            recording.fail("closed early", reason(exc) if exc else "the server closed the connection")
        elif self._grace is None:
            recording.t_end = time.perf_counter_ns()
        self._end()

    def _end(self) -> None:
        """Wake whoever waits for the exchange; keep the connection if another can follow."""
        recording, self._recording = self._recording, None
        if recording is None:
            return
        if self._grace is not None:
            self._grace.cancel()
            self._grace = None
        transport, framing = self._transport, self._framing
        is_free = transport is not None and not transport.is_closing() and not transport.get_write_buffer_size()
        if is_free and framing.is_over and framing.keeps_alive and not recording.failure:
            self._wire.idle.add(self)
        else:
            self.drop()
        framing.forget()
        if not self._over.done():
            self._over.set_result(None)

    def drop(self) -> None:
        """Close the connection, whatever is under way on it."""
        self._wire.idle.discard(self)
        if self._transport is not None:
            self._transport.abort()


class Wire:
    """All connections to one server."""

    def __init__(self, host: str, port: int, tls: ssl.SSLContext | None = None) -> None:
        self._host = host
        self._port = port
        self._tls = tls
        self._addresses: list[str] = []
        self.opened: set[Connection] = set()
        self.idle: set[Connection] = set()
        """Those that can take a request."""
        self.lingers = False
        """Whether the server was seen to say ``[DONE]`` and then not to end the stream."""

    @property
    def is_plain(self) -> bool:
        """Whether what comes can be read past a loop's transports: it is not encrypted."""
        return self._tls is None

    async def exchange(self, request: bytes, *, timeout_s: float, t_sched: int | None = None) -> Recording:
        """Send one request and record its answer; every failure is part of what is returned."""
        recording = Recording(time.perf_counter_ns() if t_sched is None else t_sched)
        try:
            async with asyncio.timeout(timeout_s):
                await self._exchange(request, recording)
        except TimeoutError:
            recording.fail("timeout", f"after {timeout_s:g} s")
        except OSError as error:
            recording.fail("refused", reason(error))
        return recording

    async def _exchange(self, request: bytes, recording: Recording) -> None:
        """Use a connection that is open; if the server had given that up meanwhile, make a new one."""
        while self.idle:
            await self.idle.pop().carry(request, recording)
            if recording.raw or recording.failure != "closed early":
                return
            recording.failure = recording.detail = None
            recording.resent += 1
        connection = await self._connect()
        await connection.carry(request, recording)

    async def _connect(self) -> Connection:
        """Return a new connection, to the first of the host's addresses that takes one."""
        if not self._addresses:
            loop = asyncio.get_running_loop()
            found = await loop.getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM)
            self._addresses = list(dict.fromkeys(str(address[0]) for *_, address in found))
        failure: OSError | None = None
        for address in self._addresses:
            try:
                connection = await self._open(address)
            except OSError as error:
                failure = failure or error
            else:
                self._addresses = [address]
                return connection
        raise failure or OSError(f"{self._host} has no address")

    async def _open(self, address: str) -> Connection:
        connection = Connection(self)
        loop = asyncio.get_running_loop()
        if isinstance(loop, arrivals.Loop) and self.is_plain:
            await loop.open(connection, address, self._port)
            return connection
        options: dict[str, Any] = {"ssl": self._tls, "server_hostname": self._host} if self._tls else {}
        try:
            await loop.create_connection(lambda: connection, address, self._port, **options)
        except asyncio.CancelledError:
            self.opened.discard(connection)  # uvloop closes it without a word
            raise
        return connection

    async def close(self) -> None:
        """Close every connection, and let the loop notice."""
        for connection in tuple(self.opened):
            connection.drop()
        for _ in range(3):
            await asyncio.sleep(0)


def reason(error: Exception) -> str:
    """Return what an operating system's error says; names that cannot be looked up have numbers below zero."""
    number = getattr(error, "errno", None) or 0
    if number > 0 and not type(error).__module__.startswith("ssl"):
        return os.strerror(number).lower()
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
