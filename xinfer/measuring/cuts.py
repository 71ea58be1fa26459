"""How prompts are put together: what all share, a nonce, a cut of the corpus, and single words to the exact length.

A cut depends on the lengths of the requests before it and on nothing else: every run of a workload and every engine
gets the same, and no two overlap until the corpus has been read to its end.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import Counter
from functools import cache
from itertools import accumulate
from typing import TYPE_CHECKING, NamedTuple

from xinfer.measuring import corpus

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from xinfer.measuring.vocabulary import Vocabulary

WORDS_PER_TOKEN = 0.8
"""More than any vocabulary needs for English of the corpus' kind, so that cuts do not overlap."""
LETTERS = 8
"""A gap of so many tokens or more is never filled with letters."""
COMMON = 2048
"""From how many of the corpus' words those are taken that nonces and fillings consist of."""


class Cut(NamedTuple):
    """One prompt, in words."""

    shared: Sequence[str]
    """What all prompts begin with."""
    nonce: Sequence[str]
    """Unlike any other's: after it, no cache has anything to give."""
    rest: Sequence[str]

    @property
    def words(self) -> list[str]:
        """The whole prompt."""
        return [*self.shared, *self.nonce, *self.rest]

    @property
    def work(self) -> tuple[list[str], list[str]]:
        """What is alike in every run."""
        return list(self.shared), list(self.rest)


class Length(NamedTuple):
    """How many tokens a prompt has, and how many of them it shares with all others."""

    total: int
    shared: int


@cache
def common() -> tuple[str, ...]:
    """Return the corpus' most frequent words that are nothing but small letters, the most frequent first."""
    counts = Counter(word for word in corpus.words() if word.isalpha() and word.islower())
    return tuple(sorted(counts, key=lambda word: (-counts[word], word))[:COMMON])


def needed(lengths: Sequence[Length]) -> set[str]:
    """Return every word that may occur in prompts of these lengths, of which a token is never more than one."""
    words = set(common())
    words.update(corpus.words()[: max((length.shared for length in lengths), default=0)])
    for start, length in zip(_starts(lengths), lengths, strict=True):
        if len(words) == len(_all()):
            break
        words.update(corpus.cut(corpus.words(), start=start, length=min(length.total, len(corpus.words()))))
    return words


@cache
def _all() -> frozenset[str]:
    return frozenset(corpus.words())


def _starts(lengths: Sequence[Length]) -> Iterator[int]:
    """Yield where each cut begins: behind what is shared, and behind the cut before it."""
    place = max((length.shared for length in lengths), default=0)
    for length in lengths:
        yield place
        place += math.ceil((length.total - length.shared) * WORDS_PER_TOKEN)


def exact(vocabulary: Vocabulary, lengths: Sequence[Length], run_id: str) -> list[Cut] | None:
    """Return prompts that are of these lengths by the vocabulary; null if it has too few words of one token."""
    singles = [word for word in common() if vocabulary.count(word) == 1]
    if len(singles) < corpus.NONCE:
        return None
    sums = _sums(vocabulary)
    starts = enumerate(zip(_starts(lengths), lengths, strict=True))
    return [_exact(sums, singles, start, length, run_id, index) for index, (start, length) in starts]


def _exact(sums: Sequence[int], singles: Sequence[str], start: int, length: Length, run_id: str, index: int) -> Cut:
    shared, used = _fitting(sums, 0, length.shared)
    left = length.total - used
    nonce = corpus.nonce(singles, run_id=run_id, index=index, length=min(corpus.NONCE, left)) if left else []
    left -= len(nonce)
    rest, used = _fitting(sums, start, left)
    filling = corpus.cut(singles, start=corpus.number("filling", index), length=left - used)
    return Cut(shared, nonce, rest + filling)


def _sums(vocabulary: Vocabulary) -> list[int]:
    """Return the tokens before each word of the corpus, twice over; a word that was not needed counts as one."""
    ids = vocabulary.ids
    counts = [len(ids.get(word, "1")) for word in corpus.words()]
    return list(accumulate(counts * 2, initial=0))


def _fitting(sums: Sequence[int], start: int, tokens: int) -> tuple[list[str], int]:
    """Return as many consecutive words as have room in so many tokens, and their tokens."""
    words = corpus.words()
    start %= len(words)
    rounds, left = divmod(tokens, sums[len(words)])
    end = bisect_right(sums, sums[start] + left, lo=start) - 1
    length = rounds * len(words) + end - start
    return corpus.cut(words, start=start, length=length), tokens - left + sums[end] - sums[start]


def estimated(lengths: Sequence[Length], tokens_per_word: float, run_id: str) -> list[Cut]:
    """Return prompts that are of about these lengths, where no more is known than a model's tokens for a word."""
    cuts = []
    for index, (start, length) in enumerate(zip(_starts(lengths), lengths, strict=True)):
        total = max(1, round(length.total / tokens_per_word))
        shared = min(total, int(length.shared / tokens_per_word))
        left = total - shared
        nonce = corpus.nonce(common(), run_id=run_id, index=index, length=min(corpus.NONCE, left)) if left else []
        rest = corpus.cut(corpus.words(), start=start, length=left - len(nonce))
        cuts.append(Cut(corpus.words()[:shared], nonce, rest))
    return cuts


def adjusted(cut: Cut, missing: int, tokens_per_word: float, turn: int) -> Cut:
    """Return a prompt that is longer by so many tokens, or shorter, as far as that can be told; its end changes.

    ``turn`` counts the attempts: each fills up with other words, and every other two a small gap with letters.
    """
    count = math.ceil(abs(missing) / tokens_per_word)
    if missing < 0:
        spare = max(0, count - len(cut.rest))
        return cut._replace(
            rest=cut.rest[: max(0, len(cut.rest) - count)], nonce=cut.nonce[: max(1, len(cut.nonce) - spare)]
        )
    if turn % 4 >= 2 and missing < LETTERS:  # noqa: PLR2004 -- two attempts with words, two with letters
        return cut._replace(rest=[*cut.rest[:-1], "".join(cut.rest[-1:]) + "e" * missing])
    return cut._replace(rest=[*cut.rest, *corpus.cut(common(), start=(turn + 1) * count, length=count)])
