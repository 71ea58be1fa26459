"""Prompts cut from real text: no two alike within a run or across runs, and the same cuts for every engine."""

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


def _number(*key: object) -> int:
    """Return the same large number for the same key, in every process and on every machine."""
    return int.from_bytes(hashlib.sha256("\0".join(map(str, key)).encode()).digest(), "big")


def nonce(units: Sequence[Unit], *, run_id: str, index: int, length: int = NONCE) -> list[Unit]:
    """Return units that start no other prompt.

    The first unit alone differs between as many requests of a run as the corpus has distinct units;
    the rest make two runs differ. All are units of the corpus: ordinary words, never control tokens.
    """
    known = sorted(set(units))
    number = _number("nonce", run_id, index)
    chosen = [known[(_number("first", run_id) + index) % len(known)]]
    while len(chosen) < length:
        number, place = divmod(number, len(known))
        chosen.append(known[place])
    return chosen[:length]


def cut(units: Sequence[Unit], *, index: int, length: int) -> list[Unit]:
    """Return ``length`` consecutive units of the corpus, read in a circle from a place that the index fixes."""
    start = _number("cut", index) % len(units)
    circle = list(units[start:]) + list(units[:start])
    return (circle * (length // len(circle) + 1))[:length]


def prompt(units: Sequence[Unit], *, run_id: str, index: int, length: int) -> list[Unit]:
    """Return a prompt of exactly ``length`` units: the nonce, then the cut."""
    head = nonce(units, run_id=run_id, index=index, length=min(NONCE, length))
    return head + cut(units, index=index, length=length - len(head))


def fingerprint(value: object) -> str:
    """Return a short hash of a prompt or of a list of them."""
    return hashlib.sha256(msgspec.json.encode(value)).hexdigest()[:16]
