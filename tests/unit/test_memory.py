"""Memory is computed from published figures, and what cannot be computed is unknown, never zero."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from xinfer import catalog
from xinfer.catalog import Shape, Spec
from xinfer.config.compose import conf_dir
from xinfer.facts import Gpu, Hardware
from xinfer.plan import Memory
from xinfer.planning import memory
from xinfer.planning.cache import Place, Widths
from xinfer.planning.memory import Device

KNOWN_UNKNOWN = {
    *(("ggufv2", name) for name in ("Q2_K_L", "Q2_K_XS", "Q3_K_XL", "Q4_K_L", "Q5_K_L", "Q6_K_L")),
    *(("compressed-tensors", name) for name in ("Int4", "fp4")),
}
"""Publishers' own mixtures, of which nobody publishes the bits per weight; Unsloth's UD-* are others."""
QWEN = Shape(layers=28, kv_heads=4, head_dim=128)
CPU = Hardware(profile="cpu", os="linux", gpus=0)


def spec(size: str | None = "7", form: str | None = "pytorch", quantization: str | None = "none", **more: Any) -> Spec:
    return Spec(family="f", size=size, format=form, quantization=quantization, hub=None, id=None, **more)


def published(family: str, **chosen: str) -> Spec:
    return catalog.select(catalog.load(conf_dir() / "model")[family], day="2024-08", **chosen)[0]


# --- known figures ---


def test_the_default_model() -> None:
    """SmolLM2: the file's own 98,362,432 bytes; 2 x 30 x 3 x 64 x 2 = 23,040 bytes of cache for each token."""
    found = memory.estimate(published("smollm2-135m-instruct"), CPU, tokens=4096, device="cpu")
    assert (found.weights_gib, found.kv_gib) == (0.092, 0.088)
    assert found.weights_gib == round(98_362_432 / 1024**3, 3)
    assert found.kv_gib == round(23_040 * 4096 / 1024**3, 3)
    assert found.formula == {
        "weights_gib": "the file's 98362432 bytes",
        "kv_gib": "2 x 30 layers x 3 kv heads x 64 x 2 bytes x 4096 tokens",
        "overhead_gib": "not measured for this engine",
        "available_gib": "not known for main memory",
    }


def test_qwen2_7b() -> None:
    """7.615e9 weights of 16 bits are 14.185 GiB, though it is called 7; 57,344 bytes for 8192 tokens are 448 MiB."""
    found = memory.estimate(published("qwen2-instruct", size="7", quantization="none"), CPU, tokens=8192, device="cpu")
    assert (found.weights_gib, found.kv_gib) == (14.185, 0.438)
    assert published("qwen2-instruct", size="7").shape.kv_bytes_per_token == 57_344
    assert 57_344 * 8192 == 448 * 1024**2
    assert found.formula["weights_gib"] == ("7.615e9 weights, counted from the network's dimensions, x 16 bits / 8")


@pytest.mark.parametrize(
    ("form", "quantization", "bits"),
    [
        pytest.param("pytorch", "none", 16.0, id="half-precision"),
        pytest.param("pytorch", "8-bit", 8.0, id="quantized-while-loading"),
        pytest.param("pytorch", "4-bit", 4.0, id="quantized-further-while-loading"),
        pytest.param("gptq", "Int4", 4.16, id="groups-of-128-carry-20-bits"),
        pytest.param("gptq", "Int3", 3.15, id="int3"),
        pytest.param("gptq", "Int8", 8.19, id="int8"),
        pytest.param("gptq", "8bits", 8.19, id="8bits-is-a-spelling-of-the-same"),
        pytest.param("awq", "Int4", 4.16, id="awq"),
        pytest.param("mlx", "4-bit", 4.5, id="groups-of-64-carry-32-bits"),
        pytest.param("mlx", "4bit", 4.5, id="spelled-otherwise-later"),
        pytest.param("mlx", "8-bit", 8.5, id="eight-and-a-half"),
        pytest.param("mlx", "8bit", 8.5, id="eight-and-a-half-spelled-otherwise"),
        pytest.param("mlx", "None", 16.0, id="case-never-matters"),
        pytest.param("ggufv2", "BF16", 16.0005, id="sixteen-and-the-header"),
        pytest.param("ggufv2", "Q6", 6.5633, id="a-shorter-spelling"),
        pytest.param("ggufv2", "f32", 32.0, id="unquantized"),
        pytest.param("ggufv2", "Q4_0", 4.5, id="18-bytes-for-32-weights"),
        pytest.param("ggufv2", "q4_k_m", 4.8944, id="a-mixture"),
        pytest.param("ggmlv3", "q4_K_M", 4.8944, id="the-older-container"),
        pytest.param("fp8", "fp8", 8.0, id="fp8"),
        pytest.param("pytorch", "Int4", None, id="a-quantization-of-another-format"),
        pytest.param("gptq", "Int4-Int8Mix", None, id="a-mix-is-not-guessed"),
        pytest.param("tar", "none", None, id="a-format-of-nobody"),
        pytest.param(None, None, None, id="nothing"),
    ],
)
def test_bits_per_weight(form: str | None, quantization: str | None, bits: float | None) -> None:
    """Each quantization has a figure in its own format, or none."""
    assert memory.bits_per_weight(spec("7", form, quantization)) == bits


LLAMA_8B_GIB = {
    "IQ1_M": 2.01, "IQ2_XXS": 2.23, "IQ2_XS": 2.42, "IQ2_S": 2.56, "IQ2_M": 2.74, "IQ3_XXS": 3.04, "IQ3_XS": 3.27,
    "IQ3_S": 3.42, "IQ3_M": 3.52, "IQ4_XS": 4.17, "IQ4_NL": 4.38, "Q2_K_S": 2.78, "Q2_K": 2.95, "Q3_K_S": 3.41,
    "Q3_K": 3.74, "Q3_K_M": 3.74, "Q3_K_L": 4.02, "Q4_K_S": 4.36, "Q4_K": 4.58, "Q4_K_M": 4.58, "Q5_K_S": 5.21,
    "Q5_K": 5.33, "Q5_K_M": 5.33, "Q6_K": 6.14, "Q8_0": 7.95, "FP16": 14.96,
}  # fmt: skip
"""The sizes of Llama-3.1-8B's files, which has 8.03e9 weights, as llama.cpp's quantize documents them."""


@pytest.mark.parametrize("quantization", LLAMA_8B_GIB)
def test_a_gguf_file_has_its_documented_size(quantization: str) -> None:
    """The figures give the size of real files, to the two digits that are documented."""
    found = memory.estimate(spec("8_03", "ggufv2", quantization), CPU, tokens=1, device="cpu")
    assert found.weights_gib == pytest.approx(LLAMA_8B_GIB[quantization], abs=0.0101)


@pytest.mark.parametrize(("quantization", "size"), [("Q4_0", 18), ("Q4_1", 20), ("Q5_0", 22), ("Q5_1", 24)])
def test_a_legacy_type_has_its_block_size(quantization: str, size: int) -> None:
    """32 weights take this many bytes: 4 or 5 bits each, and one or two 16-bit numbers for the block."""
    assert memory.bits_per_weight(spec("7", "ggufv2", quantization)) == size * 8 / 32


def test_every_published_quantization_has_a_figure() -> None:
    """The catalogue's quantizations of all days are known, but for those that are listed above."""
    families = catalog.load(conf_dir() / "model").values()
    everything = [s for family in families for s in family.specs()]
    unknown = {(s.format, s.quantization or "") for s in everything if memory.bits_per_weight(s) is None}
    assert {each for each in unknown if not each[1].startswith("UD-")} == KNOWN_UNKNOWN


def test_a_grouped_figure_is_its_arithmetic() -> None:
    """A group's scale has 16 bits and its zero point as many as a weight."""
    for bits in (3, 4, 8):
        figure = memory.bits_per_weight(spec("7", "gptq", f"Int{bits}"))
        assert figure == pytest.approx(bits + (16 + bits) / 128, abs=0.006)


# --- what is not known ---


@pytest.mark.parametrize(
    ("of", "weights", "why"),
    [
        pytest.param(spec("7", "ggufv2", "Q4_K_L"), None, "not known: no bits per weight for ggufv2 Q4_K_L", id="bits"),
        pytest.param(
            spec("14", size_counts="active"),
            None,
            "not known: size 14 counts the active parameters only",
            id="parameters",
        ),
        pytest.param(spec(None, None, None), None, "not known: the catalogue has no record", id="everything"),
        pytest.param(spec("0_5", "gptq", "Int8"), 0.477, "0.5e9 parameters x 8.19 bits / 8", id="nothing"),
    ],
)
def test_weights(of: Spec, weights: float | None, why: str) -> None:
    """Weights that cannot be computed are null, with the reason."""
    found = memory.estimate(of, CPU, tokens=1, device="cpu")
    assert (found.weights_gib, found.formula["weights_gib"]) == (weights, why)


@pytest.mark.parametrize("missing", ["layers", "kv_heads", "head_dim"])
def test_a_cache_of_unknown_shape_is_null(missing: str) -> None:
    """One missing dimension leaves the cache open, and says so."""
    shape = msgspec.structs.replace(QWEN, **{missing: None})
    found = memory.estimate(spec(shape=shape), CPU, tokens=8192, device="cpu")
    assert found.kv_gib is None
    assert found.total_gib is None
    assert found.formula["kv_gib"] == "not known: the network's layers, kv heads or head size are not published"


def test_overhead_is_the_engines() -> None:
    """What an engine needs beside weights and cache is taken from whoever measured it."""
    found = memory.estimate(
        spec(shape=QWEN), CPU, tokens=8192, device="cpu", overhead_gib=1.5, overhead_why="measured with 0.33"
    )
    assert (found.overhead_gib, found.total_gib) == (1.5, round(13.0385 + 0.4375 + 1.5, 3))
    assert found.formula["overhead_gib"] == "measured with 0.33"


@pytest.mark.parametrize(
    ("shape", "overhead", "has", "fits"),
    [
        pytest.param(QWEN, 1.0, 15.0, True, id="all-is-known-and-fits"),
        pytest.param(QWEN, 1.0, 14.0, False, id="all-is-known-and-does-not"),
        pytest.param(QWEN, None, 15.0, None, id="what-is-known-would-fit"),
        pytest.param(QWEN, None, 13.0, False, id="what-is-known-is-too-much-already"),
        pytest.param(Shape(), None, 13.0, False, id="the-weights-alone-are-too-much"),
        pytest.param(Shape(), 1.0, 15.0, None, id="the-cache-is-not-known"),
        pytest.param(QWEN, 1.0, None, None, id="the-machine-is-not-known"),
        pytest.param(QWEN, 1.0, 7e9 * 16 / 8 / 1024**3 + 0.4375 + 1.0, True, id="exactly-enough"),
    ],
)
def test_fits(shape: Shape, overhead: float | None, has: float | None, fits: bool | None) -> None:  # noqa: FBT001
    """False as soon as the known parts exceed what there is; true only when every part is known."""
    machine = Hardware(profile="p", gpus=0, memory_gib=has)
    found = memory.estimate(spec(shape=shape), machine, tokens=8192, device="cpu", overhead_gib=overhead)
    assert found.fits is fits


@pytest.mark.parametrize(
    ("has", "fits"),
    [
        pytest.param(13.4, False, id="with-the-least-of-it-too-much"),
        pytest.param(14.4, None, id="nobody-knows"),
        pytest.param(16.5, True, id="even-the-most-of-it"),
    ],
)
def test_an_overhead_within_bounds(has: float, fits: bool | None) -> None:  # noqa: FBT001
    """What is said holds wherever it lies between them; what is left for the cache is so with the most of it."""
    machine = Hardware(profile="p", gpus=0, memory_gib=has)
    given = Memory(least_overhead_gib=0.5)
    found = memory.estimate(spec(shape=QWEN), machine, tokens=8192, device="cpu", overhead_gib=3.0, given=given)
    assert (found.overhead_gib, found.least_overhead_gib, found.fits) == (3.0, 0.5, fits)
    assert found.total_gib == round(7e9 * 2 / 1024**3 + 0.4375 + 3.0, 3)
    assert (found.largest_context == 0) is (has < 13.0385 + 3.0)


def test_an_artefact_of_which_nothing_is_known_may_fit() -> None:
    """No known part is not the same as nothing needed."""
    machine = Hardware(profile="p", gpus=0, memory_gib=0.001)
    found = memory.estimate(spec(None, None, None), machine, tokens=8192, device="cpu")
    assert (found.weights_gib, found.total_gib, found.fits) == (None, None, None)


# --- the machine ---

NVIDIA = Gpu(vendor="nvidia", name="NVIDIA H100 80GB HBM3", memory_gib=80.0)
APPLE = Gpu(vendor="apple", name="Apple M3 Max")


@pytest.mark.parametrize(
    ("machine", "device", "gib", "where"),
    [
        pytest.param({"memory_gib": 64.0, "gpus": 0}, "cpu", 64.0, "main memory", id="main-memory"),
        pytest.param({"gpus": 0}, "cpu", None, "not known for main memory", id="unknown-main-memory"),
        pytest.param({"memory_gib": 512.0, "gpus": 1, "gpu": NVIDIA}, "gpu", 80.0, f"1 x {NVIDIA.name}", id="one-gpu"),
        pytest.param(
            {"memory_gib": 512.0, "gpus": 4, "gpu": NVIDIA}, "gpu", 80.0, f"one of 4 x {NVIDIA.name}", id="four-gpus"
        ),
        pytest.param(
            {"memory_gib": 512.0, "gpus": 4, "gpu": NVIDIA}, "cpu", 512.0, "main memory", id="beside-the-gpus"
        ),
        pytest.param({"gpus": 2, "gpu": Gpu(vendor="nvidia")}, "gpu", None, "not known for 2 x GPU", id="unknown-size"),
        pytest.param({"gpu": NVIDIA}, "gpu", None, f"not known for {NVIDIA.name}", id="unknown-how-many"),
        pytest.param({}, "gpu", None, "not known for GPU", id="unknown"),
        pytest.param(
            {"memory_gib": 64.0, "gpus": 1, "gpu": APPLE}, "gpu", 64.0, f"1 x {APPLE.name}", id="unified-memory"
        ),
        pytest.param(
            {"gpus": 1, "gpu": APPLE}, "gpu", None, f"not known for 1 x {APPLE.name}", id="unknown-unified-memory"
        ),
    ],
)
def test_available(machine: dict[str, Any], device: Device, gib: float | None, where: str) -> None:
    """One GPU's, as each must hold its part; Apple's is main memory; what is not known is null, with the place."""
    hardware = Hardware(profile="p", **machine)
    assert memory.available(hardware, device) == gib
    found = memory.estimate(spec(), hardware, tokens=1, device=device)
    assert (found.available_gib, found.formula["available_gib"]) == (gib, where)


@pytest.mark.parametrize(("gpus", "device"), [(0, "cpu"), (None, "cpu"), (1, "gpu"), (4, "gpu")])
def test_device_of(gpus: int | None, device: str) -> None:
    """A model runs on the GPUs where there are any, as far as is known."""
    assert memory.device_of(Hardware(profile="p", gpus=gpus)) == device


# --- several GPUs ---

FOUR = Hardware(profile="p", gpus=4, gpu=Gpu(vendor="nvidia", name="A", memory_gib=24.0))
LARGE = spec("32", shape=Shape(layers=64, heads=32, kv_heads=8, head_dim=128), context_length=32768)


def split(tensor: int, stages: int, **more: Any) -> Memory:
    return memory.estimate(LARGE, FOUR, tokens=4096, device="gpu", place=Place(tensor, stages), **more)


@pytest.mark.parametrize(
    ("tensor", "stages", "weights", "kv", "why", "where"),
    [
        pytest.param(1, 1, 59.605, 1.0, "32e9 parameters x 16 bits / 8", "one of 4 x A", id="one"),
        pytest.param(2, 1, 29.802, 0.5, "32e9 parameters x 16 bits / 8, one of 2 GPUs", "each of 2 of 4 x A", id="two"),
        pytest.param(4, 1, 14.901, 0.25, "32e9 parameters x 16 bits / 8, one of 4 GPUs", "each of 4 x A", id="all"),
        pytest.param(1, 3, 20.489, 0.344, "32e9 parameters x 16 bits / 8, 22 of 64 layers", "each of 3 of 4 x A",
                     id="stages"),
        pytest.param(2, 2, 14.901, 0.25, "32e9 parameters x 16 bits / 8, 32 of 64 layers, one of 2 GPUs",
                     "each of 4 x A", id="both"),
    ],
)  # fmt: skip
def test_what_one_gpu_must_hold(tensor: int, stages: int, weights: float, kv: float, why: str, where: str) -> None:
    """Every figure is about one GPU: its part of each layer, and of the layers those of its stage."""
    found = split(tensor, stages)
    assert (found.weights_gib, found.kv_gib, found.available_gib) == (weights, kv, 24.0)
    assert (found.formula["weights_gib"], found.formula["available_gib"]) == (why, where)
    assert found.fits is (False if weights > 24 else None)


def test_stages_of_unknown_layers() -> None:
    """Their weights are dealt evenly."""
    found = memory.weights_of(spec("32"), memory.Demand(1, place=Place(1, 4)))
    assert found.formula == "32e9 parameters x 16 bits / 8, one of 4 stages"
    assert found.bytes == 16e9


# --- how long, and how many ---


@pytest.mark.parametrize(
    ("tensor", "overhead", "sequences", "longest", "why"),
    [
        pytest.param(1, 1.0, 1, 0, "for one sequence, in what the weights and the overhead leave", id="no-room"),
        pytest.param(4, 1.0, 1, 32768, "for one sequence: all that the model was made for", id="all-of-it"),
        pytest.param(4, 1.0, 8, 16586, "for each of 8 sequences, in what the weights and the overhead leave",
                     id="for-each-of-eight"),
        pytest.param(4, None, 8, 18634, "for each of 8 sequences, in what the weights and the overhead leave, less "
                     "what the overhead takes, which is not known", id="overhead-not-known"),
    ],
)  # fmt: skip
def test_largest_context(tensor: int, overhead: float | None, sequences: int, longest: int, why: str) -> None:
    """As long as each sequence can be in what is left, and no longer than the model was made for."""
    found = split(tensor, 1, overhead_gib=overhead, sequences=sequences)
    assert (found.largest_context, found.formula["largest_context"]) == (longest, why)


@pytest.mark.parametrize(
    ("of", "machine"),
    [
        pytest.param(LARGE, Hardware(profile="p", gpus=1), id="the-memory"),
        pytest.param(spec("14", shape=QWEN, size_counts="active"), FOUR, id="the-weights"),
        pytest.param(spec("7", context_length=4096), FOUR, id="the-cache"),
        pytest.param(spec("7", shape=Shape(layers=2, caching_layers=0, kv_heads=1, head_dim=1)), FOUR, id="any-end"),
    ],
)
def test_a_largest_context_that_is_not_known(of: Spec, machine: Hardware) -> None:
    """Null, with no line about it."""
    found = memory.estimate(of, machine, tokens=1, device="gpu")
    assert found.largest_context is None
    assert "largest_context" not in found.formula


def test_what_the_engine_fixes_itself() -> None:
    """The cache that it sets aside and the share that it takes are its own, with its own words."""
    given = Memory(kv_gib=3.0, available_gib=22.0, least_gpus=4, formula={"kv_gib": "three", "available_gib": "0.92"})
    found = split(4, 1, given=given, overhead_gib=1.0)
    assert (found.kv_gib, found.available_gib, found.least_gpus) == (3.0, 22.0, 4)
    assert (found.formula["kv_gib"], found.formula["available_gib"]) == ("three", "0.92")
    assert found.total_gib == round(14.901 + 3 + 1, 3)


def test_the_type_of_the_cache() -> None:
    """Half the bytes of a number are half the cache."""
    assert split(1, 1, widths=Widths(8, 8)).kv_gib == 0.5
    assert split(1, 1, dtype="float32").kv_gib == 2.0


@pytest.mark.parametrize(
    ("of", "has", "overhead", "expected"),
    [
        pytest.param(LARGE, 64.0, 1.0, True, id="all-is-known-and-there-is-room"),
        pytest.param(LARGE, 61.0, 1.0, False, id="there-is-not"),
        pytest.param(LARGE, 64.0, None, False, id="a-tenth-is-left-for-what-is-not-known"),
        pytest.param(LARGE, 70.0, None, True, id="and-then-there-is-room"),
        pytest.param(LARGE, None, 1.0, None, id="the-memory-is-not-known"),
        pytest.param(spec("32"), 64.0, 1.0, None, id="the-cache-is-not-known"),
        pytest.param(spec("14", shape=QWEN, size_counts="active"), 64.0, 1.0, None, id="the-weights-are-not-known"),
        pytest.param(spec("32"), 50.0, 1.0, False, id="what-is-known-is-too-much"),
    ],
)
def test_holds(of: Spec, has: float | None, overhead: float | None, expected: bool | None) -> None:  # noqa: FBT001
    """It must be known, or too little for what is known."""
    assert memory.holds(of, memory.Demand(4096), has, overhead) is expected


def test_together() -> None:
    """GPUs add up; main memory is there once."""
    assert memory.together(FOUR, "gpu") == 96.0
    assert memory.together(msgspec.structs.replace(FOUR, memory_gib=64.0), "cpu") == 64.0
    assert memory.together(Hardware(profile="p"), "gpu") is None
