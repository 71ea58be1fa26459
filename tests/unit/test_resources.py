"""What a tree of processes has used, read from real processes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from xinfer.measuring.resources import Usage, usage

HUNGRY = """
block = bytearray(200 * 2**20)
block[::4096] = b"x" * len(block[::4096])
del block
print("done", flush=True)
input()
"""
MIB = 2**20


def test_this_process_has_used_something() -> None:
    """Both in memory and in time, and neither can shrink."""
    before = usage([os.getpid()])
    sum(range(10**6))
    after = usage([os.getpid()])
    assert before.peak_rss is not None
    assert before.cpu_s is not None
    assert after.peak_rss is not None
    assert after.cpu_s is not None
    assert after.peak_rss >= before.peak_rss > MIB
    assert after.cpu_s > before.cpu_s > 0


def test_the_peak_is_remembered_after_the_memory_is_given_back() -> None:
    """A server's weights may be read through a buffer that is gone when it is asked; only Linux keeps the mark."""
    with subprocess.Popen([sys.executable, "-c", HUNGRY], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        peak = usage([process.pid]).peak_rss
        now = psutil.Process(process.pid).memory_info().rss
        process.communicate(b"\n")
    assert peak is not None
    assert now < 150 * MIB
    assert (200 * MIB < peak < 300 * MIB) if sys.platform == "linux" else (peak < 150 * MIB)


def test_several_processes_are_added_up() -> None:
    """One that has ended counts nothing; if all have, nothing is known."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        one, both = usage([os.getpid()]), usage([os.getpid(), process.pid])
        process.communicate(b"\n")
    assert one.peak_rss is not None
    assert both.peak_rss is not None
    assert both.peak_rss > one.peak_rss
    assert usage([process.pid]) == Usage(None, None)
    assert usage([]) == Usage(None, None)
    assert usage([os.getpid(), process.pid]).peak_rss is not None


def test_without_a_mark_what_is_resident_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Other systems have no /proc."""

    def refuse(*_: object, **__: object) -> str:
        raise FileNotFoundError

    monkeypatch.setattr(Path, "read_text", refuse)
    found = usage([os.getpid()]).peak_rss
    assert found is not None
    assert found == pytest.approx(psutil.Process().memory_info().rss, rel=0.2)
