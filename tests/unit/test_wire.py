"""One exchange on a connection that is made of paper: every way to cut an answer, and every way to end it."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from typing import Any, cast

import pytest
import uvloop
from hypothesis import given
from hypothesis import strategies as st

from xinfer.measuring import arrivals, client, stream, wire
from xinfer.measuring.client import judge
from xinfer.measuring.wire import Connection, Recording, Wire, reason

LOOPS = [uvloop.new_event_loop, *([arrivals.Loop] if arrivals.AVAILABLE else [])]
HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
PLAIN_HEAD = b"HTTP/1.1 200 OK\r\n\r\n"
WORD = b'data: {"choices":[{"text":" [DONE]\\ndata: [DONE]\\n"}]}\n\n'
LAST = b'data: {"choices":[{"text":"","finish_reason":"length"}],"usage":{"completion_tokens":1}}\n\n'
DONE = b"data: [DONE]\n\n"


def chunked(*parts: bytes) -> bytes:
    return b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts)


WHOLE = HEAD + chunked(WORD, b": still here\n\n", LAST, DONE, b"")
CRLF = HEAD + chunked(*(part.replace(b"\n", b"\r\n") for part in (WORD, LAST, DONE)), b"")
"""Each of its events ends as a body in chunks does."""
LENGTH = b"HTTP/1.1 500 Oh\r\nContent-Length: 9\r\n\r\nno\r\n\r\n0\r\n"
CLOSED = PLAIN_HEAD + WORD + LAST


class Paper:
    """A transport that keeps what is written, and can be closed."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.written: list[bytes] = []
        self.unsent = 0
        self.is_aborted = False
        connection.connection_made(cast("asyncio.Transport", self))

    def set_write_buffer_limits(self, high: int) -> None:
        assert high == 0

    def get_write_buffer_size(self) -> int:
        return self.unsent

    def is_closing(self) -> bool:
        return self.is_aborted

    def write(self, data: bytes) -> None:
        self.written.append(data)

    def abort(self) -> None:
        if not self.is_aborted:
            self.is_aborted = True
            asyncio.get_running_loop().call_soon(self.connection.connection_lost, None)


class Scene:
    """A connection, its wire, and one exchange on it."""

    def __init__(self) -> None:
        self.wire = Wire("127.0.0.1", 1)
        self.connection = Connection(self.wire)
        self.paper = Paper(self.connection)

    async def play(self, *pieces: bytes, lost: Exception | str | None = "not") -> Recording:
        """Let pieces arrive, then perhaps the end of the connection; wait until the exchange is over."""
        recording = Recording(0)
        task = asyncio.create_task(self.connection.carry(b"request", recording))
        await asyncio.sleep(0)
        for piece in pieces:
            self.connection.data_received(piece)
        if lost != "not":
            self.connection.connection_lost(cast("Exception | None", lost))
        await asyncio.wait_for(task, 5)
        return recording

    @property
    def is_kept(self) -> bool:
        return self.connection in self.wire.idle


def played(*pieces: bytes, lost: Exception | str | None = "not") -> tuple[Recording, Scene]:
    async def run() -> tuple[Recording, Scene]:
        scene = Scene()
        return await scene.play(*pieces, lost=lost), scene

    return asyncio.run(run())


def run(act: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(cast("Any", act()))


def split(raw: bytes, places: list[int]) -> list[bytes]:
    ends = [0, *sorted({place for place in places if 0 < place < len(raw)}), len(raw)]
    return [raw[start:end] for start, end in itertools.pairwise(ends)]


def seen(recording: Recording) -> tuple[object, ...]:
    """Return what an exchange comes to."""
    exchange = client.read(recording)
    reply = stream.read(exchange.pieces)
    texts = [(chunk.characters, chunk.is_token) for chunk in reply.chunks]
    return exchange.status, texts, reply.finish_reason, reply.completion_tokens, judge(exchange, reply)


@pytest.mark.parametrize("raw", [pytest.param(WHOLE, id="lf"), pytest.param(CRLF, id="crlf"), LENGTH, CLOSED])
def test_an_answer_is_the_same_cut_anywhere(raw: bytes) -> None:
    """In one piece, in two at every place, and byte by byte; and its connection serves again where that is allowed."""
    lost: Any = None if raw is CLOSED else "not"
    expected, scene = played(raw, lost=lost)
    assert scene.is_kept is (raw is not CLOSED)
    for places in (*([place] for place in range(1, len(raw))), list(range(len(raw)))):
        recording, scene = played(*split(raw, places), lost=lost)
        assert seen(recording) == seen(expected)
        assert bytes(recording.raw) == raw
        assert scene.is_kept is (raw is not CLOSED)
        assert recording.stamps[-1] <= recording.t_end or lost == "not"


@given(st.lists(st.integers(1, len(CRLF))), st.sampled_from([WHOLE, CRLF]))
def test_an_answer_is_the_same_cut_by_chance(places: list[int], raw: bytes) -> None:
    """However many pieces it comes in, each is stamped once."""
    pieces = split(raw, places)
    recording, scene = played(*pieces)
    assert seen(recording) == (200, [(21, True), (0, False)], "length", 1, None)
    assert [count for _, count in recording.deliveries] == [sum(map(len, pieces[: n + 1])) for n in range(len(pieces))]
    assert list(recording.stamps) == sorted(recording.stamps)
    assert scene.is_kept
    assert scene.paper.written == [b"request"]


def test_what_a_model_writes_is_no_end() -> None:
    """Neither the word, nor what looks like its line, ends an answer that goes on."""
    recording, _ = played(HEAD + chunked(WORD), chunked(LAST), chunked(DONE, b""))
    assert len(recording.stamps) == 3


@pytest.mark.parametrize(
    ("pieces", "lost", "failure"),
    [
        pytest.param([], None, "closed early", id="without-a-word"),
        pytest.param([HEAD[:9]], None, "closed early", id="in-the-header"),
        pytest.param([HEAD, chunked(WORD)], None, "closed early", id="between-chunks"),
        pytest.param([HEAD, chunked(WORD)[:-4]], None, "closed early", id="in-a-chunk"),
        pytest.param([HEAD], ConnectionResetError(104, "x"), "closed early", id="reset"),
        pytest.param([CLOSED], ConnectionResetError(104, "x"), "closed early", id="reset-instead-of-closed"),
        pytest.param([CLOSED], None, None, id="which-is-how-this-answer-ends"),
        pytest.param([LENGTH[:-1]], None, "closed early", id="a-byte-short"),
        pytest.param([b"\0\1 no HTTP\r\n\r\n"], "not", "garbage", id="another-protocol"),
        pytest.param([b"HTTP/1.1 200 OK\r\nno header\r\n\r\n"], "not", "garbage", id="a-bad-header"),
    ],
)
def test_ends_have_names(pieces: list[bytes], lost: Any, failure: str | None) -> None:
    """What came before is kept, and the connection is not."""
    recording, scene = played(*pieces, lost=lost)
    assert recording.failure == failure
    assert bool(recording.detail) is (failure is not None)
    assert bytes(recording.raw) == b"".join(pieces)
    assert not scene.is_kept


def test_a_reset_is_explained() -> None:
    """In the system's words."""
    recording, _ = played(HEAD, lost=ConnectionResetError(104, "Connection reset by peer"))
    assert recording.detail == "connection reset by peer"


def test_nobody_waits_twice_for_a_server_that_does_not_end_its_streams() -> None:
    """After ``[DONE]`` there is a short grace for the end; who does not use it is not waited for again."""

    async def act() -> None:
        scene = Scene()
        recording = await scene.play(HEAD + chunked(WORD, LAST, DONE))
        assert recording.failure is None
        assert recording.t_end == recording.stamps[-1]
        assert scene.wire.lingers
        assert not scene.is_kept
        other = Connection(scene.wire)
        Paper(other)
        task = asyncio.create_task(other.carry(b"", Recording(0)))
        await asyncio.sleep(0)
        other.data_received(HEAD + chunked(WORD, LAST, DONE))
        await asyncio.sleep(0)
        assert task.done()

    run(act)


def test_an_end_within_the_grace_is_waited_for() -> None:
    """The connection is used again, and the exchange was over at ``[DONE]``."""

    async def act() -> None:
        scene = Scene()
        recording = Recording(0)
        task = asyncio.create_task(scene.connection.carry(b"", recording))
        await asyncio.sleep(0)
        scene.connection.data_received(HEAD + chunked(WORD, LAST, DONE))
        await asyncio.sleep(0.001)
        assert not task.done()
        scene.connection.data_received(chunked(b""))
        await task
        assert scene.is_kept
        assert not scene.wire.lingers
        assert recording.t_end == recording.stamps[0]

    run(act)


@pytest.mark.parametrize("lost", [None, ConnectionResetError(104, "x")])
def test_a_connection_that_ends_within_the_grace_was_done(lost: Any) -> None:
    """It had said so."""
    recording, scene = played(HEAD + chunked(WORD, LAST, DONE), lost=lost)
    assert recording.failure is None
    assert not scene.wire.lingers


@pytest.mark.parametrize("head", [PLAIN_HEAD, HEAD.replace(b"OK\r\n", b"OK\r\nConnection: close\r\n")])
def test_done_is_the_end_where_the_connection_is_not_kept(head: bytes) -> None:
    """There is nothing to wait for."""
    body = WORD + LAST + DONE if head is PLAIN_HEAD else chunked(WORD, LAST, DONE)
    recording, scene = played(head + body)
    assert recording.failure is None
    assert scene.paper.is_aborted
    assert not scene.wire.lingers


def test_a_response_has_a_largest_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """What comes after that is not kept, in a body as in a header."""
    monkeypatch.setattr(wire, "MOST_BYTES", 2**20)
    recording, scene = played(HEAD, *[b"g" * 2**18] * 5)
    assert (recording.failure, recording.detail) == ("garbage", "invalid character in chunk size")
    recording, scene = played(HEAD + b"200000\r\n", *[b"f" * 2**18] * 4)
    assert (recording.failure, recording.detail) == ("too large", "more than 1024 KiB")
    assert scene.paper.is_aborted
    recording, scene = played(b"HTTP/1.1 200 OK\r\nX: ", *[b"f" * 2**16] * 4)
    assert (recording.failure, recording.detail) == ("too large", "more than 256 KiB of header")


def test_a_connection_with_an_unsent_request_is_not_kept() -> None:
    """An answer that comes before the question's end leaves the rest of it on the wire."""

    async def act() -> None:
        scene = Scene()
        scene.paper.unsent = 1
        await scene.play(LENGTH)
        assert not scene.is_kept

    run(act)


def test_what_nobody_asked_for_ends_the_connection() -> None:
    """A kept connection that speaks first is no good for an exchange."""

    async def act() -> None:
        scene = Scene()
        await scene.play(WHOLE)
        before = scene.is_kept
        scene.connection.data_received(b"HTTP/1.1 408 Request Timeout\r\n\r\n")
        assert (before, scene.is_kept) == (True, False)
        assert scene.paper.is_aborted

    run(act)


def test_a_connection_taken_over_at_once_belongs_to_the_next() -> None:
    """Who asked before wakes later, and ends nothing any more."""

    async def act() -> None:
        scene = Scene()
        first, second = Recording(0), Recording(0)
        before = asyncio.create_task(scene.connection.carry(b"1", first))
        await asyncio.sleep(0)
        after = asyncio.create_task(scene.connection.carry(b"2", second))  # runs before the first has woken
        scene.connection.data_received(WHOLE)
        await before
        assert not after.done()
        scene.connection.data_received(LENGTH)
        await after
        assert (bytes(first.raw), bytes(second.raw)) == (WHOLE, LENGTH)
        assert scene.is_kept

    run(act)


def test_a_cancelled_exchange_takes_its_connection_along() -> None:
    """Its answer would come to the next."""

    async def act() -> None:
        scene = Scene()
        task = asyncio.create_task(scene.connection.carry(b"", Recording(0)))
        await asyncio.sleep(0)
        scene.connection.data_received(HEAD)
        task.cancel()
        await asyncio.wait([task])
        assert scene.paper.is_aborted
        assert not scene.wire.idle
        await asyncio.sleep(0)
        assert not scene.wire.opened

    run(act)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        pytest.param(ConnectionRefusedError(111, "x"), "connection refused", id="a-number"),
        pytest.param(OSError("no address"), "no address", id="words"),
        pytest.param(OSError(-2, "Name or service not known"), "Name or service not known", id="a-name"),
        pytest.param(TimeoutError(), "TimeoutError", id="nothing"),
    ],
)
def test_reasons_are_the_systems(error: Exception, expected: str) -> None:
    """Or what else there is to say."""
    assert reason(error) == expected


@pytest.mark.parametrize(("others", "enough", "failure"), [(0, 2**18, None), (3, 2**18, "too large"), (3, 2**21, None)])
def test_many_responses_at_once_have_less_room_each(
    monkeypatch: pytest.MonkeyPatch, others: int, enough: int, failure: str | None
) -> None:
    """A share of what all may take, as many as there are when a request is sent, but never less than is enough."""
    monkeypatch.setattr(wire, "MANY_BYTES", 2**21)
    monkeypatch.setattr(wire, "ENOUGH_BYTES", enough)

    async def act() -> None:
        scene = Scene()
        scene.wire.opened |= {Connection(scene.wire) for _ in range(others)}
        recording = await scene.play(HEAD + b"%x\r\n" % 2**20, b"f" * (2**20 - 1000), b"f" * 1000 + b"\r\n0\r\n\r\n")
        assert recording.failure == failure

    run(act)


@pytest.mark.parametrize("make_loop", LOOPS)
def test_a_time_out_while_connecting_leaves_no_connection(make_loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
    """Wherever it falls."""

    async def act() -> None:
        server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
        wire = Wire(*server.sockets[0].getsockname())
        for number in range(200):
            await wire.exchange(b"request", timeout_s=number * 1e-5)
        await wire.close()
        assert wire.opened == set()
        server.close()

    with asyncio.Runner(loop_factory=make_loop) as runner:
        runner.run(act())
