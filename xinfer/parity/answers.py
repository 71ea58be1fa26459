"""What a model says to the fixed prompts: tokens, log-probabilities, and what else was likely."""

from __future__ import annotations

from functools import cache
from importlib.resources import files

import msgspec


class PromptSet(msgspec.Struct, frozen=True, kw_only=True):
    """Prompts that never change under their name, so that answers of different days can be compared."""

    name: str
    prompts: dict[str, str]


class Token(msgspec.Struct, frozen=True, kw_only=True):
    """One token of the vocabulary at one place of an answer; null where the server does not say."""

    id: int | None = None
    text: str | None = None
    logprob: float | None = None
    """Natural logarithm of its probability."""


class Step(Token, frozen=True, kw_only=True):
    """The token that was generated, and the likeliest ones at its place."""

    top: tuple[Token, ...] = ()

    @property
    def known(self) -> tuple[Token, ...]:
        """Every token whose log-probability is known here, the generated one included."""
        return tuple(token for token in (*self.top, self) if token.logprob is not None)


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """A greedy answer to one prompt."""

    text: str
    steps: tuple[Step, ...] = ()
    """One for each generated token, that which ends the answer included; none where the server tells none."""
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    finish_reason: str | None = None

    @property
    def ids(self) -> tuple[int, ...] | None:
        """The generated tokens; null unless every one is known."""
        found = tuple(step.id for step in self.steps if step.id is not None)
        count = len(self.steps) if self.completion_tokens is None else self.completion_tokens
        return found if found and len(found) == len(self.steps) == count else None

    @property
    def has_logprobs(self) -> bool:
        """Whether the first token comes with the log-probabilities of the likeliest ones."""
        return bool(self.steps) and len(self.steps[0].known) > 1


@cache
def fixed() -> PromptSet:
    """Return the prompts that engines are compared with."""
    return msgspec.json.decode(files(__package__).joinpath("prompts.json").read_bytes(), type=PromptSet)
