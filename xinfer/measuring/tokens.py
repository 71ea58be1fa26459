"""Text as token ids, by the model's own tokenizer: the server's, or a program's in the engine's environment."""

from __future__ import annotations

import asyncio
import tempfile
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import IO, TYPE_CHECKING, Protocol

import msgspec

from xinfer.errors import RequestError

if TYPE_CHECKING:
    from asyncio.subprocess import Process
    from collections.abc import AsyncIterator, Callable, Sequence

    from xinfer.measuring.client import Client

ENDPOINTS = {
    "llama-server": ("/tokenize", "content", ("add_special",)),
    "vllm": ("/tokenize", "prompt", ("add_special_tokens",)),
    "sglang": ("/v1/tokenize", "prompt", ("add_special_tokens",)),
    "llama_cpp.server": ("/extras/tokenize", "input", ()),
}
"""Where servers tokenize text for others, the field that takes the text, and the switch for a model's special tokens,
which the last adds always."""

TIMEOUT_S = 60.0
START_TIMEOUT_S = 180.0
"""A program may have to import a whole framework."""
IN_FLIGHT = 8
LINE_BYTES = 2**30


class Tokenizer(Protocol):
    """Whoever turns text into ids."""

    name: str
    """Who it is, for a record."""

    async def encode(self, texts: Sequence[str], *, special: bool = False) -> list[list[int]]:
        """Return the ids of each text, with the model's special tokens or without; RequestError if it fails."""


class _Tokens(msgspec.Struct):
    tokens: list[int]


class Endpoint:
    """A server's own tokenizer."""

    def __init__(self, client: Client, kind: str) -> None:
        self._client = client
        self.name, self._field, self._special = ENDPOINTS[kind]
        self._slots = asyncio.Semaphore(IN_FLIGHT)

    async def encode(self, texts: Sequence[str], *, special: bool = False) -> list[list[int]]:
        """Return the ids of each text, a few requests at a time."""
        return await asyncio.gather(*(self._encode(text, special=special) for text in texts))

    async def _encode(self, text: str, *, special: bool) -> list[int]:
        asked = dict.fromkeys(self._special, special)
        body = msgspec.json.encode({"model": self._client.target.model, self._field: text, **asked})
        async with self._slots:
            exchange = await self._client.send(self.name, body, timeout_s=TIMEOUT_S)
        try:
            return msgspec.json.decode(exchange.body, type=_Tokens).tokens
        except ValueError as exc:
            status = exchange.failure or f"http {exchange.status}"
            raise RequestError(f"{self._client.target.place}{self.name}: no tokens: {status}") from exc


class Program:
    """A program that loads the tokenizer: see ``xinfer/convert/text_to_ids.py``."""

    name = "the engine's environment"

    def __init__(self, process: Process, words: IO[bytes]) -> None:
        self._process = process
        self._words = words
        """What it says on its way, for an error."""
        self._timeout_s = START_TIMEOUT_S

    async def encode(self, texts: Sequence[str], *, special: bool = False) -> list[list[int]]:
        """Return the ids of each text."""
        if self._process.stdin is None or self._process.stdout is None:
            raise RequestError("the program that tokenizes has no pipes")
        try:
            async with asyncio.timeout(self._timeout_s):
                self._process.stdin.write(msgspec.json.encode({"texts": texts, "special": special}) + b"\n")
                await self._process.stdin.drain()
                line = await self._process.stdout.readline()
            found = msgspec.json.decode(line, type=list[list[int]])
        except (OSError, TimeoutError, ValueError) as exc:
            raise RequestError(f"the program that tokenizes failed: {self._last_words() or exc}") from exc
        self._timeout_s = TIMEOUT_S
        return found

    def _last_words(self) -> str:
        self._words.seek(0)
        lines = self._words.read().decode(errors="replace").split("\n")
        return next((line.strip() for line in reversed(lines) if line.strip()), "")


@asynccontextmanager
async def program(argv: Sequence[str]) -> AsyncIterator[Program]:
    """Run a program for as long as the body; RequestError if it cannot be started."""
    pipe = asyncio.subprocess.PIPE
    with tempfile.TemporaryFile() as words:
        try:
            process = await asyncio.create_subprocess_exec(
                *argv, stdin=pipe, stdout=pipe, stderr=words, limit=LINE_BYTES
            )
        except OSError as error:
            raise RequestError(f"{argv[0]}: cannot be started to tokenize: {error.strerror}") from error
        try:
            yield Program(process, words)
        finally:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()


async def endpoint(client: Client) -> Callable[[Client], Endpoint] | None:
    """Return what makes the server's tokenizer for a client, this one or another; null if it has none."""
    for kind in ENDPOINTS:
        with suppress(RequestError):
            if all(await Endpoint(client, kind).encode(["the"])):
                return partial(Endpoint, kind=kind)
    return None


@asynccontextmanager
async def opened(client: Client, server: Callable[[Client], Tokenizer] | None) -> AsyncIterator[Tokenizer | None]:
    """Yield the server's tokenizer, or else the program's, or else nothing."""
    argv = client.target.tokenizer
    if server is not None or not argv:
        yield server(client) if server is not None else None
        return
    async with program(argv) as running:
        yield running
