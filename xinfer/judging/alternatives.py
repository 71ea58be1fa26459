"""What a user may change about a cell, as data: artefact, machine, the engine's settings, each as what is typed.

The domain is what is declared: the catalogue's rows, the machine profiles, the values that conditions name. A fact of a
machine is changed alone only where the same machine may have it; what makes it another machine is a profile.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any, Generic, Literal, NamedTuple, TypeVar, get_args

import msgspec

from xinfer import catalog
from xinfer.catalog import Spec
from xinfer.errors import ConfigError
from xinfer.facts import Hardware
from xinfer.machine import contradictions

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from xinfer.judging.rules import Condition

Kind = Literal["fact", "setting", "quantization", "format", "size", "version", "hub", "family", "hardware"]
KINDS: tuple[Kind, ...] = get_args(Kind)
"""What is changed, from the cheapest to the dearest. A fact is only said: it was not known."""
INTERPRETER = "/path/to/python"
"""Stands for the user's own interpreter, which nobody else can name."""
_DEVICE_VENDORS = {"cuda": "nvidia", "rocm": "amd", "xpu": "intel", "apple": "apple"}
_COUNTED = {"hw.cuda_devices": "nvidia", "hw.rocm_devices": "amd"}
_AMOUNTS = {"hw.memory_gib": "memory_gib", "hw.cores": "cores", "hw.gpu_memory_gib": "gpu.memory_gib"}
_PORTABLE = ("linux", "windows")
"""The systems that the same machine may have."""
_MOST_FACTS = 3

T = TypeVar("T")


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that is typed otherwise."""

    key: str
    value: str
    kind: Kind

    @property
    def text(self) -> str:
        """Write it as it is typed."""
        return f"{self.key}={self.value}"


class Option(NamedTuple, Generic[T]):
    """One alternative of one part of a cell, and the changes that lead to it; none of them for what it is already."""

    changes: frozenset[Change]
    value: T


Models = list[Option[tuple[Spec, ...]]]
Machines = list[Option[Hardware]]
Settings = list[Option[dict[str, Any]]]


class Axes(NamedTuple):
    """The three parts of a cell that are changed independently, each with all its alternatives."""

    models: Models
    machines: Machines
    settings: Settings


def named(conditions: Iterable[Condition]) -> dict[str, list[Any]]:
    """Return for each fact that conditions ask about the values that they name."""
    found: dict[str, dict[Any, None]] = {}
    for condition in conditions:
        found |= {name: found.get(name, {}) for name in condition.facts}
        for predicate in (condition.when, condition.predicate):
            for name, value in predicate.named if predicate else ():
                found[name][value] = None
    return {name: list(values) for name, values in found.items()}


def models(specs: Sequence[Spec], typed: Mapping[str, str], others: Mapping[Change, Sequence[Spec]]) -> Models:
    """Return the artefacts that a user can choose, by what has to be typed for each.

    ``specs`` are the family's, ``typed`` is what the user has chosen of ``catalog.CHOICES``. ``others`` are those that
    one more change makes selectable, as another family; of these no more than one choice is changed as well.
    """
    found: dict[frozenset[Change], tuple[Spec, ...]] = {}
    for change, group in ((None, specs), *others.items()):
        most = len(typed) if change is None else 1
        for made in dict.fromkeys(_needed(spec, typed, group) for spec in group):
            if len(made) <= most:
                found[made if change is None else made | {change}] = _selected(group, typed, made)
    return [Option(changes, group) for changes, group in found.items()]


def settings(named: Mapping[str, Sequence[Any]], current: Mapping[str, Any], versions: Iterable[str]) -> Settings:
    """Return the engine's settings that conditions ask about: its version, and the user's own interpreter."""
    found: Settings = [Option(frozenset(), dict(current))]
    for version in versions:
        if version != current.get("version"):
            changed = Change(key="engine.version", value=version, kind="version")
            found.append(Option(frozenset({changed}), {**current, "version": version}))
    if "engine.own" in named and current.get("python") is None:
        changed = Change(key="engine.python", value=INTERPRETER, kind="setting")
        found += [Option(option.changes | {changed}, {**option.value, "python": INTERPRETER}) for option in list(found)]
    return found


def machines(
    named: Mapping[str, Sequence[Any]], hardware: Hardware, profiles: Mapping[str, Hardware], typed: Iterable[str]
) -> Machines:
    """Return the machine, what may be said of it or changed, every other profile, and what may be changed of that.

    ``profiles`` have the facts that the user has typed, whose keys are ``typed``: those, and no others, are changed
    beside a profile.
    """
    found: Machines = [Option(frozenset(), hardware), *_edited(hardware, named)]
    for name, profile in profiles.items():
        chosen = frozenset({Change(key="hw", value=name, kind="hardware")})
        found.append(Option(chosen, profile))
        found += [
            Option(chosen | option.changes, option.value)
            for option in _edited(profile, named)
            if {change.key for change in option.changes} <= set(typed)
        ]
    return found


def _needed(spec: Spec, typed: Mapping[str, str], specs: Sequence[Spec]) -> frozenset[Change]:
    """Return what has to be typed otherwise for an artefact to be among those that are selected.

    Where one is published under the very name that was typed, another spelling of it has to be typed.
    """
    differing = [name for name, text in typed.items() if not catalog.matching([spec], name, text)]
    changes = frozenset(choice(name, spec) for name in differing)
    if spec in _selected(specs, typed, changes):
        return changes
    return frozenset(choice(name, spec) for name, text in typed.items() if str(getattr(spec, name)) != text)


def _selected(specs: Sequence[Spec], typed: Mapping[str, str], changes: Iterable[Change]) -> tuple[Spec, ...]:
    """Select as the catalogue does."""
    chosen: dict[str, str] = {**typed}
    chosen |= {change.kind: change.value for change in changes}
    found = tuple(specs)
    for name, text in chosen.items():
        found = catalog.matching(found, name, text)
    return found


def choice(name: str, spec: Spec) -> Change:
    """Return what has to be typed for an artefact's size, format, quantization or hub."""
    kind: Kind = next(kind for kind in KINDS if kind == name)
    return Change(key=f"model.{name}", value=str(getattr(spec, name)), kind=kind)


def _edited(hardware: Hardware, named: Mapping[str, Sequence[Any]]) -> Iterator[Option[Hardware]]:
    """Yield the machine with one to three of its facts said or changed, each fact once."""
    edits = list(dict.fromkeys(edit for fact, values in named.items() for edit in _edits(fact, values, hardware)))
    for count in range(1, _MOST_FACTS + 1):
        for some in itertools.combinations(edits, count):
            edited = _with(hardware, some)
            if len({edit.change.key for edit in some}) == count and _is_possible(edited):
                yield Option(frozenset(edit.change for edit in some), edited)


def _is_possible(hardware: Hardware) -> bool:
    try:
        contradictions.check(hardware)
    except ConfigError:
        return False
    return True


class _Edit(NamedTuple):
    change: Change
    field: str
    value: Any


def _edits(fact: str, values: Sequence[Any], hardware: Hardware) -> Iterator[_Edit]:
    """Yield what may be said or changed of a machine, for it to have one of the values of a fact."""
    for value in values:
        if fact == "hw.os":
            yield from _system(str(value), hardware)
        elif fact == "hw.arch" and hardware.arch is None:
            yield _said("arch", value)
        elif fact == "hw.apple_silicon" and hardware.apple_silicon is None and hardware.os not in _PORTABLE:
            yield _said("apple_silicon", value)
        elif fact == "hw.isa" and value not in (hardware.isa or ()):
            yield _amount("isa", (*(hardware.isa or ()), value), hardware.isa)
        elif fact == "hw.device":
            yield from _device(str(value), hardware)
        elif fact in _COUNTED:
            yield from _count(_COUNTED[fact], int(value), hardware)
        elif fact == "hw.compute_capability" and hardware.gpus != 0 and hardware.gpu.vendor in (None, "nvidia"):
            yield from _larger("gpu.compute_capability", f"{value:.1f}", hardware.gpu.compute_capability)
        elif fact in _AMOUNTS and (hardware.gpus != 0 or fact != "hw.gpu_memory_gib"):
            field = _AMOUNTS[fact]
            yield from _larger(field, value, _get(hardware, field))


def _system(value: str, hardware: Hardware) -> Iterator[_Edit]:
    if hardware.os is None:
        yield _said("os", value)
    elif {hardware.os, value} == set(_PORTABLE):
        yield _amount("os", value, hardware.os)


def _device(value: str, hardware: Hardware) -> Iterator[_Edit]:
    """Say what of a device is not known: how many there are, and whose they are."""
    vendor = _DEVICE_VENDORS.get(value)
    if vendor is None:
        if hardware.gpus is None and hardware.gpu.vendor is None:
            yield _said("gpus", 0)
    else:
        yield from _count(vendor, 1, hardware)


def _count(vendor: str, value: int, hardware: Hardware) -> Iterator[_Edit]:
    if hardware.gpus == 0 or hardware.gpu.vendor not in (None, vendor):
        return
    if hardware.gpu.vendor is None:
        yield _said("gpu.vendor", vendor)
    if hardware.gpus is None or hardware.gpus < value:
        yield _amount("gpus", value, hardware.gpus)


def _larger(field: str, value: Any, current: Any) -> Iterator[_Edit]:
    if current is None or float(current) < float(value):
        yield _amount(field, value, current)


def _said(field: str, value: Any) -> _Edit:
    return _amount(field, value, None)


def _amount(field: str, value: Any, current: Any) -> _Edit:
    kind: Kind = "fact" if current is None else "hardware"
    return _Edit(Change(key=f"hw.{field}", value=_typed(value), kind=kind), field, value)


def _typed(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f"[{','.join(value)}]" if isinstance(value, tuple) else str(value)


def _get(hardware: Hardware, field: str) -> Any:
    return hardware.gpu.memory_gib if field == "gpu.memory_gib" else getattr(hardware, field)


def _with(hardware: Hardware, edits: Iterable[_Edit]) -> Hardware:
    for edit in edits:
        hardware = changed(hardware, edit.field, edit.value)
    return hardware


def changed(hardware: Hardware, field: str, value: Any) -> Hardware:
    """Return a machine with another value of a field, as ``gpus`` or ``gpu.memory_gib``."""
    outer, _, inner = field.partition(".")
    if inner:
        value = msgspec.structs.replace(hardware.gpu, **{inner: value})
    return msgspec.structs.replace(hardware, **{outer: value})
