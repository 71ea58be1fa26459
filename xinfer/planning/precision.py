"""What a network is computed in: the user's word, else what its files and the machine are made for."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from xinfer.errors import ConfigError

if TYPE_CHECKING:
    from xinfer.catalog import Spec
    from xinfer.facts import Hardware

BFLOAT16_SINCE = (8, 0)
"""The first of NVIDIA's compute capabilities that computes in bfloat16 (vLLM ``platforms/cuda.py``)."""


class Precision(NamedTuple):
    """A type of numbers, and the reason for it."""

    dtype: str | None
    """float32, bfloat16 or float16; null leaves it to the artefact's own files."""
    why: str


def choose(asked: str | None, spec: Spec, hardware: Hardware) -> Precision:
    """Return what to compute in; ConfigError for what the GPU does not have."""
    lack = _lack(hardware)
    if asked == "bfloat16" and lack:
        raise ConfigError(f"dtype=bfloat16: {lack}; say dtype=float16")
    if asked:
        return Precision(asked, f"dtype={asked}")
    if lack:
        return Precision("float16", lack)
    if spec.format != "pytorch":
        return Precision(None, f"the {spec.format or 'unpublished'} files say what goes with their weights")
    if hardware.gpus != 0 and hardware.gpu.vendor == "nvidia" and hardware.gpu.compute_capability is None:
        return Precision(None, "whether the GPU has bfloat16 is not known: the weights' own type, if it can")
    return Precision("bfloat16", "half the memory of float32, which is what decoding waits for")


def _lack(hardware: Hardware) -> str:
    """Say why there is no bfloat16; an empty string where there is, or may be."""
    capability = hardware.gpu.compute_capability if hardware.gpus != 0 else None
    if capability is None or tuple(map(int, capability.split("."))) >= BFLOAT16_SINCE:
        return ""
    return f"bfloat16 needs compute capability 8.0; this GPU has {capability}"
