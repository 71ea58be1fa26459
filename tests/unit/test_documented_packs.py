"""The two documented packs say what their pages say: for every artefact, on every machine, for every engine.

The pages' conditions stand here a second time, as plain functions of complete facts. What they leave open
where a fact is not known is found by trying every value it could have, without any three-valued logic.
"""

from __future__ import annotations

import itertools
import re
from collections import Counter
from functools import cache
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from xinfer import catalog
from xinfer.catalog import Spec
from xinfer.config.compose import Composer, conf_dir, read
from xinfer.errors import ConfigError
from xinfer.facts import Gpu, Hardware
from xinfer.judging import packs, rules

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from xinfer.catalog import Family
    from xinfer.judging.rules import Pack

PAGES = Path(__file__).with_name("resources") / "pages"
PACKS = {"xinference-2024-08": "backends-2024-08", "xinference-2024-07": "installation-2024-07"}
DAYS = {"xinference-2024-08": "2024-08", "xinference-2024-07": "2024-07"}
ENGINES = ("vllm", "sglang", "transformers", "llama_cpp", "mlx")
WITHOUT_A_RECORD = ("internlm-16k", "internlm-chat-8k")
LATER = {"llama-3.1", "llama-3.1-instruct", "mistral-nemo-instruct", "mistral-large-instruct", "gemma-2-it"}
"""The families that the page of August has and the page of July has not."""
both_packs = pytest.mark.parametrize("name", PACKS)


@cache
def pack(name: str) -> Pack:
    return packs.load(read(conf_dir() / "rules" / f"{name}.yaml"), name)


@cache
def families() -> dict[str, Family]:
    return catalog.load(conf_dir() / "model")


@cache
def listed(name: str) -> tuple[str, ...]:
    """Read the families that a page says vLLM supports."""
    text = (PAGES / f"{PACKS[name]}.txt").read_text(encoding="utf-8")
    between = text.partition(".. vllm_start")[2].partition(".. vllm_end")[0]
    return tuple(re.findall(r"``([^`]+)``", between))


# --- the pages, once more ---

CODE = (
    "llama-2", "llama-3", "llama-3.1", "mistral-v0.1", "mixtral-v0.1", "llama-2-chat", "llama-3-instruct",
    "llama-3.1-instruct", "qwen-chat", "qwen1.5-chat", "qwen2-instruct", "qwen2-moe-instruct",
    "mistral-instruct-v0.1", "mistral-instruct-v0.2", "mixtral-instruct-v0.1", "gemma-it", "gemma-2-it",
)  # fmt: skip
"""What SGLang's code of August supports."""


def conditions(name: str) -> dict[str, dict[str, Callable[..., bool]]]:
    """Return the conditions of a page: engine, then condition, then whether complete facts meet it."""
    on_the_page = frozenset(listed(name))
    in_the_code = frozenset(CODE) - (LATER if name == "xinference-2024-07" else set())
    for_gpus: dict[str, Callable[..., bool]] = {
        "format": lambda fmt: fmt in {"pytorch", "gptq", "awq"},
        "pytorch-quantization": lambda fmt, quantization: fmt != "pytorch" or quantization == "none",
        "linux": lambda os: os == "linux",
        "cuda": lambda cuda: cuda > 0,
    }
    return {
        "vllm": {
            **for_gpus,
            "awq-quantization": lambda fmt, quantization: fmt != "awq" or quantization == "Int4",
            "gptq-quantization": lambda fmt, quantization: fmt != "gptq" or quantization in {"Int3", "Int4", "Int8"},
            "family": lambda family: family in on_the_page,
        },
        "sglang": {
            **for_gpus,
            "four-bit": lambda fmt, quantization: fmt not in {"gptq", "awq"} or quantization == "Int4",
            "family": lambda family: family in in_the_code,
        },
        "transformers": {"format": lambda fmt: fmt == "pytorch"},
        "llama_cpp": {"format": lambda fmt: fmt in {"ggufv2", "ggmlv3"}},
        "mlx": {"apple-silicon": lambda apple: apple, "format": lambda fmt: fmt == "mlx"},
    }


POSSIBLE: dict[str, tuple[Any, ...]] = {
    "fmt": ("pytorch", "gptq", "awq", "mlx", "ggufv2", "ggmlv3", "fp8"),
    "quantization": ("none", "Int3", "Int4", "Int8", "8bits", "q4_0"),
    "family": ("qwen2-instruct", "of-nobody"),
    "os": ("linux", "darwin", "windows"),
    "cuda": (0, 1, 4),
    "apple": (True, False),
}
"""What a fact may turn out to be when it is not known: every value that a page tells apart."""


FACTS = tuple(POSSIBLE)


@cache
def depends_on(holds: Callable[..., bool]) -> tuple[str, ...]:
    """Return the facts that a condition needs: the names of its function's parameters."""
    return tuple(signature(holds).parameters)


class Page:
    """A page as an oracle: what it says of facts, some of which may not be known."""

    def __init__(self, name: str) -> None:
        self._conditions = conditions(name)
        self.verdict = cache(self._verdict)
        self.result = cache(self._result)

    def _verdict(self, engine: str, *known: Any) -> tuple[str, dict[str, str]]:
        """Return an engine's answer and the result of each condition; one failed condition refuses."""
        facts = dict(zip(FACTS, known, strict=True))
        results = {
            rule: self.result(engine, rule, *(facts[fact] for fact in depends_on(holds)))
            for rule, holds in self._conditions[engine].items()
        }
        found = set(results.values())
        return "no" if "failed" in found else "unknown" if "unknown" in found else "yes", results

    def _result(self, engine: str, rule: str, *known: Any) -> str:
        """Try everything that the unknown facts may be; what depends on it is unknown."""
        holds = self._conditions[engine][rule]
        names = depends_on(holds)
        choices = [POSSIBLE[name] if value is None else (value,) for name, value in zip(names, known, strict=True)]
        outcomes = {holds(*values) for values in itertools.product(*choices)}
        return "unknown" if len(outcomes) > 1 else "met" if outcomes == {True} else "failed"


# --- every machine, every artefact ---

DEVICES: dict[str, dict[str, Any]] = {
    "no-gpu": {"gpus": 0, "apple_silicon": False},
    "one-cuda": {"gpus": 1, "gpu": Gpu(vendor="nvidia"), "apple_silicon": False},
    "four-cuda": {"gpus": 4, "gpu": Gpu(vendor="nvidia"), "apple_silicon": False},
    "rocm": {"gpus": 1, "gpu": Gpu(vendor="amd"), "apple_silicon": False},
    "apple": {"gpus": 1, "gpu": Gpu(vendor="apple"), "apple_silicon": True},
    "unknown": {},
}
HALF_KNOWN: dict[str, dict[str, Any]] = {"some-cuda": {"gpu": Gpu(vendor="nvidia")}, "of-unknown-make": {"gpus": 2}}
CUDA = {"one-cuda": 1, "four-cuda": 4, "some-cuda": None, "of-unknown-make": None, "unknown": None}
SYSTEMS = ("linux", "darwin", "windows", None)


def machines(devices: dict[str, dict[str, Any]]) -> Iterator[tuple[Hardware, tuple[Any, ...]]]:
    """Yield every machine, with what the pages ask about it; only macOS runs on Apple silicon."""
    for (device, declared), os in itertools.product(devices.items(), SYSTEMS):
        apple = False if os in {"linux", "windows"} else declared.get("apple_silicon")
        yield Hardware(profile=device, os=os, **declared), (os, CUDA.get(device, 0), apple)


ASKED = {"model.family", "model.format", "model.quantization", "hw.os", "hw.cuda_devices", "hw.apple_silicon"}


@both_packs
def test_what_a_pack_asks(name: str) -> None:
    """No condition depends on anything else: artefacts that differ in size or hub alone are judged alike."""
    assert {fact for judged in pack(name).engines.values() for c in judged for fact in c.facts} == ASKED


def compare(name: str, specs: Iterable[Spec], devices: dict[str, dict[str, Any]]) -> int:
    """Compare the pack with its page on machines with these devices, and return how many verdicts agree.

    Artefacts that differ in nothing that is asked are judged once.
    """
    judge, expected, compared = pack(name).judge, Page(name).verdict, 0
    alike = Counter((spec.format, spec.quantization, spec.family) for spec in specs)
    for machine, asked in machines(devices):
        for (fmt, quantization, family), count in alike.items():
            spec = Spec(family=family, size=None, format=fmt, quantization=quantization, hub=None, id=None)
            facts = rules.gather(spec, machine)
            for engine in ENGINES:
                verdict = judge(engine, facts)
                said = verdict.verdict, {finding.id: finding.result for finding in verdict.findings}
                assert said == expected(engine, fmt, quantization, family, *asked), (engine, spec, machine)
                compared += count
    return compared


@pytest.mark.parametrize(("name", "rows"), [("xinference-2024-08", 1332), ("xinference-2024-07", 1144)])
def test_the_pack_is_its_page(name: str, rows: int) -> None:
    """Every published artefact is judged as the page of that day says, whatever the machine."""
    specs = catalog.rows([families()[family] for family in listed(name)], DAYS[name])
    assert compare(name, specs, DEVICES) == rows * 6 * 4 * 5


@both_packs
def test_what_the_catalogue_of_the_day_has_not(name: str) -> None:
    """Formats and quantizations of other days, of nobody, and unknown ones are judged by the same words."""
    formats = (*POSSIBLE["fmt"], "safetensors", None)
    quantizations = ("none", "None", "Int3", "int4", "Int4-Int8Mix", "8bits", "4-bit", "fp8", "x", None)
    names = ("qwen2-instruct", "gemma-2-it", "Qwen2-Instruct", "of-nobody")
    specs = [
        Spec(family=family, size=None, format=fmt, quantization=quantization, hub=None, id=None)
        for family, fmt, quantization in itertools.product(names, formats, quantizations)
    ]
    assert compare(name, specs, DEVICES | HALF_KNOWN) == 4 * 9 * 10 * 8 * 4 * 5


@both_packs
def test_what_another_day_published(name: str) -> None:
    """Artefacts of today, and families that neither page names, are judged by the page too."""
    specs = catalog.rows(families().values(), "2026-08")
    assert {spec.quantization for spec in specs} >= {"4bit", "fp8", "Int8"}
    assert compare(name, specs, DEVICES) == 895 * 6 * 4 * 5


# --- the list of families ---


@pytest.mark.parametrize(("name", "count"), [("xinference-2024-08", 57), ("xinference-2024-07", 52)])
def test_the_families_are_the_pages(name: str, count: int) -> None:
    """The pack names the page's families, all of them, in the page's order; and judges by that list."""
    assert pack(name).families == listed(name)
    assert len(listed(name)) == len(set(listed(name))) == count
    (condition,) = [c for c in pack(name).engines["vllm"] if c.id == "family"]
    facts = rules.gather(unpublished("x"), Hardware(profile="x"))
    met = [family for family in families() if condition.evaluate({**facts, "model.family": family}).result == "met"]
    assert sorted(met) == sorted(listed(name))


def test_the_pages_differ_by_five_families() -> None:
    """The newer list has all of the older one and five more."""
    older, newer = listed("xinference-2024-07"), listed("xinference-2024-08")
    assert [family for family in newer if family not in LATER] == list(older)
    assert set(newer) - set(older) == LATER


def test_every_family_of_a_page_is_in_the_catalogue() -> None:
    """There is a file for each name; one model of our own is on neither page, and what was published later."""
    others = [family for name, family in families().items() if name not in listed("xinference-2024-08")]
    assert {day for family in others for row in family.rows for day in row.listed} == {"2026-10"}
    undated = [family.family for family in others if not all(row.listed for row in family.rows)]
    assert undated == ["smollm2-135m-instruct"]
    assert set(listed("xinference-2024-08")) <= set(families())


# --- figures ---


@pytest.mark.parametrize(
    ("name", "rows", "expected"),
    [
        pytest.param("xinference-2024-08", 1332, {"pytorch": 112, "gptq": 64, "awq": 39}, id="215-in-august"),
        pytest.param("xinference-2024-07", 1144, {"pytorch": 99, "gptq": 55, "awq": 34}, id="188-in-july"),
    ],
)
def test_how_many_have_a_format_and_quantization_for_vllm(name: str, rows: int, expected: dict[str, int]) -> None:
    """The documented conditions on the artefact alone leave this many."""
    specs = catalog.rows([families()[family] for family in listed(name)], DAYS[name])
    anywhere = Hardware(profile="anywhere")
    met = dict.fromkeys(expected, 0)
    for spec in specs:
        verdict = pack(name).judge("vllm", rules.gather(spec, anywhere))
        if not {finding.fact for finding in verdict.of("failed", "unknown")} & {"model.format", "model.quantization"}:
            met[str(spec.format)] += 1
    assert len(specs) == rows
    assert met == expected


# --- cases that are easily got wrong ---


def unpublished(name: str) -> Spec:
    return Spec(family=name, size=None, format=None, quantization=None, hub=None, id=None)


def one(name: str, **chosen: str) -> Spec:
    return catalog.select(families()[name], day="2024-08", **chosen)[0]


CUDA_MACHINE = Hardware(profile="cuda", os="linux", apple_silicon=False, gpus=1, gpu=Gpu(vendor="nvidia"))


@both_packs
def test_8bits_is_no_spelling_of_the_page(name: str) -> None:
    """Yi-chat 34B's GPTQ quantization is published as 8bits; the page has Int8, so it fails, and says so."""
    spec = one("Yi-chat", size="34", format="gptq")
    verdict = pack(name).judge("vllm", rules.gather(spec, CUDA_MACHINE))
    (failed,) = verdict.of("failed")
    assert (verdict.verdict, failed.id, failed.observed) == ("no", "gptq-quantization", "8bits")
    assert failed.expected == "one of Int3, Int4, Int8 when model.format is gptq"
    assert failed.fix == "model.quantization=Int3|Int4|Int8"


@both_packs
@pytest.mark.parametrize("family", WITHOUT_A_RECORD)
def test_a_family_without_a_record_is_unknown(name: str, family: str) -> None:
    """Nothing fails for vLLM on CUDA, nothing is known of the artefact, and each such finding says why."""
    spec = families()[family].unpublished(DAYS[name])
    verdict = pack(name).judge("vllm", rules.gather(spec, CUDA_MACHINE))
    assert verdict.verdict == "unknown"
    assert {finding.id for finding in verdict.of("met")} == {"linux", "cuda", "family"}
    why = "named on both pages, but neither day's catalogue has a record of it"
    for finding in verdict.of("unknown"):
        assert str(finding.fix).startswith(f"model.format is not known: {why}")


@both_packs
def test_int3_is_a_rule_that_nobody_publishes(name: str) -> None:
    """The page allows GPTQ Int3 although no family that it names has it on any day; the pack keeps the words."""
    assert "Int3" not in {spec.quantization for family in listed(name) for spec in families()[family].specs()}
    spec = Spec(family="llama-2", size="7", format="gptq", quantization="Int3", hub=None, id=None)
    assert pack(name).judge("vllm", rules.gather(spec, CUDA_MACHINE)).verdict == "yes"


@both_packs
def test_a_mix_is_not_four_bit(name: str) -> None:
    """Int4-Int8Mix has a 4 in its name, and neither engine takes it."""
    spec = Spec(family="llama-2", size="7", format="gptq", quantization="Int4-Int8Mix", hub=None, id=None)
    judged = {engine: pack(name).judge(engine, rules.gather(spec, CUDA_MACHINE)) for engine in ("vllm", "sglang")}
    assert {engine: [f.id for f in verdict.of("failed")] for engine, verdict in judged.items()} == {
        "vllm": ["gptq-quantization"],
        "sglang": ["four-bit"],
    }


# --- sources ---


@both_packs
def test_every_condition_has_a_source(name: str) -> None:
    """Each says where it was read, down to the place in the document; the date is a day."""
    for engine, judged in pack(name).engines.items():
        for condition in judged:
            source = condition.source
            assert source.kind in {"page", "code"}, (engine, condition.id)
            assert all((source.title, source.where, source.at)), (engine, condition.id)
            assert re.fullmatch(r"2024-0[78]-\d\d", source.date), (engine, condition.id)


@both_packs
def test_what_the_page_does_not_say_comes_from_the_code(name: str) -> None:
    """SGLang's conditions stand in no page; vLLM's all do."""
    assert {c.source.kind for c in pack(name).engines["sglang"]} == {"code"}
    assert {c.source.kind for c in pack(name).engines["vllm"]} == {"page"}
    assert {c.source.date for c in pack(name).engines["vllm"]} == {pack(name).date}


def test_the_build_flags_of_july() -> None:
    """The page of July builds llama.cpp with three flags; the pack keeps each with what became of it."""
    flags = pack("xinference-2024-07").build_flags["llama_cpp"]
    assert {variant: (flag.page, flag.today) for variant, flag in flags.items()} == {
        "native-metal": ("-DLLAMA_METAL=on", "-DGGML_METAL=on"),
        "native-cuda": ("-DLLAMA_CUBLAS=on", "-DGGML_CUDA=on"),
        "native-hip": ("-DLLAMA_HIPBLAS=on", "-DGGML_HIP=on"),
    }
    words = {"native-metal": "warning", "native-cuda": "fatal error", "native-hip": "CPU only"}
    assert all(words[variant] in flag.note for variant, flag in flags.items())
    assert pack("xinference-2024-08").build_flags == {}


@both_packs
def test_preference(name: str) -> None:
    """vLLM comes first, as the pages say; every engine has its place, and each pack its day."""
    assert pack(name).preference == ("vllm", "mlx", "sglang", "transformers", "llama_cpp")
    assert set(pack(name).engines) == set(ENGINES)
    assert (pack(name).name, pack(name).catalog) == (name, DAYS[name])


# --- the user's changes ---


def changed(*overrides: str) -> Pack:
    return packs.load(Composer().compose([*overrides])["rules"], "xinference-2024-08")


QUANTIZED: dict[str, Any] = {"family": "llama-2", "size": "7", "hub": None, "id": None}


@pytest.mark.parametrize(
    ("override", "spec", "before", "after"),
    [
        pytest.param(
            "rules.engines.vllm.awq-quantization.in=[Int4,Int8]",
            Spec(format="awq", quantization="Int8", **QUANTIZED), "no", "yes",
            id="a-value-is-changed",
        ),
        pytest.param(
            "~rules.engines.vllm.family",
            Spec(format="awq", quantization="Int4", **(QUANTIZED | {"family": "of-nobody"})), "no", "yes",
            id="a-rule-is-switched-off",
        ),
        pytest.param(
            "+rules.engines.vllm.mine={fact:model.size_b,le:6,source:backends}",
            Spec(format="awq", quantization="Int4", **QUANTIZED), "yes", "no",
            id="a-rule-is-added",
        ),
    ],
)  # fmt: skip
def test_rules_are_changed_from_the_command_line(override: str, spec: Spec, before: str, after: str) -> None:
    """A pack is configuration: what the user changes is what is judged by."""
    facts = rules.gather(spec, CUDA_MACHINE)
    assert changed().judge("vllm", facts).verdict == before
    assert changed(override).judge("vllm", facts).verdict == after


def test_a_changed_rule_is_checked_like_any_other() -> None:
    """A misspelt operator on the command line names pack and rule."""
    with pytest.raises(ConfigError, match=r"^xinference-2024-08: rule vllm\.linux: unknown key 'eqq'; .* mean 'eq'\?$"):
        changed("+rules.engines.vllm.linux.eqq=darwin")
