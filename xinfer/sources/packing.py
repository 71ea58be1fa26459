"""How a model's numbers are stored: its format and quantization, in the catalogue's words."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from xinfer.sources.safetensors import Tensor

_MOST_BITS = 16
_WORD = {"I32": 32, "U32": 32, "I64": 64, "U8": 8, "I16": 16}
"""Bits of the words that several weights are packed into."""
_PACKED = (".qweight", ".weight_packed")
_BESIDE = (
    *(".qzeros", ".scales", ".biases", ".g_idx", ".weight_scale", ".weight_zero_point", ".weight_shape"),
    *(".weight_g_idx", ".weight_global_scale", ".input_scale", ".input_global_scale", ".SCB", ".weight_format"),
)
"""Endings of what is stored beside packed weights, and is no weight itself."""
_FILES = {"quantize_config.json": "gptq", "quant_config.json": "awq", "hf_quant_config.json": "modelopt"}
"""Where older tools wrote what is in ``quantization_config`` today, and which tool did."""


class Packing(msgspec.Struct, frozen=True, kw_only=True):
    """How numbers are stored."""

    format: str | None
    quantization: str | None
    bits: int | None = None
    """Of one weight where several share a word; null where each has its own."""
    others: dict[str, int] = {}
    """Layers whose weights have other bits."""
    is_countable: bool = True
    """Whether the tensors' shapes tell how many weights there are."""
    note: str | None = None

    @property
    def is_plain(self) -> bool:
        """Tell whether each weight is one element of a tensor."""
        return self.is_countable and self.bits is None


def sidecar(names: Collection[str]) -> str | None:
    """Return which of a folder's files may say what ``config.json`` does not."""
    return next((name for name in _FILES if name in names), None)


def of(config: Mapping[str, Any], *, framework: str | None, beside: tuple[str, Mapping[str, Any]] | None) -> Packing:
    """Tell the packing from ``config.json``, from whose layout the weights are, and from a file ``beside``."""
    mlx = config.get("quantization")
    if isinstance(mlx, dict) and "bits" in mlx:
        return _mlx(mlx)
    inner = config.get("text_config")
    said = config.get("quantization_config") or config.get("compression_config")
    if said is None and isinstance(inner, dict):
        said = inner.get("quantization_config")
    if isinstance(said, dict):
        return _quantized(said, str(said.get("quant_method", "")).lower())
    if beside is not None:
        name, content = beside
        return _quantized(content, _FILES[name])
    return Packing(format="mlx" if framework == "mlx" else "pytorch", quantization="none")


def parameters(tensors: Mapping[str, Tensor], packing: Packing) -> int | None:
    """Count the weights of all tensors, unpacked; null where their shapes do not tell."""
    if not packing.is_countable:
        return None
    if packing.bits is None:
        return sum(tensor.elements for tensor in tensors.values())
    total = Fraction(0)
    for name, tensor in tensors.items():
        if not name.endswith(_BESIDE) and ".weight." not in name:  # where bitsandbytes keeps its scales
            total += tensor.elements * _weights_per_element(name, tensor, tensors, packing)
    return int(total)


def _weights_per_element(name: str, tensor: Tensor, tensors: Mapping[str, Tensor], packing: Packing) -> Fraction:
    layer = name.rpartition(".")[0]
    is_packed = name.endswith(_PACKED) or f"{layer}.scales" in tensors or f"{name}.absmax" in tensors
    if not is_packed or not name.endswith((*_PACKED, ".weight")) or tensor.dtype not in _WORD:
        return Fraction(1)
    return Fraction(_WORD[tensor.dtype], packing.others.get(layer) or packing.bits or 1)


def _mlx(said: Mapping[str, Any]) -> Packing:
    """Read MLX's own ``quantization``; it may hold other bits for some layers, by their names."""
    bits, mode = _bits(said), said.get("mode", "affine")
    others = {name: found for name, own in said.items() if isinstance(own, dict) and (found := _bits(own))}
    if bits is None:
        return Packing(format="mlx", quantization=None, is_countable=False, note="its quantization says no bits")
    word = f"{bits}-bit" if mode == "affine" else str(mode)
    return Packing(format="mlx", quantization=word, bits=bits, others=others)


def _quantized(said: Mapping[str, Any], method: str) -> Packing:
    """Read what a tool for quantization wrote down."""
    bits = _bits(said)
    if method in ("gptq", "awq") and bits:
        return Packing(format=method, quantization=f"Int{bits}", bits=bits, is_countable=not said.get("dynamic"))
    if method in ("fp8", "fbgemm_fp8"):
        return Packing(format="fp8", quantization="fp8")
    if method == "compressed-tensors":
        return _compressed(said)
    if method == "bitsandbytes":
        width = 4 if said.get("load_in_4bit") else 8
        return Packing(format="pytorch", quantization=f"{width}-bit", bits=width)
    if method == "mxfp4":
        return Packing(format="mxfp4", quantization="mxfp4", is_countable=False)
    note = f"what {method} makes of the weights is not known here" if method else "its quant_method is not said"
    return Packing(format=method or None, quantization=f"Int{bits}" if bits else None, is_countable=False, note=note)


def _compressed(said: Mapping[str, Any]) -> Packing:
    """Read the groups of compressed-tensors: one kind of number, or several."""
    groups = said.get("config_groups")
    kinds = {
        (weights.get("type"), _bits(weights))
        for group in (groups.values() if isinstance(groups, dict) else ())
        if isinstance(group, dict) and isinstance(weights := group.get("weights"), dict)
    }
    kind, bits = kinds.pop() if len(kinds) == 1 else (None, None)
    if (kind, bits) == ("float", 8):
        return Packing(format="fp8", quantization="fp8")
    if kind not in ("int", "float") or bits is None:
        note = "its compressed-tensors groups do not all have one kind of number"
        return Packing(format="compressed-tensors", quantization=None, is_countable=False, note=note)
    word = f"Int{bits}" if kind == "int" else f"fp{bits}"
    return Packing(format="compressed-tensors", quantization=word, bits=bits)


def _bits(said: Mapping[str, Any]) -> int | None:
    for name in ("bits", "w_bit", "num_bits", "weight_bits"):
        value = said.get(name)
        if isinstance(value, int) and not isinstance(value, bool) and 0 < value <= _MOST_BITS:
            return value
    return None
