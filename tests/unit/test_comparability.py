"""Which records may be compared: the same work on the same machine; only engines and their settings may differ."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from recorded import BASE, MACHINE, changed

from xinfer import comparability
from xinfer.comparability import Difference
from xinfer.spec import Workload

if TYPE_CHECKING:
    from collections.abc import Collection

    from xinfer.record import Record

PYTORCH = {"decision__spec__format": "pytorch", "decision__spec__quantization": "none", "decision__spec__id": "x/y"}


def differences(
    one: Record, other: Record, allowed: Collection[str] = ()
) -> tuple[tuple[Difference, ...], tuple[Difference, ...]]:
    return comparability.differences(comparability.keys(one), comparability.keys(other), allowed)


@pytest.mark.parametrize(
    ("paths", "key", "values"),
    [
        pytest.param({"protocol": 99}, "protocol", (BASE.protocol, 99), id="another-protocol"),
        pytest.param({"metrics__scope": "inproc"}, "scope", ("http", "inproc"), id="another-scope"),
        pytest.param({"foreign": {"source": "aiperf 1"}}, "loadgen", ("xinfer", "aiperf 1"), id="another-client"),
        pytest.param({"machine__cpu": "Xeon"}, "machine.cpu", ("AMD EPYC", "Xeon"), id="another-processor"),
        pytest.param({"machine__cores": 4}, "machine.cores", (2, 4), id="another-number-of-cores"),
        pytest.param({"machine__memory_gib": 47.1}, "machine.memory_gib", (24, 47), id="another-memory"),
        pytest.param({"machine__gpus": [{"name": "H200"}]}, "machine.gpus", ([], [{"name": "H200"}]), id="a-gpu"),
        pytest.param(
            {"decision__spec__family": "qwen"}, "model.family", ("smollm2-135m-instruct", "qwen"), id="another-model"
        ),
        pytest.param({"decision__spec__size": "7"}, "model.size", ("0_135", "7"), id="another-size"),
        pytest.param({"decision__spec__quantization": "Q8_0"}, "model.quantization", ("Q4_1", "Q8_0"), id="other-bits"),
        pytest.param({"decision__spec__revision": "ab"}, "model.revision", (None, "ab"), id="another-revision"),
        pytest.param(
            {"config__workload__concurrency": 2, "config__workload__warmup": 1}, "workload.concurrency", (1, 2),
            id="another-concurrency",
        ),
        pytest.param({"config__workload__warmup": 9}, "workload.warmup", (1, 9), id="another-warm-up"),
        pytest.param({"config__workload__input_tokens": 64}, "workload.input_tokens", (128, 64), id="shorter-prompts"),
        pytest.param({"config__workload__rate": 2.0}, "workload.rate", (None, 2.0), id="a-rate"),
        pytest.param({"prompts_hash": "ff"}, "prompts_hash", ("8d3d7fcdce4f133a", "ff"), id="other-prompts"),
        pytest.param(
            {"metrics__output_tokens": 3000}, "output_tokens per request", (128.0, 100.0), id="answers-that-end-early"
        ),
        pytest.param(
            {"metrics__prompt_tokens": 3900}, "prompt_tokens per request", (128.0, 130.0), id="prompts-counted-anew"
        ),
    ],
)  # fmt: skip
def test_what_must_be_the_same(paths: dict[str, Any], key: str, values: tuple[Any, Any]) -> None:
    """A difference is named with both values, whoever is asked first."""
    other = changed(**paths)
    assert differences(BASE, other)[0] == (Difference(key=key, values=values),)
    assert differences(other, BASE)[0] == (Difference(key=key, values=values[::-1]),)


@pytest.mark.parametrize(
    "paths",
    [
        pytest.param({"launch__engine": "vllm", "decision__engine": "vllm"}, id="another-engine"),
        pytest.param({"launch__version": "2026.11"}, id="another-version"),
        pytest.param({"config__engine__threads": 2}, id="another-setting"),
        pytest.param({"config__context_length": 512}, id="another-context"),
        pytest.param({"config__workload__name": "mine", "config__workload__timeout_s": 9.0}, id="another-name"),
        pytest.param({"machine__kernel": "7", "machine__os_version": "Ubuntu", "machine__id": "f"}, id="an-update"),
        pytest.param({"machine__memory_gib": 23.61}, id="what-the-kernel-keeps"),
        pytest.param({"hardware__profile": "cpu"}, id="how-the-machine-was-asked-for"),
        pytest.param({"config__workload__warmup": 1}, id="the-same-warm-up-in-other-words"),
        pytest.param(
            {"metrics__requests": 60, "metrics__prompt_tokens": 7680, "metrics__output_tokens": 7680}, id="more"
        ),
        pytest.param({"metrics__prompt_tokens": 3870}, id="one-control-token-in-a-hundred"),
        pytest.param({"flags": [{"id": "noisy"}], "seconds": 1.0, "xinfer": "9"}, id="what-was-seen"),
    ],
)
def test_what_may_differ(paths: dict[str, Any]) -> None:
    """It is what is compared, or no part of the work."""
    assert differences(BASE, changed(**paths)) == ((), ())


@pytest.mark.parametrize(
    ("paths", "keys"),
    [
        pytest.param({"protocol": None}, ["protocol"], id="from-before-the-protocol-was-kept"),
        pytest.param({"prompts_hash": None}, ["prompts_hash"], id="no-hash"),
        pytest.param(
            {"metrics__prompt_tokens": None, "metrics__output_tokens": None},
            ["prompt_tokens per request", "output_tokens per request"], id="a-server-that-does-not-count",
        ),
        pytest.param(
            {"metrics__failed": 30}, ["prompt_tokens per request", "output_tokens per request"], id="nothing-succeeded"
        ),
        pytest.param(
            {"metrics": None}, ["scope", "prompt_tokens per request", "output_tokens per request"], id="no-numbers"
        ),
    ],
)  # fmt: skip
def test_what_is_known_of_neither_is_not_the_same(paths: dict[str, Any], keys: list[str]) -> None:
    """Two unknown loads may be two loads."""
    old = changed(**paths)
    assert [each.key for each in differences(old, old)[0]] == keys
    assert {each.values for each in differences(old, old)[0]} == {(None, None)}


def test_other_load_generators_do_not_keep_everything() -> None:
    """Two runs of one of them are compared by what it does keep."""
    theirs = changed(foreign={"source": "aiperf 1"}, prompts_hash=None, metrics__prompt_tokens=None)
    assert differences(theirs, theirs) == ((), ())
    found = differences(theirs, changed(theirs, metrics__output_tokens=3000))[0]
    assert [each.key for each in found] == ["output_tokens per request"]
    assert [each.key for each in differences(theirs, changed(theirs, protocol=None))[0]] == ["protocol"]


def test_weights_may_differ_by_leave() -> None:
    """Then what was let is told, and the file that goes with it is not a difference of its own."""
    other = changed(**PYTORCH)
    assert [each.key for each in differences(BASE, other)[0]] == ["model.format", "model.quantization", "model.id"]
    refused, allowed = differences(BASE, other, ["quantization"])
    assert refused == ()
    assert allowed == (
        Difference(key="model.format", values=("ggufv2", "pytorch")),
        Difference(key="model.quantization", values=("Q4_1", "none")),
    )


def test_leave_is_for_the_type_of_the_weights_only() -> None:
    """Another file of the same type, or another model, is no quantization of it."""
    assert [e.key for e in differences(BASE, changed(decision__spec__id="x"), ["quantization"])[0]] == ["model.id"]
    other = changed(**PYTORCH, decision__spec__size="1_7")
    assert [e.key for e in differences(BASE, other, ["quantization"])[0]] == ["model.size"]


def test_a_server_of_somebody_elses_is_known_by_what_it_serves() -> None:
    """Its weights are not known."""
    there = changed(launch__base_url="http://127.0.0.1:8000", capabilities={"model": "a"})
    found = differences(there, changed(there, capabilities={"model": "b"}))[0]
    assert found == (Difference(key="model.served", values=("a", "b")),)
    assert differences(there, BASE)[0] == (Difference(key="model.served", values=("a", None)),)


def test_a_driver_is_no_other_machine() -> None:
    """But another card is."""
    one = changed(machine={**MACHINE, "gpus": [{"name": "H200", "driver": "580"}]})
    assert differences(one, changed(one, machine__gpus=[{"name": "H200", "driver": "590"}])) == ((), ())
    assert differences(one, changed(one, machine__gpus=[{"name": "H100", "driver": "580"}]))[0]


def test_a_machine_that_is_not_known_is_another() -> None:
    """On either side, and on both."""
    old = changed(machine=None)
    for one, other in ((BASE, old), (old, BASE), (old, old)):
        (found,) = differences(one, other)[0]
        assert found.key == "machine"
        assert None in found.values


def test_memory_that_is_not_known_is_no_number() -> None:
    """It may be unknown in both."""
    one = changed(machine__memory_gib=None)
    assert differences(one, one) == ((), ())
    assert [each.key for each in differences(one, BASE)[0]] == ["machine.memory_gib"]


def test_another_protocol_is_all_there_is_to_say() -> None:
    """An older record lacks much else."""
    old = msgspec.structs.replace(BASE, protocol=None, config={}, machine=None, metrics=None, prompts_hash=None)
    assert [each.key for each in differences(BASE, old, ["quantization"])[0]] == ["protocol"]


def test_a_workload_from_before_a_key_was_there_has_its_default() -> None:
    """A closed loop was the only load."""
    old = changed(config={"workload": {"input_tokens": 128, "output_tokens": 128, "requests": 30}})
    assert differences(BASE, old) == ((), ())


def test_every_key_of_a_workload_is_compared() -> None:
    """A new one is too, without anybody's thinking of it."""
    compared = {key.partition(".")[2] for key in comparability.keys(BASE) if key.startswith("workload.")}
    assert compared == set(Workload.__struct_fields__) - {"name", "timeout_s"}


def test_nothing_is_known_of_an_empty_record() -> None:
    """It is read all the same."""
    empty = msgspec.structs.replace(BASE, config={}, machine=None, hardware=None, decision=None, launch=None)
    assert differences(empty, BASE)[0]
