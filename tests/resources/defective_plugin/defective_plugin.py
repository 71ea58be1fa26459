"""Engines that break xinfer's contract, each in one way: ``engine=defective engine.defect=two-usages``."""

from __future__ import annotations

import itertools
from pathlib import Path

from xinfer import engines
from xinfer.engines import Job
from xinfer.errors import ConfigError
from xinfer.plan import Command, LaunchPlan

HERE = Path(__file__).parent
TEXT = HERE.parent / "third_party_plugin" / "xinfer_markov" / "capitals.txt"
NUMBERS = itertools.count()


class Settings(engines.Settings, frozen=True, kw_only=True):
    """What ``engine=defective`` takes."""

    defect: str | None = None


class Defective:
    """Serves well but for its defect, which is the plan's or the server's."""

    name = "defective"
    title = "Defective"
    port = 9010
    conf = HERE / "conf"

    def plan(self, job: Job) -> LaunchPlan:
        """Return a plan that needs nothing installed."""
        asked = engines.settings(job, Settings)
        defect = asked.defect or "none"
        if defect == "refuses-another-machine" and job.hardware.profile != "auto":
            raise ConfigError("this engine has no build for that machine")
        command = Command(asked.python or job.python, str(HERE / "defective_server.py"))
        command.add("--model", TEXT, because="the text")
        command.add("--port", job.port, because="port=")
        command.add("--defect", defect, because="engine.defect=")
        _add_defect(command, defect)
        command.override({} if defect == "drops-the-users-flags" else asked.args, asked.env)
        return _launch(self.name, job, command, defect)


def _add_defect(command: Command, defect: str) -> None:
    match defect:
        case "plans-anew":
            command.set("NUMBER", next(NUMBERS), because="it counts")
        case "depends-on-hashes":
            command.set("WORDS", ",".join({"one", "two", "three", "four", "five", "six"}), because="a set's order")
        case "flag-without-a-reason":
            command.add("--words", 4, because="")
        case "variable-without-a-reason":
            command.set("QUIET", 1, because=" ")
        case "variable-that-is-none":
            command.set("TWO WORDS", 1, because="a shell takes it for two")
        case "word-of-two-lines":
            command.set("LINES", "one\ntwo", because="a shell line ends where it should not")


def _launch(name: str, job: Job, command: Command, defect: str) -> LaunchPlan:
    parts = command.parts
    if defect == "reason-for-nothing":
        parts["because"] |= {"--gone": "once there was a flag"}
    return LaunchPlan(
        engine=name, version=None, variant="cpu", port=job.port, model="markov", request={"ignore_eos": True}, **parts
    )


class Unruly(Defective):
    """Brings rules that cannot be read."""

    name = "unruly"


class Lawless(Defective):
    """Brings no rules at all."""

    name = "lawless"
