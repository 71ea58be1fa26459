"""A plan's speed on this machine: from the ceilings and the records that are kept, and nothing is measured."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from recorded import BASE, changed, write

from xinfer import engines, flow, forecast, history
from xinfer.config.compose import Composer
from xinfer.facts import Hardware
from xinfer.measuring import ceilings
from xinfer.measuring.ceilings import Ceilings
from xinfer.record import Record

if TYPE_CHECKING:
    from pathlib import Path

    from xinfer.planning.prediction import Prediction


@pytest.fixture(autouse=True)
def _forget() -> None:
    forecast._pasts.cache_clear()


def plan(place: Path, *typed: str) -> flow.Planned:
    composer = Composer(engines.conf_directories())
    config = composer.compose([*typed, f"home={place / 'home'}", f"runs={place / 'runs'}"])
    return flow.plan(flow.ask(config, composer), composer)


def foreseen(place: Path, *typed: str) -> Prediction:
    found = forecast.foreseen(plan(place, *typed)).predicted
    assert found is not None
    return found


def record(planned: flow.Planned, run: str, tpot: float, **changes: Any) -> Record:
    """Return the record of a run of a plan, on a machine that reads 10 GB/s."""
    whole = msgspec.to_builtins(planned.document())
    parts = {name: whole[name] for name in ("decision", "launch", "hardware")}
    return changed(
        msgspec.structs.replace(BASE, **parts), run=run, ceilings={"device": "cpu", "threads": 1, "bandwidth": 1e10},
        metrics__tpot={"p50": tpot}, metrics__output_tps=1 / tpot, **changes,
    )  # fmt: skip


def test_a_cards_published_figures_are_its_limit(tmp_path: Path) -> None:
    """Where no record says more."""
    found = foreseen(tmp_path, "model=qwen2-instruct", "model.size=7", "hw=h100", "engine=vllm")
    assert found.decode_tps.is_bound
    assert 100 < (found.decode_tps.value or 0) < 3350e9 / 14e9
    assert found.decode_tps.formula.endswith("3.35 TB/s published")


def test_a_machine_of_which_nothing_is_published_has_no_prediction(tmp_path: Path) -> None:
    """Null, and the reason."""
    found = foreseen(tmp_path, "hw=cpu")
    assert (found.decode_tps.value, found.decode_tps.note) == (None, "the bandwidth of main memory is not known")


def test_records_below_runs_are_read(tmp_path: Path) -> None:
    """Those of this plan's engine and load; two of them, so that there is an error."""
    planned = plan(tmp_path, "hw=cpu", "hw.bandwidth_gbs=20")
    write(tmp_path / "runs", [record(planned, f"20261122T12000{n}Z-000000", 0.02) for n in range(2)])
    found = foreseen(tmp_path, "hw=cpu", "hw.bandwidth_gbs=20").decode_tps
    assert (found.records, found.error_records) == (2, 2)
    assert found.error == pytest.approx(0)
    assert found.value == pytest.approx(100, rel=0.05)


def test_records_are_read_once(tmp_path: Path) -> None:
    """All cells of a sweep are predicted from what was there before it."""
    assert foreseen(tmp_path, "hw=cpu", "hw.bandwidth_gbs=20").decode_tps.is_bound
    (tmp_path / "runs").mkdir()
    planned = plan(tmp_path, "hw=cpu")
    write(tmp_path / "runs", [record(planned, "20261122T120000Z-000000", 0.02)])
    assert foreseen(tmp_path, "hw=cpu", "hw.bandwidth_gbs=20").decode_tps.is_bound


def test_an_external_server_and_a_refusal_are_left_as_they_are(tmp_path: Path) -> None:
    """Nobody knows what the one reads, and the other starts nothing."""
    for typed in (["engine=external", "engine.url=http://127.0.0.1:1"], ["hw=cpu", "engine=vllm"]):
        planned = plan(tmp_path, *typed)
        assert forecast.foreseen(planned) is planned


MINE = Hardware(profile="auto", cpu="AMD EPYC", gpus=0, bandwidth_gbs=20)


@pytest.mark.parametrize(
    ("kept", "hardware", "bandwidth", "source"),
    [
        pytest.param(
            Ceilings(device="cpu", bandwidth=1e10, flops={"float32": 1e11}), MINE, 1e10, "measured", id="kept"
        ),
        pytest.param(Ceilings(device="cpu"), MINE, 2e10, "published", id="not-measured-yet"),
        pytest.param(
            Ceilings(device="cpu", bandwidth=3e10, source="published"), MINE, 2e10, "published", id="not-here"
        ),
        pytest.param(None, msgspec.structs.replace(MINE, cpu=None), 2e10, "published", id="a-profile"),
    ],
)
def test_the_ceilings_that_are_kept_come_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kept: Ceilings | None, hardware: Hardware, bandwidth: float,
    source: str,
) -> None:  # fmt: skip
    """If they are this machine's; without a word to say they are not measured."""

    def measured(asked: Hardware, home: Path, **more: Any) -> Ceilings:
        assert (asked, home, more["progress"]) == (hardware, tmp_path, None)
        assert kept is not None
        return kept

    monkeypatch.setattr(ceilings, "measured", measured)
    (tmp_path / "ceilings").mkdir()
    launch = plan(tmp_path, "hw=cpu").launch
    assert launch is not None
    found = forecast._tops(launch, hardware, tmp_path)
    assert (found.bandwidth, found.source) == (bandwidth, source)
    assert found.flops == (kept.flops if source == "measured" and kept else {})


def test_what_is_not_kept_is_not_measured(tmp_path: Path) -> None:
    """A plan touches nothing: no lock, no file."""
    found = ceilings.measured(Hardware(profile="p", cpu="none", cores=2, gpus=0), tmp_path, progress=None)
    assert found.bandwidth is None
    assert list(tmp_path.iterdir()) == []


# What of a record is needed


def test_the_newest_records_are_read_first(tmp_path: Path) -> None:
    """And no more than may be."""
    planned = plan(tmp_path, "hw=cpu")
    made = [record(planned, f"20261122T12000{n}Z-000000", 0.01 * (n + 1), cell=f"cell-{9 - n}") for n in range(4)]
    write(tmp_path / "runs", made)
    found = history.recent(tmp_path / "runs", 2)
    assert [each.metrics.tpot and each.metrics.tpot.p50 for each in found] == [0.04, 0.03]
    assert found[0].launch.argv == (planned.launch.argv if planned.launch else None)


def test_a_record_that_cannot_be_read_tells_nothing(tmp_path: Path) -> None:
    """A refused cell, one of an older kind, one that is no record, and one that is no file."""
    planned = plan(tmp_path, "hw=cpu")
    refused = msgspec.structs.replace(BASE, status="refused", launch=None, metrics=None, run="20261122T130000Z-000000")
    write(tmp_path / "runs", [record(planned, "20261122T120000Z-000000", 0.01), refused])
    for name, body in (("1", "{}"), ("2", "no record"), ("3", '{"decision": {"spec": 7}}')):
        (tmp_path / "runs" / "cell" / name).mkdir(parents=True)
        (tmp_path / "runs" / "cell" / name / "record.json").write_text(body)
    (tmp_path / "runs" / "cell" / "4" / "record.json").mkdir(parents=True)
    assert len(history.recent(tmp_path / "runs", 100)) == 1
