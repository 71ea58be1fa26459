"""How servers are asked for token ids and log-probabilities, and how each writes them: bodies out, answers in.

The completion endpoint has a different shape in nearly every engine, and mostly without the ids of the tokens that
were likely too; the engines' own endpoints say more. Observed on vLLM 0.32, SGLang 0.5.23, llama-server b11549 and
mlx_lm 0.32.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from xinfer.parity.answers import Answer, Step, Token

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

COMPLETIONS = "/v1/completions"
TOP = 5
"""How many of the likeliest tokens are asked for at each place: the most that the completion endpoint gives."""
MARK = "token_id:"
"""What vLLM writes before the id of a token where it is asked for ids in place of texts."""


class Question(NamedTuple):
    """What is asked, whatever the dialect."""

    model: str
    prompt: str
    tokens: int


class Dialect(NamedTuple):
    """One way to ask, and to read what comes back."""

    name: str
    path: str
    bodies: Callable[[Question], tuple[dict[str, Any], ...]]
    """The requests that make one answer; most need one."""
    read: Callable[[Sequence[bytes]], Answer]
    """Raises ValueError for what is not written so."""


class _Entry(msgspec.Struct):
    id: int | None = None
    token: str | None = None
    logprob: float | None = None
    top_logprobs: list[_Entry] = []


class _Logprobs(msgspec.Struct):
    content: list[_Entry] | None = None
    tokens: list[str] | None = None
    token_logprobs: list[float | None] | None = None
    top_logprobs: list[dict[str, float] | None] | None = None


class _Choice(msgspec.Struct):
    text: str
    finish_reason: str | None = None
    logprobs: _Logprobs | None = None
    token_ids: list[int] | None = None


class _Usage(msgspec.Struct):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None


class _Completion(msgspec.Struct):
    choices: list[_Choice]
    usage: _Usage | None = None


class _LlamaCpp(msgspec.Struct):
    content: str
    tokens: list[int]
    tokens_evaluated: int
    tokens_predicted: int
    stop_type: str | None = None
    completion_probabilities: list[_Entry] = []


class _Reason(msgspec.Struct):
    type: str


_Said = tuple[float | None, int, str | None]
"""SGLang's token: log-probability, id, text."""


class _Meta(msgspec.Struct):
    prompt_tokens: int
    completion_tokens: int
    finish_reason: _Reason | None = None
    output_token_logprobs: list[_Said] = []
    output_top_logprobs: list[list[_Said] | None] = []


class _SGLang(msgspec.Struct):
    text: str
    meta_info: _Meta


def _plain(question: Question, **more: Any) -> dict[str, Any]:
    fixed = {"model": question.model, "prompt": question.prompt, "max_tokens": question.tokens, "temperature": 0}
    return {**fixed, "stream": False, **more}


def _vllm(question: Question) -> tuple[dict[str, Any], ...]:
    return (_plain(question, logprobs=TOP, return_token_ids=True, return_tokens_as_token_ids=True),)


def _llama_cpp(question: Question) -> tuple[dict[str, Any], ...]:
    fixed = {"prompt": question.prompt, "n_predict": question.tokens, "temperature": 0, "stream": False}
    return ({**fixed, "n_probs": TOP, "return_tokens": True, "cache_prompt": False},)


def _sglang(question: Question) -> tuple[dict[str, Any], ...]:
    how = {"temperature": 0, "max_new_tokens": question.tokens}
    wants = {"return_logprob": True, "top_logprobs_num": TOP, "return_text_in_logprobs": True}
    return ({"text": question.prompt, "sampling_params": how, **wants},)


def _mlx(question: Question) -> tuple[dict[str, Any], ...]:
    """Ask twice: with the likeliest tokens, mlx_lm gives the first of them in place of the one it generated."""
    return (_plain(question, logprobs=True), _plain(question, logprobs=True, top_logprobs=TOP))


def read_completion(bodies: Sequence[bytes]) -> Answer:
    """Read OpenAI's completion, with the log-probabilities of the old shape or the new one, or without any."""
    found = msgspec.json.decode(bodies[0], type=_Completion)
    choice, usage = _first(found.choices), found.usage or _Usage()
    return Answer(
        text=choice.text, steps=_steps(choice), prompt_tokens=usage.prompt_tokens,
        completion_tokens=usage.completion_tokens, finish_reason=choice.finish_reason,
    )  # fmt: skip


def _first(choices: Sequence[_Choice]) -> _Choice:
    if not choices:
        raise ValueError("a completion without choices")
    return choices[0]


def _steps(choice: _Choice) -> tuple[Step, ...]:
    said = choice.logprobs or _Logprobs()
    if said.content is not None:
        return tuple(_step(entry) for entry in said.content)
    words = said.tokens or []
    unknown: list[None] = [None] * len(words)
    named = zip(
        words, choice.token_ids or unknown, said.token_logprobs or unknown, said.top_logprobs or unknown, strict=False
    )
    return tuple(_generated(word, number, logprob, top or {}) for word, number, logprob, top in named)


def _generated(word: str, number: int | None, logprob: float | None, top: Mapping[str, float]) -> Step:
    token = _named(word, logprob)
    likely = tuple(_named(text, lp) for text, lp in top.items())
    return Step(id=token.id if number is None else number, text=token.text, logprob=logprob, top=likely)


def _named(word: str, logprob: float | None = None) -> Token:
    """Return a token that is given by its text, or by its id in place of it."""
    number = word.removeprefix(MARK)
    if number != word and number.isdecimal():
        return Token(id=int(number), logprob=logprob)
    return Token(text=word, logprob=logprob)


def _step(entry: _Entry) -> Step:
    top = tuple(Token(id=each.id, text=each.token, logprob=each.logprob) for each in entry.top_logprobs)
    return Step(id=entry.id, text=entry.token, logprob=entry.logprob, top=top)


def read_mlx(bodies: Sequence[bytes]) -> Answer:
    """Read the tokens from the first answer, and the likeliest ones from the second.

    Their texts are those of the vocabulary's file, where a space is another letter; the ids say enough.
    """
    answer, more = (read_completion([body]) for body in bodies)
    steps = (
        Step(id=step.id, logprob=step.logprob, top=tuple(Token(id=t.id, logprob=t.logprob) for t in other.top))
        for step, other in zip(answer.steps, more.steps, strict=False)
    )
    return msgspec.structs.replace(answer, steps=tuple(steps))


def read_llama_cpp(bodies: Sequence[bytes]) -> Answer:
    """Read llama-server's own completion.

    It has every token's id, but no log-probabilities of a token that ends in the middle of a character.
    """
    found = msgspec.json.decode(bodies[0], type=_LlamaCpp)
    entries = [_step(entry) for entry in found.completion_probabilities]
    steps = []
    for number in found.tokens:
        is_listed = bool(entries) and entries[0].id == number
        steps.append(entries.pop(0) if is_listed else Step(id=number))
    return Answer(
        text=found.content, steps=tuple(steps), prompt_tokens=found.tokens_evaluated,
        completion_tokens=found.tokens_predicted, finish_reason="length" if found.stop_type == "limit" else "stop",
    )  # fmt: skip


def read_sglang(bodies: Sequence[bytes]) -> Answer:
    """Read SGLang's own ``/generate``."""
    found = msgspec.json.decode(bodies[0], type=_SGLang)
    meta = found.meta_info
    tops = [*meta.output_top_logprobs, *[None] * len(meta.output_token_logprobs)]
    steps = (
        Step(
            id=number, text=text, logprob=logprob, top=tuple(Token(id=i, text=t, logprob=lp) for lp, i, t in top or ())
        )
        for (logprob, number, text), top in zip(meta.output_token_logprobs, tops, strict=False)
    )
    return Answer(
        text=found.text, steps=tuple(steps), prompt_tokens=meta.prompt_tokens,
        completion_tokens=meta.completion_tokens, finish_reason=meta.finish_reason.type if meta.finish_reason else None,
    )  # fmt: skip


DIALECTS = (
    Dialect("llama_cpp", "/completion", _llama_cpp, read_llama_cpp),
    Dialect("sglang", "/generate", _sglang, read_sglang),
    Dialect("vllm", COMPLETIONS, _vllm, read_completion),
    Dialect("openai", COMPLETIONS, lambda question: (_plain(question, logprobs=TOP),), read_completion),
    Dialect("mlx", COMPLETIONS, _mlx, read_mlx),
    Dialect("text", COMPLETIONS, lambda question: (_plain(question),), read_completion),
)
"""Tried in this order until one gives all; ``openai`` and ``text`` are for servers that nobody here knows.

An engine's own endpoint comes first: its completion endpoint may take the fields of another, and tell less.
"""
PLAIN = DIALECTS[-1]
"""What every server understands."""


MOST = 3


def detail(answer: Answer) -> int:
    """Say how much an answer tells, up to ``MOST``: log-probabilities, token ids, and the ids of the likeliest."""
    tops = [token for step in answer.steps for token in step.top]
    return answer.has_logprobs + (answer.ids is not None) + all(token.id is not None for token in tops or [Token()])
