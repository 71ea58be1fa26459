"""An engine as somebody else would add one: a module, an entry point, a configuration file."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from xinfer import engines
from xinfer.engines import Job
from xinfer.plan import Command, LaunchPlan
from xinfer.testing import fake_engine


class Settings(engines.Settings, frozen=True, kw_only=True):
    """What ``engine=fake`` takes."""

    behaviour: str = "serve"
    breaks: Literal["plan"] | None = None
    """Where the plugin itself breaks."""


class Fake:
    """Plans the server that the runner is tested with."""

    name = "fake"
    title = "Fake"
    port = 9009
    conf = Path(__file__).parent / "conf"

    def plan(self, job: Job) -> LaunchPlan:
        """Return a plan that needs nothing installed."""
        asked = engines.settings(job, Settings)
        if asked.breaks == "plan":
            raise KeyError("launch")
        command = Command(asked.python or job.python, str(Path(fake_engine.__file__)))
        command.add("--port", job.port, because="port=")
        command.add("--model", job.spec.family, because="requests name the model by its family")
        command.add("--behaviour", asked.behaviour, because="engine.behaviour=")
        command.set("FAKE_PLUGIN", "it's 1", because="a value that a shell must quote")
        command.override(asked.args, asked.env)
        return LaunchPlan(
            engine=self.name, version="0.1", variant="python", port=job.port, model=job.spec.family, **command.parts
        )


class Partial:
    """Lacks what an adapter must have."""

    name = "partial"
