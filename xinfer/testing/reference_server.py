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
    from collections.abc import Callable, Iterator

__all__ = ["Behaviour", "ReferenceServer", "Remote", "Served", "serving", "spawned", "tokens"]

KNOWN_FIELDS = frozenset({"model", "prompt", "max_tokens", "temperature", "stream"})
LETTERS_PER_TOKEN = 4
VOCABULARY = 50_000
REDIRECTION = 3


def tokens(text: str) -> list[int]:
    """Tokenize as this server does: every four letters of a word are one token."""
    size = LETTERS_PER_TOKEN
    pieces = (word[i : i + size] for word in text.split() for i in range(0, len(word), size))
    return [zlib.crc32(piece.encode()) % VOCABULARY for piece in pieces]


class ReferenceServer:
    """Serves one behaviour at a time on a loopback port."""

    def __init__(self, behaviour: Behaviour) -> None:
        self.behaviour = behaviour
        self.log: list[Served] = []
        self.port = 0
        self._stopped = asyncio.Event()

    @property
    def url(self) -> str:
        """The base address, without ``/v1``."""
        return f"http://127.0.0.1:{self.port}"

    async def serve(self, port: int, ready: Callable[[], object]) -> None:
        """Answer on a loopback port until stopped; port 0 takes a free one."""
        self._loop = asyncio.get_running_loop()
        self._server = await asyncio.start_server(self._connection, "127.0.0.1", port, backlog=1024)
        self.port = self._server.sockets[0].getsockname()[1]
        ready()
        await self._stopped.wait()

    def stop(self) -> None:
        """End :meth:`serve`, from any thread."""
        self._loop.call_soon_threadsafe(self._leave)

    def _leave(self) -> None:
        self._server.close()
        self._stopped.set()

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
        if does.fail == "leave":
            self._leave()
        elif not _refused(does, request, head, writer):
            await Reply(does, served, writer).run()


def _answer(writer: asyncio.StreamWriter, status: int, document: object) -> None:
    body = msgspec.json.encode(document)
    head = f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\nContent-Type: application/json\r\n"
    where = "Location: /elsewhere\r\n" if status // 100 == REDIRECTION else ""
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
    server, ready = ReferenceServer(behaviour), threading.Event()
    thread = threading.Thread(target=lambda: asyncio.run(server.serve(0, ready.set)), daemon=True)
    thread.start()
    ready.wait()
    try:
        yield server
    finally:
        server.stop()
        thread.join()


class Remote:
    """A server in a process of its own, whose work cannot delay its client."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"

    def become(self, behaviour: Behaviour) -> None:
        """Replace the behaviour and empty the log."""
        self._ask("/behaviour", msgspec.json.encode(behaviour))

    def log(self) -> list[Served]:
        """Return what was done with each completion request, in the order in which they arrived."""
        return msgspec.json.decode(self._ask("/log"), type=list[Served])

    def _ask(self, path: str, body: bytes | None = None) -> bytes:
        request = urllib.request.Request(self.url + path, body, method="PUT" if body else "GET")  # noqa: S310
        with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310 -- loopback only
            content: bytes = answer.read()
        return content


@contextlib.contextmanager
def spawned(behaviour: Behaviour) -> Iterator[Remote]:
    """Run a server in a process of its own."""
    written = msgspec.json.encode(behaviour).decode()
    argv = [sys.executable, "-m", __name__, "--port", "0", "--behaviour", written]
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as process:
        try:
            yield Remote(int(process.stdout.readline() if process.stdout else 0))
        finally:
            process.terminate()


def main() -> None:
    """Serve until terminated."""
    parser = argparse.ArgumentParser(description="A completion server with exactly known behaviour.")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--behaviour", default="{}", help="JSON; the fields are those of Behaviour")
    options = parser.parse_args()
    server = ReferenceServer(msgspec.json.decode(options.behaviour, type=Behaviour))
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(server.serve(options.port, lambda: print(server.port, flush=True)))  # noqa: T201


if __name__ == "__main__":
    main()
