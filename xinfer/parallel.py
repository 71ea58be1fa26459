"""Over how many GPUs a network can be split, by the checks that vLLM and SGLang make."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from xinfer.catalog import Shape


def is_legal(shape: Shape, tensor_parallel: int) -> bool | None:
    """Say whether a network may be split this way; null when its head counts are not known.

    Attention heads must divide evenly; key-value heads must divide evenly too, or be copied evenly
    (vLLM ``config/model.py`` and ``models/llama.py``, SGLang ``srt/models/llama.py``).
    """
    if tensor_parallel == 1:
        return True
    if shape.heads is None:
        return None
    if shape.heads % tensor_parallel:
        return False
    if shape.kv_heads is None:
        return None
    larger, smaller = max(shape.kv_heads, tensor_parallel), min(shape.kv_heads, tensor_parallel)
    return larger % smaller == 0


def tensor_parallel(shape: Shape, gpus: int) -> tuple[int, str]:
    """Return the largest legal split over at most ``gpus``, and the reason in words."""
    kv = "unknown" if shape.kv_heads is None else shape.kv_heads
    heads = f"{shape.heads} heads and {kv} kv heads"
    if is_legal(shape, gpus):
        return gpus, f"all {gpus} GPUs; {heads} split evenly" if gpus > 1 else "one GPU"
    split = next(fewer for fewer in range(gpus - 1, 0, -1) if is_legal(shape, fewer))
    why = f"{heads} do not split over {gpus} GPUs" if is_legal(shape, gpus) is False else "head counts not known"
    return split, f"{why}; {split} is the largest number that is known to be legal"
