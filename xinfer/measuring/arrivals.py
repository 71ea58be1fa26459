"""An event loop that reads plain connections itself and knows when the kernel received what it reads. Linux alone.

The kernel notes when each packet came (SO_TIMESTAMPNS, socket(7)). So a client that has to do something else first
reads later and still knows when; and while much comes it rests on purpose: one wake then serves all that came
meanwhile, and a wake costs more than a read does.
"""

from __future__ import annotations

import asyncio
import math
import select
import selectors
import socket
import struct
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

AVAILABLE = sys.platform == "linux"
SO_TIMESTAMPNS = 35
"""The option, and the kind of its messages (asm-generic/socket.h)."""
STAMP = struct.Struct("@ll")
"""Seconds and nanoseconds, on the clock on the wall."""
STAMP_BYTES = socket.CMSG_SPACE(STAMP.size)
NS = 1_000_000_000
BUFFER_BYTES = 2**18
MOST_EVENTS = 1024
REST_S = 0.001
"""All that one stream brings meanwhile has the stamp of the last of it."""
MANY = 2
"""So many reads within the time of a rest are worth one."""
TOGETHER_NS, TRIES = 2_000, 5
"""Clocks that are read within this are read at one instant; a process that is interrupted reads them again."""
STEP_NS = 1_000_000
"""If the clock on the wall moved by as much against the other, it was set, and does not tell what came before."""


class HasFile(Protocol):
    """What has a file of the system's."""

    def fileno(self) -> int:
        """Return its number."""


class Receiver(Protocol):
    """What is told of a line, as an asyncio protocol is of a transport."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the line."""

    def arrived(self, data: memoryview, t_ns: int) -> bool:
        """Take bytes, which are overwritten afterwards, and when they arrived; say whether that was more than noted."""

    def connection_lost(self, exc: Exception | None) -> None:
        """Take its end."""


class Line(asyncio.Transport):
    """One connection."""

    __slots__ = ("_is_closing", "_is_full", "_plug", "_reader", "_receiver", "_unsent", "arrived", "number", "receive")

    def __init__(self, reader: Reader, plug: socket.socket, receiver: Receiver) -> None:
        super().__init__()
        self._reader = reader
        self._plug = plug
        self._receiver = receiver
        self._unsent = bytearray()
        self._is_full = False
        """Whether the system took less than it was given."""
        self._is_closing = False
        self.number = plug.fileno()
        self.receive = plug.recvmsg_into
        self.arrived: Callable[[memoryview, int], bool] = receiver.arrived

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Do nothing: all that the system takes leaves when it is written."""

    def is_closing(self) -> bool:
        """Whether nothing more comes or goes."""
        return self._is_closing

    def get_write_buffer_size(self) -> int:
        """How many bytes could not be sent yet."""
        return len(self._unsent)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send now what the system takes, and the rest when it takes more."""
        if not self._is_closing:
            self._unsent += data
            self.flush()

    def flush(self) -> None:
        """Send what is left of what was written."""
        try:
            sent = self._plug.send(self._unsent)
        except BlockingIOError:
            sent = 0
        except OSError as error:
            self.lose(error)
            return
        del self._unsent[:sent]
        if self._is_full != bool(self._unsent):
            self._is_full = not self._is_full
            self._reader.watch(self, writable=self._is_full)

    def abort(self) -> None:
        """End it now, whatever is under way."""
        self.lose(None)

    def lose(self, error: Exception | None) -> None:
        """End it; the receiver hears of it when the loop comes round."""
        if not self._is_closing:
            self._is_closing = True
            self._reader.forget(self)
            asyncio.get_running_loop().call_soon(self._lost, error)

    def _lost(self, error: Exception | None) -> None:
        self._plug.close()
        self._receiver.connection_lost(error)


class Reader(selectors.BaseSelector):
    """Waits for what a loop waits for, and reads the lines meanwhile."""

    def __init__(self) -> None:
        self._others = selectors.EpollSelector()
        """What the loop handles itself."""
        self._poller = select.epoll()
        """The lines, and the others as one."""
        self._poller.register(self._others.fileno(), select.EPOLLIN)
        self._lines: dict[int, Line] = {}
        self._buffer = memoryview(bytearray(BUFFER_BYTES))
        self._buffers = [self._buffer]
        self._offset_ns = offset_ns()
        self._rests = False
        self._count, self._since_ns = 0, 0
        """How much came of late, and since when that is."""

    def add(self, line: Line) -> None:
        """Read a line from now on."""
        self._lines[line.number] = line
        self._poller.register(line.number, select.EPOLLIN)

    def watch(self, line: Line, *, writable: bool) -> None:
        """Notice when a line can be written to, or no more."""
        self._poller.modify(line.number, select.EPOLLIN | (select.EPOLLOUT if writable else 0))

    def forget(self, line: Line) -> None:
        """Read a line no more."""
        del self._lines[line.number]
        self._poller.unregister(line.number)

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Read until the loop may have something to do, and return what it waits for itself."""
        wait_s = math.inf if timeout is None else max(0.0, timeout)
        end_s = time.monotonic() + wait_s
        while True:
            if self._rests and wait_s:
                if others := self._others.select(min(REST_S, wait_s)):
                    return others
                wait_s = 0.0
            if self._read(self._poller.poll(None if wait_s == math.inf else wait_s, MOST_EVENTS)):
                return self._others.select(0)
            wait_s = end_s - time.monotonic()
            if wait_s <= 0:
                return []

    def _read(self, events: list[tuple[int, int]]) -> bool:
        """Read once from each line that has something; say whether the loop may have something to do now."""
        lines, buffers, buffer, unpack = self._lines, self._buffers, self._buffer, STAMP.unpack
        before_ns, offset = self._offset_ns, offset_ns()
        self._offset_ns = offset
        is_set = abs(offset - before_ns) > STEP_NS
        stamped, is_due = 0, False
        for number, what in events:
            line = lines.get(number)
            if line is None:
                is_due = True  # the others; or a line that was ended by what another one brought
                continue
            if what & select.EPOLLOUT:
                line.flush()
                is_due = True
                continue  # what there is to be read is found at the next turn
            try:
                size, said, _, _ = line.receive(buffers, STAMP_BYTES)
            except BlockingIOError:
                continue
            except OSError as error:
                line.lose(error)
                is_due = True
                continue
            if not size:
                line.lose(None)
                is_due = True
                continue
            if said and not is_set:
                seconds, nanoseconds = unpack(said[0][2])
                t_ns = seconds * NS + nanoseconds + offset
                stamped += 1
            else:
                t_ns = time.perf_counter_ns()
            is_due = line.arrived(buffer[:size], t_ns) or is_due
        self._pace(stamped, is_due=is_due)
        return is_due

    def _pace(self, stamped: int, *, is_due: bool) -> None:
        """Rest while much comes, but not where a request has ended: others may, and their places are not to be idle."""
        t_ns = time.perf_counter_ns()
        if self._rests or is_due or t_ns - self._since_ns > REST_S * NS:
            self._count, self._since_ns = 0, t_ns
        self._count += stamped
        self._rests = self._count >= MANY and not is_due

    def register(self, fileobj: int | HasFile, events: int, data: object = None) -> selectors.SelectorKey:
        """Wait for something that the loop handles itself."""
        return self._others.register(fileobj, events, data)

    def unregister(self, fileobj: int | HasFile) -> selectors.SelectorKey:
        """Wait for it no more."""
        return self._others.unregister(fileobj)

    def get_map(self) -> Mapping[int | HasFile, selectors.SelectorKey]:
        """Return all that is waited for."""
        return self._others.get_map()

    def close(self) -> None:
        """Wait for nothing any more."""
        self._poller.close()
        self._others.close()


class Loop(asyncio.SelectorEventLoop):
    """An event loop that can open lines."""

    def __init__(self) -> None:
        self._reader = Reader()
        super().__init__(self._reader)

    async def open(self, receiver: Receiver, address: str, port: int) -> None:
        """Open a line; raise OSError if there is none to be had."""
        plug = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM)
        try:
            plug.settimeout(0)
            plug.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with suppress(OSError):  # some sandboxes know of no such option: bytes are then stamped when they are read
                plug.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
            await self.sock_connect(plug, (address, port))
        except BaseException:
            plug.close()
            raise
        line = Line(self._reader, plug, receiver)
        self._reader.add(line)
        receiver.connection_made(line)


def offset_ns() -> int:
    """Return ``time.perf_counter_ns`` less the clock on the wall."""
    apart_ns, offset = NS, 0
    for _ in range(TRIES):
        before, wall, after = time.perf_counter_ns(), time.time_ns(), time.perf_counter_ns()
        if after - before < apart_ns:
            apart_ns, offset = after - before, (before + after) // 2 - wall
        if apart_ns < TOGETHER_NS:
            break
    return offset
