"""One cell as it would be if something else were typed: its alternatives, and the plan of each, made as any other."""

from __future__ import annotations

import difflib
import math
from functools import cached_property
from typing import TYPE_CHECKING, Any

import msgspec

from xinfer import catalog, flow
from xinfer.config import overrides
from xinfer.config.document import read
from xinfer.errors import ConfigError, XinferError
from xinfer.judging import alternatives, decision, releases
from xinfer.judging.alternatives import Axes, Change
from xinfer.judging.changes import Point, Repair
from xinfer.machine import hardware
from xinfer.planning import memory

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from collections.abc import Set as AbstractSet

    from xinfer.catalog import Family, Spec
    from xinfer.config.compose import Composer
    from xinfer.facts import Hardware
    from xinfer.flow import Ask, Planned
    from xinfer.judging.rules import Pack
    from xinfer.plan import LaunchPlan

_NEIGHBOURS = 12
"""How many other families are looked at: those whose names are most alike."""
_STEP = 256
"""A context is made shorter by so many tokens at a time."""
_GIB = range(1, 4097)
_GPUS = (2, 4, 8, 16)
_ABOUT_FAMILIES = {"model.family", "model.architecture", "model.abilities"}


class Variation:
    """What was typed, and what could have been typed instead."""

    def __init__(self, asked: Ask, typed: Sequence[str], composer: Composer) -> None:
        self._asked, self._composer = asked, composer
        self._keys = [overrides.read(text).key for text in typed]
        self._fits: dict[Any, bool | None] = {}
        self._too_large: set[Any] = set()
        self._packs: dict[Any, Pack] = {(asked.pack.interpreter, *asked.pack.versions.items()): asked.pack}

    def axes(self, engine: str, unmet: AbstractSet[str], *, is_wide: bool = False) -> Axes:
        """Return the alternatives of what an engine's conditions ask about.

        ``unmet`` are those that are not met now; another family is looked for only where one of them asks for that, or
        where ``is_wide`` says that nothing of this one can do.
        """
        asked = self._asked
        typed = {key: str(self._model[key]) for key in catalog.CHOICES if key not in self.left and not self._is_open}
        published = () if self._is_open else asked.family.specs(asked.day)
        specs = sorted(published or asked.candidates, key=self._place)
        conditions = asked.pack.engines[engine]
        named = alternatives.named(conditions)
        facts = {name for condition in conditions if condition.id in unmet for name in condition.facts}
        others = {} if self._is_open else self._others(named, is_wide=is_wide or bool(_ABOUT_FAMILIES & facts))
        versions = reversed(asked.pack.releases.get(engine, ())) if "engine.version" in named else ()
        current = {key: asked.engine.get(key) for key in ("version", "python")}
        return Axes(
            alternatives.models(specs, typed, others),
            alternatives.machines(named, asked.hardware, self._profiles(is_larger=not unmet), self._keys),
            alternatives.settings(named, current, versions),
        )

    @cached_property
    def profiles(self) -> dict[str, Hardware]:
        """Return every other machine profile with what was typed of the machine, the nearest and least first."""
        found: dict[str, Hardware] = {}
        for name in self._composer.options("hw"):
            if name not in ("auto", self._asked.hardware.profile):
                try:
                    found[name] = hardware.declared(self._typed_over(read(self._composer.file("hw", name)), name))
                except ConfigError:  # what was typed cannot be true of that machine
                    continue
        return dict(sorted(found.items(), key=lambda item: _distance(self._asked.hardware, item[1])))

    def _profiles(self, *, is_larger: bool) -> dict[str, Hardware]:
        """Return all other profiles, or those that are known to have more memory."""
        if not is_larger:
            return self.profiles
        own = _memory_gib(self._asked.hardware) or math.inf
        return {name: each for name, each in self.profiles.items() if (_memory_gib(each) or 0.0) > own}

    def repairs(self) -> tuple[Repair, ...]:
        """Return what makes room: a shorter context, more GPUs, more memory."""
        need = self._asked.capacity.input_tokens + self._asked.capacity.output_tokens
        most = self._asked.config["context_length"] or flow.DEFAULT_CONTEXT
        lengths = range((most - 1) // _STEP * _STEP, need - 1, -_STEP)
        return (
            Repair("context_length", "setting", lengths, lambda point, value: point._replace(context_length=value)),
            Repair("hw.gpus", "hardware", _GPUS, _more_gpus),
            Repair("hw.gpu.memory_gib", "hardware", _GIB, _with("gpu.memory_gib", "gpu")),
            Repair("hw.memory_gib", "hardware", _GIB, _with("memory_gib", "cpu")),
        )

    @property
    def left(self) -> tuple[str, ...]:
        """The choices of an artefact that were left to the planner."""
        return () if self._is_open else tuple(key for key in catalog.CHOICES if self._model.get(key) is None)

    def fits(self, specs: tuple[Spec, ...], point: Point) -> bool | None:
        """Tell whether what the planner takes of some artefacts fits; what cannot be planned does not."""
        size = (tuple(map(id, specs)), _alike(point.hardware), point.context_length)
        if size in self._too_large:  # and so in every version
            return False
        key = (*size, tuple(point.settings.values()))
        if key not in self._fits:
            config = {**self._asked.config}
            config["context_length"] = point.context_length or config["context_length"]
            engine = {**self._asked.engine, **point.settings}
            asked = msgspec.structs.replace(
                self._asked, candidates=specs, hardware=point.hardware, config=config, engine=engine,
                pack=self._settled(point.hardware, engine),
            )  # fmt: skip
            launch = _launch(asked, self._composer)
            self._fits[key] = False if launch is None else launch.memory.fits
            if launch is not None and launch.memory.fits is False:
                self._too_large.add(size)
        return self._fits[key]

    def versions(self, machine: Hardware, settings: Mapping[str, Any]) -> dict[str, str | None]:
        """Return the version that the engine would have, and that of its Python; null where nobody can tell."""
        engine = {**self._asked.engine, **settings}
        pack = self._settled(machine, engine)
        return {"engine.version": pack.versions.get(str(engine["name"])), "engine.interpreter": pack.interpreter}

    def planned(self, changes: Iterable[Change]) -> Planned:
        """Plan for what was typed with some changes; raise what planning raises."""
        return flow.plan(self.applied(changes), self._composer, compares=False)

    def applied(self, changes: Iterable[Change]) -> Ask:
        """Return what would have been asked for."""
        asked, made = self._asked, {change.key: change.value for change in changes}
        engine = {
            **asked.engine,
            **{key: made[f"engine.{key}"] for key in ("version", "python") if f"engine.{key}" in made},
        }
        config = dict(asked.config)
        if "context_length" in made:
            config["context_length"] = int(made["context_length"])
        day = made.get("catalog", asked.day)
        family = self._family(made["model"]) if "model" in made else asked.family
        chosen = {key: made.get(f"model.{key}", self._model.get(key)) for key in catalog.CHOICES}
        machine = self._machine(made)
        return msgspec.structs.replace(
            asked, config=config, engine=engine, day=day, family=family, hardware=machine,
            pack=self._settled(machine, engine),
            candidates=asked.candidates if self._is_open else catalog.select(family, day=day, **chosen),
        )  # fmt: skip

    @property
    def _model(self) -> Mapping[str, Any]:
        model: Mapping[str, Any] = self._asked.config["model"]
        return model

    @property
    def _is_open(self) -> bool:
        return catalog.is_open(self._model)

    def _settled(self, machine: Hardware, engine: Mapping[str, Any]) -> Pack:
        """Return the pack with the versions for a machine; for the same ones the same, which remembers verdicts."""
        own = self._asked.pack
        if not own.is_versioned:
            return own
        is_here = own.interpreter is not None and machine.profile == self._asked.hardware.profile
        found = releases.settled(own, machine, engine, is_here=is_here)
        return self._packs.setdefault((found.interpreter, *found.versions.items()), found)

    def _others(self, named: Mapping[str, Sequence[Any]], *, is_wide: bool) -> dict[Change, Sequence[Spec]]:
        """Return what one more change makes selectable: another day where this one has nothing, another family."""
        asked, found = self._asked, {}
        if not asked.family.specs(asked.day):
            for day in catalog.DAYS:
                found[Change(key="catalog", value=day, kind="setting")] = asked.family.specs(day)
        if is_wide or not asked.family.rows:
            for name in self._neighbours(named.get("model.family")):
                found[Change(key="model", value=name, kind="family")] = self._family(name).specs(asked.day)
        return {change: specs for change, specs in found.items() if specs}

    def _place(self, spec: Spec) -> tuple[float, ...]:
        """Sort artefacts as they are preferred, larger ones first."""
        prefer = self._asked.prefer
        order = decision.rank(spec.format, prefer.formats), decision.rank(spec.quantization, prefer.quantizations)
        return (*order, -(spec.weights_b or 0.0), decision.rank(spec.hub, prefer.hubs))

    def _neighbours(self, named: Sequence[Any] | None) -> list[str]:
        """Return the families whose names are most alike, of those that a condition names if one does."""
        own = self._asked.family.family
        wanted = [name for name in self._composer.options("model") if name not in (own, "hf", "local")]
        names = [name for name in wanted if named is None or name in named]
        return difflib.get_close_matches(own, names, n=_NEIGHBOURS, cutoff=0.0)

    def _family(self, name: str) -> Family:
        path = self._composer.file("model", name)
        return catalog.parse(read(path), f"model/{path.name}")

    def _typed_over(self, profile: dict[str, Any], name: str) -> dict[str, Any]:
        """Lay what was typed of the machine over a profile."""
        node = {"profile": name, **profile, "gpu": dict(profile.get("gpu") or {})}
        for key in self._keys:
            first, _, path = key.partition(".")
            if first == "hw" and path:
                outer, _, inner = path.partition(".")
                value = self._asked.config["hw"][outer]
                if inner:
                    node[outer][inner] = value[inner]
                else:
                    node[outer] = value
        return node

    def _machine(self, made: Mapping[str, str]) -> Hardware:
        found = self.profiles[made["hw"]] if "hw" in made else self._asked.hardware
        node = msgspec.to_builtins(found)
        for key, value in made.items():
            if key.startswith("hw."):
                outer, _, inner = key.removeprefix("hw.").partition(".")
                typed = value[1:-1].split(",") if value.startswith("[") else value
                node |= {outer: {**node[outer], inner: typed} if inner else typed}
        return found if node == msgspec.to_builtins(found) else hardware.declared(node)


def _launch(asked: Ask, composer: Composer) -> LaunchPlan | None:
    try:
        return flow.plan(asked, composer, compares=False).launch
    except XinferError:
        return None


def _memory_gib(machine: Hardware) -> float | None:
    return memory.together(machine, memory.device_of(machine))


def _alike(machine: Hardware) -> Hardware:
    """Return a machine without what makes no difference to a plan's memory, as its name."""
    gpu = msgspec.structs.replace(machine.gpu, name=None, driver=None, bandwidth_gbs=None, tflops_16bit=None)
    return msgspec.structs.replace(machine, profile="", source=None, cpu=None, bandwidth_gbs=None, gpu=gpu)


def _more_gpus(point: Point, value: int) -> Point:
    count = point.hardware.gpus
    apple = point.hardware.gpu.vendor == "apple"
    more = (
        point.hardware if not count or count >= value or apple else alternatives.changed(point.hardware, "gpus", value)
    )
    return point._replace(hardware=more)


def _with(field: str, device: str) -> Any:
    """Return what gives a machine more memory where models run on that device; Apple's GPUs share the main memory."""

    def apply(point: Point, value: int) -> Point:
        machine = point.hardware
        own = "cpu" if machine.gpu.vendor == "apple" else memory.device_of(machine)
        has = machine.gpu.memory_gib if device == "gpu" else machine.memory_gib
        if own != device or has is None or has >= value:
            return point
        return point._replace(hardware=alternatives.changed(machine, field, float(value)))

    return apply


def _distance(own: Hardware, other: Hardware) -> tuple[int, float, str]:
    """Sort machines by how many kinds of their facts differ, then by memory: the least that does is the nearest."""
    pairs = [(getattr(own, name), getattr(other, name)) for name in ("os", "arch", "apple_silicon")]
    pairs += [(own.gpu.vendor, other.gpu.vendor), (bool(own.gpus), bool(other.gpus)), (own.gpus, other.gpus)]
    differing = sum(None not in pair and pair[0] != pair[1] for pair in pairs)
    size = other.gpu.memory_gib or other.memory_gib or math.inf
    return differing, 0.0 if other.gpu.name is None and other.cpu is None else size, other.profile
