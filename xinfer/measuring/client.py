"""One HTTP exchange with a server, stamped as it happens and judged afterwards.

Nothing is parsed while a stream runs: the client's own work would delay the stamps of other streams.
"""

from __future__ import annotations

import asyncio
import os
import time
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlsplit

import aiohttp
import msgspec

from xinfer.errors import ConfigError

if TYPE_CHECKING:
    from types import SimpleNamespace, TracebackType

    from xinfer.measuring.stream import Piece, Reply

READ_BUFFER_BYTES = 2**22
"""Large enough that a busy client never makes the server wait; 64 KiB was seen to cost nine tenths of the rate."""

DETAIL_CHARACTERS = 300

Failure = str
"""How an exchange ended that did not end well; the words are those of ``Sample.error``."""


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """A server that speaks the OpenAI API, and how it wants to be asked."""

    url: str
    """Base address without ``/v1``."""
    model: str = ""
    """The name that requests use; if empty, the first that the server lists."""
    request: dict[str, Any] = {}
    """Body fields for a fixed output length and a defeated prompt cache, which differ between engines."""
    api_key: str | None = None
    """Sent as a header, and never written anywhere."""

    def __repr__(self) -> str:
        """Leave the key out, so that no message or log can show it."""
        return f"Target(url={self.place!r}, model={self.model!r}, request={self.request!r})"

    @property
    def place(self) -> str:
        """The address as messages may show it: without a user's name and password."""
        parts = urlsplit(self.url)
        return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl().rstrip("/")

    def check(self) -> None:
        """Raise ConfigError unless the address is one of a web server."""
        try:
            parts = urlsplit(self.url)
            is_address = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
        except ValueError:
            is_address = False
        if not is_address:
            message = f"{self.url!r} is not an address of a server; allowed: http://host:port, https://host:port"
            raise ConfigError(message)


class Exchange(msgspec.Struct, kw_only=True):
    """What happened on the wire, in raw stamps; filled while it happens."""

    t_sched: int
    t_send: int
    t_end: int
    t_headers: int | None = None
    status: int | None = None
    pieces: list[Piece] = []
    failure: Failure | None = None
    detail: str | None = None

    @classmethod
    def at(cls, t_ns: int) -> Self:
        """Return an exchange of which nothing has happened yet."""
        return cls(t_sched=t_ns, t_send=t_ns, t_end=t_ns)

    @property
    def body(self) -> bytes:
        """Everything the server sent after its headers."""
        return b"".join(piece for _, piece in self.pieces)


async def _stamp_sending(
    _session: aiohttp.ClientSession, context: SimpleNamespace, _params: aiohttp.TraceRequestHeadersSentParams
) -> None:
    """Note the instant at which the connection stands and the request leaves."""
    context.trace_request_ctx.t_send = time.perf_counter_ns()


class Client:
    """Sends requests to one target, each over a connection of its own.

    llama-server closes the connection after a stream, and a second request on it would be lost.
    """

    def __init__(self, target: Target) -> None:
        target.check()
        self.target = target

    async def __aenter__(self) -> Self:
        """Open the session."""
        trace = aiohttp.TraceConfig()
        trace.on_request_headers_sent.append(_stamp_sending)
        headers = {"Content-Type": "application/json", "Accept-Encoding": "identity"}
        if self.target.api_key:
            headers["Authorization"] = f"Bearer {self.target.api_key.strip()}"
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, force_close=True),
            timeout=aiohttp.ClientTimeout(total=None),
            headers=headers,
            read_bufsize=READ_BUFFER_BYTES,
            trace_configs=[trace],
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the session with whatever is still open."""
        await self._session.close()

    async def send(self, path: str, body: bytes | None = None, *, timeout_s: float) -> Exchange:
        """Post a body, or get, and read the answer to its end; every failure is part of what is returned."""
        exchange = Exchange.at(time.perf_counter_ns())
        try:
            async with asyncio.timeout(timeout_s):
                await self._read(exchange, self.target.url.rstrip("/") + path, body)
        except TimeoutError:
            exchange.failure, exchange.detail = "timeout", f"after {timeout_s:g} s"
        except aiohttp.ClientConnectorError as exc:
            exchange.failure, exchange.detail = "refused", _reason(exc)
        except aiohttp.ClientResponseError as exc:
            exchange.failure, exchange.detail = "garbage", exc.message
        except (aiohttp.ClientError, OSError) as exc:
            exchange.failure, exchange.detail = "closed early", str(exc)
        exchange.t_end = time.perf_counter_ns()
        return exchange

    async def _read(self, exchange: Exchange, url: str, body: bytes | None) -> None:
        """Stamp each piece as it arrives; stop at ``[DONE]``, after which some servers do not hang up."""
        method = "GET" if body is None else "POST"
        options: dict[str, Any] = {"allow_redirects": False, "trace_request_ctx": exchange}
        async with self._session.request(method, url, data=body, **options) as response:
            exchange.t_headers, exchange.status = time.perf_counter_ns(), response.status
            async for piece in response.content.iter_any():
                exchange.pieces.append((time.perf_counter_ns(), piece))
                if piece[-16:].rstrip().endswith(b": [DONE]"):
                    break


def _reason(error: aiohttp.ClientConnectorError) -> str:
    """Say why a connection was not made; names that cannot be looked up have numbers below zero."""
    number = error.errno or 0
    return os.strerror(number).lower() if number > 0 else error.strerror or str(error)


def judge(exchange: Exchange, reply: Reply) -> Failure | None:
    """Return what went wrong with a completion request, or null."""
    if exchange.status is None:
        return exchange.failure
    if exchange.status != HTTPStatus.OK:
        return f"http {exchange.status}"
    if reply.error is not None:
        return "error in stream"
    if reply.garbage:
        return "garbage"
    return None if reply.is_finished else _broken(exchange, reply)


def _broken(exchange: Exchange, reply: Reply) -> Failure:
    """Name the way in which a stream ended before its end."""
    if exchange.failure == "timeout":
        return "stalled" if reply.has_tokens else "timeout"
    is_stream = bool(reply.chunks) or not exchange.body.strip()
    return exchange.failure or ("closed early" if is_stream else "garbage")


def explain(exchange: Exchange, reply: Reply, target: Target) -> str:
    """Return one line about a failure, without the key even where the server repeats it."""
    if reply.garbage:
        said = f"{reply.garbage} lines are no events of a completion stream"
    elif reply.chunks:
        said = "the stream ended without finish_reason and without [DONE]"
    else:
        said = exchange.body.decode(errors="replace") or "the answer is empty"
    said = reply.error or exchange.detail or said
    if target.api_key:
        said = said.replace(target.api_key.strip(), "***")
    return " ".join(said[: 4 * DETAIL_CHARACTERS].split())[:DETAIL_CHARACTERS]
