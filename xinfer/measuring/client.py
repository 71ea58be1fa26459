"""One exchange with a server, stamped as it happens and judged afterwards.

Nothing is parsed while a stream runs: the client's own work would delay the stamps of other streams.
"""

from __future__ import annotations

import base64
import re
import ssl
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import SplitResult, quote, unquote, urlsplit

import msgspec

from xinfer.errors import ConfigError
from xinfer.measuring import framing
from xinfer.measuring.wire import Wire

if TYPE_CHECKING:
    from types import TracebackType

    from xinfer.measuring.framing import Piece
    from xinfer.measuring.stream import Reply
    from xinfer.measuring.wire import Recording

DETAIL_CHARACTERS = 300
PORTS = {"http": 80, "https": 443}
CONTROL = re.compile(r"[^ -~]")
"""What no header may carry."""

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
    tokenizer: tuple[str, ...] = ()
    """A program that tokenizes as the model does, for a server that does it for nobody."""

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
            is_address = parts.scheme in PORTS and bool(_ascii(parts)) and parts.port != 0
        except ValueError:
            is_address = False
        if not is_address:
            message = f"{self.url!r} is not an address of a server; allowed: http://host:port, https://host:port"
            raise ConfigError(message)
        if self.api_key and CONTROL.search(self.api_key.strip()):
            raise ConfigError("the API key has a character that no header can carry; allowed: printable ASCII")

    def wire(self) -> Wire:
        """Return connections to this server, none of them open yet."""
        parts = urlsplit(self.url)
        tls = ssl.create_default_context() if parts.scheme == "https" else None
        return Wire(_ascii(parts), parts.port or PORTS[parts.scheme], tls)

    def asking(self, path: str, body: bytes | None = None) -> bytes:
        """Return a request as it goes over the wire: a post of a body, or a get."""
        parts = urlsplit(self.url)
        host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else _ascii(parts)
        head = {
            "Host": host if parts.port is None else f"{host}:{parts.port}",
            "Accept": "*/*",
            "Accept-Encoding": "identity",
            "User-Agent": "xinfer",
        }
        if authorization := self._authorization(parts):
            head["Authorization"] = authorization
        if body is not None:
            head |= {"Content-Type": "application/json", "Content-Length": str(len(body))}
        place = quote(parts.path.rstrip("/") + path, safe="/%:@!$&'()*+,;=~")
        lines = (f"{'GET' if body is None else 'POST'} {place} HTTP/1.1", *(f"{k}: {v}" for k, v in head.items()))
        return "\r\n".join((*lines, "", "")).encode("ascii") + (body or b"")

    def _authorization(self, parts: SplitResult) -> str:
        if self.api_key:
            return f"Bearer {self.api_key.strip()}"
        if parts.username is None:
            return ""
        pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        return f"Basic {base64.b64encode(pair.encode()).decode()}"


def _ascii(parts: SplitResult) -> str:
    """Return a host's name as the network knows it; raise ValueError if it can have none."""
    return (parts.hostname or "").encode("idna").decode("ascii")


class Exchange(msgspec.Struct, kw_only=True):
    """What happened on the wire, in raw stamps."""

    t_sched: int
    t_send: int
    t_end: int
    t_headers: int | None = None
    status: int | None = None
    pieces: list[Piece] = []
    failure: Failure | None = None
    detail: str | None = None

    @property
    def body(self) -> bytes:
        """Everything the server sent after its headers."""
        return b"".join(piece for _, piece in self.pieces)


def read(recording: Recording) -> Exchange:
    """Read what was recorded; bytes that are no HTTP are a failure of their own, however the connection ended."""
    content = framing.read(recording.raw, recording.deliveries)
    is_garbage = content.garbage is not None
    return Exchange(
        t_sched=recording.t_sched,
        t_send=recording.t_send,
        t_end=recording.t_end,
        t_headers=content.t_headers,
        status=content.status,
        pieces=content.pieces,
        failure="garbage" if is_garbage else recording.failure,
        detail=content.garbage if is_garbage else recording.detail,
    )


class Client:
    """Sends requests to one target, one at a time or many: for questions, and not for load."""

    def __init__(self, target: Target) -> None:
        target.check()
        self.target = target

    async def __aenter__(self) -> Self:
        """Make ready to connect."""
        self._wire = self.target.wire()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close whatever is still open."""
        await self._wire.close()

    async def send(self, path: str, body: bytes | None = None, *, timeout_s: float) -> Exchange:
        """Post a body, or get, and read the answer to its end; every failure is part of what is returned."""
        return read(await self._wire.exchange(self.target.asking(path, body), timeout_s=timeout_s))


def judge(exchange: Exchange, reply: Reply) -> Failure | None:
    """Return what went wrong with a completion request, or null."""
    if exchange.status is None:
        return exchange.failure or "closed early"
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
