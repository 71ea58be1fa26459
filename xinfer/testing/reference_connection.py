"""One connection of the reference server: reads requests, and answers each or has it answered in its own time."""

from __future__ import annotations

import asyncio
import re
import time
import zlib
from http import HTTPStatus
from typing import TYPE_CHECKING, NamedTuple, cast

import msgspec

from xinfer.testing.reference_behaviour import Behaviour, Served
from xinfer.testing.reference_events import Asked, failure
from xinfer.testing.reference_reply import Line, Reply
from xinfer.testing.reference_script import moments, script

if TYPE_CHECKING:
    from xinfer.testing.reference_server import ReferenceServer

CHAT = "/v1/chat/completions"
KNOWN_FIELDS = frozenset({"model", "prompt", "messages", "max_tokens", "temperature", "stream"})
LETTERS_PER_TOKEN = 4
VOCABULARY = 50_000
REDIRECTION = 3
RETRIED = (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE)
MODELS = {"object": "list", "data": [{"id": "reference", "object": "model"}]}

METHOD_LETTERS = 8
_method = re.compile(rb"[A-Z]+( |$)")
_length = re.compile(rb"\ncontent-length: *(\d+)", re.IGNORECASE)
_key = re.compile(rb"\nauthorization: *Bearer (\S+)", re.IGNORECASE)
_leaving = re.compile(rb"\nconnection: *close", re.IGNORECASE)
_fields = msgspec.json.Decoder(dict[str, msgspec.Raw])


def tokens(text: str) -> list[int]:
    """Tokenize as this server does: every four letters of a word are one token."""
    size = LETTERS_PER_TOKEN
    pieces = (word[i : i + size] for word in text.split() for i in range(0, len(word), size))
    return [zlib.crc32(piece.encode()) % VOCABULARY for piece in pieces]


def _count(text: str) -> int:
    """Return how many tokens a text has."""
    return sum(-(-len(word) // LETTERS_PER_TOKEN) for word in text.split())


class _Request(NamedTuple):
    method: str
    path: str
    head: bytes
    body: bytes


class Connection(asyncio.Protocol):
    """One client, for as long as it stays."""

    def __init__(self, server: ReferenceServer) -> None:
        self._server = server
        self._number = server.connections
        server.connections += 1
        self._incoming = bytearray()
        self._completions = 0
        self._served: Served | None = None
        self._reply: Reply | None = None
        self._idle: asyncio.TimerHandle | None = None

    # What the loop calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start to listen."""
        self._line = Line(cast("asyncio.Transport", transport))
        self._server.open.add(self)

    def data_received(self, data: bytes) -> None:
        """Take what came, and answer if that was the rest of a request."""
        self._incoming += data
        if self._reply is None:
            self._next()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 -- the loop gives it
        """Note that the client has gone, if it did."""
        self._server.open.discard(self)
        self._await()
        if self._served is not None and self._served.ended_ns is None:
            self._served.end("whole" if self._reply is not None and self._reply.is_said else "left")

    def pause_writing(self) -> None:
        """Wait for a client that reads slowly."""
        self._line.is_paused = True

    def resume_writing(self) -> None:
        """Go on where it stopped."""
        self._line.is_paused = False
        if self._reply is not None and self._reply.resume():
            self._server.clock.call_at(time.perf_counter_ns(), self._reply.play)

    # What the server calls

    def abort(self) -> None:
        """Break it off."""
        self._line.close()

    # Requests

    def _next(self) -> None:
        """Answer what has been read as a whole, until an answer takes its own time."""
        while self._reply is None and not self._line.is_closed and (request := self._request()) is not None:
            self._await()
            t_ns = time.perf_counter_ns()
            try:
                self._route(request, t_ns)
            except (ValueError, KeyError) as error:
                self._answer(request, HTTPStatus.BAD_REQUEST, failure(f"{type(error).__name__}: {error}"))

    def _request(self) -> _Request | None:
        """Take one whole request; null if the rest of it is still to come."""
        if self._incoming and not _method.match(self._incoming[:METHOD_LETTERS]):
            self._incoming.clear()
            self._answer(_Request("", "", b"\nConnection: close", b""), HTTPStatus.BAD_REQUEST, failure("no HTTP"))
            return None
        head, stop, _ = self._incoming.partition(b"\r\n\r\n")
        length = _length.search(head)
        size = len(head) + len(stop) + (int(length[1]) if length else 0)
        if not stop or len(self._incoming) < size:
            return None
        body = bytes(self._incoming[len(head) + len(stop) : size])
        del self._incoming[:size]
        method, path, _ = head.split(b" ", 2)
        return _Request(method.decode(), path.decode("latin-1"), bytes(head), body)

    def _route(self, request: _Request, t_ns: int) -> None:
        server = self._server
        match request.method, request.path:
            case "POST", "/v1/completions" | "/v1/chat/completions":
                self._complete(request, _fields.decode(request.body), t_ns)
            case "POST", "/tokenize" if (field := server.behaviour.tokenizer) in (
                found := _fields.decode(request.body)
            ):
                self._answer(request, HTTPStatus.OK, {"tokens": tokens(msgspec.json.decode(found[field or ""]))})
            case "GET", "/health":
                self._answer(request, HTTPStatus.OK, {"status": "ok"})
            case "GET", "/v1/models":
                self._answer(request, HTTPStatus.OK, MODELS)
            case "GET", "/log":
                self._answer(request, HTTPStatus.OK, server.log)
            case "GET", "/cpu":
                self._answer(request, HTTPStatus.OK, time.process_time())
            case "PUT", "/behaviour":
                server.become(msgspec.json.decode(request.body, type=Behaviour))
                self._answer(request, HTTPStatus.OK, server.behaviour)
            case _:
                self._answer(request, HTTPStatus.NOT_FOUND, failure(f"{request.method} {request.path} is not served"))

    def _complete(self, request: _Request, fields: dict[str, msgspec.Raw], t_ns: int) -> None:
        """Begin a reply, or refuse it."""
        server, place = self._server, self._completions
        self._completions += 1
        if server.behaviour.drops_reused and place:
            self._line.close()
            return
        asked, prompt = _asked(request, fields)
        served = self._served = Served(
            received_ns=t_ns, connection=self._number, place=place, prompt=prompt, prompt_tokens=asked.prompt_tokens,
            max_tokens=asked.max_tokens, fields=sorted(fields), wants_usage=asked.wants_usage,
        )  # fmt: skip
        number = len(server.log)
        server.log.append(served)
        does = server.behaviour if server.behaviour.breaks(number) else server.behaviour.well()
        if (refusal := _refusal(does, request, fields)) is not None:
            served.headers_ns, served.status = time.perf_counter_ns(), refusal[0]
            served.end("refused")
            self._answer(request, *refusal, location=does.location)
        elif does.fail == "leave":
            served.end("leave")
            server.leave()
        else:
            self._begin(does, asked, served, number)

    def _begin(self, does: Behaviour, asked: Asked, served: Served, number: int) -> None:
        plan = script(does, asked)
        due_ns = plan.due_ns(moments(does, plan.writes, number))
        served.outcome = does.fail or "open"
        served.status = None if does.raw is not None else HTTPStatus.OK
        served.planned_ns = [due for due, step in zip(due_ns, plan.steps, strict=True) for _ in step.sizes]
        served.completion_tokens, served.finish_reason = plan.completion_tokens, plan.finish_reason
        served.cached_tokens = None if plan.completion_tokens is None else does.cached_tokens
        self._reply = Reply(plan, due_ns, served, self._line, self._ended)
        self._server.clock.call_at(self._reply.first_ns, self._reply.play)

    # Answers

    def _ended(self) -> None:
        """Go on with the next request."""
        self._reply = None
        self._await(self._server.behaviour.idle_s)
        self._next()

    def _await(self, idle_s: float | None = None) -> None:
        """Close the connection after so long without a request; null is never."""
        if self._idle is not None:
            self._idle.cancel()
        self._idle = None if idle_s is None else asyncio.get_running_loop().call_later(idle_s, self._line.close)

    def _answer(self, request: _Request, status: int, document: object, *, location: str = "") -> None:
        """Write a whole answer at once."""
        body = msgspec.json.encode(document)
        keeps = self._server.behaviour.keep_alive and not _leaving.search(request.head)
        lines = [
            f"HTTP/1.1 {status} {HTTPStatus(status).phrase}",
            "Content-Type: application/json",
            f"Content-Length: {len(body)}",
            f"Connection: {'keep-alive' if keeps else 'close'}",
            *([f"Location: {location}"] if status // 100 == REDIRECTION else []),
            *(["Retry-After: 1"] if status in RETRIED else []),
        ]
        self._line.write("\r\n".join([*lines, "", ""]).encode() + body)
        if not keeps:
            self._line.close()


def _asked(request: _Request, fields: dict[str, msgspec.Raw]) -> tuple[Asked, str]:
    """Return what the reply depends on, and the prompt."""
    is_chat = request.path == CHAT
    raw = bytes(fields["messages" if is_chat else "prompt"])
    if is_chat:
        prompt = "\n".join(str(message["content"]) for message in msgspec.json.decode(raw))
        count = _count(prompt)
    elif raw.startswith(b'"'):
        prompt = msgspec.json.decode(raw, type=str)
        count = _count(prompt)
    else:
        prompt, count = raw.decode(), raw.count(b",") + 1
    options = msgspec.json.decode(fields.get("stream_options", b"null")) or {}
    most = fields.get("max_tokens", fields.get("max_completion_tokens", b"16"))
    return Asked(
        prompt_tokens=count, max_tokens=msgspec.json.decode(most, type=int),
        wants_usage=bool(options.get("include_usage")), is_stream=bytes(fields.get("stream", b"")) == b"true",
        keeps=not _leaving.search(request.head), is_chat=is_chat,
    ), prompt  # fmt: skip


def _refusal(does: Behaviour, request: _Request, fields: dict[str, msgspec.Raw]) -> tuple[int, object] | None:
    """Return the status and the error for a request that the behaviour refuses; null if it does not."""
    unknown = set(fields) - KNOWN_FIELDS if does.refuses == () else set(fields) & set(does.refuses or ())
    found = _key.search(request.head)
    key = found[1].decode("latin-1") if found else None
    if does.api_key is not None and key != does.api_key:
        return HTTPStatus.UNAUTHORIZED, failure(f"incorrect key: {key}")
    if unknown:
        return HTTPStatus.BAD_REQUEST, failure(f"unknown fields: {', '.join(sorted(unknown))}")
    if not does.token_ids and bytes(fields.get("prompt", b'"')).startswith(b"["):
        return HTTPStatus.UNPROCESSABLE_ENTITY, failure("prompt must be a string")
    if does.status != HTTPStatus.OK:
        return does.status, failure("as it was told to")
    return None
