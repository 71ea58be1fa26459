"""What each word of a text is to a model's tokenizer, so that prompts of an exact length can be put together of words.

Nearly every tokenizer treats a word and the space before it alike wherever they stand: then the ids of a text are
those of its words, one after the other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from xinfer.measuring.tokens import Tokenizer

BETWEEN = ("of", "and", "the")
"""Three words that no word contains: their ids in a row show where one ends and the next begins."""
PLAIN = ("the", "of")
"""Two words without a first token in common, unless the tokenizer puts one before every text."""
WORDS_PER_TEXT = 512


class Frame(NamedTuple):
    """What a model puts around a text."""

    head: tuple[int, ...] = ()
    tail: tuple[int, ...] = ()
    forced: int = 0
    """How many ids of the head the tokenizer gives although none were asked for."""

    @property
    def size(self) -> int:
        """How many tokens it adds."""
        return len(self.head) + len(self.tail)


class Vocabulary(NamedTuple):
    """The ids of words as they are inside a text, each with the space before it."""

    ids: Mapping[str, tuple[int, ...]]

    def count(self, word: str) -> int:
        """Return how many tokens a word is."""
        return len(self.ids[word])

    def joined(self, words: Iterable[str]) -> list[int]:
        """Return the ids of words in a row."""
        return [number for word in words for number in self.ids[word]]


async def frame(tokenizer: Tokenizer) -> Frame:
    """Return what the model puts around each text: mostly one token at its beginning, or nothing."""
    first, second = await tokenizer.encode(PLAIN)
    [special] = await tokenizer.encode(PLAIN[:1], special=True)
    return framed(first, second, special)


def framed(first: Sequence[int], second: Sequence[int], special: Sequence[int]) -> Frame:
    """Compare two texts without special tokens, and the first with them."""
    is_forced = len(first) > 1 and len(second) > 1 and first[0] == second[0]
    forced = int(is_forced)
    bare = list(first[forced:])
    for start in range(len(special) - len(bare) + 1):
        if list(special[start : start + len(bare)]) == bare:
            return Frame(tuple(special[:start]), tuple(special[start + len(bare) :]), forced)
    return Frame(tuple(first[:forced]), (), forced)


async def learn(tokenizer: Tokenizer, words: Iterable[str], forced: int = 0) -> Vocabulary | None:
    """Return the ids of words; null where they cannot be told apart, as where a token spans two words."""
    distinct = sorted(set(words))
    batches = [distinct[i : i + WORDS_PER_TEXT] for i in range(0, len(distinct), WORDS_PER_TEXT)]
    sample = " ".join([BETWEEN[-1], *BETWEEN, *BETWEEN])
    encoded = await tokenizer.encode([sample, *map(_text, batches)])
    mark, *found = [ids[forced:] for ids in encoded]
    if len(mark) != 1 + 2 * len(BETWEEN) or mark[1:4] != mark[4:]:
        return None
    known: dict[str, tuple[int, ...]] = {}
    for batch, ids in zip(batches, found, strict=True):
        groups = list(split(ids, mark[1:4]))[1:-1]
        if len(groups) != len(batch) or not all(groups):
            return None
        known.update(zip(batch, groups, strict=True))
    return Vocabulary(known)


def _text(words: Sequence[str]) -> str:
    """Return a text in which each word stands between the three."""
    mark = " ".join(BETWEEN)
    return f"{BETWEEN[-1]} {mark} " + "".join(f"{word} {mark} " for word in words).rstrip()


def split(ids: Sequence[int], mark: Sequence[int]) -> Iterator[tuple[int, ...]]:
    """Yield what stands before, between and after the marks."""
    group: list[int] = []
    for number in ids:
        group.append(number)
        if group[-len(mark) :] == list(mark):
            yield tuple(group[: -len(mark)])
            group = []
    yield tuple(group)
