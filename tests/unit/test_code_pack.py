"""What Xinference's code did in August 2024 where its page said otherwise; and what changed in the engines since."""

from __future__ import annotations

import json
from functools import cache
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from xinfer import catalog, engines
from xinfer.catalog import Shape, Spec
from xinfer.config.compose import Composer, conf_dir, read
from xinfer.facts import Hardware
from xinfer.judging import differences, packs, rules
from xinfer.judging.disagreement import TODAY
from xinfer.machine import hardware

if TYPE_CHECKING:
    from xinfer.catalog import Family
    from xinfer.judging.differences import Difference
    from xinfer.judging.rules import Pack

PAGE, CODE = "xinference-2024-08", "xinference-2024-08-code"


@cache
def pack(name: str, **versions: str) -> Pack:
    """Return a pack that judges these versions of engines."""
    loaded = packs.named(name, Composer(engines.conf_directories()))
    return msgspec.structs.replace(loaded, versions={**loaded.versions, **versions})


@cache
def families() -> dict[str, Family]:
    return catalog.load(conf_dir() / "model")


@cache
def machine(name: str) -> Hardware:
    return hardware.declared(read(conf_dir() / "hw" / f"{name}.yaml"))


@cache
def published(day: str) -> tuple[Spec, ...]:
    """Return what was published on a day of the families that the page names."""
    return tuple(catalog.rows([families()[name] for name in pack(PAGE).families], day))


def between(
    first: str, second: str, on: str, engine: str, *, day: str = "2024-08", vllm: str | None = None
) -> dict[tuple[str, str, tuple[str, ...]], set[str]]:
    """Return the families on which two packs disagree about an engine, by answers and conditions."""
    versions = {} if vllm is None else {"vllm": vllm}
    groups: dict[tuple[str, str, tuple[str, ...]], set[str]] = {}
    for each in _between(first, second, on, day, json.dumps(versions)):
        if each.engine == engine:
            ids = tuple(finding.id for finding in (*each.first_against, *each.second_against))
            groups.setdefault((each.first, each.second, ids), set()).add(each.spec.family)
    return groups


@cache
def _between(first: str, second: str, on: str, day: str, versions: str) -> tuple[Difference, ...]:
    one, other = (pack(name, **json.loads(versions)) for name in (first, second))
    return tuple(differences.between(one, other, published(day), machine(on)))


def answers(family: str, form: str, quantization: str, *abilities: str, on: str = "h100", vllm: str = "0.5.4") -> str:
    """Return what page and code say of vLLM and an artefact that nobody may have published."""
    spec = Spec(
        family=family, size="7", format=form, quantization=quantization, hub="h", id="i",
        abilities=abilities or ("chat",), shape=Shape(architecture="LlamaForCausalLM"),
    )  # fmt: skip
    only = list(differences.between(pack(PAGE, vllm=vllm), pack(CODE, vllm=vllm), [spec], machine(on)))
    return next((f"{each.first} {each.second}" for each in only if each.engine == "vllm"), "same")


# --- the page and the code ---


def test_the_day_s_vllm_on_a_card() -> None:
    """With the vLLM of that month every gate is open, and one published artefact is left on which they disagree."""
    assert between(PAGE, CODE, "h100", "vllm") == {("no", "yes", ("gptq-quantization",)): {"Yi-chat"}}
    (only,) = [each for each in _between(PAGE, CODE, "h100", "2024-08", "{}") if each.engine == "vllm"]
    assert (only.spec.size, only.spec.format, only.spec.quantization) == ("34", "gptq", "8bits")


@pytest.mark.parametrize(
    ("form", "quantization", "vllm", "said"),
    [
        pytest.param("gptq", "8bits", "0.5.4", "no yes", id="a-part-of-the-word-is-enough"),
        pytest.param("gptq", "Int3", "0.5.4", "same", id="three-bits-by-both"),
        pytest.param("gptq", "Int3", "0.3.2", "yes no", id="three-bits-not-before-0.3.3"),
        pytest.param("gptq", "Int8", "0.3.2", "yes no", id="eight-bits-not-before-0.3.3"),
        pytest.param("gptq", "Int4", "0.3.2", "same", id="four-bits-always"),
        pytest.param("gptq", "Int4-Int8Mix", "0.5.4", "no yes", id="a-mixture-has-a-4-in-its-name"),
        pytest.param("awq", "w4a16", "0.5.4", "no yes", id="anything-with-a-4"),
        pytest.param("awq", "Int8", "0.5.4", "same", id="awq-of-eight-bits-by-neither"),
        pytest.param("pytorch", "4-bit", "0.5.4", "same", id="pytorch-quantized-by-neither"),
    ],
)
def test_substrings(form: str, quantization: str, vllm: str, said: str) -> None:
    """The page lists quantizations, the code looks for digits in them, and for one digit only in an old vLLM."""
    assert answers("Yi-chat", form, quantization, vllm=vllm) == said


GATED = {
    "gate-0.3.0": {"qwen1.5-chat", "codeqwen1.5", "codeqwen1.5-chat", "qwen2-instruct"},
    "gate-0.3.2": {"gemma-it"},
    "gate-0.3.3": {"orion-chat", "orion-chat-rag"},
    "gate-0.4.0": {"qwen1.5-moe-chat", "qwen2-moe-instruct", "c4ai-command-r-v01"},
    "gate-0.5.3": {"gemma-2-it", "mistral-nemo-instruct", "mistral-large-instruct"},
    "gate-after-0.5.3": {"llama-3.1", "llama-3.1-instruct"},
}


@pytest.mark.parametrize(
    ("vllm", "closed"),
    [
        pytest.param("0.2.7", list(GATED), id="0.2.7"),
        pytest.param("0.3.0", list(GATED)[1:], id="0.3.0"),
        pytest.param("0.3.2", list(GATED)[2:], id="0.3.2"),
        pytest.param("0.3.3", list(GATED)[3:], id="0.3.3"),
        pytest.param("0.4.0", list(GATED)[4:], id="0.4.0"),
        pytest.param("0.5.3", list(GATED)[5:], id="0.5.3-is-not-after-itself"),
        pytest.param("0.5.3.post1", [], id="a-text-that-goes-on-is-after-it"),
        pytest.param("0.5.4", [], id="0.5.4"),
        pytest.param("0.10.0", list(GATED), id="0.10.0-is-before-0.3.0-as-text"),
        pytest.param("0.33.0", list(GATED)[3:], id="0.33.0-is-before-0.4.0-as-text"),
    ],
)
def test_gates(vllm: str, closed: list[str]) -> None:
    """The page names families without versions; the code asks for versions, and compares their letters."""
    groups = between(PAGE, CODE, "h100", "vllm", vllm=vllm)
    gates = {ids: named for (first, _, ids), named in groups.items() if first == "yes" and ids[-1].startswith("gate")}
    assert {ids[-1] for ids in gates} == set(closed)
    for gate in closed:
        assert set().union(*(named for ids, named in gates.items() if ids[-1] == gate)) == GATED[gate]


def test_models_that_chat_are_served_anywhere() -> None:
    """The class for them asks for neither Linux nor CUDA, which the page asks of all."""
    for on, reason in (("apple", ("linux", "cuda")), ("rocm", ("cuda",))):
        groups = between(PAGE, CODE, on, "vllm")
        chatting = {name for (first, second, ids), named in groups.items() for name in named if ids == reason}
        assert all((first, second) == ("no", "yes") for (first, second, ids) in groups if ids == reason)
        assert len(chatting) == len([n for n in pack(PAGE).families if "chat" in families()[n].abilities])
        assert chatting.isdisjoint(name for name in pack(PAGE).families if "generate" in families()[name].abilities)
    sglang = between(PAGE, CODE, "apple", "sglang")
    assert set(sglang) == {("no", "yes", ("linux", "cuda"))}
    assert "qwen2-instruct" in sglang["no", "yes", ("linux", "cuda")]


def test_abilities() -> None:
    """A model that is listed among those that complete a text is not served if it only chats."""
    assert answers("llama-2", "pytorch", "none", "generate") == "same"
    assert answers("llama-2", "pytorch", "none", "chat") == "yes no"
    assert answers("qwen2-instruct", "pytorch", "none", "chat") == "same"
    assert answers("qwen2-instruct", "pytorch", "none", "generate") == "yes no"


def test_transformers_takes_what_its_page_does_not_name() -> None:
    """The page calls it the default of the format pytorch; the code takes GPTQ and AWQ as well."""
    groups = between(PAGE, CODE, "h100", "transformers")
    assert set(groups) == {("no", "yes", ("format",))}
    formats = {
        each.spec.format
        for each in _between(PAGE, CODE, "h100", "2024-08", "{}")
        if each.engine == "transformers"
    }  # fmt: skip
    assert formats == {"gptq", "awq"}


@pytest.mark.parametrize(
    ("family", "abilities", "said"),
    [
        pytest.param("codeqwen1.5", ("generate",), "no", id="a-qwen-that-completes"),
        pytest.param("codeqwen1.5-chat", ("chat",), "yes", id="a-qwen-that-chats"),
        pytest.param("llama-2", ("generate",), "yes", id="any-other"),
    ],
)
def test_llama_cpp_refuses_a_name(family: str, abilities: tuple[str, ...], said: str) -> None:
    """The class for models that complete a text refuses names with qwen in them; nobody published such a file."""
    spec = Spec(
        family=family, size="7", format="ggufv2", quantization="Q4_0", hub="h", id="i", abilities=abilities,
    )  # fmt: skip
    facts = rules.gather(spec, machine("cpu"))
    assert pack(CODE).judge("llama_cpp", facts).verdict == said
    assert between(PAGE, CODE, "cpu", "llama_cpp") == {}


def test_mlx_asks_for_the_system_and_the_processor() -> None:
    """Both together are what the page calls a Mac with Apple silicon."""
    assert between(PAGE, CODE, "apple", "mlx") == {}


# --- the page and today ---


def test_what_vllm_has_removed() -> None:
    """Six of the page's families that were published need an older vLLM; the other two have no record at all."""
    gone = {"qwen-chat", "baichuan", "baichuan-chat", "baichuan-2-chat", "internlm-chat-7b", "internlm-chat-20b"}
    removed = {"removed-in-0.24", "removed-in-0.25"}
    groups = between(PAGE, TODAY, "h100", "vllm")
    assert {name for key, named in groups.items() if removed & set(key[2]) for name in named} == gone
    fixes = {c.id: c.fix for c in pack(TODAY).engines["vllm"] if c.id in removed}
    assert set(fixes.values()) == {"another model, or another engine, or engine.version=0.23.0"}
    earlier = between(PAGE, TODAY, "h100", "vllm", vllm="0.23.0")
    assert not any(removed & set(key[2]) for key in earlier)
    assert not {name for (first, _, _), named in earlier.items() if first == "yes" for name in named & gone}


def test_three_bits() -> None:
    """The page accepts GPTQ of three bits, today's vLLM does not; nobody published any."""
    spec = Spec(
        family="llama-2", size="7", format="gptq", quantization="Int3", hub="h", id="i", abilities=("generate",),
        shape=Shape(architecture="LlamaForCausalLM"),
    )  # fmt: skip
    (only,) = [
        each for each in differences.between(pack(PAGE), pack(TODAY), [spec], machine("h100")) if each.engine == "vllm"
    ]
    assert (only.first, only.second, [f.id for f in only.second_against]) == ("yes", "no", ["gptq-bits"])
    assert not any(each.quantization == "Int3" for each in published("2024-08"))


def test_where_the_engines_run_today() -> None:
    """MLX runs on Linux, vLLM on AMD's GPUs and on CPUs, and no longer on a GPU below 7.5; ggmlv3 is read by nobody."""
    assert any(key[:2] == ("no", "yes") for key in between(PAGE, TODAY, "cpu", "mlx"))
    assert any(key[:2] == ("no", "yes") and "cuda" in key[2] for key in between(PAGE, TODAY, "rocm", "vllm"))
    ggml = between(PAGE, TODAY, "h100", "llama_cpp")
    assert ("yes", "no", ("format",)) in ggml


def test_every_condition_has_a_source_with_its_place() -> None:
    """A file of the commit, and where in it."""
    for conditions in pack(CODE).engines.values():
        for condition in conditions:
            assert condition.source.kind == "code"
            assert "@de06eb7fd xinference/model/llm/" in condition.source.where
            assert condition.source.at


def test_the_lists_are_the_page_s() -> None:
    """Both lists together name the families that the page names."""
    body: dict[str, Any] = read(conf_dir() / "rules" / f"{CODE}.yaml")
    listed = [name for part in body["engines"]["vllm"]["family"]["in"] for name in part]
    assert sorted(listed) == sorted(pack(PAGE).families) == sorted(pack(CODE).families)
