"""What the tests of SGLang's plans share: a job, its plan, and how a plan is read."""

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

ENGINE = engines.get("sglang")
SERVER = ENGINE.conf.parent / "server.py"
CPU = Hardware(profile="cpu", os="linux", arch="x86_64", cores=2, memory_gib=24, gpus=0)
H100 = Hardware(profile="h100", os="linux", gpus=1, gpu=Gpu(vendor="nvidia", compute_capability="9.0"))


def job(on: Hardware = CPU, spec: Spec = SMOLLM2, **changes: Any) -> Job:
    """Return what the adapter is given; what is no field of a job is a setting."""
    fields = {name: changes.pop(name) for name in ("dtype", "context_length") if name in changes}
    flight = changes.pop("concurrency", 4)
    asked = Job(
        spec=spec, hardware=on, settings={"name": "sglang", **changes},
        workload=Workload(name="chat", input_tokens=64, output_tokens=64, concurrency=flight),
        context_length=2048, home="/h", python="python3", port=30000,
    )  # fmt: skip
    return msgspec.structs.replace(asked, **fields)


def plan(on: Hardware = CPU, spec: Spec = SMOLLM2, **changes: Any) -> LaunchPlan:
    return ENGINE.plan(job(on, spec, **changes))
