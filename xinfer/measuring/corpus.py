"""Real text that prompts are cut from, and the numbers that choose the places: the same in every process.

Three works in the public domain, 129 thousand words: about 176 thousand tokens of a vocabulary for English.
"""

from __future__ import annotations

import hashlib
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, TypeVar

import msgspec

if TYPE_CHECKING:
    from collections.abc import Sequence

Unit = TypeVar("Unit", int, str)
"""What a prompt is counted in: token ids where the server takes them, words where it does not."""

NONCE = 8
"""How many leading units make a prompt unlike every other, so that no prefix cache knows it."""


@cache
def text() -> str:
    """Return the corpus without its first line, which names the works."""
    return files(__package__).joinpath("corpus.txt").read_text(encoding="utf-8").partition("\n")[2]


@cache
def words() -> tuple[str, ...]:
    """Return the corpus as what stands between its spaces and line ends."""
    return tuple(text().split())


def number(*key: object) -> int:
    """Return the same large number for the same key, in every process and on every machine."""
    return int.from_bytes(hashlib.sha256("\0".join(map(str, key)).encode()).digest(), "big")


def nonce(known: Sequence[Unit], *, run_id: str, index: int, length: int = NONCE) -> list[Unit]:
    """Return units that start no other prompt, chosen from ``known``, in which none stands twice.

    The first unit alone differs between as many requests of a run as there are units; the rest make two runs differ.
    """
    rest = number("nonce", run_id, index)
    chosen = [known[(number("first", run_id) + index) % len(known)]]
    while len(chosen) < length:
        rest, place = divmod(rest, len(known))
        chosen.append(known[place])
    return chosen[:length]


def cut(units: Sequence[Unit], *, start: int, length: int) -> list[Unit]:
    """Return ``length`` consecutive units, read in a circle."""
    place = start % len(units)
    chosen = list(units[place : place + length])
    while len(chosen) < length:
        chosen.extend(units[: length - len(chosen)])
    return chosen


def prompt(units: Sequence[Unit], *, run_id: str, index: int, length: int) -> list[Unit]:
    """Return a prompt of exactly ``length`` units: the nonce, then a cut from a place that the index fixes.

    All are units of the corpus: ordinary words, never control tokens.
    """
    head = nonce(sorted(set(units)), run_id=run_id, index=index, length=min(NONCE, length))
    return head + cut(units, start=number("cut", index), length=length - len(head))


def fingerprint(value: object) -> str:
    """Return a short hash of a prompt or of a list of them."""
    return hashlib.sha256(msgspec.json.encode(value)).hexdigest()[:16]
