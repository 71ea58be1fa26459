"""The writing of one reply: each step when it is due, stamped just before it leaves."""

from __future__ import annotations

import os
import socket
import struct
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from xinfer.testing.reference_behaviour import Served
    from xinfer.testing.reference_script import Script

UNHURRIED_NS = 1_000
"""Between the repetitions of what has no end; a client that reads slowly sets the pace instead."""


class Line:
    """The outgoing side of a connection.

    A loop's transport keeps what it is given until all that is due has been called, which would make stamps of the
    last of many streams too early by the time that all others take. So bytes go straight to the system where they can.
    """

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        is_plain = transport.get_extra_info("sslcontext") is None
        self._fd: int | None = transport.get_extra_info("socket").fileno() if is_plain else None
        self.is_paused = False
        """Whether the client does not read fast enough."""

    @property
    def is_closed(self) -> bool:
        """Whether nothing can be written any more."""
        return self._transport.is_closing()

    def write(self, data: bytes) -> None:
        """Write now, or as soon as the client reads."""
        if self._transport.is_closing():
            return
        if self._fd is not None and not self._transport.get_write_buffer_size():
            try:
                written = os.write(self._fd, data)
            except OSError:
                written = 0  # full, or broken: the transport finds out which
            if written == len(data):
                return
            data = data[written:]
        self._transport.write(data)

    def close(self) -> None:
        """End the connection in good order."""
        self._transport.close()

    def reset(self) -> None:
        """End it so that the client sees an error."""
        with socket.socket(fileno=os.dup(self._transport.get_extra_info("socket").fileno())) as same:
            same.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._transport.abort()


class Reply:
    """One reply, played from its script; :meth:`play` is called by the clock."""

    def __init__(
        self, script: Script, due_ns: tuple[int, ...], served: Served, line: Line, on_end: Callable[[], None]
    ) -> None:
        self._script = script
        self._due_ns = due_ns
        self._served = served
        self._line = line
        self._on_end = on_end
        self._next = 0
        self._is_waiting = False
        last = len(due_ns) - 1
        self._pause_ns = due_ns[last] - due_ns[last - 1] if last > 0 else 0

    @property
    def first_ns(self) -> int:
        """When the first step is due."""
        return self._served.received_ns + (self._due_ns[0] if self._due_ns else 0)

    @property
    def is_said(self) -> bool:
        """Whether a client that leaves now has got everything."""
        return self._next >= self._script.said

    def play(self, t_ns: int) -> int | None:
        """Write the next step at this instant; return when the one after it is due, null if none is for now."""
        line = self._line
        if line.is_closed:
            return None
        if line.is_paused:
            self._is_waiting = True
            return None
        if self._next < len(self._due_ns):
            step = self._script.steps[self._next]
            if not self._next:
                self._served.headers_ns = t_ns
            for size in step.sizes:
                self._served.sent.append((t_ns, size))
            self._next += 1
            line.write(step.data)
        if self._next < len(self._due_ns):
            return self._served.received_ns + self._due_ns[self._next]
        return self._finish()

    def resume(self) -> bool:
        """Say whether the reply waited for the client to read."""
        waited, self._is_waiting = self._is_waiting, False
        return waited

    def _finish(self) -> int | None:
        if self._script.end == "repeat":
            self._next -= 1
            return time.perf_counter_ns() + max(self._pause_ns, UNHURRIED_NS)
        if self._script.end == "stall":
            self._served.outcome = "whole" if self._served.outcome == "open" else self._served.outcome
            return None
        self._served.end("whole")
        if self._script.end == "keep":
            self._on_end()
        elif self._script.end == "close":
            self._line.close()
        else:
            self._line.reset()
        return None
