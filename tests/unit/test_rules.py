"""Conditions with their sources: how they combine, and what a finding says."""

from __future__ import annotations

import itertools
import random
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from xinfer import engines
from xinfer.catalog import Shape, Spec
from xinfer.config.compose import Composer, conf_dir
from xinfer.facts import FACTS, Gpu, Hardware
from xinfer.judging import packs, rules
from xinfer.judging.predicates import compile_predicate
from xinfer.judging.rules import Finding, Pack, Source

if TYPE_CHECKING:
    from collections.abc import Mapping

SOURCES = {"page": {"kind": "page", "title": "A guide", "date": "2024-08-14", "where": "example.org/guide"}}
LINUX = {"fact": "hw.os", "eq": "linux", "source": "page"}
Facts = dict[str, Any]


def pack(engines: dict[str, Any], **more: Any) -> Pack:
    return packs.load({"name": "mine", "sources": SOURCES, "engines": engines, **more}, "mine.yaml")


def facts(**known: Any) -> Facts:
    """Return all facts, unknown but for those given, as ``hw__os``."""
    return dict.fromkeys(FACTS) | {name.replace("__", "."): value for name, value in known.items()}


def finding(rule: dict[str, Any], **known: Any) -> Finding:
    (found,) = pack({"vllm": {"it": {"source": "page"} | rule}}).judge("vllm", facts(**known)).findings
    return found


# --- versions of the engine ---

SINCE = {"fact": "model.format", "ne": "gguf", "since": "0.24.0"}


@pytest.mark.parametrize(
    ("rule", "version", "form", "expected"),
    [
        pytest.param(SINCE, "0.24.0", "gguf", ("failed", None), id="the-first-that-has-it"),
        pytest.param(SINCE, "0.24.0", "awq", ("met", None), id="and-it-holds"),
        pytest.param(SINCE, "0.23.0", "gguf", ("met", "not yet"), id="not-yet"),
        pytest.param(SINCE, "0.23.0", None, ("met", "not yet"), id="not-yet-whatever-it-is"),
        pytest.param(SINCE, None, "gguf", ("unknown", None), id="it-would-fail-if-it-has-it"),
        pytest.param(SINCE, None, "awq", ("met", None), id="it-holds-in-every-version"),
        pytest.param(SINCE, "a-branch", "gguf", ("unknown", None), id="a-version-that-is-none"),
        pytest.param({**SINCE, "until": "0.30.0"}, "0.30.0", "gguf", ("met", "no more"), id="no-more"),
        pytest.param({**SINCE, "until": "0.30.0"}, "0.29.9", "gguf", ("failed", None), id="the-last-that-has-it"),
        pytest.param({**SINCE, "otherwise": "it may"}, "0.24.0", "gguf", ("unknown", None), id="a-doubt-stays-one"),
    ],
)
def test_a_condition_of_some_versions(
    rule: dict[str, Any], version: str | None, form: str | None, expected: tuple[str, str | None]
) -> None:
    """It is met where the version does not have it, and open where that decides and nobody knows the version."""
    found = finding(rule, engine__version=version, model__format=form)
    assert (found.result, found.outside) == expected
    assert found.version == version


def test_what_is_said_of_versions() -> None:
    """Where a condition begins and ends, the versions that do not have it, and what would make it known."""
    rule = {**SINCE, "until": "0.30.0", "fix": "another format"}
    judged = pack({"vllm": {"it": {"source": "page"} | rule}}, releases={"vllm": ["0.22.0", "0.23.0", "0.24.0"]})
    (found,) = judged.judge("vllm", facts(engine__version="0.25.0", model__format="gguf")).findings
    assert found.expected == "not gguf since version 0.24.0 and before version 0.30.0"
    assert found.fix == "another format, or engine.version=0.23.0 or engine.version=0.30.0"
    (found,) = judged.judge("vllm", facts(model__format="gguf")).findings
    assert found.fix == "engine.version is not known; say it with engine.version=…"
    (found,) = judged.judge("vllm", facts(engine__version="main", model__format="gguf")).findings
    assert found.fix == "engine.version is 'main', which cannot be compared"
    (condition,) = judged.engines["vllm"]
    assert (condition.since, condition.until, condition.facts) == (
        "0.24.0", "0.30.0", ("model.format", "engine.version"),
    )  # fmt: skip


def test_the_version_that_a_pack_judges() -> None:
    """That of the facts, else the pack's; an engine of which it says none is not known."""
    rules_of = {"vllm": {"it": {"source": "page"} | SINCE}, "mlx": {"it": {"source": "page"} | SINCE}}
    judged = pack(rules_of, versions={"vllm": "0.33.0"})
    known = facts(model__format="gguf")
    assert judged.is_versioned
    assert [judged.judge(engine, known).verdict for engine in ("vllm", "mlx")] == ["no", "unknown"]
    assert judged.judge("vllm", known | {"engine.version": "0.23.0"}).verdict == "yes"
    assert known["engine.version"] is None, "the facts stay as they were"
    assert not pack({"vllm": {"it": LINUX}}).is_versioned


# --- one condition ---


def test_a_finding_says_it_all() -> None:
    """Id, result, fact, what was observed and expected, the source with the place in it, and a way out."""
    rule = {"fact": "model.format", "in": ["gptq", "awq"], "at": "condition 1"}
    expected = Finding(
        id="it", result="failed", fact="model.format", observed="mlx", expected="one of gptq, awq",
        source=Source(kind="page", title="A guide", date="2024-08-14", where="example.org/guide", at="condition 1"),
        fix="model.format=gptq|awq",
    )  # fmt: skip
    assert finding(rule, model__format="mlx") == expected


WHEN = {"fact": "model.quantization", "in": ["Int4"], "when": {"fact": "model.format", "eq": "awq"}}


@pytest.mark.parametrize(
    ("form", "quantization", "result"),
    [
        pytest.param("awq", "Int4", "met", id="applies-and-holds"),
        pytest.param("awq", "none", "failed", id="applies-and-fails"),
        pytest.param("awq", None, "unknown", id="applies-to-something-unknown"),
        pytest.param("mlx", "Int4", "met", id="does-not-apply-and-holds-anyway"),
        pytest.param("mlx", "none", "met", id="does-not-apply"),
        pytest.param("mlx", None, "met", id="does-not-apply-whatever-it-is"),
        pytest.param(None, "Int4", "met", id="holds-whether-it-applies-or-not"),
        pytest.param(None, "none", "unknown", id="fails-if-it-applies"),
        pytest.param(None, None, "unknown", id="nothing-is-known"),
    ],
)
def test_when(form: str | None, quantization: str | None, result: str) -> None:
    """A condition with a when is Kleene's implication: met where it does not apply."""
    found = finding(WHEN, model__format=form, model__quantization=quantization)
    assert (found.result, found.observed, found.expected) == (result, quantization, "Int4 when model.format is awq")


@pytest.mark.parametrize(
    ("rule", "known", "fix"),
    [
        pytest.param(LINUX, {"hw__os": "linux"}, None, id="nothing-to-mend"),
        pytest.param(LINUX, {"hw__os": "darwin"}, "hw.os=linux", id="the-change-that-would-meet-it"),
        pytest.param(LINUX | {"fix": "boot Linux"}, {"hw__os": "darwin"}, "boot Linux", id="the-packs-own-words"),
        pytest.param(LINUX, {}, "hw.os is not known; say it with hw.os=…", id="what-to-say"),
        pytest.param(LINUX | {"fix": "boot Linux"}, {}, "hw.os is not known; say it with hw.os=…", id="not-yet-a-fix"),
        pytest.param({"fact": "model.heads", "ge": 1}, {}, "model.heads is not known", id="nothing-a-user-can-say"),
        pytest.param(
            {"fact": "model.format", "eq": "mlx"},
            {"?model": "dropped"},
            "model.format is not known: dropped",
            id="the-catalogues-reason",
        ),
        pytest.param(LINUX, {"?model": "dropped"}, "hw.os is not known; say it with hw.os=…", id="of-the-model-only"),
        pytest.param(
            WHEN,
            {"model__quantization": "none"},
            "model.format is not known; say it with model.format=…",
            id="it-is-the-when-that-is-unknown",
        ),
        pytest.param(
            WHEN,
            {"model__format": "awq"},
            "model.quantization is not known; say it with model.quantization=…",
            id="it-is-not-the-when",
        ),
        pytest.param(
            {"any": [{"fact": "hw.os", "eq": "linux"}, {"fact": "hw.cores", "ge": 2}]},
            {"hw__os": "darwin"},
            "hw.cores is not known; say it with hw.cores=…",
            id="the-unknown-part-of-a-combination",
        ),
        pytest.param(
            LINUX | {"otherwise": "it may run all the same"},
            {"hw__os": "darwin"},
            "it may run all the same",
            id="why-a-failure-decides-nothing",
        ),
        pytest.param(
            LINUX | {"otherwise": "it may run"},
            {},
            "hw.os is not known; say it with hw.os=…",
            id="not-yet-a-failure",
        ),
        pytest.param(
            {"fact": "engine.version", "version": ">=1"},
            {"engine__version": "main"},
            "engine.version is 'main', which cannot be compared",
            id="a-version-that-is-none",
        ),
    ],
)
def test_fix(rule: dict[str, Any], known: dict[str, Any], fix: str | None) -> None:
    """A failed finding says what would meet it; an unknown one which fact is missing, and why."""
    assert finding(rule, **known).fix == fix


OPEN = LINUX | {"otherwise": "it may run all the same", "when": {"fact": "model.format", "eq": "awq"}}


@pytest.mark.parametrize(
    ("known", "result"),
    [
        pytest.param({"hw__os": "linux", "model__format": "awq"}, "met", id="what-holds-is-met"),
        pytest.param({"hw__os": "darwin", "model__format": "awq"}, "unknown", id="what-fails-is-open"),
        pytest.param({"hw__os": "darwin", "model__format": "mlx"}, "met", id="what-does-not-apply-is-met"),
        pytest.param({"hw__os": "darwin"}, "unknown", id="what-may-apply-is-open-anyway"),
    ],
)
def test_a_condition_whose_failure_is_no_refusal(known: dict[str, str], result: str) -> None:
    """It is met or unknown, never failed."""
    assert finding(OPEN, **known).result == result


# --- an engine ---


def test_every_condition_is_evaluated() -> None:
    """A failure does not hide what comes after it."""
    judged = pack({"vllm": {"a": LINUX, "b": LINUX | {"eq": "darwin"}, "c": {**LINUX, "fact": "hw.arch"}}})
    verdict = judged.judge("vllm", facts(hw__os="windows"))
    assert [(f.id, f.result) for f in verdict.findings] == [("a", "failed"), ("b", "failed"), ("c", "unknown")]
    assert [f.id for f in verdict.of("failed")] == ["a", "b"]
    assert [f.id for f in verdict.of("unknown", "failed")] == ["a", "b", "c"]
    assert verdict.of("met") == ()


RESULTS = ("met", "failed", "unknown")


@pytest.mark.parametrize("results", [r for n in range(4) for r in itertools.product(RESULTS, repeat=n)], ids=str)
def test_answer(results: tuple[rules.Result, ...]) -> None:
    """One failure is a no; without one, everything must be met for a yes; an engine without rules is unknown."""
    source = Source(kind="page", title="t", date="d", where="w")
    found = tuple(
        Finding(id=str(i), result=r, fact="hw.os", observed=None, expected="", source=source)
        for i, r in enumerate(results)
    )
    expected = "no" if results.count("failed") else "yes" if results.count("met") == len(results) > 0 else "unknown"
    assert rules.answer(found) == expected


@pytest.mark.parametrize("nothing", [None, {}], ids=["null", "empty"])
def test_an_engine_without_conditions_is_unknown(nothing: Any) -> None:
    """Where a pack says nothing, nothing is known."""
    verdict = pack({"vllm": nothing}).judge("vllm", facts())
    assert (verdict.verdict, verdict.findings) == ("unknown", ())


# --- facts ---


def test_gather_fills_the_vocabulary() -> None:
    """Every fact has its value, and there is no other."""
    spec = Spec(
        family="qwen2-instruct", size="0_5", format="gptq", quantization="Int4", hub="huggingface", id="x",
        context_length=32768, abilities=("chat",),
        shape=Shape(architecture="Qwen2ForCausalLM", heads=14, kv_heads=2),
    )  # fmt: skip
    gpu = Gpu(vendor="nvidia", memory_gib=80.0, compute_capability="9.0")
    machine = Hardware(
        profile="h", os="linux", arch="x86_64", cores=16, memory_gib=128.0, isa=("avx2",), gpus=2, gpu=gpu
    )
    assert rules.gather(spec, machine, version="0.33.0") == {
        "model.family": "qwen2-instruct", "model.size_b": 0.5, "model.format": "gptq", "model.quantization": "Int4",
        "model.hub": "huggingface", "model.architecture": "Qwen2ForCausalLM", "model.abilities": ("chat",),
        "model.context_length": 32768, "model.heads": 14, "model.kv_heads": 2, "hw.os": "linux",
        "hw.arch": "x86_64", "hw.cores": 16, "hw.memory_gib": 128.0, "hw.isa": ("avx2",),
        "hw.apple_silicon": False, "hw.device": "cuda", "hw.cuda_devices": 2, "hw.rocm_devices": 0,
        "hw.gpu_memory_gib": 80.0, "hw.compute_capability": 9.0, "engine.version": "0.33.0",
        "engine.own": False, "engine.interpreter": None,
    }  # fmt: skip
    assert set(rules.gather(spec, machine)) == set(FACTS)


NOTHING = Spec(family="f", size=None, format=None, quantization=None, hub=None, id=None)


def test_what_is_not_known_is_null() -> None:
    """Of a family without a record on an unknown machine only the name is known, and whose interpreter it is."""
    gathered = rules.gather(NOTHING, Hardware(profile="p"))
    assert {name: value for name, value in gathered.items() if value is not None} == {
        "model.family": "f", "engine.own": False,
    }  # fmt: skip
    assert set(gathered) == set(FACTS)


def test_the_catalogues_note_explains_what_is_missing() -> None:
    """The note of a record that is there explains nothing."""
    missing = Spec(family="f", size=None, format=None, quantization=None, hub=None, id=None, note="dropped")
    there = Spec(family="f", size="7", format="mlx", quantization=None, hub=None, id=None, note="odd")
    machine = Hardware(profile="p")
    assert rules.gather(missing, machine)["?model"] == "dropped"
    assert "?model" not in rules.gather(there, machine)
    assert "?model" not in rules.gather(NOTHING, machine)


@pytest.mark.parametrize(
    ("machine", "device", "cuda", "rocm"),
    [
        pytest.param({}, None, None, None, id="nothing-is-known"),
        pytest.param({"gpus": 0}, "cpu", 0, 0, id="no-gpu-of-any-make"),
        pytest.param({"gpus": 2}, None, None, None, id="gpus-of-unknown-make"),
        pytest.param({"gpus": 2, "gpu": Gpu(vendor="nvidia")}, "cuda", 2, 0, id="cuda"),
        pytest.param({"gpus": 2, "gpu": Gpu(vendor="amd")}, "rocm", 0, 2, id="rocm"),
        pytest.param({"gpu": Gpu(vendor="nvidia")}, None, None, 0, id="unknown-how-many"),
        pytest.param({"gpus": 1, "gpu": Gpu(vendor="intel")}, "xpu", 0, 0, id="intel"),
        pytest.param({"gpus": 1, "gpu": Gpu(vendor="apple")}, "apple", 0, 0, id="apple"),
    ],
)
def test_devices(machine: dict[str, Any], device: str | None, cuda: int | None, rocm: int | None) -> None:
    """Devices are named and counted by make; an unknown make leaves name and counts open."""
    gathered = rules.gather(NOTHING, Hardware(profile="p", **machine))
    names = ("hw.device", "hw.cuda_devices", "hw.rocm_devices")
    assert tuple(gathered[name] for name in names) == (device, cuda, rocm)


@pytest.mark.parametrize(
    ("machine", "expected"),
    [
        pytest.param({"os": "linux"}, False, id="linux-is-never"),
        pytest.param({"os": "windows", "apple_silicon": True}, False, id="windows-is-never-whatever-is-declared"),
        pytest.param({"os": "darwin"}, None, id="a-mac-may-be"),
        pytest.param({"os": "darwin", "apple_silicon": False}, False, id="a-mac-with-intel"),
        pytest.param({"os": "darwin", "apple_silicon": True}, True, id="a-mac-with-apple"),
        pytest.param({"apple_silicon": True}, True, id="declared"),
    ],
)
def test_apple_silicon(machine: dict[str, Any], expected: bool | None) -> None:  # noqa: FBT001
    """Only macOS runs on Apple silicon as far as rules are concerned."""
    assert rules.gather(NOTHING, Hardware(profile="p", **machine))["hw.apple_silicon"] is expected


# --- properties ---

VALUES: dict[str, tuple[Any, ...]] = {
    "model.family": ("qwen2-instruct", "llama-2", "gemma-2-it", "of-nobody"),
    "model.size_b": (0.5, 7.0, 72.0),
    "model.format": ("pytorch", "gptq", "awq", "mlx", "ggufv2", "fp8"),
    "model.quantization": ("none", "Int4", "Int8", "8bits", "q4_0"),
    "model.hub": ("huggingface", "modelscope"),
    "model.architecture": ("Qwen2ForCausalLM", "LlamaForCausalLM"),
    "model.abilities": (("chat",), ("chat", "tools")),
    "model.context_length": (2048, 32768),
    "model.heads": (28, 32),
    "model.kv_heads": (4, 8),
    "hw.os": ("linux", "darwin", "windows"),
    "hw.arch": ("x86_64", "arm64"),
    "hw.cores": (1, 2, 16),
    "hw.memory_gib": (8.0, 64.0),
    "hw.isa": (("avx2",), ("avx2", "avx512f")),
    "hw.apple_silicon": (True, False),
    "hw.device": ("cuda", "rocm", "xpu", "apple", "cpu"),
    "hw.cuda_devices": (0, 1, 4),
    "hw.rocm_devices": (0, 1),
    "hw.gpu_memory_gib": (15.0, 80.0),
    "hw.compute_capability": (7.5, 9.0),
    "engine.version": ("0.5.4", "0.33.0"),
    "engine.own": (False, True),
    "engine.interpreter": ("3.11.9", "3.13.1"),
}
LISTED = ("model.abilities", "hw.isa")
partial_facts = st.fixed_dictionaries({name: st.sampled_from((None, *VALUES[name])) for name in FACTS})
COMPOSER = Composer(engines.conf_directories())
SHIPPED = {path.stem: COMPOSER.rules(path.stem) for path in sorted((conf_dir() / "rules").glob("*.yaml"))}
ordinary = settings(derandomize=True, database=None, deadline=None, max_examples=60)


@st.composite
def comparisons(draw: st.DrawFn) -> dict[str, Any]:
    """Draw a comparison of any fact with a value it may have, with any operator that applies to it."""
    fact = draw(st.sampled_from(sorted(FACTS)))
    kind = FACTS[fact].kind
    value = draw(st.sampled_from(VALUES[fact]))
    several = draw(st.lists(st.sampled_from(VALUES[fact]), min_size=1, max_size=3))
    operators = {
        "text": {"eq": value, "ne": value, "in": several, "not_in": several},
        "number": {"eq": value, "ne": value, "ge": value, "le": value, "divides": 2, "in": several},
        "flag": {"eq": value, "ne": value},
        "list": {"has": value[0] if kind == "list" else None},
        "version": {"eq": value, "version": f">={value}"},
    }[kind]
    operator = draw(st.sampled_from(sorted(operators)))
    return {"fact": fact, operator: operators[operator]}


absence = st.builds(lambda fact, value: {"fact": fact, "present": value}, st.sampled_from(sorted(FACTS)), st.booleans())


def trees(leaves: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[dict[str, Any]]:
    """Draw conditions that combine others, to any depth."""

    def combined(parts: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[dict[str, Any]]:
        several = st.lists(parts, min_size=1, max_size=3)
        return (
            st.builds(lambda s: {"all": s}, several)
            | st.builds(lambda s: {"any": s}, several)
            | st.builds(lambda p: {"not": p}, parts)
        )

    return st.recursive(leaves, combined, max_leaves=6)


def rule_of(condition: dict[str, Any], when: dict[str, Any] | None, otherwise: str | None = None) -> dict[str, Any]:
    more = {"when": when, "otherwise": otherwise}
    return condition | {"source": "page"} | {key: value for key, value in more.items() if value is not None}


def packs_of(leaves: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[dict[str, Any]]:
    """Draw the files of packs: a few engines, each with a few rules."""
    written = st.builds(rule_of, trees(leaves), st.none() | trees(leaves), st.none() | st.just("is not known to fail"))
    engines = st.dictionaries(
        st.sampled_from(["vllm", "mlx", "sglang"]),
        st.dictionaries(st.sampled_from("abcd"), written, max_size=4),
        max_size=3,
    )
    return st.builds(lambda e: {"name": "drawn", "sources": SOURCES, "engines": e}, engines)


any_pack = st.sampled_from(sorted(SHIPPED)).map(SHIPPED.__getitem__) | packs_of(comparisons())
with_absence = packs_of(comparisons() | absence)


DOUBTS = {c.doubt for name, raw in SHIPPED.items() for cs in packs.load(raw, name).engines.values() for c in cs}
READ = {name: packs.load(raw, name) for name, raw in SHIPPED.items()}


def judged(raw: dict[str, Any], *known: Facts) -> list[dict[str, rules.Verdict]]:
    """Return the verdict on every engine, for each of the facts."""
    loaded = READ[raw["name"]] if raw is SHIPPED.get(raw["name"]) else packs.load(raw, "drawn")
    return [{engine: loaded.judge(engine, each) for engine in loaded.engines} for each in known]


def results(verdict: rules.Verdict) -> dict[str, str]:
    return {found.id: found.result for found in verdict.findings}


def oracle(body: Mapping[str, Any], known: Facts) -> float:
    """Evaluate a condition with numbers: 0 is false, 1 is true, and one half is not known."""
    if "all" in body:
        return min(oracle(part, known) for part in body["all"])
    if "any" in body:
        return max(oracle(part, known) for part in body["any"])
    if "not" in body:
        return 1 - oracle(body["not"], known)
    held = compile_predicate(dict(body), "leaf").test(known)
    return 0.5 if held is None else float(held)


@ordinary
@given(trees(comparisons() | absence), st.none() | trees(comparisons()), st.none() | st.just("it may"), partial_facts)
def test_combinations_are_kleenes(
    condition: dict[str, Any], when: dict[str, Any] | None, otherwise: str | None, known: Facts
) -> None:
    """All, any, not and when are minimum, maximum, complement and implication; otherwise raises a zero to a half."""
    held = oracle(condition, known)
    expected = held if when is None else max(1 - oracle(when, known), held)
    expected = expected if otherwise is None else max(expected, 0.5)
    found = pack({"vllm": {"it": rule_of(condition, when, otherwise)}}).judge("vllm", known).findings[0]
    assert {"met": 1.0, "failed": 0.0, "unknown": 0.5}[found.result] == expected


@st.composite
def learned(draw: st.DrawFn) -> tuple[Facts, Facts, str]:
    """Draw facts, the same with one unknown turned into a value, and which one."""
    before = draw(partial_facts)
    fact = draw(st.sampled_from(sorted(FACTS)))
    before[fact] = None
    return before, before | {fact: draw(st.sampled_from(VALUES[fact]))}, fact


def without_absence(raw: dict[str, Any]) -> dict[str, Any]:
    """Leave out the rules that apply to what is known only: they say met of what nobody knows."""
    engines = {
        engine: {rule: body for rule, body in bodies.items() if "'present'" not in str(body)}
        for engine, bodies in raw["engines"].items()
    }
    return {**raw, "engines": engines}


@ordinary
@given(any_pack.map(without_absence), learned())
def test_learning_a_fact_decides_and_never_revises(raw: dict[str, Any], change: tuple[Facts, Facts, str]) -> None:
    """A finding that is met or failed stays so; a yes stays yes, a no stays no."""
    before, after, fact = change
    was, becomes = judged(raw, before, after)
    for engine, verdict in was.items():
        later = becomes[engine]
        decided = {id_: result for id_, result in results(verdict).items() if result != "unknown"}
        assert decided.items() <= results(later).items()
        assert verdict.verdict in {later.verdict, "unknown"}
        if later.verdict == "no" and verdict.verdict == "unknown":
            news = [f for f in later.of("failed") if results(verdict)[f.id] == "unknown"]
            assert news
            assert all(fact == f.fact or fact in f.expected for f in news)


@ordinary
@given(with_absence, learned())
def test_a_yes_is_lost_only_to_a_finding_that_names_the_fact(
    raw: dict[str, Any], change: tuple[Facts, Facts, str]
) -> None:
    """Even a rule that wants a fact to be unknown can say which fact became known."""
    before, after, fact = change
    was, becomes = judged(raw, before, after)
    for engine, verdict in was.items():
        later = becomes[engine]
        changed = {id_ for id_, result in results(verdict).items() if results(later)[id_] != result}
        for found in later.findings:
            assert found.id not in changed or fact == found.fact or fact in found.expected
        if verdict.verdict == "yes" and later.verdict == "no":
            assert changed & {f.id for f in later.of("failed")}


@ordinary
@given(any_pack, partial_facts, st.randoms(use_true_random=False))
def test_the_order_of_rules_never_matters(raw: dict[str, Any], known: Facts, chance: random.Random) -> None:
    """Engines and conditions in any order give the same verdicts and the same findings."""
    engines = {
        engine: dict(chance.sample(sorted((conditions or {}).items()), len(conditions or {})))
        for engine, conditions in chance.sample(sorted(raw["engines"].items()), len(raw["engines"]))
    }
    (before,), (after,) = judged(raw, known), judged(raw | {"engines": engines}, known)
    assert set(before) == set(after)
    for engine, verdict in before.items():
        assert after[engine].verdict == verdict.verdict
        assert {f.id: f for f in after[engine].findings} == {f.id: f for f in verdict.findings}


@ordinary
@given(any_pack, partial_facts, st.data())
def test_switching_a_rule_off_never_refuses(raw: dict[str, Any], known: Facts, data: st.DataObject) -> None:
    """Without one of its rules a yes is never a no; where it was the last rule, nothing is known."""
    named = [(engine, rule) for engine, conditions in raw["engines"].items() for rule in conditions or {}]
    assume(named)
    engine, rule = data.draw(st.sampled_from(named))
    conditions = {name: body for name, body in raw["engines"][engine].items() if name != rule}
    less = raw | {"engines": raw["engines"] | {engine: conditions}}
    before, after = judged(raw, known)[0][engine], judged(less, known)[0][engine]
    assert (before.verdict, after.verdict) not in {("yes", "no"), ("unknown", "no")}
    assert before.verdict != "yes" or after.verdict == ("yes" if conditions else "unknown")
    assert {f.id for f in after.findings} == {f.id for f in before.findings} - {rule}


@ordinary
@given(any_pack, partial_facts)
def test_every_condition_is_always_a_finding(raw: dict[str, Any], known: Facts) -> None:
    """Nothing is left out because something else has failed; unknown findings say what is missing."""
    for engine, verdict in judged(raw, known)[0].items():
        assert [found.id for found in verdict.findings] == list(raw["engines"][engine] or {})
        for found in verdict.of("unknown"):
            assert "is not known" in str(found.fix) or found.fix in DOUBTS
        for found in verdict.of("met"):
            assert found.fix is None


def test_the_vocabulary_is_complete() -> None:
    """The properties above draw values for every fact."""
    assert set(VALUES) == set(FACTS)
    assert {name for name in FACTS if FACTS[name].kind == "list"} == set(LISTED)
