"""Which engine the records of this machine show to be the fastest, and what is said where they show none."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from recorded import MACHINE, SPEC, WORKLOAD, changed, repeats

from xinfer.catalog import Spec
from xinfer.evidence import Answer, Archive, Evidence
from xinfer.facts import Hardware
from xinfer.record import Failure
from xinfer.spec import Workload

if TYPE_CHECKING:
    from collections.abc import Iterable

    from xinfer.record import Record

GGUF = msgspec.convert(SPEC, Spec)
FOLDER = msgspec.structs.replace(GGUF, format="pytorch", quantization="none", derived=True)
OPTIONS = [("llama_cpp", GGUF), ("transformers", FOLDER)]
DEFAULTS: dict[str, dict[str, Any]] = {
    "llama_cpp": {"name": "llama_cpp", "threads": None, "build": "wheel", "args": {}},
    "transformers": {"name": "transformers", "threads": None, "args": {}},
    "vllm": {"name": "vllm"},
}
AUTO: dict[str, Any] = {"name": "auto", "version": None, "args": {}, "env": {}}
ENGINES: dict[str, dict[str, Any]] = {
    "llama_cpp": {"cell": "cell-l", "config__engine": AUTO},
    "transformers": {
        "cell": "cell-t", "launch__engine": "transformers", "launch__version": "5.23.0", "launch__variant": "cpu",
        "config__engine": {**AUTO, "name": "transformers"}, "decision__spec": msgspec.to_builtins(FOLDER),
    },
    "vllm": {
        "cell": "cell-v", "launch__engine": "vllm", "launch__version": "0.32.0", "launch__variant": "cpu",
        "config__engine": {**AUTO, "name": "vllm"}, "decision__spec": msgspec.to_builtins(FOLDER),
    },
}  # fmt: skip
SHORT = "short (128 input, 128 output, 1 requests at once; as large as mine)"
SLOW, FAST = [100.0, 101, 99, 100.5], [130.0, 131, 129, 130.5]


def runs(engine: str, tps: list[float], **paths: Any) -> tuple[Record, ...]:
    return repeats(tps, **{**ENGINES[engine], "config__dtype": None, "path": "runs/c/r/record.json", **paths})


def asked(records: Iterable[Record], *, options: Any = OPTIONS, elsewhere: str = "", **changes: Any) -> Answer:
    archive = Archive("runs", list(records), MACHINE, elsewhere)
    hardware = Hardware(profile="auto", cores=2, gpus=0)
    workload = msgspec.convert({**WORKLOAD, "name": "mine", **changes.pop("workload", {})}, Workload)
    question = Evidence(archive, workload, hardware, AUTO, None, DEFAULTS.__getitem__)
    return question._replace(**changes).fastest(options)


def measured(slow: str = "llama_cpp", fast: str = "transformers", **paths: Any) -> list[Record]:
    return [*runs(slow, SLOW, **paths), *runs(fast, FAST, **paths)]


def test_the_fastest_is_named_with_all_that_shows_it() -> None:
    """The workload, each engine's version, artefact, median, interval and place, and the comparison."""
    found = asked(measured())
    assert found.engine == "transformers"
    assert found.because == (
        f"measured with workload {SHORT}, by output tokens per second",
        "llama_cpp 2026.10 ggufv2 Q4_1: 100.2 tok/s [98.8, 101.5] in 4 runs, runs/c",
        "transformers 5.23.0 pytorch none: 130.2 tok/s [128.8, 131.5] in 4 runs, runs/c",
        "transformers beside llama_cpp: better, 1.3 times as many [1.28, 1.32], p 0.029 (+29.9%)",
    )


def test_the_documented_choice_may_be_shown_to_be_the_fastest() -> None:
    """Then the reason is the measurement too."""
    found = asked(measured("transformers", "llama_cpp"))
    assert found.engine == "llama_cpp"
    assert found.because[3].startswith("transformers beside llama_cpp: worse, 0.77 times")


@pytest.mark.parametrize(
    ("records", "why", "left_out"),
    [
        pytest.param([], "no record below runs tells", None, id="no-records"),
        pytest.param(
            measured(decision__spec={**SPEC, "family": "qwen2-instruct"}), "no record below runs tells", None,
            id="of-another-model",
        ),
        pytest.param(
            measured(flags=[{"id": "short"}, {"id": "noisy"}]), "no record below runs tells",
            "8 flagged (noisy, short)", id="only-flagged-ones",
        ),
        pytest.param(
            measured(machine={**MACHINE, "cpu": "Intel"}), "no record below runs tells", "8 of another machine",
            id="of-another-machine",
        ),
        pytest.param(
            measured(hardware={"gpus": 0, "cores": 1}), "no record below runs tells", "8 of another machine",
            id="of-a-part-of-this-machine",
        ),
        pytest.param(
            measured(protocol=1), "no record below runs tells", "8 measured another way", id="of-an-older-protocol"
        ),
        pytest.param(
            measured(foreign={"source": "aiperf"}), "no record below runs tells", "8 measured another way",
            id="by-somebody-elses-load-generator",
        ),
        pytest.param(
            measured(config__dtype="float32"), "no record below runs tells", "8 with other settings",
            id="computed-in-another-type",
        ),
        pytest.param(
            [*runs("llama_cpp", SLOW, config__engine={**AUTO, "build": "native"}), *runs("transformers", FAST)],
            f"workload {SHORT} has 0 of llama_cpp, "
            "4 of transformers; 4 each of two engines are needed", "4 with other settings",
            id="of-another-build",
        ),
        pytest.param(
            [changed(each, status="failed", metrics=None) for each in measured()], "no record below runs tells",
            "8 without numbers", id="that-failed",
        ),
        pytest.param(
            [*runs("llama_cpp", SLOW, decision__spec={**SPEC, "quantization": "Q8_0"}), *runs("vllm", FAST)],
            "no record below runs tells", "8 of what would not be served", id="of-other-artefacts-and-engines",
        ),
        pytest.param(
            measured(config__workload={**WORKLOAD, "output_tokens": 513}), "no record below runs tells",
            "8 of a workload that is not near", id="of-a-workload-that-is-not-near",
        ),
        pytest.param(
            measured(config__workload={**WORKLOAD, "load": "poisson"}), "no record below runs tells",
            "8 of a workload that is not near", id="of-another-kind-of-load",
        ),
        pytest.param(
            [*runs("llama_cpp", SLOW[:1]), *runs("transformers", FAST)],
            f"workload {SHORT} has 1 of llama_cpp, "
            "4 of transformers; 4 each of two engines are needed", None, id="too-few",
        ),
        pytest.param(
            [*runs("llama_cpp", FAST), *runs("transformers", FAST, launch__version="5.22.0")[:1],
             *runs("transformers", FAST)],
            f"workload {SHORT} has 4 of llama_cpp, "
            "1 of transformers; 4 each of two engines are needed", "4 of another version than the newest",
            id="too-few-of-one-version",
        ),
        pytest.param(
            [*runs("llama_cpp", SLOW), *runs("transformers", FAST, prompts_hash="0")],
            f"workload {SHORT} has 4 of llama_cpp, "
            "0 of transformers; 4 each of two engines are needed", None, id="of-other-prompts",
        ),
    ],
)  # fmt: skip
def test_what_does_not_tell_is_said(records: list[Record], why: str, left_out: str | None) -> None:
    """Nothing is chosen then, and the records that were looked at are counted."""
    more = () if left_out is None else (f"records that do not count: {left_out}",)
    assert asked(records) == Answer(None, (f"choose=measured: {why}", *more))


def test_a_failure_without_a_launch_tells_nothing() -> None:
    """A refused cell has a decision at most."""
    refused = changed(runs("llama_cpp", SLOW)[0], status="refused", launch=None, metrics=None)
    failure = msgspec.structs.replace(refused, failure=Failure(stage="rules", message="no", exit_code=3))
    assert asked([failure]).because[1] == "records that do not count: 1 without numbers"


def test_what_is_not_far_enough_apart_decides_nothing() -> None:
    """The documented order holds, and the figures are there."""
    near = [100.5, 101.5, 99.5, 101]
    same = asked([*runs("llama_cpp", near), *runs("transformers", SLOW)])
    assert same.engine is None
    assert same.because[0] == "choose=measured: none is shown to be faster than llama_cpp"
    assert same.because[-1].startswith("transformers beside llama_cpp: same, 0.995 times as many")
    other = asked([*runs("llama_cpp", SLOW), *runs("transformers", near)])
    assert (other.engine, other.because[0]) == (None, "choose=measured: the runs decide nothing")


def test_three_engines_are_compared_together() -> None:
    """The p is corrected for the two comparisons: four runs of each do not decide, six do."""
    options = [*OPTIONS, ("vllm", FOLDER)]
    faster = [each + 70 for each in FAST]
    assert asked([*measured(), *runs("vllm", faster)], options=options).because[0].endswith("decide nothing")
    more = [[*each, each[0] + 0.2, each[0] - 0.2] for each in (SLOW, FAST, faster)]
    records = [run for engine, tps in zip(ENGINES, more, strict=True) for run in runs(engine, tps)]
    found = asked(records, options=options)
    assert found.engine == "vllm"
    assert found.because[-1].startswith("vllm beside llama_cpp: better, 2 times as many")


def test_the_documented_choice_need_not_have_been_measured() -> None:
    """The fastest of those that were is chosen, and the others are named."""
    found = asked(measured("vllm", "transformers"), options=[*OPTIONS, ("vllm", FOLDER)])
    assert found.engine == "transformers"
    assert found.because[-1] == "not measured, or not often enough: llama_cpp"


def test_the_nearest_workload_counts() -> None:
    """The one with the fewest doublings between it and what is asked for; how far it is off is said."""
    far = measured("transformers", "llama_cpp", config__workload={**WORKLOAD, "name": "far", "concurrency": 4})
    near = measured(config__workload={**WORKLOAD, "name": "near", "concurrency": 2})
    found = asked([*far, *near], workload={"input_tokens": 256})
    assert found.engine == "transformers"
    assert found.because[0] == (
        "measured with workload near (128 input, 128 output, 2 requests at once; "
        "the nearest to mine: input x 0.5, requests at once x 2), by output tokens per second"
    )


def test_where_there_is_nothing_to_choose_no_record_is_asked() -> None:
    """One engine alone, and another machine."""
    assert asked(measured(), options=OPTIONS[:1]).because == ("choose=measured: no other engine may serve it",)
    found = asked(measured(), elsewhere="this machine is not h100: it lacks a GPU")
    assert found == Answer(None, ("choose=measured: this machine is not h100: it lacks a GPU",))
