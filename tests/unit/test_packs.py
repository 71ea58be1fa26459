"""How a pack is read: everything in it is there, and what is wrong in it is refused in one line."""

from __future__ import annotations

import re
from typing import Any

import pytest

from xinfer.errors import ConfigError
from xinfer.facts import Gpu, Hardware
from xinfer.judging import packs
from xinfer.judging.rules import Pack

SOURCES = {"page": {"kind": "page", "title": "A guide", "date": "2024-08-14", "where": "example.org/guide"}}
LINUX = {"fact": "hw.os", "eq": "linux", "source": "page"}


def pack(engines: dict[str, Any], **more: Any) -> Pack:
    return packs.load({"name": "mine", "sources": SOURCES, "engines": engines, **more}, "mine.yaml")


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


def test_versions_and_releases() -> None:
    """What is judged where nobody chose, and what the pack tells apart."""
    read_pack = pack({"vllm": {}}, versions={"vllm": "0.33.0"}, releases={"vllm": ["0.23.0", "0.33.0"]})
    assert (read_pack.versions, read_pack.releases) == ({"vllm": "0.33.0"}, {"vllm": ("0.23.0", "0.33.0")})


@pytest.mark.parametrize(
    ("more", "message"),
    [
        pytest.param(
            {"versions": {"vlm": "1"}}, "versions: unknown key 'vlm'; allowed: vllm; did you mean 'vllm'?", id="engine"
        ),
        pytest.param(
            {"versions": {"vllm": "new"}}, "versions: vllm: 'new' is no version; write it as 0.24.0", id="version"
        ),
        pytest.param({"versions": {"vllm": 0.3}}, "versions: vllm must be text, not 0.3", id="number"),
        pytest.param({"versions": ["0.3"]}, "versions must be a mapping keyed by names, not ['0.3']", id="list"),
        pytest.param({"releases": {"vllm": "0.3"}}, "releases: vllm must be a list of texts, not '0.3'", id="no-list"),
        pytest.param(
            {"releases": {"vllm": ["x"]}}, "releases: vllm: 'x' is no version; write it as 0.24.0", id="release"
        ),
        pytest.param(
            {"releases": {"vllm": ["0.10", "0.9"]}},
            "releases: vllm: must be in order, oldest first, each once, not 0.10, 0.9", id="order",
        ),
        pytest.param(
            {"engines": {"vllm": {"it": {**LINUX, "since": "x"}}}},
            "rule vllm.it: since: 'x' is no version; write it as 0.24.0", id="since",
        ),
        pytest.param(
            {"engines": {"vllm": {"it": {**LINUX, "until": 0.3}}}},
            "rule vllm.it: until must be text, not 0.3", id="until",
        ),
    ],
)  # fmt: skip
def test_what_is_wrong_with_versions(more: dict[str, Any], message: str) -> None:
    """A file, a key, a value, and what would be allowed, in one line."""
    body = {"name": "mine", "sources": SOURCES, "engines": {"vllm": {}}, **more}
    with pytest.raises(ConfigError, match=re.escape(message)) as error:
        packs.load(body, "mine.yaml")
    assert str(error.value) == f"mine.yaml: {message}"


def test_an_empty_pack_is_named_after_its_file() -> None:
    """Nothing is needed but a mapping."""
    empty = packs.load({}, "mine.yaml")
    assert (empty.name, empty.title, empty.date, empty.catalog) == ("mine.yaml", "mine.yaml", "", None)
    assert (empty.families, empty.preference, empty.engines, empty.build_flags) == ((), (), {}, {})


def test_lists_can_be_shared() -> None:
    """A list within a list is spliced in: what YAML has one name for, several conditions can extend."""
    shared = ["gptq", "awq"]
    (condition,) = pack({"vllm": {"it": {"fact": "model.format", "in": [shared, "mlx"], "source": "page"}}}).engines[
        "vllm"
    ]
    assert condition.expected == "one of gptq, awq, mlx"


# --- the order of engines ---

BY_DEVICE = {"cuda": ["b", "a"], "cpu": ["c"], "default": ["a", "c"]}


@pytest.mark.parametrize(
    ("preference", "machine", "order"),
    [
        pytest.param(None, {}, "abc", id="none-is-that-of-the-pack"),
        pytest.param(["c", "a"], {"gpus": 0}, "cab", id="a-list-is-for-every-device"),
        pytest.param(BY_DEVICE, {"gpus": 1, "gpu": Gpu(vendor="nvidia")}, "bac", id="that-of-the-device"),
        pytest.param(BY_DEVICE, {"gpus": 0}, "cab", id="that-of-a-cpu"),
        pytest.param(BY_DEVICE, {"gpus": 1, "gpu": Gpu(vendor="amd")}, "acb", id="the-default-for-another"),
        pytest.param(BY_DEVICE, {}, "acb", id="the-default-where-nothing-is-known"),
        pytest.param({"cpu": ["b"]}, {}, "abc", id="there-need-be-no-default"),
        pytest.param({"cpu": None}, {"gpus": 0}, "abc", id="null-is-no-order"),
    ],
)
def test_the_order_of_engines(preference: Any, machine: dict[str, Any], order: str) -> None:
    """Preferred engines first, as the pack says for the machine's device; then the others, each of them once."""
    engines: dict[str, Any] = {"a": {}, "b": {}, "c": {}}
    assert pack(engines, preference=preference).order(Hardware(profile="p", **machine)) == tuple(order)


# --- why a failure is not a no ---


@pytest.mark.parametrize(
    ("more", "doubt"),
    [
        pytest.param({}, None, id="it-is"),
        pytest.param({"otherwise": "it may run all the same"}, "it may run all the same", id="the-packs-own-words"),
        pytest.param({"conflict": "code"}, "sources conflict: A guide says no, The code does not", id="another-source"),
    ],
)
def test_doubt(more: dict[str, str], doubt: str | None) -> None:
    """A rule may say why a failure decides nothing, or name the source that contradicts it."""
    sources = SOURCES | {"code": {"kind": "code", "title": "The code", "date": "2026-11-01", "where": "x.py"}}
    raw = {"sources": sources, "engines": {"vllm": {"it": LINUX | more}}}
    assert packs.load(raw, "mine.yaml").engines["vllm"][0].doubt == doubt


# --- what is refused ---


PACK_KEYS = "name, title, date, catalog, parts, versions, releases, sources, families, preference, engines, build_flags"
RULE_KEYS = (
    "fact, eq, ne, in, not_in, ge, le, divides, contains, version, text_ge, text_gt, has, present, all, any, not, "
    "when, since, until, otherwise, conflict, source, at, fix"
)


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
            {"preference": {"cudaa": []}},
            "preference: unknown key 'cudaa'; allowed: cuda, rocm, xpu, apple, cpu, default; did you mean 'cuda'?",
            id="preference-of-no-device",
        ),
        pytest.param(
            {"preference": {"cpu": "vllm"}},
            "preference: cpu must be a list of texts, not 'vllm'",
            id="preference-of-a-device",
        ),
        pytest.param(
            {"engines": {"vllm": {}}, "preference": {"cpu": ["vllm"], "default": ["vlm"]}},
            "preference names engine 'vlm', which has no rules; did you mean 'vllm'?",
            id="preference-by-device-of-an-unknown-engine",
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
        packs.load(raw, "mine.yaml")


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
        pytest.param({**LINUX, "source": None}, "names no source; it has page", id="source-null"),
        pytest.param(
            {**LINUX, "source": "pgae"},
            "source 'pgae' is not one of the pack's; it has page; did you mean 'page'?",
            id="source",
        ),
        pytest.param(
            {**LINUX, "conflict": "pgae"},
            "conflict: source 'pgae' is not one of the pack's; it has page; did you mean 'page'?",
            id="conflict",
        ),
        pytest.param(
            {**LINUX, "conflict": "page", "otherwise": "x"},
            "has otherwise and conflict; one of them says why a failure is not a no",
            id="two-reasons-not-to-refuse",
        ),
        pytest.param({**LINUX, "otherwise": 3}, "otherwise must be text, not 3", id="otherwise"),
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
        packs.load({"sources": SOURCES, "engines": {"vllm": {"right": LINUX, "mine": body}}}, "mine.yaml")


def test_a_pack_without_sources_can_have_no_rules() -> None:
    """Every rule needs one."""
    for rule, said in (
        (LINUX, "source 'page' is not one of the pack's"),
        ({"fact": "hw.os", "eq": "x"}, "names no source"),
    ):
        with pytest.raises(ConfigError, match=f"^m: rule vllm.a: {re.escape(said)}; it has none$"):
            packs.load({"engines": {"vllm": {"a": rule}}}, "m")
