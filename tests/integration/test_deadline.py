"""Time-outs of a stage: whatever it waits for is ended with it, and nothing rings afterwards."""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from typing import TYPE_CHECKING

import pytest

from xinfer.environments import locks, steps
from xinfer.errors import ProvisionError
from xinfer.running.deadline import within

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import psutil

SOON_S = 0.2
LATE = ProvisionError("late")


def test_a_step_is_ended_with_all_that_it_started(
    tmp_path: Path, mark: str, survivors: Callable[[], list[psutil.Process]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its guard sees to that."""
    monkeypatch.setenv("XINFER_TEST_MARK", mark)
    before = set(survivors())
    with (tmp_path / "log").open("wb") as log, locks.held(tmp_path / "made") as hold:
        step = (sys.executable, "-c", "import time; time.sleep(600)")
        with pytest.raises(ProvisionError, match="late"), within(SOON_S, LATE):
            steps.run(step, progress=lambda _: None, log=log, hold=hold)
    assert set(survivors()) == before


def test_a_loop_of_asyncio_is_left() -> None:
    """From a task and from a callback, which keep other exceptions to themselves."""

    async def wait() -> None:
        await asyncio.sleep(600)

    async def work() -> None:
        asyncio.get_running_loop().call_soon(time.sleep, 600)
        await asyncio.Event().wait()

    for body in (wait, work):
        with pytest.raises(ProvisionError, match="late"), within(SOON_S, LATE):
            asyncio.run(body())


def test_what_is_done_in_time_is_left_alone() -> None:
    """And so is whatever had an alarm before."""
    before = signal.getsignal(signal.SIGALRM)
    with within(SOON_S, LATE):
        assert signal.getitimer(signal.ITIMER_REAL)[0] > 0
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
    assert signal.getsignal(signal.SIGALRM) == before


def test_the_bodys_own_error_comes_out() -> None:
    """It is not taken for lateness."""
    with pytest.raises(ValueError, match="own"), within(600, LATE):
        raise ValueError("own")


def test_it_can_be_late_more_than_once() -> None:
    """Each with its own reason."""
    for number in range(2):
        with pytest.raises(ProvisionError, match=f"late {number}"), within(0.01, ProvisionError(f"late {number}")):
            time.sleep(600)
