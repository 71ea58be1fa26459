"""What artefacts are ranked by that a machine can serve: the best first, whoever the family is."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from xinfer import catalog
from xinfer.judging import decision
from xinfer.planning import memory

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from xinfer.catalog import Spec
    from xinfer.judging import rules
    from xinfer.plan import Memory

_ENOUGH, _WHOLE = 4, 8
"""Bits per weight: with fewer than the first a larger model is no better one; more than the second are hardly seen."""
_ORDER = (
    ("its rules leave it open", "a yes of the rules"),
    ("not known to fit", "fits"),
    ("fewer than 4 bits per weight", "at least 4 bits per weight"),
    ("fewer parameters", "more parameters"),
    ("fewer than 8 bits per weight", "at least 8 bits per weight"),
    ("a later engine in the order of the rules", "the order of engines in the rules"),
    ("fewer bits per weight", "more bits per weight"),
    ("not made for chat", "made for chat"),
    ("in the newest catalogue no more", "in the newest catalogue still"),
)
"""What families and artefacts are ranked by, in this order: what is said of the worse one, and of the ranking."""
RANKING = ", ".join(better for _, better in _ORDER)
Rank = tuple[float, ...]


class Able(NamedTuple):
    """An artefact that an engine may serve, before it is planned."""

    spec: Spec
    engine: str
    verdict: rules.Answer
    bits: float | None
    is_too_large: bool
    place: int
    """Of the engine, in the order of the rules."""


def fit_of(need: Memory) -> int:
    """Return 0 where it fits, or all but the engine's own need is known and leaves a tenth of the memory; else 1."""
    if need.fits or None in (need.weights_gib, need.kv_gib, need.available_gib):
        return int(not need.fits)
    return int((need.weights_gib or 0.0) + (need.kv_gib or 0.0) > memory.SPARE * (need.available_gib or 0.0))


def rank(able: Able, *, fit: int) -> Rank:
    """Return what an artefact with its engine is sorted by, the best first; ``_ORDER`` has a name for each."""
    bits = able.bits or 0.0
    return (
        able.verdict != "yes",
        fit,
        bits < _ENOUGH,
        -(able.spec.weights_b or 0.0),
        bits < _WHOLE,
        able.place,
        -bits,
        "chat" not in able.spec.abilities,
        catalog.DAYS[-1] not in able.spec.listed,
    )


def below(above: Rank, own: Rank) -> str:
    """Say by what the row above is better."""
    pairs = zip(_ORDER, above, own, strict=True)
    return next((worse for (worse, _), better, mine in pairs if better != mine), "equal, by name")


def bits_of(spec: Spec) -> float | None:
    """Return the bits of a weight: what the format says, else what files of known size come to."""
    if spec.bytes is None or not spec.weights_b:
        return memory.bits_per_weight(spec)
    return spec.bytes * 8 / (spec.weights_b * 1e9)


def distinct(specs: Iterable[Spec], hubs: Sequence[str]) -> list[Spec]:
    """Return one spec for each size, format and quantization: that of the hub which is preferred."""
    found: dict[tuple[str | None, ...], Spec] = {}
    for spec in sorted(specs, key=lambda each: decision.rank(each.hub, hubs)):
        found.setdefault((spec.size, spec.format, spec.quantization), spec)
    return list(found.values())
