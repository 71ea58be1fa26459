"""A choice by measurement, from records that real runs left on one machine: it changes a decision, or says why not."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import pytest

from xinfer import engines, flow, history, record
from xinfer.config.compose import Composer
from xinfer.facts import Hardware
from xinfer.machine import fingerprint
from xinfer.machine.fingerprint import Fingerprint

if TYPE_CHECKING:
    from collections.abc import Callable

    from xinfer.judging.decision import Decision

    Decide = Callable[..., Decision]

KEPT = Path(__file__).parents[1] / "resources" / "measured"
"""SmolLM2-135M on two cores, 8 requests at once: llama.cpp with the published GGUF, and Transformers."""
BUSY = ("workload=smoke", "workload.concurrency=8")


@pytest.fixture
def decide(monkeypatch: pytest.MonkeyPatch) -> Decide:
    """Return who decides on the machine, and in the time, of these records."""
    made = history.read(min(KEPT.rglob("record.json")))
    monkeypatch.setattr(record, "PROTOCOL", made.protocol)
    machine = msgspec.convert(made.machine, Fingerprint)
    monkeypatch.setattr(fingerprint, "take", lambda _: machine)
    history._kept.cache_clear()
    here = msgspec.convert(made.hardware, Hardware)
    composer = Composer(engines.conf_directories())

    def made_by(*words: str) -> Decision:
        config = composer.compose([f"runs={KEPT}", *words])
        return flow.decide(flow.ask(config, composer, detect=lambda: here), composer, compares=False).decision

    return made_by


def test_a_decision_changes(decide: Decide) -> None:
    """By documented order llama.cpp serves; with 8 requests at once Transformers was faster here, as is said."""
    assert decide(*BUSY).engine == "llama_cpp"
    made = decide(*BUSY, "choose=measured")
    assert (made.engine, made.spec.format) == ("transformers", "pytorch")
    first, workload, *engines_, verdict = made.because[:5]
    assert first.startswith("transformers was measured to be the fastest on this machine of those that may serve it; ")
    assert workload.startswith("measured with workload smoke (32 input, ")
    assert [line.partition(" ")[0] for line in engines_] == ["llama_cpp", "transformers"]
    assert all(" tok/s [" in line and f" runs, {KEPT}" in line for line in engines_)
    assert verdict.startswith("transformers beside llama_cpp: better, ")


@pytest.mark.parametrize(
    ("words", "why"),
    [
        pytest.param(("workload=chat",), "no record below", id="another-workload"),
        pytest.param((*BUSY, "hw.cores=1"), "no record below", id="a-part-of-the-machine"),
        pytest.param((*BUSY, "model.format=ggufv2"), "no other engine may serve it", id="one-engine-alone"),
        pytest.param((*BUSY, "runs=nowhere"), "no record below nowhere tells", id="no-records"),
        pytest.param((*BUSY, "engine.threads=2", "engine=llama_cpp"), None, id="an-engine-that-was-asked-for"),
        pytest.param(
            (*BUSY, "model=qwen2-instruct", "model.size=0_5", "rules=engines-2026-11"), "no record below",
            id="another-model",
        ),
    ],
)  # fmt: skip
def test_elsewhere_the_documented_order_holds(decide: Decide, words: tuple[str, ...], why: str | None) -> None:
    """And it is said why."""
    made = decide(*words, "choose=measured")
    assert made.engine == decide(*words).engine
    assert [line.removeprefix("choose=measured: ").startswith(why or "-") for line in made.because[1:2]] in (
        [True] if why else [False],
        [],
    )


def test_another_machine_is_another_machine(decide: Decide) -> None:
    """A profile that asks for what is not here is not decided by what was measured here."""
    made = decide("choose=measured", "hw=h100", "model=qwen2-instruct", "rules=engines-2026-11")
    assert made.engine == "vllm"
    assert any(line.startswith("choose=measured: this machine is not h100: it lacks ") for line in made.because)


def test_what_cannot_be_read_tells_nothing(decide: Decide, tmp_path: Path) -> None:
    """Nor does it end the plan."""
    broken = tmp_path / "cell" / "run" / "record.json"
    broken.parent.mkdir(parents=True)
    broken.write_text("{", encoding="utf-8")
    made = decide(*BUSY, f"runs={tmp_path}", "choose=measured")
    assert made.because[1] == f"choose=measured: no record below {tmp_path} tells"
