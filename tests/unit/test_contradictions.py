"""Facts of a machine that cannot all be true are refused by the names of two of them."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml

from xinfer.config.compose import conf_dir
from xinfer.errors import ConfigError
from xinfer.facts import Hardware
from xinfer.machine import hardware

PROFILES = sorted((conf_dir() / "hw").glob("*.yaml"))


def declare(**facts: Any) -> Hardware:
    return hardware.declared({"profile": "p", "detect": False, **facts})


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        pytest.param(
            {"gpus": 0, "gpu": {"vendor": "nvidia"}}, "hw.gpus=0 contradicts hw.gpu.vendor=nvidia: ", id="no-gpu's-make"
        ),
        pytest.param(
            {"gpus": 0, "gpu": {"memory_gib": 80}}, "hw.gpus=0 contradicts hw.gpu.memory_gib=80.0: ",
            id="no-gpu's-memory",
        ),
        pytest.param(
            {"gpus": 2, "gpu": {"vendor": "apple"}}, "hw.gpus=2 contradicts hw.gpu.vendor=apple: ", id="a-mac's-gpus"
        ),
        pytest.param(
            {"gpu": {"vendor": "amd", "compute_capability": "9.0"}},
            "hw.gpu.compute_capability=9.0 contradicts hw.gpu.vendor=amd: ",
            id="another-make's-capability",
        ),
        pytest.param(
            {"os": "linux", "apple_silicon": True}, "hw.apple_silicon=true contradicts hw.os=linux: ", id="no-mac"
        ),
        pytest.param(
            {"arch": "x86_64", "apple_silicon": True}, "hw.apple_silicon=true contradicts hw.arch=x86_64: ",
            id="apple-silicon's-instructions",
        ),
        pytest.param(
            {"gpu": {"vendor": "nvidia"}, "apple_silicon": True},
            "hw.apple_silicon=true contradicts hw.gpu.vendor=nvidia: ",
            id="another-make's-gpu",
        ),
        pytest.param(
            {"gpu": {"vendor": "apple"}, "apple_silicon": False},
            "hw.apple_silicon=false contradicts hw.gpu.vendor=apple: ",
            id="apple's-gpu-elsewhere",
        ),
        pytest.param(
            {"os": "darwin", "arch": "arm64", "apple_silicon": False},
            "hw.apple_silicon=false contradicts hw.arch=arm64: ",
            id="an-arm-mac",
        ),
        pytest.param(
            {"arch": "aarch64", "isa": ["avx2", "neon"]}, "hw.isa=[avx2,neon] contradicts hw.arch=aarch64: avx2 is",
            id="x86's-instructions",
        ),
        pytest.param(
            {"arch": "x86_64", "isa": ["sve"]}, "hw.isa=[sve] contradicts hw.arch=x86_64: sve is", id="arm's-instr"
        ),
        pytest.param({"os": "darwin", "arch": "riscv64"}, "hw.os=darwin contradicts hw.arch=riscv64: ", id="a-mac's"),
        pytest.param({"gpus": 0, "nodes": 2}, "hw.gpus=0 contradicts hw.nodes=2: ", id="machines-without-gpus"),
        pytest.param({"head": "10.0.0.5"}, "hw.head=10.0.0.5 contradicts hw.nodes=1: ", id="the-head-of-one"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused(facts: dict[str, Any], said: str) -> None:
    """Both keys are named with their values, in one line."""
    with pytest.raises(ConfigError, match=f"^{re.escape(said)}") as caught:
        declare(**facts)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "facts",
    [
        pytest.param({}, id="nothing-is-known"),
        pytest.param({"gpus": 0}, id="no-gpu"),
        pytest.param({"nodes": 2, "head": "10.0.0.5"}, id="two-machines"),
        pytest.param({"os": "darwin", "gpus": 1, "gpu": {"vendor": "nvidia"}}, id="cuda-on-macos-is-for-the-rules"),
        pytest.param(
            {"os": "darwin", "arch": "x86_64", "apple_silicon": False, "gpu": {"vendor": "amd"}}, id="intel-mac"
        ),
        pytest.param({"os": "darwin", "arch": "arm64", "apple_silicon": True, "isa": ["neon", "bf16"]}, id="a-mac"),
        pytest.param({"arch": "riscv64", "isa": []}, id="another-processor"),
        pytest.param({"isa": ["avx2"]}, id="instructions-of-something"),
    ],
)
def test_what_may_be_is_taken(facts: dict[str, Any]) -> None:
    """Even where nobody has such a machine."""
    assert declare(**facts).profile == "p"


@pytest.mark.parametrize("path", PROFILES, ids=lambda path: path.stem)
def test_no_profile_contradicts_itself(path: Any) -> None:
    """All of them are read."""
    assert hardware.declared({**yaml.safe_load(path.read_text(encoding="utf-8")), "detect": False}).profile


def test_what_is_detected_is_believed() -> None:
    """Under Rosetta a Mac says that it is an Intel one and that it is Apple silicon."""
    mac = Hardware(profile="auto", os="darwin", arch="x86_64", apple_silicon=True)
    assert hardware.declared({"profile": "p", "detect": True}, lambda: mac).arch == "x86_64"
