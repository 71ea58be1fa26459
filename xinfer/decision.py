"""Which engine serves which artefact, and why not the others.

Every candidate artefact is judged for every engine; the pack's order chooses among the engines whose
conditions hold, and ``prefer`` among the artefacts that the user's choice leaves open.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from xinfer import memory, rules
from xinfer.catalog import Spec
from xinfer.errors import ConfigError, nearest
from xinfer.rules import Finding, Source, Verdict

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from xinfer.facts import Hardware
    from xinfer.rules import Pack

_XINFER = Source(kind="xinfer", title="xinfer", date="", where="xinfer/decision.py")


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


def decide(  # noqa: PLR0913 -- the decision depends on exactly these
    pack: Pack,
    candidates: Sequence[Spec],
    hardware: Hardware,
    prefer: Prefer,
    *,
    engine: str | None,
    broken: Mapping[str, str],
    tokens: int,
) -> Decision:
    """Judge every candidate for every engine and choose; ``engine`` forces one.

    ``broken`` maps engines whose plugin does not import to the error; they are *unknown*.
    """
    if engine is not None and engine not in pack.engines and engine not in broken:
        message = f"rule pack {pack.name} has no rules for engine {engine!r}{nearest(engine, pack.engines)}"
        raise ConfigError(message)
    ordered = _ordered(candidates, hardware, prefer, tokens)
    order = [engine] if engine else [*pack.preference, *(e for e in pack.engines if e not in pack.preference)]
    chosen = _choose(pack, order, ordered, hardware, broken)
    spec = chosen[1] if chosen else ordered[0]
    verdicts = tuple(judge_all(pack, spec, hardware, broken))
    if chosen is None:
        because = _refusal(pack, spec, verdicts, engine)
        return Decision(engine=None, spec=spec, rules=pack.name, because=because, verdicts=verdicts)
    because = _reasons(chosen, pack, ordered, hardware, forced=engine is not None)
    return Decision(engine=chosen[0], spec=spec, rules=pack.name, because=because, verdicts=verdicts)


def judge_all(pack: Pack, spec: Spec, hardware: Hardware, broken: Mapping[str, str]) -> list[Verdict]:
    """Judge one artefact for every engine of the pack, and for every plugin that the pack does not know."""
    facts = rules.gather(spec, hardware)
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


def _choose(
    pack: Pack, order: Sequence[str], ordered: Sequence[Spec], hardware: Hardware, broken: Mapping[str, str]
) -> tuple[str, Spec, str] | None:
    """Return the first engine and artefact with a yes; failing that, with nothing but unknowns."""
    gathered = [(spec, rules.gather(spec, hardware)) for spec in ordered if spec.format is not None]
    usable = [name for name in order if name not in broken]
    for wanted in ("yes", "unknown"):
        for name in usable:
            for spec, facts in gathered:
                if pack.judge(name, facts).verdict == wanted:
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


def _reasons(
    chosen: tuple[str, Spec, str], pack: Pack, ordered: Sequence[Spec], hardware: Hardware, *, forced: bool
) -> tuple[str, ...]:
    engine, spec, wanted = chosen
    held = "all its conditions hold" if wanted == "yes" else "no condition fails, and some are unknown"
    first = f"{engine} was asked for, and {held}" if forced else f"{engine}: first in the order of {pack.name}; {held}"
    open_parts = [
        (name, value)
        for name in ("size", "format", "quantization", "hub")
        if len({getattr(s, name) for s in ordered}) > 1 and (value := getattr(spec, name)) is not None
    ]
    device = memory.device_of(hardware)
    has = memory.available(hardware, device)
    sized = f"the largest not known to exceed {has:g} GiB" if has else "nearest to prefer.size_b, memory not known"
    why = {"size": sized, "format": "first of prefer.formats that is allowed", "hub": "first of prefer.hubs"}
    return (first, *(f"{name} {value}: {why.get(name, 'first of prefer.quantizations')}" for name, value in open_parts))
