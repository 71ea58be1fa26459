"""Every operator, its three values, what it says of itself, and what is refused when it is written wrongly."""

from __future__ import annotations

import itertools
import re
from typing import Any

import pytest

from xinfer.errors import ConfigError
from xinfer.facts import FACTS
from xinfer.judging.predicates import KEYS, compile_predicate

WHERE = "pack.yaml: rule vllm.mine"
Three = bool | None


def outcome(body: dict[str, Any], **known: Any) -> Three:
    """Compile a condition and test facts, of which all that are not given are unknown."""
    facts = dict.fromkeys(FACTS) | {name.replace("__", "."): value for name, value in known.items()}
    return compile_predicate(body, WHERE).test(facts)


@pytest.mark.parametrize(
    ("fact", "operator", "value", "met", "failed"),
    [
        pytest.param("model.format", "eq", "gptq", ["gptq"], ["GPTQ", "awq", ""], id="eq-text"),
        pytest.param("hw.cores", "eq", 4, [4, 4.0], [3, 0], id="eq-number"),
        pytest.param("hw.apple_silicon", "eq", True, [True], [False], id="eq-true"),
        pytest.param("hw.apple_silicon", "eq", False, [False], [True], id="eq-false"),
        pytest.param("engine.version", "eq", "0.33.0", ["0.33.0"], ["0.32.0"], id="eq-version"),
        pytest.param("model.format", "ne", "gptq", ["awq", "GPTQ"], ["gptq"], id="ne-text"),
        pytest.param("hw.cores", "ne", 4, [3], [4], id="ne-number"),
        pytest.param("model.format", "in", ["gptq", "awq"], ["gptq", "awq"], ["pytorch", "gpt"], id="in-texts"),
        pytest.param("model.heads", "in", [16, 32], [16, 32], [8], id="in-numbers"),
        pytest.param("model.format", "in", ("gptq",), ["gptq"], ["awq"], id="in-a-tuple"),
        pytest.param("model.format", "not_in", ["gptq", "awq"], ["pytorch"], ["gptq", "awq"], id="not-in"),
        pytest.param("hw.cuda_devices", "ge", 1, [1, 4], [0], id="ge"),
        pytest.param("hw.memory_gib", "ge", 15.5, [15.5, 16], [15.4], id="ge-fraction"),
        pytest.param("model.size_b", "le", 7, [7, 0.5], [7.1], id="le"),
        pytest.param("model.heads", "divides", 4, [4, 28, 0], [30], id="divides"),
        pytest.param(
            "engine.version", "version", ">=0.6,<0.9", ["0.6", "0.8.9", "0.7rc1"], ["0.10", "0.5"], id="version"
        ),
        pytest.param("engine.version", "ge", "0.9.0", ["0.9.0", "0.10.0"], ["0.8.9", "0.9.0rc1"], id="ge-version"),
        pytest.param("hw.compute_capability", "ge", 8, [8.0, 10.0], [7.5], id="ge-capability"),
        pytest.param(
            "engine.version", "version", ">=0.33", ["0.33.0+cu129"], ["0.32.0+cu129"], id="version-of-a-build"
        ),
        pytest.param("model.quantization", "contains", ["4"], ["Int4", "w4a16", "4"], ["Int8", ""], id="contains"),
        pytest.param(
            "model.family", "contains", ["qwen", "yi"], ["codeqwen1.5"], ["Yi", "llama"], id="contains-any-of"
        ),
        pytest.param(
            "engine.version", "text_ge", "0.3.0", ["0.3.0", "0.33.0", "0.3.0.post1"], ["0.10.0", "0.2.9"], id="text-ge"
        ),
        pytest.param("engine.version", "text_gt", "0.5.3", ["0.5.4", "0.5.3.post1"], ["0.5.3", "0.33.0"], id="text-gt"),
        pytest.param("hw.isa", "has", "avx2", [("avx2", "fma"), ["avx2"]], [(), ("avx",)], id="has"),
        pytest.param("model.abilities", "has", "tools", [("chat", "tools")], [("chat",)], id="has-ability"),
    ],
)
def test_operator(fact: str, operator: str, value: Any, met: list[Any], failed: list[Any]) -> None:
    """A comparison is true of some values, false of others, and undecided of a fact that is not known."""
    body = {"fact": fact, operator: value}
    known = fact.replace(".", "__")
    assert [outcome(body, **{known: observed}) for observed in met] == [True] * len(met)
    assert [outcome(body, **{known: observed}) for observed in failed] == [False] * len(failed)
    assert outcome(body, **{known: None}) is None


@pytest.mark.parametrize("fact", FACTS)
def test_present(fact: str) -> None:
    """Whether a fact is known is always decided, for every fact, and nothing counts as something."""
    known = fact.replace(".", "__")
    for value, observed in itertools.product((True, False), (None, 0, "", False, ())):
        assert outcome({"fact": fact, "present": value}, **{known: observed}) is ((observed is not None) is value)


def test_a_version_that_is_none_is_undecided() -> None:
    """A build from a branch may call itself anything; nobody can say whether it is new enough."""
    assert outcome({"fact": "engine.version", "version": ">=0.6"}, engine__version="main-f3a1") is None
    assert outcome({"fact": "engine.version", "ge": "0.6"}, engine__version="main-f3a1") is None
    with pytest.raises(ConfigError, match=re.escape("ge: 'new' is no version; write it as 0.24.0")):
        compile_predicate({"fact": "engine.version", "ge": "new"}, WHERE)


# --- combinations ---

TRUTH = {
    True: {"fact": "hw.cores", "eq": 1},
    False: {"fact": "hw.cores", "eq": 2},
    None: {"fact": "hw.os", "eq": "linux"},
}
"""A condition of each truth value on a machine with one core and an unknown system."""
ORDER = (False, None, True)


@pytest.mark.parametrize("values", [v for n in (1, 2, 3) for v in itertools.product(ORDER, repeat=n)], ids=str)
def test_all_and_any(values: tuple[Three, ...]) -> None:
    """Kleene's logic: all is the least of its parts and any the greatest, with unknown between false and true."""
    parts = [TRUTH[value] for value in values]
    for operator, bound in (("all", min), ("any", max)):
        assert outcome({operator: parts}, hw__cores=1) is ORDER[bound(map(ORDER.index, values))]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        pytest.param(True, False, id="not-true-is-false"),
        pytest.param(False, True, id="not-false-is-true"),
        pytest.param(None, None, id="not-unknown-is-unknown"),
    ],
)
def test_not(value: Three, expected: Three) -> None:
    """Negation swaps true and false, and leaves unknown unknown."""
    assert outcome({"not": TRUTH[value]}, hw__cores=1) is expected
    assert outcome({"not": {"not": TRUTH[value]}}, hw__cores=1) is value


@pytest.mark.parametrize(("left", "right"), [*itertools.product(ORDER, repeat=2)], ids=str)
def test_de_morgan(left: Three, right: Three) -> None:
    """Negating all of two is any of their negations."""
    parts = [TRUTH[left], TRUTH[right]]
    negated: list[dict[str, Any]] = [{"not": part} for part in parts]
    assert outcome({"not": {"all": parts}}, hw__cores=1) is outcome({"any": negated}, hw__cores=1)
    assert outcome({"not": {"any": parts}}, hw__cores=1) is outcome({"all": negated}, hw__cores=1)


# --- words ---

LINUX = {"fact": "hw.os", "eq": "linux"}
CORES = {"fact": "hw.cores", "ge": 2}


@pytest.mark.parametrize(
    ("body", "text", "full"),
    [
        pytest.param({"fact": "model.format", "eq": "gptq"}, "gptq", "model.format is gptq", id="eq"),
        pytest.param({"fact": "hw.apple_silicon", "eq": True}, "true", "hw.apple_silicon is true", id="eq-flag"),
        pytest.param({"fact": "hw.os", "ne": "windows"}, "not windows", "hw.os is not windows", id="ne"),
        pytest.param(
            {"fact": "model.format", "in": ["gptq", "awq"]},
            "one of gptq, awq",
            "model.format is one of gptq, awq",
            id="in",
        ),
        pytest.param({"fact": "model.format", "in": ["mlx"]}, "mlx", "model.format is mlx", id="in-one"),
        pytest.param(
            {"fact": "model.heads", "in": [*range(13)]},
            "one of 0, 1, 2… (13 in all)",
            "model.heads is one of 0, 1, 2… (13 in all)",
            id="in-many",
        ),
        pytest.param(
            {"fact": "hw.os", "not_in": ["windows"]}, "none of windows", "hw.os is none of windows", id="not-in"
        ),
        pytest.param(
            {"fact": "model.heads", "in": [*range(12)]},
            "one of 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11",
            "model.heads is one of 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11",
            id="in-a-dozen",
        ),
        pytest.param(CORES, "at least 2", "hw.cores is at least 2", id="ge"),
        pytest.param({"fact": "model.size_b", "le": 7.5}, "at most 7.5", "model.size_b is at most 7.5", id="le"),
        pytest.param(
            {"fact": "model.heads", "divides": 8}, "a multiple of 8", "model.heads is a multiple of 8", id="divides"
        ),
        pytest.param(
            {"fact": "engine.version", "version": ">=0.6"},
            "a version >=0.6",
            "engine.version is a version >=0.6",
            id="version",
        ),
        pytest.param({"fact": "hw.isa", "has": "avx2"}, "a list with avx2", "hw.isa is a list with avx2", id="has"),
        pytest.param({"fact": "hw.os", "present": True}, "known", "hw.os is known", id="present"),
        pytest.param({"fact": "hw.os", "present": False}, "not known", "hw.os is not known", id="absent"),
        pytest.param(
            {"all": [LINUX, CORES]},
            "hw.os is linux and hw.cores is at least 2",
            "(hw.os is linux and hw.cores is at least 2)",
            id="all",
        ),
        pytest.param(
            {"any": [LINUX, LINUX]},
            "hw.os is linux or hw.os is linux",
            "(hw.os is linux or hw.os is linux)",
            id="any-of-one-fact",
        ),
        pytest.param({"not": LINUX}, "not (hw.os is linux)", "(not (hw.os is linux))", id="not"),
        pytest.param(
            {"not": {"any": [LINUX, CORES]}},
            "not (hw.os is linux or hw.cores is at least 2)",
            "(not (hw.os is linux or hw.cores is at least 2))",
            id="not-any",
        ),
        pytest.param(
            {"all": [LINUX, {"any": [CORES, LINUX]}]},
            "hw.os is linux and (hw.cores is at least 2 or hw.os is linux)",
            "(hw.os is linux and (hw.cores is at least 2 or hw.os is linux))",
            id="nested",
        ),
    ],
)
def test_text(body: dict[str, Any], text: str, full: str) -> None:
    """A condition can be said in words that mean one thing, with the fact in front and without."""
    predicate = compile_predicate(body, WHERE)
    assert (predicate.text, predicate.full_text) == (text, full)


@pytest.mark.parametrize(
    ("body", "fix"),
    [
        pytest.param({"fact": "model.format", "eq": "gptq"}, "model.format=gptq", id="eq"),
        pytest.param({"fact": "hw.apple_silicon", "eq": True}, "hw.apple_silicon=true", id="eq-flag"),
        pytest.param({"fact": "model.format", "in": ["gptq", "awq"]}, "model.format=gptq|awq", id="in"),
        pytest.param({"fact": "model.family", "in": ["a", "b", "c", "d", "e", "f"]}, "model=a|b|c|d|e|f", id="in-six"),
        pytest.param({"fact": "model.family", "in": ["a", "b", "c", "d", "e", "f", "g"]}, "model=…", id="in-seven"),
        pytest.param({"fact": "hw.cuda_devices", "ge": 1}, "hw.gpus=1", id="ge"),
        pytest.param({"fact": "model.size_b", "le": 7}, "model.size=7", id="le"),
        pytest.param({"fact": "model.heads", "eq": 32}, None, id="nothing-a-user-can-set"),
        pytest.param({"fact": "hw.os", "ne": "linux"}, None, id="ne-names-no-value"),
        pytest.param({"fact": "hw.os", "not_in": ["linux"]}, None, id="not-in-neither"),
        pytest.param({"fact": "hw.isa", "has": "avx2"}, None, id="has-neither"),
        pytest.param({"fact": "hw.cores", "divides": 1}, None, id="divides-neither"),
        pytest.param({"fact": "engine.version", "version": ">=1"}, None, id="version-neither"),
        pytest.param({"fact": "hw.os", "present": True}, None, id="present-neither"),
        pytest.param({"all": [LINUX]}, None, id="combinations-neither"),
    ],
)
def test_fix(body: dict[str, Any], fix: str | None) -> None:
    """Where one change would meet the condition, it is written as the user would type it."""
    assert compile_predicate(body, WHERE).fix == fix


def test_a_combination_knows_its_facts() -> None:
    """Each is named once, in the order of the text; the first one stands for all."""
    predicate = compile_predicate({"all": [CORES, {"not": {"any": [LINUX, CORES]}}]}, WHERE)
    assert (predicate.fact, predicate.facts) == ("hw.cores", ("hw.cores", "hw.os"))


# --- what is refused ---

KNOWN = (
    "known: fact, eq, ne, in, not_in, ge, le, divides, contains, version, text_ge, text_gt, has, present, all, any, not"
)
EXAMPLE = "{fact: model.format, in: [gptq]}"


@pytest.mark.parametrize(
    ("body", "message"),
    [
        pytest.param(
            {"fact": "model.formt", "eq": "x"},
            "'model.formt' is no fact; did you mean 'model.format'?",
            id="fact-misspelt",
        ),
        pytest.param({"fact": "weather", "eq": "x"}, "'weather' is no fact", id="fact-of-nothing"),
        pytest.param({"fact": ["hw.os"], "eq": "x"}, "['hw.os'] is no fact; did you mean 'hw.os'?", id="fact-a-list"),
        pytest.param({"eq": "x"}, f"names no fact, as {EXAMPLE} does", id="fact-missing"),
        pytest.param({"fact": None, "eq": "x"}, f"names no fact, as {EXAMPLE} does", id="fact-null"),
        pytest.param(
            {"fact": "model.format", "inn": ["x"]},
            f"unknown operator or key 'inn'; {KNOWN}; did you mean 'in'?",
            id="operator-misspelt",
        ),
        pytest.param(
            {"fatc": "model.format", "in": ["x"]},
            f"unknown operator or key 'fatc'; {KNOWN}; did you mean 'fact'?",
            id="key-misspelt",
        ),
        pytest.param(
            {"fact": "model.format", True: ["x"]},
            f"unknown operator or key True; {KNOWN}",
            id="a-key-yaml-reads-as-true",
        ),
        pytest.param(
            {"all": [{"fact": "hw.os", "eq": "linux", "source": "page"}]},
            f"unknown operator or key 'source'; {KNOWN}",
            id="source-inside-a-combination",
        ),
        pytest.param({"fact": "hw.os"}, "needs exactly one operator, has none", id="no-operator"),
        pytest.param(
            {"fact": "hw.os", "eq": "linux", "ne": "x"}, "needs exactly one operator, has eq, ne", id="two-operators"
        ),
        pytest.param(
            {"fact": "model.format", "ge": 1},
            "'ge' does not apply to model.format, which is text; use one of eq, ne, in, not_in, contains, present",
            id="ge-of-text",
        ),
        pytest.param(
            {"fact": "hw.isa", "eq": "avx2"},
            "'eq' does not apply to hw.isa, which is a list; use one of has, present",
            id="eq-of-a-list",
        ),
        pytest.param(
            {"fact": "hw.apple_silicon", "in": [True]},
            "'in' does not apply to hw.apple_silicon, which is true or false; use one of eq, ne, present",
            id="in-of-a-flag",
        ),
        pytest.param(
            {"fact": "engine.version", "le": 1},
            "'le' does not apply to engine.version, which is a version; "
            "use one of eq, ne, ge, version, text_ge, text_gt, present",
            id="le-of-a-version",
        ),
        pytest.param(
            {"fact": "hw.cores", "has": "x"},
            "'has' does not apply to hw.cores, which is a number; "
            "use one of eq, ne, in, not_in, ge, le, divides, present",
            id="has-of-a-number",
        ),
        pytest.param({"fact": "hw.os", "eq": 1}, "eq of hw.os needs text, not 1", id="number-for-text"),
        pytest.param({"fact": "hw.os", "eq": None}, "eq of hw.os needs text, not None", id="null-for-text"),
        pytest.param({"fact": "hw.os", "eq": ["linux"]}, "eq of hw.os needs text, not ['linux']", id="list-for-text"),
        pytest.param({"fact": "hw.cores", "ge": "2"}, "ge of hw.cores needs a number, not '2'", id="text-for-number"),
        pytest.param({"fact": "hw.cores", "ge": True}, "ge of hw.cores needs a number, not True", id="bool-for-number"),
        pytest.param(
            {"fact": "hw.apple_silicon", "eq": 1},
            "eq of hw.apple_silicon needs true or false, not 1",
            id="number-for-flag",
        ),
        pytest.param(
            {"fact": "hw.os", "present": 1}, "present of hw.os needs true or false, not 1", id="present-a-number"
        ),
        pytest.param({"fact": "hw.isa", "has": ["avx2"]}, "has of hw.isa needs text, not ['avx2']", id="has-a-list"),
        pytest.param(
            {"fact": "hw.os", "in": "linux"}, "in of hw.os needs a list of texts, not 'linux'", id="in-a-text"
        ),
        pytest.param({"fact": "hw.os", "in": []}, "in of hw.os needs a list of texts, not []", id="in-an-empty-list"),
        pytest.param(
            {"fact": "hw.os", "not_in": None}, "not_in of hw.os needs a list of texts, not None", id="not-in-null"
        ),
        pytest.param(
            {"fact": "hw.os", "in": ["a", 1]}, "in of hw.os needs a list of texts, not ['a', 1]", id="in-mixed"
        ),
        pytest.param(
            {"fact": "hw.cores", "in": [1, True]},
            "in of hw.cores needs a list of numbers, not [1, True]",
            id="in-a-bool",
        ),
        pytest.param({"fact": "model.heads", "divides": 0}, "divides needs a number above 0, not 0", id="divides-zero"),
        pytest.param(
            {"fact": "engine.version", "version": 0.6}, "version of engine.version needs text, not 0.6", id="a-float"
        ),
        pytest.param(
            {"fact": "engine.version", "version": "0.6"},
            "version needs a specifier such as '>=0.6,<0.9', not '0.6'",
            id="version-without-operator",
        ),
        pytest.param({"all": []}, "'all' needs a list of conditions, not []", id="all-of-nothing"),
        pytest.param(
            {"any": {"fact": "hw.os"}}, "'any' needs a list of conditions, not {'fact': 'hw.os'}", id="any-of-one"
        ),
        pytest.param({"any": None}, "'any' needs a list of conditions, not None", id="any-null"),
        pytest.param(
            {"not": [LINUX]}, f"a condition is a mapping such as {EXAMPLE}, not [{LINUX}]", id="not-of-a-list"
        ),
        pytest.param({"not": None}, f"a condition is a mapping such as {EXAMPLE}, not None", id="not-null"),
        pytest.param({"all": [1]}, f"a condition is a mapping such as {EXAMPLE}, not 1", id="all-of-a-number"),
        pytest.param(
            {"all": [LINUX], "fact": "hw.os", "eq": "x"},
            "'all' stands alone, but has fact, eq beside it",
            id="all-and-more",
        ),
        pytest.param({}, f"a condition is a mapping such as {EXAMPLE}, not {{}}", id="empty"),
        pytest.param("linux", f"a condition is a mapping such as {EXAMPLE}, not 'linux'", id="text"),
    ],
)
def test_refused(body: Any, message: str) -> None:
    """What is misspelt is refused when it is read, with the file, the rule, and what would be allowed."""
    with pytest.raises(ConfigError, match=f"^{re.escape(f'{WHERE}: {message}')}$"):
        compile_predicate(body, WHERE)


def test_every_operator_is_tested() -> None:
    """The tables above leave none out."""
    assert set(KEYS) == {*KNOWN.removeprefix("known: ").split(", ")}
