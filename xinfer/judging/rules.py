"""Dated conditions and their three-valued evaluation.

Every condition of every engine is always evaluated: met, failed, or unknown when a fact it needs is
not known (Kleene's logic) or when its sources leave a failure open. Nothing here reads a machine, a
file or a clock.
"""

from __future__ import annotations

from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from xinfer.facts import FACTS
from xinfer.judging.predicates import Predicate
from xinfer.judging.recall import remembered
from xinfer.versions import Bounds, Outside

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from xinfer.catalog import Spec
    from xinfer.facts import Hardware

    Test = Callable[[Mapping[str, Any]], "Finding"]
    Judge = Callable[[Mapping[str, Any]], "Verdict"]

Result = Literal["met", "failed", "unknown"]
Answer = Literal["yes", "no", "unknown"]
Kind = Literal["page", "code", "xinfer"]

_RESULT: dict[bool | None, Result] = {True: "met", False: "failed", None: "unknown"}
_VERSION, _INTERPRETER = "engine.version", "engine.interpreter"


class Source(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where a condition was read."""

    kind: Kind
    title: str
    date: str
    where: str
    at: str | None = None
    """Which part of the document."""


class Finding(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One condition, evaluated."""

    id: str
    result: Result
    fact: str
    observed: Any
    expected: str
    source: Source
    fix: str | None = None
    """The nearest change that would meet a failed condition, or what would make an unknown one known."""
    version: str | None = None
    """Of a condition that only some versions of the engine have: the one that was judged."""
    outside: Outside | None = None
    """Why that version does not have the condition, which is then met; null where it has it or nobody can tell."""


class Verdict(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What a pack says of one engine, with every condition it was judged by."""

    engine: str
    verdict: Answer
    findings: tuple[Finding, ...]

    def of(self, *results: Result) -> tuple[Finding, ...]:
        """Return the findings with one of these results."""
        return tuple(f for f in self.findings if f.result in results)

    @property
    def against(self) -> tuple[Finding, ...]:
        """What keeps it from being better: the failed conditions of a no, the unknown ones else."""
        return self.of("failed" if self.verdict == "no" else "unknown")


class Condition(msgspec.Struct, frozen=True, kw_only=True):
    """A compiled condition: holds when its predicate does, or when it does not apply."""

    id: str
    predicate: Predicate
    when: Predicate | None
    expected: str
    source: Source
    fix: str | None
    doubt: str | None = None
    """Why a failure decides nothing; null where it is a no."""
    since: str | None = None
    """The first version of the engine that has the condition; null: all have had it."""
    until: str | None = None
    """The first version of the engine that no longer has it; null: all still have it."""
    bounds: Bounds | None = None
    """``since`` and ``until``, compiled; null where there is neither."""

    @property
    def facts(self) -> tuple[str, ...]:
        """Every fact that the condition depends on, those of its ``when`` first."""
        return (*(self.when.facts if self.when else ()), *self.predicate.facts, *((_VERSION,) if self.bounds else ()))

    def evaluate(self, facts: Mapping[str, Any]) -> Finding:
        """Judge the facts; a ``when`` or a version that is unknown leaves a failure undecided."""
        if self.bounds is not None:
            return self._evaluate_for(facts, facts[_VERSION], self.bounds)
        return self._found(self._held(facts), facts)

    def _held(self, facts: Mapping[str, Any]) -> bool | None:
        applies = self.when is None or self.when.test(facts)
        if applies is False:  # as most of them do not
            return True
        held = self.predicate.test(facts)
        return held if applies or held else None

    def _evaluate_for(self, facts: Mapping[str, Any], version: str | None, bounds: Bounds) -> Finding:
        """Judge one version of the engine: one that does not have the condition meets it."""
        outside = bounds.outside(version)
        if isinstance(outside, str):
            return self._found(True, facts, version, outside)  # noqa: FBT003 -- as a predicate would have said it
        held = self._held(facts)
        return self._found(None if held is False and outside is None else held, facts, version)

    def _found(
        self,
        held: bool | None,  # noqa: FBT001 -- Kleene's third is null
        facts: Mapping[str, Any],
        version: str | None = None,
        outside: Outside | None = None,
    ) -> Finding:
        fix = None if held else self.fix if held is False else _unknown(self.facts, facts)
        if held is False and self.doubt is not None:
            held, fix = None, self.doubt
        return Finding(
            id=self.id, result=_RESULT[held], fact=self.predicate.fact, observed=facts[self.predicate.fact],
            expected=self.expected, source=self.source, fix=fix, version=version, outside=outside,
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


class Pack(msgspec.Struct, frozen=True, kw_only=True, dict=True):
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
    preferences: dict[str, tuple[str, ...]] = {}
    """The order for a kind of device, where it differs."""
    engines: dict[str, tuple[Condition, ...]]
    build_flags: dict[str, dict[str, BuildFlag]]
    """By engine and build: the page's build flag, and what became of it."""
    versions: dict[str, str | None] = {}
    """The version of each engine that is judged where the facts have none; ``releases.settled`` makes it the one that
    would be installed."""
    interpreter: str | None = None
    """The version of the Python that environments are made with; ``releases.settled`` knows it on this machine."""
    releases: dict[str, tuple[str, ...]] = {}
    """Versions of each engine that the pack tells apart, oldest first."""

    @property
    def is_versioned(self) -> bool:
        """Whether the version of an engine, or of its interpreter, matters to any condition."""
        asked = {name for conditions in self.engines.values() for each in conditions for name in each.facts}
        return not asked.isdisjoint((_VERSION, _INTERPRETER))

    def judge(self, engine: str, facts: Mapping[str, Any]) -> Verdict:
        """Return the verdict on one engine, with a finding of each of its conditions."""
        return self._judges[engine](facts)

    @cached_property
    def _judges(self) -> dict[str, Judge]:
        """Verdicts are remembered, and the findings that they are made of, of which there are far fewer."""
        return {
            engine: remembered(
                partial(self._evaluate, engine, [remembered(each.evaluate, each.facts) for each in conditions]),
                (name for each in conditions for name in each.facts),
            )
            for engine, conditions in self.engines.items()
        }

    def _evaluate(self, engine: str, tests: Sequence[Test], facts: Mapping[str, Any]) -> Verdict:
        """Judge the versions in the facts, else the pack's."""
        own = ((_VERSION, self.versions.get(engine)), (_INTERPRETER, self.interpreter))
        added = {name: version for name, version in own if version is not None and facts.get(name) is None}
        return evaluate(engine, tests, {**facts, **added} if added else facts)

    def order(self, hardware: Hardware) -> tuple[str, ...]:
        """Return every engine in the order of preference on a machine; those without a place come last."""
        preferred = self.preferences.get(hardware.device or "", self.preference)
        return tuple(dict.fromkeys((*preferred, *self.engines)))


def evaluate(engine: str, tests: Sequence[Test], facts: Mapping[str, Any]) -> Verdict:
    """Evaluate every condition of one engine."""
    findings = tuple([test(facts) for test in tests])
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
        "hw.device": hardware.device,
        "hw.cuda_devices": hardware.count("nvidia"),
        "hw.rocm_devices": hardware.count("amd"),
        "hw.gpu_memory_gib": gpu.memory_gib,
        "hw.compute_capability": None if gpu.compute_capability is None else float(gpu.compute_capability),
        "engine.version": engine.get("version"),
        "engine.own": engine.get("python") is not None,
        "engine.interpreter": engine.get("interpreter"),
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
