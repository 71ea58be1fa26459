"""What processes have used, read from real ones, and the account that outlives them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from xinfer.measuring import processes
from xinfer.measuring.processes import Account, Id, Reading

HUNGRY = """
block = bytearray(200 * 2**20)
block[::4096] = b"x" * len(block[::4096])
del block
print("done", flush=True)
input()
"""
MIB = 2**20
PAGE, TICK = os.sysconf("SC_PAGE_SIZE"), os.sysconf("SC_CLK_TCK")


def test_this_process_is_read() -> None:
    """Its time grows, its memory is there, and it keeps its identity."""
    (first,) = processes.read([os.getpid()])
    before = processes.read([os.getpid()])[first]
    sum(range(3 * 10**6))
    after = processes.read([os.getpid()])[first]
    assert after.own_s > before.own_s > 0
    assert after.rss > MIB
    assert first[0] == os.getpid()


def test_a_name_may_contain_anything() -> None:
    """The fields are counted from its end."""
    fields = ["S", "1", "1", "1", "0", "-1", "0", "0", "0", "0", "0", *(str(n * TICK) for n in (1, 2, 3, 4))]
    fields += ["20", "0", "1", "0", "777", "5000", "6"]
    started, reading = processes.parse(f"12 (a) b) 9 9) {' '.join(fields)}".encode())
    assert (started, reading) == (777, Reading(3.0, 7.0, 6 * PAGE))


def test_what_has_ended_is_not_read() -> None:
    """It is left out, and nothing is raised."""
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    assert processes.read([process.pid]) == {}
    assert processes.peak_rss([process.pid]) is None
    assert processes.pss([process.pid]) is None
    assert processes.cores([process.pid]) is None


def test_the_peak_is_remembered_after_the_memory_is_given_back() -> None:
    """A server's weights may be read through a buffer that is gone when it is asked; only Linux keeps the mark."""
    with subprocess.Popen([sys.executable, "-c", HUNGRY], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        peak = processes.peak_rss([process.pid])
        both = processes.peak_rss([process.pid, os.getpid()])
        now = psutil.Process(process.pid).memory_info().rss
        process.communicate(b"\n")
    assert peak is not None
    assert both is not None
    assert now < 150 * MIB
    assert (200 * MIB < peak < 300 * MIB) if sys.platform == "linux" else (peak < 150 * MIB)
    assert both > peak + MIB


def test_without_a_mark_what_is_resident_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Other systems have no /proc."""

    def refuse(*_: object, **__: object) -> str:
        raise FileNotFoundError

    monkeypatch.setattr(Path, "read_text", refuse)
    assert processes.peak_rss([os.getpid()]) == pytest.approx(psutil.Process().memory_info().rss, rel=0.2)
    assert processes.pss([os.getpid()]) is None


def test_another_system_is_read_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """With psutil, which knows no time of ended children."""
    monkeypatch.setattr(processes, "_IS_LINUX", False)
    ((pid, _), found), *_ = processes.read([os.getpid()]).items()
    times = psutil.Process().cpu_times()
    assert (pid, found.reaped_s) == (os.getpid(), 0.0)
    assert found.own_s == pytest.approx(times.user + times.system, rel=0.2)


def test_shared_pages_count_once() -> None:
    """So a process weighs no more than what is resident; only Linux tells."""
    found = processes.pss([os.getpid()])
    assert found is None if sys.platform != "linux" else 0 < (found or 0) <= psutil.Process().memory_info().rss


def test_what_may_not_be_weighed_is_not_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """A sum without one of its parts is none."""

    def refuse(*_: object, **__: object) -> str:
        raise PermissionError

    monkeypatch.setattr(Path, "read_text", refuse)
    assert processes.pss([os.getpid()]) is None


def test_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that any of the processes may run on."""
    places = {1: {0, 1}, 2: {1, 5}}
    monkeypatch.setattr(os, "sched_getaffinity", places.__getitem__, raising=False)
    assert processes.cores([1, 2]) == (0, 1, 5)
    monkeypatch.delattr(os, "sched_getaffinity")
    assert processes.cores([1]) is None


PARENT, CHILD, OTHER = (10, 1), (11, 2), (11, 3)


def account(*steps: dict[Id, tuple[float, float]]) -> list[float]:
    made = Account()
    return [round(made.add({one: Reading(own, reaped, 0) for one, (own, reaped) in step.items()}), 6) for step in steps]


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        pytest.param([{PARENT: (5, 2)}, {PARENT: (6, 2)}], [0, 1], id="what-was-before-does-not-count"),
        pytest.param([{PARENT: (5, 0)}, {PARENT: (5, 0), CHILD: (2, 0)}], [0, 2], id="all-of-a-new-one-counts"),
        pytest.param(
            [{PARENT: (5, 0), CHILD: (3, 0)}, {PARENT: (5, 0), CHILD: (4, 0)}, {PARENT: (5, 4.5)}],
            [0, 1, 1.5],
            id="an-ended-child-to-its-last-moment",
        ),
        pytest.param([{PARENT: (5, 0)}, {PARENT: (5, 0.7)}], [0, 0.7], id="one-that-was-never-seen"),
        pytest.param(
            [{PARENT: (5, 0), CHILD: (3, 0)}, {PARENT: (5, 0), CHILD: (4, 0)}, {PARENT: (6, 0)}],
            [0, 1, 2],
            id="one-that-nobody-waited-for",
        ),
        pytest.param([{PARENT: (5, 0)}, {PARENT: (7, 0)}, {}], [0, 2, 2], id="all-have-ended"),
        pytest.param(
            [{PARENT: (0, 0), CHILD: (1, 0)}, {PARENT: (0, 1), OTHER: (0.5, 0)}], [0, 0.5], id="a-number-is-given-again"
        ),
        pytest.param(
            [{PARENT: (0, 0)}, {PARENT: (0, 0), CHILD: (1, 2)}, {PARENT: (0, 3.5)}], [0, 3, 3.5], id="a-grandchild-once"
        ),
        pytest.param([{}, {PARENT: (1, 0)}], [0, 1], id="nothing-at-first"),
    ],
)
def test_the_account(steps: list[dict[Id, tuple[float, float]]], expected: list[float]) -> None:
    """The CPU seconds since the first reading, whoever ended meanwhile; they never shrink."""
    assert account(*steps) == expected
