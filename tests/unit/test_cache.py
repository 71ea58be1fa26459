"""A cache is as large as what each layer keeps of each token, in the type of numbers that a flag says."""

from __future__ import annotations

import math

import msgspec
import pytest

from xinfer.catalog import Shape
from xinfer.planning import cache
from xinfer.planning.cache import Place, Widths

QWEN2_7B = Shape(layers=28, heads=28, kv_heads=4, head_dim=128)
GEMMA3_270M = Shape(layers=18, heads=4, kv_heads=1, head_dim=256, sliding_window=512, sliding_layers=15)
MISTRAL = Shape(layers=32, heads=32, kv_heads=8, head_dim=128, sliding_window=4096, sliding_layers=32)
DEEPSEEK_V3 = Shape(layers=61, heads=128, kv_heads=128, kv_lora_rank=512, rope_head_dim=64)
QWEN3_NEXT = Shape(layers=48, heads=16, kv_heads=2, head_dim=256, caching_layers=12)
MIB = 2**20
SIXTEEN = Widths()


@pytest.mark.parametrize(
    ("shape", "length", "sequences", "expected"),
    [
        pytest.param(QWEN2_7B, 8192, 1, 448 * MIB, id="every-layer-keeps-every-token"),
        pytest.param(QWEN2_7B, 2048, 4, 448 * MIB, id="of-every-sequence"),
        # llama.cpp's own log of this model: 12 MiB for 4096 cells of 3 layers, 15 MiB for 1024 of 15
        pytest.param(GEMMA3_270M, 4096, 1, 12 * MIB + 15 * MIB / 2, id="a-window-keeps-a-window"),
        pytest.param(GEMMA3_270M, 256, 1, 18 * 256 * 1024, id="less-than-a-window-is-all-there-is"),
        pytest.param(MISTRAL, 32768, 1, 512 * MIB, id="a-window-in-every-layer"),
        # 70,272 bytes for each token: DeepSeek-V3, arXiv 2412.19437, and its config.json
        pytest.param(DEEPSEEK_V3, 1000, 1, 70_272_000, id="one-latent-vector-for-all-heads"),
        pytest.param(QWEN3_NEXT, 1000, 1, 12 * 2 * 2 * 256 * 2 * 1000, id="linear-attention-keeps-nothing"),
        pytest.param(Shape(layers=4, kv_heads=2, head_dim=8, sliding_window=16), 100, 1, 4 * 64 * 100,
                     id="layers-that-may-not-slide"),
        pytest.param(Shape(layers=4, caching_layers=2, kv_heads=2, head_dim=8, sliding_window=16, sliding_layers=9), 99,
                     1, 2 * 64 * 16, id="no-more-windows-than-layers"),
    ],
)  # fmt: skip
def test_size(shape: Shape, length: int, sequences: int, expected: float) -> None:
    """Known networks at 16 bits, by hand."""
    assert cache.size(shape, length, sequences, SIXTEEN) == expected


@pytest.mark.parametrize("missing", ["layers", "kv_heads", "head_dim"])
def test_a_dimension_that_is_not_known(missing: str) -> None:
    """Leaves the size open, and how long a sequence can be, and says so."""
    shape = msgspec.structs.replace(QWEN2_7B, **{missing: None})
    assert cache.size(shape, 100, 1, SIXTEEN) is None
    assert cache.longest(shape, 1e9, 1, SIXTEEN) is None
    expected = "not known: the network's layers, kv heads or head size are not published"
    assert cache.formula(shape, 100, 1, SIXTEEN) == expected


def test_a_latent_vector_of_unknown_size() -> None:
    """Half a vector is none."""
    shape = msgspec.structs.replace(DEEPSEEK_V3, rope_head_dim=None)
    assert cache.size(shape, 100, 1, SIXTEEN) is None
    assert cache.size(DEEPSEEK_V3, 100, 1, Widths(None, None)) is None


@pytest.mark.parametrize(
    ("place", "expected"),
    [
        pytest.param(Place(2, 1), 224 * MIB, id="heads-are-shared"),
        pytest.param(Place(4, 1), 112 * MIB, id="down-to-one-each"),
        pytest.param(Place(28, 1), 112 * MIB, id="and-then-copied"),
        pytest.param(Place(1, 2), 224 * MIB, id="layers-are-dealt"),
        pytest.param(Place(1, 3), 448 * MIB * 10 / 28, id="unevenly-the-most-counts"),
        pytest.param(Place(2, 2), 112 * MIB, id="both"),
    ],
)
def test_what_one_gpu_has(place: Place, expected: float) -> None:
    """The largest part is what one GPU must hold."""
    assert cache.size(QWEN2_7B, 8192, 1, SIXTEEN, place) == expected


def test_a_latent_vector_is_on_every_gpu() -> None:
    """It belongs to all heads, so sharing them saves nothing."""
    assert cache.size(DEEPSEEK_V3, 100, 1, SIXTEEN, Place(8, 1)) == cache.size(DEEPSEEK_V3, 100, 1, SIXTEEN)


@pytest.mark.parametrize(
    ("argv", "dtype", "expected"),
    [
        pytest.param((), None, Widths(16, 16), id="half-precision-unless-something-says-otherwise"),
        pytest.param((), "float32", Widths(32, 32), id="as-wide-as-what-is-computed"),
        pytest.param(("--kv-cache-dtype", "fp8"), "bfloat16", Widths(8, 8), id="vllm-and-sglang"),
        pytest.param(("--kv-cache-dtype", "auto"), "float32", Widths(32, 32), id="auto-is-no-type"),
        pytest.param(("--kv-cache-dtype", "nvfp4"), None, Widths(None, None), id="one-that-is-not-known"),
        pytest.param(("--cache-type-k", "Q8_0"), None, Widths(8.5, 16), id="llama.cpp-keys-alone"),
        pytest.param(("--cache-type-k", "q8_0", "--cache-type-v", "q4_0"), None, Widths(8.5, 4.5), id="llama.cpp"),
        pytest.param(("--cache-type-v", "tq2_0"), None, Widths(16, None), id="values-of-a-type-that-is-not-known"),
        pytest.param(("--kv-bits", "4"), None, Widths(4.5, 4.5), id="mlx-groups-of-64"),
        pytest.param(("--kv-bits", "8", "--kv-group-size", "32"), None, Widths(9, 9), id="mlx-smaller-groups"),
        pytest.param(("--kv-bits", "8", "--kv-group-size", "0"), None, Widths(8.5, 8.5), id="mlx-no-such-group"),
    ],
)
def test_widths(argv: tuple[str, ...], dtype: str | None, expected: Widths) -> None:
    """A flag's own type, with its share of a block's scale."""
    assert cache.widths(argv, dtype) == expected


def test_words() -> None:
    """A mapping of flags reads as a command line does."""
    assert cache.words({"kv-cache-dtype": "fp8", "n": 3}) == ("--kv-cache-dtype", "fp8", "--n", "3")


def test_a_type_that_is_not_known_has_no_size() -> None:
    """Its size is null and not that of another type."""
    widths = Widths(None, None)
    assert widths.pair is None
    assert cache.size(QWEN2_7B, 100, 1, widths) is None
    assert cache.formula(QWEN2_7B, 100, 1, widths) == "not known: how large one number of this cache's type is"


@pytest.mark.parametrize(
    ("shape", "room", "sequences", "expected"),
    [
        pytest.param(QWEN2_7B, 448 * MIB, 1, 8192, id="all-of-it"),
        pytest.param(QWEN2_7B, 448 * MIB, 4, 2048, id="for-each-of-four"),
        pytest.param(QWEN2_7B, 448 * MIB - 1, 1, 8191, id="whole-tokens"),
        pytest.param(QWEN2_7B, -5, 1, 0, id="no-room"),
        pytest.param(GEMMA3_270M, 12 * MIB + 15 * MIB / 2, 1, 4096, id="past-the-window"),
        pytest.param(GEMMA3_270M, 18 * 256 * 1024, 1, 256, id="within-the-window"),
        pytest.param(MISTRAL, 512 * MIB, 1, 4096, id="exactly-the-window"),
        pytest.param(MISTRAL, 513 * MIB, 1, math.inf, id="windows-alone-are-never-full"),
        pytest.param(Shape(layers=4, caching_layers=0, kv_heads=1, head_dim=1), 1, 1, math.inf, id="nothing-is-kept"),
    ],
)
def test_longest(shape: Shape, room: float, sequences: int, expected: float) -> None:
    """The inverse of the size: what is left says how long a sequence can be."""
    assert cache.longest(shape, room, sequences, SIXTEEN) == expected


@pytest.mark.parametrize(
    ("shape", "length", "sequences", "widths", "place", "expected"),
    [
        pytest.param(QWEN2_7B, 2048, 4, SIXTEEN, Place(), "2 x 28 layers x 4 kv heads x 128 x 2 bytes x 8192 tokens",
                     id="plain"),
        pytest.param(QWEN2_7B, 8192, 1, Widths(8.5, 16), Place(),
                     "28 layers x 4 kv heads x 128 x 3.0625 bytes x 8192 tokens", id="keys-and-values-differ"),
        pytest.param(QWEN2_7B, 8192, 1, SIXTEEN, Place(2, 2),
                     "2 x 14 layers x 2 kv heads x 128 x 2 bytes x 8192 tokens, one of 2 GPUs", id="split"),
        pytest.param(GEMMA3_270M, 4096, 2, SIXTEEN, Place(),
                     "2 x (3 layers x 4096 tokens + 15 layers x 512) x 1 kv heads x 256 x 2 bytes x 2 sequences",
                     id="windows"),
        pytest.param(GEMMA3_270M, 4096, 1, SIXTEEN, Place(),
                     "2 x (3 layers x 4096 tokens + 15 layers x 512) x 1 kv heads x 256 x 2 bytes", id="one-sequence"),
        pytest.param(DEEPSEEK_V3, 100, 1, SIXTEEN, Place(), "61 layers x (512 + 64) x 2 bytes x 100 tokens",
                     id="latent"),
    ],
)  # fmt: skip
def test_formula(shape: Shape, length: int, sequences: int, widths: Widths, place: Place, expected: str) -> None:
    """It says what was multiplied."""
    assert cache.formula(shape, length, sequences, widths, place) == expected
