"""The loop that reads plain connections itself: right about when, whatever it does meanwhile. Linux alone."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import pytest

from xinfer.measuring import arrivals
from xinfer.measuring.arrivals import Line, Loop

MS = 1_000_000
PATIENCE_S = 10


class Notes:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.line: Line | None = None
        self.came: list[tuple[bytes, int]] = []
        self.lost: list[Exception | None] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.line = cast("Line", transport)

    def arrived(self, data: memoryview, t_ns: int) -> bool:
        self.came.append((bytes(data), t_ns))
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.append(exc)

    @property
    def raw(self) -> bytes:
        return b"".join(data for data, _ in self.came)


@contextmanager
def listening(family: socket.AddressFamily = socket.AF_INET) -> Iterator[socket.socket]:
    with socket.create_server(("::1" if family == socket.AF_INET6 else "127.0.0.1", 0), family=family) as server:
        yield server


async def pair(server: socket.socket, notes: Notes) -> tuple[Line, socket.socket]:
    """Open a line, and return it with its other end."""
    loop = cast("Loop", asyncio.get_running_loop())
    address, port, *_ = server.getsockname()
    await loop.open(notes, address, port)
    peer, _ = server.accept()
    peer.settimeout(PATIENCE_S)
    assert notes.line is not None
    return notes.line, peer


async def until(is_so: Callable[[], object]) -> None:
    """Let the loop go round until something is so."""
    for _ in range(10_000):
        if is_so():
            return
        await asyncio.sleep(0.001)
    raise TimeoutError


def busy(seconds: float) -> None:
    """Keep the loop from everything."""
    time.sleep(seconds)


def opened() -> int:
    """Return how many files this process has open."""
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def run(act: Callable[[], Awaitable[None]]) -> None:
    """Run in a loop with lines, where there is one."""
    assert (sys.platform == "linux") == arrivals.AVAILABLE
    if arrivals.AVAILABLE:
        with asyncio.Runner(loop_factory=Loop) as runner:
            runner.run(cast("Any", act()))


def test_what_is_read_late_is_known_to_have_come_in_time() -> None:
    """A client that is busy for 100 ms stamps what came after 20 ms with that, and not with when it looked."""

    async def act() -> None:
        notes = Notes()
        with listening() as server:
            line, peer = await pair(server, notes)
            peer.send(b"warm")  # the kernel switches its notes on with the first connection that asks for them
            await until(lambda: notes.came)
            busy(0.02)
            before_ns = time.perf_counter_ns()
            peer.send(b"token")
            after_ns = time.perf_counter_ns()
            busy(0.08)
            await until(lambda: notes.raw == b"warmtoken")
            t_ns = notes.came[-1][1]
            assert before_ns - MS / 10 < t_ns < after_ns + MS
            line.abort()
            peer.close()

    run(act)


def test_many_tokens_have_a_stamp_each_and_the_order_in_which_they_came() -> None:
    """A rest changes no stamp: those of 32 streams that send in turns are in order, each near its own sending."""

    async def act() -> None:
        several = [Notes() for _ in range(32)]
        with listening() as server:
            pairs = [await pair(server, notes) for notes in several]
            sent: list[int] = []
            for _ in range(4):
                for _, peer in pairs:
                    sent.append(time.perf_counter_ns())
                    peer.send(b"token")
                await asyncio.sleep(0.003)
            await until(lambda: all(len(notes.raw) == 20 for notes in several))
        assert [len(notes.came) for notes in several] == [4] * 32
        came = [notes.came[turn][1] for turn in range(4) for notes in several]
        assert came == sorted(came)
        late = sorted(t_ns - sent_ns for t_ns, sent_ns in zip(came[32:], sent[32:], strict=True))
        assert late[0] > -MS / 10
        assert late[len(late) // 2] < MS / 2
        for line, peer in pairs:
            line.abort()
            peer.close()

    run(act)


def test_it_rests_while_much_comes_and_no_request_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two reads within a millisecond begin a rest; one that brought less, or an end of a request, is the last."""
    turns = [  # when, how much came, whether a request ended, and whether it rests then
        (0.0, 1, False, False),
        (0.9, 1, False, True),
        (2.0, 5, False, True),
        (3.0, 1, False, False),
        (3.5, 1, False, True),
        (5.0, 0, False, False),
        (7.0, 1, False, False),
        (9.0, 1, False, False),
        (9.1, 9, True, False),
        (9.2, 2, False, True),
        (10.3, 9, True, False),
    ]
    if not arrivals.AVAILABLE:
        return
    reader = arrivals.Reader()
    reader._since_ns = 0
    found = []
    for t_ms, stamped, is_due, _ in turns:
        monkeypatch.setattr(time, "perf_counter_ns", lambda t_ms=t_ms: int(t_ms * MS))
        reader._pace(stamped, is_due=is_due)
        found.append(reader._rests)
    assert found == [rests for *_, rests in turns]
    reader.close()


def test_a_rest_keeps_nothing_else_waiting() -> None:
    """A timer and a pipe are served in time while tokens come without end."""

    async def act() -> None:
        several = [Notes() for _ in range(8)]
        loop = asyncio.get_running_loop()
        with listening() as server:
            pairs = [await pair(server, notes) for notes in several]
            is_over = False

            def send() -> None:
                while not is_over:
                    for _, peer in pairs:
                        peer.send(b"token")
                    time.sleep(2e-4)

            sending = asyncio.create_task(asyncio.to_thread(send))
            lates: list[float] = []
            for _ in range(20):
                due_s = loop.time() + 0.005
                await asyncio.sleep(0.005)
                lates.append(loop.time() - due_s)
            ends = os.pipe()
            heard = loop.create_future()
            loop.add_reader(ends[0], heard.cancel)
            os.write(ends[1], b"x")
            begun_s = loop.time()
            await asyncio.wait([heard])
            assert loop.time() - begun_s < 0.05
            loop.remove_reader(ends[0])
            is_over = True
            await sending
            assert sorted(lates)[10] < 0.05
            for end in ends:
                os.close(end)
        for line, peer in pairs:
            line.abort()
            peer.close()

    run(act)


@pytest.mark.parametrize("without", ["the-option", "a-steady-clock"])
def test_without_notes_of_the_kernel_bytes_are_stamped_when_they_are_read(
    monkeypatch: pytest.MonkeyPatch, without: str
) -> None:
    """Where there is no such option, and where the clock on the wall was set meanwhile."""
    if without == "the-option":
        monkeypatch.setattr(arrivals, "SO_TIMESTAMPNS", 9999)
    else:
        offsets = iter(range(0, 10**15, 10 * arrivals.STEP_NS))
        monkeypatch.setattr(arrivals, "offset_ns", lambda: next(offsets))

    async def act() -> None:
        notes = Notes()
        with listening() as server:
            line, peer = await pair(server, notes)
            peer.send(b"token")
            busy(0.02)
            looked_ns = time.perf_counter_ns()
            await until(lambda: notes.came)
            assert looked_ns <= notes.came[0][1] <= time.perf_counter_ns()
            line.abort()
            peer.close()

    run(act)


def test_what_the_system_does_not_take_at_once_leaves_later() -> None:
    """Eight megabytes to a server that reads when it likes, in the order in which they were written."""
    first, second = os.urandom(2**22), os.urandom(2**22)

    async def act() -> None:
        notes = Notes()
        with listening() as server:
            line, peer = await pair(server, notes)
            line.write(first)
            line.write(second)
            assert 0 < line.get_write_buffer_size() < 2**23
            peer.send(b"early")  # an answer may come before all has been sent
            await until(lambda: notes.raw == b"early")
            read = bytearray()

            def take() -> None:
                while len(read) < 2**23:
                    read.extend(peer.recv(2**18))

            await asyncio.to_thread(take)
            assert read == first + second
            await until(lambda: not line.get_write_buffer_size())
            peer.send(b" late")
            await until(lambda: notes.raw == b"early late")
            line.abort()
            peer.close()

    run(act)


@pytest.mark.parametrize("ending", ["close", "reset", "ours"])
def test_an_end_is_told_once(ending: str) -> None:
    """Whoever ends it, and however often; afterwards nothing is sent, and nothing open is left."""

    async def act() -> None:
        notes = Notes()
        with listening() as server:
            line, peer = await pair(server, notes)
            if ending == "ours":
                line.abort()
                line.abort()
                assert line.is_closing()
            else:
                if ending == "reset":
                    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                peer.close()
            await until(lambda: notes.lost)
            line.abort()
            line.write(b"too late")
            await asyncio.sleep(0.01)
        (lost,) = notes.lost
        assert (lost is None) == (ending != "reset")
        if isinstance(lost, OSError):
            assert lost.errno == errno.ECONNRESET
        assert line._plug.fileno() == -1
        assert line.get_write_buffer_size() == 0
        peer.close()

    run(act)


def test_writing_to_what_is_gone_ends_it() -> None:
    """The error is told when the loop comes round, and not to whoever writes."""

    async def act() -> None:
        notes = Notes()
        with listening() as server:
            line, peer = await pair(server, notes)
            line._plug.shutdown(socket.SHUT_WR)
            line.write(b"request")
            assert notes.lost == []
            await until(lambda: notes.lost)
        assert isinstance(notes.lost[0], BrokenPipeError)
        peer.close()

    run(act)


def test_a_line_that_another_one_ends_is_read_no_more() -> None:
    """Both have something at the same turn; the first to be read ends the other."""

    async def act() -> None:
        first, second = Notes(), Notes()
        with listening() as server:
            pairs = [await pair(server, first), await pair(server, second)]
            lines = {id(first): pairs[0][0], id(second): pairs[1][0]}

            def ending(mine: Notes, other: Notes) -> Callable[[memoryview, int], bool]:
                def arrived(data: memoryview, t_ns: int) -> bool:
                    lines[id(other)].abort()
                    return Notes.arrived(mine, data, t_ns)

                return arrived

            pairs[0][0].arrived, pairs[1][0].arrived = ending(first, second), ending(second, first)
            for _, peer in pairs:
                peer.send(b"token")
            await until(lambda: first.lost or second.lost)
            await asyncio.sleep(0.01)
        assert sorted([first.raw, second.raw]) == [b"", b"token"]
        for line, peer in pairs:
            line.abort()
            peer.close()

    run(act)


def test_a_line_reaches_the_newer_addresses_too() -> None:
    """Where the machine has them."""

    async def act() -> None:
        if not socket.has_dualstack_ipv6():
            return
        notes = Notes()
        with listening(socket.AF_INET6) as server:
            line, peer = await pair(server, notes)
            peer.send(b"token")
            await until(lambda: notes.raw == b"token")
            line.abort()
            peer.close()

    run(act)


def test_nobody_there_is_an_error_that_leaves_nothing_open() -> None:
    """Refused, or given up while it waits."""

    async def act() -> None:
        loop = cast("Loop", asyncio.get_running_loop())
        with listening() as server:
            port = server.getsockname()[1]
        before = opened()
        with pytest.raises(ConnectionRefusedError):
            await loop.open(Notes(), "127.0.0.1", port)
        task = asyncio.create_task(loop.open(Notes(), "192.0.2.1", 9))  # RFC 5737: nobody's
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises((asyncio.CancelledError, OSError)):
            await task
        assert opened() == before

    run(act)


def test_two_clocks_are_read_at_one_instant(monkeypatch: pytest.MonkeyPatch) -> None:
    """The reading that was least interrupted counts, and one that was not is enough."""
    assert abs(arrivals.offset_ns() - arrivals.offset_ns()) < MS / 10
    instants = iter([0, 50_000, 50_000, 60_000, 70_000, 71_000])
    walls = iter([1_000_000, 1_055_000, 1_070_500])
    monkeypatch.setattr(time, "perf_counter_ns", lambda: next(instants))
    monkeypatch.setattr(time, "time_ns", lambda: next(walls))
    assert arrivals.offset_ns() == -1_000_000
    assert next(instants, None) is None


def test_stamps_of_one_stream_never_go_back() -> None:
    """A thousand tokens, each read by itself."""

    async def act() -> None:
        notes = Notes()
        with listening() as server:
            line, peer = await pair(server, notes)

            def has(count: int) -> Callable[[], bool]:
                return lambda: len(notes.came) == count

            for number in range(1000):
                peer.send(b"token")
                await until(has(number + 1))
            assert all(before < after for (_, before), (_, after) in pairwise(notes.came))
            line.abort()
            peer.close()

    run(act)
