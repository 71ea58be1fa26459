"""What a server can do, found out with a few small requests before anything is measured."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import msgspec

from xinfer.errors import RequestError
from xinfer.measuring import corpus, stream, tokens
from xinfer.measuring.client import Client, Exchange, Target, explain, judge
from xinfer.measuring.samples import Capabilities

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from xinfer.measuring.stream import Reply
    from xinfer.measuring.tokens import Tokenizer
    from xinfer.spec import Workload

COMPLETIONS = "/v1/completions"
MODELS = "/v1/models"

CONTROL_TIMEOUT_S = 10.0
PROBE_TOKENS = 8
PROBE_IDS = 16
SAMPLE_WORDS = 256
"""Of the corpus, whose tokens are counted to know the tokens of a word."""
REFUSALS = frozenset({400, 422})
"""What servers answer to fields that they do not know."""


class _Model(msgspec.Struct):
    id: str


class _Models(msgspec.Struct):
    data: list[_Model]


class Found(NamedTuple):
    """What the probe leaves for the run."""

    capabilities: Capabilities
    tokenizer: Callable[[Client], Tokenizer] | None
    """Makes the server's own for a client; null if it has none."""
    text: str
    """The prompt of the first completion."""
    text_tokens: int | None
    """How many tokens the server counted in it."""


class _Answer(NamedTuple):
    exchange: Exchange
    reply: Reply
    error: str | None

    @property
    def _stamps(self) -> list[int]:
        return [chunk.t_ns for chunk in self.reply.chunks if chunk.is_token]

    @property
    def ttft_s(self) -> float | None:
        """How long the first text took; null without any."""
        return (self._stamps[0] - self.exchange.t_send) / 1e9 if self._stamps else None

    @property
    def tpot_s(self) -> float | None:
        """How long each further token took; null where all came at once."""
        later = (self.reply.completion_tokens or len(self._stamps)) - 1
        return (self._stamps[-1] - self._stamps[0]) / later / 1e9 if len(self._stamps) > 1 and later > 0 else None


def _least(several: Iterable[float | None]) -> float | None:
    """Return the shortest of the times that are known: the first answer of a server may take it much longer."""
    return min((value for value in several if value is not None), default=None)


def completion(target: Target, prompt: list[int] | str, tokens: int, *, extras: bool, stream_options: bool) -> bytes:
    """Return a completion request; the engine's own fields never replace ours."""
    options = {"stream_options": {"include_usage": True}} if stream_options else {}
    ours = {"model": target.model, "prompt": prompt, "max_tokens": tokens, "temperature": 0, "stream": True}
    return msgspec.json.encode({**(target.request if extras else {}), **ours, **options})


class Probe:
    """Finds out, with a few small requests, how a server can be asked and what it reports."""

    def __init__(self, client: Client, workload: Workload) -> None:
        self._client = client
        self._workload = workload
        self._notes: list[str] = []
        self._answers: list[_Answer] = []

    async def run(self) -> Found:
        """Ask, at most a dozen times; raise RequestError if the server completes nothing at all."""
        await self._name()
        words = min(max(self._workload.input_tokens // 2, 8), 256)
        text = " ".join(corpus.words()[-words:])
        answer, extras, stream_options = await self._first(text)
        opens = await tokens.endpoint(self._client)
        tokenizer = opens(self._client) if opens else None
        [ids] = await tokenizer.encode([" ".join(corpus.words()[:SAMPLE_WORDS])]) if tokenizer else [[]]
        takes_ids = bool(ids) and await self._takes(ids, extras=extras, stream_options=stream_options)
        reply = answer.reply
        count = sum(chunk.is_token for chunk in reply.chunks)
        total = reply.completion_tokens
        capabilities = Capabilities(
            model=self._client.target.model,
            extras=extras,
            stream_options=stream_options,
            usage=total is not None,
            fixed_length=None if total is None else (total, reply.finish_reason) == (PROBE_TOKENS, "length"),
            cached_tokens=reply.cached_tokens is not None,
            tokenizer=tokenizer.name if tokenizer else None,
            token_ids=takes_ids,
            tokens_per_chunk=total / count if total and count else None,
            tokens_per_word=self._tokens_per_word(ids, reply.prompt_tokens, words),
            notes=tuple(self._notes),
            probe_ttft_s=_least(one.ttft_s for one in self._answers),
            probe_tpot_s=_least(one.tpot_s for one in self._answers),
        )
        return Found(capabilities, opens, text, reply.prompt_tokens)

    async def _name(self) -> None:
        """Ask the server for a model's name, if none was given."""
        target = self._client.target
        if target.model:
            return
        exchange = await self._client.send(MODELS, timeout_s=CONTROL_TIMEOUT_S)
        try:
            name = msgspec.json.decode(exchange.body, type=_Models).data[0].id
        except (ValueError, IndexError) as exc:
            why = explain(exchange, stream.read(()), target)
            message = f"{target.place}{MODELS}: lists no model: {why}; name one with engine.model="
            raise RequestError(message) from exc
        self._client.target = msgspec.structs.replace(target, model=name)

    async def _first(self, prompt: str) -> tuple[_Answer, bool, bool]:
        """Return the first completion, and which of the fields the server took; most is asked first."""
        target = self._client.target
        ladder = [(True, True), (False, True), (True, False), (False, False)]
        for extras, stream_options in [rung for rung in ladder if rung[0] or target.request]:
            answer = await self._ask(prompt, extras=extras, stream_options=stream_options)
            if answer.exchange.status not in REFUSALS:
                break
            fields = [*(target.request if extras else ()), *(("stream_options",) if stream_options else ())]
            if fields:
                self._notes.append(f"{answer.error} to a request with {', '.join(fields)}: {self._why(answer)}")
        if answer.error is not None:
            message = f"{target.place}{COMPLETIONS}: no completion: {answer.error}: {self._why(answer)}"
            raise RequestError(message)
        return answer, extras, stream_options

    async def _ask(self, prompt: list[int] | str, *, extras: bool, stream_options: bool) -> _Answer:
        body = completion(self._client.target, prompt, PROBE_TOKENS, extras=extras, stream_options=stream_options)
        exchange = await self._client.send(COMPLETIONS, body, timeout_s=self._workload.timeout_s)
        reply = stream.read(exchange.pieces)
        self._answers.append(_Answer(exchange, reply, judge(exchange, reply)))
        return self._answers[-1]

    def _why(self, answer: _Answer) -> str:
        return explain(answer.exchange, answer.reply, self._client.target)

    async def _takes(self, ids: list[int], *, extras: bool, stream_options: bool) -> bool:
        """Say whether a prompt of ids is taken, and counted as exactly as many tokens."""
        prompt = ids[: min(PROBE_IDS, self._workload.input_tokens)]
        answer = await self._ask(prompt, extras=extras, stream_options=stream_options)
        if answer.error is not None:
            self._notes.append(f"{answer.error} to a prompt of token ids: {self._why(answer)}")
        return answer.error is None and answer.reply.prompt_tokens == len(prompt)

    @staticmethod
    def _tokens_per_word(ids: list[int], prompt_tokens: int | None, words: int) -> float | None:
        if ids:
            return len(ids) / SAMPLE_WORDS
        return prompt_tokens / words if prompt_tokens else None
