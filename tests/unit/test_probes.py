from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import pytest

from xinfer.facts import Gpu, Hardware
from xinfer.machine import probes

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

V2 = "30 23 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate"
V1 = (
    "31 23 0:27 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755\n"
    "32 31 0:28 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n"
    "33 31 0:29 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
    "34 31 0:30 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd"
)
DOCKER_V1 = (
    "32 31 0:28 /docker/4f1 /sys/fs/cgroup/cpu,cpuacct ro - cgroup cgroup rw,cpu,cpuacct\n"
    "33 31 0:29 /docker/4f1 /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory"
)
MEMINFO = "MemTotal:       24684084 kB\nMemFree:        24524516 kB\n"
EPYC = (
    "processor\t: 0\nvendor_id\t: AuthenticAMD\nmodel name\t: AMD EPYC\n"
    "flags\t\t: fpu sse sse4_1 sse4_2 fma avx f16c avx2 avx512f avx512bw avx512vl avx512_bf16 avx512_vnni fsrm\n\n"
    "processor\t: 1\nmodel name\t: another\n"
)
GRAVITON = (
    "processor\t: 0\nBogoMIPS\t: 2100.00\n"
    "Features\t: fp asimd evtstrm aes crc32 atomics asimdhp asimddp sve asimdfhm svei8mm svebf16 i8mm bf16 dgh rng\n"
    "CPU implementer\t: 0x41\nCPU part\t: 0xd40\n"
)
M3_MAX = (
    "kern.osproductversion: 14.5\nmachdep.cpu.brand_string: Apple M3 Max\nhw.memsize: 68719476736\n"
    "hw.optional.arm64: 1\nhw.optional.arm.FEAT_DotProd: 1\nhw.optional.arm.FEAT_I8MM: 1\n"
    "hw.optional.arm.FEAT_BF16: 1\n"
)
M1_UNDER_ROSETTA = (
    "kern.osproductversion: 13.6\nmachdep.cpu.brand_string: Apple M1\n"
    "machdep.cpu.features: FPU SSE4.1 SSE4.2\nhw.memsize: 17179869184\nhw.optional.arm64: 1\n"
    "hw.optional.arm.FEAT_DotProd: 1\nhw.optional.arm.FEAT_I8MM: 0\nhw.optional.arm.FEAT_BF16: 0\n"
)
INTEL_MAC = (
    "kern.osproductversion: 12.7\nmachdep.cpu.brand_string: Intel(R) Core(TM) i7-8850H CPU @ 2.60GHz\n"
    "machdep.cpu.features: FPU SSE4.1 SSE4.2 FMA F16C AVX1.0\nmachdep.cpu.leaf7_features: SMEP BMI1 AVX2\n"
    "hw.memsize: 34359738368\n"
)


def plant(root: Path, files: Mapping[str, str]) -> Path:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content, encoding="utf-8")
    return root


def mounted(cgroup: str, mountinfo: str) -> dict[str, str]:
    return {"proc/self/cgroup": cgroup, "proc/self/mountinfo": f"{mountinfo}\n", "proc/meminfo": MEMINFO}


@pytest.mark.parametrize(
    ("files", "cores", "memory_gib"),
    [
        pytest.param({}, 8, None, id="nothing-readable-leaves-the-affinity"),
        pytest.param({"proc/meminfo": MEMINFO}, 8, 23.54, id="without-cgroups-the-machine-counts"),
        pytest.param(
            {
                **mounted("0::/\n", V2),
                "sys/fs/cgroup/cpu.max": "400000 100000\n",
                "sys/fs/cgroup/memory.max": "4294967296\n",
            },
            4,
            4.0,
            id="v2-in-a-namespace",
        ),
        pytest.param(
            {
                **mounted("0::/a/b\n", V2),
                "sys/fs/cgroup/a/b/cpu.max": "max 100000\n",
                "sys/fs/cgroup/a/b/memory.max": "max\n",
                "sys/fs/cgroup/a/cpu.max": "300000 100000\n",
                "sys/fs/cgroup/a/memory.max": "2147483648\n",
            },
            3,
            2.0,
            id="v2-a-parent-limits-its-children",
        ),
        pytest.param(
            {
                **mounted("0::/a/b\n", V2),
                "sys/fs/cgroup/a/b/cpu.max": "200000 100000\n",
                "sys/fs/cgroup/a/b/memory.max": "1073741824\n",
                "sys/fs/cgroup/a/cpu.max": "300000 100000\n",
                "sys/fs/cgroup/a/memory.max": "2147483648\n",
                "sys/fs/cgroup/c/cpu.max": "100000 100000\n",
                "sys/fs/cgroup/c/memory.max": "1048576\n",
            },
            2,
            1.0,
            id="v2-the-smallest-wins-and-siblings-do-not-count",
        ),
        pytest.param(
            {**mounted("0::/\n", V2), "sys/fs/cgroup/cpu.max": "150000 100000\n"}, 1, 23.54, id="1.5-cores-are-one"
        ),
        pytest.param(
            {**mounted("0::/\n", V2), "sys/fs/cgroup/cpu.max": "50000 100000\n"}, 1, 23.54, id="half-a-core-is-one"
        ),
        pytest.param(
            {**mounted("0::/\n", V2), "sys/fs/cgroup/cpu.max": "6400000 100000\n"}, 8, 23.54, id="the-affinity-wins"
        ),
        pytest.param(
            {**mounted("0::/\n", V2), "sys/fs/cgroup/memory.max": "68719476736\n"}, 8, 23.54, id="the-machine-wins"
        ),
        pytest.param(
            {
                **mounted("5:memory:/pod/one\n4:cpu,cpuacct:/pod\n1:name=systemd:/x\n0::/x\n", V1),
                "sys/fs/cgroup/cpu,cpuacct/pod/cpu.cfs_quota_us": "250000\n",
                "sys/fs/cgroup/cpu,cpuacct/pod/cpu.cfs_period_us": "100000\n",
                "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "-1\n",
                "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000\n",
                "sys/fs/cgroup/memory/pod/one/memory.limit_in_bytes": "9223372036854771712\n",
                "sys/fs/cgroup/memory/pod/memory.limit_in_bytes": "8589934592\n",
            },
            2,
            8.0,
            id="v1-each-controller-has-its-own-group",
        ),
        pytest.param(
            {
                **mounted("5:memory:/docker/4f1/in\n4:cpu,cpuacct:/docker/4f1/in\n", DOCKER_V1),
                "sys/fs/cgroup/cpu,cpuacct/in/cpu.cfs_quota_us": "100000\n",
                "sys/fs/cgroup/cpu,cpuacct/in/cpu.cfs_period_us": "100000\n",
                "sys/fs/cgroup/memory/memory.limit_in_bytes": "3221225472\n",
            },
            1,
            3.0,
            id="v1-a-container-sees-its-own-group-as-the-top",
        ),
        pytest.param(
            {
                **mounted("0::/\n", V2.replace(" / /sys", " /../.. /sys")),
                "sys/fs/cgroup/memory.max": "1073741824\n",
            },
            8,
            1.0,
            id="a-mount-from-outside-the-namespace-limits-with-its-top",
        ),
        pytest.param(
            {
                "proc/self/cgroup": "5:memory:/\n",
                "proc/self/mountinfo": V1,
                "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
            },
            8,
            None,
            id="an-absurd-limit-alone-is-no-amount",
        ),
    ],
)
def test_cores_and_memory(tmp_path: Path, files: dict[str, str], cores: int, memory_gib: float | None) -> None:
    """Cores and memory are the least of what the machine, the affinity and every cgroup above allow."""
    found = probes.linux(plant(tmp_path, files), arch="x86_64", allowed=8)
    assert (found.cores, found.memory_gib) == (cores, memory_gib)


def test_cores_are_unknown_where_nothing_tells_them() -> None:
    assert probes.cores([], None) is None


def test_linux_on_x86(tmp_path: Path) -> None:
    """A recorded server gives every fact but those of its accelerators."""
    root = plant(
        tmp_path,
        {"proc/cpuinfo": EPYC, "proc/meminfo": MEMINFO, "proc/sys/kernel/osrelease": "6.18.44-fc-v669\n"},
    )
    assert probes.linux(root, arch="x86_64", allowed=2) == Hardware(
        profile="auto",
        os="linux",
        os_version="6.18.44-fc-v669",
        arch="x86_64",
        cpu="AMD EPYC",
        cores=2,
        memory_gib=23.54,
        isa=(
            *("sse4_2", "avx", "avx2", "fma", "f16c"),
            *("avx512f", "avx512bw", "avx512vl", "avx512_vnni", "avx512_bf16"),
        ),
        apple_silicon=False,
    )


@pytest.mark.parametrize(
    ("files", "cpu"),
    [
        pytest.param({}, None, id="a-server-without-a-name"),
        pytest.param(
            {"proc/device-tree/model": "Raspberry Pi 5 Model B Rev 1.0\0"},
            "Raspberry Pi 5 Model B Rev 1.0",
            id="a-board-with-one",
        ),
    ],
)
def test_linux_on_arm(tmp_path: Path, files: dict[str, str], cpu: str | None) -> None:
    """ARM's flags get the names that macOS uses too; the processor's name is the board's, or not known."""
    found = probes.linux(plant(tmp_path, {"proc/cpuinfo": GRAVITON, **files}), arch="aarch64", allowed=1)
    assert (found.cpu, found.isa) == (cpu, ("neon", "dotprod", "i8mm", "sve", "bf16"))


def test_linux_without_proc(tmp_path: Path) -> None:
    """Where nothing can be read, nothing is raised and every fact that was not given is null."""
    assert probes.linux(tmp_path, arch=None, allowed=None) == Hardware(profile="auto", os="linux", apple_silicon=False)


@pytest.mark.parametrize(
    ("output", "arch", "expected"),
    [
        pytest.param(
            M3_MAX,
            "arm64",
            Hardware(
                profile="auto",
                os="darwin",
                os_version="14.5",
                arch="arm64",
                cpu="Apple M3 Max",
                cores=16,
                memory_gib=64.0,
                isa=("neon", "dotprod", "i8mm", "bf16"),
                apple_silicon=True,
                gpus=1,
                gpu=Gpu(vendor="apple", name="Apple M3 Max"),
            ),
            id="apple-silicon",
        ),
        pytest.param(
            M1_UNDER_ROSETTA,
            "x86_64",
            Hardware(
                profile="auto",
                os="darwin",
                os_version="13.6",
                arch="x86_64",
                cpu="Apple M1",
                cores=16,
                memory_gib=16.0,
                isa=("neon", "dotprod"),
                apple_silicon=True,
                gpus=1,
                gpu=Gpu(vendor="apple", name="Apple M1"),
            ),
            id="apple-silicon-under-rosetta",
        ),
        pytest.param(
            INTEL_MAC,
            "x86_64",
            Hardware(
                profile="auto",
                os="darwin",
                os_version="12.7",
                arch="x86_64",
                cpu="Intel(R) Core(TM) i7-8850H CPU @ 2.60GHz",
                cores=16,
                memory_gib=32.0,
                isa=("sse4_2", "avx", "avx2", "fma", "f16c"),
                apple_silicon=False,
            ),
            id="an-intel-mac-may-have-a-gpu",
        ),
        pytest.param(
            "",
            "arm64",
            Hardware(
                profile="auto",
                os="darwin",
                arch="arm64",
                cores=16,
                apple_silicon=True,
                gpus=1,
                gpu=Gpu(vendor="apple"),
            ),
            id="sysctl-failed",
        ),
    ],
)
def test_macos(output: str, arch: str, expected: Hardware) -> None:
    """One sysctl's output is all of a Mac."""
    assert probes.macos(output, arch=arch, allowed=16) == expected


@pytest.mark.parametrize(
    ("argv", "output"),
    [
        pytest.param((sys.executable, "-c", "print('hw.memsize: 1')"), "hw.memsize: 1\n", id="prints"),
        pytest.param(
            (sys.executable, "-c", "print('hw.memsize: 1'); raise SystemExit(1)"), "hw.memsize: 1\n", id="misses-a-name"
        ),
        pytest.param(("/nowhere/sysctl",), "", id="is-not-there"),
    ],
)
def test_sysctl(argv: tuple[str, ...], output: str) -> None:
    """What sysctl printed counts, also where it did not know every name."""
    assert probes.sysctl(argv) == output


def test_sysctl_asks_for_all_that_is_read() -> None:
    """Each name is one argument and there is no shell."""
    assert probes.SYSCTL == (
        "/usr/sbin/sysctl",
        "kern.osproductversion",
        "machdep.cpu.brand_string",
        "machdep.cpu.features",
        "machdep.cpu.leaf7_features",
        "hw.memsize",
        "hw.optional.arm64",
        "hw.optional.arm.FEAT_DotProd",
        "hw.optional.arm.FEAT_I8MM",
        "hw.optional.arm.FEAT_BF16",
    )


def test_allowed_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    """The affinity counts where a system has one, the processors elsewhere."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3, 5, 7}, raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 12)
    assert probes.allowed_cores() == 3
    monkeypatch.delattr(os, "sched_getaffinity")
    assert probes.allowed_cores() == 12


@pytest.mark.parametrize(
    ("digits", "value"),
    [
        pytest.param("42", 42, id="digits"),
        pytest.param("0", 0, id="zero"),
        pytest.param("max", None, id="no-limit-in-v2"),
        pytest.param("-1", None, id="no-limit-in-v1"),
        pytest.param("", None, id="an-unreadable-file"),
        pytest.param(None, None, id="a-missing-name"),
    ],
)
def test_number(digits: str | None, value: int | None) -> None:
    """Only digits are a number."""
    assert probes.number(digits) == value


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("nr_free_pages 7\noom_kill 3\nunevictable_pgs_culled 0\n", 3, id="as-the-kernel-says"),
        pytest.param("nr_free_pages 7\n", None, id="an-older-kernel"),
        pytest.param(None, None, id="no-such-file"),
    ],
)
def test_how_many_processes_were_ended_for_want_of_memory(
    tmp_path: Path, text: str | None, expected: int | None
) -> None:
    """Null where nobody counts."""
    (tmp_path / "proc").mkdir()
    if text is not None:
        (tmp_path / "proc/vmstat").write_text(text)
    assert probes.oom_kills(tmp_path) == expected
