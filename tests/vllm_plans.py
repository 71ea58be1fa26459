"""What the tests of vLLM's plans share: a job, its plan, and how a plan is read."""

from __future__ import annotations

from typing import Any

import msgspec
from plans import SMOLLM2

from xinfer import engines
from xinfer.catalog import Spec
from xinfer.engines import Job
from xinfer.facts import Gpu, Hardware
from xinfer.plan import LaunchPlan
from xinfer.spec import Workload

ENGINE = engines.get("vllm")
CPU = Hardware(profile="cpu", os="linux", arch="x86_64", cores=2, memory_gib=24, gpus=0)
H100 = Hardware(profile="h100", os="linux", gpus=1, gpu=Gpu(vendor="nvidia", compute_capability="9.0", driver="580.1"))


def job(
    on: Hardware = CPU, spec: Spec = SMOLLM2, *, concurrency: int = 4, dtype: str | None = None, **settings: Any
) -> Job:
    """Return what the adapter is given."""
    return Job(
        spec=spec, hardware=on, settings={"name": "vllm", **settings},
        workload=Workload(name="chat", input_tokens=64, output_tokens=64, concurrency=concurrency),
        context_length=2048, home="/h", python="python3", port=8000, dtype=dtype,
    )  # fmt: skip


def plan(on: Hardware = CPU, spec: Spec = SMOLLM2, **changes: Any) -> LaunchPlan:
    return ENGINE.plan(job(on, spec, **changes))


def gpus(number: int, **gpu: Any) -> Hardware:
    """Return a machine with some of NVIDIA's GPUs."""
    facts = {"vendor": "nvidia", "compute_capability": "9.0", **gpu}
    return msgspec.structs.replace(H100, gpus=number, gpu=msgspec.convert(facts, Gpu))
