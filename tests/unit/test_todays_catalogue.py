"""The catalogue of 2026-10 has what people ask for, and its figures fit each other."""

from __future__ import annotations

from functools import cache

import pytest

from xinfer import catalog, engines
from xinfer.catalog import Family, Shape, Spec
from xinfer.config.compose import Composer, conf_dir, read
from xinfer.judging.disagreement import TODAY

DAY = "2026-10"
ASKED_FOR = [
    "qwen2.5-instruct", "qwen2.5-coder-instruct", "QwQ-32B", "qwen3", "Qwen3-Instruct", "Qwen3-Thinking", "Qwen3-Coder",
    "Qwen3-Next-Instruct", "qwen3.5", "llama-3.2-instruct", "llama-3.3-instruct", "llama-4-instruct", "gemma-3-it",
    "gemma-4", "deepseek-v3", "Deepseek-V3.1", "DeepSeek-V3.2", "deepseek-r1", "deepseek-r1-distill-qwen", "gpt-oss",
    "mistral-small-3.1-instruct", "mistral-small-3.2-instruct", "ministral-8b-instruct-2410", "devstral-small-2505",
    "magistral-small-2506", "glm4-0414", "glm-4.5", "GLM-4.6", "glm-5", "kimi-k2-instruct", "MiniMax-M2", "phi-4",
    "phi-4-mini-instruct", "smollm2-instruct", "smollm3", "granite-3.3-instruct", "granite-4.0-h", "olmo-2-instruct",
    "olmo-3-instruct", "command-r7b-12-2024", "command-a-03-2025", "internlm3-instruct", "Ernie4.5", "seed-oss",
    "hunyuan-a13b-instruct", "exaone-4.0",
]  # fmt: skip


@cache
def families() -> dict[str, Family]:
    return catalog.load(conf_dir() / "model")


def today() -> list[tuple[str, str, Shape]]:
    """Give every network of which the day's catalogue lists an artefact."""
    found = ((f, {spec.size for spec in f.specs(DAY)}) for f in families().values())
    return [(f.family, size, shape) for f, sizes in found for size, shape in f.shapes.items() if size in sizes]


def artefacts() -> list[Spec]:
    return [spec for family in families().values() for spec in family.specs(DAY)]


@pytest.mark.parametrize("name", ASKED_FOR)
def test_what_people_ask_for_is_there(name: str) -> None:
    """With a size, an ability, a context and the class of each network."""
    family = families()[name]
    assert family.specs(DAY)
    assert family.abilities
    assert family.context_length
    assert all(shape.architecture for shape in family.shapes.values())


def test_every_artefact_can_be_addressed() -> None:
    """It has a hub and an id of owner and name, and a GGUF has a file that differs with its quantization."""
    strange = [spec for spec in artefacts() if spec.hub != "pypi" and (spec.id or "").count("/") != 1]
    assert strange == []
    nameless = [spec for spec in artefacts() if spec.format == "ggufv2" and not (spec.file or "").endswith(".gguf")]
    assert nameless == []


def test_no_two_artefacts_of_a_family_have_one_address() -> None:
    """Two quantizations with one id and one file would be the same weights."""
    seen: dict[tuple[str | None, ...], Spec] = {}
    for spec in (spec for spec in artefacts() if not spec.derived):
        filled = [part and part.replace("{quantization}", spec.quantization or "") for part in (spec.id, spec.file)]
        other = seen.setdefault((spec.family, spec.hub, spec.revision, *filled), spec)
        assert (other.size, other.quantization) == (spec.size, spec.quantization), filled


def test_a_network_is_possible() -> None:
    """Heads divide among keys and values, windows are in some layers, experts are chosen from those there are."""
    for name, size, shape in today():
        where = f"{name} {size}"
        if shape.heads and shape.kv_heads:
            assert shape.heads % shape.kv_heads == 0, where
        if shape.heads and shape.head_dim and shape.hidden:
            assert shape.hidden / 4 <= shape.heads * shape.head_dim <= shape.hidden * 4, where
        layers = shape.layers or 0
        assert (shape.sliding_layers or 0) <= layers, where
        assert (shape.caching_layers or 0) <= layers, where
        assert (shape.experts_per_token or 0) <= (shape.experts or 0), where
        assert (shape.kv_lora_rank is None) == (shape.rope_head_dim is None), where
        assert shape.sliding_layers is None or shape.sliding_window, where


def test_a_count_is_near_the_published_size() -> None:
    """What is counted is not far from the name, which rounds, and a token needs fewer weights than there are."""
    for name, size, shape in today():
        published = float(size.replace("_", "."))
        counted = published if shape.total_b is None else shape.total_b
        assert abs(counted - published) <= max(0.3 * published, 0.7), (name, size, shape.total_b)
        assert shape.active_b is None or shape.active_b < 0.8 * (shape.total_b or published), (name, size)
        assert shape.active_b is None or shape.experts or shape.layers is None, (name, size)


def test_most_networks_are_known() -> None:
    """Of nine in ten, what the cache of a token takes can be told, or why it cannot: no figure was found."""
    every = today()
    assert len([shape for *_, shape in every if shape.layers]) >= 0.9 * len(every)
    assert len([shape for *_, shape in every if shape.kv_bytes_per_token]) >= 0.9 * len(every)


def test_a_split_file_names_the_others() -> None:
    """The parts of a large GGUF come with the first."""
    (spec,) = catalog.select(
        families()["Qwen3-Coder"], day=DAY, size="30", format="gguf", quantization="bf16", hub="huggingface"
    )
    assert spec.file == "{quantization}/Qwen3-Coder-30B-A3B-Instruct-{quantization}-00001-of-00002.gguf"
    assert spec.parts == ("BF16/Qwen3-Coder-30B-A3B-Instruct-BF16-00002-of-00002.gguf",)
    split = [spec for spec in artefacts() if "-00001-of-" in (spec.file or "")]
    assert all(len(spec.parts) + 1 == int((spec.file or "").partition("-00001-of-")[2][:5]) for spec in split)


def test_every_architecture_is_one_that_a_rule_knows() -> None:
    """All but a few classes are named in today's pack or in the table of names; the others are judged unknown."""
    table, pack = read(conf_dir() / "architectures.yaml"), str(Composer(engines.conf_directories()).rules(TODAY))
    classes = {shape.architecture for *_, shape in today() if shape.architecture}
    unknown = {name for name in classes if name not in pack and name not in table["gguf"].values()}
    assert len(unknown) <= len(classes) / 2
    assert all(name.endswith(("ForCausalLM", "ForConditionalGeneration", "LMHeadModel", "Model")) for name in unknown)
