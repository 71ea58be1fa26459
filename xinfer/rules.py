"""Dated conditions as data, and their three-valued evaluation.

A pack is a YAML mapping of engines to conditions, each with its source. Every condition of every
engine is always evaluated: met, failed, or unknown when a fact it needs is not known (Kleene's
logic). Nothing here reads a machine, a file or a clock.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import msgspec

from xinfer.errors import ConfigError, nearest
from xinfer.facts import FACTS
from xinfer.predicates import Predicate, compile_predicate

if TYPE_CHECKING:
    from collections.abc import Mapping

    from xinfer.catalog import Spec
    from xinfer.facts import Hardware

Result = Literal["met", "failed", "unknown"]
Answer = Literal["yes", "no", "unknown"]

_RESULT: dict[bool | None, Result] = {True: "met", False: "failed", None: "unknown"}


class Source(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where a condition was read."""

    kind: Literal["page", "code", "xinfer"]
    title: str
    date: str
    where: str
    at: str | None = None
    """Which part of the document."""


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One condition, evaluated."""

    id: str
    result: Result
    fact: str
    observed: Any
    expected: str
    source: Source
    fix: str | None = None
    """The nearest change that would meet a failed condition, or what would make an unknown one known."""


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What a pack says of one engine, with every condition it was judged by."""

    engine: str
    verdict: Answer
    findings: tuple[Finding, ...]

    def of(self, *results: Result) -> tuple[Finding, ...]:
        """Return the findings with one of these results."""
        return tuple(f for f in self.findings if f.result in results)


class Condition(msgspec.Struct, frozen=True, kw_only=True):
    """A compiled condition: holds when its predicate does, or when it does not apply."""

    id: str
    predicate: Predicate
    when: Predicate | None
    expected: str
    source: Source
    fix: str | None

    def evaluate(self, facts: Mapping[str, Any]) -> Finding:
        """Judge the facts; a ``when`` that is unknown leaves a failure undecided."""
        held = self.predicate.test(facts)
        if self.when is not None and held is not True:
            applies = self.when.test(facts)
            held = True if applies is False else held if applies else None
        observed = facts[self.predicate.fact]
        fix = None if held else self.fix if held is False else _unknown(self.predicate.fact, facts)
        return Finding(
            id=self.id, result=_RESULT[held], fact=self.predicate.fact, observed=observed,
            expected=self.expected, source=self.source, fix=fix,
        )  # fmt: skip


class Pack(msgspec.Struct, frozen=True, kw_only=True):
    """A loaded rule pack."""

    name: str
    title: str
    date: str
    catalog: str | None
    """The day whose published specs the pack is about; null means today's."""
    families: tuple[str, ...]
    """The families its page names, in the page's order."""
    preference: tuple[str, ...]
    """Engines in the order in which they are chosen among those whose conditions hold."""
    engines: dict[str, tuple[Condition, ...]]
    build_flags: dict[str, dict[str, str]]
    """What the page says about building llama.cpp, and what became of each flag."""

    def judge(self, engine: str, facts: Mapping[str, Any]) -> Verdict:
        """Evaluate every condition of one engine."""
        findings = tuple([condition.evaluate(facts) for condition in self.engines[engine]])
        return Verdict(engine=engine, verdict=answer(findings), findings=findings)


def answer(findings: tuple[Finding, ...]) -> Answer:
    """Combine findings: one failure is a no; else one unknown, or none at all, is unknown."""
    results = {finding.result for finding in findings}
    if "failed" in results:
        return "no"
    return "yes" if results == {"met"} else "unknown"


def gather(spec: Spec, hardware: Hardware, **engine: Any) -> dict[str, Any]:
    """Return every fact of the vocabulary, null where it is not known, and why under ``?<fact>``."""
    gpu, shape = hardware.gpu, spec.shape
    facts: dict[str, Any] = {
        "model.family": spec.family,
        "model.size_b": spec.parameters_b,
        "model.format": spec.format,
        "model.quantization": spec.quantization,
        "model.hub": spec.hub,
        "model.architecture": shape.architecture,
        "model.abilities": spec.abilities or None,
        "model.context_length": spec.context_length,
        "model.heads": shape.heads,
        "model.kv_heads": shape.kv_heads,
        "hw.os": hardware.os,
        "hw.arch": hardware.arch,
        "hw.cores": hardware.cores,
        "hw.memory_gib": hardware.memory_gib,
        "hw.isa": hardware.isa,
        "hw.apple_silicon": False if hardware.os in ("linux", "windows") else hardware.apple_silicon,
        "hw.cuda_devices": hardware.count("nvidia"),
        "hw.rocm_devices": hardware.count("amd"),
        "hw.gpu_memory_gib": gpu.memory_gib,
        "hw.compute_capability": gpu.compute_capability,
        "engine.version": engine.get("version"),
    }
    if spec.note and spec.format is None:
        facts["?model"] = spec.note
    return facts


def _unknown(fact: str, facts: Mapping[str, Any]) -> str:
    """Say why a fact is not known and what would make it known."""
    override = FACTS[fact].override
    why = facts.get("?model") if fact.startswith("model.") else None
    said = f"{fact} is not known" + (f": {why}" if why else "")
    return f"{said}; say it with {override}=…" if override and not why else said


def load(raw: Mapping[str, Any], where: str) -> Pack:
    """Build a pack from its YAML mapping.

    Raises ConfigError, naming ``where`` and the rule, for a fact, operator, key or source that does
    not exist.
    """
    known = {"name", "title", "date", "catalog", "sources", "families", "preference", "engines", "build_flags"}
    _closed(raw, known, where)
    sources = {name: _source(body, f"{where}: source {name}") for name, body in _mapping(raw, "sources", where)}
    engines = {
        engine: tuple(
            _condition(rule, body, sources, f"{where}: rule {engine}.{rule}")
            for rule, body in _mapping({engine: rules}, engine, where)
        )
        for engine, rules in _mapping(raw, "engines", where)
    }
    preference = tuple(raw.get("preference") or ())
    for engine in preference:
        if engine not in engines:
            message = f"{where}: preference names engine {engine!r}, which has no rules{nearest(engine, engines)}"
            raise ConfigError(message)
    return Pack(
        name=str(raw.get("name")), title=str(raw.get("title")), date=str(raw.get("date")),
        catalog=raw.get("catalog"), families=tuple(raw.get("families") or ()),
        preference=preference, engines=engines, build_flags=dict(raw.get("build_flags") or {}),
    )  # fmt: skip


def _condition(rule: str, body: Any, sources: Mapping[str, Source], where: str) -> Condition:
    if not isinstance(body, dict):
        message = f"{where}: must be a mapping with fact, an operator and source, not {body!r}"
        raise ConfigError(message)
    rest = dict(body)
    named, at, fix = rest.pop("source", None), rest.pop("at", None), rest.pop("fix", None)
    when = rest.pop("when", None)
    if named not in sources:
        hint = nearest(str(named), sources)
        message = f"{where}: source {named!r} is not one of the pack's sources ({', '.join(sources)}){hint}"
        raise ConfigError(message)
    predicate = compile_predicate(rest, where)
    condition = compile_predicate(when, f"{where}: when") if when is not None else None
    expected = predicate.text if condition is None else f"{predicate.text} when {condition.full_text}"
    source = msgspec.structs.replace(sources[named], at=at)
    return Condition(
        id=rule, predicate=predicate, when=condition, expected=expected,
        source=source, fix=fix or predicate.fix,
    )  # fmt: skip


def _source(body: Any, where: str) -> Source:
    try:
        return msgspec.convert(body, Source)
    except msgspec.ValidationError as error:
        message = f"{where}: {str(error)[0].lower()}{str(error)[1:]}"
        raise ConfigError(message) from error


def _mapping(raw: Mapping[str, Any], key: str, where: str) -> list[tuple[str, Any]]:
    body = raw.get(key)
    if body is None:
        return []
    if not isinstance(body, dict):
        message = f"{where}: {key} must be a mapping keyed by id, not {type(body).__name__}"
        raise ConfigError(message)
    return list(body.items())


def _closed(raw: Mapping[str, Any], known: set[str], where: str) -> None:
    for key in raw:
        if key not in known:
            message = f"{where}: unknown key {key!r}; allowed: {', '.join(sorted(known))}{nearest(key, known)}"
            raise ConfigError(message)
