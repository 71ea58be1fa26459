"""What was seen of a server and its machine, added up over a part of the time; by arithmetic alone.

Of two looks or surveys between which the part lies, the nearest outside it count, so that nothing of it is missed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import msgspec

if TYPE_CHECKING:
    from collections.abc import Sequence

NS = 1_000_000_000


class Look(msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag="look"):
    """The server's processes and the devices at one instant."""

    t_ns: int
    """Of the clock of all stamps, ``time.perf_counter_ns``."""
    rss: int
    """Resident bytes of all processes; shared pages count once for each."""
    cpu_s: float
    """CPU time since the first look, of all processes, those that have ended too."""
    vram: tuple[int | None, ...] = ()
    """Bytes in use of each device's memory, by everybody."""
    busy: tuple[float | None, ...] = ()
    """How busy each device is, from 0 to 1."""


class Survey(msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag="survey"):
    """The whole machine at one instant; totals are counted from any time before."""

    t_ns: int
    ours_s: float
    """CPU time of the server, the client and xinfer itself."""
    cpus: int | None = None
    busy_s: float | None = None
    """CPU time of all processes on the machine."""
    stolen_s: float | None = None
    throttles: int | None = None
    held_s: float | None = None
    frequency_ghz: float | None = None
    cpu_joules: float | None = None
    gpu_joules: float | None = None
    slowed: tuple[str, ...] = ()
    server_cores: tuple[int, ...] | None = None
    """The cores that any process of the server may run on; null where the system does not tell."""


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that was seen."""

    peak_rss: int | None = None
    pss: int | None = None
    cost_s: float = 0.0
    own_cores: tuple[int, ...] | None = None
    """The cores that xinfer itself may run on."""
    looks: tuple[Look, ...] = ()
    surveys: tuple[Survey, ...] = ()


class Resources(msgspec.Struct, frozen=True, kw_only=True):
    """What was used; null where this machine does not tell."""

    seconds: float
    """The length of the part that is added up."""
    cpu_s: float | None = None
    """CPU time of the server's processes, those that ended meanwhile too."""
    peak_rss: int | None = None
    """Sum of each process's highest resident size since it started, in bytes; shared pages count once for each."""
    peak_rss_together: int | None = None
    """The highest sum at one instant of this part, counted likewise."""
    pss: int | None = None
    """With shared pages counted once, before or after the load, whichever is more."""
    peak_vram: int | None = None
    """Bytes in use of all devices' memory together, at most, by everybody."""
    gpu_busy: float | None = None
    """The part of the time in which the devices computed, on average."""
    cpu_joules: float | None = None
    """Energy of the whole machine's processors and memory."""
    gpu_joules: float | None = None
    joules: float | None = None
    """Both; null unless both are known, or there is no device."""
    frequency_ghz: float | None = None
    """Of the processor, on average."""
    others_share: float | None = None
    """The part of the machine's CPU time that processes took which are neither the server nor xinfer's."""
    stolen_share: float | None = None
    """The part of the wanted CPU time in which the host of this virtual machine ran others."""
    throttles: int | None = None
    """How often cores were slowed down because of heat."""
    held_share: float | None = None
    """The part of the time for which a CPU quota kept this process's group from running."""
    slowed: tuple[str, ...] = ()
    """Why devices were slowed down; their power limit does not count."""
    server_cores: tuple[int, ...] | None = None
    """The cores that the server's processes may run on."""
    own_cores: tuple[int, ...] | None = None
    """Those that xinfer may run on, and so a client that keeps to none."""
    load_per_core: float | None = None
    """The load average of the last minute before the server was started, over the cores; our own work counts too."""
    cost: float | None = None
    """What looking has cost, in parts of one core."""


def summarize(seen: Record, since_ns: int, until_ns: int) -> Resources:
    """Add up what was used from one instant to another."""
    looks, surveys = _around(seen.looks, since_ns, until_ns), _around(seen.surveys, since_ns, until_ns)
    watched_s = (seen.looks[-1].t_ns - seen.looks[0].t_ns) / NS if seen.looks else 0.0
    used = Resources(
        seconds=max(0, until_ns - since_ns) / NS,
        peak_rss=max((seen.peak_rss or 0, *(look.rss for look in seen.looks))) or None,
        pss=seen.pss,
        own_cores=seen.own_cores,
        cost=seen.cost_s / watched_s if watched_s else None,
    )
    if len(looks) > 1:
        used = msgspec.structs.replace(used, **_of_server(looks))
    return msgspec.structs.replace(used, **_of_machine(surveys, looks)) if len(surveys) > 1 else used


_Seen = TypeVar("_Seen", Look, Survey)


def _around(seen: Sequence[_Seen], since_ns: int, until_ns: int) -> Sequence[_Seen]:
    """Return what was seen in a part of the time, and the nearest before and after it."""
    first = max((i for i, each in enumerate(seen) if each.t_ns <= since_ns), default=0)
    last = min((i for i, each in enumerate(seen) if each.t_ns >= until_ns), default=len(seen) - 1)
    return seen[first : last + 1]


def _of_server(looks: Sequence[Look]) -> dict[str, object]:
    together = [sum(known) for look in looks if (known := [v for v in look.vram if v is not None])]
    busy = [value for look in looks[1:] for value in look.busy if value is not None]
    return {
        "seconds": (looks[-1].t_ns - looks[0].t_ns) / NS,
        "cpu_s": round(looks[-1].cpu_s - looks[0].cpu_s, 3),
        "peak_rss_together": max(look.rss for look in looks) or None,
        "peak_vram": max(together, default=None),
        "gpu_busy": _mean(busy),
    }


def _of_machine(surveys: Sequence[Survey], looks: Sequence[Look]) -> dict[str, object]:
    seconds = (surveys[-1].t_ns - surveys[0].t_ns) / NS
    cpus, busy_s, stolen_s = surveys[-1].cpus, _grown(surveys, "busy_s"), _grown(surveys, "stolen_s")
    ours_s = surveys[-1].ours_s - surveys[0].ours_s
    wanted_s = None if busy_s is None or stolen_s is None else busy_s + stolen_s
    cpu_joules, gpu_joules = _grown(surveys, "cpu_joules"), _grown(surveys, "gpu_joules")
    has_devices = any(look.vram for look in looks)
    throttles = _grown(surveys, "throttles")
    return {
        "others_share": None if busy_s is None or not cpus else max(0.0, busy_s - ours_s) / (seconds * cpus),
        "stolen_share": None if stolen_s is None or not wanted_s else stolen_s / wanted_s,
        "throttles": None if throttles is None else int(throttles),
        "held_share": None if (held_s := _grown(surveys, "held_s")) is None else held_s / seconds,
        "frequency_ghz": _mean([s.frequency_ghz for s in surveys if s.frequency_ghz is not None]),
        "cpu_joules": cpu_joules,
        "gpu_joules": gpu_joules,
        "joules": _both(cpu_joules, gpu_joules, has_devices=has_devices),
        "server_cores": next((s.server_cores for s in reversed(surveys) if s.server_cores), None),
        "slowed": tuple(dict.fromkeys(reason for survey in surveys for reason in survey.slowed)),
    }


def _grown(surveys: Sequence[Survey], counter: str) -> float | None:
    """Return by how much a counter has grown; null where it was not read at either end."""
    first, last = getattr(surveys[0], counter), getattr(surveys[-1], counter)
    return None if first is None or last is None else last - first


def _both(cpu: float | None, gpu: float | None, *, has_devices: bool) -> float | None:
    if cpu is None or (gpu is None and has_devices):
        return None
    return cpu + (gpu or 0.0)


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None
