"""Responses are read the same however the network cuts them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xinfer.measuring.framing import Content, Framing, read

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
CODED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
CHUNKED = CODED + b"3\r\nabc\r\n5;a=b\r\n\r\n0\r\n\r\n0\r\nTrailer: x\r\n\r\n"
"""With an extension, a trailer, and a chunk that looks like an end."""
LENGTH = HEAD + b"Content-Length: 8\r\n\r\nabc\r\n0\r\n"
CLOSED = HEAD + b"\r\nabc\r\n0\r\n"
INTERIM = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: <x>\r\n\r\n" + CHUNKED
EMPTY = b"HTTP/1.1 204 No Content\r\nContent-Type: text/plain\r\n\r\n"
BODY = b"abc\r\n0\r\n"


def cut(raw: bytes, places: list[int]) -> Content:
    """Read a response that arrived in pieces, the n-th at the instant n."""
    ends = [*sorted({place for place in places if 0 < place < len(raw)}), len(raw)]
    return read(raw, list(enumerate(ends, 1)))


WHOLE = [
    pytest.param(CHUNKED, 200, BODY, True, id="chunked"),
    pytest.param(LENGTH, 200, BODY, True, id="with-a-length"),
    pytest.param(CLOSED, 200, BODY, False, id="ended-by-closing"),
    pytest.param(INTERIM, 200, BODY, True, id="announced"),
    pytest.param(EMPTY, 204, b"", True, id="without-a-body"),
    pytest.param(CHUNKED.replace(b"200", b"503"), 503, BODY, True, id="an-error"),
    pytest.param(CHUNKED + b"HTTP/1.1 500 Oh\r\nContent-Length: 1\r\n\r\nx", 200, BODY, True, id="with-a-surplus"),
]


@pytest.mark.parametrize(("raw", "status", "body", "is_over"), WHOLE)
def test_a_response_is_read_wherever_it_is_cut(raw: bytes, status: int, body: bytes, *, is_over: bool) -> None:
    """In one piece, in two at every place, and byte by byte."""
    for places in ([], *([place] for place in range(1, len(raw))), list(range(len(raw)))):
        found = cut(raw, places)
        assert (found.status, b"".join(piece for _, piece in found.pieces)) == (status, body)
        assert (found.is_over, found.garbage) == (is_over, None)
        assert found.ends_with_connection == (not is_over)


@given(st.lists(st.integers(1, len(INTERIM) - 1)))
def test_every_byte_has_the_stamp_of_its_delivery(places: list[int]) -> None:
    """The header's end and each byte of the body bear the instant at which they came."""
    ends = [*sorted(set(places)), len(INTERIM)]
    when = [next(n for n, end in enumerate(ends, 1) if at < end) for at in range(len(INTERIM))]
    found = cut(INTERIM, places)
    assert found.t_headers == when[INTERIM.index(b"\r\n\r\n3\r\n") + 3]
    first, second = INTERIM.index(b"abc"), INTERIM.index(b"b\r\n\r\n0") + 3
    body = [*range(first, first + 3), *range(second, second + 5)]
    stamps = [t_ns for t_ns, piece in found.pieces for _ in piece]
    assert stamps == [when[at] for at in body]


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        pytest.param(b"\x00\x01 this is no HTTP\r\n\r\n", "expected HTTP/", id="another-protocol"),
        pytest.param(CODED + b"zz\r\n", "invalid character in chunk size", id="a-size-that-is-no-number"),
        pytest.param(CODED + b"f" * 17, "chunk size overflow", id="a-size-above-all-numbers"),
        pytest.param(HEAD + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n", "duplicate", id="two-lengths"),
        pytest.param(b"HTTP/1.1 101 Switching\r\nUpgrade: h2c\r\nConnection: upgrade\r\n\r\nPRI", "another protocol",
                     id="an-upgrade-that-nobody-asked-for"),
    ],
)  # fmt: skip
def test_what_is_no_http_is_named(raw: bytes, said: str) -> None:
    """In whatever pieces it comes; what came before is kept."""
    for places in ([], list(range(len(raw)))):
        found = cut(raw, places)
        assert found.garbage is not None
        assert said in found.garbage
        assert not found.is_over


@given(st.binary(max_size=200), st.lists(st.integers(1, 200)))
def test_reading_never_raises(junk: bytes, places: list[int]) -> None:
    """Whatever the bytes are, and wherever they are put."""
    for raw in (junk, HEAD + junk, CHUNKED[:-20] + junk):
        found = cut(raw, places)
        assert sum(len(piece) for _, piece in found.pieces) <= len(raw)


@pytest.mark.parametrize(
    ("raw", "keeps"),
    [
        pytest.param(CHUNKED, True, id="chunked"),
        pytest.param(LENGTH, True, id="with-a-length"),
        pytest.param(CLOSED, False, id="no-end-but-closing"),
        pytest.param(LENGTH.replace(b"Content-Type", b"Connection: close\r\nContent-Type"), False, id="it-says-close"),
        pytest.param(LENGTH.replace(b"1.1", b"1.0"), False, id="an-old-protocol"),
        pytest.param(LENGTH.replace(b"1.1", b"1.0").replace(b"Content-Type", b"Connection: keep-alive\r\nA"), True,
                     id="an-old-protocol-that-says-keep-alive"),
        pytest.param(EMPTY, True, id="without-a-body"),
        pytest.param(LENGTH + b"x", False, id="with-a-byte-too-many"),
        pytest.param(LENGTH + LENGTH, False, id="with-an-answer-too-many"),
    ],
)  # fmt: skip
def test_a_connection_is_kept_when_the_server_allows(raw: bytes, *, keeps: bool) -> None:
    """And nothing came that nobody had asked for."""
    framing = Framing()
    framing.feed(raw)
    assert framing.keeps_alive is keeps
    framing.forget()


def test_portions_do_not_matter_to_the_end() -> None:
    """It is found at the last byte, not one earlier."""
    for raw in (CHUNKED, LENGTH, INTERIM, EMPTY):
        framing = Framing()
        seen = []
        for byte in raw:
            framing.feed(bytes([byte]))
            seen.append(framing.is_over)
        assert seen == [False] * (len(raw) - 1) + [True]
