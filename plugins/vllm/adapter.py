"""vLLM: its OpenAI server on CUDA."""

from __future__ import annotations

from pathlib import Path

from xinfer import artefacts, parallel, requirement
from xinfer.engines import Job, Settings, settings
from xinfer.errors import ConfigError
from xinfer.plan import Command, LaunchPlan

_HERE = Path(__file__).parent
_HUBS = ("huggingface", "modelscope")
_BF16_SINCE = (8, 0)


class Vllm:
    """The adapter of vLLM."""

    name = "vllm"
    title = "vLLM"
    port = 8000
    conf = _HERE / "conf"

    def plan(self, job: Job) -> LaunchPlan:
        """Plan ``vllm serve`` in an environment of its own."""
        asked = settings(job, Settings)
        variant = requirement.variant_of(job.hardware)
        engine = requirement.provide(_HERE / "requirements.yaml", asked, job, variant)
        if job.spec.hub not in _HUBS:
            raise ConfigError(f"vllm loads from {' or '.join(_HUBS)}, not {job.spec.hub}; say model.hub=huggingface")
        command = Command(engine.python, "-m", "vllm.entrypoints.cli.main", "serve", artefacts.repository(job.spec))
        _add_flags(command, job)
        command.override(asked.args, asked.env)
        return LaunchPlan(
            engine=self.name, version=engine.version, variant=engine.variant, environment=engine.environment,
            port=job.port, model=job.spec.family, request={"ignore_eos": True}, device="gpu", **command.parts,
        )  # fmt: skip


def _add_flags(command: Command, job: Job) -> None:
    spec, gpu = job.spec, job.hardware.gpu
    command.add("--served-model-name", spec.family, because="requests name the model by its family")
    command.add("--host", "127.0.0.1", because="loopback only")
    command.add("--port", job.port, because="port=; else a free one when it runs, vLLM's own in a plan")
    if spec.revision:
        command.add("--revision", spec.revision, because="the revision that the catalogue publishes")
    command.add("--max-model-len", job.context_length, because="context_length=, prompt and output together")
    split, why = parallel.tensor_parallel(spec.shape, job.hardware.gpus or 1)
    if split > 1:
        command.add("--tensor-parallel-size", split, because=why)
    if gpu.compute_capability and tuple(map(int, gpu.compute_capability.split("."))) < _BF16_SINCE:
        why = f"bfloat16 needs compute capability 8.0; this GPU has {gpu.compute_capability}"
        command.add("--dtype", "half", because=why)
    command.set("VLLM_NO_USAGE_STATS", 1, because="nothing is reported to anybody")
    command.set("DO_NOT_TRACK", 1, because="nothing is reported to anybody")
    if spec.hub == "modelscope":
        command.set("VLLM_USE_MODELSCOPE", "True", because="the artefact is on ModelScope")
