"""From looks and surveys to what was used, by arithmetic."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from xinfer.measuring.usage import NS, Look, Record, Resources, Survey, summarize


def looks(*rows: tuple[float, int, float]) -> tuple[Look, ...]:
    return tuple(Look(t_ns=int(t * NS), rss=rss, cpu_s=cpu_s) for t, rss, cpu_s in rows)


def surveys(first: dict[str, Any], last: dict[str, Any]) -> tuple[Survey, ...]:
    """Return two surveys ten seconds apart."""
    return tuple(Survey(t_ns=t * NS, **{"ours_s": 0.0, **fields}) for t, fields in ((0, first), (10, last)))


ROWS = looks((0, 5, 0.0), (1, 50, 1.0), (2, 10, 1.5), (3, 20, 2.25), (4, 90, 4.0))


@pytest.mark.parametrize(
    ("since", "until", "cpu_s", "together", "seconds"),
    [
        pytest.param(0, 4, 4.0, 90, 4.0, id="all"),
        pytest.param(1.2, 2.5, 1.25, 50, 2.0, id="the-nearest-outside-count"),
        pytest.param(2, 3, 0.75, 20, 1.0, id="both-ends-on-a-look"),
        pytest.param(-5, 0.5, 1.0, 50, 1.0, id="begun-before-the-watch"),
        pytest.param(3.5, 99, 1.75, 90, 1.0, id="ended-after-it"),
    ],
)
def test_a_part_of_the_time(since: float, until: float, cpu_s: float, together: int, seconds: float) -> None:
    """What happened outside it does not count."""
    found = summarize(Record(looks=ROWS), int(since * NS), int(until * NS))
    assert (found.cpu_s, found.peak_rss_together, found.seconds) == (cpu_s, together, seconds)


def test_nothing_was_seen() -> None:
    """Then nothing is known but how long it took."""
    assert summarize(Record(), 0, 2 * NS) == Resources(seconds=2.0)


def test_totals_are_of_the_whole_watch() -> None:
    """The system keeps a process's highest memory from its start; the cost is a part of one core."""
    found = summarize(Record(peak_rss=70, pss=60, cost_s=0.02, looks=ROWS), 2 * NS, 3 * NS)
    assert (found.peak_rss, found.pss, found.cost) == (90, 60, 0.005)
    assert summarize(Record(peak_rss=170, looks=ROWS), 0, NS).peak_rss == 170


BEFORE = {"cpus": 4, "busy_s": 100.0, "stolen_s": 5.0, "throttles": 2, "held_s": 1.0}


@pytest.mark.parametrize(
    ("first", "last", "expected"),
    [
        pytest.param({}, {}, {}, id="a-machine-that-tells-nothing"),
        pytest.param(
            BEFORE,
            {**BEFORE, "busy_s": 130.0, "ours_s": 26.0},
            {"others_share": 0.1, "stolen_share": 0.0, "throttles": 0, "held_share": 0.0},
            id="others-worked-too",
        ),
        pytest.param(
            BEFORE,
            {**BEFORE, "busy_s": 110.0, "ours_s": 10.5},
            {"others_share": 0.0, "stolen_share": 0.0, "throttles": 0, "held_share": 0.0},
            id="ticks-are-no-others",
        ),
        pytest.param(
            BEFORE,
            {**BEFORE, "busy_s": 109.0, "ours_s": 9.0, "stolen_s": 6.0, "throttles": 5, "held_s": 1.5},
            {"others_share": 0.0, "stolen_share": 0.1, "throttles": 3, "held_share": 0.05},
            id="stolen-hot-and-held",
        ),
        pytest.param(BEFORE, {}, {}, id="read-at-one-end-only"),
        pytest.param({"stolen_s": 0.0}, {"stolen_s": 0.0}, {}, id="work-is-not-known"),
        pytest.param({"busy_s": 0.0, "stolen_s": 0.0}, {"busy_s": 0.0, "stolen_s": 0.0}, {}, id="nothing-was-wanted"),
        pytest.param({"frequency_ghz": 2.0}, {"frequency_ghz": 3.0}, {"frequency_ghz": 2.5}, id="frequency"),
        pytest.param(
            {"cpu_joules": 5.0}, {"cpu_joules": 25.0}, {"cpu_joules": 20.0, "joules": 20.0}, id="energy-without-devices"
        ),
        pytest.param({"gpu_joules": 5.0}, {"gpu_joules": 9.0}, {"gpu_joules": 4.0}, id="half-the-energy-is-no-sum"),
        pytest.param(
            {"slowed": ("heat",)}, {"slowed": ("brake", "heat")}, {"slowed": ("heat", "brake")}, id="slowed-down"
        ),
        pytest.param({"server_cores": (0, 1)}, {}, {"server_cores": (0, 1)}, id="cores-while-it-lived"),
    ],
)
def test_the_machine(first: dict[str, Any], last: dict[str, Any], expected: dict[str, Any]) -> None:
    """Differences of its counters, in parts of what it had; null where an end was not read."""
    found = summarize(Record(surveys=surveys(first, last)), 0, 10 * NS)
    nulls = {"seconds": 10.0, "slowed": ()}
    told = {k: v for k, v in msgspec.structs.asdict(found).items() if v is not None}
    assert {k: pytest.approx(v) if isinstance(v, float) else v for k, v in {**nulls, **expected}.items()} == told


def test_devices() -> None:
    """Memory is added up over them, at its highest; work is an average of what was told."""
    seen = (
        Look(t_ns=0, rss=1, cpu_s=0, vram=(10, 20), busy=(1.0, 1.0)),
        Look(t_ns=1, rss=1, cpu_s=0, vram=(15, None), busy=(0.5, None)),
        Look(t_ns=2, rss=1, cpu_s=0, vram=(None, 28), busy=(0.25, 0.75)),
    )
    found = summarize(Record(looks=seen), 0, 2)
    assert (found.peak_vram, found.gpu_busy) == (30, 0.5)


@pytest.mark.parametrize(
    ("cpu", "gpu", "expected"), [(1.0, 2.0, 3.0), (None, 2.0, None), (1.0, None, None), (None, None, None)]
)
def test_energy_with_devices(cpu: float | None, gpu: float | None, expected: float | None) -> None:
    """A sum is one only if both are known."""
    seen = tuple(Look(t_ns=t, rss=1, cpu_s=0, vram=(1,), busy=(0.0,)) for t in (0, 10 * NS))
    last = {"cpu_joules": cpu, "gpu_joules": gpu}
    first = {name: None if value is None else 0.0 for name, value in last.items()}
    assert summarize(Record(looks=seen, surveys=surveys(first, last)), 0, 10 * NS).joules == expected
