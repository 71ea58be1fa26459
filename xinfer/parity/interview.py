"""Asks a ready server the fixed prompts, greedily, in the dialect in which it tells most."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from xinfer.errors import RequestError
from xinfer.measuring import stream
from xinfer.measuring.client import Client, Exchange, explain
from xinfer.parity import answers
from xinfer.parity.dialects import DIALECTS, MOST, PLAIN, Dialect, Question, detail

if TYPE_CHECKING:
    from xinfer.measuring.client import Target
    from xinfer.parity.answers import Answer, PromptSet

SAMPLE = "fact"
"""The prompt that every server is asked once, after the first load on it."""
SAMPLE_TOKENS = 8
SAMPLE_TIMEOUT_S = 30.0


class Interview(NamedTuple):
    """What a server said, and in which dialect."""

    dialect: str
    answers: dict[str, Answer]


def ask(target: Target, prompts: PromptSet, *, tokens: int, timeout_s: float) -> Interview:
    """Ask every prompt; raise RequestError if the server answers one of them in no way that is known."""

    async def run() -> Interview:
        async with Client(target) as client:
            asking = _Asking(client, tokens, timeout_s)
            first, *others = prompts.prompts
            dialect, answer = await asking.best(prompts.prompts[first])
            found = {first: answer}
            for name in others:
                found[name] = await asking.must(dialect, prompts.prompts[name])
            return Interview(dialect.name, found)

    return asyncio.run(run())


def sample(target: Target) -> dict[str, object]:
    """Ask one prompt and return its text, to compare records by; whatever fails becomes part of what is returned."""
    prompts = answers.fixed()

    async def run() -> Answer:
        async with Client(target) as client:
            asking = _Asking(client, SAMPLE_TOKENS, SAMPLE_TIMEOUT_S)
            return await asking.must(PLAIN, prompts.prompts[SAMPLE])

    fixed = {"prompts": prompts.name, "prompt": SAMPLE, "tokens": SAMPLE_TOKENS}
    try:
        return {**fixed, "text": asyncio.run(run()).text}
    except RequestError as error:
        return {**fixed, "error": str(error)}


class _Asking:
    def __init__(self, client: Client, tokens: int, timeout_s: float) -> None:
        self._client = client
        self._tokens = tokens
        self._timeout_s = timeout_s

    async def best(self, prompt: str) -> tuple[Dialect, Answer]:
        """Return the first dialect that gives all, else the one that gives most, and its answer."""
        found: list[tuple[Dialect, Answer]] = []
        for dialect in DIALECTS:
            try:
                found.append((dialect, await self.must(dialect, prompt)))
            except RequestError:
                if dialect is PLAIN and not found:
                    raise
                continue
            if detail(found[-1][1]) == MOST:
                return found[-1]
        return max(found, key=lambda each: detail(each[1]))

    async def must(self, dialect: Dialect, prompt: str) -> Answer:
        """Return an answer; raise RequestError for anything else."""
        question = Question(self._client.target.model, prompt, self._tokens)
        exchanges: list[Exchange] = []
        for body in dialect.bodies(question):
            exchanges.append(
                await self._client.send(dialect.path, msgspec.json.encode(body), timeout_s=self._timeout_s)
            )
            if exchanges[-1].status != 200:  # noqa: PLR2004 -- what every server says when it has answered
                raise self._refusal(dialect, exchanges[-1])
        try:
            return dialect.read([exchange.body for exchange in exchanges])
        except ValueError as error:
            place = f"{self._client.target.place}{dialect.path}"
            raise RequestError(f"{place}: not an answer that is known: {error}") from error

    def _refusal(self, dialect: Dialect, exchange: Exchange) -> RequestError:
        target = self._client.target
        said = exchange.failure or f"http {exchange.status}"
        return RequestError(
            f"{target.place}{dialect.path}: no answer: {said}: {explain(exchange, stream.read(()), target)}"
        )
