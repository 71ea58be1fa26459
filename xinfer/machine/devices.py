"""The accelerators of this machine while they work: NVIDIA's through NVML, AMD's through their driver's files.

A reading never raises: what a device does not tell is null.
"""

from __future__ import annotations

from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from xinfer.machine import accelerators
from xinfer.machine.probes import number, text

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path
    from types import ModuleType

SLOWED = {
    "hardware slowdown": 0x8,
    "software thermal slowdown": 0x20,
    "hardware thermal slowdown": 0x40,
    "power brake": 0x80,
}
"""Why a device runs below the clocks it was made for (NVML's ``nvmlClocksEventReason*``). Its power limit, 0x4, is not
among them: under full load every device runs into it."""
_MILLI = 1e3


class Device(msgspec.Struct, frozen=True, kw_only=True):
    """What a device is, as far as its speed depends on it."""

    vendor: str
    name: str | None = None
    memory_bytes: int | None = None
    driver: str | None = None
    core_mhz: int | None = None
    """The highest clock of its cores, as ``memory_mhz`` of its memory."""
    memory_mhz: int | None = None
    power_limit_w: float | None = None


class Reading(msgspec.Struct, frozen=True, kw_only=True):
    """What a device does at one instant."""

    used_bytes: int | None = None
    """Of its memory, by everybody."""
    busy: float | None = None
    """The part of the last moments in which it computed anything, from 0 to 1."""
    core_mhz: int | None = None
    joules: float | None = None
    """Since its driver was loaded."""
    slowed: tuple[str, ...] = ()
    """Why it is slowed down; power limits do not count."""


class Card(Protocol):
    """One device that can be asked."""

    def facts(self) -> Device:
        """Return what it is."""

    def read(self) -> Reading:
        """Return what it does now."""


@contextmanager
def opened(root: Path, environ: Mapping[str, str]) -> Iterator[Sequence[Card]]:
    """Yield the devices that an engine started with these variables would see."""
    with _nvml_opened(root, environ) as cards:
        yield cards or [Amd(root, node, table) for node, table in accelerators.compute_nodes(root, environ)]


@contextmanager
def _nvml_opened(root: Path, environ: Mapping[str, str]) -> Iterator[list[Card]]:
    count, gpu = accelerators.nvidia(root, environ)
    if not count or gpu.vendor != "nvidia":
        yield []
        return
    import pynvml  # noqa: PLC0415 -- 50 ms, where there is something to ask only

    cards: list[Card] = []
    with suppress(pynvml.NVMLError):
        pynvml.nvmlInit()
        handles = accelerators.handles(pynvml, environ.get("CUDA_VISIBLE_DEVICES")) or []
        cards = [Nvidia(pynvml, handle) for handle in handles]
    try:
        yield cards
    finally:
        with suppress(pynvml.NVMLError):
            pynvml.nvmlShutdown()


class Nvidia:
    """A device that NVML knows."""

    def __init__(self, nvml: ModuleType, handle: Any) -> None:
        """Keep the library and its handle of the device."""
        self._nvml, self._handle = nvml, handle

    def facts(self) -> Device:
        """Return what it is."""
        memory, limit = self._ask("nvmlDeviceGetMemoryInfo"), self._ask("nvmlDeviceGetEnforcedPowerLimit")
        driver = None
        with suppress(self._nvml.NVMLError):
            driver = self._nvml.nvmlSystemGetDriverVersion()
        return Device(
            vendor="nvidia",
            name=self._ask("nvmlDeviceGetName"),
            memory_bytes=memory and int(memory.total),
            driver=driver,
            core_mhz=self._ask("nvmlDeviceGetMaxClockInfo", self._nvml.NVML_CLOCK_SM),
            memory_mhz=self._ask("nvmlDeviceGetMaxClockInfo", self._nvml.NVML_CLOCK_MEM),
            power_limit_w=limit and limit / _MILLI,
        )

    def read(self) -> Reading:
        """Return what it does now."""
        memory, rates = self._ask("nvmlDeviceGetMemoryInfo"), self._ask("nvmlDeviceGetUtilizationRates")
        energy = self._ask("nvmlDeviceGetTotalEnergyConsumption")
        reasons = self._ask("nvmlDeviceGetCurrentClocksThrottleReasons") or 0
        return Reading(
            used_bytes=memory and int(memory.used),
            busy=None if rates is None else rates.gpu / 100,
            core_mhz=self._ask("nvmlDeviceGetClockInfo", self._nvml.NVML_CLOCK_SM),
            joules=None if energy is None else energy / _MILLI,
            slowed=tuple(reason for reason, bit in SLOWED.items() if reasons & bit),
        )

    def _ask(self, question: str, *about: object) -> Any:
        try:
            return getattr(self._nvml, question)(self._handle, *about)
        except self._nvml.NVMLError:
            return None


class Amd:
    """A device of the ``amdgpu`` driver; it says neither its energy nor why it is slowed down."""

    def __init__(self, root: Path, node: Path, properties: Mapping[str, str]) -> None:
        """Find the driver's files by the number of the device's render node."""
        minor = number(properties.get("drm_render_minor"))
        self._files = root / f"sys/class/drm/renderD{minor}/device"
        self._node, self._properties = node, properties
        self._driver = text(root / "sys/module/amdgpu/version") or None

    def facts(self) -> Device:
        """Return what it is."""
        return Device(
            vendor="amd",
            name=accelerators.gfx(self._properties.get("gfx_target_version")),
            memory_bytes=number(text(self._files / "mem_info_vram_total")),
            driver=self._driver,
            core_mhz=number(self._properties.get("max_engine_clk_fcompute")),
        )

    def read(self) -> Reading:
        """Return what it does now."""
        percent = number(text(self._files / "gpu_busy_percent"))
        return Reading(
            used_bytes=number(text(self._files / "mem_info_vram_used")),
            busy=None if percent is None else percent / 100,
        )
