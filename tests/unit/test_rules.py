"""Conditions with their sources: how they combine, what a finding says, and how a pack is read."""

from __future__ import annotations

import itertools
import random
import re
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from xinfer import rules
from xinfer.catalog import Shape, Spec
from xinfer.compose import conf_dir, read
from xinfer.errors import ConfigError
from xinfer.facts import FACTS, Gpu, Hardware
from xinfer.predicates import compile_predicate
from xinfer.rules import Finding, Pack, Source

if TYPE_CHECKING:
    from collections.abc import Mapping

SOURCES = {"page": {"kind": "page", "title": "A guide", "date": "2024-08-14", "where": "example.org/guide"}}
LINUX = {"fact": "hw.os", "eq": "linux", "source": "page"}
Facts = dict[str, Any]


def pack(engines: dict[str, Any], **more: Any) -> Pack:
    return rules.load({"name": "mine", "sources": SOURCES, "engines": engines, **more}, "mine.yaml")


def facts(**known: Any) -> Facts:
    """Return all facts, unknown but for those given, as ``hw__os``."""
    return dict.fromkeys(FACTS) | {name.replace("__", "."): value for name, value in known.items()}


def finding(rule: dict[str, Any], **known: Any) -> Finding:
    (found,) = pack({"vllm": {"it": {"source": "page"} | rule}}).judge("vllm", facts(**known)).findings
    return found


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
        "hw.apple_silicon": False, "hw.cuda_devices": 2, "hw.rocm_devices": 0, "hw.gpu_memory_gib": 80.0,
        "hw.compute_capability": "9.0", "engine.version": "0.33.0",
    }  # fmt: skip
    assert set(rules.gather(spec, machine)) == set(FACTS)


NOTHING = Spec(family="f", size=None, format=None, quantization=None, hub=None, id=None)


def test_what_is_not_known_is_null() -> None:
    """Of a family without a record on an unknown machine only the name is known; no list is empty."""
    gathered = rules.gather(NOTHING, Hardware(profile="p"))
    assert {name for name, value in gathered.items() if value is not None} == {"model.family"}
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
    ("machine", "cuda", "rocm"),
    [
        pytest.param({}, None, None, id="nothing-is-known"),
        pytest.param({"gpus": 0}, 0, 0, id="no-gpu-of-any-make"),
        pytest.param({"gpus": 2}, None, None, id="gpus-of-unknown-make"),
        pytest.param({"gpus": 2, "gpu": Gpu(vendor="nvidia")}, 2, 0, id="cuda"),
        pytest.param({"gpus": 2, "gpu": Gpu(vendor="amd")}, 0, 2, id="rocm"),
        pytest.param({"gpu": Gpu(vendor="nvidia")}, None, 0, id="unknown-how-many"),
        pytest.param({"gpus": 1, "gpu": Gpu(vendor="apple")}, 0, 0, id="apple"),
    ],
)
def test_devices(machine: dict[str, Any], cuda: int | None, rocm: int | None) -> None:
    """Devices are counted by make; an unknown make leaves every count open."""
    gathered = rules.gather(NOTHING, Hardware(profile="p", **machine))
    assert (gathered["hw.cuda_devices"], gathered["hw.rocm_devices"]) == (cuda, rocm)


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


# --- reading a pack ---


def test_a_pack_is_read() -> None:
    """Everything of a pack's file is there, in its order."""
    read_pack = pack(
        {"vllm": {"b": LINUX, "a": LINUX}, "mlx": {}},
        title="Mine", date="2026-11-22", catalog="2026-08", families=["x", "y"], preference=["mlx", "vllm"],
        build_flags={"llama_cpp": {"native-cuda": {"page": "-DA", "today": "-DB", "became": "a warning"}}},
    )  # fmt: skip
    assert (read_pack.name, read_pack.title, read_pack.date, read_pack.catalog) == (
        "mine",
        "Mine",
        "2026-11-22",
        "2026-08",
    )
    assert (read_pack.families, read_pack.preference) == (("x", "y"), ("mlx", "vllm"))
    assert {engine: [c.id for c in judged] for engine, judged in read_pack.engines.items()} == {
        "vllm": ["b", "a"],
        "mlx": [],
    }
    flag = read_pack.build_flags["llama_cpp"]["native-cuda"]
    assert flag.note == "the page builds with -DA; today that is a warning. The plan uses -DB"


def test_an_empty_pack_is_named_after_its_file() -> None:
    """Nothing is needed but a mapping."""
    empty = rules.load({}, "mine.yaml")
    assert (empty.name, empty.title, empty.date, empty.catalog) == ("mine.yaml", "mine.yaml", "", None)
    assert (empty.families, empty.preference, empty.engines, empty.build_flags) == ((), (), {}, {})


PACK_KEYS = "name, title, date, catalog, sources, families, preference, engines, build_flags"
RULE_KEYS = "fact, eq, ne, in, not_in, ge, le, divides, version, has, present, all, any, not, when, source, at, fix"


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        pytest.param(
            {"prefrence": []}, f"unknown key 'prefrence'; allowed: {PACK_KEYS}; did you mean 'preference'?", id="key"
        ),
        pytest.param({1: 2}, f"unknown key 1; allowed: {PACK_KEYS}", id="key-that-is-no-text"),
        pytest.param({"name": 1}, "name must be text, not 1", id="name"),
        pytest.param({"title": ["x"]}, "title must be text, not ['x']", id="title"),
        pytest.param({"catalog": 2024}, "catalog must be text, not 2024", id="catalog"),
        pytest.param({"families": "qwen"}, "families must be a list of texts, not 'qwen'", id="families"),
        pytest.param({"families": [1]}, "families must be a list of texts, not [1]", id="families-of-numbers"),
        pytest.param(
            {"engines": {"vllm": {}}, "preference": ["vlm"]},
            "preference names engine 'vlm', which has no rules; did you mean 'vllm'?",
            id="preference-of-an-unknown-engine",
        ),
        pytest.param({"preference": "vllm"}, "preference must be a list of texts, not 'vllm'", id="preference-a-text"),
        pytest.param(
            {"preference": [["x"]]}, "preference must be a list of texts, not [['x']]", id="preference-of-lists"
        ),
        pytest.param(
            {"engines": ["vllm"]}, "engines must be a mapping keyed by names, not ['vllm']", id="engines-a-list"
        ),
        pytest.param(
            {"engines": {1: {}}}, "engines must be a mapping keyed by names, not {1: {}}", id="engines-by-number"
        ),
        pytest.param(
            {"engines": {"vllm": [LINUX]}},
            f"engines: vllm must be a mapping keyed by names, not [{LINUX}]",
            id="rules-a-list",
        ),
        pytest.param(
            {"sources": ["page"]}, "sources must be a mapping keyed by names, not ['page']", id="sources-a-list"
        ),
        pytest.param(
            {"sources": {"page": "A guide"}},
            "source page: must be a mapping with kind, title, date and where, not 'A guide'",
            id="source-a-text",
        ),
        pytest.param(
            {"sources": {"page": {**SOURCES["page"], "titel": "x"}}},
            "source page: unknown key 'titel'; allowed: kind, title, date, where, at; did you mean 'title'?",
            id="source-key",
        ),
        pytest.param(
            {"sources": {"page": {"kind": "page", "title": ""}}},
            "source page: has no title, date, where",
            id="source-parts",
        ),
        pytest.param(
            {"sources": {"page": {**SOURCES["page"], "kind": "pages"}}},
            "source page: kind 'pages' is not one of page, code, xinfer; did you mean 'page'?",
            id="source-kind",
        ),
        pytest.param(
            {"sources": {"page": {"date": 2024}}}, "source page: date must be text, not 2024", id="source-date"
        ),
        pytest.param({"build_flags": [1]}, "build_flags: expected object, got array", id="build-flags"),
        pytest.param(
            {"build_flags": {"llama_cpp": {"native-cuda": {"page": "-DA"}}}},
            "build_flags: object missing required field today",
            id="build-flag-parts",
        ),
    ],
)
def test_a_wrong_pack_is_refused(raw: dict[Any, Any], message: str) -> None:
    """What is wrong in a pack's file is refused when it is read, with the file's name."""
    with pytest.raises(ConfigError, match=f"^mine.yaml: {re.escape(message)}$"):
        rules.load(raw, "mine.yaml")


@pytest.mark.parametrize(
    ("body", "message"),
    [
        pytest.param(
            {**LINUX, "surce": "page"}, f"unknown key 'surce'; allowed: {RULE_KEYS}; did you mean 'source'?", id="key"
        ),
        pytest.param(
            {"fact": "hw.os", "equals": "linux", "source": "page"},
            f"unknown key 'equals'; allowed: {RULE_KEYS}",
            id="operator",
        ),
        pytest.param({True: 1}, f"unknown key True; allowed: {RULE_KEYS}", id="key-that-yaml-reads-as-true"),
        pytest.param({**LINUX, "fact": "hw.so"}, "'hw.so' is no fact; did you mean 'hw.os'?", id="fact"),
        pytest.param(
            {**LINUX, "when": {"fact": "hw.so", "eq": "x"}},
            "when: 'hw.so' is no fact; did you mean 'hw.os'?",
            id="when",
        ),
        pytest.param({**LINUX, "ne": "x"}, "needs exactly one operator, has eq, ne", id="two-operators"),
        pytest.param({"fact": "hw.os", "source": "page"}, "needs exactly one operator, has none", id="no-operator"),
        pytest.param({**LINUX, "eq": 3}, "eq of hw.os needs text, not 3", id="value"),
        pytest.param(
            {"source": "page"},
            "a condition is a mapping such as {fact: model.format, in: [gptq]}, not {}",
            id="only-a-source",
        ),
        pytest.param({"fact": "hw.os", "eq": "linux"}, "names no source; it has page", id="no-source"),
        pytest.param(
            {**LINUX, "source": "pgae"},
            "source 'pgae' is not one of the pack's; it has page; did you mean 'page'?",
            id="source",
        ),
        pytest.param({**LINUX, "source": ["page"]}, "source must be text, not ['page']", id="source-a-list"),
        pytest.param({**LINUX, "at": 3}, "at must be text, not 3", id="at"),
        pytest.param({**LINUX, "fix": ["x"]}, "fix must be text, not ['x']", id="fix"),
        pytest.param("linux", "must be a mapping with fact, an operator and source, not 'linux'", id="a-text"),
        pytest.param(None, "must be a mapping with fact, an operator and source, not None", id="null"),
        pytest.param([LINUX], f"must be a mapping with fact, an operator and source, not [{LINUX}]", id="a-list"),
    ],
)
def test_a_wrong_rule_is_refused(body: Any, message: str) -> None:
    """What is wrong in a rule is refused when it is read, with the names of file and rule."""
    with pytest.raises(ConfigError, match=f"^mine.yaml: rule vllm.mine: {re.escape(message)}$"):
        rules.load({"sources": SOURCES, "engines": {"vllm": {"right": LINUX, "mine": body}}}, "mine.yaml")


def test_a_pack_without_sources_can_have_no_rules() -> None:
    """Every rule needs one."""
    with pytest.raises(ConfigError, match=r"^m: rule vllm.a: source 'page' is not one of the pack's; it has none$"):
        rules.load({"engines": {"vllm": {"a": LINUX}}}, "m")


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
    "hw.cuda_devices": (0, 1, 4),
    "hw.rocm_devices": (0, 1),
    "hw.gpu_memory_gib": (15.0, 80.0),
    "hw.compute_capability": ("7.5", "9.0"),
    "engine.version": ("0.5.4", "0.33.0"),
}
LISTED = ("model.abilities", "hw.isa")
partial_facts = st.fixed_dictionaries({name: st.sampled_from((None, *VALUES[name])) for name in FACTS})
DOCUMENTED = {
    name: read(conf_dir() / "rules" / f"{name}.yaml") for name in ("xinference-2024-08", "xinference-2024-07")
}
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


def rule_of(condition: dict[str, Any], when: dict[str, Any] | None) -> dict[str, Any]:
    return condition | {"source": "page"} | ({"when": when} if when is not None else {})


def packs_of(leaves: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[dict[str, Any]]:
    """Draw the files of packs: a few engines, each with a few rules."""
    written = st.builds(rule_of, trees(leaves), st.none() | trees(leaves))
    engines = st.dictionaries(
        st.sampled_from(["vllm", "mlx", "sglang"]),
        st.dictionaries(st.sampled_from("abcd"), written, max_size=4),
        max_size=3,
    )
    return st.builds(lambda e: {"name": "drawn", "sources": SOURCES, "engines": e}, engines)


any_pack = st.sampled_from(sorted(DOCUMENTED)).map(DOCUMENTED.__getitem__) | packs_of(comparisons())
with_absence = packs_of(comparisons() | absence)


READ = {name: rules.load(raw, name) for name, raw in DOCUMENTED.items()}


def judged(raw: dict[str, Any], *known: Facts) -> list[dict[str, rules.Verdict]]:
    """Return the verdict on every engine, for each of the facts."""
    loaded = READ[raw["name"]] if raw is DOCUMENTED.get(raw["name"]) else rules.load(raw, "drawn")
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
@given(trees(comparisons() | absence), st.none() | trees(comparisons()), partial_facts)
def test_combinations_are_kleenes(condition: dict[str, Any], when: dict[str, Any] | None, known: Facts) -> None:
    """All, any, not and when are minimum, maximum, complement and implication, however they are nested."""
    held = oracle(condition, known)
    expected = held if when is None else max(1 - oracle(when, known), held)
    found = pack({"vllm": {"it": rule_of(condition, when)}}).judge("vllm", known).findings[0]
    assert {"met": 1.0, "failed": 0.0, "unknown": 0.5}[found.result] == expected


@st.composite
def learned(draw: st.DrawFn) -> tuple[Facts, Facts, str]:
    """Draw facts, the same with one unknown turned into a value, and which one."""
    before = draw(partial_facts)
    fact = draw(st.sampled_from(sorted(FACTS)))
    before[fact] = None
    return before, before | {fact: draw(st.sampled_from(VALUES[fact]))}, fact


@ordinary
@given(any_pack, learned())
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
            assert "is not known" in str(found.fix)
        for found in verdict.of("met"):
            assert found.fix is None


def test_the_vocabulary_is_complete() -> None:
    """The properties above draw values for every fact."""
    assert set(VALUES) == set(FACTS)
    assert {name for name in FACTS if FACTS[name].kind == "list"} == set(LISTED)
