"""Reading stamped streams, as servers of every kind write them."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xinfer.measuring.stream import Reply, read

WORD = b'data: {"choices":[{"text":" word","finish_reason":null}]}\n\n'
LAST = b'data: {"choices":[{"text":"","finish_reason":"length"}]}\n\n'
USAGE = b'data: {"choices":[],"usage":{"prompt_tokens":7,"completion_tokens":2,"total_tokens":9}}\n\n'
DONE = b"data: [DONE]\n\n"
STREAM = WORD + WORD + LAST + USAGE + DONE


def texts(reply: Reply) -> list[tuple[int, int]]:
    """Return the stamp and the characters of each chunk with generated text."""
    return [(chunk.t_ns, chunk.characters) for chunk in reply.chunks if chunk.is_token]


def test_a_stream_piece_by_piece() -> None:
    """Every event has the stamp of the piece that completed it."""
    reply = read([(1, WORD), (2, WORD), (3, LAST), (4, USAGE), (5, DONE)])
    assert texts(reply) == [(1, 5), (2, 5)]
    assert (reply.prompt_tokens, reply.completion_tokens, reply.cached_tokens) == (7, 2, None)
    assert (reply.finish_reason, reply.done, reply.garbage, reply.error) == ("length", True, 0, None)


def test_an_event_arrives_with_its_last_byte() -> None:
    """A line that the network cut in two counts from its second half."""
    assert texts(read([(1, WORD[:20]), (2, WORD[20:30]), (3, WORD[30:])])) == [(3, 5)]


@settings(deadline=None)
@given(cuts=st.lists(st.integers(0, len(STREAM)), max_size=20))
def test_how_the_network_cuts_a_stream_does_not_matter(cuts: list[int]) -> None:
    """The same bytes give the same reply but for its stamps."""
    edges = [0, *sorted(cuts), len(STREAM)]
    reply = read([(i, STREAM[a:b]) for i, (a, b) in enumerate(itertools.pairwise(edges))])
    assert [characters for _, characters in texts(reply)] == [5, 5]
    assert (reply.completion_tokens, reply.finish_reason, reply.done, reply.garbage) == (2, "length", True, 0)


@pytest.mark.parametrize(
    ("event", "characters", "is_token"),
    [
        pytest.param(b'{"choices":[{"text":"abc"}]}', 3, True, id="text"),
        pytest.param(b'{"choices":[{"text":""}]}', 0, False, id="empty-text"),
        pytest.param(b'{"choices":[{"delta":{"role":"assistant","content":null}}]}', 0, False, id="a-role"),
        pytest.param(b'{"choices":[{"delta":{"role":"assistant","content":""}}]}', 0, False, id="an-empty-role"),
        pytest.param(b'{"choices":[{"delta":{"content":"ab"}}]}', 2, True, id="chat-text"),
        pytest.param(b'{"choices":[{"delta":{"reasoning_content":"ab"}}]}', 2, True, id="reasoning"),
        pytest.param(b'{"choices":[{"delta":{"reasoning":"ab"}}]}', 2, True, id="reasoning-by-another-name"),
        pytest.param(b'{"choices":[{"delta":{"tool_calls":[{"index":0}]}}]}', 0, True, id="a-tool-call"),
        pytest.param(b'{"choices":[{"text":""}],"usage":{"completion_tokens":1}}', 0, True, id="held-back-text"),
        pytest.param(b'{"choices":[{"text":""}],"usage":{"completion_tokens":0}}', 0, False, id="nothing-yet"),
        pytest.param(b'{"choices":[],"usage":{"completion_tokens":9}}', 0, False, id="usage-alone"),
        pytest.param(b'{"choices":null,"usage":{"completion_tokens":9}}', 0, False, id="usage-without-choices"),
        pytest.param(b'{"choices":[{"text":"","finish_reason":"stop"}],"usage":{"completion_tokens":9}}', 0, False,
                     id="usage-in-the-finishing-chunk"),
        pytest.param(b'{"choices":[{"text":"ab","finish_reason":"stop"}],"usage":{"completion_tokens":9}}', 2, True,
                     id="text-and-usage-in-the-finishing-chunk"),
    ],
)  # fmt: skip
def test_what_makes_a_token(event: bytes, characters: int, is_token: bool) -> None:  # noqa: FBT001
    """A chunk is a token chunk if generated text came with it, or is held back but counted."""
    (chunk,) = read([(1, b"data: " + event + b"\n\n")]).chunks
    assert (chunk.characters, chunk.is_token) == (characters, is_token)


@pytest.mark.parametrize(
    "stream",
    [
        pytest.param(b": comment\n\n" + STREAM, id="a-comment"),
        pytest.param(b"event: x\nid: 1\nretry: 5\nwhat is this\n" + STREAM, id="other-fields"),
        pytest.param(STREAM.replace(b"\n", b"\r\n"), id="carriage-returns"),
        pytest.param(STREAM.replace(b"data: ", b"data:"), id="no-space-after-the-colon"),
        pytest.param(STREAM.rstrip(), id="no-newline-at-the-end"),
        pytest.param(STREAM.replace(b"\n\n", b"\n"), id="no-empty-lines"),
    ],
)
def test_liberties_that_servers_take(stream: bytes) -> None:
    """Comments, unknown fields and other line ends change nothing."""
    reply = read([(1, stream)])
    assert len(texts(reply)) == 2
    assert (reply.completion_tokens, reply.done, reply.garbage) == (2, True, 0)


def test_the_end_need_not_be_announced() -> None:
    """A finish_reason ends a stream as well as [DONE] does; text alone does not."""
    assert read([(1, WORD + LAST)]).is_finished
    assert read([(1, WORD + DONE)]).is_finished
    assert not read([(1, WORD)]).is_finished


@pytest.mark.parametrize(
    "line",
    [
        pytest.param(b"data: {", id="no-json"),
        pytest.param(b"data: [1, 2]", id="another-shape"),
        pytest.param(b'data: {"choices": 3}', id="another-type"),
        pytest.param(b'data: {"choices":[{"text":"\xff\xfe"}]}', id="no-text"),
        pytest.param(b'data: {"error":' + b"[" * 100_000, id="without-end"),
    ],
)
def test_garbage_is_counted(line: bytes) -> None:
    """A data line that is no event never raises, and never counts as text."""
    reply = read([(1, WORD + line + b"\n\n" + WORD)])
    assert (reply.garbage, len(texts(reply))) == (1, 2)


def test_a_cut_line_is_no_garbage() -> None:
    """The last line of a broken stream is simply missing."""
    reply = read([(1, WORD + WORD[:30])])
    assert (reply.garbage, len(texts(reply)), reply.is_finished) == (0, 1, False)


def test_an_error_inside_a_stream() -> None:
    """Servers that have answered 200 report later failures in the stream; the first is kept."""
    reply = read([(1, WORD + b'data: {"error":{"message":"out of memory"}}\n\ndata: {"error":"again"}\n\n')])
    assert reply.error == '{"message":"out of memory"}'


def test_running_counts() -> None:
    """A count with every chunk is kept with the chunk, and the last one is the reply's."""
    events = [b'{"choices":[{"text":"x"}],"usage":{"prompt_tokens":5,"completion_tokens":%d}}' % n for n in (3, 6)]
    details = b'{"choices":[],"usage":{"prompt_tokens_details":{"cached_tokens":4}}}'
    reply = read([(1, b"".join(b"data: " + event + b"\n\n" for event in (*events, details)))])
    assert [chunk.completion_tokens for chunk in reply.chunks] == [3, 6, None]
    assert (reply.prompt_tokens, reply.completion_tokens, reply.cached_tokens) == (5, 6, 4)


def test_nothing() -> None:
    """An empty body is an unfinished stream."""
    reply = read([])
    assert (reply.chunks, reply.is_finished, reply.has_tokens) == ([], False, False)
