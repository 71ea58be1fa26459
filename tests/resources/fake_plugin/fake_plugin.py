"""An engine as somebody else would add one: a module, an entry point, a configuration file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from xinfer import engines
from xinfer.engines import Job
from xinfer.judging.rules import Source
from xinfer.plan import Artefact, Command, LaunchPlan
from xinfer.planning import artefacts
from xinfer.planning.advice import Advice
from xinfer.testing import fake_engine

if TYPE_CHECKING:
    from collections.abc import Iterator

    from xinfer.planning.advice import Case

FETCH = {
    "write": "import pathlib, sys; d = pathlib.Path(sys.argv[1]); d.mkdir(); (d / 'model').write_bytes(b'x' * 9999)",
    "hang": "import os, sys, time; os.mkdir(sys.argv[1]); open(sys.argv[1] + '/begun', 'w').close(); time.sleep(600)",
    "full": "import os, sys; os.mkdir(sys.argv[1]); sys.exit('OSError: [Errno 28] No space left on device')",
}
"""Programs that fetch a model into a directory, or do not."""


class Settings(engines.Settings, frozen=True, kw_only=True):
    """What ``engine=fake`` takes."""

    behaviour: str = "serve"
    breaks: Literal["plan"] | None = None
    """Where the plugin itself breaks."""
    installs: tuple[tuple[str, ...], ...] = ()
    weights: Literal["write", "hang", "full"] | None = None


class Fake:
    """Plans the server that the runner is tested with."""

    name = "fake"
    title = "Fake"
    port = 9009
    conf = Path(__file__).parent / "conf"
    key_variables: ClassVar[dict[str, str]] = {fake_engine.KEY_VARIABLE: "{key}"}

    def plan(self, job: Job) -> LaunchPlan:
        """Return a plan that needs nothing installed, unless that was asked for."""
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
            engine=self.name, version="0.1", variant="python", port=job.port, model=job.spec.family,
            environment=_environment(asked, job), weights=_weights(asked, job), **command.parts,
        )  # fmt: skip

    def advice(self, case: Case) -> Iterator[Advice]:
        """Say that there are better engines."""
        source = Source(kind="code", title="fake_plugin.py", date="2026-11-22", where="tests/resources/fake_plugin")
        yield Advice(id="fake", text=f"{case.launch.engine} only pretends", override="engine=llama_cpp", source=source)


def _environment(asked: Settings, job: Job) -> Artefact | None:
    if not asked.installs:
        return None
    return artefacts.environment(
        "fake-python-0.1", asked.installs, home=job.home, python=job.python, installer=job.installer
    )


def _weights(asked: Settings, job: Job) -> tuple[Artefact, ...]:
    if asked.weights is None:
        return ()
    path = f"{job.home}/models/fake-{asked.weights}"
    return (Artefact(path=path, steps=((job.python, "-c", FETCH[asked.weights], path),)),)


class Partial:
    """Lacks what an adapter must have."""

    name = "partial"
