"""Schedules: known beforehand, the same for the same run, and complete however many workers share them."""

from __future__ import annotations

import itertools
import statistics
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xinfer.errors import ConfigError
from xinfer.measuring.schedule import Due, Moment, Phase, last_s, parse, phases, share
from xinfer.spec import Workload

PLAIN = Workload(name="w", input_tokens=100, output_tokens=10, concurrency=3, requests=6, warmup=2)
FORMAT = r"; allowed on a line: \{\"timestamp\": milliseconds, .* in the order of time$"


def workload(**changes: Any) -> Workload:
    return msgspec.structs.replace(PLAIN, **changes)


def instants(made: tuple[Phase, ...]) -> list[int]:
    return [due.at_ns for due in made[-1].due if due.at_ns is not None]


SHAPES = st.builds(
    workload,
    load=st.sampled_from(["closed", "constant", "poisson", "offline", "trace"]),
    concurrency=st.integers(1, 20),
    requests=st.integers(1, 50),
    warmup=st.none() | st.integers(0, 20),
    rate=st.floats(0.1, 1000),
)
TRACE = tuple(Moment(1000.0 + 10 * n, 7 + n, 3) for n in range(5))


def made(asked: Workload, **options: Any) -> tuple[Phase, ...]:
    return phases(asked, "run", trace=TRACE, **options)


@given(SHAPES)
def test_every_request_is_due_once(asked: Workload) -> None:
    """Numbered in the order of sending, the warm-up first, and as many as were asked for."""
    due = [one for phase in made(asked) for one in phase.due]
    measured = len(TRACE) if asked.load == "trace" else asked.requests
    assert [one.index for one in due] == list(range(asked.warmups + measured))
    assert [one.warmup for one in due] == [n < asked.warmups for n in range(len(due))]
    assert not any(one.is_extra for one in due)


@given(SHAPES)
def test_a_request_has_an_instant_or_a_place(asked: Workload) -> None:
    """Never both, and instants are in order, from the start on."""
    for phase in made(asked):
        at = [one.at_ns for one in phase.due]
        if phase.places:
            assert set(at) <= {None}
            assert len(phase.places) == asked.concurrency
        else:
            known = [ns for ns in at if ns is not None]
            assert len(known) == len(at)
            assert known == sorted(known)
            assert known[0] >= 0


@given(SHAPES, st.integers(1, 9))
def test_workers_share_without_loss(asked: Workload, workers: int) -> None:
    """Together they have every request and every place once, and their parts differ by one turn at most."""
    for phase in made(asked):
        parts = [share(phase, worker, workers) for worker in range(workers)]
        assert sorted(one.index for part in parts for one in part.due) == [one.index for one in phase.due]
        assert sorted(place for part in parts for place in part.places) == sorted(phase.places)
        for part in parts:
            assert not part.due or bool(part.places) == bool(phase.places)
            assert [one.index for one in part.due] == sorted(one.index for one in part.due)
        if not phase.places:
            sizes = [len(part.due) for part in parts]
            assert max(sizes) - min(sizes) <= 1


def test_a_closed_loop_begins_place_by_place() -> None:
    """Within the ramp, at even distances; without one, all together."""
    assert made(workload(), ramp_s=0.3)[0].places == (0, 100_000_000, 200_000_000)
    assert made(workload())[0].places == (0, 0, 0)


def test_extras_follow_what_was_asked_for() -> None:
    """They are no warm-up, and the last to be sent."""
    (phase,) = made(workload(), extras=3)
    assert [one.is_extra for one in phase.due] == [False] * 8 + [True] * 3
    assert not any(one.warmup for one in phase.due[2:])


def test_a_constant_rate_is_even() -> None:
    """The warm-up is a part of the same even row."""
    found = made(workload(load="constant", rate=4.0))
    assert instants(found) == [n * 250_000_000 for n in range(8)]


@given(st.floats(0.5, 500), st.integers(2, 300), st.text(max_size=8))
def test_a_poisson_load_keeps_its_rate(rate: float, requests: int, run_id: str) -> None:
    """All fall within the time that so many take at that rate; the same for the same run."""
    asked = workload(load="poisson", rate=rate, requests=requests)
    found = instants(phases(asked, run_id))
    assert 0 <= found[0] <= found[-1] <= len(found) / rate * 1e9 + 1
    assert found == instants(phases(asked, run_id))


def test_poisson_gaps_are_those_of_chance() -> None:
    """Their deviation is as large as their mean, runs differ, and even the extremes are spread."""
    asked = workload(load="poisson", rate=100.0, requests=20_000)
    found = instants(phases(asked, "one"))
    gaps = [after - before for before, after in itertools.pairwise(found)]
    assert statistics.fmean(gaps) == pytest.approx(1e7, rel=0.01)
    assert statistics.pstdev(gaps) == pytest.approx(1e7, rel=0.05)
    assert sum(gap > 3e7 for gap in gaps) / len(gaps) == pytest.approx(0.0498, rel=0.2)  # e to the minus three
    assert found != instants(phases(asked, "another"))


def test_offline_sends_all_at_once_after_the_warm_up() -> None:
    """The warm-up is a phase of its own, which has ended before; without one there is none."""
    warm, burst = made(workload(load="offline"))
    assert (len(warm.due), len(warm.places)) == (2, 3)
    assert [one.at_ns for one in burst.due] == [0] * 6
    assert len(made(workload(load="offline", warmup=0))) == 1


def test_a_trace_says_when_and_how_long() -> None:
    """Its first request is due at once, the others as much later as they were."""
    _, replay = made(workload(load="trace"))
    assert replay.due[0] == Due(2, False, 0, 7, 3)  # noqa: FBT003 -- as it is written
    assert replay.due[-1] == Due(6, False, 40_000_000, 11, 3)  # noqa: FBT003 -- likewise


def line(timestamp: object = 0, input_length: object = 6, output_length: object = 3, **more: object) -> str:
    document = {"timestamp": timestamp, "input_length": input_length, "output_length": output_length, **more}
    return msgspec.json.encode(document).decode()


def test_a_trace_is_read() -> None:
    """Fields that it has besides, and empty lines, do not matter."""
    text = f"\n{line(27.5, hash_ids=[1, 2])}\n{line(27.5)}\n\n{line(30, 100, 10)}\n"
    assert parse(text, "t.jsonl", PLAIN) == (Moment(27.5, 6, 3), Moment(27.5, 6, 3), Moment(30, 100, 10))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        pytest.param("", r"t\.jsonl: a trace without a request", id="nothing"),
        pytest.param("\n \n", r"t\.jsonl: a trace without a request", id="blanks"),
        pytest.param("{", r"t\.jsonl:1: input data was truncated", id="half-a-line"),
        pytest.param(f"{line()}\n[]", r"t\.jsonl:2: expected `object`, got `array`", id="an-array"),
        pytest.param('{"timestamp": 1}', r"t\.jsonl:1: object missing required field `input_length`", id="a-field"),
        pytest.param(line("1"), r"t\.jsonl:1: expected `float`, got `str` - at `\$\.timestamp`", id="a-word"),
        pytest.param(line(0, 1.5), r"t\.jsonl:1: expected `int`, got `float`", id="half-a-token"),
        pytest.param(line(0, 0), r"t\.jsonl:1: input_length 0 is not a number from 1 to a million", id="no-prompt"),
        pytest.param(line(0, 1, 0), r"t\.jsonl:1: output_length 0 is not a number from 1 to a million", id="no-output"),
        pytest.param(line(-1), r"t\.jsonl:1: timestamp -1 is not within a week of 0", id="before-the-start"),
        pytest.param(line(1.7e12), r"t\.jsonl:1: timestamp 1\.7e\+12 is not within a week of 0", id="a-date"),
        pytest.param(f"{line(5)}\n\n{line(4)}", r"t\.jsonl:3: timestamp 4 is before the last, 5", id="out-of-order"),
        pytest.param(line(0, 100, 11), r"t\.jsonl:1: 111 tokens are more than workload.input_tokens \+ "
                     r"workload.output_tokens = 110", id="longer-than-the-server-is-planned-for"),
    ],
)  # fmt: skip
def test_a_bad_trace_is_refused_with_its_line(text: str, said: str) -> None:
    """And with what a line may be."""
    with pytest.raises(ConfigError, match=f"^{said}") as no:
        parse(text, "t.jsonl", PLAIN)
    assert "\n" not in str(no.value)
    with pytest.raises(ConfigError, match=FORMAT):
        parse(text, "t.jsonl", PLAIN)


@pytest.mark.parametrize(
    ("phase", "seconds", "expected"),
    [
        pytest.param(made(workload(), ramp_s=3)[0], 0, 2 + 3 * 5, id="three-rounds-on-three-places"),
        pytest.param(made(workload(), extras=999)[0], 60, 3 * 5 + 60 + 5, id="and-more-until-the-time-is-up"),
        pytest.param(made(workload(load="constant", rate=2.0))[0], 0, 3.5 + 5, id="the-last-arrival"),
        pytest.param(made(workload(load="offline"))[1], 0, 5, id="all-at-once"),
        pytest.param(Phase((), ()), 0, 5, id="nothing-to-do"),
    ],
)
def test_a_phase_ends_in_bounded_time(phase: Phase, seconds: float, expected: float) -> None:
    """When every request takes as long as it may."""
    assert last_s(phase, 5, seconds) == pytest.approx(expected)
