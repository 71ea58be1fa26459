"""What xinfer must know to run the Markov chain."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec

from xinfer import engines
from xinfer.engines import Job
from xinfer.plan import Command, LaunchPlan
from xinfer.planning import requirement

HERE = Path(__file__).parent


class Settings(engines.Settings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The keys of ``conf/engine/markov.yaml``."""

    words: Annotated[int, msgspec.Meta(ge=1)] = 4


class Markov:
    """The adapter; its entry point is named as the engine is."""

    name = "markov"
    title = "Markov chain"
    port = 8090
    conf = HERE / "conf"

    def plan(self, job: Job) -> LaunchPlan:
        """Return the launch plan: data only, the same for the same job."""
        asked = engines.settings(job, Settings)
        # The chain uses no GPU, so that one set of requirements is right everywhere; see requirement.variant_of.
        provided = requirement.provide(HERE / "requirements.yaml", asked, job, "cpu")
        text = HERE / str(job.spec.id)
        command = Command(provided.python, str(HERE / "server.py"))
        command.add("--model", text, because=f"the text of {job.spec.family}, which comes with the plugin")
        command.add("--served-model-name", job.spec.family, because="requests name the model by its family")
        command.add("--host", "127.0.0.1", because="loopback only")
        command.add("--port", job.port, because="port=; else a free one when it runs, the engine's own in a plan")
        command.add("--words", asked.words, because="engine.words=")
        command.override(asked.args, asked.env)
        return LaunchPlan(
            engine=self.name, version=provided.version, variant=provided.variant, environment=provided.environment,
            port=job.port, model=job.spec.family, request={"ignore_eos": True}, **command.parts,
        )  # fmt: skip
