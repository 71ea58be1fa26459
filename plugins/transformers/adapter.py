"""Transformers: ``transformers serve`` on whatever PyTorch runs on."""

from __future__ import annotations

import json
from pathlib import Path

from xinfer import artefacts, requirement
from xinfer.engines import Job, Settings, settings
from xinfer.errors import ConfigError
from xinfer.plan import Command, LaunchPlan

_HERE = Path(__file__).parent
_DEVICES = {"cuda": "cuda", "rocm": "cuda", "xpu": "xpu", "apple": "mps", "cpu": "cpu"}
_ON_THE_FLY = {"4-bit": "bnb-4bit", "8-bit": "bnb-8bit"}


class Transformers:
    """The adapter of Transformers."""

    name = "transformers"
    title = "Transformers"
    port = 8000
    conf = _HERE / "conf"

    def plan(self, job: Job) -> LaunchPlan:
        """Plan ``transformers serve`` in an environment of its own."""
        asked = settings(job, Settings)
        variant = requirement.variant_of(job.hardware)
        engine = requirement.provide(_HERE / "requirements.yaml", asked, job, variant)
        if job.spec.hub != "huggingface":
            raise ConfigError(f"transformers loads from Hugging Face, not {job.spec.hub}; say model.hub=huggingface")
        model = artefacts.repository(job.spec)
        command = Command(engine.python, "-m", "transformers.cli.transformers", "serve", model)
        _add_flags(command, job, _DEVICES[variant])
        command.override(asked.args, asked.env)
        # It has no ignore_eos; an end-of-sequence id that no vocabulary has keeps the output at its full length.
        fixed = json.dumps({"max_new_tokens": job.workload.output_tokens, "eos_token_id": -1})
        return LaunchPlan(
            engine=self.name, version=engine.version, variant=engine.variant, environment=engine.environment,
            port=job.port, model=model, request={"generation_config": fixed},
            device="cpu" if variant == "cpu" else "gpu", **command.parts,
        )  # fmt: skip


def _add_flags(command: Command, job: Job, device: str) -> None:
    command.add("--host", "127.0.0.1", because="loopback only")
    command.add("--port", job.port, because="port=; else a free one when it runs, transformers serve's own in a plan")
    command.add("--device", device, because="what the machine has")
    command.add("--dtype", "bfloat16", because="half of float32's memory; the range of float32")
    command.add("--continuous-batching", because="without it requests wait for each other")
    quantization = _ON_THE_FLY.get(job.spec.quantization or "")
    if quantization:
        command.add("--quantization", quantization, because=f"the {job.spec.quantization} that was chosen")
    if device == "cpu" and job.hardware.cores is not None:
        threads = max(1, job.hardware.cores - 1)
        command.set("OMP_NUM_THREADS", threads, because="one thread per core, one core left to the load client")
