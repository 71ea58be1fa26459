"""Tokenizers of several kinds, small enough to be seen through, for tests of what is counted by one."""

from __future__ import annotations

import re
import zlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

WORD = 5
"""A word of no more letters is one token."""
VOCABULARY = 50_000


def number(piece: str) -> int:
    """Return a piece's id, from 100 upwards."""
    return 100 + zlib.crc32(piece.encode()) % VOCABULARY


def halves(piece: str) -> list[str]:
    """Return a piece in one part or in two."""
    return [piece] if len(piece.strip()) <= WORD else [piece[:WORD], piece[WORD:]]


class Tokenizer:
    """Like GPT-2's: the space before a word belongs to it, so that a text's first word counts as another."""

    name = "a test's"
    head: tuple[int, ...] = ()
    tail: tuple[int, ...] = ()
    forced: tuple[int, ...] = ()

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def encode(self, texts: Sequence[str], *, special: bool = False) -> list[list[int]]:
        """Return the ids of each text."""
        self.asked += texts
        around = (self.head, self.tail) if special else ((), ())
        return [[*self.forced, *around[0], *map(number, self.pieces(text)), *around[1]] for text in texts]

    def pieces(self, text: str) -> list[str]:
        """Return a text in pieces."""
        return [part for piece in re.findall(r" ?[^ ]+| ", text) for part in halves(piece)]


class Sentences(Tokenizer):
    """Like Llama's: a space is put before every text, and a token before that if the model's special ones are asked."""

    head = (1,)

    def pieces(self, text: str) -> list[str]:
        """Return a text in pieces."""
        return super().pieces(f" {text}")


class Closed(Tokenizer):
    """Puts a token at the end, too."""

    head, tail = (1,), (2,)


class Forced(Tokenizer):
    """Puts its token before every text, whatever is asked for."""

    forced = (1,)


class Greedy(Tokenizer):
    """Has tokens that span two words, as of the and in a."""

    def pieces(self, text: str) -> list[str]:
        """Return a text in pieces."""
        found = re.findall(r" ?(?:of the|and the|in the|to the|of|and) ?| ?[^ ]+| ", text)
        return [part for piece in found for part in halves(piece)]


class Letters(Tokenizer):
    """Has a token for each letter, so that hardly a word is a single one."""

    def pieces(self, text: str) -> list[str]:
        """Return a text in pieces."""
        return list(text)


class Nothing(Tokenizer):
    """Knows no word: whatever it is given becomes three tokens."""

    def pieces(self, text: str) -> list[str]:
        """Return a text in pieces."""
        return [text[:1], text[1:2], text[2:3]]
