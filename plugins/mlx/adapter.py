"""MLX-LM: ``mlx_lm server`` on Apple silicon."""

from __future__ import annotations

from pathlib import Path

from xinfer import artefacts, requirement
from xinfer.engines import Job, Settings, settings
from xinfer.errors import ConfigError
from xinfer.plan import Command, LaunchPlan

_HERE = Path(__file__).parent


class Mlx:
    """The adapter of MLX-LM."""

    name = "mlx"
    title = "MLX"
    port = 8080
    conf = _HERE / "conf"

    def plan(self, job: Job) -> LaunchPlan:
        """Plan ``mlx_lm server`` in an environment of its own."""
        asked = settings(job, Settings)
        variant = requirement.variant_of(job.hardware)
        engine = requirement.provide(_HERE / "requirements.yaml", asked, job, variant)
        if job.spec.hub != "huggingface":
            raise ConfigError(f"mlx loads from Hugging Face, not {job.spec.hub}; say model.hub=huggingface")
        model = artefacts.repository(job.spec)
        command = Command(engine.python, "-m", "mlx_lm", "server")
        command.add("--model", model, because="the artefact's id on its hub")
        command.add("--host", "127.0.0.1", because="loopback only")
        command.add("--port", job.port, because="port=; else a free one when it runs, mlx_lm's own in a plan")
        command.override(asked.args, asked.env)
        note = "mlx_lm server has no ignore_eos: outputs may end early, and are flagged when they do"
        return LaunchPlan(
            engine=self.name, version=engine.version, variant=engine.variant, environment=engine.environment,
            port=job.port, model=model, notes=(note,), device="gpu", **command.parts,
        )  # fmt: skip
