"""How much memory an artefact needs on a machine: weights, key-value cache, overhead; each with its formula.

A part that cannot be known is null, never zero. ``fits`` is false as soon as the known parts alone
exceed what is available, and true only when every part is known.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from xinfer.plan import Memory

if TYPE_CHECKING:
    from xinfer.catalog import Spec
    from xinfer.facts import Hardware

GIB = 1024**3
Device = Literal["cpu", "gpu"]

# Bits per weight of whole GGUF files, measured on Llama-3.1-8B by llama.cpp (tools/quantize/README.md): some tensors
# stay in a wider type, so a file is larger than its block size says. The legacy types are the exact block sizes.
_GGUF_BITS = {
    "iq1_m": 2.146, "iq2_xxs": 2.3824, "iq2_xs": 2.5882, "iq2_s": 2.7403, "iq2_m": 2.9294, "iq3_xxs": 3.2548,
    "iq3_xs": 3.4977, "iq3_s": 3.6606, "iq3_m": 3.7628, "iq4_xs": 4.4597, "iq4_nl": 4.6818,
    "q2_k_s": 2.9697, "q2_k": 3.1593, "q3_k_s": 3.6429, "q3_k_m": 3.996, "q3_k": 3.996, "q3_k_l": 4.2979,
    "q4_0": 4.5, "q4_1": 5.0, "q4_k_s": 4.6672, "q4_k_m": 4.8944, "q4_k": 4.8944,
    "q5_0": 5.5, "q5_1": 6.0, "q5_k_s": 5.5704, "q5_k_m": 5.7036, "q5_k": 5.7036,
    "q6_k": 6.5633, "q6": 6.5633, "q8_0": 8.5008, "fp16": 16.0005, "bf16": 16.0005, "f32": 32.0,
}  # fmt: skip
# Scales and zero points: 16 + bits per group of 128 weights in GPTQ and AWQ; 32 bits per group of 64 in MLX.
_GROUPED_BITS = {"int3": 3.15, "int4": 4.16, "int8": 8.19, "8bits": 8.19}
_MLX_BITS = {"4-bit": 4.5, "4bit": 4.5, "8-bit": 8.5, "8bit": 8.5, "none": 16.0}
_TORCH_BITS = {"none": 16.0, "8-bit": 8.0, "4-bit": 4.0}
_BITS = {
    "ggufv2": _GGUF_BITS, "ggmlv3": _GGUF_BITS, "gptq": _GROUPED_BITS, "awq": _GROUPED_BITS,
    "mlx": _MLX_BITS, "pytorch": _TORCH_BITS, "fp8": {"fp8": 8.0},
}  # fmt: skip


def bits_per_weight(spec: Spec) -> float | None:
    """Return how many bits one weight takes in the artefact; null where no figure is known."""
    return _BITS.get(spec.format or "", {}).get((spec.quantization or "").lower())


def available(hardware: Hardware, device: Device) -> float | None:
    """Return the memory the model may use, in GiB: all GPUs together, or main memory."""
    if device == "cpu" or hardware.gpu.vendor == "apple":
        return hardware.memory_gib
    if hardware.gpu.memory_gib is None or hardware.gpus is None:
        return None
    return hardware.gpu.memory_gib * hardware.gpus


def device_of(hardware: Hardware) -> Device:
    """Return where a model runs when nothing else decides: on the GPUs if there are any."""
    return "gpu" if hardware.gpus else "cpu"


def estimate(
    spec: Spec,
    hardware: Hardware,
    *,
    tokens: int,
    device: Device,
    dtype: str | None = None,
    overhead_gib: float | None = None,
    overhead_why: str = "not measured for this engine",
) -> Memory:
    """Estimate the memory for ``tokens`` tokens of key-value cache over all sequences.

    The cache takes 16 bits for each number, or 32 where the network is computed in float32.
    """
    formula: dict[str, str] = {}
    weights = _weights(spec, dtype, formula)
    width = 4 if dtype == "float32" else 2
    per_token = spec.shape.kv_bytes_per_token
    kv = None if per_token is None else per_token * tokens * width / 2 / GIB
    shape = spec.shape
    formula["kv_gib"] = (
        f"2 x {shape.layers} layers x {shape.kv_heads} kv heads x {shape.head_dim} x {width} bytes x {tokens} tokens"
        if kv is not None
        else "not known: the network's layers, kv heads or head size are not published"
    )
    formula["overhead_gib"] = overhead_why
    has = available(hardware, device)
    gpu = hardware.gpu.name or "GPU"
    where = "main memory" if device == "cpu" else gpu if hardware.gpus is None else f"{hardware.gpus} x {gpu}"
    formula["available_gib"] = where if has is not None else f"not known for {where}"
    parts = (weights, kv, overhead_gib)
    known = sum(part for part in parts if part is not None)
    total = None if None in parts else known
    fits = None if has is None else False if known > has else None if total is None else True
    return Memory(
        weights_gib=_rounded(weights), kv_gib=_rounded(kv), overhead_gib=_rounded(overhead_gib),
        total_gib=_rounded(total), available_gib=_rounded(has), fits=fits, formula=formula,
    )  # fmt: skip


def _weights(spec: Spec, dtype: str | None, formula: dict[str, str]) -> float | None:
    if spec.bytes is not None:
        formula["weights_gib"] = f"the file's {spec.bytes} bytes"
        return spec.bytes / GIB
    bits, size = bits_per_weight(spec), spec.parameters_b
    if bits == _TORCH_BITS["none"] and dtype == "float32":
        bits *= 2
    if size is None:
        active = f"size {spec.size} counts the active parameters only"
        formula["weights_gib"] = f"not known: {active if spec.size else 'the catalogue has no record'}"
        return None
    if bits is None:
        formula["weights_gib"] = f"not known: no bits per weight for {spec.format} {spec.quantization}"
        return None
    formula["weights_gib"] = f"{size:g}e9 parameters x {bits:g} bits / 8"
    return size * 1e9 * bits / 8 / GIB


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)
