"""Conditions: looked at before the start, and told beside the numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from xinfer.catalog import Shape, Spec
from xinfer.facts import Hardware
from xinfer.machine.fingerprint import Fingerprint
from xinfer.measuring import ceilings, conditions
from xinfer.measuring.ceilings import Ceilings
from xinfer.measuring.conditions import Conditions
from xinfer.measuring.distribution import describe
from xinfer.measuring.metrics import Metrics
from xinfer.measuring.roofline import Limits
from xinfer.measuring.samples import Capabilities, Run, Samples
from xinfer.measuring.usage import NS, Look, Record, Resources, Survey
from xinfer.plan import LaunchPlan
from xinfer.running.server import Startup
from xinfer.spec import Workload
from xinfer.testing import model_files

if TYPE_CHECKING:
    from pathlib import Path

SHAPE = Shape(layers=2, hidden=64, heads=4, kv_heads=2, head_dim=16, vocab=3, intermediate=128)
SPEC = Spec(family="f", size=None, format="ggufv2", quantization="Q8_0", hub="local", id="x", shape=SHAPE)
HERE = Hardware(profile="auto", os="linux", cores=2, gpus=0)
CEILINGS = Ceilings(device="cpu", bandwidth=1e9, flops={"float32": 1e12})
TENSORS = {"token_embd.weight": ((64, 3), "Q8_0"), "blk.0.attn_q.weight": ((64, 64), "Q8_0")}
RUN = Run(
    capabilities=Capabilities(
        model="m", extras=True, stream_options=True, usage=True, fixed_length=True, cached_tokens=True, tokenizer=None,
        token_ids=False,
    ),
    prompts="ids", prompts_hash="", client_cpu_s=0.1, started_ns=1 * NS, ended_ns=2 * NS,
)  # fmt: skip
SAMPLES = Samples(run=RUN, samples=())
WORKLOAD = Workload(name="w", input_tokens=10, output_tokens=4)


def plan(path: Path, **changes: Any) -> LaunchPlan:
    made = LaunchPlan(engine="llama_cpp", version=None, variant="v", argv=("serve", "--model", str(path)))
    return msgspec.structs.replace(made, **changes)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "m.gguf"
    path.write_bytes(model_files.gguf(tensors=TENSORS))
    return path


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Return what the ceilings were asked for."""
    calls: list[object] = []

    def measured(*words: object, **_: object) -> Ceilings:
        calls.append(words[1])
        return CEILINGS

    monkeypatch.setattr(ceilings, "measured", measured)
    return calls


def test_the_machine_and_the_weights_are_looked_at(tmp_path: Path, model: Path, asked: list[object]) -> None:
    """Before the server uses either."""
    found = conditions.take(SPEC, plan(model), HERE, tmp_path, lambda _: None)
    assert found.machine.id
    assert found.ceilings == CEILINGS
    assert asked == [tmp_path]
    assert {tensor.name for tensor in found.tensors or ()} == set(TENSORS)
    assert found.load_per_core is not None
    assert found.load_per_core >= 0


@pytest.mark.parametrize(
    "changes", [{"engine": "external"}, {"argv": ("serve", "an/id")}], ids=["another-server", "weights-not-known"]
)
def test_no_time_is_spent_on_ceilings_that_say_nothing(
    tmp_path: Path, model: Path, asked: list[object], changes: dict[str, Any]
) -> None:
    """They are measured where a distance from them can be told."""
    assert conditions.take(SPEC, plan(model, **changes), HERE, tmp_path, lambda _: None).ceilings is None
    assert asked == []


def before(**changes: Any) -> Conditions:
    return Conditions(Fingerprint(id="abc"), CEILINGS, None, 0.25)._replace(**changes)


SEEN = Record(
    peak_rss=500,
    looks=tuple(Look(t_ns=t * NS, rss=400, cpu_s=float(t), vram=(7,), busy=(1.0,)) for t in range(4)),
    surveys=tuple(Survey(t_ns=t * NS, ours_s=0.0, cpus=2, busy_s=float(t), stolen_s=0.0) for t in range(4)),
)


def test_what_is_used_is_used_between_the_measured_requests() -> None:
    """Not by the warm-up before them."""
    found = conditions.used(before(), SEEN, (1 * NS, 2 * NS), is_ours=True)
    assert (found.seconds, found.cpu_s, found.peak_rss, found.others_share) == (1.0, 1.0, 500, 0.5)
    assert found.load_per_core == 0.25


def test_of_somebody_elses_server_the_machine_tells() -> None:
    """It may be what uses the processor."""
    found = conditions.used(before(), SEEN, (1 * NS, 2 * NS), is_ours=False)
    assert (found.cpu_s, found.peak_rss, found.others_share, found.stolen_share) == (None, None, None, 0.0)


def test_numbers_are_completed() -> None:
    """With those of the server, and null without one."""
    numbers = Metrics(requests=1, failed=0, duration_s=1.0)
    used = Resources(seconds=1, cpu_s=2.0, peak_rss=3, peak_vram=4, joules=5.0)
    found = conditions.completed(numbers, used, Startup(ready_s=6.0, first_request_s=7.0))
    assert (found.cpu_s, found.peak_rss, found.peak_vram, found.joules) == (2.0, 3, 4, 5.0)
    assert (found.ready_s, found.first_request_s) == (6.0, 7.0)
    assert conditions.completed(numbers, Resources(seconds=1), None) == numbers


def test_the_distance_is_told(tmp_path: Path, model: Path, asked: list[object]) -> None:
    """From the files' own tensors to one phrase; without ceilings, what must be read is told all the same."""
    launch = plan(model)
    known = conditions.take(SPEC, launch, HERE, tmp_path, lambda _: None)
    numbers = Metrics(
        requests=3, failed=0, duration_s=1, output_tps=10.0, tpot=describe([0.1] * 3), ttft=describe([0.1] * 3)
    )
    found = conditions.limits(known, numbers, SPEC, launch, WORKLOAD, SAMPLES)
    weights = (64 * 3 + 64 * 64) // 32 * 34
    assert found.weights_bytes == weights
    assert found.step_bytes == weights + 12 * 2 * 2 * 2 * 16 * 2
    assert found.text.startswith("decode at 0 % of memory bandwidth")
    blind = conditions.limits(known._replace(ceilings=None), numbers, SPEC, launch, WORKLOAD, SAMPLES)
    assert (blind.step_bytes, blind.decode_share, blind.text) == (found.step_bytes, None, "")
    assert len(asked) == 1


def test_the_record_has_all_of_it() -> None:
    """As JSON can hold it."""
    startup = Startup(ready_s=1.0, first_request_s=2.0, weights_cached=1.0)
    limits = Limits(text="far")
    found = conditions.recorded(before(), Resources(seconds=1.0), limits, startup)
    assert (found["machine"] or {})["id"] == "abc"
    assert (found["resources"] or {})["seconds"] == 1.0
    assert (found["ceilings"] or {})["bandwidth"] == 1e9
    assert (found["limits"] or {})["text"] == "far"
    assert found["startup"] == {"ready_s": 1.0, "first_request_s": 2.0, "weights_cached": 1.0, "kind": "warm"}
    assert set(msgspec.json.decode(msgspec.json.encode(found))) == set(found)
    none = conditions.recorded(before(ceilings=None), Resources(seconds=1.0), None, None)
    assert (none["startup"], none["ceilings"], none["limits"]) == (None, None, None)
