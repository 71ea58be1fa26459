"""The trials of a tuning: what a setting reached, which one is the best, and what is tried next."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import pytest
from recorded import BASE, changed, repeats

from xinfer.errors import ConfigError
from xinfer.record import Failure
from xinfer.spec import Limits, Tune
from xinfer.verbs import trials
from xinfer.verbs.trials import Outcome, Study, Trial

if TYPE_CHECKING:
    from xinfer.planning.tunables import Space

FAST = Tune(name="throughput", metric="output_tps")
QUICK = Tune(name="latency", metric="ttft.p50", slo=Limits(tpot_p50_ms=20, e2e_p50_ms=2000))


def test_a_setting_reached_the_median_of_its_runs() -> None:
    """Flags are told; they do not keep a search from going on."""
    found = trials.outcome(repeats([100, 120, 110], flags=[{"id": "noisy"}]), FAST)
    assert found == Outcome(110, {}, "", ("noisy",))
    assert found.counts


def test_a_limit_is_kept_or_not() -> None:
    """How far above each limit it is, as a part of that."""
    kept = trials.outcome(repeats([100]), QUICK)
    assert (kept.value, kept.excess, kept.counts) == (0.05, {"tpot.p50": -0.5, "e2e.p50": pytest.approx(-0.35)}, True)
    beyond = trials.outcome(repeats([40]), QUICK)
    assert beyond.excess["tpot.p50"] == pytest.approx(0.25)
    assert not beyond.counts
    assert beyond.why == "tpot.p50 is 25% above its limit, e2e.p50 is 62% above its limit"


@pytest.mark.parametrize(
    ("record", "why"),
    [
        pytest.param(
            changed(status="failed", metrics=None, failure={"stage": "start", "message": "killed", "exit_code": 4}),
            "start: killed", id="that-failed",
        ),
        pytest.param(changed(metrics=None), "nothing was measured", id="without-numbers"),
        pytest.param(
            changed(metrics__ttft={"p50": None}), "ttft.p50 cannot be told from so few requests", id="too-few"
        ),
    ],
)  # fmt: skip
def test_a_setting_without_a_value(record: Any, why: str) -> None:
    """The reason is told, and it counts for nothing."""
    found = trials.outcome([record], QUICK)
    assert (found.value, found.why, found.counts) == (None, why, False)
    assert found.is_untold is why.endswith("so few requests")


def trial(value: float | None, **excess: float) -> Trial:
    return Trial({"engine.threads": 1}, Outcome(value, excess))


def test_the_best_keeps_to_all_limits() -> None:
    """The most of a rate, the least of a time; the first of equal ones; none where none counts."""
    found = [trial(None), trial(5), trial(9, ttft=0.1), trial(7, ttft=0), trial(7), trial(6)]
    assert trials.best(found, FAST) is found[3]
    assert trials.best(found, QUICK) is found[1]
    assert trials.best(found[:1], FAST) is None


SMALL: Space = {"a": (None, 1, 2), "b": (None, "x")}
LARGE: Space = {name: (None, *range(8)) for name in "abc"}


def tried(space: Space, tune: Tune, reached: Any) -> list[dict[str, Any]]:
    study, found = Study(space, tune), []
    for point, token in study.asked():
        study.tell(token, reached(point))
        found.append(point)
        if len(found) == tune.trials:
            break
    return found


def test_a_small_space_is_tried_as_a_whole() -> None:
    """The plan as it is first, and each point once."""
    found = tried(SMALL, FAST, lambda _: Outcome(1.0))
    assert found[0] == {"a": None, "b": None}
    assert sorted(map(str, found)) == sorted(str({"a": a, "b": b}) for a in SMALL["a"] for b in SMALL["b"])


def test_a_large_space_is_searched() -> None:
    """The later trials are better than the first ones; the same results lead to the same trials."""
    tune = Tune(name="throughput", metric="output_tps", trials=60)

    def reached(point: dict[str, Any]) -> Outcome:
        if point["a"] == 0:
            return Outcome(None, why="start: out of memory")
        value = float(sum(each or 0 for each in point.values()))
        return Outcome(value, {"ttft.p50": (point["c"] or 0) - 5})

    found = tried(LARGE, tune, reached)
    assert found[0] == dict.fromkeys("abc")
    early, late = ([reached(point) for point in part] for part in (found[:20], found[-20:]))
    means = [sum(each.value for each in part if each.value and each.counts) / 20 for part in (early, late)]
    assert means[1] > means[0]
    assert found == tried(LARGE, tune, reached)


def test_without_optuna_there_is_no_search(monkeypatch: pytest.MonkeyPatch) -> None:
    """One line says what to install."""
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(
        ConfigError, match=r"^tune= needs Optuna, which is not installed; pip install 'xinfer\[tune\]'$"
    ):
        Study(SMALL, FAST)


def test_a_failure_has_its_stage() -> None:
    """Of several runs the last one's is told."""
    failed = changed(BASE, status="failed", metrics=None)
    later = Failure(stage="load", message="it died", exit_code=4)
    assert trials.outcome([failed, changed(failed, failure=later)], FAST).why == "load: it died"
