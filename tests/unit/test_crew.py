"""How many workers a load takes, and which cores are theirs."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xinfer.measuring.crew import cores, environment
from xinfer.measuring.placing import usable_cores


@pytest.mark.parametrize(
    ("streams", "deliveries_per_s", "usable", "expected"),
    [
        pytest.param(1, 100, (0,), (None,), id="one-core-is-shared"),
        pytest.param(999, 1e6, (5,), (None,), id="one-core-is-shared-by-one-worker"),
        pytest.param(1, 100, (0, 1), (1,), id="the-last-of-two"),
        pytest.param(999, 1e6, (0, 1), (1,), id="the-rest-is-the-engines"),
        pytest.param(64, 5_000, tuple(range(16)), (15,), id="a-small-load-on-many-cores"),
        pytest.param(513, 5_000, tuple(range(16)), (14, 15), id="more-streams-than-one-carries"),
        pytest.param(64, 100_000, tuple(range(16)), (13, 14, 15), id="more-tokens-than-one-carries"),
        pytest.param(9999, 1e7, tuple(range(16)), (12, 13, 14, 15), id="a-quarter-at-most"),
        pytest.param(2, 1e6, tuple(range(64)), (62, 63), id="no-more-than-there-are-streams"),
        pytest.param(2000, 1, (None,) * 16, (None,) * 4, id="cores-that-cannot-be-chosen"),
        pytest.param(1, 1, (0, 2, 4, 6), (6,), id="only-those-that-may-be-used"),
    ],
)
def test_a_load_gets_the_last_cores_that_it_needs(
    streams: int, deliveries_per_s: float, usable: tuple[int | None, ...], expected: tuple[int | None, ...]
) -> None:
    """One worker, unless it could not carry the load; and the engine keeps most of the machine."""
    assert cores(streams, deliveries_per_s, usable) == expected


@given(st.integers(1, 10**6), st.floats(0, 1e9), st.integers(1, 512))
def test_there_is_always_a_worker_and_room_for_the_engine(streams: int, deliveries_per_s: float, count: int) -> None:
    """On any machine, for any load."""
    found = cores(streams, deliveries_per_s, tuple(range(count)))
    assert 1 <= len(found) <= max(1, count // 4)
    assert len(found) <= streams


def test_the_usable_cores_are_those_of_this_process() -> None:
    """As many as the system says, by their numbers where it gives any."""
    known = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else [None] * (os.cpu_count() or 1)
    assert list(usable_cores()) == known


def test_a_process_of_ours_finds_our_modules_from_anywhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Its paths do not depend on where it is started."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend("")
    paths = environment()["PYTHONPATH"].split(os.pathsep)
    assert paths[0] == str(tmp_path)
    assert all(Path(path).is_absolute() for path in paths)
