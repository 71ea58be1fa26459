"""A watch over real processes, and over devices that are played."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import psutil
import pytest

from xinfer import guard
from xinfer.machine import counters, devices
from xinfer.machine.devices import Device, Reading
from xinfer.measuring import resources, usage
from xinfer.measuring.usage import Look

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from xinfer.machine.devices import Card

MIB = 2**20
BUSY = """
import subprocess, sys
block = b"x" * (120 * 2**20)
del block
subprocess.run([sys.executable, "-c", "sum(range(8 * 10**6))"])
sum(range(8 * 10**6))
print("done", flush=True)
input()
"""


def test_a_tree_is_watched_to_its_end(tmp_path: Path) -> None:
    """Its memory at its highest, and the time of its child, which nobody saw alive perhaps."""
    with subprocess.Popen([sys.executable, "-c", BUSY], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        since = time.perf_counter_ns()
        before = os.times()
        with resources.watching(lambda: (process.pid, *guard.tree(guard.processes(), process.pid))) as watch:
            process.stdout.readline()
        used = usage.summarize(watch.seen, since, time.perf_counter_ns())
        process.communicate(b"\n")
    whole = os.times().children_user + os.times().children_system
    spent = whole - before.children_user - before.children_system
    assert used.cpu_s is not None
    assert 0.5 * spent < used.cpu_s <= spent + 0.02
    assert (used.peak_rss or 0) > 120 * MIB
    assert (used.peak_rss or 0) >= (used.peak_rss_together or 0) > MIB
    assert used.others_share is not None
    assert 0 <= used.others_share <= 1
    assert used.cost is not None
    assert used.cost < 0.5
    resources.write(watch.seen, tmp_path / "resources.jsonl")
    head, *rest = (tmp_path / "resources.jsonl").read_bytes().splitlines()
    assert msgspec.json.decode(head)["resources"]["peak_rss"] == used.peak_rss
    looks = [msgspec.json.decode(line, type=Look | usage.Survey) for line in rest]
    assert [look for look in looks if isinstance(look, Look)] == list(watch.seen.looks)
    assert [look for look in looks if not isinstance(look, Look)] == list(watch.seen.surveys)


def test_looks_and_surveys_are_in_order() -> None:
    """The first before the body, the last after it; in between, many."""
    since = time.perf_counter_ns()
    with resources.watching(lambda: [os.getpid()]) as watch:
        inside = time.perf_counter_ns()
        while len(watch.seen.looks) < 4:
            time.sleep(0.05)
    stamps = [look.t_ns for look in watch.seen.looks]
    assert since < stamps[0] < inside < stamps[-1] < time.perf_counter_ns()
    assert stamps == sorted(stamps)
    assert len(watch.seen.surveys) >= 2


def test_an_error_ends_the_watch() -> None:
    """Its thread does not outlive the body."""
    with pytest.raises(KeyError), resources.watching(tuple) as watch:
        raise KeyError
    assert not watch._thread.is_alive()
    assert watch.seen.looks[-1].rss == 0


def test_a_look_that_fails_is_one_look_less() -> None:
    """Whoever measures is not told of it, and the next is tried."""
    calls: list[int] = []

    def pids() -> tuple[int, ...]:
        calls.append(1)
        if len(calls) > 1:
            raise OSError("too many open files")
        return (os.getpid(),)

    with resources.watching(pids) as watch:
        while len(calls) < 2:
            time.sleep(0.05)
    assert len(calls) == 3
    assert len(watch.seen.surveys) == 1
    assert watch.seen.looks[-1].rss > MIB


def test_a_system_whose_counters_are_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """What all processes use, psutil tells on every system."""
    monkeypatch.setattr(counters, "read", lambda *_: counters.Counters())
    with resources.watching(tuple) as watch:
        sum(range(3 * 10**6))
    first, *_, last = watch.seen.surveys
    assert first.cpus == psutil.cpu_count()
    assert first.busy_s is not None
    assert last.busy_s is not None
    assert last.busy_s >= first.busy_s > 0
    assert first.stolen_s is None


class Played:
    """A device that fills up and gives back."""

    def __init__(self, *used: int | None) -> None:
        self._used, self._at = used, 0

    def facts(self) -> Device:
        return Device(vendor="nvidia")

    def read(self) -> Reading:
        self._at = min(self._at + 1, len(self._used))
        return Reading(used_bytes=self._used[self._at - 1], busy=0.5, joules=10.0 * self._at, slowed=("heat",))


def test_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    """Their memory at its highest, their energy as a difference, and why they were slowed down."""

    @contextmanager
    def opened(*_: object) -> Iterator[Sequence[Card]]:
        yield [Played(10, 20, 99, 50), Played(None)]

    monkeypatch.setattr(devices, "opened", opened)
    since = time.perf_counter_ns()
    with resources.watching(tuple) as watch:
        while len(watch.seen.looks) < 3:
            time.sleep(0.02)
    used = usage.summarize(watch.seen, since, time.perf_counter_ns())
    assert (used.peak_vram, used.gpu_busy, used.slowed) == (99, 0.5, ("heat",))
    assert (used.gpu_joules or 0) > 0


def test_memory_grows_no_further(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a long run each two looks become one, which keeps the higher memory, and the next come half as often."""
    monkeypatch.setattr(resources, "MOST", 4)
    watch = resources.Watch(tuple, [], Path("/"))
    for _ in range(20):
        watch._look()
    assert len(watch.seen.looks) <= 4
    assert watch._interval_s > resources.INTERVAL_S


def test_two_looks_become_one() -> None:
    """Memory at its higher, time as it was later."""
    first = Look(t_ns=1, rss=9, cpu_s=1.0, vram=(5, None, 1), busy=(0.1, None, None))
    second = Look(t_ns=2, rss=7, cpu_s=2.0, vram=(4, None, None), busy=(0.2, 0.3, None))
    assert resources.merged(first, second) == Look(
        t_ns=2, rss=9, cpu_s=2.0, vram=(5, None, 1), busy=(0.2, 0.3, None)
    )  # fmt: skip
