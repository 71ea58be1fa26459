from __future__ import annotations

import os
import platform
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from xinfer.errors import ConfigError
from xinfer.facts import Gpu, Hardware
from xinfer.machine import accelerators, hardware, probes

CONF = Path(__file__).parents[2] / "conf" / "hw"
PROFILES = {path.stem: path for path in sorted(CONF.glob("*.yaml"))}
AMOUNT = "a number above 0 and at most a million"
MEMORY = "a number of GiB above 0 and at most 131072"
ISA = (
    "sse4_2, avx, avx2, fma, f16c, avx512f, avx512bw, avx512vl, avx512_vnni, avx512_bf16, avx_vnni, "
    "amx_tile, amx_int8, amx_bf16, neon, dotprod, i8mm, sve, bf16"
)
SERVER = Hardware(
    profile="auto",
    os="linux",
    os_version="6.18.44",
    arch="x86_64",
    cpu="AMD EPYC",
    cores=2,
    memory_gib=23.54,
    isa=("avx2", "fma"),
    apple_silicon=False,
    gpus=0,
)
H100 = Gpu(
    vendor="nvidia", name="NVIDIA H100 80GB HBM3", memory_gib=79.65, compute_capability="9.0", driver="580.65.06"
)
RTX4090 = Gpu(
    vendor="nvidia", name="NVIDIA GeForce RTX 4090", memory_gib=23.99, compute_capability="8.9", driver="580.65.06"
)
MI300X = Gpu(vendor="amd", name="gfx942", memory_gib=192.0)
MAC = Hardware(
    profile="auto",
    os="darwin",
    os_version="14.5",
    arch="arm64",
    cpu="Apple M3 Max",
    cores=16,
    memory_gib=64.0,
    isa=("neon", "dotprod"),
    apple_silicon=True,
    gpus=1,
    gpu=Gpu(vendor="apple", name="Apple M3 Max"),
)
NOTHING = Hardware(profile="auto")


def made(base: Hardware, **facts: Any) -> Hardware:
    return msgspec.structs.replace(base, **facts)


def asked(**facts: Any) -> Hardware:
    return Hardware(profile="asked", **facts)


def node(name: str) -> dict[str, Any]:
    read = yaml.safe_load(PROFILES[name].read_text(encoding="utf-8"))
    assert isinstance(read, dict)
    return read


def no_machine() -> Hardware:
    pytest.fail("a declared profile must not read the machine")


# --- detect


def test_detect_agrees_with_the_system() -> None:
    """On the machine of the tests, every fact that has another source agrees with it."""
    found = hardware.detect()
    names = {"Linux": "linux", "Darwin": "darwin"}
    assert (found.profile, found.os) == ("auto", names[platform.system()])
    assert found.arch == os.uname().machine.lower()
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    assert found.cores is not None
    assert allowed is not None
    assert 1 <= found.cores <= allowed
    total_gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    assert found.memory_gib is not None
    assert 0 < found.memory_gib <= total_gib + 0.01
    assert found.isa


def test_detect_on_linux(monkeypatch: pytest.MonkeyPatch) -> None:
    """The system's facts and the accelerators come together."""
    monkeypatch.setattr(platform, "system", lambda: "Linux")
    monkeypatch.setattr(platform, "machine", lambda: "X86_64")
    monkeypatch.setattr(probes, "allowed_cores", lambda: 3)
    monkeypatch.setattr(accelerators, "find", lambda _root, _environ: (2, H100))
    monkeypatch.setattr(probes, "linux", lambda _root, *, arch, allowed: asked(os="linux", arch=arch, cores=allowed))
    assert hardware.detect() == asked(os="linux", arch="x86_64", cores=3, gpus=2, gpu=H100)


def test_detect_on_macos(monkeypatch: pytest.MonkeyPatch) -> None:
    """A Mac is read from one sysctl."""
    monkeypatch.setattr(platform, "system", lambda: "Darwin")
    monkeypatch.setattr(platform, "machine", lambda: "arm64")
    monkeypatch.setattr(probes, "allowed_cores", lambda: 8)
    monkeypatch.setattr(probes, "sysctl", lambda: "machdep.cpu.brand_string: Apple M1\nhw.memsize: 8589934592\n")
    found = hardware.detect()
    assert (found.os, found.cores, found.memory_gib, found.gpu.name) == ("darwin", 8, 8.0, "Apple M1")


@pytest.mark.parametrize(
    ("system", "machine", "expected"),
    [
        pytest.param(
            "Windows", "AMD64", Hardware(profile="auto", os="windows", arch="amd64", cores=8, apple_silicon=False),
            id="windows",
        ),
        pytest.param("FreeBSD", "", Hardware(profile="auto", cores=8, apple_silicon=False), id="another"),
    ],
)  # fmt: skip
def test_detect_elsewhere(monkeypatch: pytest.MonkeyPatch, system: str, machine: str, expected: Hardware) -> None:
    """A system that has no probes is named, and the rest is null."""
    monkeypatch.setattr(platform, "system", lambda: system)
    monkeypatch.setattr(platform, "machine", lambda: machine)
    monkeypatch.setattr(probes, "allowed_cores", lambda: 8)
    assert hardware.detect() == expected


# --- declared


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        pytest.param({"profile": "p"}, Hardware(profile="p"), id="a-name-is-enough"),
        pytest.param({"profile": "p", "cores": None, "gpu": None}, Hardware(profile="p"), id="null-is-unknown"),
        pytest.param(
            {"profile": "p", "cores": "4", "memory_gib": "16", "gpus": 2.0, "apple_silicon": "false"},
            Hardware(profile="p", cores=4, memory_gib=16.0, gpus=2, apple_silicon=False),
            id="numbers-typed-as-text",
        ),
        pytest.param(
            {"profile": "p", "os_version": 14.5, "gpu": {"driver": 550, "compute_capability": 9.0}},
            Hardware(profile="p", os_version="14.5", gpu=Gpu(driver="550", compute_capability="9.0")),
            id="text-that-yaml-reads-as-numbers",
        ),
        pytest.param(
            {"profile": "p", "isa": ["avx2", "fma"], "gpu": {"compute_capability": "12.1"}},
            Hardware(profile="p", isa=("avx2", "fma"), gpu=Gpu(compute_capability="12.1")),
            id="a-list-and-two-digit-capability",
        ),
        pytest.param(
            {"profile": "p", "gpus": 0, "gpu": {"vendor": None}},
            Hardware(profile="p", gpus=0),
            id="no-gpus-of-which-nothing-is-said",
        ),
        pytest.param({"profile": "p", "detect": False}, Hardware(profile="p"), id="not-to-be-detected"),
    ],
)
def test_declared(config: dict[str, Any], expected: Hardware) -> None:
    """What the configuration says becomes hardware, and the machine is not read."""
    assert hardware.declared(config, no_machine) == expected


@pytest.mark.parametrize(
    ("facts", "machine", "expected"),
    [
        pytest.param({}, SERVER, SERVER, id="nothing-given"),
        pytest.param({}, made(SERVER, gpus=2, gpu=H100), made(SERVER, gpus=2, gpu=H100), id="nothing-given-gpus"),
        pytest.param({"cores": 1}, SERVER, made(SERVER, cores=1), id="a-given-fact-stays"),
        pytest.param({"gpus": 0}, made(SERVER, gpus=2, gpu=H100), SERVER, id="gpus-can-be-hidden"),
        pytest.param(
            {"gpus": 4}, made(SERVER, gpus=1, gpu=H100), made(SERVER, gpus=4, gpu=H100), id="more-gpus-of-a-kind"
        ),
        pytest.param({"gpus": 4}, SERVER, made(SERVER, gpus=4), id="gpus-where-there-are-none"),
        pytest.param(
            {"gpu": {"vendor": "nvidia"}}, SERVER, made(SERVER, gpus=None, gpu=Gpu(vendor="nvidia")),
            id="a-gpu-where-there-is-none-is-not-counted",
        ),
        pytest.param(
            {"gpu": {"vendor": "amd"}}, made(SERVER, gpus=1, gpu=H100),
            made(SERVER, gpus=None, gpu=Gpu(vendor="amd")), id="another-vendor-s-gpu",
        ),
        pytest.param(
            {"gpus": 1, "gpu": {"name": "NVIDIA H200"}}, made(SERVER, gpus=8, gpu=H100),
            made(SERVER, gpus=1, gpu=Gpu(name="NVIDIA H200")), id="another-gpu",
        ),
        pytest.param(
            {"gpu": {"name": "h100"}}, made(SERVER, gpus=1, gpu=H100),
            made(SERVER, gpus=1, gpu=msgspec.structs.replace(H100, name="h100")), id="the-same-gpu-by-a-short-name",
        ),
        pytest.param(
            {"gpu": {"memory_gib": 40}}, made(SERVER, gpus=1, gpu=H100),
            made(SERVER, gpus=1, gpu=msgspec.structs.replace(H100, memory_gib=40.0)), id="less-memory",
        ),
        pytest.param(
            {"os": "windows"}, SERVER, made(SERVER, os="windows", os_version=None), id="another-system",
        ),
        pytest.param(
            {"os": "darwin"}, SERVER, made(SERVER, os="darwin", os_version=None, apple_silicon=None),
            id="a-mac-may-be-apple-silicon",
        ),
        pytest.param({"os": "linux"}, MAC, made(MAC, os="linux", os_version=None, apple_silicon=False), id="off-macos"),
        pytest.param(
            {"arch": "arm64"}, SERVER, made(SERVER, arch="arm64", cpu=None, isa=None), id="another-instruction-set"
        ),
        pytest.param(
            {"cpu": "AMD EPYC 9654"}, SERVER, made(SERVER, cpu="AMD EPYC 9654", arch=None, isa=None),
            id="another-processor",
        ),
        pytest.param({}, NOTHING, NOTHING, id="nothing-can-be-read"),
    ],
)  # fmt: skip
def test_declared_and_detected(facts: dict[str, Any], machine: Hardware, expected: Hardware) -> None:
    """Detection fills what is null; a given fact stays, and takes with it what belongs to another thing."""
    assert hardware.declared(node("auto") | facts, lambda: machine) == expected


@pytest.mark.parametrize(
    ("config", "message"),
    [
        pytest.param({}, "hw.profile must be a name, not null", id="no-profile"),
        pytest.param({"profile": ""}, "hw.profile must be a name, not ''", id="an-empty-profile"),
        pytest.param({"detect": "maybe"}, "hw.detect must be true or false, not 'maybe'", id="detect-is-a-flag"),
        pytest.param(
            {"os": "linus"},
            "hw.os must be linux, darwin (macOS) or windows, not 'linus'; did you mean 'linux'?",
            id="an-unknown-system",
        ),
        pytest.param(
            {"os": "macos"}, "hw.os must be linux, darwin (macOS) or windows, not 'macos'", id="macos-is-darwin"
        ),
        pytest.param(
            {"os": 3}, "hw.os must be linux, darwin (macOS) or windows, not 3", id="a-number-is-no-system"
        ),
        pytest.param({"os_version": True}, "hw.os_version must be text, not True", id="a-flag-is-no-text"),
        pytest.param(
            {"arch": "X86-64"}, "hw.arch must be lower-case text such as x86_64 or arm64, not 'X86-64'", id="arch"
        ),
        pytest.param({"cores": 0}, "hw.cores must be a whole number from 1 to 16384, not 0", id="no-cores"),
        pytest.param(
            {"cores": 1.5}, "hw.cores must be a whole number from 1 to 16384, not 1.5", id="half-a-core"
        ),
        pytest.param({"memory_gib": 0}, f"hw.memory_gib must be {MEMORY}, not 0", id="no-memory"),
        pytest.param({"memory_gib": float("nan")}, f"hw.memory_gib must be {MEMORY}, not nan", id="no-number"),
        pytest.param({"memory_gib": float("inf")}, f"hw.memory_gib must be {MEMORY}, not inf", id="infinity"),
        pytest.param({"memory_gib": "lots"}, f"hw.memory_gib must be {MEMORY}, not 'lots'", id="words"),
        pytest.param(
            {"isa": ["avx2", "avx512"]},
            f"hw.isa must be a list of any of {ISA}, not ['avx2', 'avx512']; did you mean 'avx512f'?",
            id="an-unknown-extension",
        ),
        pytest.param({"isa": "avx2"}, f"hw.isa must be a list of any of {ISA}, not 'avx2'", id="isa-is-a-list"),
        pytest.param({"apple_silicon": 2}, "hw.apple_silicon must be true or false, not 2", id="a-flag"),
        pytest.param({"gpus": -1}, "hw.gpus must be a whole number from 0 to 1024, not -1", id="minus-one-gpu"),
        pytest.param(
            {"gpus": True}, "hw.gpus must be a whole number from 0 to 1024, not True", id="a-flag-is-no-count"
        ),
        pytest.param({"gpu": "h100"}, "hw.gpu must be a mapping, not 'h100'", id="gpu-is-a-mapping"),
        pytest.param(
            {"gpu": {"vendor": "nvida"}},
            "hw.gpu.vendor must be nvidia, amd, intel or apple, not 'nvida'; did you mean 'nvidia'?",
            id="an-unknown-vendor",
        ),
        pytest.param(
            {"gpu": {"memory_gib": -80}}, f"hw.gpu.memory_gib must be {MEMORY}, not -80", id="negative-gpu-memory"
        ),
        pytest.param(
            {"gpu": {"compute_capability": "sm_90"}},
            "hw.gpu.compute_capability must be a version such as 9.0, not 'sm_90'",
            id="an-architecture-is-no-capability",
        ),
        pytest.param(
            {"gpu": {"compute_capability": 9}},
            "hw.gpu.compute_capability must be a version such as 9.0, not 9",
            id="a-capability-has-two-parts",
        ),
        pytest.param(
            {"gpu": {"bandwidth_gbs": 0}}, f"hw.gpu.bandwidth_gbs must be {AMOUNT}, not 0", id="no-bandwidth"
        ),
        pytest.param({"gpuz": 1}, "hw has no key 'gpuz'; did you mean 'gpu'?", id="a-misspelt-key"),
        pytest.param(
            {"gpu": {"memory": 80}}, "hw.gpu has no key 'memory'; did you mean 'memory_gib'?", id="a-unit-left-out"
        ),
        pytest.param(
            {"gpu": {"x": 1}},
            "hw.gpu has no key 'x'; its keys are "
            "vendor, name, memory_gib, compute_capability, driver, bandwidth_gbs, tflops_16bit",
            id="a-key-like-no-other",
        ),
    ],
)  # fmt: skip
def test_declared_refuses(config: dict[str, Any], message: str) -> None:
    """A wrong key or value is named with what is allowed, in one line, before the machine is read."""
    given = {"profile": "p", "detect": True} | config if config else {}
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        hardware.declared(given, no_machine)


def test_declared_refuses_what_is_no_mapping() -> None:
    """``hw=`` set to a bare value on the command line is no traceback."""
    given: Any = "cuda"
    with pytest.raises(ConfigError, match=r"^hw must be a mapping, not 'cuda'$"):
        hardware.declared(given, no_machine)


# --- missing and completed


@pytest.mark.parametrize(
    ("profile", "machine", "phrases"),
    [
        pytest.param(asked(), SERVER, (), id="null-demands-nothing"),
        pytest.param(asked(), NOTHING, (), id="null-demands-nothing-of-the-unknown"),
        pytest.param(asked(gpus=0), made(SERVER, gpus=2, gpu=H100), (), id="gpus-may-be-left-idle"),
        pytest.param(asked(nodes=2), SERVER, ("2 machines (one found)",), id="this-is-one-machine"),
        pytest.param(
            asked(gpus=0, gpu=Gpu(memory_gib=999)), made(SERVER, gpus=2, gpu=H100), (), id="no-gpus-need-no-memory"
        ),
        pytest.param(
            asked(os="linux", gpus=1, gpu=Gpu(vendor="nvidia")), SERVER, ("a CUDA device (none found)",), id="no-gpu"
        ),
        pytest.param(
            asked(gpus=4, gpu=Gpu(vendor="nvidia")), made(SERVER, gpus=1, gpu=H100), ("4 CUDA devices (1 found)",),
            id="too-few-gpus",
        ),
        pytest.param(asked(gpus=2, gpu=H100), made(SERVER, gpus=2, gpu=H100), (), id="enough-gpus"),
        pytest.param(
            asked(gpu=Gpu(vendor="nvidia")), SERVER, ("a CUDA device (none found)",), id="a-described-gpu-is-one"
        ),
        pytest.param(
            asked(gpus=1, gpu=Gpu(vendor="amd")), made(SERVER, gpus=1, gpu=H100), ("a ROCm device (none found)",),
            id="another-vendor-s-gpu",
        ),
        pytest.param(
            asked(gpus=2, gpu=Gpu(vendor="amd", memory_gib=192)), made(SERVER, gpus=1, gpu=MI300X),
            ("2 ROCm devices (1 found)",), id="too-few-of-the-right-memory",
        ),
        pytest.param(asked(gpus=1), SERVER, ("a GPU (none found)",), id="any-gpu"),
        pytest.param(asked(gpus=2), MAC, ("2 GPUs (1 found)",), id="any-two-gpus"),
        pytest.param(
            asked(os="linux", gpus=1, gpu=Gpu(vendor="apple")), SERVER, ("an Apple GPU (none found)",),
            id="an-apple-gpu-without-its-system",
        ),
        pytest.param(
            asked(gpus=1, gpu=Gpu(vendor="intel")), SERVER, ("an Intel GPU (none found)",), id="an-intel-gpu"
        ),
        pytest.param(
            asked(gpus=1, gpu=Gpu(vendor="nvidia")), made(SERVER, gpus=None), ("a CUDA device (not known here)",),
            id="a-silent-driver",
        ),
        pytest.param(
            asked(gpus=1, gpu=Gpu(vendor="nvidia", name="NVIDIA H100 80GB HBM3", memory_gib=80,
                                  compute_capability="9.0", bandwidth_gbs=3350)),
            made(SERVER, gpus=1, gpu=RTX4090),
            (
                "NVIDIA H100 80GB HBM3 (NVIDIA GeForce RTX 4090 found)",
                "80 GiB of GPU memory (24 GiB found)",
                "compute capability 9.0 (8.9 found)",
            ),
            id="a-lesser-gpu",
        ),
        pytest.param(
            asked(gpus=1, gpu=Gpu(vendor="nvidia", memory_gib=80, compute_capability="9.0")),
            made(SERVER, gpus=1, gpu=Gpu(vendor="nvidia")),
            ("80 GiB of GPU memory (not known here)", "compute capability 9.0 (not known here)"),
            id="a-gpu-that-tells-little",
        ),
        pytest.param(
            asked(gpus=1, gpu=Gpu(name="H100", memory_gib=80, driver="999")), made(SERVER, gpus=1, gpu=H100), (),
            id="nominal-memory-a-short-name-and-no-driver",
        ),
        pytest.param(
            asked(gpus=1, gpu=Gpu(memory_gib=80)),
            made(SERVER, gpus=1, gpu=msgspec.structs.replace(H100, memory_gib=76.0)), (), id="five-percent-less",
        ),
        pytest.param(
            asked(gpus=1, gpu=Gpu(memory_gib=80)),
            made(SERVER, gpus=1, gpu=msgspec.structs.replace(H100, memory_gib=75.9)),
            ("80 GiB of GPU memory (75.9 GiB found)",), id="more-than-five-percent-less",
        ),
        pytest.param(
            asked(gpus=1, gpu=Gpu(compute_capability="9.0")),
            made(SERVER, gpus=1, gpu=msgspec.structs.replace(H100, compute_capability="10.0")), (),
            id="capability-10-is-above-9",
        ),
        pytest.param(asked(os="linux"), MAC, ("Linux (this is macOS)",), id="another-system"),
        pytest.param(asked(os="windows"), SERVER, ("Windows (this is Linux)",), id="windows"),
        pytest.param(asked(os="linux"), NOTHING, ("Linux (this is not known)",), id="an-unknown-system"),
        pytest.param(
            asked(os="darwin", arch="arm64", apple_silicon=True, gpus=1, gpu=Gpu(vendor="apple")), SERVER,
            ("macOS on Apple silicon (this is Linux on x86_64)",), id="a-mac-with-its-gpu",
        ),
        pytest.param(
            asked(os="darwin", arch="arm64", apple_silicon=True), made(MAC, arch="x86_64"),
            ("macOS on Apple silicon (this is macOS on x86_64)",), id="rosetta",
        ),
        pytest.param(asked(apple_silicon=True), SERVER, ("Apple silicon (this is Linux on x86_64)",), id="silicon"),
        pytest.param(
            asked(os="linux", arch="arm64"), SERVER, ("Linux on arm64 (this is Linux on x86_64)",), id="another-arch"
        ),
        pytest.param(asked(arch="arm64"), made(SERVER, arch="aarch64"), (), id="arm64-is-aarch64"),
        pytest.param(asked(arch="x86_64"), MAC, ("x86_64 (this is macOS on Apple silicon)",), id="on-a-mac"),
        pytest.param(asked(apple_silicon=False), MAC, (), id="what-a-mac-is-not-is-no-demand"),
        pytest.param(
            asked(cpu="AMD EPYC 9654", cores=96), SERVER, ("AMD EPYC 9654 (AMD EPYC found)", "96 cores (2 found)"),
            id="a-larger-processor",
        ),
        pytest.param(asked(cpu="epyc", cores=2), SERVER, (), id="the-processor-by-a-short-name"),
        pytest.param(
            asked(cpu="AMD EPYC", cores=1), NOTHING, ("AMD EPYC (not known here)", "1 core (not known here)"),
            id="an-unknown-processor",
        ),
        pytest.param(asked(memory_gib=64), SERVER, ("64 GiB of memory (23.5 GiB found)",), id="too-little-memory"),
        pytest.param(asked(memory_gib=24), SERVER, (), id="nominal-memory"),
        pytest.param(asked(memory_gib=0.5), NOTHING, ("0.5 GiB of memory (not known here)",), id="unknown-memory"),
        pytest.param(
            asked(isa=("avx2", "avx512f", "amx_int8")), SERVER, ("the CPU's avx512f, amx_int8 (not found)",),
            id="missing-extensions",
        ),
        pytest.param(asked(isa=("avx2",)), NOTHING, ("the CPU's avx2 (not known here)",), id="unknown-extensions"),
        pytest.param(asked(isa=("avx2",)), made(SERVER, isa=()), ("the CPU's avx2 (not found)",), id="no-extensions"),
        pytest.param(
            asked(os="darwin", cpu="Apple M3 Max", cores=16, apple_silicon=True, gpus=1, gpu=MAC.gpu),
            made(MAC, cpu="Apple M1", cores=8, gpu=Gpu(vendor="apple", name="Apple M1")),
            ("Apple M3 Max (Apple M1 found)", "16 cores (8 found)"),
            id="a-lesser-mac",
        ),
    ],
)  # fmt: skip
def test_missing(profile: Hardware, machine: Hardware, phrases: tuple[str, ...]) -> None:
    """Each demand that the machine does not meet is one phrase: what is wanted, and what there is."""
    assert hardware.missing(profile, machine) == phrases


@pytest.mark.parametrize(
    "machine", [SERVER, MAC, NOTHING, made(SERVER, gpus=2, gpu=H100), made(SERVER, gpus=1, gpu=MI300X)]
)
def test_a_machine_lacks_nothing_of_itself(machine: Hardware) -> None:
    """What was detected runs here, whatever could be read."""
    assert hardware.missing(machine, machine) == ()


@pytest.mark.parametrize(
    ("profile", "machine", "expected"),
    [
        pytest.param(
            asked(os="linux", gpus=1, gpu=Gpu(vendor="nvidia", memory_gib=80, bandwidth_gbs=3350)),
            made(SERVER, gpus=8, gpu=H100),
            made(
                SERVER, profile="asked", gpus=1,
                gpu=msgspec.structs.replace(H100, memory_gib=80, bandwidth_gbs=3350),
            ),
            id="declared-facts-stay",
        ),
        pytest.param(
            asked(os="linux", gpus=0), made(SERVER, gpus=8, gpu=H100), made(SERVER, profile="asked"),
            id="without-gpus-no-gpu-facts",
        ),
        pytest.param(asked(arch="arm64"), made(MAC, arch="aarch64"), made(MAC, profile="asked"), id="arm64-is-aarch64"),
    ],
)  # fmt: skip
def test_completed(profile: Hardware, machine: Hardware, expected: Hardware) -> None:
    """A profile that runs here gets the machine's facts where it has none, and keeps its name."""
    assert hardware.completed(profile, machine) == expected


# --- the profiles under conf/hw


DEFINITIONS = {"auto", "cpu", "cuda", "rocm", "apple"}
"""Profiles of no machine that is sold."""
SOLD = {name: hardware.declared(node(name), no_machine) for name in PROFILES if name not in DEFINITIONS}


def test_profiles() -> None:
    """The documented definitions are there, and the machines that people have."""
    assert set(PROFILES) >= DEFINITIONS | {
        *("t4", "v100-32g", "a10", "a40", "a100-40g", "a100-80g", "l4", "l40s", "h100", "h100-pcie", "h200", "b200"),
        *("rtx3060", "rtx3080", "rtx3090", "rtx4060ti-16g", "rtx4070", "rtx4080", "rtx4090"),
        *("rtx5060ti-16g", "rtx5070ti", "rtx5080", "rtx5090", "rtx-a6000", "rtx-6000-ada", "rtx-pro-6000"),
        *("mi210", "mi250x", "mi300x", "mi325x", "mi355x", "rx7900xtx", "arc-a770", "arc-b580", "max-1550"),
        *("m1", "m1-pro", "m1-max", "m1-ultra", "m2", "m3-max", "m3-ultra", "m4", "m4-pro", "m4-max"),
        *("epyc-rome", "epyc-milan", "epyc-genoa", "epyc-turin", "xeon-ice-lake", "xeon-sapphire-rapids"),
        *("xeon-granite-rapids", "graviton3", "graviton4", "ryzen-9950x"),
    }


@pytest.mark.parametrize("name", PROFILES)
def test_profile_has_every_key(name: str) -> None:
    """A key that is left out could not be overridden."""
    read = node(name)
    assert list(read) == ["profile", "detect", *[key for key in Hardware.__struct_fields__ if key != "profile"]]
    assert list(read["gpu"]) == list(Gpu.__struct_fields__)
    assert (read["profile"], read["detect"]) == (name, name == "auto")


@pytest.mark.parametrize("name", SOLD)
def test_a_machine_that_is_sold_is_possible(name: str) -> None:
    """Its figures fit each other and lie between those of the smallest and the largest machine of their time."""
    found, gpu = SOLD[name], SOLD[name].gpu
    assert found.source
    assert found.device in {"cuda", "rocm", "xpu", "apple", "cpu"}
    assert (gpu.compute_capability is not None) == (gpu.vendor == "nvidia")
    assert gpu.memory_gib is None or 8 <= gpu.memory_gib <= 300
    assert gpu.bandwidth_gbs is None or 60 <= gpu.bandwidth_gbs <= 10_000
    assert gpu.tflops_16bit is None or 20 <= gpu.tflops_16bit <= 3000
    if gpu.bandwidth_gbs and gpu.tflops_16bit:
        assert 20 <= gpu.tflops_16bit * 1000 / gpu.bandwidth_gbs <= 420, "operations for each byte that is read"
    if found.gpus == 0:
        assert found.bandwidth_gbs
        assert found.isa
        assert ("avx2" in found.isa) == (found.arch == "x86_64") == ("neon" not in found.isa)
    if found.device == "apple":
        assert (found.os, found.arch, found.apple_silicon, found.memory_gib) == ("darwin", "arm64", True, None)
        assert gpu.name == found.cpu


def test_no_two_profiles_are_one_machine() -> None:
    """A profile that differs from another in its name only would be a mistake."""
    kinds = [msgspec.structs.replace(found, profile="", source=None) for found in SOLD.values()]
    same = {name for name, kind in zip(SOLD, kinds, strict=True) if kinds.count(kind) > 1}
    assert same == {"epyc-rome", "epyc-milan"}, "two sockets that differ in nothing an engine sees"


LINUX: dict[str, Any] = {"os": "linux", "apple_silicon": False}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        pytest.param("cpu", Hardware(profile="cpu", **LINUX, gpus=0), id="cpu"),
        pytest.param("cuda", Hardware(profile="cuda", **LINUX, gpus=1, gpu=Gpu(vendor="nvidia")), id="cuda"),
        pytest.param("rocm", Hardware(profile="rocm", **LINUX, gpus=1, gpu=Gpu(vendor="amd")), id="rocm"),
        pytest.param(
            "apple",
            Hardware(
                profile="apple", os="darwin", arch="arm64", apple_silicon=True, gpus=1, gpu=Gpu(vendor="apple")
            ),
            id="apple",
        ),
        pytest.param(
            "h100",
            Hardware(
                profile="h100", **LINUX, gpus=1,
                gpu=Gpu(
                    vendor="nvidia", name="NVIDIA H100 80GB HBM3", memory_gib=80, compute_capability="9.0",
                    bandwidth_gbs=3350, tflops_16bit=989,
                ),
            ),
            id="h100",
        ),
        pytest.param(
            "a100-80g",
            Hardware(
                profile="a100-80g", **LINUX, gpus=1,
                gpu=Gpu(
                    vendor="nvidia", name="NVIDIA A100-SXM4-80GB", memory_gib=80, compute_capability="8.0",
                    bandwidth_gbs=2039, tflops_16bit=312,
                ),
            ),
            id="a100-80g",
        ),
        pytest.param(
            "rtx4090",
            Hardware(
                profile="rtx4090", **LINUX, gpus=1,
                gpu=Gpu(
                    vendor="nvidia", name="NVIDIA GeForce RTX 4090", memory_gib=24, compute_capability="8.9",
                    bandwidth_gbs=1008, tflops_16bit=165.2,
                ),
            ),
            id="rtx4090",
        ),
        pytest.param(
            "t4",
            Hardware(
                profile="t4", **LINUX, gpus=1,
                gpu=Gpu(
                    vendor="nvidia", name="Tesla T4", memory_gib=15, compute_capability="7.5", bandwidth_gbs=320,
                    tflops_16bit=65,
                ),
            ),
            id="t4",
        ),
        pytest.param(
            "m3-max",
            Hardware(
                profile="m3-max", os="darwin", arch="arm64", cpu="Apple M3 Max", cores=16, apple_silicon=True, gpus=1,
                gpu=Gpu(vendor="apple", name="Apple M3 Max", bandwidth_gbs=400),
            ),
            id="m3-max",
        ),
        pytest.param("auto", NOTHING, id="auto"),
    ],
)  # fmt: skip
def test_profile(name: str, expected: Hardware) -> None:
    """A profile says these facts and no others."""
    found = hardware.declared(node(name), lambda: NOTHING)
    assert msgspec.structs.replace(found, source=None) == expected


@pytest.mark.parametrize(
    ("name", "memory_mib"),
    [
        pytest.param("h100", 81559, id="h100"),
        pytest.param("a100-80g", 81920, id="a100-80g"),
        pytest.param("rtx4090", 24564, id="rtx4090"),
        pytest.param("t4", 15360, id="t4"),
        pytest.param("t4", 15109, id="t4-with-an-older-driver"),
        pytest.param("h100-pcie", 81559, id="h100-pcie"),
        pytest.param("b200", 183359, id="b200"),
        pytest.param("l4", 22731, id="l4-with-an-older-driver"),
    ],
)
def test_a_real_card_is_its_profile(name: str, memory_mib: int) -> None:
    """What NVML reports of the card that a profile is named after satisfies the profile."""
    profile = hardware.declared(node(name), no_machine)
    card = msgspec.structs.replace(
        profile.gpu, memory_gib=round(memory_mib / 1024, 2), bandwidth_gbs=None, tflops_16bit=None
    )
    assert hardware.missing(profile, made(SERVER, gpus=1, gpu=card)) == ()
