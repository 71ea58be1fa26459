"""Which engine serves which artefact, and why not the others.

Every candidate artefact is judged for every engine; the pack's order chooses among the engines whose
conditions hold, and ``prefer`` among the artefacts that the user's choice leaves open. An artefact that
is made here is taken only where none that is published is judged as well.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from xinfer.catalog import Spec
from xinfer.errors import ConfigError, nearest
from xinfer.judging import rules
from xinfer.judging.rules import Finding, Source, Verdict
from xinfer.planning.room import Room

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from xinfer.facts import Hardware
    from xinfer.judging.rules import Pack
    from xinfer.planning.parallel import Splits

    Fastest = Callable[[Sequence[tuple[str, Spec]]], tuple[str | None, tuple[str, ...]]]

_XINFER = Source(kind="xinfer", title="xinfer", date="", where="xinfer/judging/decision.py")


class Prefer(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How to choose among artefacts where the user leaves it open: first listed, first taken."""

    formats: tuple[str, ...]
    quantizations: tuple[str, ...]
    hubs: tuple[str, ...]
    size_b: float


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """The chosen engine and artefact with every verdict; no engine when the rules refuse."""

    engine: str | None
    spec: Spec
    rules: str
    because: tuple[str, ...]
    verdicts: tuple[Verdict, ...]


def decide(  # noqa: PLR0913 -- all that a choice depends on, by name
    pack: Pack,
    candidates: Sequence[Spec],
    hardware: Hardware,
    prefer: Prefer,
    *,
    engine: str | None,
    broken: Mapping[str, str],
    tokens: int,
    python: str | None = None,
    sequences: int = 1,
    splits: Mapping[str, Splits] | None = None,
    fastest: Fastest | None = None,
) -> Decision:
    """Judge every candidate for every engine and choose; ``engine`` forces one.

    ``broken`` maps engines whose plugin does not import to the error; they are *unknown*. ``python`` is the user's own
    interpreter for the engine. ``tokens`` are those of all ``sequences`` together; ``splits`` say over how many GPUs
    each engine spreads a network, one that it leaves out over all of them. ``fastest`` knows which of several engines,
    each with what it would serve and the documented choice first, was measured to be the fastest, if any, and why.
    """
    if engine is not None and engine not in pack.engines and engine not in broken:
        message = f"rule pack {pack.name} has no rules for engine {engine!r}{nearest(engine, pack.engines)}"
        raise ConfigError(message)
    room = Room(hardware, tokens=tokens, sequences=sequences, splits=splits)
    ordered = _ordered(candidates, prefer, room)
    order = (engine,) if engine else pack.order(hardware)
    gathered = [(each, rules.gather(each, hardware, python=python)) for each in ordered if each.format is not None]
    working = [name for name in order if name not in broken]
    chosen, told = _choose(pack, working, gathered, room), _Told()
    if chosen and fastest and engine is None:
        options = [chosen, *_others(pack, working, gathered, room, chosen)]
        told = _Told(*fastest([(name, spec) for name, spec, _ in options]))
        chosen = next((option for option in options if option[0] == told.engine), chosen)
    spec = chosen[1] if chosen else ordered[0]
    verdicts = tuple(judge_all(pack, spec, hardware, broken, python))
    if chosen is None:
        because = _refusal(pack, spec, verdicts, engine)
        return Decision(engine=None, spec=spec, rules=pack.name, because=because, verdicts=verdicts)
    first = _choose(pack, working, gathered, None)
    because = tuple(_because((pack, engine, prefer), chosen, first, told, ordered, room, hardware))
    return Decision(engine=chosen[0], spec=spec, rules=pack.name, because=because, verdicts=verdicts)


class _Told(NamedTuple):
    """What is known of speed: the engine that was found to be the fastest, if any was, and what was found."""

    engine: str | None = None
    because: tuple[str, ...] = ()


def _others(
    pack: Pack,
    order: Sequence[str],
    gathered: Sequence[tuple[Spec, Mapping[str, Any]]],
    room: Room,
    chosen: tuple[str, Spec, str],
) -> Iterator[tuple[str, Spec, str]]:
    """Yield every other engine that may serve, with what it would serve, if all is known and it fits as well."""
    for name in order:
        found = None if name == chosen[0] else _choose(pack, (name,), gathered, room)
        if found and found[2] == "yes" and room.is_exceeded(found[1], name) <= room.is_exceeded(chosen[1], chosen[0]):
            yield found


def _because(
    made: tuple[Pack, str | None, Prefer],
    chosen: tuple[str, Spec, str],
    first: tuple[str, Spec, str] | None,
    told: _Told,
    ordered: Sequence[Spec],
    room: Room,
    hardware: Hardware,
) -> Iterator[str]:
    """Say why this engine and this artefact; ``first`` would have been taken if memory counted for nothing."""
    (pack, engine, prefer), (name, spec, verdict) = made, chosen
    held = "all its conditions hold" if verdict == "yes" else "none of its conditions fails, some are unknown"
    place = f" for {hardware.device}" if hardware.device in pack.preferences else ""
    asked = "was asked for" if engine else f"is the first in the order of {pack.name}{place} that may serve it"
    exceeds = room.is_exceeded(spec, name)
    if told.engine:
        yield f"{name} was measured to be the fastest on this machine of those that may serve it; {held}"
    elif first is None or first[0] == name:
        yield f"{name} {asked}; {held}"
    else:
        yield f"{name} {asked} in {room}; {held}"
        yield f"{first[0]} comes before it in that order, but what it would serve is known to exceed {room}"
    yield from told.because
    yield from _choices(name, spec, ordered, room, prefer, exceeds=exceeds)
    if exceeds:
        yield f"nothing that may be served is known to fit: all of it exceeds {room}"


def judge_all(
    pack: Pack, spec: Spec, hardware: Hardware, broken: Mapping[str, str], python: str | None = None
) -> list[Verdict]:
    """Judge one artefact for every engine of the pack, and for every plugin that the pack does not know."""
    facts = rules.gather(spec, hardware, python=python)
    return [_judge(pack, name, facts, broken) for name in dict.fromkeys([*pack.engines, *broken])]


def _judge(pack: Pack, engine: str, facts: Mapping[str, Any], broken: Mapping[str, str]) -> Verdict:
    """Judge one engine; one whose plugin does not import can be refused, but never chosen."""
    findings = pack.judge(engine, facts).findings if engine in pack.engines else ()
    if engine in broken:
        plugin = Finding(
            id="plugin", result="unknown", fact="engine.plugin", observed=broken[engine],
            expected="an adapter that imports", source=_XINFER, fix=f"mend, install or remove the plugin of {engine}",
        )  # fmt: skip
        findings = (*findings, plugin)
    return Verdict(engine=engine, verdict=rules.answer(findings), findings=findings)


def _refusal(pack: Pack, spec: Spec, verdicts: Sequence[Verdict], engine: str | None) -> tuple[str, ...]:
    """Say what refuses: of each engine asked for, the failed conditions, else the unknown ones."""
    asked = [v for v in verdicts if engine in (None, v.engine)]
    is_open = any(v.verdict == "unknown" for v in asked)
    if engine is None:
        said = f"knows no engine for {spec.family}" if is_open else "refuses every engine"
        reasons = [f"{v.engine} ({_missing(v)})" for v in asked]
    else:
        said = f"cannot decide whether {engine} may serve {spec.family}" if is_open else f"refuses {engine}"
        reasons = [_missing(v) for v in asked]
    note = (spec.note,) if spec.note and spec.format is None else ()
    return (f"{pack.name} {said}: {', '.join(reasons)}", *note)


def _missing(verdict: Verdict) -> str:
    findings = verdict.of("failed") or verdict.of("unknown")
    return ", ".join(f"plugin: {f.observed}" if f.id == "plugin" else f.id for f in findings) or "no conditions"


def _choose(
    pack: Pack, order: Sequence[str], gathered: Sequence[tuple[Spec, Mapping[str, Any]]], room: Room | None
) -> tuple[str, Spec, str] | None:
    """Return the first engine and artefact with a yes; failing that, with nothing but unknowns.

    What is known to exceed the memory comes after all else; without a ``room``, memory counts for nothing.
    """
    for exceeds in (False, True):
        for wanted, derived in itertools.product(("yes", "unknown"), (False, True)):
            for name in order:
                for spec, facts in gathered:
                    if spec.derived is not derived or (room and room.is_exceeded(spec, name) is not exceeds):
                        continue
                    if pack.judge(name, facts).verdict == wanted:
                        return name, spec, wanted
    return None


def _ordered(candidates: Sequence[Spec], prefer: Prefer, room: Room) -> list[Spec]:
    """Sort artefacts: not known to be too large first, then format, quantization, size, hub."""
    has_memory = room.all_gib is not None

    def key(spec: Spec) -> tuple[bool, int, int, float, int]:
        exceeds = room.is_exceeded(spec)
        size = spec.parameters_b or 0.0
        # With memory known the largest that fits serves best; without, the common middle is the safer guess.
        by_size = abs(size - prefer.size_b) if not has_memory else size if exceeds else -size
        return (
            exceeds, rank(spec.format, prefer.formats), rank(spec.quantization, prefer.quantizations),
            by_size, rank(spec.hub, prefer.hubs),
        )  # fmt: skip

    return sorted(candidates, key=key)


def rank(value: str | None, order: Sequence[str]) -> int:
    """Return the place of a name in an order of preference, whatever its case; one that is not there comes last."""
    lowered = [name.lower() for name in order]
    return lowered.index(value.lower()) if value and value.lower() in lowered else len(order)


def _choices(
    engine: str, spec: Spec, ordered: Sequence[Spec], room: Room, prefer: Prefer, *, exceeds: bool
) -> Iterator[str]:
    """Say why this artefact, for each part that the user left open."""
    has = room.all_gib
    may = f"{engine} may serve" if has is None or exceeds else f"{engine} may serve and that may fit"
    if any(each.derived is not spec.derived for each in ordered):
        may += " and that is made here" if spec.derived else " and that is published"
    if spec.derived:
        yield f"this artefact is made on this machine: no published one got as good a verdict for {engine}"
    size = "nearest to prefer.size_b; memory is not known"
    if has is not None:
        size = f"the smallest in this format; known to exceed {has:g} GiB"
        if not exceeds:
            size = f"the largest in this format that is not known to exceed {has:g} GiB"
    for name, order, first in (
        ("format", prefer.formats, f"the first of prefer.formats that {may}"),
        ("quantization", prefer.quantizations, f"the first of prefer.quantizations in this format that {may}"),
        ("size", None, size),
        ("hub", prefer.hubs, "the first of prefer.hubs that has it"),
    ):
        value = getattr(spec, name)
        if len({getattr(each, name) for each in ordered}) > 1:
            unranked = order is not None and rank(value, order) == len(order)
            yield f"{name} {value}: {f'prefer.{name}s names none that {may}' if unranked else first}"
