"""What a reference server can be told to do with a completion request, and the doing of it."""

from __future__ import annotations

import asyncio
import socket
import struct
import time
from typing import Any, Literal

import msgspec

Failure = Literal["reset", "close", "stall", "garbage", "html", "error", "no_http", "silence", "leave"]
"""Ways to break a reply: reset or end its connection, fall silent in it, write what is no event, write a page
instead, write an error; answer in no protocol, not at all, or leave the port for good."""


class Behaviour(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the server does with a completion request; the defaults are those of a well-behaved server."""

    headers_s: float = 0.0
    """From the request's arrival to the answer's headers."""
    ttft_s: float = 0.02
    """From the request's arrival to the first text."""
    gap_s: float = 0.005
    """Between chunks with text."""
    tokens_per_chunk: int = 1
    text: str = " token"
    """What each token reads."""
    empty_first: bool = False
    """Start the stream with a chunk that has no text, as chat servers send a role."""
    shape: Literal["completion", "chat"] = "completion"
    comment_every: int = 0
    """Put a comment, as servers keep a connection alive with, before every so many chunks; 0 is never."""
    done: bool = True
    """End the stream with ``[DONE]``."""
    finish: bool = True
    """Name a ``finish_reason``."""
    usage: Literal["separate", "last", "every", "none"] = "separate"
    """Count in a chunk of its own, in the finishing chunk, in every chunk, or not."""
    cached_tokens: int | None = None
    stop_after: int | None = None
    """Stop after so many tokens, and call it ``stop``."""
    framing: Literal["chunked", "close"] = "chunked"
    """How the end of the body is marked."""
    hang_up: bool = True
    """Close the connection when the stream is over; else leave the client waiting for its end."""
    status: int = 200
    """Answer completion requests with this status and an error."""
    refuses: tuple[str, ...] | None = None
    """Answer 400 to these fields, or, if empty, to every field that is not among the common ones."""
    token_ids: bool = True
    tokenizer: str | None = "content"
    """The field that ``POST /tokenize`` takes the text in; null is no tokenizer."""
    api_key: str | None = None
    """The only key that is let in; a wrong one is repeated in the error, as careless servers do."""
    fail: Failure | None = None
    fail_after: int = 0
    """How many tokens of a reply come before it fails; some failures come before any."""
    healthy: int = 0
    """How many completion requests are served well before any of ``status`` and ``fail`` begins."""


class Served(msgspec.Struct, kw_only=True):
    """What the server did with one completion request; stamps are ``time.perf_counter_ns``."""

    received_ns: int
    """When the whole request had been read."""
    headers_ns: int | None = None
    sent: list[tuple[int, int]] = []
    """For each chunk with text, just before it was written: the instant and its tokens."""
    ended_ns: int | None = None
    prompt: str = ""
    prompt_tokens: int = 0
    max_tokens: int = 0
    fields: list[str] = []
    wants_usage: bool = False


class HangUp(Exception):  # noqa: N818 -- the end of a connection, which is what was asked for
    """The connection ends here."""


def failure(message: str) -> dict[str, Any]:
    """Return an error as OpenAI-compatible servers write it."""
    return {"error": {"message": message, "type": "reference_server"}}


class Reply:
    """One streamed reply."""

    def __init__(self, does: Behaviour, served: Served, writer: asyncio.StreamWriter) -> None:
        self._does = does
        self._served = served
        self._writer = writer
        self._count = served.max_tokens if does.stop_after is None else min(does.stop_after, served.max_tokens)

    async def run(self) -> None:
        """Write the reply on a schedule that does not drift; raise HangUp where it shall break off."""
        try:
            if self._does.fail == "silence":
                await asyncio.Event().wait()
            await self._until(self._does.headers_s)
            await self._headers()
            if self._does.empty_first:
                await self._event("")
            await self._texts()
            await self._end()
        finally:
            self._served.ended_ns = time.perf_counter_ns()

    async def _texts(self) -> None:
        does = self._does
        sent = 0
        while sent < self._count:
            if does.fail and sent >= does.fail_after:
                await self._break()
            number = len(self._served.sent)
            await self._until(does.ttft_s + number * does.gap_s)
            if does.comment_every and number % does.comment_every == 0:
                await self._write(b": still here\n\n")
            size = min(does.tokens_per_chunk, self._count - sent)
            sent += size
            self._served.sent.append((time.perf_counter_ns(), size))
            await self._event(does.text * size, count=sent)

    async def _until(self, after_s: float) -> None:
        """Sleep until so many seconds after the request arrived."""
        left = after_s - (time.perf_counter_ns() - self._served.received_ns) / 1e9
        if left > 0:
            await asyncio.sleep(left)

    async def _headers(self) -> None:
        if self._does.fail == "no_http":
            self._writer.write(b"\x00\x01 this is no HTTP\r\n\r\n")
            raise HangUp
        kind = "text/html" if self._does.fail == "html" else "text/event-stream"
        coding = "Transfer-Encoding: chunked\r\n" if self._does.framing == "chunked" else ""
        self._served.headers_ns = time.perf_counter_ns()
        head = f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\n{coding}Connection: close\r\n\r\n"
        self._writer.write(head.encode())
        await self._writer.drain()

    async def _write(self, data: bytes) -> None:
        if self._does.framing == "chunked":
            data = b"%x\r\n%s\r\n" % (len(data), data)
        self._writer.write(data)
        await self._writer.drain()

    async def _event(self, text: str, *, finish: str | None = None, count: int = 0) -> None:
        choice: dict[str, Any] = {"index": 0, "finish_reason": finish}
        choice |= {"text": text} if self._does.shape == "completion" else {"delta": {"content": text}}
        document: dict[str, Any] = {"object": "text_completion", "model": "reference", "choices": [choice]}
        if self._does.usage == "every" or (finish and self._does.usage == "last"):
            document["usage"] = self._usage(count)
        await self._document(document)

    async def _document(self, document: object) -> None:
        await self._write(b"data: " + msgspec.json.encode(document) + b"\n\n")

    def _usage(self, count: int) -> dict[str, Any]:
        read, cached = self._served.prompt_tokens, self._does.cached_tokens
        details = {} if cached is None else {"prompt_tokens_details": {"cached_tokens": cached}}
        return {"prompt_tokens": read, "completion_tokens": count, "total_tokens": read + count, **details}

    async def _end(self) -> None:
        reason = "length" if self._count == self._served.max_tokens else "stop"
        if self._does.finish:
            await self._event("", finish=reason, count=self._count)
        if self._does.usage == "separate" and self._served.wants_usage:
            await self._document({"choices": [], "usage": self._usage(self._count)})
        if self._does.done:
            await self._write(b"data: [DONE]\n\n")
        if not self._does.hang_up:
            await asyncio.Event().wait()
        if self._does.framing == "chunked":
            await self._write(b"")

    async def _break(self) -> None:
        """Fail in the way that the behaviour names."""
        match self._does.fail:
            case "garbage":
                await self._write(b'data: {"choices": [{"text": \xff\xfe}\n\n')
                await self._write(b"neither a field nor a comment\n\n")
                return
            case "html":
                await self._write(b"<html><body>502 from a proxy that says 200</body></html>\n")
                await self._write(b"")
            case "error":
                await self._document(failure("out of memory"))
                await self._write(b"")
            case "stall":
                await asyncio.Event().wait()
            case "reset":
                opened: socket.socket = self._writer.get_extra_info("socket")
                opened.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self._writer.transport.abort()
        raise HangUp
