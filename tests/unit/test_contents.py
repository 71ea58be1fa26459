"""A folder or repository is what its files say: which artefacts, with which facts, and why not."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest

from xinfer.errors import ConfigError
from xinfer.sources import contents, files
from xinfer.sources.contents import Allowed
from xinfer.sources.files import Weights
from xinfer.testing.model_files import LLAMA, LLAMA_TENSORS, folder, gguf, safetensors

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from xinfer.catalog import Spec

NOTHING, ALL = Allowed(), Allowed(remote_code=True, pickle=True)
CODE: dict[str, Any] = {"model_type": "glmx", "auto_map": {"AutoModel": "modeling_glmx.Glmx"}}


def found(path: Path, allowed: Allowed = NOTHING, name: str | None = None) -> tuple[Spec, ...]:
    return contents.artefacts(files.folder(path), name, allowed)


def only(path: Path, allowed: Allowed = NOTHING) -> Spec:
    (spec,) = found(path, allowed)
    return spec


def refused(path: Path, allowed: Allowed = NOTHING) -> str:
    with pytest.raises(ConfigError) as caught:
        found(path, allowed)
    return str(caught.value)


def ggufs(path: Path, names: Mapping[str, bytes]) -> Path:
    path.mkdir(exist_ok=True)
    for name, data in names.items():
        (path / name).write_bytes(data)
    return path


def shards(count: int) -> dict[str, bytes]:
    names = [f"model-{number:05}-of-{count:05}.safetensors" for number in range(1, count + 1)]
    return {name: safetensors({f"layer.{n}.weight": ("BF16", (8,))}) for n, name in enumerate(names)}


def index(weights: Mapping[str, Any]) -> dict[str, Any]:
    return {"metadata": {}, "weight_map": {f"layer.{n}.weight": name for n, name in enumerate(weights)}}


# Hugging Face's layout


def test_a_folder_is_one_artefact_with_every_fact(tmp_path: Path) -> None:
    """Counted, not guessed."""
    path = folder(tmp_path / "My Model")
    spec = only(path)
    assert (spec.family, spec.size, spec.format, spec.quantization) == ("My-Model", "0_000000256", "pytorch", "none")
    assert (spec.hub, spec.id, spec.file, spec.revision) == ("local", str(path), None, None)
    assert spec.bytes == (path / "model.safetensors").stat().st_size
    assert (spec.context_length, spec.abilities, spec.note) == (512, ("chat",), None)
    assert (spec.remote_code, spec.pickled) == (False, False)
    assert spec.shape.architecture == "LlamaForCausalLM"
    assert (spec.fingerprint or "").startswith("sampled-sha256:")


def test_the_end_of_an_output_is_what_the_generation_configuration_says(tmp_path: Path) -> None:
    """Beside the configuration."""
    spec = only(folder(tmp_path, {"generation_config.json": {"eos_token_id": [5]}}, eos_token_id=2))
    assert spec.shape.end_tokens == (2, 5)


def test_a_name_that_was_given_is_the_name(tmp_path: Path) -> None:
    """As a repository's is."""
    assert found(folder(tmp_path), name="mine")[0].family == "mine"


@pytest.mark.parametrize(
    ("extra", "abilities"),
    [
        pytest.param({"chat_template.jinja": b"{{ messages }}"}, ("chat",), id="a-file-of-its-own"),
        pytest.param({}, ("generate",), id="no-template"),
    ],
)
def test_a_chat_template_may_be_anywhere(tmp_path: Path, extra: dict[str, bytes], abilities: tuple[str]) -> None:
    """It has moved between files over the years."""
    assert only(folder(tmp_path, {"tokenizer_config.json": {}, **extra})).abilities == abilities


def test_shards_are_one_artefact(tmp_path: Path) -> None:
    """With the sum of their sizes and weights; what the index does not name is no part of it."""
    parts = shards(3)
    path = folder(tmp_path, {**parts, "model.safetensors.index.json": index(parts), "other.safetensors": b""})
    (path / "model.safetensors").unlink()
    spec = only(path)
    assert (spec.bytes, spec.size) == (sum(map(len, parts.values())), "0_000000024")


def test_shards_without_an_index_are_counted_by_their_names(tmp_path: Path) -> None:
    """Whatever lies beside them for other purposes is left out."""
    path = folder(tmp_path, {**shards(2), "consolidated.safetensors": b"", "adapter_model.safetensors": b""})
    (path / "model.safetensors").unlink()
    assert only(path).size == "0_000000016"
    (path / "model-00002-of-00002.safetensors").unlink()
    assert "there is no model-00002-of-00002.safetensors" in refused(path)


def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    """As after a download that was broken off."""
    parts = shards(3)
    path = folder(tmp_path, {**parts, "model.safetensors.index.json": index(parts)})
    (path / "model.safetensors").unlink()
    (path / "model-00002-of-00003.safetensors").unlink()
    assert refused(path) == (
        f"{path}: is not whole: there is no model-00002-of-00003.safetensors; download the missing files"
    )


@pytest.mark.parametrize(
    "said",
    [
        pytest.param({}, id="no-map"),
        pytest.param({"weight_map": [1]}, id="a-list"),
        pytest.param({"weight_map": {"a": 1}}, id="no-names"),
        pytest.param({"weight_map": {"a": "../../etc/passwd"}}, id="a-way-out"),
        pytest.param({"weight_map": {"a": "..\\x"}}, id="a-way-out-on-windows"),
    ],
)
def test_an_index_names_the_folders_own_files(tmp_path: Path, said: dict[str, Any]) -> None:
    """And nothing else is read because of it."""
    path = folder(tmp_path, {"model.safetensors.index.json": said})
    (path / "model.safetensors").unlink()
    assert "does not name the files of this folder" in refused(path)


def test_an_index_that_lies_is_refused(tmp_path: Path) -> None:
    """It says which tensor is where, and the files' own headers say otherwise."""
    parts = shards(2)
    said = index(parts)
    said["weight_map"]["layer.9.weight"] = "model-00002-of-00002.safetensors"
    path = folder(tmp_path, {**parts, "model.safetensors.index.json": said})
    (path / "model.safetensors").unlink()
    assert refused(path) == (
        f"{path}: model.safetensors.index.json says that 'layer.9.weight' is in model-00002-of-00002.safetensors, "
        "which does not have it; download both again"
    )


def test_a_configuration_with_an_absurd_number_is_refused(tmp_path: Path) -> None:
    """With the file, the field and the value."""
    path = folder(tmp_path, num_hidden_layers=-1)
    assert refused(path) == f"{path}: config.json: num_hidden_layers=-1 is not a number from 0 to 65536"
    lone = ggufs(tmp_path / "g", {"m.gguf": gguf({**LLAMA, "llama.block_count": 10**6})})
    assert refused(lone) == f"{lone}: m.gguf: block_count=1000000 is not a number from 0 to 65536"


def test_more_files_than_any_model_has_are_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each has a header."""
    monkeypatch.setattr(contents, "_MOST_WEIGHTS", 2)
    path = folder(tmp_path, shards(3))
    (path / "model.safetensors").unlink()
    assert "has 3 files of weights; no model has more than 2" in refused(path)
    many = ggufs(tmp_path / "g", {f"{name}.gguf": gguf() for name in "abc"})
    assert "has 3 GGUF files, more than 2; name one of them" in refused(many)


def test_weights_that_are_not_whole_are_refused(tmp_path: Path) -> None:
    """Naming the file."""
    path = folder(tmp_path)
    os.truncate(path / "model.safetensors", 300)
    assert refused(path).startswith(f"{path}: model.safetensors: is damaged or not whole")


@pytest.mark.parametrize(
    ("absent", "said"),
    [
        pytest.param("config.json", "has model.safetensors, but no config.json", id="no-configuration"),
        pytest.param("tokenizer.json", "has no tokenizer, such as tokenizer.json", id="no-tokenizer"),
        pytest.param("model.safetensors", "has no weights that an engine here could load", id="no-weights"),
    ],
)
def test_a_folder_with_a_part_missing_is_refused(tmp_path: Path, absent: str, said: str) -> None:
    """Every engine would fail with it later, in more words."""
    path = folder(tmp_path)
    (path / absent).unlink()
    assert said in refused(path)


def test_a_tokenizer_may_have_many_names(tmp_path: Path) -> None:
    """Also one that only its own code knows."""
    path = folder(tmp_path, {"tokenizer.model": b""})
    (path / "tokenizer.json").unlink()
    assert only(path).format == "pytorch"
    (path / "tokenizer.model").rename(path / "ice_text.model")
    assert "has no tokenizer" in refused(path)
    folder(path, **CODE)
    (path / "tokenizer.json").unlink()
    assert only(path, ALL).remote_code


def test_more_tensors_than_any_model_has_are_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each shard may be small, and there may be any number of them."""
    monkeypatch.setattr(contents, "_MOST_TENSORS", 2)
    path = folder(tmp_path, shards(3))
    (path / "model.safetensors").unlink()
    assert "has more than 2 tensors; that is no model" in refused(path)


def test_a_quantized_folder_says_so(tmp_path: Path) -> None:
    """And is counted unpacked."""
    weights = safetensors({"a.qweight": ("I32", (1, 4)), "a.scales": ("F16", (1, 4))})
    said = {"quant_method": "gptq", "bits": 4}
    spec = only(folder(tmp_path / "a", {"model.safetensors": weights}, quantization_config=said))
    assert (spec.format, spec.quantization, spec.size) == ("gptq", "Int4", "0_000000032")
    spec = only(folder(tmp_path / "b", {"model.safetensors": weights, "quantize_config.json": {"bits": 4}}))
    assert (spec.format, spec.quantization, spec.size) == ("gptq", "Int4", "0_000000032")
    spec = only(folder(tmp_path / "c", quantization_config={"quant_method": "quark"}))
    assert (spec.format, spec.quantization, spec.size) == ("quark", None, None)
    assert spec.note == "what quark makes of the weights is not known here"


# What would be executed


def test_pickled_weights_are_refused_unless_they_are_allowed(tmp_path: Path) -> None:
    """They are never opened, so that their weights are not counted."""
    path = folder(tmp_path, {"pytorch_model.bin": b"PK12", "training_args.bin": b"1", "other.pt": b"2"})
    (path / "model.safetensors").unlink()
    assert refused(path, Allowed(remote_code=True)) == (
        f"{path}: has only pickled weights, as pytorch_model.bin, which execute what is in them; "
        "convert them to safetensors, or trust them with model.allow_pickle=true"
    )
    spec = only(path, Allowed(pickle=True))
    assert (spec.pickled, spec.bytes, spec.size, spec.format) == (True, 4, None, "pytorch")
    assert spec.note == "pickled weights are not opened to count them"


@pytest.mark.parametrize("name", ["weights.pt", "consolidated.00.pth", "model.ckpt"])
def test_pickles_of_other_names_are_pickles(tmp_path: Path, name: str) -> None:
    """Except where they hold something else than the weights."""
    path = folder(tmp_path, {name: b"x", "optimizer.pt": b"y"})
    (path / "model.safetensors").unlink()
    if name.startswith("consolidated"):
        assert "no GGUF, no safetensors" in refused(path, ALL)
    else:
        assert only(path, ALL).bytes == 1


def test_pickled_shards_must_all_be_there(tmp_path: Path) -> None:
    """As their index says."""
    said = {"weight_map": {"a": "pytorch_model-00001-of-00002.bin", "b": "pytorch_model-00002-of-00002.bin"}}
    path = folder(tmp_path, {"pytorch_model.bin.index.json": said, "pytorch_model-00001-of-00002.bin": b"x"})
    (path / "model.safetensors").unlink()
    assert "there is no pytorch_model-00002-of-00002.bin" in refused(path, ALL)


def test_safetensors_beside_pickles_are_taken(tmp_path: Path) -> None:
    """As engines take them."""
    spec = only(folder(tmp_path, {"pytorch_model.bin": b"x"}))
    assert (spec.pickled, spec.size) == (False, "0_000000256")


def test_remote_code_is_refused_unless_it_is_allowed(tmp_path: Path) -> None:
    """The fact travels with the artefact, so that an engine gets its flag."""
    path = folder(tmp_path, **CODE)
    assert refused(path, Allowed(pickle=True)) == (
        f"{path}: is loaded by executing the Python that it names, modeling_glmx.Glmx; "
        "read it, and trust it with model.allow_remote_code=true"
    )
    assert only(path, Allowed(remote_code=True)).remote_code
    assert not only(folder(tmp_path / "plain"), ALL).remote_code


# GGUF


def test_a_gguf_is_an_artefact_with_every_fact(tmp_path: Path) -> None:
    """Engines get the file's path."""
    path = ggufs(tmp_path, {"tiny-q8_0.gguf": gguf()})
    spec = only(path)
    assert (spec.family, spec.size, spec.format, spec.quantization) == ("Tiny-Llama", "0_000000256", "ggufv2", "Q8_0")
    assert (spec.hub, spec.id, spec.file, spec.parts) == ("local", str(path / "tiny-q8_0.gguf"), None, ())
    assert (spec.bytes, spec.context_length, spec.abilities) == (len(gguf()), 512, ("chat",))
    assert spec.shape.kv_bytes_per_token == 2 * 2 * 2 * 16 * 2


def test_a_gguf_without_a_name_is_called_like_its_file(tmp_path: Path) -> None:
    """Nor does one without a template chat, and one without a type say its quantization."""
    bare = {key: LLAMA[key] for key in LLAMA if key.startswith(("llama.", "general.arch"))}
    tensors = {**LLAMA_TENSORS, "other.weight": ((64, 3), "F16")}
    spec = only(ggufs(tmp_path, {"My Model.gguf": gguf(bare, tensors)}))
    assert (spec.family, spec.quantization, spec.abilities) == ("My-Model", None, ("generate",))
    assert spec.note == "neither its header nor its name says one quantization"
    spec = only(ggufs(tmp_path / "named", {"m-q4_k_m.gguf": gguf(bare, tensors)}))
    assert (spec.quantization, spec.note) == ("Q4_K_M", None)


def test_each_gguf_is_a_candidate(tmp_path: Path) -> None:
    """What belongs to a model is none."""
    others = {"mmproj.gguf": b"", "lora.gguf": gguf({**LLAMA, "general.type": "adapter"})}
    small = gguf({**LLAMA, "general.file_type": 2}, {"a": ((64, 4), "Q4_0")})
    specs = found(ggufs(tmp_path, {"a.gguf": gguf(), "b.gguf": small, **others}))
    assert [spec.quantization for spec in specs] == ["Q8_0", "Q4_0"]


def test_a_split_gguf_is_one_artefact(tmp_path: Path) -> None:
    """By its first piece, with the sizes of all, all of which must be there and whole."""
    names = [f"m-0000{number}-of-00003.gguf" for number in (1, 2, 3)]
    rest = gguf({"split.no": 1}, {"b": ((32, 2), "Q8_0")})
    path = ggufs(tmp_path, {names[0]: gguf(), names[1]: rest, names[2]: rest})
    spec = only(path)
    assert (spec.id, spec.parts, spec.size) == (str(path / names[0]), (), "0_000000384")
    assert spec.bytes == len(gguf()) + 2 * len(rest)
    os.truncate(path / names[2], len(rest) - 64)
    assert refused(path).startswith(f"{path / names[2]}: is damaged or not whole")
    (path / names[1]).unlink()
    assert f"there is no {names[1]}" in refused(path)


def test_a_vocabulary_is_no_model(tmp_path: Path) -> None:
    """llama.cpp's own tests have such files."""
    assert "v.gguf holds a vocabulary and no weights" in refused(ggufs(tmp_path, {"v.gguf": gguf(tensors={})}))


def test_a_folder_may_hold_both(tmp_path: Path) -> None:
    """Where the one needs an allowance, the other does not."""
    path = ggufs(folder(tmp_path), {"m.gguf": gguf()})
    assert [spec.format for spec in found(path)] == ["pytorch", "ggufv2"]
    folder(path, **CODE)
    assert [spec.format for spec in found(path)] == ["ggufv2"]
    assert [spec.format for spec in found(path, ALL)] == ["pytorch", "ggufv2"]


@pytest.mark.parametrize(
    ("names", "said"),
    [
        pytest.param([], "it is empty", id="nothing"),
        pytest.param(["a.txt", "b.h5"], "no GGUF, no safetensors; only a.txt, b.h5", id="something-else"),
        pytest.param(["adapter_config.json", "adapter_model.safetensors"], "it is an adapter", id="an-adapter"),
    ],
)
def test_where_no_model_is_it_says_what_is(tmp_path: Path, names: list[str], said: str) -> None:
    """So that a wrong path is seen."""
    assert said in refused(ggufs(tmp_path, dict.fromkeys(names, b"1")))


# From afar


class Far(files.Folder):
    """A folder that behaves like a repository on a hub."""

    is_near = False

    def __init__(self, path: Path, parameters: int | None) -> None:
        super().__init__(path, files.folder(path).sizes, hub="huggingface", name="o/m", revision="c0")
        self.parameters = parameters
        self.asked: list[str] = []

    def read(self, name: str, start: int, length: int) -> bytes:
        self.asked.append(name)
        return super().read(name, start, length)

    def gguf(self, name: str) -> Weights:
        self.asked.append(name)
        return Weights({"general.architecture": "llama"}, self.parameters, None)


def test_from_afar_what_is_counted_is_not_counted_again(tmp_path: Path) -> None:
    """One header is read, to know whose layout it is."""
    parts = shards(3)
    path = folder(tmp_path, {**parts, "model.safetensors.index.json": index(parts)})
    (path / "model.safetensors").unlink()
    far = Far(path, 7_000_000_000)
    (spec,) = contents.artefacts(far, "m", NOTHING)
    assert (spec.size, spec.hub, spec.id, spec.revision, spec.fingerprint) == ("7", "huggingface", "o/m", "c0", None)
    assert [name for name in far.asked if name in parts] == ["model-00001-of-00003.safetensors"]


@pytest.mark.parametrize(("most", "size"), [(3, "0_000000024"), (2, None)])
def test_from_afar_not_too_many_headers_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int, size: str | None
) -> None:
    """Then the number of weights is not known, and it says why."""
    monkeypatch.setattr(contents, "_MOST_HEADERS", most)
    parts = shards(3)
    path = folder(tmp_path, {**parts, "model.safetensors.index.json": index(parts)})
    (path / "model.safetensors").unlink()
    (spec,) = contents.artefacts(Far(path, None), "m", NOTHING)
    assert spec.size == size
    assert (spec.note is None) == (size is not None)


def test_from_afar_packed_weights_are_counted_by_their_headers(tmp_path: Path) -> None:
    """The hub counts words."""
    weights = safetensors({"a.qweight": ("I32", (1, 4))})
    path = folder(tmp_path, {"model.safetensors": weights}, quantization_config={"quant_method": "gptq", "bits": 4})
    (spec,) = contents.artefacts(Far(path, 4), "m", NOTHING)
    assert spec.size == "0_000000032"


def test_from_afar_a_split_gguf_names_its_other_pieces(tmp_path: Path) -> None:
    """All of them must be fetched; only the first is looked into."""
    path = ggufs(tmp_path, {f"m-Q8_0-0000{number}-of-00002.gguf": b"1234" for number in (1, 2)})
    far = Far(path, 7_000_000_000)
    (spec,) = contents.artefacts(far, "m", NOTHING)
    assert (spec.file, spec.parts) == ("m-Q8_0-00001-of-00002.gguf", ("m-Q8_0-00002-of-00002.gguf",))
    assert (spec.quantization, spec.size, spec.bytes) == ("Q8_0", "7", 8)
    assert far.asked == ["m-Q8_0-00001-of-00002.gguf"]
    (spec,) = contents.artefacts(Far(path, None), "m", NOTHING)
    assert spec.size is None
