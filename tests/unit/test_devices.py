"""Accelerators at work: NVML and the amdgpu driver's files, played by stand-ins."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from xinfer.machine.devices import Device, Reading, opened

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

NODE = "sys/class/kfd/kfd/topology/nodes"
DRM = "sys/class/drm"


class NvmlError(Exception):
    pass


class Nvml(ModuleType):
    """Stands in for pynvml: two devices, of which any question may fail."""

    NVMLError = NvmlError
    NVML_CLOCK_SM, NVML_CLOCK_MEM = 1, 2

    def __init__(self, failing: Sequence[str] = (), reasons: int = 0) -> None:
        super().__init__("pynvml")
        self.failing, self.reasons, self.open = failing, reasons, 0

    def __getattr__(self, question: str) -> Any:
        if question in self.failing:
            raise NvmlError(question)
        answers: dict[str, Any] = {
            "nvmlInit": lambda: self._count(1),
            "nvmlShutdown": lambda: self._count(-1),
            "nvmlSystemGetDriverVersion": lambda: "580.65",
            "nvmlDeviceGetCount": lambda: 2,
            "nvmlDeviceGetHandleByIndex": lambda index: index,
            "nvmlDeviceGetUUID": lambda handle: f"GPU-{handle}",
            "nvmlDeviceGetName": lambda handle: f"card {handle}",
            "nvmlDeviceGetCudaComputeCapability": lambda _: (9, 0),
            "nvmlDeviceGetMemoryInfo": lambda handle: SimpleNamespace(total=1000, used=100 + handle),
            "nvmlDeviceGetEnforcedPowerLimit": lambda _: 700_000,
            "nvmlDeviceGetMaxClockInfo": lambda _, kind: (1980, 2619)[kind - 1],
            "nvmlDeviceGetClockInfo": lambda _, __: 1755,
            "nvmlDeviceGetUtilizationRates": lambda handle: SimpleNamespace(gpu=50 + handle),
            "nvmlDeviceGetTotalEnergyConsumption": lambda handle: 5000 + handle,
            "nvmlDeviceGetCurrentClocksThrottleReasons": lambda _: self.reasons,
        }
        return answers[question]

    def _count(self, by: int) -> None:
        self.open += by


def plant(root: Path, files: dict[str, str]) -> Path:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content, encoding="utf-8")
    return root


@pytest.fixture
def nvidia(tmp_path: Path) -> Path:
    return plant(tmp_path, {"dev/nvidia0": ""})


def test_nvidia(nvidia: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each device says what it is and what it does; NVML is left as it was found."""
    nvml = Nvml()
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    with opened(nvidia, {}) as cards:
        assert nvml.open == 1
        facts, readings = [card.facts() for card in cards], [card.read() for card in cards]
    assert nvml.open == 0
    assert facts[1] == Device(
        vendor="nvidia", name="card 1", memory_bytes=1000, driver="580.65", core_mhz=1980, memory_mhz=2619,
        power_limit_w=700.0,
    )  # fmt: skip
    assert readings == [
        Reading(used_bytes=100, busy=0.5, core_mhz=1755, joules=5.0),
        Reading(used_bytes=101, busy=0.51, core_mhz=1755, joules=5.001),
    ]


def test_hidden_devices_are_not_watched(nvidia: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only those that the engine sees."""
    monkeypatch.setitem(sys.modules, "pynvml", Nvml())
    with opened(nvidia, {"CUDA_VISIBLE_DEVICES": "1"}) as cards:
        assert [card.facts().name for card in cards] == ["card 1"]


@pytest.mark.parametrize(
    ("reasons", "expected"),
    [
        pytest.param(0x1, (), id="idle"),
        pytest.param(0x4, (), id="its-power-limit-is-the-rule"),
        pytest.param(0x20, ("software thermal slowdown",), id="heat"),
        pytest.param(0x8 | 0x40 | 0x80 | 0x4, ("hardware slowdown", "hardware thermal slowdown", "power brake"),
                     id="several"),
    ],
)  # fmt: skip
def test_slowed_down(nvidia: Path, monkeypatch: pytest.MonkeyPatch, reasons: int, expected: tuple[str, ...]) -> None:
    """What NVML gives as reasons is said in words."""
    monkeypatch.setitem(sys.modules, "pynvml", Nvml(reasons=reasons))
    with opened(nvidia, {}) as cards:
        assert cards[0].read().slowed == expected


def test_what_a_device_does_not_tell_is_null(nvidia: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A board that shares its memory with the CPU, and an old one."""
    silent = [
        "nvmlDeviceGetMemoryInfo", "nvmlDeviceGetUtilizationRates", "nvmlDeviceGetTotalEnergyConsumption",
        "nvmlDeviceGetCurrentClocksThrottleReasons", "nvmlDeviceGetClockInfo", "nvmlDeviceGetEnforcedPowerLimit",
        "nvmlSystemGetDriverVersion", "nvmlDeviceGetMaxClockInfo", "nvmlDeviceGetName", "nvmlDeviceGetUUID",
    ]  # fmt: skip
    monkeypatch.setitem(sys.modules, "pynvml", Nvml(silent))
    with opened(nvidia, {}) as cards:
        assert (cards[0].facts(), cards[0].read()) == (Device(vendor="nvidia"), Reading())


@pytest.mark.parametrize("failing", ["nvmlInit", "nvmlDeviceGetCount", "nvmlShutdown"])
def test_a_broken_driver_shows_no_devices(nvidia: Path, monkeypatch: pytest.MonkeyPatch, failing: str) -> None:
    """Nothing is raised into a measurement."""
    monkeypatch.setitem(sys.modules, "pynvml", Nvml([failing]))
    with opened(nvidia, {}) as cards:
        assert list(cards) == []


def test_amd(tmp_path: Path) -> None:
    """The driver's files are found by the number of the render node; memory and work are told, energy is not."""
    root = plant(tmp_path, {
        "dev/kfd": "",
        f"{NODE}/0/properties": "simd_count 0\n",
        f"{NODE}/1/properties": "simd_count 304\ngfx_target_version 90402\ndrm_render_minor 128\n"
                                "max_engine_clk_fcompute 2100\n",
        f"{DRM}/renderD128/device/mem_info_vram_total": "2000\n",
        f"{DRM}/renderD128/device/mem_info_vram_used": "500\n",
        f"{DRM}/renderD128/device/gpu_busy_percent": "75\n",
        "sys/module/amdgpu/version": "6.16\n",
    })  # fmt: skip
    with opened(root, {}) as (card,):
        assert card.facts() == Device(vendor="amd", name="gfx942", memory_bytes=2000, driver="6.16", core_mhz=2100)
        assert card.read() == Reading(used_bytes=500, busy=0.75)
        (root / DRM / "renderD128/device/gpu_busy_percent").unlink()
        assert card.read() == Reading(used_bytes=500)


def test_a_machine_without_accelerators(tmp_path: Path) -> None:
    """There is nothing to watch, and NVML is not even imported."""
    with opened(tmp_path, {}) as cards:
        assert list(cards) == []
