"""How large weights are: a file's own bytes, else counted weights times what each takes in the format."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from xinfer.planning import dimensions, mixture

if TYPE_CHECKING:
    from xinfer.catalog import Spec
    from xinfer.planning.dimensions import Count

# Bits per weight of whole GGUF files, measured on Llama-3.1-8B by llama.cpp (tools/quantize/README.md): some tensors
# stay in a wider type, so a file is larger than its block size says. The legacy types are the exact block sizes.
_GGUF_BITS = {
    "iq1_s": 2.0042, "iq1_m": 2.146, "iq2_xxs": 2.3824, "iq2_xs": 2.5882, "iq2_s": 2.7403, "iq2_m": 2.9294,
    "iq3_xxs": 3.2548, "iq3_xs": 3.4977, "iq3_s": 3.6606, "iq3_m": 3.7628, "iq4_xs": 4.4597, "iq4_nl": 4.6818,
    "q2_k_s": 2.9697, "q2_k": 3.1593, "q3_k_s": 3.6429, "q3_k_m": 3.996, "q3_k": 3.996, "q3_k_l": 4.2979,
    "q4_0": 4.5, "q4_1": 5.0, "q4_k_s": 4.6672, "q4_k_m": 4.8944, "q4_k": 4.8944,
    "q5_0": 5.5, "q5_1": 6.0, "q5_k_s": 5.5704, "q5_k_m": 5.7036, "q5_k": 5.7036,
    "q6_k": 6.5633, "q6": 6.5633, "q8_0": 8.5008, "fp16": 16.0005, "f16": 16.0005, "bf16": 16.0005, "f32": 32.0,
    "mxfp4": 4.25, "mxfp4_moe": 4.25, "nvfp4": 4.5, "tq1_0": 1.6875, "tq2_0": 2.0625,
}  # fmt: skip
# Scales and zero points: 16 + bits per group of 128 weights in GPTQ and AWQ; 32 bits per group of 64 in MLX, whose
# other modes have a scale of 8 bits for 32 weights (mxfp4, mxfp8) or for 16 (nvfp4).
_GROUPED_BITS = {"int3": 3.15, "int4": 4.16, "int8": 8.19, "8bits": 8.19}
_MLX_BITS = {
    **{f"{bits}{dash}bit": bits + 0.5 for bits in (2, 3, 4, 5, 6, 8) for dash in ("-", "")},
    "mxfp4": 4.25, "mxfp8": 8.25, "nvfp4": 4.5, "none": 16.0, "fp16": 16.0, "bf16": 16.0,
}  # fmt: skip
_TORCH_BITS = {"none": 16.0, "8-bit": 8.0, "4-bit": 4.0}
_BITS = {
    "ggufv2": _GGUF_BITS, "ggmlv3": _GGUF_BITS, "gptq": _GROUPED_BITS, "awq": _GROUPED_BITS,
    "mlx": _MLX_BITS, "pytorch": _TORCH_BITS, "fp8": {"fp8": 8.0}, "mxfp4": {"mxfp4": 4.25},
}  # fmt: skip
_WIDTHS = {"float32": 32.0, "bfloat16": 16.0, "float16": 16.0}
_ENDS_WIDE = {"gptq", "awq", "fp8", "pytorch"}
"""Formats that pack what is in layers alone: embedding and head keep numbers of their own."""
_PLAIN = {"pytorch", "mlx"}
"""Formats whose unquantized numbers may be loaded, or made here, in another type."""
_EXPERTS_ALONE = {"mxfp4", "mxfp4_moe"}
_EXPERTS_PACKED = {"mxfp4": 16.0, "ggufv2": 8.5}
"""What all but the experts take where only those are in mxfp4: llama.cpp's own converter writes it as Q8_0."""


class Weights(NamedTuple):
    """The size of an artefact's weights as an engine holds them, and how it came about."""

    bytes: float | None
    formula: str


def per_weight(spec: Spec) -> float | None:
    """Return how many bits one weight takes in the artefact; null where no figure is known."""
    return _BITS.get(spec.format or "", {}).get((spec.quantization or "").lower())


@lru_cache(maxsize=4096)
def weights(spec: Spec, dtype: str | None) -> Weights:
    """Return the size of the weights; ``dtype`` is what plain ones are loaded as, null leaves them as they are."""
    if spec.bytes is not None:
        return _of_files(spec, spec.bytes, dtype)
    bits, size = per_weight(spec), spec.weights_b
    if size is None:
        active = f"size {spec.size} counts the active parameters only"
        return Weights(None, f"not known: {active if spec.size else 'the catalogue has no record'}")
    if bits is None:
        return Weights(None, f"not known: no bits per weight for {spec.format} {spec.quantization}")
    plain = _WIDTHS.get(dtype or "", 16.0)
    bits = plain if _is_plain(spec) else bits
    counted = dimensions.count(spec)
    if counted is not None:
        return _of_parts(spec, counted, bits, plain)
    return Weights(size * 1e9 * bits / 8, f"{size:g}e9 parameters x {bits:g} bits / 8")


def _is_plain(spec: Spec) -> bool:
    return spec.format in _PLAIN and (spec.quantization or "").lower() == "none"


def _of_files(spec: Spec, size: int, dtype: str | None) -> Weights:
    """Return the files' own size; numbers of 32 bits that are loaded as 16, or the other way, take what they become."""
    width, number = _WIDTHS.get(dtype or ""), spec.weights_b
    if width is None or not _is_plain(spec) or not number:
        return Weights(size, f"the file's {size} bytes")
    stored = round(size * 8 / (number * 1e9) / 16) * 16
    if stored == width or stored not in _WIDTHS.values():
        return Weights(size, f"the file's {size} bytes")
    return Weights(size * width / stored, f"the file's {size} bytes x {width:g} / {stored}: loaded as {dtype}")


def _of_parts(spec: Spec, counted: Count, bits: float, plain: float) -> Weights:
    """Return what the parts of a network take together: a quantization is not the same for all of them."""
    quantization, total = (spec.quantization or "").lower(), counted.total
    each = f"{total / 1e9:.4g}e9 weights, counted from the network's dimensions"
    mixed = mixture.bits(spec.shape, counted, quantization) if spec.format == "ggufv2" else None
    if mixed is not None:
        return Weights(mixed / 8, f"{each}, x {mixed / total:.4g} bits / 8: llama.cpp's types, tensor by tensor")
    wide, rest, of = 0, plain, ""
    if quantization in _EXPERTS_ALONE and spec.format in _EXPERTS_PACKED and counted.experts:
        wide, rest, of = total - counted.experts, _EXPERTS_PACKED[spec.format], "that are no experts'"
    elif spec.format in _ENDS_WIDE and bits < plain:
        wide, of = counted.ends, "of embedding and head"
    if not wide:
        return Weights(total * bits / 8, f"{each}, x {bits:g} bits / 8")
    size = ((total - wide) * bits + wide * rest) / 8
    return Weights(size, f"{each}, x {bits:g} bits / 8, but {rest:g} bits for the {wide / 1e9:.3g}e9 {of}")
