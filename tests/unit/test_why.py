"""Why an engine does not serve a cell, and what would make it: each set is typed, judged and planned again."""

from __future__ import annotations

import json
import subprocess
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xinfer import engines, flow
from xinfer.config.compose import Composer
from xinfer.errors import XinferError
from xinfer.judging import changes
from xinfer.testing import model_files
from xinfer.verbs import why
from xinfer.verbs.variation import Variation
from xinfer.verbs.why import Reason

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from xinfer.judging.alternatives import Change

    Ask = Callable[..., subprocess.CompletedProcess[str]]


@cache
def composer() -> Composer:
    return Composer(engines.conf_directories())


@cache
def reasons(*typed: str) -> list[Reason]:
    return why.run(typed, composer().compose(typed), composer())[1]


def typed_ways(*typed: str) -> list[str]:
    (reason,) = reasons(*typed)
    return [" ".join(way.typed) for way in reason.ways]


def does(planned: flow.Planned) -> bool:
    """Tell whether it is a yes for the engine that was asked for, and not known to be too large."""
    name = planned.ask.engine["name"]
    is_yes = any(verdict.verdict == "yes" for verdict in planned.decision.verdicts if verdict.engine == name)
    return is_yes and planned.launch is not None and planned.launch.memory.fits is not False


def does_typed(*typed: str) -> bool:
    try:
        return does(flow.plan(flow.ask(composer().compose(typed), composer()), composer()))
    except XinferError:
        return False


# --- what is found ---

VLLM = ("engine=vllm", "model=qwen2-instruct")


@pytest.mark.parametrize(
    ("typed", "first"),
    [
        pytest.param(("engine=sglang", "model=qwen2-instruct", "hw=cpu"), "hw=cuda", id="another-machine"),
        pytest.param((*VLLM, "hw=cuda", "model.format=ggufv2"), "model.format=pytorch", id="another-format"),
        pytest.param(
            (*VLLM, "hw=cpu", "model.format=ggufv2"), "model.format=pytorch hw=cuda", id="both-where-both-are-needed"
        ),
        pytest.param(
            (*VLLM, "hw=cuda", "model.size=7", "model.format=ggufv2", "model.quantization=q4_0"),
            "model.quantization=none model.format=pytorch",
            id="a-quantization-with-its-format",
        ),
        pytest.param(
            ("engine=llama_cpp", "model=orion-chat", "hw=cuda"), "model=Yi-chat", id="a-family-where-no-row-does"
        ),
        pytest.param(
            ("engine=vllm", "model=qwen-chat", "hw=cuda", "hw.gpu.compute_capability=8.0", "rules=engines-2026-11"),
            "engine.version=0.23.0",
            id="the-last-version-that-had-it",
        ),
        pytest.param(
            (*VLLM, "hw=cuda", "rules=engines-2026-11"), "hw.gpu.compute_capability=7.5",
            id="a-fact-that-is-not-known-is-said",
        ),
        pytest.param((*VLLM, "hw=cuda", "hw.os=windows"), "hw.os=linux", id="a-system"),
        pytest.param(
            (*VLLM, "hw=rocm", "hw.detect=true", "rules=vllm", "rules.engines.vllm.rocm-python.version='<3'"),
            "engine.python=/path/to/python",
            id="an-interpreter-that-there-is-a-wheel-for",
        ),
        pytest.param(
            (*VLLM, "hw=cpu", "hw.os=windows"), "hw=cuda hw.os=linux", id="what-was-typed-beside-another-machine"
        ),
        pytest.param(
            ("engine=transformers", "model=qwen2-instruct", "hw=h100", "model.format=gptq", "rules=engines-2026-11"),
            "engine.python=/path/to/python",
            id="an-interpreter-of-the-users-own",
        ),
        pytest.param(
            (*VLLM, "model.size=7", "model.format=pytorch", "hw=t4"), "model.format=gptq",
            id="nothing-of-that-format-and-size-fits",
        ),
    ],
)  # fmt: skip
def test_the_cheapest_set(typed: tuple[str, ...], first: str) -> None:
    """It is the first one, and what is typed with it is a yes."""
    assert typed_ways(*typed)[0] == first


CELLS = [
    ("engine=vllm", "model=qwen2-instruct", "hw=cpu", "model.format=ggufv2"),
    ("engine=mlx", "model=qwen2-instruct", "hw=rtx4090", "model.size=7"),
    ("engine=sglang", "model=qwen2-instruct", "hw=cpu", "model.format=gptq", "rules=engines-2026-11"),
    ("engine=vllm", "model=qwen2-instruct", "model.size=72", "hw=rtx4090"),
]


@pytest.mark.parametrize("typed", CELLS, ids=" ".join)
def test_what_is_printed_does_when_it_is_typed(typed: tuple[str, ...]) -> None:
    """Through the command line's own way: composed by Hydra, judged, planned; without one of its words it does not."""
    (reason,) = reasons(*typed)
    assert reason.ways
    for way in reason.ways[:1]:
        assert does_typed(*typed, *way.typed), way.typed
        for word in way.typed:
            rest = [other for other in way.typed if other != word]
            assert not does_typed(*typed, *rest), (way.typed, word)


FAMILIES = ("qwen2-instruct", "qwen-chat", "mistral-nemo-instruct", "internlm-16k", "llama-3.1-instruct", "gemma-2-it")
MACHINES = ("cpu", "cuda", "t4", "rtx4090", "apple", "rocm", "h100")


@settings(max_examples=5, deadline=None)
@given(
    engine=st.sampled_from(["vllm", "sglang", "transformers", "llama_cpp", "mlx"]),
    family=st.sampled_from(FAMILIES),
    machine=st.sampled_from(MACHINES),
    rules=st.sampled_from(["xinference-2024-08", "engines-2026-11"]),
)
def test_each_set_does_and_none_of_its_parts(engine: str, family: str, machine: str, rules: str) -> None:
    """Whatever is asked, every set that is found is planned once more, and so are its parts."""
    typed = [f"engine={engine}", f"model={family}", f"hw={machine}", f"rules={rules}"]
    asked = flow.ask(composer().compose(typed), composer())
    variation = Variation(asked, typed, composer())
    for reason in reasons(*typed):
        for way in reason.ways[:3]:
            assert planned(variation, way.changes), way.typed
            for change in way.changes:
                rest = [other for other in way.changes if other != change]
                assert not planned(variation, rest), (way.typed, change.text)


def planned(variation: Variation, some: Iterable[Change]) -> bool:
    try:
        return does(variation.planned(some))
    except XinferError:
        return False


# --- what is said ---


def test_a_yes_needs_no_change() -> None:
    """What may go wrong nevertheless is said: nobody knows whether it fits, and today's rules may judge otherwise."""
    (reason,) = reasons(*VLLM, "hw=cuda")
    assert (reason.verdict, reason.ways) == ("yes", ())
    assert reason.risks[0].startswith("nobody knows whether it fits, as these are not known: ")
    assert any(risk.startswith("engines-2026-11 says unknown: ") for risk in reason.risks)
    assert why.is_answered(reason)


def test_a_yes_that_may_not_fit() -> None:
    """Every part is known, one of them within bounds that lie on both sides of what there is."""
    (reason,) = reasons(*VLLM, "hw=rtx4090", "hw.gpu.memory_gib=19")
    assert reason.risks[0] == "nobody knows whether it fits, as only bounds of the overhead are known"


def test_a_yes_that_does_not_fit_needs_changes() -> None:
    """Less of the model, or more of the machine: the least that does."""
    (reason,) = reasons(*VLLM, "model.size=7", "model.format=pytorch", "model.quantization=none", "hw=t4")
    assert reason.verdict == "yes"
    assert reason.risks[0].startswith("it does not fit: needs at least ")
    ways = {" ".join(way.typed): way for way in reason.ways}
    assert {"model.size=1_5", "hw.gpus=2", "hw.gpu.memory_gib=16"} <= set(ways)
    assert all(way.memory.fits is not False for way in ways.values())
    larger = next(way for way in reason.ways if way.changes[0].key == "hw")
    assert "hw=rtx3080" not in (*larger.typed, *larger.also)  # has 10 GiB


def test_other_values_of_the_dearest_change_are_listed() -> None:
    """The nearest is named, the others follow it."""
    (reason,) = reasons("engine=sglang", "model=qwen2-instruct", "hw=cpu")
    (way,) = reason.ways
    assert way.typed == ("hw=cuda",)
    assert {"hw=rtx4090", "hw=h100"} <= set(way.also)
    assert not {"hw=apple", "hw=rocm"} & set(way.also)


def test_every_engine_is_asked_where_none_is_named() -> None:
    """In the order of the pack; what is to be typed then names the engine too."""
    found = {reason.engine: reason for reason in reasons("model=qwen2-instruct", "hw=cpu")}
    assert list(found) == ["vllm", "mlx", "sglang", "transformers", "llama_cpp"]
    assert found["transformers"].verdict == "yes"
    assert found["vllm"].ways[0].typed == ("engine=vllm", "hw=cuda")
    assert does_typed("model=qwen2-instruct", "hw=cpu", *found["vllm"].ways[0].typed)


def test_nothing_helps(ask: Ask) -> None:
    """A condition that no declared alternative meets is named, and the exit code is 3."""
    done = ask("why", *VLLM, "hw=cuda", "+rules.engines.vllm.never={fact: model.format, eq: none, source: backends}")
    assert done.returncode == 3
    assert "nothing helps within 3 changes: no declared model, machine or setting meets never\n" in done.stdout
    assert done.stderr == "xinfer: no 3 changes make vllm serve qwen2-instruct\n"


def test_a_plugin_that_is_not_there(ask: Ask, visible_engines: Callable[[str], None]) -> None:
    """No change of the cell brings it back."""
    visible_engines("llama_cpp")
    done = ask("why", "model=qwen2-instruct", "hw=cuda", "format=json")
    vllm = next(each for each in json.loads(done.stdout) if each["engine"] == "vllm")
    assert (vllm["verdict"], vllm["ways"], vllm["blocked"]) == ("unknown", [], ["plugin"])


def test_a_family_without_a_record(ask: Ask) -> None:
    """Another day may have one; another family has."""
    done = ask("why", "engine=vllm", "model=internlm-16k", "hw=cuda")
    assert done.returncode == 0
    assert "\nvllm: unknown, for internlm-16k " in done.stdout
    assert "    1  model=internlm" in done.stdout
    later = typed_ways("engine=vllm", "model=llama-3.1-instruct", "catalog=2024-07", "hw=cuda")
    assert later[0] == "catalog=2024-08"


def test_a_model_of_no_catalogue(ask: Ask, tmp_path: Path) -> None:
    """There is one artefact; machine, version and settings are what can be changed."""
    folder = tmp_path / "own"
    model_files.folder(folder)
    done = ask("why", "engine=vllm", "model=local", f"model.path={folder}", "hw=cpu", "rules=xinference-2024-08")
    assert "FAILED  cuda" in done.stdout
    assert "model=" not in done.stdout.partition("to change")[2].replace("rules=", "")


def test_text(ask: Ask) -> None:
    """All findings of the engine, then the sets, then what is cheaper than what."""
    done = ask("why", *VLLM, "model.format=ggufv2", "hw=cpu")
    lines = done.stdout.splitlines()
    assert lines[0] == "on cpu: linux, no GPU, by xinference-2024-08"
    assert lines[2].startswith("vllm: no, for qwen2-instruct 7B ggufv2 q4_k_m (")
    assert [line.split()[0] for line in lines[3:12] if line.startswith(("  met", "  FAILED"))] == [
        "FAILED", "met", "met", "met", "met", "FAILED", "met",
    ]  # fmt: skip
    assert "  to change, one of these 3:" in lines
    assert lines[-1].startswith("cheapest first: fact < setting < quantization < format < size < version < hub")
    assert len(json.loads(ask("why", *VLLM, "hw=cpu", "format=json").stdout)) == 1


def test_many_sets_are_cut_short() -> None:
    """Text has the cheapest; JSON has all."""
    asked, found = why.run((*VLLM, "hw=cpu"), composer().compose([*VLLM, "hw=cpu"]), composer())
    (reason,) = found
    many = [way for way in reason.ways for _ in range(12)]
    said = why.text(asked, [msgspec.structs.replace(reason, ways=tuple(many))])
    assert "and 4 dearer ones: format=json" in said


def test_sets_are_ordered_by_cost() -> None:
    """As the last line says."""
    for typed in CELLS:
        (reason,) = reasons(*typed)
        costs: Sequence[tuple[int, ...]] = [changes.cost(way.changes) for way in reason.ways]
        assert costs == sorted(costs)
