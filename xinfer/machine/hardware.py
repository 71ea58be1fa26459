"""The machine a plan is for: this one, a profile's, or both; and what this one lacks of a profile's."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar, get_args

import msgspec

from xinfer.errors import ConfigError, nearest
from xinfer.facts import Gpu, Hardware, Os, Vendor
from xinfer.machine import accelerators, contradictions, probes
from xinfer.machine.probes import ISA, Isa

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterator

_Facts = TypeVar("_Facts", Hardware, Gpu)
_Name = Annotated[str, msgspec.Meta(min_length=1)]
_Amount = Annotated[float, msgspec.Meta(gt=0, le=1e6)]
_AMOUNT = "a number above 0 and at most a million"
_Memory = Annotated[float, msgspec.Meta(gt=0, le=2**17)]
_MEMORY = "a number of GiB above 0 and at most 131072"
_KEYS: dict[str, tuple[Any, str]] = {
    "profile": (_Name, "a name"),
    "detect": (bool, "true or false"),
    "source": (_Name, "text"),
    "os": (Os, "linux, darwin (macOS) or windows"),
    "os_version": (_Name, "text"),
    "arch": (Annotated[str, msgspec.Meta(pattern="^[a-z0-9_]+$")], "lower-case text such as x86_64 or arm64"),
    "cpu": (_Name, "text"),
    "cores": (Annotated[int, msgspec.Meta(ge=1, le=2**14)], "a whole number from 1 to 16384"),
    "memory_gib": (_Memory, _MEMORY),
    "bandwidth_gbs": (_Amount, _AMOUNT),
    "isa": (tuple[Isa, ...], f"a list of any of {', '.join(ISA)}"),
    "apple_silicon": (bool, "true or false"),
    "gpus": (Annotated[int, msgspec.Meta(ge=0, le=1024)], "a whole number from 0 to 1024"),
    "nodes": (Annotated[int, msgspec.Meta(ge=1, le=1024)], "a whole number from 1 to 1024"),
    "head": (Annotated[str, msgspec.Meta(pattern=r"^[0-9]{1,3}(\.[0-9]{1,3}){3}$")], "an IPv4 address"),
    "gpu": (dict[str, Any], "a mapping"),
}
_CAPABILITY = Annotated[str, msgspec.Meta(pattern=r"^[0-9]{1,2}\.[0-9]$")]
_GPU_KEYS: dict[str, tuple[Any, str]] = {
    "vendor": (Vendor, "nvidia, amd, intel or apple"),
    "name": (_Name, "text"),
    "memory_gib": (_Memory, _MEMORY),
    "compute_capability": (_CAPABILITY, "a version such as 9.0"),
    "driver": (_Name, "text"),
    "bandwidth_gbs": (_Amount, _AMOUNT),
    "tflops_16bit": (_Amount, _AMOUNT),
}
_NAMES = {"os": get_args(Os), "isa": ISA, "vendor": get_args(Vendor)}
_ENOUGH = 0.95
"""The share of a declared amount of memory that will do: a card sold as 80 GB reports 79.6 GiB."""
_SYSTEMS = {"linux": "Linux", "darwin": "macOS", "windows": "Windows"}
_ARCHES = {"aarch64": "arm64", "amd64": "x86_64"}
_DEVICES = {
    None: ("a GPU", "GPUs"),
    "nvidia": ("a CUDA device", "CUDA devices"),
    "amd": ("a ROCm device", "ROCm devices"),
    "intel": ("an Intel GPU", "Intel GPUs"),
    "apple": ("an Apple GPU", "Apple GPUs"),
}


def detect() -> Hardware:
    """Read the machine this process runs on, as profile ``auto``; what cannot be read is null."""
    system, arch, allowed = platform.system(), platform.machine().lower() or None, probes.allowed_cores()
    if system == "Linux":
        gpus, gpu = accelerators.find(Path("/"), os.environ)
        linux = probes.linux(Path("/"), arch=arch, allowed=allowed)
        return msgspec.structs.replace(linux, gpus=gpus, gpu=gpu)
    if system == "Darwin":
        return probes.macos(probes.sysctl(), arch=arch, allowed=allowed)
    known: Os | None = "windows" if system == "Windows" else None
    return Hardware(profile="auto", os=known, arch=arch, cores=allowed, apple_silicon=False)


def declared(config: Mapping[str, Any], machine: Callable[[], Hardware] = detect) -> Hardware:
    """Turn the configuration's ``hw`` node into hardware; ``detect: true`` fills its nulls from the machine.

    Raises ConfigError for a key or a value that is not allowed, and for values that contradict each other.
    """
    facts = _checked(config, "hw", _KEYS)
    if "profile" not in facts:
        msg = "hw.profile must be a name, not null"
        raise ConfigError(msg)
    detected = facts.pop("detect", False)
    gpu = Gpu(**_checked(facts.pop("gpu", {}), "hw.gpu", _GPU_KEYS))
    profile = Hardware(**facts, gpu=gpu)
    contradictions.check(profile)
    return completed(profile, machine()) if detected else profile


def is_read(config: Mapping[str, Any]) -> bool:
    """Say whether the facts of a profile are read from this machine, rather than all declared."""
    return bool(config.get("detect"))


def completed(profile: Hardware, machine: Hardware) -> Hardware:
    """Fill the profile's nulls from the machine; what it declares stays, its name too.

    Where it declares another system, processor or card than the machine's, the facts about that stay null.
    """
    gpu, found = profile.gpu, machine.gpu
    foreign: set[str] = set()
    if _differs(profile.os, machine.os):
        foreign |= {"os_version", "apple_silicon"}
    if _differs(profile.arch, machine.arch) or _differs(profile.cpu, machine.cpu):
        foreign |= {"arch", "cpu", "isa"}
    absent = machine.gpus == 0 and gpu != Gpu()
    if absent or profile.gpus == 0 or _differs(gpu.vendor, found.vendor) or _differs(gpu.name, found.name):
        foreign.add("gpus")
        found = gpu
    filled = msgspec.structs.replace(_filled(profile, machine, foreign), gpu=_filled(gpu, found))
    if filled.apple_silicon is None and filled.os in {"linux", "windows"}:
        return msgspec.structs.replace(filled, apple_silicon=False)
    return filled


def missing(profile: Hardware, machine: Hardware) -> tuple[str, ...]:
    """Say, a phrase each, what the profile declares and the machine lacks; a null demands nothing.

    A fact that is not known of the machine counts as lacking. The versions of system and driver are not
    compared, nor are peak rates, which are not read.
    """
    system, parts = tuple(_missing_system(profile, machine)), _missing_parts(profile, machine)
    # Apple's GPU comes with its system, which is then said to be missing.
    devices = () if system and profile.gpu.vendor == "apple" else _missing_devices(profile, machine)
    return tuple(dict.fromkeys((*system, *parts, *devices)))


def _checked(config: object, where: str, keys: Mapping[str, tuple[Any, str]]) -> dict[str, Any]:
    """Return the values that are not null, each as its key's type."""
    if not isinstance(config, Mapping):
        msg = f"{where} must be a mapping, not {config!r}"
        raise ConfigError(msg)
    for key in (str(key) for key in config if key not in keys):
        hint = nearest(key, keys) or f"; its keys are {', '.join(keys)}"
        msg = f"{where} has no key {key!r}{hint}"
        raise ConfigError(msg)
    return {key: _value(value, where, key, keys[key]) for key, value in config.items() if value is not None}


def _value(value: object, where: str, key: str, wanted: tuple[Any, str]) -> object:
    # YAML reads 9.0, 14.5 and 550 as numbers where text is meant.
    text = str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value
    kind, allowed = wanted
    for form in (value, text):
        with suppress(msgspec.ValidationError):
            return msgspec.convert(form, kind, strict=False)
    names = _NAMES.get(key, ())
    strange = [str(name) for name in (value if isinstance(value, list) else [value]) if name not in names]
    hint = nearest(strange[0], names) if strange else ""
    msg = f"{where}.{key} must be {allowed}, not {value!r}{hint}"
    raise ConfigError(msg)


def _filled(own: _Facts, other: _Facts, foreign: Container[str] = ()) -> _Facts:
    names = [name for name in own.__struct_fields__ if getattr(own, name) is None and name not in foreign]
    return msgspec.structs.replace(own, **{name: getattr(other, name) for name in names})


def _is(wanted: str | None, found: str | None) -> bool:
    """Tell whether a name is the wanted one; ``H100`` is found in ``NVIDIA H100 80GB HBM3``."""
    return wanted is None or (found is not None and wanted.lower() in found.lower())


def _differs(wanted: str | None, found: str | None) -> bool:
    return found is not None and not _is(_ARCHES.get(wanted or "", wanted), _ARCHES.get(found, found))


def _missing_system(profile: Hardware, machine: Hardware) -> Iterator[str]:
    wanted, found = (_ARCHES.get(hardware.arch or "", hardware.arch) for hardware in (profile, machine))
    apple = profile.apple_silicon is True
    if not _is(profile.os, machine.os) or not _is(wanted, found) or (apple and not machine.apple_silicon):
        here = _system(machine, chip=apple or wanted is not None)
        yield f"{_system(profile, chip=True)} (this is {here or 'not known'})"


def _system(hardware: Hardware, *, chip: bool) -> str:
    apple = hardware.apple_silicon and hardware.arch in {None, "arm64"}
    names = (_SYSTEMS.get(hardware.os or ""), ("Apple silicon" if apple else hardware.arch) if chip else None)
    return " on ".join(name for name in names if name)


def _missing_parts(profile: Hardware, machine: Hardware) -> Iterator[str]:
    if profile.nodes > 1:
        yield _gap(f"{profile.nodes} machines", "one")
    if not _is(profile.cpu, machine.cpu):
        yield _gap(f"{profile.cpu}", machine.cpu)
    if profile.cores is not None and profile.cores > (machine.cores or 0):
        yield _gap(f"{profile.cores} core{'s' * (profile.cores > 1)}", machine.cores)
    if _short(profile.memory_gib, machine.memory_gib):
        yield _gap(f"{_gib(profile.memory_gib)} of memory", _gib(machine.memory_gib))
    lacking = [name for name in profile.isa or () if name not in (machine.isa or ())]
    if lacking:
        yield _gap(f"the CPU's {', '.join(lacking)}", None if machine.isa is None else "not")


def _missing_devices(profile: Hardware, machine: Hardware) -> Iterator[str]:
    wanted, gpu = profile.gpu, machine.gpu
    count = int(wanted != Gpu()) if profile.gpus is None else profile.gpus
    found = machine.gpus if wanted.vendor is None else machine.count(wanted.vendor)
    one, many = _DEVICES[wanted.vendor]
    if count > (found or 0):
        yield _gap(one if count == 1 else f"{count} {many}", "none" if found == 0 else found)
    if not count or not found:
        return
    if not _is(wanted.name, gpu.name):
        yield _gap(f"{wanted.name}", gpu.name)
    if _short(wanted.memory_gib, gpu.memory_gib):
        yield _gap(f"{_gib(wanted.memory_gib)} of GPU memory", _gib(gpu.memory_gib))
    if _version(wanted.compute_capability) > _version(gpu.compute_capability):
        yield _gap(f"compute capability {wanted.compute_capability}", gpu.compute_capability)


def _gap(wanted: str, found: object) -> str:
    return f"{wanted} (not known here)" if found is None else f"{wanted} ({found} found)"


def _short(wanted: float | None, found: float | None) -> bool:
    return wanted is not None and (found is None or found < wanted * _ENOUGH)


def _gib(amount: float | None) -> str | None:
    return None if amount is None else f"{round(amount, 1):g} GiB"


def _version(text: str | None) -> tuple[int, ...]:
    return tuple(map(int, text.split("."))) if text else ()
