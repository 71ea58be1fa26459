"""Which engine serves which artefact, and why not the others.

Every candidate artefact is judged for every engine; the pack's order chooses among the engines whose
conditions hold, and ``prefer`` among the artefacts that the user's choice leaves open. An artefact that
is made here is taken only where none that is published is judged as well.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import msgspec

from xinfer.catalog import Spec
from xinfer.errors import ConfigError, nearest
from xinfer.judging import rules
from xinfer.judging.rules import Finding, Source, Verdict
from xinfer.planning import memory

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from xinfer.facts import Hardware
    from xinfer.judging.rules import Pack

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
) -> Decision:
    """Judge every candidate for every engine and choose; ``engine`` forces one.

    ``broken`` maps engines whose plugin does not import to the error; they are *unknown*. ``python`` is the user's own
    interpreter for the engine.
    """
    if engine is not None and engine not in pack.engines and engine not in broken:
        message = f"rule pack {pack.name} has no rules for engine {engine!r}{nearest(engine, pack.engines)}"
        raise ConfigError(message)
    ordered = _ordered(candidates, hardware, prefer, tokens)
    order = (engine,) if engine else pack.order(hardware)
    gathered = [(each, rules.gather(each, hardware, python=python)) for each in ordered if each.format is not None]
    chosen = _choose(pack, [name for name in order if name not in broken], gathered)
    spec = chosen[1] if chosen else ordered[0]
    verdicts = tuple(judge_all(pack, spec, hardware, broken, python))
    if chosen is None:
        because = _refusal(pack, spec, verdicts, engine)
        return Decision(engine=None, spec=spec, rules=pack.name, because=because, verdicts=verdicts)
    held = "all its conditions hold" if chosen[2] == "yes" else "none of its conditions fails, some are unknown"
    place = f" for {hardware.device}" if hardware.device in pack.preferences else ""
    asked = "was asked for" if engine else f"is the first in the order of {pack.name}{place} that may serve it"
    fits = memory.estimate(spec, hardware, tokens=tokens, device=memory.device_of(hardware)).fits
    because = (f"{chosen[0]} {asked}; {held}", *_choices(chosen[0], spec, ordered, hardware, prefer, fits=fits))
    return Decision(engine=chosen[0], spec=spec, rules=pack.name, because=because, verdicts=verdicts)


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
    pack: Pack, order: Sequence[str], gathered: Sequence[tuple[Spec, Mapping[str, Any]]]
) -> tuple[str, Spec, str] | None:
    """Return the first engine and artefact with a yes; failing that, with nothing but unknowns."""
    for wanted, derived in itertools.product(("yes", "unknown"), (False, True)):
        for name in order:
            for spec, facts in gathered:
                if spec.derived is derived and pack.judge(name, facts).verdict == wanted:
                    return name, spec, wanted
    return None


def _ordered(candidates: Sequence[Spec], hardware: Hardware, prefer: Prefer, tokens: int) -> list[Spec]:
    """Sort artefacts: not known to be too large first, then format, quantization, size, hub."""
    device = memory.device_of(hardware)
    has_memory = memory.available(hardware, device) is not None

    def key(spec: Spec) -> tuple[bool, int, int, float, int]:
        fits = memory.estimate(spec, hardware, tokens=tokens, device=device).fits
        size = spec.parameters_b or 0.0
        # With memory known the largest that fits serves best; without, the common middle is the safer guess.
        by_size = abs(size - prefer.size_b) if fits is None and not has_memory else size if fits is False else -size
        return (
            fits is False, _rank(spec.format, prefer.formats), _rank(spec.quantization, prefer.quantizations),
            by_size, _rank(spec.hub, prefer.hubs),
        )  # fmt: skip

    return sorted(candidates, key=key)


def _rank(value: str | None, order: Sequence[str]) -> int:
    lowered = [name.lower() for name in order]
    return lowered.index(value.lower()) if value and value.lower() in lowered else len(order)


def _choices(
    engine: str, spec: Spec, ordered: Sequence[Spec], hardware: Hardware, prefer: Prefer, *, fits: bool | None
) -> Iterator[str]:
    """Say why this artefact, for each part that the user left open."""
    has = memory.available(hardware, memory.device_of(hardware))
    may = f"{engine} may serve" if has is None or fits is False else f"{engine} may serve and that may fit"
    if any(each.derived is not spec.derived for each in ordered):
        may += " and that is made here" if spec.derived else " and that is published"
    if spec.derived:
        yield "this artefact is made on this machine: no published one got as good a verdict"
    size = "nearest to prefer.size_b; memory is not known"
    if has is not None:
        size = f"the smallest in this format; known to exceed {has:g} GiB"
        if fits is not False:
            size = f"the largest in this format that is not known to exceed {has:g} GiB"
    for name, order, first in (
        ("format", prefer.formats, f"the first of prefer.formats that {may}"),
        ("quantization", prefer.quantizations, f"the first of prefer.quantizations in this format that {may}"),
        ("size", None, size),
        ("hub", prefer.hubs, "the first of prefer.hubs that has it"),
    ):
        value = getattr(spec, name)
        if len({getattr(each, name) for each in ordered}) > 1:
            unranked = order is not None and _rank(value, order) == len(order)
            yield f"{name} {value}: {f'prefer.{name}s names none that {may}' if unranked else first}"
