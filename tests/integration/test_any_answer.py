"""Whatever bytes a server answers with, in whatever portions: the request ends, in time, and with a name for it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from itertools import accumulate, pairwise

import pytest
import uvloop
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from xinfer.measuring import arrivals, client, stream
from xinfer.measuring.client import Client, Exchange, Target, explain, judge
from xinfer.measuring.stream import Reply
from xinfer.measuring.wire import Recording
from xinfer.testing.reference_behaviour import Behaviour
from xinfer.testing.reference_events import Asked
from xinfer.testing.reference_script import script
from xinfer.testing.reference_server import ReferenceServer, serving

LOOPS = [uvloop.new_event_loop, *([arrivals.Loop] if arrivals.AVAILABLE else [])]
TIMEOUT_S = 0.3
SLACK_S = 5.0
NAMES = {"closed early", "garbage", "timeout", "stalled", "error in stream", "too large"}
BODY = b'{"model": "m", "prompt": "a", "max_tokens": 3, "stream": true}'

behaviours = st.builds(
    Behaviour,
    framing=st.sampled_from(["chunked", "close", "length"]),
    shape=st.sampled_from(["completion", "chat", "reasoning", "tools"]),
    usage=st.sampled_from(["separate", "every", "none"]),
    text=st.sampled_from([" a", "é", "[DONE]", "\n\n", '"}\r\n\r\n0\r\n\r\n']),
    extensions=st.booleans(),
    done=st.booleans(),
    finish=st.booleans(),
    comment_every=st.integers(0, 1),
    line_end=st.sampled_from(["\n", "\r\n"]),
)
words = st.sampled_from(
    [
        b"\r\n", b"\n", b"\r\n\r\n", b"0\r\n\r\n", b"5\r\n", b"ffffffffffffffffff\r\n", b"-1\r\n",
        b"data: ", b"data:[DONE]\n\n", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 100 Continue\r\n\r\n",
        b"Content-Length: 3\r\n", b"Content-Length: 99999999999\r\n", b"Transfer-Encoding: chunked\r\n",
        b"Transfer-Encoding: gzip\r\n", b"Connection: close\r\n", b"Upgrade: h2c\r\n",
        b'{"choices":[]}', b'{"error": null}', b'{"error": "no"}', b'{"usage": {"completion_tokens": -1}}', b"[" * 5000,
        b"\x00", b"\xff\xfe", b": \n", b"event: x\n", b'data: {"choices":[{"text":"x","finish_reason":"stop"}]}\n\n',
    ]
)  # fmt: skip


def whole(does: Behaviour) -> bytes:
    """Return a good answer."""
    plan = script(does, Asked(prompt_tokens=1, max_tokens=3, wants_usage=True))
    return b"".join(step.data for step in plan.steps)


@st.composite
def answers(draw: st.DrawFn) -> bytes:
    """Draw a good answer with a few things done to it, or anything at all."""
    if draw(st.integers(0, 9)) == 0:
        return draw(st.binary(max_size=300))
    found = whole(draw(behaviours))
    for _ in range(draw(st.integers(0, 4))):
        start, stop = sorted(draw(st.tuples(*[st.integers(0, len(found))] * 2)))
        middle = draw(st.one_of(words, st.binary(max_size=8), st.just(b""), st.just(found[start:stop] * 2)))
        found = found[:start] + middle + found[stop if draw(st.booleans()) else start :]
    return found[: draw(st.integers(0, len(found)))] if draw(st.integers(0, 3)) == 0 else found


def recorded(answer: bytes, sizes: list[int]) -> Recording:
    """Return an answer as if it had come in portions of such sizes, and then the connection had ended."""
    recording = Recording(0)
    ends = [end for end in accumulate(sizes) if end < len(answer)]
    for t_ns, (start, end) in enumerate(pairwise([0, *ends, len(answer)]), 1):
        recording.raw += answer[start:end]
        recording.stamps.append(t_ns)
        recording.counts.append(end)
    recording.t_end = len(ends) + 2
    return recording


def read(recording: Recording) -> tuple[Exchange, Reply, str | None]:
    exchange = client.read(recording)
    reply = stream.read(exchange.pieces)
    return exchange, reply, judge(exchange, reply)


@settings(max_examples=400, deadline=None)
@given(answers(), st.lists(st.integers(1, 60), max_size=30))
def test_portions_change_nothing(answer: bytes, sizes: list[int]) -> None:
    """What a reply says does not depend on how the network cut it up; only when it was seen does."""
    exchange, reply, error = read(recorded(answer, sizes))
    once, reply_once, error_once = read(recorded(answer, []))
    assert (exchange.status, exchange.body, error) == (once.status, once.body, error_once)
    assert [(c.characters, c.is_token, c.completion_tokens) for c in reply.chunks] == [
        (c.characters, c.is_token, c.completion_tokens) for c in reply_once.chunks
    ]
    stamps = [t_ns for t_ns, _ in exchange.pieces]
    assert stamps == sorted(stamps)
    assert all(chunk.t_ns in stamps for chunk in reply.chunks)


@settings(max_examples=200, deadline=None)
@given(behaviours, st.lists(st.integers(1, 60), max_size=60))
def test_a_good_answer_is_read_whole(does: Behaviour, sizes: list[int]) -> None:
    """Three tokens, each stamped when its last letter came, whatever the form and the portions."""
    if not (does.done or does.finish):
        return
    answer = whole(does)
    recording = recorded(answer, sizes)
    _, reply, error = read(recording)
    assert error is None
    chunks = [chunk for chunk in reply.chunks if chunk.is_token]
    assert len(chunks) == 3
    plan = script(does, Asked(prompt_tokens=1, max_tokens=3, wants_usage=True))
    written, ends = 0, []
    for step in plan.steps:
        written += len(step.data)
        ends += [written] * len(step.sizes)
    for chunk, end in zip(chunks, ends, strict=True):
        came = dict(recording.deliveries)[chunk.t_ns]
        before = dict(recording.deliveries).get(chunk.t_ns - 1, 0)
        assert came >= end - len(does.line_end) - 2
        assert before < end


@pytest.fixture(scope="module")
def server() -> Iterator[ReferenceServer]:
    with serving(Behaviour()) as one:
        yield one


@pytest.mark.parametrize("make_loop", LOOPS)
@pytest.mark.parametrize("ending", [None, "reset", "stall"])
def test_every_answer_ends(
    server: ReferenceServer, ending: str | None, make_loop: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    """Closed, reset or left open: no longer than the time-out, named or whole, and no connection is left behind."""

    async def ask(target: Target) -> Exchange:
        async with Client(target) as one:
            exchange = await one.send("/v1/completions", BODY, timeout_s=TIMEOUT_S)
            if ending != "stall":  # after which the server takes nothing on a connection that it promised to keep
                assert (await one.send("/health", timeout_s=20)).body == b'{"status":"ok"}'
            wire = one._wire
        for _ in range(200):  # the loop takes its turns to notice
            await asyncio.sleep(0.001 if wire.opened else 0)
        assert wire.opened == set()
        return exchange

    with asyncio.Runner(loop_factory=make_loop) as runner:

        @settings(
            max_examples=40 if ending == "stall" else 200,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            phases=(Phase.explicit, Phase.reuse, Phase.generate),  # a search for less would wait for each time-out
        )
        @given(answers())
        def check(answer: bytes) -> None:
            server.become(Behaviour(raw=answer, fail=ending, keep_alive=False))  # type: ignore[arg-type]
            target = Target(url=server.url, model="m")
            exchange = runner.run(ask(target))
            reply = stream.read(exchange.pieces)
            error = judge(exchange, reply)
            assert exchange.t_end - exchange.t_send < (TIMEOUT_S + SLACK_S) * 1e9
            if error is None:
                assert exchange.status == 200
                assert reply.is_finished
            else:
                assert error in NAMES or error.removeprefix("http ").isdigit()
                assert len(explain(exchange, reply, target)) in range(1, 301)

        check()
