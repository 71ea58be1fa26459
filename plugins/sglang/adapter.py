"""SGLang: its OpenAI server on CUDA."""

from __future__ import annotations

from pathlib import Path

from xinfer import artefacts, parallel, requirement
from xinfer.engines import Job, Settings, settings
from xinfer.errors import ConfigError
from xinfer.plan import Command, LaunchPlan

_HERE = Path(__file__).parent
_HUBS = ("huggingface", "modelscope")


class Sglang:
    """The adapter of SGLang."""

    name = "sglang"
    title = "SGLang"
    port = 30000
    conf = _HERE / "conf"

    def plan(self, job: Job) -> LaunchPlan:
        """Plan ``sglang.launch_server`` in an environment of its own."""
        asked = settings(job, Settings)
        variant = requirement.variant_of(job.hardware)
        engine = requirement.provide(_HERE / "requirements.yaml", asked, job, variant)
        if job.spec.hub not in _HUBS:
            raise ConfigError(f"sglang loads from {' or '.join(_HUBS)}, not {job.spec.hub}; say model.hub=huggingface")
        command = Command(engine.python, "-m", "sglang.launch_server")
        _add_flags(command, job)
        command.override(asked.args, asked.env)
        return LaunchPlan(
            engine=self.name, version=engine.version, variant=engine.variant, environment=engine.environment,
            port=job.port, model=job.spec.family, request={"ignore_eos": True}, device="gpu", **command.parts,
        )  # fmt: skip


def _add_flags(command: Command, job: Job) -> None:
    spec = job.spec
    command.add("--model-path", artefacts.repository(spec), because="the artefact's id on its hub")
    command.add("--served-model-name", spec.family, because="requests name the model by its family")
    command.add("--host", "127.0.0.1", because="loopback only")
    command.add("--port", job.port, because="port=; else a free one when it runs, SGLang's own in a plan")
    if spec.revision:
        command.add("--revision", spec.revision, because="the revision that the catalogue publishes")
    command.add("--context-length", job.context_length, because="context_length=, prompt and output together")
    split, why = parallel.tensor_parallel(spec.shape, job.hardware.gpus or 1)
    if split > 1:
        command.add("--tp-size", split, because=why)
    command.add("--enable-metrics", because="the server's own counters, beside what the client sees")
    if spec.hub == "modelscope":
        command.set("SGLANG_USE_MODELSCOPE", "true", because="the artefact is on ModelScope")
