from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from xinfer.facts import Gpu
from xinfer.machine import accelerators

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

A100, T4 = "NVIDIA A100-SXM4-80GB", "Tesla T4"
IDS = ("GPU-8932f937-d72c-4106-c12f-20bd9faed9f6", "GPU-89aa0000-0000-4000-8000-000000000000")
BOTH = Gpu(vendor="nvidia", name=f"{A100}, {T4}", memory_gib=15.0, compute_capability="7.5", driver="580.65.06")
FIRST = Gpu(vendor="nvidia", name=A100, memory_gib=80.0, compute_capability="8.0", driver="580.65.06")
SECOND = Gpu(vendor="nvidia", name=T4, memory_gib=15.0, compute_capability="7.5", driver="580.65.06")
NONE: tuple[int | None, Gpu] = (0, Gpu())
UNKNOWN: tuple[int | None, Gpu] = (None, Gpu())
KFD = "sys/class/kfd/kfd/topology/nodes"


class NvmlError(Exception):
    pass


class Nvml(ModuleType):
    """Stands in for pynvml: an A100 and a T4, any of whose answers can be made to fail."""

    NVMLError = NvmlError

    def __init__(self, failing: Sequence[str] = ()) -> None:
        super().__init__("pynvml")
        self.failing = failing
        self.open = 0

    def __getattr__(self, question: str) -> Any:
        if question in self.failing:
            raise NvmlError(question)
        return getattr(self, f"_{question}")

    def _nvmlInit(self) -> None:  # noqa: N802 -- NVML's names
        self.open += 1

    def _nvmlShutdown(self) -> None:  # noqa: N802
        self.open -= 1

    def _nvmlSystemGetDriverVersion(self) -> str:  # noqa: N802
        return "580.65.06"

    def _nvmlDeviceGetCount(self) -> int:  # noqa: N802
        return 2

    def _nvmlDeviceGetHandleByIndex(self, index: int) -> int:  # noqa: N802
        return index

    def _nvmlDeviceGetUUID(self, handle: int) -> str:  # noqa: N802
        return IDS[handle]

    def _nvmlDeviceGetName(self, handle: int) -> str:  # noqa: N802
        return (A100, T4)[handle]

    def _nvmlDeviceGetMemoryInfo(self, handle: int) -> SimpleNamespace:  # noqa: N802
        return SimpleNamespace(total=(81920, 15360)[handle] * 2**20)

    def _nvmlDeviceGetCudaComputeCapability(self, handle: int) -> tuple[int, int]:  # noqa: N802
        return ((8, 0), (7, 5))[handle]


def plant(root: Path, files: Mapping[str, str]) -> Path:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content, encoding="utf-8")
    return root


@pytest.mark.parametrize(
    ("mask", "expected"),
    [
        pytest.param(None, (2, BOTH), id="unset-shows-all-and-the-weakest-of-each-fact"),
        pytest.param("", NONE, id="empty-hides-all"),
        pytest.param("-1", NONE, id="minus-one-hides-all"),
        pytest.param("NoDevFiles", NONE, id="a-word-hides-all"),
        pytest.param("0", (1, FIRST), id="one-index"),
        pytest.param("1", (1, SECOND), id="the-other-index"),
        pytest.param(" 0 , 1 ", (2, BOTH), id="blanks-do-not-count"),
        pytest.param("0,-1,1", (1, FIRST), id="what-follows-minus-one-is-hidden"),
        pytest.param("1,7,0", (1, SECOND), id="what-follows-a-wrong-index-is-hidden"),
        pytest.param("0,0,1", (1, FIRST), id="what-follows-a-repeated-index-is-hidden"),
        pytest.param(IDS[1], (1, SECOND), id="a-whole-uuid"),
        pytest.param("GPU-8932F9", (1, FIRST), id="the-start-of-a-uuid-in-any-case"),
        pytest.param("GPU-89", NONE, id="the-start-of-two-uuids"),
        pytest.param("GPU-00", NONE, id="the-start-of-no-uuid"),
        pytest.param("MIG-8932f937-d72c-4106-c12f-20bd9faed9f6", UNKNOWN, id="a-slice-is-not-read"),
    ],
)
def test_cuda_visible_devices(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mask: str | None, expected: tuple[int | None, Gpu]
) -> None:
    """The mask leaves what CUDA would enumerate."""
    nvml = Nvml()
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    root = plant(tmp_path, {"dev/nvidiactl": ""})
    environ = {} if mask is None else {"CUDA_VISIBLE_DEVICES": mask}
    assert accelerators.find(root, environ) == expected
    assert nvml.open == 0


@pytest.mark.parametrize(
    ("failing", "expected"),
    [
        pytest.param(["nvmlInit"], UNKNOWN, id="no-start"),
        pytest.param(["nvmlDeviceGetCount"], UNKNOWN, id="no-count"),
        pytest.param(["nvmlDeviceGetHandleByIndex"], UNKNOWN, id="a-device-that-is-lost"),
        pytest.param(["nvmlShutdown"], UNKNOWN, id="no-end"),
        pytest.param(
            ["nvmlDeviceGetMemoryInfo", "nvmlDeviceGetUUID", "nvmlSystemGetDriverVersion"],
            (2, Gpu(vendor="nvidia", name=f"{A100}, {T4}", compute_capability="7.5")),
            id="memory-shared-with-the-cpu",
        ),
        pytest.param(
            ["nvmlDeviceGetName", "nvmlDeviceGetCudaComputeCapability"],
            (2, Gpu(vendor="nvidia", memory_gib=15.0, driver="580.65.06")),
            id="no-name-and-no-capability",
        ),
    ],
)
def test_failing_nvml(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: list[str], expected: tuple[int | None, Gpu]
) -> None:
    """With a driver there, no answer is not the answer none; a single fact that fails is null alone."""
    monkeypatch.setitem(sys.modules, "pynvml", Nvml(failing))
    assert accelerators.find(plant(tmp_path, {"proc/driver/nvidia/version": ""}), {}) == expected


@pytest.mark.parametrize(
    ("files", "pynvml", "expected"),
    [
        pytest.param({}, None, NONE, id="neither-driver-nor-module"),
        pytest.param({}, Nvml(), NONE, id="without-a-driver-nvml-is-not-asked"),
        pytest.param({"dev/nvidia0": ""}, None, UNKNOWN, id="a-driver-and-no-module"),
        pytest.param({"dev/dxg": ""}, None, NONE, id="wsl-without-nvidia-s-module"),
        pytest.param({"dev/dxg": ""}, Nvml(["nvmlInit"]), NONE, id="wsl-without-nvidia-s-driver"),
        pytest.param({"dev/dxg": ""}, Nvml(), (2, BOTH), id="wsl-with-nvidia-s-driver"),
    ],
)
def test_presence_of_nvidia(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    files: dict[str, str],
    pynvml: Nvml | None,
    expected: tuple[int | None, Gpu],
) -> None:
    """NVML is asked where there is a trace of a driver, and only there."""
    monkeypatch.setitem(sys.modules, "pynvml", pynvml)
    assert accelerators.nvidia(plant(tmp_path, files), {}) == expected


def test_nvml_is_not_imported_for_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its module takes longer to import than everything else takes to read."""
    monkeypatch.delitem(sys.modules, "pynvml", raising=False)
    accelerators.find(tmp_path, {})
    accelerators.find(plant(tmp_path, {"dev/nvidia0": ""}), {"CUDA_VISIBLE_DEVICES": ""})
    assert "pynvml" not in sys.modules


def node(target: int, simds: int, *banks: tuple[int, int], unique_id: int = 0) -> dict[str, str]:
    """Write a compute node as the kernel shows it: its properties, and (heap type, GiB) of each memory bank."""
    shown = {
        "properties": f"cpu_cores_count {0 if simds else 64}\nsimd_count {simds}\n"
        f"gfx_target_version {target}\nunique_id {unique_id}\n",
    }
    for index, (heap, size_gib) in enumerate(banks):
        bank = f"heap_type {heap}\nsize_in_bytes {size_gib * 2**30}\nflags 0\nwidth 4096\n"
        shown[f"mem_banks/{index}/properties"] = bank
    return shown


def topology(*nodes: dict[str, str]) -> dict[str, str]:
    files = {f"{KFD}/{index}/{name}": text for index, one in enumerate(nodes) for name, text in one.items()}
    return {"dev/kfd": "", **files}


CPU = node(0, 0, (0, 512))
MI300X = node(90402, 1216, (1, 192), unique_id=0x1F2E3D4C5B6A7988)
MI210 = node(90010, 416, (2, 40), (1, 24), (5, 1), unique_id=0xABCDEF0123456789)
RX7900 = node(110000, 192)
HIDDEN = {"properties": ""}


@pytest.mark.parametrize(
    ("files", "environ", "expected"),
    [
        pytest.param({}, {}, NONE, id="no-driver"),
        pytest.param({"dev/kfd": ""}, {}, UNKNOWN, id="a-driver-without-its-table"),
        pytest.param(topology(CPU), {}, NONE, id="processors-alone"),
        pytest.param(topology(CPU, HIDDEN), {}, NONE, id="a-device-this-process-may-not-use"),
        pytest.param(
            topology(CPU, MI300X) | {"sys/module/amdgpu/version": "6.16.6\n"},
            {},
            (1, Gpu(vendor="amd", name="gfx942", memory_gib=192.0, driver="6.16.6")),
            id="one-device",
        ),
        pytest.param(
            topology(CPU, MI300X, MI210),
            {},
            (2, Gpu(vendor="amd", name="gfx942, gfx90a", memory_gib=64.0)),
            id="two-that-differ",
        ),
        pytest.param(topology(RX7900), {}, (1, Gpu(vendor="amd", name="gfx1100")), id="memory-not-told"),
        pytest.param(
            topology(CPU, MI300X, MI210),
            {"ROCR_VISIBLE_DEVICES": "GPU-abcdef0123456789"},
            (1, Gpu(vendor="amd", name="gfx90a", memory_gib=64.0)),
            id="one-by-its-id",
        ),
        pytest.param(
            topology(MI300X, MI210, RX7900),
            {"ROCR_VISIBLE_DEVICES": "1,2", "HIP_VISIBLE_DEVICES": "1"},
            (1, Gpu(vendor="amd", name="gfx1100")),
            id="the-second-mask-counts-in-the-first",
        ),
        pytest.param(
            topology(*[CPU] * 2, *[MI300X] * 9, MI210),
            {"HIP_VISIBLE_DEVICES": "9"},
            (1, Gpu(vendor="amd", name="gfx90a", memory_gib=64.0)),
            id="node-11-comes-after-node-2",
        ),
    ],
)
def test_rocm(tmp_path: Path, files: dict[str, str], environ: dict[str, str], expected: tuple[int | None, Gpu]) -> None:
    """The kernel's table gives the devices, their targets and their own memory."""
    assert accelerators.rocm(plant(tmp_path, files), environ) == expected


@pytest.mark.parametrize(
    ("version", "name"),
    [
        pytest.param("90402", "gfx942", id="mi300"),
        pytest.param("90010", "gfx90a", id="stepping-in-hex"),
        pytest.param("100302", "gfx1032", id="two-digit-major"),
        pytest.param("110000", "gfx1100", id="zero-stepping"),
        pytest.param("120001", "gfx1201", id="rdna-4"),
        pytest.param("0", None, id="a-processor"),
        pytest.param(None, None, id="an-old-kernel"),
    ],
)
def test_gfx(version: str | None, name: str | None) -> None:
    """A target's number reads as LLVM names it."""
    assert accelerators.gfx(version) == name


@pytest.mark.parametrize(
    ("failing", "rocm", "expected"),
    [
        pytest.param([], True, (2, BOTH), id="nvidia-first"),
        pytest.param(
            ["nvmlInit"], True, (1, Gpu(vendor="amd", name="gfx942", memory_gib=192.0)), id="amd-where-nvidia-is-silent"
        ),
        pytest.param(["nvmlInit"], False, UNKNOWN, id="silence-is-not-none"),
    ],
)
def test_two_vendors(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    failing: list[str],
    rocm: bool,  # noqa: FBT001 -- a column of the table
    expected: tuple[int | None, Gpu],
) -> None:
    """A machine is described by the accelerators of one vendor."""
    monkeypatch.setitem(sys.modules, "pynvml", Nvml(failing))
    root = plant(tmp_path, {"dev/nvidia0": "", **(topology(CPU, MI300X) if rocm else {})})
    assert accelerators.find(root, {}) == expected


def test_weakest_compares_versions_not_text() -> None:
    """Capability 10.0 is above 9.0."""
    gpus = [Gpu(vendor="nvidia", name="a", compute_capability=text) for text in ("10.0", "9.0", "12.1")]
    assert accelerators.weakest(gpus) == Gpu(vendor="nvidia", name="a", compute_capability="9.0")


def test_weakest_is_unknown_where_one_is() -> None:
    """The least of known and unknown is not known."""
    gpus = [Gpu(vendor="nvidia", memory_gib=80.0, compute_capability="9.0"), Gpu(vendor="nvidia")]
    assert accelerators.weakest(gpus) == Gpu(vendor="nvidia")
