"""The smallest sets of changes that make an engine serve a cell: found by search over what is declared, cheapest first.

A set does if all the engine's conditions are then met for an artefact that is not known to be too large. It is minimal:
without any one of its changes it does not do. Of sets that differ only in how much of a thing they ask for, the least
is returned. A set is as dear as its dearest change, then as its next; ``alternatives.KINDS`` says which is dearer.
"""

from __future__ import annotations

import itertools
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from operator import itemgetter
from typing import TYPE_CHECKING, Any, NamedTuple

from xinfer.catalog import Spec
from xinfer.facts import Hardware
from xinfer.judging import rules
from xinfer.judging.alternatives import KINDS, Axes, Change, Kind, Option, choice

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Iterator

    from xinfer.judging.rules import Condition, Pack

MOST = 3
"""How many changes a set has at most."""
Set = frozenset[Change]
_LEAST = {"hw.gpu.compute_capability", "hw.gpus", "hw.memory_gib", "hw.gpu.memory_gib", "hw.cores"}
"""Keys of which the least that does is enough."""
_VERSIONS = {"engine.version", "engine.interpreter"}
_NO_SPEC = Spec(family="", size=None, format=None, quantization=None, hub=None, id=None)
_NO_MACHINE = Hardware(profile="")


class Point(NamedTuple):
    """One state of a cell: what the planner may choose from, where it shall run, and the engine's settings."""

    specs: tuple[Spec, ...]
    hardware: Hardware
    settings: Mapping[str, Any]
    context_length: int | None = None
    """Where it is changed."""


Versions = Callable[[Hardware, Mapping[str, Any]], Mapping[str, str | None]]
Fits = Callable[[tuple[Spec, ...], Point], bool | None]
"""Whether what the planner chooses of some artefacts fits a machine; null where that is not known."""


class Repair(NamedTuple):
    """A change that makes room, if enough of it is asked for."""

    key: str
    kind: Kind
    values: Sequence[int]
    """From the least change to the greatest; if one does, so do all after it."""
    apply: Callable[[Point, int], Point]


class _Part(NamedTuple):
    """What is asked about one part of a cell."""

    subject: Any
    """Kept, so that nothing else gets its identity."""
    facts: dict[str, Any]
    key: tuple[Any, ...]
    is_hopeful: bool
    """Whether the conditions that ask about nothing but this part are met."""


class Judge:
    """What one engine's conditions say of a point; what is alike for them is judged once."""

    def __init__(self, pack: Pack, engine: str, versions: Versions | None = None) -> None:
        """Take what tells the facts that a machine and some settings decide together; without it, what is set."""
        self._told = versions or (lambda _, settings: {"engine.version": settings.get("version")})
        self._conditions = pack.engines[engine]
        self._names = tuple(dict.fromkeys(name for condition in self._conditions for name in condition.facts))
        parts = ("model", "hw", "engine")
        self._own = {part: [each for each in self._conditions if _asked(each) == {part}] for part in parts}
        joint = [condition for condition in self._conditions if len(_asked(condition)) > 1]
        self._joint = [(condition, itemgetter(*condition.facts)) for condition in joint]
        self._parts: dict[int, _Part] = {}
        self._versions: dict[tuple[int, int], Mapping[str, str | None]] = {}
        self._answers: dict[tuple[Any, ...], bool] = {}
        self._met: dict[tuple[Any, ...], bool] = {}

    def able(self, point: Point) -> tuple[Spec, ...]:
        """Return the artefacts of which every condition is met."""
        machine, settings = self._part("hw", point.hardware), self._part("engine", point.settings)
        if not (self._conditions and machine.is_hopeful and settings.is_hopeful):
            return ()
        pair = id(point.hardware), id(point.settings)
        if pair not in self._versions:
            self._versions[pair] = self._told(point.hardware, point.settings)
        parts = machine, settings, self._versions[pair]
        return tuple(spec for spec in point.specs if self._serves(self._part("model", spec), *parts))

    def hopeful(self, axes: Axes) -> Axes:
        """Leave out the alternatives that no change of another part can help."""
        models = (Option(option.changes, self._hopeful("model", option.value)) for option in axes.models)
        return Axes(
            [option for option in models if option.value],
            [option for option in axes.machines if self._part("hw", option.value).is_hopeful],
            [option for option in axes.settings if self._part("engine", option.value).is_hopeful],
        )

    def blocking(self, axes: Axes) -> tuple[str, ...]:
        """Return the conditions that ask about one part of the cell only, and that none of its alternatives meets."""
        subjects: dict[str, list[Any]] = {
            "model": [spec for option in axes.models for spec in option.value],
            "hw": [option.value for option in axes.machines],
            "engine": [option.value for option in axes.settings],
        }
        return tuple(
            condition.id
            for part, conditions in self._own.items()
            for condition in conditions
            if not any(_is_met(condition, self._part(part, subject).facts) for subject in subjects[part])
        )

    def _hopeful(self, part: str, specs: Iterable[Spec]) -> tuple[Spec, ...]:
        return tuple(spec for spec in specs if self._part(part, spec).is_hopeful)

    def _part(self, part: str, subject: Any) -> _Part:
        found = self._parts.get(id(subject))
        if found is None:
            facts = _facts(part, subject)
            key = tuple(facts[name] for name in self._names if name.startswith(f"{part}."))
            found = _Part(subject, facts, key, all(_is_met(condition, facts) for condition in self._own[part]))
            self._parts[id(subject)] = found
        return found

    def _serves(self, model: _Part, machine: _Part, settings: _Part, versions: Mapping[str, str | None]) -> bool:
        key = (model.key, machine.key, settings.key, *versions.values())
        if key not in self._answers:
            facts = {**model.facts, **_only("hw", machine.facts), **_only("engine", settings.facts), **versions}
            met = (self._is_met(condition, values(facts), facts) for condition, values in self._joint)
            self._answers[key] = model.is_hopeful and all(met)
        return self._answers[key]

    def _is_met(self, condition: Condition, values: Any, facts: Mapping[str, Any]) -> bool:
        key = (condition.id, values)
        if key not in self._met:
            self._met[key] = _is_met(condition, facts)
        return self._met[key]


def smallest(
    judge: Judge, axes: Axes, fits: Fits, repairs: Sequence[Repair] = (), *, left: Sequence[str] = (), most: int = MOST
) -> tuple[Set, ...]:
    """Return every minimal set of changes that does, the cheapest first; the empty one where nothing is to change.

    ``left`` are the choices of ``catalog.CHOICES`` that the user has left to the planner: where that takes what is too
    large, one of them is made. Of those that are as dear as each other, what comes first in its axis does here.
    """
    axes = judge.hopeful(axes)
    found: dict[Set, bool] = {}  # and whether room had to be made
    for is_far, count in itertools.product((False, True), range(most + 1)):
        if is_far and count == 0 and found:
            break
        points = [(changes, point) for changes, point in _points(axes, count) if _is_far(changes) is is_far]
        for changes, point, able in list(_judged(judge, fits, points, found)):
            if not _has_keys(changes, found):
                more = (*_chosen(fits, left, changes, point, able), *_repaired(judge, fits, repairs, changes, point))
                found |= {each: True for each in more if len(each) <= most and not _has_part(each, found)}
    return tuple(_least(sorted(_plain(found), key=cost)))


def _judged(
    judge: Judge, fits: Fits, points: Iterable[tuple[Set, Point]], found: dict[Set, bool]
) -> Iterator[tuple[Set, Point, tuple[Spec, ...]]]:
    """Enter the changes that do, unless some of them do already, and yield those that do but for the memory."""
    for changes, point in points:
        able = () if _has_part(changes, found) else judge.able(point)
        if able and fits(able, point) is not False:
            found[changes] = False
        elif able:
            yield changes, point, able


def _is_far(changes: Set) -> bool:
    """Tell whether another model and another machine are asked for: only where there is no other way."""
    return {"family", "hardware"} <= {change.kind for change in changes}


def cost(changes: Iterable[Change]) -> tuple[int, ...]:
    """Return what sets are ordered by: how dear each change is, the dearest first."""
    return tuple(sorted((KINDS.index(change.kind) for change in changes), reverse=True))


def ordered(changes: Iterable[Change]) -> tuple[Change, ...]:
    """Return the changes of a set, the cheapest first."""
    return tuple(sorted(changes, key=lambda change: (KINDS.index(change.kind), change.key)))


def _points(axes: Axes, count: int) -> Iterator[tuple[Set, Point]]:
    """Yield every state of the cell that so many changes lead to."""
    by_count = [_by_count(axis) for axis in axes]
    for counts in itertools.product(range(count + 1), repeat=len(by_count)):
        if sum(counts) == count:
            groups = (groups.get(each, ()) for groups, each in zip(by_count, counts, strict=True))
            for model, machine, settings in itertools.product(*groups):
                changes = model.changes | machine.changes | settings.changes
                yield changes, Point(model.value, machine.value, settings.value)


def _by_count(axis: Sequence[Option[Any]]) -> dict[int, list[Option[Any]]]:
    groups: dict[int, list[Option[Any]]] = {}
    for option in axis:
        groups.setdefault(len(option.changes), []).append(option)
    return groups


def _has_part(changes: Set, found: Container[Set]) -> bool:
    """Tell whether some of the changes do already."""
    return any(frozenset(some) in found for n in range(len(changes) + 1) for some in itertools.combinations(changes, n))


def _has_keys(changes: Set, found: Iterable[Set]) -> bool:
    """Tell whether other values of some of the same keys do without making room."""
    keys = {change.key for change in changes}
    return any({change.key for change in each} <= keys for each in found)


def _chosen(fits: Fits, left: Iterable[str], changes: Set, point: Point, able: tuple[Spec, ...]) -> Iterator[Set]:
    """Yield the changes with one choice that was left to the planner, where it takes something smaller then."""
    for name in left:
        for value in dict.fromkeys(getattr(spec, name) for spec in able):
            some = tuple(spec for spec in able if getattr(spec, name) == value)
            if len(some) < len(able) and fits(some, point) is not False:
                yield changes | {choice(name, some[0])}


def _repaired(judge: Judge, fits: Fits, repairs: Iterable[Repair], changes: Set, point: Point) -> Iterator[Set]:
    """Yield the changes with the least further one that makes room."""

    def is_enough(repair: Repair, value: int) -> bool:
        repaired = repair.apply(point, value)
        able = judge.able(repaired)
        return bool(able) and fits(able, repaired) is not False

    for repair in repairs:
        others = frozenset(change for change in changes if change.key != repair.key)
        at = bisect_left(repair.values, True, key=partial(is_enough, repair))  # noqa: FBT003
        if at < len(repair.values):
            yield others | {Change(key=repair.key, value=str(repair.values[at]), kind=repair.kind)}


def _plain(found: Mapping[Set, bool]) -> Iterator[Set]:
    """Leave out the sets that make room where some do with fewer keys: a machine that is too small is no suggestion."""
    keys = [{change.key for change in changes} for changes in found]
    for changes, makes_room in found.items():
        own = {change.key for change in changes}
        if not (makes_room and any(each < own for each in keys)):
            yield changes


def _least(found: Iterable[Set]) -> Iterator[Set]:
    """Leave out the sets that ask for more of the same than another."""
    groups: dict[Set, list[Set]] = {}
    for changes in found:
        alike = frozenset(change if change.key not in _LEAST else _any_of(change) for change in changes)
        groups.setdefault(alike, []).append(changes)
    for group in groups.values():
        yield min(group, key=_amounts)


def _any_of(change: Change) -> Change:
    return Change(key=change.key, value="", kind=change.kind)


def _amounts(changes: Set) -> list[float]:
    return [float(change.value) for change in sorted(changes, key=lambda each: each.key) if change.key in _LEAST]


def _asked(condition: Condition) -> set[str]:
    """Return the parts of a cell that a condition asks about; the versions depend on the machine."""
    parts = {name.partition(".")[0] for name in condition.facts}
    return parts if _VERSIONS.isdisjoint(condition.facts) else parts | {"hw", "engine"}


def _is_met(condition: Condition, facts: Mapping[str, Any]) -> bool:
    return condition.evaluate(facts).result == "met"


def _facts(part: str, subject: Any) -> dict[str, Any]:
    """Return all facts, of which those of one part are known."""
    spec = subject if part == "model" else _NO_SPEC
    machine = subject if part == "hw" else _NO_MACHINE
    return rules.gather(spec, machine, **(subject if part == "engine" else {}))


def _only(part: str, facts: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in facts.items() if name.startswith(f"{part}.")}
