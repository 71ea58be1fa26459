"""Facts of a machine that cannot all be true: refused, so that nothing is judged by them.

Only what is declared is checked, and only what no machine can be: CUDA on macOS is for the rules to refuse.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from xinfer.errors import ConfigError
from xinfer.machine.probes import ISA

if TYPE_CHECKING:
    from collections.abc import Iterator

    from xinfer.facts import Hardware

_ARM, _X86 = ("arm64", "aarch64"), ("x86_64", "amd64")
_ARM_ISA = frozenset({"neon", "dotprod", "i8mm", "sve", "bf16"})
_X86_ISA = frozenset(ISA) - _ARM_ISA


class Contradiction(NamedTuple):
    """Two keys whose values exclude each other."""

    first: str
    second: str
    why: str


def check(declared: Hardware) -> None:
    """Raise ConfigError that names two keys which contradict each other, with their values."""
    for first, second, why in (*_of_gpus(declared), *_of_apple(declared), *_of_processor(declared)):
        raise ConfigError(f"{_said(declared, first)} contradicts {_said(declared, second)}: {why}")


def _said(declared: Hardware, key: str) -> str:
    node: object = declared
    for name in key.split("."):
        node = getattr(node, name)
    value = str(node).lower() if isinstance(node, bool) else f"[{','.join(node)}]" if isinstance(node, tuple) else node
    return f"hw.{key}={value}"


def _of_gpus(declared: Hardware) -> Iterator[Contradiction]:
    gpu = declared.gpu
    if declared.gpus == 0:
        why = "what is not there has no such facts; hw=cpu is a machine without GPUs"
        yield from (
            Contradiction("gpus", f"gpu.{name}", why)
            for name in gpu.__struct_fields__
            if getattr(gpu, name) is not None
        )
    if declared.gpus == 0 and declared.nodes > 1:
        yield Contradiction("gpus", "nodes", "what is served by several machines together is spread over their GPUs")
    if declared.head is not None and declared.nodes == 1:
        yield Contradiction("head", "nodes", "there is nobody else to reach it")
    if gpu.vendor == "apple" and (declared.gpus or 0) > 1:
        yield Contradiction("gpus", "gpu.vendor", "a Mac has one GPU of Apple's")
    if gpu.compute_capability is not None and gpu.vendor not in (None, "nvidia"):
        yield Contradiction("gpu.compute_capability", "gpu.vendor", "only NVIDIA's GPUs have a compute capability")


def _of_apple(declared: Hardware) -> Iterator[Contradiction]:
    if declared.apple_silicon:
        if declared.os in ("linux", "windows"):
            yield Contradiction("apple_silicon", "os", "it stands for a Mac with macOS, which is darwin")
        if declared.arch not in (None, *_ARM):
            yield Contradiction("apple_silicon", "arch", "Apple silicon is arm64")
        if declared.gpu.vendor not in (None, "apple"):
            yield Contradiction("apple_silicon", "gpu.vendor", "Apple silicon has Apple's GPU and takes no other")
    elif declared.apple_silicon is False:
        if declared.gpu.vendor == "apple":
            yield Contradiction("apple_silicon", "gpu.vendor", "Apple's GPUs are a part of Apple silicon")
        if declared.os == "darwin" and declared.arch in _ARM:
            yield Contradiction("apple_silicon", "arch", "a Mac with an Arm processor is Apple silicon")


def _of_processor(declared: Hardware) -> Iterator[Contradiction]:
    isa = frozenset(declared.isa or ())
    for arches, foreign, whose in ((_ARM, isa & _X86_ISA, "x86_64"), (_X86, isa & _ARM_ISA, "Arm")):
        if declared.arch in arches and foreign:
            yield Contradiction("isa", "arch", f"{min(foreign)} is an extension of {whose} processors")
    if declared.os == "darwin" and declared.arch not in (None, *_ARM, *_X86):
        yield Contradiction("os", "arch", "Macs are x86_64 or arm64")
