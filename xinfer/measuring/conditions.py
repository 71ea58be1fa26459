"""Under which conditions a run was measured: on which machine, how far from its limits, and what it used of it.

Taken before the server starts, so that the machine's ceilings are found while it has nothing else to do.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from xinfer.machine import fingerprint
from xinfer.machine.fingerprint import Fingerprint
from xinfer.measuring import ceilings, placing, roofline, tensors, usage, work
from xinfer.measuring.ceilings import Ceilings
from xinfer.measuring.metrics import Metrics
from xinfer.measuring.roofline import Limits
from xinfer.measuring.usage import Resources
from xinfer.measuring.work import Tensor
from xinfer.running import weights

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from xinfer.catalog import Spec
    from xinfer.facts import Hardware
    from xinfer.measuring.samples import Samples
    from xinfer.plan import LaunchPlan
    from xinfer.running.server import Startup
    from xinfer.spec import Workload


class Conditions(NamedTuple):
    """What was known before the start."""

    machine: Fingerprint
    ceilings: Ceilings | None
    """Null where nothing could be said by them."""
    tensors: tuple[Tensor, ...] | None
    load_per_core: float | None
    """The machine's load average of the last minute, our own earlier work included."""


def take(
    spec: Spec, launch: LaunchPlan, hardware: Hardware, home: Path, progress: Callable[[str], object]
) -> Conditions:
    """Look at the machine and at the weights; the ceilings are measured if they are not kept from an earlier run."""
    load = os.getloadavg()[0] / hardware.cores if hardware.cores and hasattr(os, "getloadavg") else None
    machine = fingerprint.take(hardware)
    found = tensors.read(weights.files(launch))
    is_known = launch.engine != "external" and not isinstance(work.weights(spec, found, launch.dtype), str)
    if not is_known:
        return Conditions(machine, None, found, load)
    cores = placing.left_to_the_server()
    known = ceilings.measured(hardware, home, launch=launch, machine=machine, cores=cores, progress=progress)
    return Conditions(machine, known, found, load)


def used(conditions: Conditions, seen: usage.Record, span: tuple[int, int], *, is_ours: bool) -> Resources:
    """Add up what was used between two stamps; of a server that is not ours, only the machine tells."""
    found = usage.summarize(seen, *span)
    found = msgspec.structs.replace(found, load_per_core=conditions.load_per_core)
    if is_ours:
        return found
    # A server that somebody else has started may be one of the others.
    return msgspec.structs.replace(found, cpu_s=None, peak_rss=None, peak_rss_together=None, others_share=None)


def completed(metrics: Metrics, resources: Resources, startup: Startup | None) -> Metrics:
    """Return a run's numbers with those of its server."""
    return msgspec.structs.replace(
        metrics,
        ready_s=startup and startup.ready_s,
        first_request_s=startup and startup.first_request_s,
        peak_rss=resources.peak_rss,
        peak_vram=resources.peak_vram,
        cpu_s=resources.cpu_s,
        joules=resources.joules,
    )


def limits(
    conditions: Conditions, metrics: Metrics, spec: Spec, launch: LaunchPlan, workload: Workload, samples: Samples
) -> Limits:
    """Return how far a run is from the machine's limits."""
    lengths = roofline.lengths(samples.measured, prompt=workload.input_tokens, output=workload.output_tokens)
    known = conditions.ceilings or Ceilings(device=launch.device)
    return roofline.distance(metrics, spec, launch, lengths, known, tensors=conditions.tensors)


def recorded(
    conditions: Conditions, resources: Resources, limits: Limits | None, startup: Startup | None
) -> dict[str, dict[str, Any] | None]:
    """Return what goes into the record: the machine, what was used of it, its ceilings and how far they are."""
    parts = {
        "machine": conditions.machine,
        "resources": resources,
        "ceilings": conditions.ceilings,
        "limits": limits,
        "startup": startup and {**msgspec.structs.asdict(startup), "kind": startup.kind},
    }
    return {name: msgspec.to_builtins(part) for name, part in parts.items()}
