"""What is to be started on this machine: the decision and the plan, with the facts that the profile left open."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import msgspec

from xinfer import flow
from xinfer.errors import Missing, Refused
from xinfer.judging import releases
from xinfer.machine import fingerprint, hardware

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from xinfer.config.compose import Composer
    from xinfer.facts import Hardware
    from xinfer.flow import Planned
    from xinfer.machine.fingerprint import Fingerprint
    from xinfer.plan import LaunchPlan
    from xinfer.spec import Workload

detect = cache(hardware.detect)
"""This machine, read once: a sweep asks for it in every cell."""


@cache
def this_machine() -> Fingerprint:
    """Return what the speed of this machine depends on, read once."""
    return fingerprint.take(detect())


def first(config: Mapping[str, Any], composer: Composer, *, compares: bool = True) -> Planned:
    """Decide and plan for the machine that was asked for, refusals included; ``compares`` as in :func:`flow.plan`."""
    return flow.plan(flow.ask(dict(config), composer, detect=detect), composer, compares=compares)


def here(
    planned: Planned,
    composer: Composer,
    progress: Callable[[str], object],
    *,
    port: int | None,
    capacity: Workload | None = None,
    compares: bool = True,
) -> Planned:
    """Plan again with what this machine adds to the profile; a server that runs already is left as it is.

    ``port`` is what to listen on; null: what was asked for, else the engine's own. ``capacity`` is the most that the
    server must carry; null: the cell's own workload. Raises Refused when the rules say no, Missing when this machine
    is not the one that was asked for.
    """
    check(planned)
    if planned.decision.engine == "external":
        return planned
    asked = planned.ask
    machine = hardware.completed(asked.hardware, detect())
    completed = msgspec.structs.replace(
        asked, hardware=machine, capacity=capacity or asked.workload,
        pack=releases.settled(asked.pack, machine, asked.engine, is_here=True),
    )  # fmt: skip
    planned = flow.plan(completed, composer, port=port, compares=compares)
    need = launched(planned).memory
    if need.fits is False:
        progress(f"warning: needs at least {need.known_gib:.1f} GiB; {need.available_gib:.1f} GiB are available")
    return planned


def check(planned: Planned) -> None:
    """Raise Refused when the rules say no, and Missing when what shall be started is for another machine."""
    launched(planned)
    if planned.decision.engine != "external":
        check_machine(planned.ask.hardware)


def check_machine(asked: Hardware) -> None:
    """Raise Missing when this machine is not the one that was asked for."""
    lacks = hardware.missing(asked, detect())
    if lacks:
        raise Missing(f"this machine lacks what hw={asked.profile} declares: {'; '.join(lacks)}")


def launched(planned: Planned) -> LaunchPlan:
    """Return the launch plan; raise Refused with the rules' reasons where there is none."""
    if planned.launch is None:
        raise Refused(planned.decision.because[0], details=planned.decision.because[1:])
    return planned.launch
