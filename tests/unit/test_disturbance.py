"""Whether others used the machine, from counters that are played."""

from __future__ import annotations

import itertools
import resource
import time

import pytest

from xinfer.machine import counters
from xinfer.machine.counters import Counters
from xinfer.machine.disturbance import Disturbance


@pytest.mark.parametrize(
    ("own", "busy_s", "stolen_s", "expected"),
    [
        pytest.param(5.0, 5.0, 0.0, None, id="all-of-it-was-ours"),
        pytest.param(5.0, 6.0, 0.0, None, id="a-twentieth-is-what-a-system-does-for-itself"),
        pytest.param(5.0, 6.2, 0.0, "others used 6% of the machine's CPU time meanwhile", id="more-is-others"),
        pytest.param(5.0, 4.0, 0.0, None, id="ticks-may-miss-a-part-of-ours"),
        pytest.param(5.0, 5.0, 0.1, None, id="little-was-stolen"),
        pytest.param(5.0, 5.0, 0.2, "the host took 3.8% of the CPU time meanwhile", id="more-was-stolen"),
        pytest.param(0.0, 0.0, 0.0, None, id="nothing-happened"),
        pytest.param(5.0, None, None, None, id="not-known"),
    ],
)
def test_ten_seconds_on_two_processors(
    monkeypatch: pytest.MonkeyPatch, own: float, busy_s: float | None, stolen_s: float | None, expected: str | None
) -> None:
    """What the machine did beyond our own work, and what its host took."""
    readings = itertools.chain([Counters(cpus=2, busy_s=100.0, stolen_s=7.0)])
    later = Counters(
        cpus=2,
        busy_s=None if busy_s is None else 100.0 + busy_s,
        stolen_s=None if stolen_s is None else 7.0 + stolen_s,
    )
    monkeypatch.setattr(counters, "read", lambda _: next(readings, later))
    clock, usage = iter((0.0, 10.0)), iter((0.0, 0.0, own / 2, own / 2))
    monkeypatch.setattr(time, "perf_counter", lambda: next(clock))
    monkeypatch.setattr(resource, "getrusage", lambda _: _Used(next(usage)))
    assert Disturbance().said() == expected


class _Used:
    ru_stime = 0.0

    def __init__(self, ru_utime: float) -> None:
        self.ru_utime = ru_utime


def test_this_process_does_not_disturb_itself() -> None:
    """The counters are this machine's own, and what is said is a phrase or nothing."""
    watch = Disturbance()
    sum(range(10**6))
    said = watch.said()
    assert said is None or said.endswith(" of the machine's CPU time meanwhile") or said.startswith("the host took")
