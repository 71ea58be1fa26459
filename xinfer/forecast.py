"""A plan's expected speed, from what is kept on this machine: its ceilings, and the records of earlier runs."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from xinfer import flow, history
from xinfer.planning import bound, prediction
from xinfer.planning.bound import Tops

if TYPE_CHECKING:
    from xinfer.facts import Hardware
    from xinfer.flow import Planned
    from xinfer.plan import LaunchPlan
    from xinfer.planning.prediction import Past

MOST = 100
"""How many records are read, the newest first: a plan is not to wait for its past."""


def foreseen(planned: Planned) -> Planned:
    """Return a plan with its expected speed; one that starts nothing is left as it is. Nothing is measured."""
    launch, asked = planned.launch, planned.ask
    if launch is None or launch.engine == "external":
        return planned
    tops = _tops(launch, asked.hardware, flow.home(asked.config))
    pasts = _pasts(Path(asked.config["runs"]).expanduser())
    found = prediction.predict(planned.decision.spec, launch, asked.workload, tops, pasts)
    return msgspec.structs.replace(planned, predicted=found)


@cache
def _pasts(runs: Path) -> tuple[Past, ...]:
    """Read the newest records once: a sweep plans many cells before it measures any."""
    return tuple(history.recent(runs, MOST)) if runs.is_dir() else ()


def _tops(launch: LaunchPlan, hardware: Hardware, home: Path) -> Tops:
    """Return what was measured on this machine, if it is the one that is planned for; else what is published."""
    if hardware.cpu is not None and (home / "ceilings").is_dir():
        from xinfer.measuring import ceilings, placing  # noqa: PLC0415 -- of use only where something is kept

        found = ceilings.measured(hardware, home, launch=launch, cores=placing.left_to_the_server(), progress=None)
        if found.bandwidth is not None and found.source == "measured":
            return Tops(bandwidth=found.bandwidth, flops=found.flops)
    return bound.published(hardware, launch)
