"""What rules may ask about: the model, the machine and the engine, as flat named facts.

The names are a closed vocabulary: a rule that asks about anything else is refused when its pack is
loaded. A fact that is not known is ``None`` and makes the conditions that need it *unknown*.
"""

from __future__ import annotations

from typing import Literal

import msgspec

Os = Literal["linux", "darwin", "windows"]
Vendor = Literal["nvidia", "amd", "intel", "apple"]
Device = Literal["cuda", "rocm", "xpu", "apple", "cpu"]

_DEVICES: dict[Vendor, Device] = {"nvidia": "cuda", "amd": "rocm", "intel": "xpu", "apple": "apple"}


class Gpu(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One accelerator of a machine; where several differ, the weakest value of each field."""

    vendor: Vendor | None = None
    name: str | None = None
    memory_gib: float | None = None
    compute_capability: str | None = None
    """NVIDIA's, as ``"9.0"``; null elsewhere."""
    driver: str | None = None
    bandwidth_gbs: float | None = None
    """Peak memory bandwidth in 10^9 bytes per second."""
    tflops_16bit: float | None = None
    """Peak rate of dense matrix products in float16 or bfloat16, in 10^12 operations per second; without sparsity."""


class Hardware(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a machine is: declared by a profile, detected, or both. Unknown is null."""

    profile: str
    source: str | None = None
    """Where the figures of a profile are published; null where it has none."""
    os: Os | None = None
    os_version: str | None = None
    arch: str | None = None
    """Instruction set as ``platform.machine()`` names it, lower case: x86_64, arm64, aarch64."""
    cpu: str | None = None
    cores: int | None = None
    """Cores that this process may use: affinity and cgroup quota respected."""
    memory_gib: float | None = None
    """Main memory that this process may use, cgroup limit respected; unified memory on Apple silicon."""
    bandwidth_gbs: float | None = None
    """Peak bandwidth of main memory, all channels, in 10^9 bytes per second; that of unified memory is the GPU's."""
    isa: tuple[str, ...] | None = None
    """CPU instruction set extensions that matter to engines: avx2, avx512f, amx_int8, neon…"""
    apple_silicon: bool | None = None
    gpus: int | None = None
    """How many accelerators; 0 when there is none, null when not known."""
    nodes: int = 1
    """How many machines like this one serve a model together."""
    head: str | None = None
    """The address at which the others reach the first of them; null where nobody has said it."""
    gpu: Gpu = Gpu()

    def count(self, vendor: Vendor) -> int | None:
        """Return how many accelerators of a vendor there are; null when that is not known."""
        if self.gpus == 0:
            return 0
        if self.gpu.vendor is None:
            return None
        return self.gpus if self.gpu.vendor == vendor else 0

    @property
    def device(self) -> Device | None:
        """What models run on where nothing else is asked for; null when that is not known."""
        if self.gpus == 0:
            return "cpu"
        return None if self.gpus is None or self.gpu.vendor is None else _DEVICES[self.gpu.vendor]


class Fact(msgspec.Struct, frozen=True):
    """One name of the vocabulary: what kind of value it has, and how a user changes it."""

    kind: Literal["text", "number", "flag", "list", "version"]
    means: str
    override: str | None = None
    """The configuration key that sets it; null where only another machine or model changes it."""


FACTS: dict[str, Fact] = {
    "model.family": Fact("text", "the family's published name", "model"),
    "model.size_b": Fact("number", "billions of parameters", "model.size"),
    "model.format": Fact("text", "the artefact's format, as published", "model.format"),
    "model.quantization": Fact("text", "the artefact's quantization, as published", "model.quantization"),
    "model.hub": Fact("text", "the hub that has the artefact", "model.hub"),
    "model.architecture": Fact("text", "the network's class name"),
    "model.abilities": Fact("list", "chat, generate, tools…"),
    "model.context_length": Fact("number", "tokens the model was made for"),
    "model.heads": Fact("number", "attention heads"),
    "model.kv_heads": Fact("number", "key and value heads"),
    "hw.os": Fact("text", "linux, darwin or windows", "hw.os"),
    "hw.arch": Fact("text", "x86_64, arm64…", "hw.arch"),
    "hw.cores": Fact("number", "cores this process may use", "hw.cores"),
    "hw.memory_gib": Fact("number", "main memory in GiB", "hw.memory_gib"),
    "hw.isa": Fact("list", "CPU instruction set extensions", "hw.isa"),
    "hw.apple_silicon": Fact("flag", "whether the machine is an Apple silicon Mac", "hw.apple_silicon"),
    "hw.device": Fact("text", "what models run on: cuda, rocm, xpu, apple or cpu", "hw"),
    "hw.cuda_devices": Fact("number", "NVIDIA GPUs", "hw.gpus"),
    "hw.rocm_devices": Fact("number", "AMD GPUs", "hw.gpus"),
    "hw.gpu_memory_gib": Fact("number", "memory of each GPU in GiB", "hw.gpu.memory_gib"),
    "hw.compute_capability": Fact("number", "NVIDIA's compute capability", "hw.gpu.compute_capability"),
    "engine.version": Fact("version", "the version that would be installed", "engine.version"),
    "engine.own": Fact("flag", "whether the user's own interpreter is to run it", None),
    "engine.interpreter": Fact("version", "the Python that its environment would be made with", None),
}
"""Every fact a rule may ask about. Adding one means filling it in ``rules.gather``."""
