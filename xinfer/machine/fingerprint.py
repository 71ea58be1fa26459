"""What a machine's speed depends on, as data with a short hash: numbers of equal hashes may be compared.

A fact that cannot be read is null. There is no name, address or serial number in it.
"""

from __future__ import annotations

import hashlib
import os
import platform
import re
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from xinfer.machine import devices
from xinfer.machine.devices import Device
from xinfer.machine.probes import number, pairs, processor, text

if TYPE_CHECKING:
    from collections.abc import Mapping

    from xinfer.facts import Hardware

_CPU = "sys/devices/system/cpu"
_SUFFIXES = {"K": 2**10, "M": 2**20, "G": 2**30}
_CONTAINERS = {".dockerenv": "docker", "run/.containerenv": "podman"}
_IN_GROUP = re.compile(r"kubepods|docker|libpod|lxc")
_WORDS = {"libpod": "podman", "kubepods": "kubernetes"}


class Fingerprint(msgspec.Struct, frozen=True, kw_only=True):
    """One machine, as one process may use it."""

    id: str = ""
    """A hash of all that decides speed and stays: not of the system's version, and not of the drivers'."""
    product: str | None = None
    """The board or the kind of virtual machine, by its maker's name."""
    cpu: str | None = None
    arch: str | None = None
    cpus: int | None = None
    """Logical processors of the machine; ``cores`` are those that this process may use."""
    cores: int | None = None
    threads_per_core: int | None = None
    sockets: int | None = None
    last_level_cache_bytes: int | None = None
    """All caches of the highest level together."""
    isa: tuple[str, ...] | None = None
    governor: str | None = None
    """Who decides on the processor's frequency (cpufreq), as in performance or schedutil."""
    turbo: bool | None = None
    most_ghz: float | None = None
    memory_gib: float | None = None
    """What this process may use."""
    gpus: tuple[Device, ...] = ()
    os: str | None = None
    os_version: str | None = None
    """The distribution's own name, or macOS's version."""
    kernel: str | None = None
    virtual: bool | None = None
    """Whether this is a virtual machine."""
    container: str | None = None
    """docker, podman, kubernetes or lxc; null for none that is known."""


_CHANGING = {"id", "os_version", "kernel"}
"""What an update changes. Numbers from before and after it may be compared: that is how its effect is found."""


def take(hardware: Hardware, root: Path | None = None, environ: Mapping[str, str] | None = None) -> Fingerprint:
    """Describe the machine that this process runs on; ``hardware`` is what is known of it already."""
    root = root or Path("/")
    with devices.opened(root, os.environ if environ is None else environ) as cards:
        gpus = tuple(card.facts() for card in cards)
    is_linux = hardware.os == "linux"
    known = Fingerprint(
        cpu=hardware.cpu,
        arch=hardware.arch,
        cores=hardware.cores,
        isa=hardware.isa,
        memory_gib=hardware.memory_gib,
        gpus=gpus,
        os=hardware.os,
        os_version=_distribution(root) if is_linux else hardware.os_version,
        kernel=hardware.os_version if is_linux else platform.release() or None,
        cpus=os.cpu_count(),
    )
    whole = msgspec.structs.replace(known, **_linux(root)) if is_linux else known
    return msgspec.structs.replace(whole, id=identity(whole))


def identity(fingerprint: Fingerprint) -> str:
    """Return the hash of what decides speed; memory counts in whole GiB, since kernels differ in what they keep."""
    facts = {name: value for name, value in msgspec.structs.asdict(fingerprint).items() if name not in _CHANGING}
    facts["memory_gib"] = None if fingerprint.memory_gib is None else round(fingerprint.memory_gib)
    facts["gpus"] = tuple(msgspec.structs.replace(gpu, driver=None) for gpu in fingerprint.gpus)
    return hashlib.sha256(msgspec.json.encode(facts, order="sorted")).hexdigest()[:12]


def _linux(root: Path) -> dict[str, object]:
    frequency = number(text(root / f"{_CPU}/cpu0/cpufreq/cpuinfo_max_freq"))
    flags = processor(root).get("flags")
    online = sorted((root / _CPU).glob("cpu[0-9]*/topology"))
    packages = {text(topology / "physical_package_id") for topology in online} - {""}
    siblings = text(root / f"{_CPU}/cpu0/topology/thread_siblings_list")
    return {
        "product": text(root / "sys/class/dmi/id/product_name") or text(root / "proc/device-tree/model") or None,
        "threads_per_core": len(_listed(siblings)) or None,
        "sockets": len(packages) or None,
        "last_level_cache_bytes": last_level_cache(root),
        "governor": text(root / f"{_CPU}/cpu0/cpufreq/scaling_governor") or None,
        "turbo": _turbo(root),
        "most_ghz": frequency and round(frequency / 1e6, 3),
        "virtual": None if flags is None else "hypervisor" in flags.split(),
        "container": _container(root),
    }


def last_level_cache(root: Path) -> int | None:
    """Return the bytes of all caches of the highest level together; one that several CPUs share counts once."""
    sizes: dict[tuple[int, str], int] = {}
    for index in (root / _CPU).glob("cpu[0-9]*/cache/index[0-9]*"):
        level, size = number(text(index / "level")), text(index / "size")
        if level and size and text(index / "type") != "Instruction":
            sizes[level, text(index / "shared_cpu_list") or str(index.parent)] = _bytes(size)
    highest = max((level for level, _ in sizes), default=None)
    return sum(size for (level, _), size in sizes.items() if level == highest) or None


def _bytes(size: str) -> int:
    """Read a size as the kernel writes it: 32768K."""
    return (number(size.rstrip("KMG")) or 0) * _SUFFIXES.get(size[-1], 1)


def _listed(cpus: str) -> list[int]:
    """Read a list of CPUs as the kernel writes it: 0-3,8."""
    found: list[int] = []
    for part in filter(None, cpus.split(",")):
        first, _, last = part.partition("-")
        start, end = number(first), number(last or first)
        found += range(start, end + 1) if start is not None and end is not None else ()
    return found


def _turbo(root: Path) -> bool | None:
    """Say whether the processor may run above its nominal frequency; Intel's driver says the opposite of all others."""
    boost, no_turbo = text(root / f"{_CPU}/cpufreq/boost"), text(root / f"{_CPU}/intel_pstate/no_turbo")
    return boost == "1" if boost else no_turbo == "0" if no_turbo else None


def _distribution(root: Path) -> str | None:
    return pairs(text(root / "etc/os-release"), "=").get("PRETTY_NAME", "").strip('"') or None


def _container(root: Path) -> str | None:
    files = (name for file, name in _CONTAINERS.items() if os.access(root / file, os.F_OK))
    group = _IN_GROUP.search(text(root / "proc/1/cgroup"))
    return _WORDS.get(group[0], group[0]) if group else next(files, None)
