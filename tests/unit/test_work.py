"""What a network must read and compute for a token: counted by hand for networks small enough."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from xinfer.catalog import Shape, Spec
from xinfer.measuring import work
from xinfer.measuring.work import Tensor, Weights

SHAPE = Shape(layers=2, hidden=8, heads=4, kv_heads=2, head_dim=2, vocab=100, intermediate=16)
ATTENTION = 2 * (8 * 8 + 8 * 4 + 8 * 4 + 8 * 8)
"""Of both layers: queries, keys, values and the projection after them."""
AFTER = 2 * 3 * 8 * 16
HEAD = 100 * 8


def spec(shape: Shape = SHAPE, **changes: Any) -> Spec:
    made = Spec(
        family="f", size="0", format="pytorch", quantization="none", hub=None, id=None, shape=shape
    )  # fmt: skip
    return msgspec.structs.replace(made, **changes)


def sized(parameters: int, shape: Shape = SHAPE, **changes: Any) -> Spec:
    """Return a spec of that many parameters, as the catalogue spells a size."""
    return spec(shape, size=f"{parameters / 1e9:.12f}".replace(".", "_"), **changes)


def tensor(name: str, elements: int, bytes_: int | None = None, *, packed: bool = False) -> Tensor:
    return Tensor(name, elements, 2 * elements if bytes_ is None else bytes_, packed)


GGUF = (
    tensor("token_embd.weight", 800), tensor("blk.0.attn_q.weight", 64), tensor("blk.0.ffn_up.weight", 128),
    tensor("blk.0.attn_norm.weight", 8, 32), tensor("output_norm.weight", 8, 32), tensor("rope_freqs.weight", 4, 16),
)  # fmt: skip
FOLDER = (
    tensor("model.embed_tokens.weight", 800), tensor("model.layers.0.self_attn.q_proj.weight", 64),
    tensor("model.layers.0.mlp.up_proj.weight", 128), tensor("model.norm.weight", 8),
)  # fmt: skip


@pytest.mark.parametrize(
    ("tensors", "dtype", "expected"),
    [
        pytest.param(GGUF, None, (2 * (64 + 128 + 800) + 64, 1008, 800), id="a-tied-head-is-read"),
        pytest.param(
            (*GGUF, tensor("output.weight", 800, 400)), None, (2 * (64 + 128) + 64 + 400, 1008, 800),
            id="else-the-embedding-is-not",
        ),
        pytest.param(FOLDER, "bfloat16", (2 * 1000, 1000, 800), id="a-folder-as-it-is"),
        pytest.param(FOLDER, "float32", (4 * 1000, 1000, 800), id="held-in-a-wider-type-than-its-files"),
        pytest.param(
            (*FOLDER, tensor("lm_head.weight", 800)), None, (2 * 1000, 1000, 800), id="a-head-of-its-own"
        ),
        pytest.param(
            (*FOLDER, tensor("visual.blocks.0.attn.qkv.weight", 5000), tensor("transformer.wpe.weight", 70)), None,
            (2 * 1000, 1000, 800), id="eyes-and-positions-generate-no-text",
        ),
    ],
)  # fmt: skip
def test_tensors(tensors: tuple[Tensor, ...], dtype: str | None, expected: tuple[int, int, int]) -> None:
    """Bytes and weights of all that takes part, and of the head among them."""
    found = work.weights(spec(), tensors, dtype)
    assert isinstance(found, Weights)
    assert (found.bytes, found.parameters, found.head_parameters) == expected
    assert (found.expert_bytes, found.source) == (0, "the tensors of its files")


@pytest.mark.parametrize("format_", ["ggufv2", "gptq"])
def test_other_formats_are_held_as_they_are(format_: str) -> None:
    """The type that is computed in is none that their weights are widened to."""
    found = work.weights(spec(format=format_, quantization="Q8_0"), GGUF, "float32")
    assert isinstance(found, Weights)
    assert found.bytes == 2 * (64 + 128 + 800) + 64


MIXED = msgspec.structs.replace(SHAPE, experts=4, experts_per_token=1)


@pytest.mark.parametrize(
    "name",
    [
        "blk.0.ffn_gate_exps.weight", "blk.0.ffn_down_exps.weight", "blk.0.ffn_up.3.weight",
        "model.layers.0.mlp.experts.3.up_proj.weight", "model.layers.0.block_sparse_moe.experts.0.w1.weight",
    ],
)  # fmt: skip
def test_experts(name: str) -> None:
    """They count apart, whichever way a file names them; what routes to them, or is shared, does not."""
    routing = (tensor("blk.0.ffn_gate_inp.weight", 16), tensor("blk.0.ffn_up_shexp.weight", 16))
    found = work.weights(spec(MIXED), (*GGUF, *routing, tensor(name, 400)), None)
    assert isinstance(found, Weights)
    assert (found.expert_bytes, found.expert_parameters, found.experts) == (800, 400, 4)
    assert found.parameters == 1008 + 32
    assert found.active == 1040 - 800 + 100


@pytest.mark.parametrize(
    ("batch", "part"), [(1, 0.25), (2, 1 - 0.75**2), (64, 1.0)], ids=["one", "two", "many-read-all"]
)
def test_a_batch_reads_more_experts(batch: float, part: float) -> None:
    """Each sequence picks its own; of those that several pick, one reading serves all."""
    made = Weights(bytes=100, parameters=1, head_parameters=0, expert_bytes=1000, experts=4, source="")
    assert made.read_bytes(batch) == pytest.approx(100 + 1000 * part)


def test_a_dense_network_reads_the_same_for_every_batch() -> None:
    """It has no experts."""
    assert Weights(bytes=100, parameters=1, head_parameters=0, source="").read_bytes(9) == 100


@pytest.mark.parametrize(
    ("tensors", "why"),
    [
        pytest.param((*GGUF, tensor("blk.0.ffn_up_exps.weight", 9)), "how many of its experts", id="experts"),
        pytest.param((tensor("token_embd.weight", 9),), "names that are not known", id="nothing-but-an-embedding"),
        pytest.param((tensor("blk.0.attn_q.weight", 9),), "names that are not known", id="no-embedding"),
        pytest.param((), "names that are not known", id="none"),
    ],
)
def test_tensors_that_tell_nothing(tensors: tuple[Tensor, ...], why: str) -> None:
    """The reason is said."""
    found = work.weights(spec(), tensors, None)
    assert isinstance(found, str)
    assert why in found


def test_packed_weights_are_counted_by_the_dimensions() -> None:
    """Their words are no weights; the bytes are those of the files all the same."""
    packed = (*FOLDER[:1], tensor("model.layers.0.mlp.up_proj.qweight", 16, 64, packed=True))
    known = sized(ATTENTION + AFTER + HEAD, quantization="Int4", format="gptq")
    found = work.weights(known, packed, "float16")
    assert isinstance(found, Weights)
    assert (found.bytes, found.parameters, found.head_parameters) == (1600 + 64, ATTENTION + AFTER + HEAD, HEAD)
    unknown = work.weights(spec(quantization="Int4", format="gptq"), packed, "float16")
    assert isinstance(unknown, Weights)
    assert (unknown.bytes, unknown.parameters, unknown.active) == (1664, None, None)


@pytest.mark.parametrize(
    ("spec", "dtype", "bytes_"),
    [
        pytest.param(sized(ATTENTION + AFTER + HEAD), None, 2, id="tied"),
        pytest.param(sized(ATTENTION + AFTER + 2 * HEAD), None, 2, id="with-a-head-of-its-own"),
        pytest.param(sized(ATTENTION + AFTER + HEAD), "float32", 4, id="computed-wider"),
        pytest.param(sized(ATTENTION + AFTER + HEAD, format="ggufv2", quantization="Q4_0"), None, 4.5 / 8, id="gguf"),
        pytest.param(
            sized(ATTENTION + AFTER + HEAD, format="ggufv2", quantization="Q4_0"), "float32", 4.5 / 8,
            id="packed-weights-stay-packed",
        ),
    ],
)  # fmt: skip
def test_dimensions(spec: Spec, dtype: str | None, bytes_: float) -> None:
    """Where no file tells, a network's shape does: the head is read whole, the embedding is not."""
    found = work.weights(spec, None, dtype)
    assert isinstance(found, Weights)
    assert found.parameters == ATTENTION + AFTER + HEAD
    assert found.bytes == int(found.parameters * bytes_)
    assert found.head_parameters == HEAD


def test_dimensions_with_experts() -> None:
    """Each has three matrices."""
    found = work.of_shape(sized(ATTENTION + 4 * AFTER + HEAD, MIXED), None)
    assert isinstance(found, Weights)
    assert (found.parameters, found.expert_parameters) == (ATTENTION + HEAD, 4 * AFTER)
    assert found.active == ATTENTION + AFTER
    unsaid = msgspec.structs.replace(MIXED, experts_per_token=None)
    every = work.of_shape(sized(ATTENTION + 4 * AFTER + HEAD, unsaid), None)
    assert isinstance(every, Weights)
    assert every.active == ATTENTION + 4 * AFTER


@pytest.mark.parametrize(
    ("spec", "why"),
    [
        pytest.param(
            spec(msgspec.structs.replace(SHAPE, vocab=None)), "not all published", id="a-dimension-is-missing"
        ),
        pytest.param(sized(3 * (ATTENTION + AFTER + HEAD)), "published size", id="another-kind-of-network"),
        pytest.param(sized(10**9, size_counts="active"), "published size", id="a-size-of-active-weights"),
        pytest.param(
            sized(ATTENTION + AFTER + HEAD, format="awq", quantization="Int5"), "bits per weight", id="unknown-packing"
        ),
    ],
)
def test_dimensions_that_tell_nothing(spec: Spec, why: str) -> None:
    """The reason is said."""
    found = work.of_shape(spec, None)
    assert isinstance(found, str)
    assert why in found


@pytest.mark.parametrize(
    ("changes", "width", "expected"),
    [
        pytest.param({}, 2, 2 * 2 * 2 * 2 * 2 * 10, id="keys-and-values-of-all-layers"),
        pytest.param({}, 4, 2 * 2 * 2 * 2 * 4 * 10, id="wider"),
        pytest.param({"sliding_window": 4}, 2, 2 * 2 * 2 * 2 * 2 * 4, id="a-window"),
        pytest.param({"sliding_window": 40}, 2, 2 * 2 * 2 * 2 * 2 * 10, id="a-window-that-is-not-full"),
        pytest.param(
            {"sliding_window": 4, "sliding_layers": 1}, 2, 2 * 2 * 2 * 2 * (10 + 4), id="a-window-in-one-layer"
        ),
        pytest.param({"caching_layers": 1}, 2, 2 * 2 * 2 * 2 * 10, id="one-layer-without-attention"),
        pytest.param({"kv_heads": None}, 2, None, id="not-published"),
    ],
)
def test_kv_bytes(changes: dict[str, Any], width: float, expected: float | None) -> None:
    """Of a sequence of ten tokens."""
    assert work.kv_bytes(msgspec.structs.replace(SHAPE, **changes), 10, width) == expected


MADE = Weights(bytes=1, parameters=1000, head_parameters=200, source="")


@pytest.mark.parametrize(
    ("shape", "tokens", "expected"),
    [
        pytest.param({}, 10, 2 * (800 * 10 + 200) + 4 * 2 * 4 * 2 * 50, id="each-token-with-those-before-it"),
        pytest.param({"sliding_window": 4}, 10, 2 * 8200 + 4 * 2 * 4 * 2 * (40 - 8), id="no-further-than-the-window"),
        pytest.param({"heads": None}, 10, None, id="heads-not-published"),
        pytest.param({"layers": None}, 10, None, id="layers-not-published"),
        pytest.param({"head_dim": None}, 10, None, id="their-size-not-published"),
    ],
)
def test_prefill(shape: dict[str, Any], tokens: float, expected: float | None) -> None:
    """Two operations for each weight and token, the head for the last alone, and attention."""
    assert work.prefill_flops(MADE, msgspec.structs.replace(SHAPE, **shape), tokens) == expected


def test_prefill_of_uncounted_weights() -> None:
    """Without their number there is none of operations."""
    assert work.prefill_flops(msgspec.structs.replace(MADE, parameters=None), SHAPE, 10) is None
