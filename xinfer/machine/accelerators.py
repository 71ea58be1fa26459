"""The accelerators of this machine: NVIDIA's through NVML, AMD's through the kernel's compute nodes.

A probe never raises: what it cannot read is null. Apple's is read with its system; others are not looked for.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from xinfer.facts import Gpu
from xinfer.machine.probes import gib, number, pairs, text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path
    from types import ModuleType

_NODES = "sys/class/kfd/kfd/topology/nodes"


def find(root: Path, environ: Mapping[str, str]) -> tuple[int | None, Gpu]:
    """Return how many accelerators a Linux machine has, and the weakest of them: NVIDIA's, or else AMD's."""
    cuda = nvidia(root, environ)
    if cuda[0]:
        return cuda
    amd = rocm(root, environ)
    return (None, Gpu()) if cuda[0] is None and not amd[0] else amd


def nvidia(root: Path, environ: Mapping[str, str]) -> tuple[int | None, Gpu]:
    """Ask NVML about the devices CUDA may see; null where there is a driver and no answer."""
    driver = any((root / "dev").glob("nvidia*")) or os.access(root / "proc/driver/nvidia", os.F_OK)
    wsl = os.access(root / "dev/dxg", os.F_OK)
    mask = environ.get("CUDA_VISIBLE_DEVICES")
    if not (driver or wsl) or (mask is not None and mask.strip() in {"", "-1"}):
        return 0, Gpu()  # before NVML's module is imported, which takes 50 ms
    silent = (None if driver else 0), Gpu()
    try:
        import pynvml  # noqa: PLC0415
    except ImportError:
        return silent
    try:
        pynvml.nvmlInit()
        try:
            return _cuda_devices(pynvml, mask)
        finally:
            pynvml.nvmlShutdown()
    except pynvml.NVMLError:
        return silent


def _cuda_devices(nvml: ModuleType, mask: str | None) -> tuple[int | None, Gpu]:
    def ask(question: str, *about: object) -> Any:
        try:
            return getattr(nvml, question)(*about)
        except nvml.NVMLError:  # as about the memory of a board that shares it with the CPU
            return None

    chosen = handles(nvml, mask)
    if chosen is None:
        return None, Gpu()
    driver, found = ask("nvmlSystemGetDriverVersion"), []
    for handle in chosen:
        name, memory = ask("nvmlDeviceGetName", handle), ask("nvmlDeviceGetMemoryInfo", handle)
        capability = ask("nvmlDeviceGetCudaComputeCapability", handle)
        gpu = Gpu(
            vendor="nvidia",
            name=name,
            memory_gib=gib(memory and memory.total),
            compute_capability=capability and "{}.{}".format(*capability),
            driver=driver,
        )
        found.append(gpu)
    return len(found), weakest(found)


def handles(nvml: ModuleType, mask: str | None) -> list[Any] | None:
    """Return NVML's handles of the devices that CUDA may see; null for slices, whose own memory is not read."""
    if mask is not None and "MIG-" in mask:
        return None
    every = [nvml.nvmlDeviceGetHandleByIndex(index) for index in range(nvml.nvmlDeviceGetCount())]
    return [every[index] for index in visible([_uuid(nvml, handle) for handle in every], mask)]


def _uuid(nvml: ModuleType, handle: Any) -> str:
    try:
        return str(nvml.nvmlDeviceGetUUID(handle))
    except nvml.NVMLError:
        return ""


def rocm(root: Path, environ: Mapping[str, str]) -> tuple[int | None, Gpu]:
    """Read the kernel's compute nodes; one that this process may not use reads as empty."""
    if not os.access(root / "dev/kfd", os.F_OK):
        return 0, Gpu()
    folder = root / _NODES
    driver = text(root / "sys/module/amdgpu/version") or None
    found = []
    for node, table in compute_nodes(root, environ):
        name = gfx(table.get("gfx_target_version"))
        found.append(Gpu(vendor="amd", name=name, memory_gib=_vram_gib(node), driver=driver))
    return (len(found) if any(folder.glob("*")) else None), weakest(found)


def compute_nodes(root: Path, environ: Mapping[str, str]) -> list[tuple[Path, dict[str, str]]]:
    """Return the folder and the properties of each of AMD's devices that ROCm may see."""
    nodes = sorted((root / _NODES).glob("*"), key=lambda node: (len(node.name), node))
    read = ((node, pairs(text(node / "properties"), " ")) for node in nodes)
    tables = [(node, table) for node, table in read if number(table.get("simd_count"))]
    for variable in ("ROCR_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES"):
        ids = [f"GPU-{number(table.get('unique_id')) or 0:016x}" for _, table in tables]
        tables = [tables[index] for index in visible(ids, environ.get(variable))]
    return tables


def gfx(version: str | None) -> str | None:
    """Name an AMD target from its number, two decimal digits per part: 90402 is gfx942, 90010 gfx90a."""
    target = number(version)
    return f"gfx{target // 10000}{target // 100 % 100:x}{target % 100:x}" if target else None


def _vram_gib(node: Path) -> float | None:
    banks = [pairs(text(bank), " ") for bank in node.glob("mem_banks/*/properties")]
    # Heap types 1 and 2 are the card's own memory, visible to the host or not.
    own = [bank for bank in banks if bank.get("heap_type") in {"1", "2"}]
    return gib(sum(number(bank.get("size_in_bytes")) or 0 for bank in own))


def visible(ids: Sequence[str], mask: str | None) -> list[int]:
    """Return the indices that a mask such as CUDA_VISIBLE_DEVICES leaves, in its order.

    An entry is an index or the start of one id; the first that is neither, or comes again, ends the list.
    """
    if mask is None:
        return list(range(len(ids)))
    chosen: list[int] = []
    for entry in map(str.strip, mask.lower().split(",")):
        hits = [i for i, known in enumerate(ids) if entry == str(i) or (entry and known.lower().startswith(entry))]
        if len(hits) != 1 or hits[0] in chosen:
            break
        chosen += hits
    return chosen


def weakest(gpus: Sequence[Gpu]) -> Gpu:
    """Fold devices into one that has the least memory and compute capability, and every name, of them."""
    if not gpus:
        return Gpu()
    memories = [gpu.memory_gib for gpu in gpus if gpu.memory_gib is not None]
    capabilities = [gpu.compute_capability for gpu in gpus if gpu.compute_capability is not None]
    least = min(capabilities, key=lambda version: tuple(map(int, version.split("."))), default=None)
    return Gpu(
        vendor=gpus[0].vendor,
        name=", ".join(dict.fromkeys(gpu.name for gpu in gpus if gpu.name)) or None,
        memory_gib=min(memories) if len(memories) == len(gpus) else None,
        compute_capability=least if len(capabilities) == len(gpus) else None,
        driver=gpus[0].driver,
    )
