"""Engines that are one and the same, but for the dialect and the flaws that their configuration gives them."""

from __future__ import annotations

from pathlib import Path

from xinfer import engines
from xinfer.engines import Job
from xinfer.plan import Command, LaunchPlan

TWIN = str(Path(__file__).with_name("twin.py"))


class Settings(engines.Settings, frozen=True, kw_only=True):
    """What each of them takes."""

    dialect: str = "vllm"
    flaw: str = "none"
    scorer: str = "right"


class Alpha:
    """The first of them."""

    name = "alpha"
    title = "Alpha"
    port = 9010
    conf = Path(__file__).parent / "conf"

    def plan(self, job: Job) -> LaunchPlan:
        """Return a plan that needs nothing installed."""
        asked = engines.settings(job, Settings)
        command = Command(job.python, TWIN)
        for name, value in (("--port", job.port), ("--dialect", asked.dialect), ("--flaw", asked.flaw)):
            command.add(name, value, because="it is a test")
        command.set("TWIN", self.name, because="it is a test")
        scorers = {"right": (job.python, TWIN, "--score"), "broken": (job.python, "-c", "raise SystemExit('no torch')")}
        scorers["silent"] = (job.python, "-c", "pass")
        return LaunchPlan(
            engine=self.name, version="0.1", variant="python", port=job.port, model=job.spec.family,
            dtype=job.dtype, scorer=scorers.get(asked.scorer, ()), **command.parts,
        )  # fmt: skip


class Beta(Alpha):
    """The second."""

    name = "beta"
    title = "Beta"
    port = 9011


class Gamma(Alpha):
    """One that the rules refuse."""

    name = "gamma"
    title = "Gamma"
    port = 9012
