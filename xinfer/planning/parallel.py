"""Over how many GPUs a network can be split, by the checks that vLLM and SGLang make, and over how many CPU threads."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from xinfer.catalog import Shape
    from xinfer.facts import Hardware


class Split(NamedTuple):
    """How a network lies on the GPUs of one machine."""

    tensor: int
    """The GPUs that share each layer."""
    tensor_why: str
    stages: int = 1
    """The groups of such GPUs that the layers are dealt to."""
    stages_why: str = ""


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


def split(shape: Shape, gpus: int, *, in_stages: bool) -> Split:
    """Return the split that uses most GPUs, and among those the one with fewest stages: a token passes one by one.

    ``in_stages`` says whether the engine can deal this network's layers to several groups of GPUs.
    """
    tensor, why = tensor_parallel(shape, gpus)
    legal = [width for width in range(1, gpus + 1) if is_legal(shape, width)]
    width = max(legal, key=lambda width: (width * (gpus // width), width))
    stages = gpus // width
    if not in_stages or stages == 1 or is_legal(shape, gpus) is None or (shape.layers or 0) < stages:
        return Split(tensor, why)
    dealt = f"{stages} stages of {width} use {stages * width} of {gpus} GPUs: one stage cannot"
    return Split(width, f"{shape.heads} heads and {shape.kv_heads} kv heads split evenly over {width}", stages, dealt)


def free_threads(hardware: Hardware, asked: int | None) -> tuple[int | None, str]:
    """Return how many threads compute on a CPU, and the reason: one for each core but the load client's.

    More than that collapse: OpenMP's threads spin at barriers, and so stop the one that they wait for.
    """
    if asked:
        return asked, "engine.threads"
    if hardware.cores is None:
        return None, "the number of cores is not known"
    if hardware.cores == 1:
        return 1, "one core, which the load client shares"
    return hardware.cores - 1, f"{hardware.cores} cores, of which the load client keeps one"
