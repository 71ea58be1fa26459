"""The prompts of a run: one for each request, no two alike, and the same work for every engine.

They are exact in the model's own tokens, counted by the server where it tokenizes for others and else by a program in
the engine's environment. Where neither is, words are counted, and the lengths are about right.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Literal, NamedTuple

import msgspec

from xinfer.errors import RequestError
from xinfer.measuring import corpus, cuts, tokens, vocabulary
from xinfer.measuring.cuts import Length

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from xinfer.measuring.capabilities import Found
    from xinfer.measuring.client import Client
    from xinfer.measuring.cuts import Cut
    from xinfer.measuring.samples import Capabilities
    from xinfer.measuring.tokens import Tokenizer
    from xinfer.measuring.vocabulary import Frame, Vocabulary
    from xinfer.spec import Workload

TOKENS_PER_WORD = 1.37
"""Of the corpus, in a vocabulary made for English; where nothing better is known."""
LEADS = (" ", "")
"""What a text begins with: the space that its first word has inside a text, unless the tokenizer puts one there."""
SAMPLE_WORDS = 256
"""Of the corpus, whose tokens are counted to know the tokens of a word."""
VERIFIED = 64
"""So many prompts are tokenized as a whole, to see that a text is the sum of its words; then that is known."""
ROUNDS = 12
"""How often a text that is not of its length is corrected."""
MOST_OFFSET = 32
"""A server whose count differs by more has another tokenizer, or puts no constant number of tokens around a text."""


class Prompts(NamedTuple):
    """What the requests of a run ask with, in the order of sending, warm-up included."""

    kind: Literal["ids", "text"]
    sent: Sequence[list[int] | str]
    lengths: Sequence[int]
    """How many tokens of each prompt were asked for."""
    hash: str
    """Of all prompts without their nonces: equal for equal work, whatever the engine and the kind."""
    capabilities: Capabilities
    """What is known of the server now."""


async def prepare(
    client: Client, found: Found, workload: Workload, run_id: str, *, lengths: Sequence[int] | None = None
) -> Prompts:
    """Return a prompt for each request; ``lengths`` are their tokens, where the workload's are not those of all."""
    wanted = lengths or [workload.input_tokens] * (workload.warmups + workload.requests)
    able = found.capabilities
    try:
        async with tokens.opened(client, found.tokenizer) as tokenizer:
            if tokenizer is not None:
                return await _counted(tokenizer, found, workload, wanted, run_id)
    except RequestError as error:
        able = msgspec.structs.replace(able, notes=(*able.notes, f"prompts are cut by words: {error}"))
    per_word = able.tokens_per_word or TOKENS_PER_WORD
    made = cuts.estimated(_lengths(wanted, workload.shared_prefix, 0), per_word, run_id)
    fingerprint = _fingerprint((cut.work for cut in made), workload)
    return Prompts("text", [" ".join(cut.words) for cut in made], wanted, fingerprint, able)


def _fingerprint(works: Iterable[object], workload: Workload) -> str:
    """Return a hash of the prompts that every run of a workload has; how many more there are is a matter of speed."""
    sure = None if workload.trace else workload.warmups + workload.requests
    return corpus.fingerprint(list(islice(works, sure)))


def _lengths(wanted: Sequence[int], shared: float, around: int) -> list[Length]:
    """Return what the words have to make up, without the ``around`` tokens that others add."""
    return [Length(max(1, total - around), max(0, int(total * shared) - around)) for total in wanted]


async def _counted(
    tokenizer: Tokenizer, found: Found, workload: Workload, wanted: Sequence[int], run_id: str
) -> Prompts:
    """Return prompts that are exact by a tokenizer."""
    frame = await vocabulary.frame(tokenizer)
    able = await _compared(tokenizer, found)
    by_ids = able.token_ids
    around = frame.size + (0 if by_ids else able.prompt_offset or 0)
    maker = _Maker(tokenizer, frame, _lengths(wanted, workload.shared_prefix, around))
    await maker.make(able.tokens_per_word or TOKENS_PER_WORD, run_id)
    made = range(len(wanted))
    sent = [[*frame.head, *maker.ids[i], *frame.tail] if by_ids else maker.text(i) for i in made]
    fingerprint = _fingerprint((maker.work(i) for i in made), workload)
    return Prompts("ids" if by_ids else "text", sent, wanted, fingerprint, able)


async def _compared(tokenizer: Tokenizer, found: Found) -> Capabilities:
    """Return what is known of the server once the text of its probe has been counted by the tokenizer too."""
    [ids, sample] = await tokenizer.encode([found.text, " ".join(corpus.words()[:SAMPLE_WORDS])], special=True)
    able, notes = found.capabilities, list(found.capabilities.notes)
    offset = None if found.text_tokens is None else found.text_tokens - len(ids)
    if offset is not None and abs(offset) > MOST_OFFSET:
        notes.append(f"it counted {found.text_tokens} tokens in a text that are {len(ids)} by {tokenizer.name}")
        offset = None
    if tokenizer.name != able.tokenizer:
        notes.append(f"prompts are counted by the model's tokenizer in {tokenizer.name}")
    per_word = len(sample) / SAMPLE_WORDS
    return msgspec.structs.replace(able, prompt_offset=offset, tokens_per_word=per_word, notes=tuple(notes))


class _Maker:
    """Puts prompts together, has them tokenized, and corrects those that are not of their length."""

    def __init__(self, tokenizer: Tokenizer, frame: Frame, lengths: Sequence[Length]) -> None:
        self._tokenizer = tokenizer
        self._frame = frame
        self._lengths = lengths
        self._lead = ""
        self._known: Vocabulary | None = None
        self._cuts: list[Cut] = []
        self.ids: list[list[int]] = []
        """Of each prompt, without what the model puts around it."""

    async def make(self, tokens_per_word: float, run_id: str) -> None:
        """Make all; those that cannot be brought to their length stay as near as they came."""
        known = await vocabulary.learn(self._tokenizer, cuts.needed(self._lengths), self._frame.forced)
        summed = cuts.exact(known, self._lengths, run_id) if known else None
        self._cuts = summed or cuts.estimated(self._lengths, tokens_per_word, run_id)
        if known and summed:
            self._known = known
            self.ids = [known.joined(cut.words) for cut in summed]
            self._lead = await self._found_lead()
        else:
            self.ids = [[]] * len(self._cuts)
        wrong = self._unverified()
        for turn in range(ROUNDS):
            wrong = await self._checked(wrong)
            if not wrong or turn == ROUNDS - 1:
                break
            for i in wrong:
                missing = self._lengths[i].total - len(self.ids[i])
                self._cuts[i] = cuts.adjusted(self._cuts[i], missing, tokens_per_word, turn)

    def text(self, i: int) -> str:
        """Return a prompt as text, without what the model puts around it."""
        return self._lead + " ".join(self._cuts[i].words)

    def work(self, i: int) -> object:
        """Return what of a prompt is the same in every run: ids, where they are those of its words."""
        shared, rest = self._cuts[i].work
        known = self._known
        if known is None or self.ids[i] != known.joined(self._cuts[i].words):
            return shared, rest
        return known.joined(shared), known.joined(rest)

    async def _encoded(self, texts: Sequence[str]) -> list[list[int]]:
        return [ids[self._frame.forced :] for ids in await self._tokenizer.encode(texts)]

    async def _found_lead(self) -> str:
        """Return with what a text has to begin so that its first word counts as inside a text."""
        first = " ".join(self._cuts[0].words)
        found = await self._encoded([lead + first for lead in LEADS])
        return next((lead for lead, ids in zip(LEADS, found, strict=True) if ids == self.ids[0]), "")

    def _unverified(self) -> list[int]:
        """Return the prompts that are to be tokenized as a whole: all, or the first where ids are known already."""
        return list(range(len(self._cuts)))[: VERIFIED if self._known else None]

    async def _checked(self, prompts: Sequence[int]) -> list[int]:
        """Let prompts be tokenized; return those whose lengths are wrong."""
        found = await self._encoded([self.text(i) for i in prompts])
        for i, ids in zip(prompts, found, strict=True):
            self.ids[i] = ids
        return [i for i in prompts if len(self.ids[i]) != self._lengths[i].total]
