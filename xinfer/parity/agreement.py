"""Whether two engines gave the same answer: the same tokens, or others only where both were about as likely.

Arithmetic differs between engines in its last digits, so a log-probability of one may differ a little from the
other's, and where two tokens are about as likely, each engine may take another one. What follows such a tie
is not comparable any more, and no error.
"""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeVar

import msgspec

from xinfer.parity.answers import Answer, Step, Token

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

T = TypeVar("T", bound=Token)
Verdict = Literal["same", "tie", "different"]

TOLERANCES = {"float32": 0.01, "float16": 0.06, "bfloat16": 0.5}
"""How far the log-probabilities of one token may be apart, by what the network is computed in.

Of the first tokens of SmolLM2-135M they were at most 0.004 apart in float32 and 0.34 in bfloat16, between any two of
five engines: bfloat16 alone writes a logit between 16 and 32 with an error of up to 0.06. float16 has 3 bits more.
"""
QUANTIZED = 0.75
"""The same for weights of fewer bits, with which engines also round what they multiply: Q8_0 and Q4_1 in llama.cpp
were at most 0.34 away from float32, and the other engine may round too.
"""
CUT = "\N{REPLACEMENT CHARACTER}"
"""What a server writes for a character whose last bytes it did not generate."""


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """Two answers to one prompt."""

    prompt: str
    verdict: Verdict
    agreed: int
    """How many tokens are alike before the first that is not; characters where token ids are not known."""
    first_delta: float | None
    """The largest difference in log-probability among the likeliest first tokens that both engines list."""
    shared: int
    """How many those are."""
    path_delta: float | None
    """The largest difference in log-probability of a generated token, as long as the tokens are alike."""
    why: str


class Pair(msgspec.Struct, frozen=True, kw_only=True):
    """Two engines, over all prompts."""

    engines: tuple[str, str]
    tolerance: float
    """Of a log-probability; two tokens are a tie within twice of it."""
    same: int
    tie: int
    different: int
    first_delta: float | None
    path_delta: float | None
    prompts: tuple[Comparison, ...]


class _Split(NamedTuple):
    """Where two answers part, if they do, and how far apart the two continuations are."""

    agreed: int
    differs: bool
    spread: float | None
    """The least that the two engines' own log-probabilities put between the two tokens; null: nothing says."""
    words: str


def tolerance(precisions: Iterable[str]) -> float:
    """Return the tolerance between engines that compute in these types: that of the coarsest."""
    return max(TOLERANCES.get(precision, QUANTIZED) for precision in precisions)


def pairs(answers: Mapping[str, Mapping[str, Answer]], precisions: Mapping[str, str]) -> tuple[Pair, ...]:
    """Compare every two engines; ``answers`` has for each the same prompts."""
    named = spelt(answers)
    return tuple(pair(first, second, named, precisions) for first, second in combinations(named, 2))


def spelt(answers: Mapping[str, Mapping[str, Answer]]) -> dict[str, dict[str, Answer]]:
    """Return the answers with the text of every token whose id another engine tells together with its text."""
    said = [
        token
        for each in answers.values()
        for answer in each.values()
        for step in answer.steps
        for token in (step, *step.top)
    ]
    texts: dict[int | None, str] = {token.id: token.text for token in said if token.id is not None and token.text}

    def spell(token: T) -> T:
        return msgspec.structs.replace(token, text=token.text or texts.get(token.id))

    def spell_all(answer: Answer) -> Answer:
        steps = (msgspec.structs.replace(spell(step), top=tuple(map(spell, step.top))) for step in answer.steps)
        return msgspec.structs.replace(answer, steps=tuple(steps))

    return {engine: {name: spell_all(answer) for name, answer in each.items()} for engine, each in answers.items()}


def pair(first: str, second: str, answers: Mapping[str, Mapping[str, Answer]], precisions: Mapping[str, str]) -> Pair:
    """Compare two engines over all prompts."""
    allowed = tolerance((precisions[first], precisions[second]))
    ours, theirs = answers[first], answers[second]
    found = tuple(compare(name, ours[name], theirs[name], allowed) for name in ours)
    counts = {verdict: sum(each.verdict == verdict for each in found) for verdict in ("same", "tie", "different")}
    return Pair(
        engines=(first, second), tolerance=allowed, prompts=found, **counts,
        first_delta=_largest(each.first_delta for each in found),
        path_delta=_largest(each.path_delta for each in found),
    )  # fmt: skip


def compare(prompt: str, a: Answer, b: Answer, allowed: float) -> Comparison:
    """Compare two answers; ``allowed`` is the tolerance of a log-probability. The order of the two does not matter."""
    by_id = a.ids is not None and b.ids is not None
    deltas = _first_deltas(a, b)
    first = _largest(deltas)
    split = _tokens_apart(a, b) if by_id else _texts_apart(a, b)
    verdict, why = _judge(split, first, allowed)
    if a.prompt_tokens != b.prompt_tokens and None not in (a.prompt_tokens, b.prompt_tokens):
        counts = sorted((a.prompt_tokens or 0, b.prompt_tokens or 0))
        verdict, why = "different", f"the prompt is {counts[0]} tokens to one and {counts[1]} to the other"
    path = [_delta(x, y) for x, y in zip(a.steps, b.steps, strict=False)][: split.agreed] if by_id else []
    return Comparison(
        prompt=prompt, verdict=verdict, agreed=split.agreed, first_delta=first, shared=len(deltas),
        path_delta=_largest(path), why=why,
    )  # fmt: skip


def _judge(split: _Split, first: float | None, allowed: float) -> tuple[Verdict, str]:
    """Weigh where two answers part and how near their beginnings are."""
    if first is not None and first > allowed:
        return (
            "different",
            f"the first token's log-probabilities are {first:.3g} apart, of which {allowed:g} is allowed",
        )
    if not split.differs:
        return "same", ""
    if split.spread is None:
        return "different", f"{split.words}; nothing says how likely each was"
    is_tie = split.spread <= 2 * allowed
    return "tie" if is_tie else "different", f"{split.words}, {split.spread:.3g} apart; a tie is within {2 * allowed:g}"


def _tokens_apart(a: Answer, b: Answer) -> _Split:
    """Find the first token that differs."""
    ours, theirs = a.ids or (), b.ids or ()
    agreed = _alike(ours, theirs)
    if ours == theirs:
        return _Split(agreed, differs=False, spread=0.0, words="")
    if agreed == min(len(ours), len(theirs)):
        return _Split(agreed, differs=True, spread=None, words=f"one answer ends after {agreed} tokens")
    x, y = a.steps[agreed], b.steps[agreed]
    known = [lead for lead in (_lead(x, y), _lead(y, x)) if lead is not None]
    names = " or ".join(sorted((_name(x, y), _name(y, x))))
    return _Split(agreed, differs=True, spread=sum(known) if known else None, words=f"token {agreed + 1} is {names}")


def _alike(ours: Sequence[object], theirs: Sequence[object]) -> int:
    """Return how much of their beginnings is equal."""
    together = zip(ours, theirs, strict=False)
    return next((place for place, (x, y) in enumerate(together) if x != y), min(len(ours), len(theirs)))


def _lead(step: Step, other: Step) -> float | None:
    """Return how far an engine's own token is from the other engine's, by its own log-probabilities.

    Of a token that it does not list, the least that it can be.
    """
    listed = [(token.id, token.logprob) for token in step.top if token.logprob is not None]
    if step.logprob is None or not listed:
        return None
    lowest = min(logprob for _, logprob in listed)
    return abs(step.logprob - dict(listed).get(other.id, lowest))


def _name(step: Step, other: Step) -> str:
    """Return a token's text if any of the two engines tells it, else its id."""
    texts = (token.text for token in (step, *step.top, *other.top) if token.id == step.id and token.text)
    return next((repr(text) for text in texts), f"id {step.id}")


def _texts_apart(a: Answer, b: Answer) -> _Split:
    """Find the first character that differs, apart from a leading space, which MLX drops, and a character cut short."""
    ours, theirs = (answer.text.lstrip().rstrip(CUT) for answer in (a, b))
    agreed = _alike(ours, theirs)
    if ours == theirs:
        return _Split(agreed, differs=False, spread=0.0, words="")
    known = [lead for lead in (_lead_at(a, agreed), _lead_at(b, agreed)) if lead is not None]
    return _Split(
        agreed, differs=True, spread=min(known, default=None), words=f"the texts differ after {agreed} characters"
    )


def _lead_at(answer: Answer, character: int) -> float | None:
    """Return how far the two likeliest tokens are apart at a character of the text; null where that is not known."""
    end = len(answer.text.lstrip()) - len(answer.text)
    for step in answer.steps:
        if CUT in (step.text or ""):
            break  # from here on, lengths of tokens and of the text have little to do with each other
        end += len(step.text or "")
        if end > character:
            likely = sorted((token.logprob for token in step.top if token.logprob is not None), reverse=True)
            return likely[0] - likely[1] if len(likely) > 1 else None
    return None


def _first_deltas(a: Answer, b: Answer) -> list[float]:
    """Return the differences in log-probability of the first tokens that both engines list."""
    if not a.steps or not b.steps:
        return []
    x, y = a.steps[0].known, b.steps[0].known
    by_id = all(token.id is not None for token in (*x, *y))
    ours, theirs = _listed(x, by_id=by_id), _listed(y, by_id=by_id)
    return [abs(ours[key] - theirs[key]) for key in ours.keys() & theirs.keys()]


def _listed(known: Iterable[Token], *, by_id: bool) -> dict[int | str, float]:
    """Return log-probabilities by id, or by text where that names one token: parts of characters all look the same."""
    keyed = ((token.id if by_id else token.text, token.logprob) for token in known)
    return {key: lp for key, lp in keyed if lp is not None and key not in (None, "") and CUT not in str(key)}


def _delta(x: Step, y: Step) -> float | None:
    return None if x.logprob is None or y.logprob is None else abs(x.logprob - y.logprob)


def _largest(values: Iterable[float | None]) -> float | None:
    return max((value for value in values if value is not None), default=None)
