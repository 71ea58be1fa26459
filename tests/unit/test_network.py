"""What a network is stands in its own files; what does not stand there is not known."""

from __future__ import annotations

import re
from typing import Any

import pytest

from xinfer.config.compose import conf_dir, read
from xinfer.errors import ConfigError
from xinfer.sources import network
from xinfer.sources.gguf import Array
from xinfer.testing.model_files import CONFIG, LLAMA


def of_config(*, is_chat: bool = False, **changes: Any) -> network.Network:
    config = {key: value for key, value in {**CONFIG, **changes}.items() if value is not None}
    return network.of_config(config, {}, is_chat=is_chat)


def of_gguf(*, is_chat: bool = False, **changes: Any) -> network.Network:
    names = {key.replace("__", "."): value for key, value in changes.items()}
    metadata = {key: value for key, value in {**LLAMA, **names}.items() if value is not None}
    return network.of_gguf(metadata, is_chat=is_chat)


# A configuration


def test_a_configuration_tells_the_network() -> None:
    """Class, dimensions and context, and where that was read."""
    found = of_config()
    shape = found.shape
    assert (shape.architecture, shape.layers, shape.hidden, shape.heads) == ("LlamaForCausalLM", 2, 64, 4)
    assert (shape.kv_heads, shape.head_dim, shape.vocab, shape.intermediate) == (2, 16, 3, 128)
    assert (found.context_length, found.notes, shape.source) == (512, (), "its own config.json")


def test_older_names_mean_the_same() -> None:
    """GPT-2's, as it is published."""
    config = {
        "architectures": ["GPT2LMHeadModel"], "model_type": "gpt2", "n_embd": 768, "n_layer": 12, "n_head": 12,
        "n_positions": 1024, "vocab_size": 50257, "n_inner": None,
    }  # fmt: skip
    found = network.of_config(config, {}, is_chat=False)
    assert (found.shape.layers, found.shape.hidden, found.shape.heads) == (12, 768, 12)
    assert (found.shape.kv_heads, found.shape.head_dim, found.shape.intermediate) == (12, 64, None)
    assert (found.context_length, found.abilities) == (1024, ("generate",))


@pytest.mark.parametrize(
    ("changes", "kv_heads"),
    [
        pytest.param({"num_key_value_heads": None}, 4, id="each-head-its-own-where-the-class-says-so"),
        pytest.param({"num_key_value_heads": None, "model_type": "mistral"}, None, id="unknown-where-it-says-8"),
        pytest.param({"num_key_value_heads": None, "multi_query": True}, 1, id="one-for-all"),
        pytest.param(
            {"num_key_value_heads": None, "multi_query": True, "new_decoder_architecture": True, "num_kv_heads": 8},
            8,
            id="falcon-40b",
        ),
        pytest.param({"num_key_value_heads": None, "multi_query_group_num": 2}, 2, id="chatglm"),
    ],
)
def test_key_value_heads_are_what_the_configuration_means(changes: dict[str, Any], kv_heads: int | None) -> None:
    """Which is a matter of the class where the file is silent."""
    assert of_config(**changes).shape.kv_heads == kv_heads


@pytest.mark.parametrize(
    ("changes", "head_dim"),
    [
        pytest.param({"head_dim": 128}, 128, id="its-own-word"),
        pytest.param({"kv_channels": 32}, 32, id="chatglm's-word"),
        pytest.param({"hidden_size": 65}, None, id="no-whole-number"),
        pytest.param({"num_attention_heads": None}, None, id="no-heads"),
        pytest.param({"kv_lora_rank": 512, "head_dim": 64}, None, id="latent-attention"),
    ],
)
def test_a_heads_size_is_known_or_null(changes: dict[str, Any], head_dim: int | None) -> None:
    """Of latent attention it would tell a cache many times too large."""
    assert of_config(**changes).shape.head_dim == head_dim


def test_what_is_not_known_is_explained() -> None:
    """In words for people."""
    notes = of_config(architectures=None, kv_lora_rank=512).notes
    assert notes[0] == "config.json names no class in architectures"
    assert "latent attention" in notes[1]


@pytest.mark.parametrize(
    ("changes", "context"),
    [
        pytest.param({"rope_scaling": {"type": "linear", "factor": 4.0}}, 2048, id="linear"),
        pytest.param({"rope_scaling": {"rope_type": "dynamic", "factor": 2}}, 1024, id="dynamic"),
        pytest.param({"rope_parameters": {"rope_type": "linear", "factor": 2}}, 1024, id="transformers-5"),
        pytest.param({"rope_scaling": {"rope_type": "yarn", "factor": 4.0}}, 512, id="yarn-says-it-whole"),
        pytest.param({"rope_scaling": {"rope_type": "llama3", "factor": 8.0}}, 512, id="llama-3-says-it-whole"),
        pytest.param(
            {"rope_scaling": {"rope_type": "linear", "factor": 8.0}, "model_type": "gemma3_text"}, 512, id="gemma-3-too"
        ),
        pytest.param({"rope_scaling": {"type": "linear", "factor": "4"}}, 512, id="a-factor-that-is-no-number"),
        pytest.param({"rope_scaling": {"type": "linear", "factor": 0.5}}, 512, id="a-factor-that-shortens"),
        pytest.param({"rope_scaling": [1]}, 512, id="no-mapping"),
        pytest.param({"max_position_embeddings": None}, None, id="not-said"),
        pytest.param({"max_position_embeddings": None, "model_max_length": 4096}, 4096, id="baichuan's-word"),
    ],
)
def test_a_context_is_what_the_network_was_made_for(changes: dict[str, Any], context: int | None) -> None:
    """RoPE scaling included, once."""
    assert of_config(**changes).context_length == context


@pytest.mark.parametrize(
    ("changes", "window"),
    [
        pytest.param({"sliding_window": 4096}, 4096, id="a-window"),
        pytest.param({"sliding_window": 4096, "use_sliding_window": False}, None, id="one-that-is-not-used"),
        pytest.param({"sliding_window": None}, None, id="none"),
    ],
)
def test_a_window_is_one_that_is_used(changes: dict[str, Any], window: int | None) -> None:
    """Qwen2 writes one down and switches it off."""
    assert of_config(**changes).shape.sliding_window == window


@pytest.mark.parametrize(
    ("configured", "generation", "tokens"),
    [
        pytest.param(2, {}, (2,), id="one"),
        pytest.param([128001, 128009], {}, (128001, 128009), id="several"),
        pytest.param(2, {"eos_token_id": [1, 2]}, (1, 2), id="those-of-both-files"),
        pytest.param(0, {}, (0,), id="the-first-token"),
        pytest.param(None, {}, (), id="none"),
        pytest.param([True, -1, "x", None, 3], {"eos_token_id": {}}, (3,), id="what-is-no-token"),
    ],
)
def test_the_tokens_that_end_an_output_are_known(
    configured: Any, generation: dict[str, Any], tokens: tuple[int, ...]
) -> None:
    """An engine that cannot ignore them has to be told."""
    config = {**CONFIG, "eos_token_id": configured}
    assert network.of_config(config, generation, is_chat=True).shape.end_tokens == tokens


def test_gguf_tokens_that_end_an_output_are_known() -> None:
    """That of a text, of a turn and of a message."""
    assert of_gguf().shape.end_tokens == ()
    found = of_gguf(tokenizer__ggml__eos_token_id=2, tokenizer__ggml__eot_token_id=7).shape
    assert found.end_tokens == (2, 7)


def test_experts_are_counted() -> None:
    """By whichever name."""
    mixtral = of_config(num_local_experts=8, num_experts_per_tok=2).shape
    qwen = of_config(num_experts=60, num_experts_per_tok=4).shape
    assert (mixtral.experts, mixtral.experts_per_token) == (8, 2)
    assert (qwen.experts, qwen.experts_per_token) == (60, 4)


def test_a_model_that_also_sees_is_described_by_its_language_part() -> None:
    """Its class is that of the whole."""
    config = {
        "architectures": ["LlavaForConditionalGeneration"], "vision_config": {"hidden_size": 1},
        "text_config": {**CONFIG, "architectures": ["LlamaForCausalLM"]},
    }  # fmt: skip
    found = network.of_config(config, {}, is_chat=False)
    assert (found.shape.architecture, found.shape.hidden) == ("LlavaForConditionalGeneration", 64)
    assert (found.context_length, found.abilities) == (512, ("generate",))


@pytest.mark.parametrize("nonsense", ["12", 0, 1.5, True, [2], {}], ids=lambda value: type(value).__name__ + str(value))
def test_a_number_that_is_none_is_not_known(nonsense: Any) -> None:
    """A configuration may hold anything."""
    found = of_config(num_hidden_layers=nonsense, max_position_embeddings=nonsense, architectures=nonsense)
    assert (found.shape.layers, found.context_length, found.shape.architecture) == (None, None, None)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        pytest.param({"num_hidden_layers": -1}, "num_hidden_layers=-1 is not a number from 0 to 65536", id="layers"),
        pytest.param({"num_hidden_layers": 10**6}, "num_hidden_layers=1000000 is", id="layers-without-end"),
        pytest.param({"num_attention_heads": 2**50}, "num_attention_heads=1125899906842624 is", id="heads"),
        pytest.param({"num_key_value_heads": -8}, "num_key_value_heads=-8 is", id="key-value-heads"),
        pytest.param(
            {"hidden_size": 10**12}, "hidden_size=1000000000000 is not a number from 0 to 1000000000", id="width"
        ),
        pytest.param({"head_dim": -64}, "head_dim=-64 is", id="a-head"),
        pytest.param({"vocab_size": -3}, "vocab_size=-3 is", id="vocabulary"),
        pytest.param({"max_position_embeddings": 10**12}, "max_position_embeddings=1000000000000 is", id="context"),
        pytest.param({"sliding_window": -2}, "sliding_window=-2 is", id="a-window"),
        pytest.param(
            {"rope_scaling": {"type": "linear", "factor": 1e8}}, "rope_scaling.factor x the context=5", id="stretched"
        ),
    ],
)
def test_a_number_that_no_network_has_is_refused(changes: dict[str, Any], said: str) -> None:
    """By its field and its value: it would be planned with."""
    with pytest.raises(ConfigError, match=f"^{re.escape(said)}"):
        of_config(**changes)


def test_minus_one_stands_for_a_window_or_a_context_without_end() -> None:
    """Then there is none to be told."""
    found = of_config(sliding_window=-1, max_position_embeddings=-1)
    assert (found.shape.sliding_window, found.context_length) == (None, None)


@pytest.mark.parametrize(
    ("architecture", "is_chat", "abilities"),
    [
        pytest.param("LlamaForCausalLM", True, ("chat",), id="a-template"),
        pytest.param("LlamaForCausalLM", False, ("generate",), id="no-template"),
        pytest.param("BertModel", False, (), id="no-generator"),
    ],
)
def test_abilities_are_told_by_class_and_template(architecture: str, abilities: tuple[str], *, is_chat: bool) -> None:
    """Without either nothing is claimed."""
    assert of_config(is_chat=is_chat, architectures=[architecture]).abilities == abilities


# A GGUF file


def test_gguf_metadata_tell_the_network() -> None:
    """The same network as its configuration would."""
    found, configured = of_gguf().shape, of_config().shape
    assert found.source == "the GGUF file's own header"
    assert (found.architecture, found.layers, found.hidden) == ("LlamaForCausalLM", 2, 64)
    assert (found.heads, found.kv_heads, found.head_dim, found.intermediate) == (4, 2, 16, 128)
    assert found.kv_bytes_per_token == configured.kv_bytes_per_token
    assert of_gguf().context_length == 512


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        pytest.param({"llama__attention__head_count_kv": None}, {"kv_heads": 4}, id="each-head-its-own"),
        pytest.param(
            {"llama__attention__head_count_kv": Array(2, (2, 2))}, {"kv_heads": 2}, id="the-same-in-each-layer"
        ),
        pytest.param({"llama__attention__head_count_kv": Array(2, (2, 1))}, {"kv_heads": None}, id="not-the-same"),
        pytest.param(
            {"llama__attention__head_count_kv": Array(2, (2, 0))},
            {"kv_heads": 2, "caching_layers": 1},
            id="a-layer-without-attention",
        ),
        pytest.param({"llama__attention__head_count_kv": Array(9999)}, {"kv_heads": None}, id="too-many-to-know"),
        pytest.param({"llama__attention__key_length": 32}, {"head_dim": 32}, id="its-own-length-of-a-key"),
        pytest.param({"llama__attention__kv_lora_rank": 512}, {"head_dim": None}, id="latent-attention"),
        pytest.param({"llama__embedding_length": None}, {"head_dim": None, "hidden": None}, id="no-width"),
        pytest.param({"llama__vocab_size": 5}, {"vocab": 5}, id="its-own-size-of-the-vocabulary"),
        pytest.param({"tokenizer__ggml__tokens": Array(7)}, {"vocab": 7}, id="as-many-as-there-are-tokens"),
        pytest.param({"tokenizer__ggml__tokens": None}, {"vocab": None}, id="no-tokens"),
        pytest.param(
            {"llama__expert_count": 8, "llama__expert_used_count": 2},
            {"experts": 8, "experts_per_token": 2, "architecture": "MixtralForCausalLM"},
            id="a-llama-with-experts",
        ),
        pytest.param({"llama__attention__sliding_window": 64}, {"sliding_window": 64}, id="a-window"),
    ],
)
def test_what_is_optional_means_what_it_means_to_llama_cpp(changes: dict[str, Any], expected: dict[str, Any]) -> None:
    """As its own loader fills it in."""
    shape = of_gguf(**changes).shape
    assert {key: getattr(shape, key) for key in expected} == expected


def test_a_header_with_a_number_that_no_network_has_is_refused() -> None:
    """By the end of its key."""
    with pytest.raises(ConfigError, match=r"^block_count=4294967295 is not a number from 0 to 65536$"):
        of_gguf(llama__block_count=2**32 - 1)


@pytest.mark.parametrize("name", ["deepseek2", "never-heard-of", 7, None])
def test_an_ambiguous_architecture_has_no_class(name: Any) -> None:
    """It is never guessed, and a note says so."""
    found = of_gguf(general__architecture=name)
    assert found.shape.architecture is None
    assert found.notes == (f"no class is known for the GGUF architecture {name!r}",)
    assert found.abilities == ()


def test_the_classes_are_those_of_transformers_or_of_a_models_own_code() -> None:
    """One for each architecture, spelled as configurations spell it."""
    table = read(conf_dir() / "architectures.yaml")
    assert all(name.endswith(("ForCausalLM", "LMHeadModel")) for name in table["gguf"].values())
    assert len(set(table["in_tree"])) == len(table["in_tree"])
    assert set(table["own_keys"]) <= set(table["in_tree"])


# Code that comes with a model


@pytest.mark.parametrize(
    ("config", "tokenizer", "code"),
    [
        pytest.param({"model_type": "llama"}, {}, None, id="none"),
        pytest.param({"model_type": "phi3", "auto_map": {"AutoModel": "m.M"}}, {}, None, id="none-that-is-needed"),
        pytest.param({"model_type": "glmx", "auto_map": {"AutoModel": "m.M"}}, {}, "m.M", id="a-network"),
        pytest.param({"auto_map": {"AutoConfig": "c.C"}}, {}, "c.C", id="of-no-type"),
        pytest.param({"model_type": "q"}, {"auto_map": {"AutoTokenizer": [None, "t.T"]}}, "t.T", id="a-tokenizer"),
        pytest.param({"model_type": "q"}, {"auto_map": ["t.T", None]}, "t.T", id="an-older-tokenizer"),
        pytest.param({"model_type": "q", "auto_map": {}}, {}, None, id="an-empty-map"),
        pytest.param({"model_type": "q", "auto_map": 7}, {}, None, id="a-map-that-is-none"),
        pytest.param({"model_type": "q"}, {}, None, id="a-type-that-came-later"),
        pytest.param({"auto_map": {"A": [{"b": [["m.M"]]}, "n.N"]}}, {}, "m.M", id="however-deep"),
        pytest.param({"model_type": "llama", "model_file": "model.py"}, {}, "model.py", id="mlx-lm-imports-it"),
        pytest.param({"model_type": "llama", "model_file": None}, {}, None, id="mlx-lm-imports-nothing"),
    ],
)
def test_code_is_found_where_an_engine_would_execute_it(
    config: dict[str, Any], tokenizer: dict[str, Any], code: str | None
) -> None:
    """What Transformers has itself is loaded without it."""
    assert network.remote_code(config, tokenizer) == code
