"""What may be typed otherwise: the catalogue's rows, the profiles, and the values that conditions name."""

from __future__ import annotations

from typing import Any

import pytest

from xinfer.catalog import Spec
from xinfer.facts import Gpu, Hardware
from xinfer.judging import alternatives
from xinfer.judging.alternatives import INTERPRETER, Change, Option
from xinfer.judging.predicates import compile_predicate
from xinfer.judging.rules import Condition, Source

SOURCE = Source(kind="page", title="A guide", date="2024-08-14", where="example.org/guide")
NVIDIA = Gpu(vendor="nvidia", memory_gib=24.0, compute_capability="7.5")


def condition(body: dict[str, Any], when: dict[str, Any] | None = None) -> Condition:
    applies = None if when is None else compile_predicate(when, "w")
    return Condition(id="c", predicate=compile_predicate(body, "p"), when=applies, expected="", source=SOURCE, fix=None)


def spec(size: str, form: str, quantization: str, hub: str = "huggingface") -> Spec:
    return Spec(family="f", size=size, format=form, quantization=quantization, hub=hub, id="a/b")


def typed(option: Option[Any]) -> str:
    return " ".join(sorted(change.text for change in option.changes))


def kinds(option: Option[Any]) -> set[str]:
    return {change.kind for change in option.changes}


# --- values that conditions name ---


def test_conditions_name_facts_and_values() -> None:
    """Those of the condition and of when it applies, inside combinations too; a value that is refused is none."""
    found = alternatives.named(
        [
            condition({"fact": "model.format", "in": ["gptq", "awq"]}, {"fact": "hw.device", "eq": "cuda"}),
            condition({"any": [{"fact": "hw.isa", "has": "avx2"}, {"fact": "hw.arch", "eq": "arm64"}]}),
            condition({"fact": "model.format", "ne": "fp8"}),
            condition({"fact": "hw.compute_capability", "ge": 7.5}),
        ]
    )
    assert found == {
        "hw.device": ["cuda"], "model.format": ["gptq", "awq"], "hw.isa": ["avx2"], "hw.arch": ["arm64"],
        "hw.compute_capability": [7.5],
    }  # fmt: skip


# --- models ---

OWN = f"engine.python={INTERPRETER}"
SPECS = [spec("7", "gptq", "Int4"), spec("7", "gptq", "Int8"), spec("7", "ggufv2", "q4_0"), spec("72", "awq", "Int4")]


@pytest.mark.parametrize(
    ("chosen", "expected"),
    [
        pytest.param({}, {"": 4}, id="what-is-open-needs-no-change"),
        pytest.param(
            {"format": "ggufv2"}, {"": 1, "model.format=gptq": 2, "model.format=awq": 1}, id="what-is-chosen-is-changed"
        ),
        pytest.param(
            {"size": "7", "format": "gptq", "quantization": "Int4"},
            {
                "": 1, "model.quantization=Int8": 1, "model.format=ggufv2 model.quantization=q4_0": 1,
                "model.format=awq model.size=72": 1,
            },
            id="only-what-differs-is-changed",
        ),
        pytest.param(
            {"format": "GPTQ", "size": "7b"},
            {"": 2, "model.format=ggufv2": 1, "model.format=awq model.size=72": 1},
            id="spelling-is-the-catalogues-business",
        ),
    ],
)  # fmt: skip
def test_models(chosen: dict[str, str], expected: dict[str, int]) -> None:
    """Each artefact is there with what has to be typed otherwise for it."""
    found = alternatives.models(SPECS, chosen, {})
    assert {typed(option): len(option.value) for option in found} == expected


def test_another_spelling_is_typed_where_the_typed_one_is_published_too() -> None:
    """The catalogue takes what is spelled as it was typed, if there is such an artefact."""
    both = [spec("7", "mlx", "4-bit"), spec("7", "mlx", "4bit")]
    found = alternatives.models(both, {"quantization": "4-bit"}, {})
    assert {typed(option): option.value for option in found} == {
        "": (both[0],), "model.quantization=4bit": (both[1],),
    }  # fmt: skip
    alone = alternatives.models(both[1:], {"quantization": "4-bit"}, {})
    assert {typed(option): option.value for option in alone} == {"": (both[1],)}


def test_another_family_takes_one_more_change_at_most() -> None:
    """Its sizes differ, perhaps; whoever changes more than that has asked for something else."""
    other = Change(key="model", value="g", kind="family")
    found = alternatives.models(SPECS[:1], {"size": "7", "format": "gptq"}, {other: SPECS})
    assert {typed(option): len(option.value) for option in found} == {
        "": 1, "model=g": 2, "model.format=ggufv2 model=g": 1,
    }  # fmt: skip


# --- settings ---


@pytest.mark.parametrize(
    ("named", "current", "versions", "expected"),
    [
        pytest.param({}, {}, ["1.0"], ["", "engine.version=1.0"], id="versions"),
        pytest.param({}, {"version": "1.0"}, ["1.0", "2.0"], ["", "engine.version=2.0"], id="not-the-one-it-is"),
        pytest.param(
            {"engine.own": [True]}, {}, ["1.0"],
            ["", "engine.version=1.0", OWN, f"{OWN} engine.version=1.0"],
            id="an-interpreter-where-a-condition-asks-for-one",
        ),
        pytest.param({"engine.own": [True]}, {"python": "p"}, [], [""], id="not-another-interpreter"),
    ],
)  # fmt: skip
def test_settings(
    named: dict[str, list[Any]], current: dict[str, Any], versions: list[str], expected: list[str]
) -> None:
    """The engine's version, and the user's own interpreter."""
    found = alternatives.settings(named, current, versions)
    assert [typed(option) for option in found] == expected
    assert all({**current, **option.value} == option.value for option in found)


# --- machines ---


@pytest.mark.parametrize(
    ("named", "machine", "expected"),
    [
        pytest.param({"hw.os": ["linux"]}, Hardware(profile="p"), "hw.os=linux", id="a-system-is-said"),
        pytest.param({"hw.os": ["linux"]}, Hardware(profile="p", os="windows"), "hw.os=linux !", id="or-changed"),
        pytest.param({"hw.os": ["linux"]}, Hardware(profile="p", os="darwin"), None, id="but-not-that-of-a-mac"),
        pytest.param({"hw.arch": ["arm64"]}, Hardware(profile="p"), "hw.arch=arm64", id="an-architecture-is-said"),
        pytest.param({"hw.arch": ["arm64"]}, Hardware(profile="p", arch="x86_64"), None, id="and-never-changed"),
        pytest.param({"hw.apple_silicon": [True]}, Hardware(profile="p"), "hw.apple_silicon=true", id="a-flag-is-said"),
        pytest.param({"hw.apple_silicon": [True]}, Hardware(profile="p", os="linux"), None, id="unless-it-is-known"),
        pytest.param({"hw.isa": ["avx2"]}, Hardware(profile="p"), "hw.isa=[avx2]", id="an-extension-is-said"),
        pytest.param(
            {"hw.isa": ["avx2"]}, Hardware(profile="p", isa=("avx",)), "hw.isa=[avx,avx2] !", id="or-added"
        ),
        pytest.param({"hw.isa": ["avx2"]}, Hardware(profile="p", isa=("avx2",)), None, id="if-it-is-not-there"),
        pytest.param({"hw.device": ["cpu"]}, Hardware(profile="p"), "hw.gpus=0", id="no-gpu-is-said"),
        pytest.param({"hw.device": ["cpu"]}, Hardware(profile="p", gpus=1), None, id="but-none-is-taken-out"),
        pytest.param(
            {"hw.device": ["cuda"]}, Hardware(profile="p", gpus=1), "hw.gpu.vendor=nvidia", id="whose-gpu-is-said"
        ),
        pytest.param(
            {"hw.device": ["rocm"]}, Hardware(profile="p", gpu=Gpu(vendor="amd")), "hw.gpus=1", id="that-there-is-one"
        ),
        pytest.param({"hw.device": ["cuda"]}, Hardware(profile="p", gpus=0), None, id="but-none-is-put-in"),
        pytest.param(
            {"hw.cuda_devices": [2]}, Hardware(profile="p", gpus=1, gpu=NVIDIA), "hw.gpus=2 !", id="more-of-the-same"
        ),
        pytest.param({"hw.cuda_devices": [1]}, Hardware(profile="p", gpus=1, gpu=NVIDIA), None, id="never-fewer"),
        pytest.param({"hw.rocm_devices": [1]}, Hardware(profile="p", gpus=1, gpu=NVIDIA), None, id="none-of-another"),
        pytest.param(
            {"hw.compute_capability": [8]}, Hardware(profile="p", gpus=1, gpu=NVIDIA),
            "hw.gpu.compute_capability=8.0 !", id="a-newer-gpu",
        ),
        pytest.param(
            {"hw.compute_capability": [8.0]}, Hardware(profile="p", gpus=1, gpu=Gpu(vendor="nvidia")),
            "hw.gpu.compute_capability=8.0", id="what-the-gpu-can-is-said",
        ),
        pytest.param({"hw.compute_capability": [8.0]}, Hardware(profile="p", gpus=0), None, id="of-a-gpu-only"),
        pytest.param(
            {"hw.compute_capability": [8.0]}, Hardware(profile="p", gpus=1, gpu=Gpu(vendor="amd")), None,
            id="of-nvidias-only",
        ),
        pytest.param(
            {"hw.gpu_memory_gib": [40]}, Hardware(profile="p", gpus=1, gpu=NVIDIA), "hw.gpu.memory_gib=40 !",
            id="a-larger-gpu",
        ),
        pytest.param({"hw.gpu_memory_gib": [40]}, Hardware(profile="p", gpus=0), None, id="if-there-is-one"),
        pytest.param({"hw.memory_gib": [64]}, Hardware(profile="p", memory_gib=32.0), "hw.memory_gib=64 !", id="more"),
        pytest.param({"hw.cores": [4]}, Hardware(profile="p"), "hw.cores=4", id="cores-are-said"),
        pytest.param({"hw.cores": [4]}, Hardware(profile="p", cores=8), None, id="enough-is-enough"),
        pytest.param({"model.format": ["gptq"]}, Hardware(profile="p"), None, id="a-model-is-no-machine"),
    ],
)  # fmt: skip
def test_one_fact_of_a_machine(named: dict[str, list[Any]], machine: Hardware, expected: str | None) -> None:
    """It is said where it is not known, and changed where the same machine may have it (``!``)."""
    itself, *others = alternatives.machines(named, machine, {}, ())
    assert itself == Option(frozenset(), machine)
    assert [typed(each) + " !" * (kinds(each) == {"hardware"}) for each in others] == [expected] * (
        expected is not None
    )
    assert all(kinds(each) <= {"fact", "hardware"} and each.value != machine for each in others)


def test_several_facts_are_changed_together() -> None:
    """Up to three, and each of them once."""
    named: dict[str, list[Any]] = {
        "hw.os": ["linux"],
        "hw.arch": ["x86_64", "arm64"],
        "hw.cores": [4],
        "hw.memory_gib": [8],
    }
    found = {typed(option) for option in alternatives.machines(named, Hardware(profile="p"), {}, ())}
    assert "hw.arch=arm64 hw.cores=4 hw.os=linux" in found
    assert len(found) == 1 + 5 + 9 + 7
    assert not any(each.count("hw.arch") > 1 for each in found)


def test_what_contradicts_itself_is_no_machine() -> None:
    """Facts that exclude each other are not suggested together."""
    named: dict[str, list[Any]] = {"hw.apple_silicon": [True], "hw.device": ["cuda"]}
    found = {typed(option) for option in alternatives.machines(named, Hardware(profile="p", gpus=1), {}, ())}
    assert found == {"", "hw.apple_silicon=true", "hw.gpu.vendor=nvidia"}


def test_other_profiles() -> None:
    """Each is one change; beside it, only what the user has typed of a machine is changed too."""
    profiles = {"cuda": Hardware(profile="cuda", os="windows", gpus=1, gpu=NVIDIA)}
    named: dict[str, list[Any]] = {"hw.os": ["linux"], "hw.compute_capability": [8.0]}
    found = alternatives.machines(named, Hardware(profile="cpu", os="windows", gpus=0), profiles, ["model", "hw.os"])
    assert [typed(option) for option in found] == ["", "hw.os=linux", "hw=cuda", "hw.os=linux hw=cuda"]
    assert found[-1].value == Hardware(profile="cuda", os="linux", gpus=1, gpu=NVIDIA)
