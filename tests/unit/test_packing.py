"""How numbers are stored is told in the catalogue's words, and weights are counted unpacked."""

from __future__ import annotations

from typing import Any

import pytest

from xinfer.sources import packing
from xinfer.sources.packing import Packing
from xinfer.sources.safetensors import Tensor

GROUP = {"weights": {"num_bits": 4, "type": "int"}}


def of(
    config: dict[str, Any], framework: str | None = "pt", beside: tuple[str, dict[str, Any]] | None = None
) -> Packing:
    return packing.of(config, framework=framework, beside=beside)


def quantized(**said: Any) -> dict[str, Any]:
    return {"quantization_config": said}


def compressed(*groups: Any) -> dict[str, Any]:
    return quantized(quant_method="compressed-tensors", config_groups={str(n): group for n, group in enumerate(groups)})


def tensors(**lines: tuple[str, list[int]]) -> dict[str, Tensor]:
    return {name.replace("__", "."): Tensor(dtype, tuple(shape), (0, 0)) for name, (dtype, shape) in lines.items()}


@pytest.mark.parametrize(
    ("config", "found"),
    [
        pytest.param({}, ("pytorch", "none"), id="nothing-is-said"),
        pytest.param(quantized(quant_method="gptq", bits=4), ("gptq", "Int4"), id="gptq"),
        pytest.param(quantized(quant_method="gptq", bits=8), ("gptq", "Int8"), id="gptq-8"),
        pytest.param(quantized(quant_method="AWQ", bits=4), ("awq", "Int4"), id="awq-in-capitals"),
        pytest.param(quantized(quant_method="awq", w_bit=4), ("awq", "Int4"), id="awq's-older-word"),
        pytest.param(quantized(quant_method="fp8", activation_scheme="static"), ("fp8", "fp8"), id="fp8"),
        pytest.param(quantized(quant_method="fbgemm_fp8"), ("fp8", "fp8"), id="fbgemm"),
        pytest.param(quantized(quant_method="bitsandbytes", load_in_4bit=True), ("pytorch", "4-bit"), id="bnb-4"),
        pytest.param(quantized(quant_method="bitsandbytes", load_in_8bit=True), ("pytorch", "8-bit"), id="bnb-8"),
        pytest.param(quantized(quant_method="mxfp4"), ("mxfp4", "mxfp4"), id="mxfp4"),
        pytest.param(compressed(GROUP), ("compressed-tensors", "Int4"), id="compressed-integers"),
        pytest.param(compressed(GROUP, GROUP), ("compressed-tensors", "Int4"), id="groups-that-agree"),
        pytest.param(compressed({"weights": {"num_bits": 8, "type": "float"}}), ("fp8", "fp8"), id="compressed-fp8"),
        pytest.param(
            compressed({"weights": {"num_bits": 4, "type": "float"}}), ("compressed-tensors", "fp4"), id="floats-of-4"
        ),
        pytest.param({"compression_config": compressed(GROUP)["quantization_config"]},
                     ("compressed-tensors", "Int4"), id="its-older-key"),
        pytest.param({"text_config": quantized(quant_method="awq", bits=4)}, ("awq", "Int4"), id="language-part"),
        pytest.param({"text_config": 1}, ("pytorch", "none"), id="a-language-part-that-is-none"),
        pytest.param({"quantization": {"group_size": 64, "bits": 4}}, ("mlx", "4-bit"), id="mlx"),
        pytest.param(
            {"quantization": {"bits": 4, "mode": "mxfp4"}, **quantized(bits=4)}, ("mlx", "mxfp4"), id="mlx-twice"
        ),
        pytest.param(quantized(quant_method="hqq", bits=3), ("hqq", "Int3"), id="another-tool"),
    ],
)  # fmt: skip
def test_a_configuration_tells_the_packing(config: dict[str, Any], found: tuple[str, str]) -> None:
    """In the words by which a user chooses."""
    packed = of(config)
    assert (packed.format, packed.quantization) == found


@pytest.mark.parametrize(
    ("config", "note"),
    [
        pytest.param(quantized(quant_method="gptq"), "what gptq makes of the weights is not known here", id="no-bits"),
        pytest.param(quantized(quant_method="gptq", bits=True), "what gptq makes of", id="bits-that-are-none"),
        pytest.param(quantized(quant_method="quark"), "what quark makes of the weights", id="an-unknown-tool"),
        pytest.param(quantized(bits=4), "its quant_method is not said", id="no-tool"),
        pytest.param(compressed(), "do not all have one kind of number", id="no-groups"),
        pytest.param(compressed(GROUP, {"weights": {"num_bits": 8, "type": "int"}}), "do not all", id="two-kinds"),
        pytest.param(compressed({"weights": {"type": "int"}}, 7), "do not all", id="a-group-that-is-none"),
        pytest.param(quantized(quant_method="compressed-tensors", config_groups=7), "do not all", id="no-mapping"),
        pytest.param({"quantization": {"bits": "4"}}, "its quantization says no bits", id="mlx-without-bits"),
    ],
)  # fmt: skip
def test_what_is_not_known_is_null_and_explained(config: dict[str, Any], note: str) -> None:
    """The number of weights is not guessed either."""
    packed = of(config)
    assert packed.note is not None
    assert note in packed.note
    assert not packed.is_plain
    assert packing.parameters(tensors(a=("I32", [8])), packed) is None


def test_a_layout_of_mlx_without_quantization_is_mlx() -> None:
    """The weights' own file says whose it is."""
    assert of({}, framework="mlx") == Packing(format="mlx", quantization="none")
    assert of({}, framework=None) == Packing(format="pytorch", quantization="none")


@pytest.mark.parametrize(
    ("name", "content", "found"),
    [
        pytest.param("quantize_config.json", {"bits": 4}, ("gptq", "Int4"), id="autogptq"),
        pytest.param("quant_config.json", {"w_bit": 4}, ("awq", "Int4"), id="autoawq"),
        pytest.param("hf_quant_config.json", {"quantization": {}}, ("modelopt", None), id="modelopt"),
    ],
)
def test_older_tools_wrote_a_file_of_their_own(name: str, content: dict[str, Any], found: tuple[str, str]) -> None:
    """It is asked only where the configuration is silent."""
    assert packing.sidecar({"config.json": 1, name: 2}) == name
    packed = of({}, beside=(name, content))
    assert (packed.format, packed.quantization) == found
    assert of(quantized(quant_method="fp8"), beside=(name, content)).format == "fp8"


def test_most_models_have_no_such_file() -> None:
    """Then there is nothing beside the configuration."""
    assert packing.sidecar({"config.json": 1}) is None


@pytest.mark.parametrize(
    ("config", "lines", "parameters"),
    [
        pytest.param({}, {"a__weight": ("BF16", [4, 8]), "b__bias": ("BF16", [8])}, 40, id="each-its-own-element"),
        pytest.param(
            quantized(quant_method="fp8"),
            {"a__weight": ("F8_E4M3", [4, 8]), "a__weight_scale_inv": ("F32", [1])},
            33,
            id="fp8-as-the-hub-counts-it",
        ),
        pytest.param(
            quantized(quant_method="gptq", bits=4),
            {
                "a__qweight": ("I32", [1, 4]), "a__qzeros": ("I32", [1, 1]), "a__scales": ("F16", [1, 4]),
                "a__g_idx": ("I32", [8]), "a__bias": ("F16", [4]), "n__weight": ("F16", [6]),
            },
            32 + 4 + 6,
            id="gptq",
        ),
        pytest.param(
            quantized(quant_method="gptq", bits=3), {"a__qweight": ("I32", [3, 1])}, 32, id="gptq-over-words"
        ),
        pytest.param(
            {"quantization": {"group_size": 64, "bits": 4, "b": {"bits": 8}, "c": False}},
            {
                "a__weight": ("U32", [2, 1]), "a__scales": ("F16", [2]), "a__biases": ("F16", [2]),
                "b__weight": ("U32", [2, 1]), "b__scales": ("F16", [2]), "a__bias": ("F16", [2]),
                "n__weight": ("F16", [6]),
            },
            16 + 8 + 2 + 6,
            id="mlx-with-a-layer-of-its-own",
        ),
        pytest.param(
            quantized(quant_method="bitsandbytes", load_in_4bit=True),
            {
                "a__weight": ("U8", [16, 1]), "a__weight__absmax": ("U8", [1]), "a__weight__quant_map": ("F32", [16]),
                "n__weight": ("F16", [6]),
            },
            32 + 6,
            id="bitsandbytes-4",
        ),
        pytest.param(
            quantized(quant_method="bitsandbytes", load_in_8bit=True),
            {"a__weight": ("I8", [4, 8]), "a__SCB": ("F32", [4]), "a__weight_format": ("U8", [])},
            32,
            id="bitsandbytes-8",
        ),
        pytest.param(
            compressed(GROUP),
            {"a__weight_packed": ("I32", [1, 4]), "a__weight_scale": ("F16", [4]), "a__weight_shape": ("I64", [2])},
            32,
            id="compressed-tensors",
        ),
        pytest.param(quantized(quant_method="gptq", bits=4, dynamic={"-:b": {}}), {"a": ("F16", [4])}, None, id="mix"),
    ],
)  # fmt: skip
def test_weights_are_counted_as_the_network_has_them(
    config: dict[str, Any], lines: dict[str, tuple[str, list[int]]], parameters: int | None
) -> None:
    """Scales and zero points are none, and a word holds several."""
    assert packing.parameters(tensors(**lines), of(config)) == parameters
