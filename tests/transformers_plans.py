"""What the tests of Transformers' plans share: a plan, and how it is read."""

from __future__ import annotations

from typing import Any

import msgspec
from plans import QWEN2 as KNOWN
from plans import SMOLLM2, changed

from xinfer import engines
from xinfer.catalog import Shape, Spec
from xinfer.engines import Job
from xinfer.facts import Gpu, Hardware
from xinfer.plan import LaunchPlan
from xinfer.spec import Workload

ENGINE = engines.get("transformers")
QWEN2 = changed(KNOWN, shape=Shape())
"""Its network is not known: its size alone tells what it needs."""
BFLOAT16 = ("avx2", "avx512f", "avx512_bf16")
CPU = Hardware(profile="cpu", os="linux", arch="x86_64", cores=2, memory_gib=24, isa=BFLOAT16, gpus=0)
H100 = Hardware(profile="h100", os="linux", gpus=1, gpu=Gpu(vendor="nvidia", compute_capability="9.0", driver="580.1"))
SAMPLING = (
    "all requests are sampled as the first one is, which is xinfer's own and greedy: continuous batching has one "
    "temperature for all"
)
WORDS = "the server tokenizes for nobody: prompts are counted by the model's tokenizer, beside it"


def plan(on: Hardware = CPU, spec: Spec = SMOLLM2, **changes: Any) -> LaunchPlan:
    """Plan on a machine; what no field of a job is called is a setting."""
    fields = {key: changes.pop(key) for key in [*changes] if key in ("dtype", "context_length")}
    concurrency = changes.pop("concurrency", 4)
    job = Job(
        spec=spec, hardware=on, settings={"name": "transformers", **changes},
        workload=Workload(name="chat", input_tokens=64, output_tokens=64, concurrency=concurrency),
        home="/h", python="python3", port=8000, **{"context_length": 2048, **fields},
    )  # fmt: skip
    return ENGINE.plan(job)


def machine(**facts: Any) -> Hardware:
    """Return the CPU's machine with other facts."""
    return msgspec.structs.replace(CPU, **facts)
