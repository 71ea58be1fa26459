"""What the machine counts, read from planted trees as kernels write them, and from this machine."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from xinfer.machine.counters import Counters, Energy, read

if TYPE_CHECKING:
    from collections.abc import Mapping

TICK = os.sysconf("SC_CLK_TCK")
STAT = f"""cpu  {30 * TICK} {2 * TICK} {8 * TICK} 900 50 7 9 {4 * TICK} 0 0
cpu0 1 1 1 1 1 1 1 1 0 0
cpu1 1 1 1 1 1 1 1 1 0 0
intr 5 0 0
ctxt 12
"""
CPU = "sys/devices/system/cpu"
RAPL = "sys/class/powercap"


def plant(root: Path, files: Mapping[str, str]) -> Path:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content, encoding="utf-8")
    return root


def group(content: str, kind: str) -> dict[str, str]:
    mount = "cgroup2 cgroup2 rw" if kind == "v2" else "cgroup cgroup rw,cpu,cpuacct"
    return {
        "proc/self/cgroup": "0::/a/b\n" if kind == "v2" else "4:cpu,cpuacct:/a/b\n",
        "proc/self/mountinfo": f"30 20 0:26 / /sys/fs/cgroup rw - {mount}\n",
        "sys/fs/cgroup/a/b/cpu.stat": content,
        "sys/fs/cgroup/a/cpu.stat": "nr_throttled 0\nthrottled_usec 0\n" if kind == "v2" else "throttled_time 0\n",
    }


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        pytest.param({}, Counters(), id="nothing-is-told"),
        pytest.param({"proc/stat": STAT}, Counters(cpus=2, busy_s=40.0, stolen_s=4.0), id="work-and-theft"),
        pytest.param({"proc/stat": "cpu  1 2 3\ncpu0 1 2 3\n"}, Counters(), id="a-kernel-that-counts-no-theft"),
        pytest.param(
            {
                f"{CPU}/cpu0/thermal_throttle/core_throttle_count": "3\n",
                f"{CPU}/cpu1/thermal_throttle/core_throttle_count": "4\n",
            },
            Counters(throttles=7),
            id="heat-is-added-up",
        ),
        pytest.param(
            {f"{CPU}/cpu0/cpufreq/scaling_cur_freq": "2000000\n", f"{CPU}/cpu2/cpufreq/scaling_cur_freq": "3000000\n"},
            Counters(frequency_ghz=2.5),
            id="frequencies-of-our-cpus-alone",
        ),
        pytest.param(group("nr_throttled 3\nthrottled_usec 2500000\n", "v2"), Counters(held_s=2.5), id="a-quota"),
        pytest.param(group("nr_throttled 3\nthrottled_time 1500000000\n", "v1"), Counters(held_s=1.5), id="an-old-one"),
        pytest.param(group("usage_usec 5\n", "v2"), Counters(held_s=0.0), id="a-group-without-a-quota"),
    ],
)
def test_counters(tmp_path: Path, files: dict[str, str], expected: Counters) -> None:
    """Each is read where the kernel has it, and null where it has none."""
    plant(tmp_path, {**files, f"{CPU}/cpu1/cpufreq/scaling_cur_freq": ""})
    assert read(tmp_path, {0, 1, 2}) == expected


def test_this_machine_has_worked() -> None:
    """Its counters grow while it works; Linux alone tells."""
    before = read(Path("/"))
    sum(range(3 * 10**6))
    after = read(Path("/"))
    told = [found.busy_s for found in (before, after) if found.busy_s is not None]
    assert len(told) == (2 if sys.platform == "linux" else 0)
    assert told == sorted(set(told))


def zones(package: int, memory: int | None = None, most: int = 1000) -> dict[str, str]:
    found = {"intel-rapl:0/name": "package-0\n", "intel-rapl:0/energy_uj": f"{package}\n"}
    found |= {"intel-rapl:0/max_energy_range_uj": f"{most}\n"}
    found |= {"intel-rapl:0:0/name": "core\n", "intel-rapl:0:0/energy_uj": "77\n"}
    found |= {"intel-rapl:1/name": "psys\n", "intel-rapl:1/energy_uj": "99999\n"}
    if memory is not None:
        found |= {"intel-rapl:0:1/name": "dram\n", "intel-rapl:0:1/energy_uj": f"{memory}\n"}
        found |= {"intel-rapl:0:1/max_energy_range_uj": f"{most}\n"}
    return {f"{RAPL}/{name}": text for name, text in found.items()}


def test_energy_is_of_packages_and_their_memory(tmp_path: Path) -> None:
    """What is counted within or around them counts once."""
    meter = Energy(plant(tmp_path, zones(100, 10)))
    assert meter.joules() == 0.0
    plant(tmp_path, zones(400, 60))
    assert meter.joules() == pytest.approx(350e-6)
    assert meter.joules() == pytest.approx(350e-6)


def test_a_counter_runs_over(tmp_path: Path) -> None:
    """Every few minutes it begins anew; nothing is lost of it."""
    meter = Energy(plant(tmp_path, zones(900)))
    for reading in (100, 700, 50):
        plant(tmp_path, zones(reading))
        found = meter.joules()
    assert found == pytest.approx((200 + 600 + 350) * 1e-6)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param({}, {}, id="no-counters"),
        pytest.param(zones(5), {f"{RAPL}/intel-rapl:0/energy_uj": ""}, id="not-to-be-read-any-more"),
        pytest.param({**zones(5), f"{RAPL}/intel-rapl:0/energy_uj": ""}, zones(6), id="not-to-be-read-at-first"),
        pytest.param(
            {**zones(5), f"{RAPL}/intel-rapl:0/max_energy_range_uj": ""},
            {f"{RAPL}/intel-rapl:0/energy_uj": "4"},
            id="over-and-nobody-knows-where",
        ),
    ],
)
def test_energy_is_not_known(tmp_path: Path, before: dict[str, str], after: dict[str, str]) -> None:
    """Where any part cannot be read, as without root, there is no sum."""
    meter = Energy(plant(tmp_path, before))
    plant(tmp_path, after)
    assert meter.joules() is None
