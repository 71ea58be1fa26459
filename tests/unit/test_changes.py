"""The smallest sets of changes: which are found, in which order, and that each is minimal."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xinfer.catalog import CHOICES, Spec
from xinfer.facts import Gpu, Hardware
from xinfer.judging import alternatives, changes, packs, rules
from xinfer.judging.alternatives import Axes, Change, Option
from xinfer.judging.changes import Judge, Point, Repair
from xinfer.judging.rules import Pack

CPU = Hardware(profile="cpu", os="linux", gpus=0)
CUDA = Hardware(profile="cuda", os="linux", gpus=1, gpu=Gpu(vendor="nvidia"))
OLD = Hardware(profile="old", os="linux", gpus=1, gpu=Gpu(vendor="nvidia", compute_capability="6.0"))
CONDITIONS: dict[str, dict[str, Any]] = {
    "format": {"fact": "model.format", "in": ["gptq", "awq"]},
    "bits": {"when": {"fact": "model.format", "eq": "gptq"}, "fact": "model.quantization", "in": ["Int4"]},
    "cuda": {"fact": "hw.cuda_devices", "ge": 1},
    "own": {"any": [{"fact": "model.format", "ne": "awq"}, {"fact": "engine.own", "eq": True}]},
}


def pack(**conditions: dict[str, Any]) -> Pack:
    source = {"page": {"kind": "page", "title": "A guide", "date": "2024-08-14", "where": "example.org/guide"}}
    bodies = {name: {**body, "source": "page"} for name, body in conditions.items()}
    return packs.load({"name": "mine", "sources": source, "engines": {"e": bodies}}, "mine.yaml")


def spec(size: str, form: str, quantization: str, **more: Any) -> Spec:
    return Spec(family="f", size=size, format=form, quantization=quantization, hub="h", id="a/b", **more)


SPECS = [spec("7", "ggufv2", "q4_0"), spec("7", "gptq", "Int4"), spec("7", "gptq", "Int8"), spec("72", "awq", "Int4")]
PROFILES = {"cuda": CUDA, "cpu2": CPU}


def axes(
    judged: Pack,
    typed: dict[str, str],
    machine: Hardware,
    specs: list[Spec] | None = None,
    profiles: Mapping[str, Hardware] = PROFILES,
) -> Axes:
    named = alternatives.named(judged.engines["e"])
    return Axes(
        alternatives.models(specs or SPECS, typed, {}),
        alternatives.machines(named, machine, profiles, ()),
        alternatives.settings(named, {}, ["1.0"] if "engine.version" in named else []),
    )


def small(some: tuple[Spec, ...], _: Point) -> bool | None:
    """Say that all but the large fit, as far as is known; a planner takes what may fit."""
    return False if all(one.size == "72" for one in some) else None


def found(
    judged: Pack, among: Axes, fits: changes.Fits = lambda *_: True, repairs: tuple[Repair, ...] = (), most: int = 3
) -> list[str]:
    sets = changes.smallest(Judge(judged, "e"), among, fits, repairs, most=most)
    return [" ".join(change.text for change in changes.ordered(each)) for each in sets]


OWN = f"engine.python={alternatives.INTERPRETER}"


@pytest.mark.parametrize(
    ("typed", "machine", "expected"),
    [
        pytest.param({}, CUDA, [""], id="nothing-where-it-does-already"),
        pytest.param({}, CPU, ["hw=cuda"], id="the-machine-where-only-that-fails"),
        pytest.param(
            {"format": "ggufv2"}, CUDA, ["model.format=gptq", f"{OWN} model.format=awq"], id="the-format"
        ),
        pytest.param(
            {"format": "gptq", "quantization": "Int8"}, CPU,
            ["model.quantization=Int4 hw=cuda"],
            id="two-parts-of-which-neither-does-alone",
        ),
        pytest.param(
            {"size": "72"}, CUDA, [OWN, "model.size=7"],
            id="the-cheapest-first",
        ),
        pytest.param(
            {"size": "7", "format": "ggufv2", "quantization": "q4_0"}, CPU,
            ["model.quantization=Int4 model.format=gptq hw=cuda"],
            id="three-changes",
        ),
    ],
)  # fmt: skip
def test_sets(typed: dict[str, str], machine: Hardware, expected: list[str]) -> None:
    """All that must change does, and nothing else."""
    judged = pack(**CONDITIONS)
    assert found(judged, axes(judged, typed, machine)) == expected


def test_no_more_changes_than_asked_for() -> None:
    """Three is what somebody still reads."""
    judged = pack(**CONDITIONS)
    among = axes(judged, {"size": "7", "format": "ggufv2", "quantization": "q4_0"}, CPU)
    assert found(judged, among, most=2) == []


def test_another_machine_for_another_model_is_the_last_resort() -> None:
    """It is found where nothing else does, and only there."""
    judged = pack(format={"fact": "model.format", "eq": "gptq"}, cuda={"fact": "hw.cuda_devices", "ge": 1})
    other = Change(key="model", value="g", kind="family")
    models = alternatives.models(SPECS[:1], {}, {other: SPECS[1:2]})
    among = axes(judged, {}, CPU)._replace(models=models)
    assert found(judged, among) == ["model=g hw=cuda"]
    there = [Option(frozenset(), CPU), Option(frozenset({Change(key="hw.gpus", value="1", kind="fact")}), CUDA)]
    both = among._replace(machines=[*there, *among.machines[1:]])
    assert found(judged, both) == ["hw.gpus=1 model=g"]


def test_what_does_not_fit_does_not_do() -> None:
    """Conditions that are met are not enough; what nobody knows to be too large is."""
    judged = pack(format={"fact": "model.format", "in": ["awq", "gptq"]})
    among = axes(judged, {"format": "awq"}, CPU)
    assert found(judged, among, small) == ["model.format=gptq"]
    assert found(judged, axes(judged, {}, CPU), small) == [""]


def test_the_least_of_an_amount() -> None:
    """Of two values that both do, the smaller one is asked for; and none where the profile that is named has it."""
    judged = pack(
        a={"fact": "hw.compute_capability", "ge": 7.5},
        b={"when": {"fact": "model.format", "eq": "awq"}, "fact": "hw.compute_capability", "ge": 8.0},
    )
    assert found(judged, axes(judged, {"format": "awq"}, OLD)) == [
        "hw.gpu.compute_capability=8.0",
        "model.format=ggufv2 hw.gpu.compute_capability=7.5",
        "model.format=gptq hw.gpu.compute_capability=7.5",
    ]  # fmt: skip
    assert found(judged, axes(judged, {"format": "gptq"}, OLD)) == ["hw.gpu.compute_capability=7.5"]


# --- room ---


def needs(gib: float) -> changes.Fits:
    def fits(_: tuple[Spec, ...], point: Point) -> bool | None:
        has, length = point.hardware.memory_gib, point.context_length or 8
        return None if has is None else gib * length / 8 <= has

    return fits


def larger(point: Point, value: int) -> Point:
    return point._replace(hardware=alternatives.changed(point.hardware, "memory_gib", value))


MEMORY = Repair("hw.memory_gib", "hardware", range(1, 65), larger)
CONTEXT = Repair("context_length", "setting", (4, 2), lambda point, value: point._replace(context_length=value))
SMALL = Hardware(profile="cpu", os="linux", gpus=0, memory_gib=8.0)


@pytest.mark.parametrize(
    ("conditions", "machine", "gib", "expected"),
    [
        pytest.param({}, SMALL, 12, ["context_length=4", "hw.memory_gib=12"], id="the-least-that-makes-room"),
        pytest.param({}, SMALL, 30, ["context_length=2", "hw.memory_gib=30"], id="more-where-more-is-needed"),
        pytest.param({}, SMALL, 100, [], id="nothing-where-it-is-never-enough"),
        pytest.param({}, CPU, 100, [""], id="nothing-where-nobody-knows"),
        pytest.param(
            {"memory": {"fact": "hw.memory_gib", "ge": 16}}, SMALL, 20,
            ["hw.memory_gib=20"],
            id="more-of-what-the-rules-ask-for",
        ),
        pytest.param(
            {"linux": {"fact": "hw.os", "eq": "windows"}}, SMALL, 12,
            ["context_length=4 hw.os=windows", "hw.memory_gib=12 hw.os=windows"],
            id="beside-another-change",
        ),
    ],
)  # fmt: skip
def test_room(conditions: dict[str, Any], machine: Hardware, gib: float, expected: list[str]) -> None:
    """Where the rules say yes and the memory no, there is a set that makes room."""
    judged = pack(**{"os": {"fact": "hw.os", "present": True}, **conditions})
    among = axes(judged, {"format": "gptq", "quantization": "Int4", "size": "7"}, machine, SPECS[1:2], {})
    assert found(judged, among, needs(gib), (CONTEXT, MEMORY)) == expected


def test_room_is_made_by_no_more_changes_than_needed() -> None:
    """A smaller artefact in more memory is not suggested where either is enough."""
    judged = pack(os={"fact": "hw.os", "present": True})

    def fits(some: tuple[Spec, ...], point: Point) -> bool | None:
        return needs({"q8": 16, "q5": 10, "q4": 6}[some[0].quantization or ""])(some, point)

    specs = [spec("7", "ggufv2", name) for name in ("q8", "q5", "q4")]
    among = axes(judged, {"quantization": "q8"}, SMALL, specs, {})
    assert found(judged, among, fits, (MEMORY,)) == ["model.quantization=q4", "hw.memory_gib=16"]


def test_a_state_is_judged_as_a_whole() -> None:
    """Asked directly, a machine that no artefact can run on has none that is able; nor has an engine without rules."""
    judge = Judge(pack(os={"fact": "hw.os", "eq": "darwin"}), "e")
    assert judge.able(Point(tuple(SPECS), CPU, {})) == ()
    mac = Hardware(profile="mac", os="darwin")
    assert judge.able(Point(tuple(SPECS), mac, {})) == tuple(SPECS)
    assert Judge(pack(), "e").able(Point(tuple(SPECS), mac, {})) == ()


# --- what blocks ---


def test_what_blocks() -> None:
    """A condition about one part of the cell, of which no alternative meets it."""
    judged = pack(
        format={"fact": "model.format", "eq": "fp8"}, os={"fact": "hw.os", "eq": "darwin"},
        linux={"fact": "hw.os", "eq": "linux"}, version={"fact": "engine.version", "version": ">=2"},
        both={"any": [{"fact": "hw.os", "eq": "darwin"}, {"fact": "model.format", "eq": "fp8"}]},
    )  # fmt: skip
    among = axes(judged, {}, CPU)
    assert Judge(judged, "e").blocking(among) == ("format", "os")
    assert found(judged, among) == []


# --- the property ---

FACTS: dict[str, list[Any]] = {
    "model.format": ["gptq", "awq", "ggufv2"], "model.quantization": ["Int4", "Int8", "q4_0"],
    "hw.os": ["linux", "windows"], "hw.compute_capability": [7.0, 8.0], "hw.cuda_devices": [1, 2], "engine.own": [True],
}  # fmt: skip


@st.composite
def predicates(draw: st.DrawFn) -> dict[str, Any]:
    fact = draw(st.sampled_from(sorted(FACTS)))
    value = draw(st.sampled_from(FACTS[fact]))
    return {"fact": fact, "ge" if isinstance(value, (int, float)) and not isinstance(value, bool) else "eq": value}


@st.composite
def conditions(draw: st.DrawFn) -> dict[str, Any]:
    body: dict[str, Any] = draw(st.one_of(predicates(), predicates().map(lambda each: {"not": each})))
    when = draw(st.one_of(st.none(), predicates()))
    return body if when is None else {**body, "when": when}


MACHINES = [
    CPU, CUDA, OLD, Hardware(profile="w", os="windows", gpus=1, gpu=Gpu(vendor="nvidia", compute_capability="8.0")),
    Hardware(profile="unknown"),
]  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(
    bodies=st.lists(conditions(), min_size=1, max_size=4),
    machine=st.sampled_from(MACHINES),
    chosen=st.sampled_from(SPECS),
    fixed=st.sets(st.sampled_from(["size", "format", "quantization"])),
)
def test_each_set_does_and_none_of_its_parts(
    bodies: list[dict[str, Any]], machine: Hardware, chosen: Spec, fixed: set[str]
) -> None:
    """Found or not, every state of the cell within three changes is judged once more, by the pack itself."""
    judged = pack(**{f"c{number}": body for number, body in enumerate(bodies)})
    among = axes(judged, {name: getattr(chosen, name) for name in sorted(fixed)}, machine)
    sets = changes.smallest(Judge(judged, "e"), among, small)
    does = {changed for changed, point in states(among) if serves(judged, point)}
    minimal = {each for each in does if not any(other < each for other in does)}
    assert set(sets) <= minimal
    assert {alike(each) for each in sets} == {alike(each) for each in minimal if len(each) <= changes.MOST}
    assert list(sets) == sorted(sets, key=changes.cost)


def states(among: Axes) -> list[tuple[frozenset[Change], Point]]:
    product: Any = itertools.product(*among)
    return [
        (model.changes | machine.changes | own.changes, Point(model.value, machine.value, own.value))
        for model, machine, own in product
    ]


def serves(judged: Pack, point: Point) -> bool:
    able = [
        one for one in point.specs
        if judged.judge("e", rules.gather(one, point.hardware, **point.settings)).verdict == "yes"
    ]  # fmt: skip
    return bool(able) and small(tuple(able), point) is not False


def alike(each: frozenset[Change]) -> frozenset[str]:
    """Return the changes, an amount without how much it is."""
    amounts = ("hw.gpus", "hw.gpu.compute_capability")
    return frozenset(change.key if change.key in amounts else change.text for change in each)


def test_options_are_tuples_of_changes_and_what_they_lead_to() -> None:
    """An alternative that no other part can help is left out of the search."""
    judged = pack(**CONDITIONS)
    hopeful = Judge(judged, "e").hopeful(axes(judged, {}, CPU))
    assert [option.value.profile for option in hopeful.machines] == ["cuda"]
    assert hopeful.models == [Option(frozenset(), tuple(SPECS[1:2] + SPECS[3:]))]


def test_what_was_left_to_the_planner_is_chosen_where_it_takes_too_much() -> None:
    """The planner's first choice may be too large with all that an engine needs, and a smaller one be there."""
    judged = pack(os={"fact": "hw.os", "present": True})

    def fits(some: tuple[Spec, ...], point: Point) -> bool | None:
        return needs({"q8": 16, "q5": 10, "q4": 6}[some[0].quantization or ""])(some, point)

    specs = [spec("7", "ggufv2", name) for name in ("q8", "q5", "q4")]
    sets = changes.smallest(Judge(judged, "e"), axes(judged, {}, SMALL, specs, {}), fits, (MEMORY,), left=CHOICES)
    assert [[change.text for change in each] for each in sets] == [["model.quantization=q4"], ["hw.memory_gib=16"]]
