"""A machine's fingerprint: what is read, and what changes its hash."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from xinfer.facts import Hardware
from xinfer.machine import fingerprint, hardware
from xinfer.machine.devices import Device
from xinfer.machine.fingerprint import Fingerprint, identity, take

if TYPE_CHECKING:
    from pathlib import Path

CPU = "sys/devices/system/cpu"
HERE = Hardware(
    profile="auto", os="linux", os_version="6.1.0", arch="x86_64", cpu="Xeon", cores=4, memory_gib=31.3, isa=("avx2",),
    gpus=0,
)  # fmt: skip


def plant(root: Path, files: dict[str, str]) -> Path:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content, encoding="utf-8")
    return root


def cache(cpu: int, index: int, level: int, size: str, shared: str, kind: str = "Unified") -> dict[str, str]:
    place = f"{CPU}/cpu{cpu}/cache/index{index}"
    return {f"{place}/level": str(level), f"{place}/size": size, f"{place}/shared_cpu_list": shared,
            f"{place}/type": kind}  # fmt: skip


FILES = {
    f"{CPU}/cpu0/cpufreq/cpuinfo_max_freq": "3700000\n",
    f"{CPU}/cpu0/cpufreq/scaling_governor": "performance\n",
    f"{CPU}/cpu0/topology/thread_siblings_list": "0,4-5\n",
    f"{CPU}/cpu0/topology/physical_package_id": "0\n",
    f"{CPU}/cpu1/topology/physical_package_id": "1\n",
    f"{CPU}/cpufreq/boost": "1\n",
    "proc/cpuinfo": "model name : Xeon\nflags : fpu hypervisor\n\n",
    "sys/class/dmi/id/product_name": "PowerEdge\n",
    "etc/os-release": 'NAME=x\nPRETTY_NAME="Debian GNU/Linux 13"\n',
    **cache(0, 0, 1, "32K", "0", "Data"),
    **cache(0, 1, 1, "64M", "0", "Instruction"),
    **cache(0, 3, 3, "32768K", "0-1"),
    **cache(1, 3, 3, "32768K", "0-1"),
    **cache(2, 3, 3, "32M", "2-3"),
}


def test_linux(tmp_path: Path) -> None:
    """Everything the kernel shows about the processor; a shared cache counts once."""
    found = take(HERE, plant(tmp_path, FILES), {})
    assert msgspec.structs.replace(found, id="", cpus=None) == Fingerprint(
        product="PowerEdge", cpu="Xeon", arch="x86_64", cores=4, threads_per_core=3, sockets=2,
        last_level_cache_bytes=2**26, isa=("avx2",), governor="performance", turbo=True, most_ghz=3.7,
        memory_gib=31.3, os="linux", os_version="Debian GNU/Linux 13", kernel="6.1.0", virtual=True,
    )  # fmt: skip
    assert (found.cpus or 0) >= 1


def test_what_is_not_shown_is_null(tmp_path: Path) -> None:
    """As in a virtual machine that hides its host's processor."""
    found = take(HERE, tmp_path, {})
    nulls = ("product", "threads_per_core", "sockets", "last_level_cache_bytes", "governor", "turbo", "most_ghz",
             "virtual", "container", "os_version")  # fmt: skip
    assert [name for name in nulls if getattr(found, name) is not None] == []


def test_macos(tmp_path: Path) -> None:
    """Its version is the system's, and what only Linux shows is not looked for."""
    mac = msgspec.structs.replace(HERE, os="darwin", os_version="26.1", cpu="Apple M3 Max")
    found = take(mac, plant(tmp_path, FILES), {})
    assert (found.os_version, found.governor, found.cpu) == ("26.1", None, "Apple M3 Max")
    assert found.kernel != "26.1"


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        pytest.param({f"{CPU}/intel_pstate/no_turbo": "1"}, False, id="intel-off"),
        pytest.param({f"{CPU}/intel_pstate/no_turbo": "0"}, True, id="intel-on"),
        pytest.param({f"{CPU}/cpufreq/boost": "0"}, False, id="amd-off"),
        pytest.param({}, None, id="not-shown"),
    ],
)
def test_turbo(tmp_path: Path, files: dict[str, str], expected: object) -> None:
    """Intel's driver says the opposite of all others."""
    assert take(HERE, plant(tmp_path, files), {}).turbo is expected


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        pytest.param({".dockerenv": ""}, "docker", id="docker"),
        pytest.param({"run/.containerenv": ""}, "podman", id="podman"),
        pytest.param({"proc/1/cgroup": "0::/kubepods.slice/x\n", ".dockerenv": ""}, "kubernetes", id="kubernetes"),
        pytest.param({"proc/1/cgroup": "4:cpu:/libpod-1\n"}, "podman", id="podman-by-its-group"),
        pytest.param({"proc/1/cgroup": "0::/init.scope\n"}, None, id="none"),
    ],
)
def test_container(tmp_path: Path, files: dict[str, str], expected: str | None) -> None:
    """It is told by the traces that each kind leaves."""
    assert take(HERE, plant(tmp_path, files), {}).container == expected


GPU = Device(vendor="nvidia", name="H100", memory_bytes=80, driver="1", core_mhz=1980)
KNOWN = Fingerprint(cpu="Xeon", cores=4, memory_gib=31.3, kernel="6.1", gpus=(GPU,))


@pytest.mark.parametrize(
    ("changes", "same"),
    [
        pytest.param({}, True, id="nothing"),
        pytest.param({"kernel": "6.2", "os_version": "14", "id": "x"}, True, id="an-update-of-the-system"),
        pytest.param({"memory_gib": 31.4}, True, id="a-kernel-that-keeps-less"),
        pytest.param({"gpus": (msgspec.structs.replace(GPU, driver="2"),)}, True, id="an-update-of-the-driver"),
        pytest.param({"memory_gib": 15.7}, False, id="half-the-memory"),
        pytest.param({"cores": 3}, False, id="a-core-less"),
        pytest.param({"governor": "powersave"}, False, id="another-governor"),
        pytest.param({"gpus": (GPU, GPU)}, False, id="another-gpu"),
        pytest.param({"gpus": (msgspec.structs.replace(GPU, power_limit_w=300.0),)}, False, id="a-lower-power-limit"),
        pytest.param({"cpu": None}, False, id="not-known"),
    ],
)
def test_the_hash(changes: dict[str, Any], same: bool) -> None:  # noqa: FBT001 -- a column of the table
    """It changes with what decides speed, and not with what an update changes."""
    other = identity(msgspec.structs.replace(KNOWN, **changes))
    assert (other == identity(KNOWN)) is same
    assert len(other) == 12


def test_this_machine_has_one() -> None:
    """The same each time."""
    here = hardware.detect()
    assert take(here) == take(here)
    assert take(here).id == identity(take(here))
    assert fingerprint.take(here).cores == here.cores
