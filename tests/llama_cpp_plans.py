"""What the tests of llama.cpp's plans share: a job, its plan, and how a command is read."""

from __future__ import annotations

import shlex
from typing import Any

import msgspec
from plans import SMOLLM2_FILE, changed

from xinfer import engines
from xinfer.catalog import Shape, Spec
from xinfer.engines import Job
from xinfer.facts import Gpu, Hardware
from xinfer.plan import LaunchPlan
from xinfer.spec import Workload

ENGINE = engines.get("llama_cpp")
HERE = str(ENGINE.conf.parent)
SMOLLM2 = changed(SMOLLM2_FILE, shape=Shape(intermediate=1536))
HARDWARE = {
    "cpu": Hardware(profile="cpu", os="linux", arch="x86_64", cores=16, gpus=0),
    "cuda": Hardware(profile="cuda", os="linux", arch="x86_64", cores=16, gpus=2, gpu=Gpu(vendor="nvidia")),
    "rocm": Hardware(profile="rocm", os="linux", arch="x86_64", cores=16, gpus=1, gpu=Gpu(vendor="amd")),
    "intel": Hardware(profile="intel", os="linux", arch="x86_64", cores=16, gpus=1, gpu=Gpu(vendor="intel")),
    "apple": Hardware(profile="apple", os="darwin", arch="arm64", cores=16, gpus=1, gpu=Gpu(vendor="apple")),
    "unknown": Hardware(profile="unknown"),
}
INDEXES = "https://xorbitsai.github.io/xllamacpp/whl"


def job(
    hw: str = "cpu", spec: Spec = SMOLLM2, *, concurrency: int = 4, settings: dict[str, Any] | None = None, **facts: Any
) -> Job:
    """Return what an adapter is given."""
    return Job(
        spec=spec,
        hardware=msgspec.structs.replace(HARDWARE[hw], **facts),
        settings={"name": "llama_cpp", **(settings or {})},
        workload=Workload(name="chat", input_tokens=64, output_tokens=64, concurrency=concurrency),
        context_length=4096,
        home="/h",
        python="/usr/bin/python3",
        port=8080,
    )


def plan(hw: str = "cpu", spec: Spec = SMOLLM2, **changes: Any) -> LaunchPlan:
    """Return the plan for a profile."""
    return ENGINE.plan(job(hw, spec, **changes))


def short(words: tuple[str, ...], launch: LaunchPlan) -> str:
    """Return a command as it is pasted, with ENV and HERE for the two directories that tests cannot know."""
    assert launch.environment
    return shlex.join(words).replace(launch.environment.path, "ENV").replace(HERE, "HERE")
