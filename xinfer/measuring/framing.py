"""Where a response ends, and what is in it: HTTP/1.1, read by llhttp from bytes that have arrived already."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import httptools

if TYPE_CHECKING:
    from collections.abc import Iterable

Piece = tuple[int, bytes]
"""Bytes as the network delivered them, and the instant they arrived."""

FIRST_FINAL = 200
"""Statuses below announce another response."""
LENGTH, CODING = b"content-length", b"transfer-encoding"
"""Headers that say where a body ends; without them it ends with the connection."""


class Framing:
    """Follows one response to its end; may be fed in any portions."""

    __slots__ = (
        "_is_kept",
        "_parser",
        "_told",
        "has_head",
        "has_surplus",
        "is_chunked",
        "is_framed",
        "is_over",
        "status",
    )

    def __init__(self) -> None:
        self.status: int | None = None
        self.has_head = False
        """Whether the header has come to its end."""
        self.is_framed = False
        """Whether the header says where the body ends."""
        self.is_chunked = False
        """Whether it says so by saying that the body will."""
        self.is_over = False
        """Whether the body has come to that end."""
        self.has_surplus = False
        """Whether more came after it, which nobody had asked for."""
        self._is_kept = False
        self._told: set[bytes] = set()
        self._parser = httptools.HttpResponseParser(self)

    def feed(self, data: bytes | memoryview) -> None:
        """Take what comes next; raise ValueError for what is no HTTP."""
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self.has_surplus = True
            if not self.is_over:
                said = str(error) if isinstance(error, httptools.HttpParserError) else "another protocol follows"
                raise ValueError(said[:1].lower() + said[1:]) from None

    @property
    def keeps_alive(self) -> bool:
        """Whether the server will take another request on this connection."""
        return self._is_kept and not self.has_surplus

    @property
    def ends_with_connection(self) -> bool:
        """Whether a body has begun that has no other end."""
        return self.has_head and not self.is_framed

    def forget(self) -> None:
        """Let go of the parser, which holds this: a ring that waits for a collector that may be off."""
        del self._parser

    def on_message_begin(self) -> None:
        """Begin the response, or the one that an informational one announced."""
        self.has_surplus = self.is_over
        self._told = set()

    def on_header(self, name: bytes, _value: bytes) -> None:
        """Note what is told of the body's end."""
        self._told.add(name.lower())

    def on_headers_complete(self) -> None:
        """Note the status, unless it only announces another."""
        status = self._parser.get_status_code()
        if status >= FIRST_FINAL and not self.is_over:
            self.status, self.has_head = status, True
            self._is_kept = bool(self._parser.should_keep_alive())  # at the end llhttp has forgotten it
            self.is_chunked = CODING in self._told
            self.is_framed = self.is_chunked or LENGTH in self._told

    def on_message_complete(self) -> None:
        """Note the end; llhttp tells none where the connection's is the only one."""
        self.is_over = self.is_over or self.has_head
        self.is_framed = self.is_framed or self.has_head  # a status that has no body ends with its header


class Content(NamedTuple):
    """A response, as far as it came."""

    status: int | None
    t_headers: int | None
    """When the header's last byte arrived."""
    pieces: list[Piece]
    """Of the body."""
    is_over: bool
    """Whether all of it came."""
    ends_with_connection: bool
    garbage: str | None
    """Why it is no HTTP; null if it is, as far as it goes."""


class _Reading(Framing):
    """Keeps the body too."""

    __slots__ = ("pieces", "t_headers", "t_ns")

    def __init__(self) -> None:
        super().__init__()
        self.t_ns = 0
        self.t_headers: int | None = None
        self.pieces: list[Piece] = []

    def on_headers_complete(self) -> None:
        super().on_headers_complete()
        if self.has_head and self.t_headers is None:
            self.t_headers = self.t_ns

    def on_body(self, body: bytes) -> None:
        if not self.is_over:
            self.pieces.append((self.t_ns, body))


def read(raw: bytes | bytearray, arrivals: Iterable[tuple[int, int]]) -> Content:
    """Read a response; each arrival is an instant and how many bytes there were by then. Never raises."""
    reading = _Reading()
    garbage = None
    start = 0
    with memoryview(raw) as view:
        for reading.t_ns, end in arrivals:
            try:
                with view[start:end] as part:
                    reading.feed(part)
            except ValueError as error:
                garbage = str(error)
                break
            start = end
    ends_with_connection = reading.ends_with_connection
    reading.forget()
    return Content(reading.status, reading.t_headers, reading.pieces, reading.is_over, ends_with_connection, garbage)
