"""Dated conditions as data, and their three-valued evaluation.

A pack is a YAML mapping of engines to conditions, each with its source. Every condition of every
engine is always evaluated: met, failed, or unknown when a fact it needs is not known (Kleene's
logic). Nothing here reads a machine, a file or a clock.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, get_args

import msgspec

from xinfer.errors import ConfigError, nearest
from xinfer.facts import FACTS
from xinfer.predicates import KEYS, Predicate, compile_predicate

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from xinfer.catalog import Spec
    from xinfer.facts import Hardware

Result = Literal["met", "failed", "unknown"]
Answer = Literal["yes", "no", "unknown"]
Kind = Literal["page", "code", "xinfer"]

_PACK_KEYS = ("name", "title", "date", "catalog", "sources", "families", "preference", "engines", "build_flags")
_RULE_KEYS = (*KEYS, "when", "source", "at", "fix")
_KINDS: tuple[str, ...] = get_args(Kind)
_RESULT: dict[bool | None, Result] = {True: "met", False: "failed", None: "unknown"}


class Source(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where a condition was read."""

    kind: Kind
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

    @property
    def facts(self) -> tuple[str, ...]:
        """Every fact that the condition depends on, those of its ``when`` first."""
        return (*(self.when.facts if self.when else ()), *self.predicate.facts)

    def evaluate(self, facts: Mapping[str, Any]) -> Finding:
        """Judge the facts; a ``when`` that is unknown leaves a failure undecided."""
        held = self.predicate.test(facts)
        if self.when is not None and held is not True:
            applies = self.when.test(facts)
            held = True if applies is False else held if applies else None
        observed = facts[self.predicate.fact]
        fix = None if held else self.fix if held is False else _unknown(self.facts, facts)
        return Finding(
            id=self.id, result=_RESULT[held], fact=self.predicate.fact, observed=observed,
            expected=self.expected, source=self.source, fix=fix,
        )  # fmt: skip


class BuildFlag(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A compiler flag that a page tells its readers to use, and what it does today."""

    page: str
    today: str
    became: str

    @property
    def note(self) -> str:
        """Say it in one line of a plan."""
        return f"the page builds with {self.page}; today that is {self.became}. The plan uses {self.today}"


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
    build_flags: dict[str, dict[str, BuildFlag]]
    """By engine and build: the page's build flag, and what became of it."""

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


def _unknown(names: tuple[str, ...], facts: Mapping[str, Any]) -> str:
    """Say which fact is not known, why, and what would make it known."""
    fact = next((name for name in names if facts[name] is None), None)
    if fact is None:
        return f"{names[-1]} is {facts[names[-1]]!r}, which cannot be compared"
    override = FACTS[fact].override
    why = facts.get("?model") if fact.startswith("model.") else None
    said = f"{fact} is not known" + (f": {why}" if why else "")
    return f"{said}; say it with {override}=…" if override and not why else said


def load(raw: Mapping[str, Any], where: str) -> Pack:
    """Build a pack from its YAML mapping.

    Raises ConfigError, naming ``where`` and the rule, for a fact, operator, key or source that does
    not exist.
    """
    _closed(raw, _PACK_KEYS, where)
    sources = {name: _source(body, f"{where}: source {name}") for name, body in _mapping(raw, "sources", where)}
    engines = {
        engine: tuple(
            _condition(rule, body, sources, f"{where}: rule {engine}.{rule}")
            for rule, body in _mapping({engine: rules}, engine, f"{where}: engines")
        )
        for engine, rules in _mapping(raw, "engines", where)
    }
    preference = _texts(raw, "preference", where)
    for engine in preference:
        if engine not in engines:
            message = f"{where}: preference names engine {engine!r}, which has no rules{nearest(engine, engines)}"
            raise ConfigError(message)
    name = _text(raw, "name", where) or where
    return Pack(
        name=name, title=_text(raw, "title", where) or name, date=_text(raw, "date", where) or "",
        catalog=_text(raw, "catalog", where), families=_texts(raw, "families", where),
        preference=preference, engines=engines, build_flags=_build_flags(raw, where),
    )  # fmt: skip


def _condition(rule: str, body: Any, sources: Mapping[str, Source], where: str) -> Condition:
    if not isinstance(body, dict):
        message = f"{where}: must be a mapping with fact, an operator and source, not {body!r}"
        raise ConfigError(message)
    _closed(body, _RULE_KEYS, where)
    source, at, fix = (_text(body, key, where) for key in ("source", "at", "fix"))
    if source is None or source not in sources:
        said = "names no source" if source is None else f"source {source!r} is not one of the pack's"
        message = f"{where}: {said}; it has {', '.join(sources) or 'none'}{nearest(str(source), sources)}"
        raise ConfigError(message)
    predicate = compile_predicate({key: value for key, value in body.items() if key in KEYS}, where)
    when = compile_predicate(body["when"], f"{where}: when") if body.get("when") is not None else None
    return Condition(
        id=rule, predicate=predicate, when=when,
        expected=predicate.text if when is None else f"{predicate.text} when {when.full_text}",
        source=msgspec.structs.replace(sources[source], at=at), fix=fix or predicate.fix,
    )  # fmt: skip


def _source(body: Any, where: str) -> Source:
    if not isinstance(body, dict):
        message = f"{where}: must be a mapping with kind, title, date and where, not {body!r}"
        raise ConfigError(message)
    _closed(body, Source.__struct_fields__, where)
    texts = {key: _text(body, key, where) for key in Source.__struct_fields__}
    missing = [key for key in ("kind", "title", "date", "where") if not texts[key]]
    if missing:
        message = f"{where}: has no {', '.join(missing)}"
        raise ConfigError(message)
    kind = str(texts["kind"])
    if kind not in _KINDS:
        message = f"{where}: kind {kind!r} is not one of {', '.join(_KINDS)}{nearest(kind, _KINDS)}"
        raise ConfigError(message)
    return msgspec.convert(texts, Source)


def _build_flags(raw: Mapping[str, Any], where: str) -> dict[str, dict[str, BuildFlag]]:
    try:
        return msgspec.convert(raw.get("build_flags") or {}, dict[str, dict[str, BuildFlag]])
    except msgspec.ValidationError as error:
        text = str(error).replace("`", "").partition(" - at ")[0]
        raise ConfigError(f"{where}: build_flags: {text[:1].lower()}{text[1:]}") from error


def _mapping(raw: Mapping[str, Any], key: str, where: str) -> list[tuple[str, Any]]:
    body = raw.get(key)
    if body is None:
        return []
    if not isinstance(body, dict) or not all(isinstance(name, str) for name in body):
        message = f"{where}: {key} must be a mapping keyed by names, not {body!r}"
        raise ConfigError(message)
    return list(body.items())


def _text(raw: Mapping[str, Any], key: str, where: str) -> str | None:
    value = raw.get(key)
    if value is not None and not isinstance(value, str):
        message = f"{where}: {key} must be text, not {value!r}"
        raise ConfigError(message)
    return value


def _texts(raw: Mapping[str, Any], key: str, where: str) -> tuple[str, ...]:
    values = raw.get(key)
    if values is None:
        return ()
    if not isinstance(values, (list, tuple)) or not all(isinstance(value, str) for value in values):
        message = f"{where}: {key} must be a list of texts, not {values!r}"
        raise ConfigError(message)
    return tuple(values)


def _closed(raw: Mapping[str, Any], known: Sequence[str], where: str) -> None:
    for key in raw:
        if key not in known:
            message = f"{where}: unknown key {key!r}; allowed: {', '.join(known)}{nearest(str(key), known)}"
            raise ConfigError(message)
