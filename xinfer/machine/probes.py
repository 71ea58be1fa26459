"""System, processor and memory of this machine: from ``/proc`` and cgroups on Linux, ``sysctl`` on macOS.

A probe never raises: what it cannot read is null.
"""

from __future__ import annotations

import os
from contextlib import suppress
from itertools import takewhile
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Literal, get_args

from xinfer.facts import Gpu, Hardware

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

Isa = Literal[
    "sse4_2", "avx", "avx2", "fma", "f16c", "avx512f", "avx512bw", "avx512vl", "avx512_vnni", "avx512_bf16",
    "avx_vnni", "amx_tile", "amx_int8", "amx_bf16", "neon", "dotprod", "i8mm", "sve", "bf16",
]  # fmt: skip
"""The instruction set extensions on which an engine's build or speed depends."""
ISA: tuple[str, ...] = get_args(Isa)

_SPELLINGS = {"asimd": "neon", "asimddp": "dotprod", "sse4.2": "sse4_2", "avx1.0": "avx"}
_ARM_SYSCTLS = {
    "hw.optional.arm.FEAT_DotProd": "dotprod",
    "hw.optional.arm.FEAT_I8MM": "i8mm",
    "hw.optional.arm.FEAT_BF16": "bf16",
}
SYSCTL = (
    "/usr/sbin/sysctl", "kern.osproductversion", "machdep.cpu.brand_string", "machdep.cpu.features",
    "machdep.cpu.leaf7_features", "hw.memsize", "hw.optional.arm64", *_ARM_SYSCTLS,
)  # fmt: skip
_GIB = 2**30
_NO_LIMIT = 2**60
"""From here on a memory limit in bytes is none: cgroup v1 writes a number just below 2**63."""


def linux(root: Path, *, arch: str | None, allowed: int | None) -> Hardware:
    """Read a Linux machine, but for its accelerators, from the tree that holds its ``/proc`` and ``/sys``."""
    groups = tuple(cgroups(root))
    cpu = processor(root)
    flags = cpu.get("flags", cpu.get("Features"))
    return Hardware(
        profile="auto",
        os="linux",
        os_version=text(root / "proc/sys/kernel/osrelease") or None,
        arch=arch,
        cpu=cpu.get("model name") or text(root / "proc/device-tree/model") or None,
        cores=cores(groups, allowed),
        memory_gib=memory_gib(root, groups),
        isa=None if flags is None else extensions(flags),
        apple_silicon=False,
    )


def macos(output: str, *, arch: str | None, allowed: int | None) -> Hardware:
    """Read a Mac from what ``sysctl`` printed; under Rosetta ``arch`` is x86_64 on Apple silicon."""
    values = pairs(output, ":")
    apple = arch == "arm64" or values.get("hw.optional.arm64") == "1"
    cpu = values.get("machdep.cpu.brand_string")
    intel = (values.get(f"machdep.cpu.{name}", "") for name in ("features", "leaf7_features"))
    arm = (flag for name, flag in _ARM_SYSCTLS.items() if values.get(name) == "1")
    return Hardware(
        profile="auto",
        os="darwin",
        os_version=values.get("kern.osproductversion"),
        arch=arch,
        cpu=cpu,
        cores=allowed,
        memory_gib=gib(number(values.get("hw.memsize"))),
        isa=extensions(" ".join(("neon", *arm) if apple else intel)) if values else None,
        apple_silicon=apple,
        gpus=1 if apple else None,
        gpu=Gpu(vendor="apple", name=cpu) if apple else Gpu(),
    )


def sysctl(argv: Sequence[str] = SYSCTL) -> str:
    """Return what ``sysctl`` prints; names that it does not know are left out."""
    import subprocess  # noqa: PLC0415 -- only a Mac pays for it

    try:
        return subprocess.run(argv, capture_output=True, text=True, timeout=5, check=False).stdout
    except (OSError, subprocess.SubprocessError):
        return ""


def allowed_cores() -> int | None:
    """Count the cores on which the scheduler may put this process."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def cgroups(root: Path) -> Iterator[Path]:
    """Yield the directory of every cgroup, v2 or v1, of this process, each followed by its parents."""
    own: dict[str, PurePosixPath] = {}
    for line in text(root / "proc/self/cgroup").splitlines():
        controllers, _, group = line.partition(":")[2].partition(":")
        own.update(dict.fromkeys(controllers.split(","), PurePosixPath(group)))
    for line in text(root / "proc/self/mountinfo").splitlines():
        mount, _, source = line.partition(" - ")
        kind, _, options = source.partition(" ")
        v1 = {"cpu", "memory"}.intersection(options.rpartition(" ")[2].split(","))
        names = {"cgroup2": {""}, "cgroup": v1}.get(kind, set())
        for path in {own[name] for name in names & own.keys()}:
            top, point = mount.split()[3:5]
            # Where the mount shows other groups than the process's own, at least its top applies.
            inner = path.relative_to(top) if path.is_relative_to(top) else PurePosixPath()
            yield from (root / point.lstrip("/") / part for part in (inner, *inner.parents))


def cores(groups: Iterable[Path], allowed: int | None) -> int | None:
    """Return the smallest of the allowed cores and every CPU quota in whole cores, but at least one.

    Rounded down: two busy threads on a quota of 1.5 cores are both stopped in every period.
    """
    amounts = [] if allowed is None else [allowed]
    for group in groups:
        v2, _, v2_period = text(group / "cpu.max").partition(" ")
        quota = number(v2 or text(group / "cpu.cfs_quota_us"))
        period = number(v2_period or text(group / "cpu.cfs_period_us"))
        if quota and period:
            amounts.append(max(1, quota // period))
    return min(amounts, default=None)


def memory_gib(root: Path, groups: Iterable[Path]) -> float | None:
    """Return the smallest of the machine's memory and every cgroup limit."""
    total = pairs(text(root / "proc/meminfo"), ":").get("MemTotal", "").removesuffix(" kB")
    limits = [number(text(group / "memory.max") or text(group / "memory.limit_in_bytes")) for group in groups]
    amounts = [(number(total) or 0) * 1024, *limits]
    return gib(min((amount for amount in amounts if amount and amount < _NO_LIMIT), default=None))


def oom_kills(root: Path) -> int | None:
    """Return how many processes the kernel has ended for want of memory since it was started."""
    return number(pairs(text(root / "proc/vmstat"), " ").get("oom_kill"))


def processor(root: Path) -> dict[str, str]:
    """Read the first processor's block; the kernel takes long to write those of a large machine."""
    with suppress(OSError), (root / "proc/cpuinfo").open(encoding="utf-8", errors="replace") as lines:
        return pairs("".join(takewhile(str.strip, lines)), ":")
    return {}


def extensions(flags: str) -> tuple[str, ...]:
    """Filter CPU flags, as Linux or macOS spell them, to those that matter to engines."""
    found = {_SPELLINGS.get(flag, flag) for flag in flags.lower().split()}
    return tuple(name for name in ISA if name in found)


def text(path: Path) -> str:
    """Return what a file holds, without blanks around it; empty where it cannot be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip("\0 \n")
    except OSError:
        return ""


def pairs(lines: str, separator: str) -> dict[str, str]:
    """Split every line at its first separator into a name and a value."""
    parts = (line.partition(separator) for line in lines.splitlines())
    return {name.strip(): value.strip() for name, _, value in parts}


def number(digits: str | None) -> int | None:
    """Return a whole number, or null for ``max``, ``-1``, nothing and whatever else is none."""
    return int(digits) if digits and digits.isdecimal() else None


def gib(size: int | None) -> float | None:
    """Return bytes as GiB, to two places; null for none."""
    return round(size / _GIB, 2) if size else None
