"""Whatever is done to a model's files, they are read or refused in one line; what is read can be planned with."""

from __future__ import annotations

import json
import struct
from typing import TYPE_CHECKING

from hypothesis import given, settings
from hypothesis import strategies as st

from xinfer.errors import ConfigError
from xinfer.facts import Hardware
from xinfer.planning import memory
from xinfer.sources import contents
from xinfer.sources import gguf as ggufs
from xinfer.sources.contents import Allowed
from xinfer.sources.files import Weights
from xinfer.testing.model_files import CONFIG, gguf, safetensors

if TYPE_CHECKING:
    from collections.abc import Mapping

ALL = Allowed(remote_code=True, pickle=True)
MACHINE = Hardware(profile="p", os="linux", cores=2, memory_gib=16.0, gpus=0)
QUANTIZED = {
    "quantization_config": {"quant_method": "gptq", "bits": 4, "group_size": 128},
    "rope_scaling": {"type": "linear", "factor": 4.0}, "sliding_window": 4096, "auto_map": {"AutoModel": "m.M"},
    "text_config": {"num_hidden_layers": 2}, "eos_token_id": [1, 2],
}  # fmt: skip
SHARDS = tuple(f"model-0000{number}-of-00002.safetensors" for number in (1, 2))
INDEX = {"weight_map": {"a.qweight": SHARDS[0], "b.weight": SHARDS[1]}}
FOLDER = {
    "config.json": json.dumps({**CONFIG, **QUANTIZED}).encode(), "tokenizer.json": b"{}",
    "tokenizer_config.json": b'{"chat_template": "x"}', "generation_config.json": b'{"eos_token_id": 2}',
    "model.safetensors.index.json": json.dumps(INDEX).encode(),
    SHARDS[0]: safetensors({"a.qweight": ("I32", (4, 8)), "a.scales": ("F16", (8,))}),
    SHARDS[1]: safetensors({"b.weight": ("BF16", (8, 8))}, {"format": "pt"}),
}  # fmt: skip
LONE = {"m.gguf": gguf()}
thorough = settings(deadline=None, max_examples=300)


class Memory:
    """A model's files without a disk."""

    place, hub = "there", "local"
    revision: str | None = None
    parameters: int | None = None
    is_near = True

    def __init__(self, files: Mapping[str, bytes]) -> None:
        self.files = files
        self.sizes: Mapping[str, int] = {name: len(data) for name, data in files.items()}

    def read(self, name: str, start: int, length: int) -> bytes:
        assert start >= 0
        assert 0 <= length <= len(self.files[name]) - start, "more is asked for than there is"
        return self.files[name][start : start + length]

    def gguf(self, name: str) -> Weights:
        header = ggufs.read(lambda length: self.read(name, 0, length), self.sizes[name], name)
        return Weights(header.metadata, header.parameters, header.quantization)

    def address(self, name: str | None) -> tuple[str, str | None]:
        return f"/{name}", None


BOUNDARIES = (0, 1, 255, 2**15, 2**16, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**62, 2**63 - 1, 2**63, 2**64 - 1)
numbers = st.sampled_from(BOUNDARIES).map(lambda number: struct.pack("<Q", number)) | st.sampled_from(BOUNDARIES).map(
    lambda number: struct.pack("<I", number % 2**32)
)
signs = st.sampled_from(
    [b"-", b"9" * 25, b"1e999", b"[", b"{", b'"', b",", b"\\ud800", b"null", b"\xff", b"\0", b" " * 9]
)
fragments = numbers | signs | st.binary(max_size=12)


@st.composite
def damaged(draw: st.DrawFn, data: bytes) -> bytes:
    """Write over, put in, take out or cut off, a few times."""
    for _ in range(draw(st.integers(1, 4))):
        at, fragment = draw(st.integers(0, len(data))), draw(fragments)
        end = at + draw(st.sampled_from([0, len(fragment), len(fragment), 1, 8, 10**6]))
        data = data[:at] + fragment + data[end:]
    return data


@st.composite
def damaged_files(draw: st.DrawFn, files: Mapping[str, bytes]) -> dict[str, bytes]:
    name = draw(st.sampled_from(sorted(files)))
    return {**files, name: draw(damaged(files[name]))}


values = st.recursive(
    st.none()
    | st.booleans()
    | st.sampled_from([*BOUNDARIES, -1, -(2**63), 10**25])
    | st.floats()
    | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)


@st.composite
def configured(draw: st.DrawFn) -> dict[str, bytes]:
    """Give keys that mean something values that may mean nothing, at the top or in what lies below."""
    config = json.loads(FOLDER["config.json"])
    for _ in range(draw(st.integers(1, 3))):
        node = draw(st.sampled_from([config, *(part for part in config.values() if isinstance(part, dict))]))
        keys = [*node, "num_experts", "head_dim", "kv_lora_rank", "quantization", "compression_config", "num_kv_heads"]
        node[draw(st.sampled_from(keys))] = draw(values)
    return {**FOLDER, "config.json": json.dumps(config).encode()}


def inspect(files: Mapping[str, bytes]) -> str:
    """Read files, and estimate the memory of what they hold; return what is said against them."""
    try:
        found = contents.artefacts(Memory(files), None, ALL)
    except ConfigError as error:
        return str(error)
    for spec in found:
        estimated = memory.estimate(spec, MACHINE, tokens=4096, device="cpu")
        assert all(part is None or part >= 0 for part in (estimated.weights_gib, estimated.kv_gib))
    return ""


def test_the_undamaged_are_read() -> None:
    """So that damage is what is found."""
    assert inspect(FOLDER) == inspect(LONE) == ""


@thorough
@given(damaged_files(FOLDER))
def test_a_damaged_folder_is_read_or_refused(files: dict[str, bytes]) -> None:
    """Any of its files."""
    assert "\n" not in inspect(files)


@thorough
@given(damaged_files(LONE))
def test_a_damaged_gguf_is_read_or_refused(files: dict[str, bytes]) -> None:
    """Its header, its table, its weights."""
    assert "\n" not in inspect(files)


@thorough
@given(configured())
def test_a_configuration_may_say_anything(files: dict[str, bytes]) -> None:
    """Of any type and any size."""
    assert "\n" not in inspect(files)
