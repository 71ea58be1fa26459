"""A completion server with exactly known behaviour, to hold a client's numbers against the truth.

It does what a :class:`Behaviour` says and logs what it really did, on the clock that clients on the same
machine use too. Its HTTP is written by hand, so that it shares no bug with a client's library.

    python -m xinfer.testing.reference_server --port 0 --behaviour '{"ttft_s": 0.05, "gap_s": 0.01}'

prints the port. ``PUT /behaviour`` replaces the behaviour and empties the log; ``GET /log`` returns it.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import re
import subprocess
import sys
import threading
import time
import urllib.request
import zlib
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import msgspec

from xinfer.testing.reference_reply import Behaviour, HangUp, Reply, Served, failure

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Behaviour", "ReferenceServer", "Remote", "Served", "serving", "spawned", "tokens"]

KNOWN_FIELDS = frozenset({"model", "prompt", "max_tokens", "temperature", "stream"})
LETTERS_PER_TOKEN = 4
VOCABULARY = 50_000


def tokens(text: str) -> list[int]:
    """Tokenize as this server does: every four letters of a word are one token."""
    pieces = (word[i : i + LETTERS_PER_TOKEN] for word in text.split() for i in range(0, len(word), LETTERS_PER_TOKEN))
    return [zlib.crc32(piece.encode()) % VOCABULARY for piece in pieces]


class ReferenceServer:
    """Serves one behaviour at a time on a loopback port."""

    def __init__(self, behaviour: Behaviour) -> None:
        self.behaviour = behaviour
        self.log: list[Served] = []
        self.port = 0
        self._server: asyncio.Server | None = None

    async def start(self, port: int = 0) -> None:
        """Listen on loopback; port 0 takes a free one."""
        self._server = await asyncio.start_server(self._connection, "127.0.0.1", port, backlog=1024)
        self.port = self._server.sockets[0].getsockname()[1]

    async def serve(self) -> None:
        """Answer until cancelled."""
        if self._server is not None:
            async with self._server:
                await self._server.serve_forever()

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(HangUp, ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            length = re.search(r"^content-length: *(\d+)", head, re.IGNORECASE | re.MULTILINE)
            body = await reader.readexactly(int(length[1]) if length else 0)
            method, path, _ = head.split(" ", 2)
            await self._route(method, path, head, body, writer)
        writer.close()

    async def _route(self, method: str, path: str, head: str, body: bytes, writer: asyncio.StreamWriter) -> None:
        match method, path:
            case "POST", "/v1/completions":
                await self._complete(msgspec.json.decode(body), head, writer)
            case "POST", "/tokenize" if self.behaviour.tokenizer in msgspec.json.decode(body):
                text = msgspec.json.decode(body)[self.behaviour.tokenizer]
                _answer(writer, HTTPStatus.OK, {"tokens": tokens(text)})
            case "GET", "/health":
                _answer(writer, HTTPStatus.OK, {"status": "ok"})
            case "GET", "/v1/models":
                _answer(writer, HTTPStatus.OK, {"object": "list", "data": [{"id": "reference", "object": "model"}]})
            case "GET", "/log":
                _answer(writer, HTTPStatus.OK, self.log)
            case "PUT", "/behaviour":
                self.behaviour = msgspec.json.decode(body, type=Behaviour)
                self.log = []
                _answer(writer, HTTPStatus.OK, self.behaviour)
            case _:
                _answer(writer, HTTPStatus.NOT_FOUND, failure(f"{method} {path} is not served"))
        await writer.drain()

    async def _complete(self, request: dict[str, Any], head: str, writer: asyncio.StreamWriter) -> None:
        prompt = request["prompt"]
        served = Served(
            received_ns=time.perf_counter_ns(), prompt=prompt if isinstance(prompt, str) else str(prompt),
            prompt_tokens=len(tokens(prompt) if isinstance(prompt, str) else prompt),
            max_tokens=request["max_tokens"], fields=sorted(request),
            wants_usage=bool((request.get("stream_options") or {}).get("include_usage")),
        )  # fmt: skip
        self.log.append(served)
        is_well = len(self.log) <= self.behaviour.healthy
        does = msgspec.structs.replace(self.behaviour, fail=None, status=200) if is_well else self.behaviour
        if not _refused(does, request, head, writer):
            await Reply(does, served, writer).run()


def _answer(writer: asyncio.StreamWriter, status: int, document: object) -> None:
    body = msgspec.json.encode(document)
    head = f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\nContent-Type: application/json\r\n"
    where = "Location: /elsewhere\r\n" if HTTPStatus(status).is_redirection else ""
    writer.write(f"{head}{where}Content-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode() + body)


def _refused(does: Behaviour, request: dict[str, Any], head: str, writer: asyncio.StreamWriter) -> bool:
    """Answer requests that the behaviour refuses; return whether this was one."""
    unknown = set(request) - KNOWN_FIELDS if does.refuses == () else set(request) & set(does.refuses or ())
    key = re.search(r"^authorization: *Bearer (\S+)", head, re.IGNORECASE | re.MULTILINE)
    if does.api_key is not None and (key is None or key[1] != does.api_key):
        _answer(writer, HTTPStatus.UNAUTHORIZED, failure(f"incorrect key: {key[1] if key else None}"))
    elif unknown:
        _answer(writer, HTTPStatus.BAD_REQUEST, failure(f"unknown fields: {', '.join(sorted(unknown))}"))
    elif not does.token_ids and not isinstance(request["prompt"], str):
        _answer(writer, HTTPStatus.UNPROCESSABLE_ENTITY, failure("prompt must be a string"))
    elif does.status != HTTPStatus.OK:
        _answer(writer, does.status, failure("as it was told to"))
    else:
        return False
    return True




@contextlib.contextmanager
def serving(behaviour: Behaviour) -> Iterator[ReferenceServer]:
    """Run a server in a thread of this process."""
    server, started = ReferenceServer(behaviour), threading.Event()
    loop = asyncio.new_event_loop()

    async def run() -> None:
        await server.start()
        started.set()
        with contextlib.suppress(asyncio.CancelledError):
            await server.serve()

    task = loop.create_task(run())
    thread = threading.Thread(target=_finish, args=(loop, task), daemon=True)
    thread.start()
    started.wait()
    try:
        yield server
    finally:
        loop.call_soon_threadsafe(task.cancel)
        thread.join()
