"""What SGLang leaves of a GPU for activations and CUDA graphs: its own rule, from ``arg_groups/memory_hook.py`` 0.5.23.

It holds for a plan's flags: one prompt is computed in chunks of its default size, and nothing else is switched on. Its
floor of 10 GiB on GPUs of more than 60 is less than what they get by the rule anyway.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from xinfer.planning.cache import Place


class Tier(NamedTuple):
    """What SGLang chooses for GPUs of some size."""

    below_gib: float
    chunk: int
    """Tokens of a prompt that are computed at once."""
    batch: int
    """The largest batch that a graph is captured for, on fewer than four GPUs."""
    batch_of_four: int


TIERS = (
    Tier(20, 2048, 8, 8),
    Tier(35, 4096, 48, 160),
    Tier(60, 4096, 32, 160),
    Tier(160, 8192, 256, 512),
    Tier(float("inf"), 16384, 512, 512),
)
_GRAPHS = {2048: 42, 4096: 50, 8192: 58, 16384: 74}
"""Sizes of prompts that graphs are captured for, up to a chunk."""
_MANY = 4


def reserve_mib(gpu_gib: float, place: Place, slots: int | None, *, is_latent: bool) -> tuple[float, str]:
    """Return the MiB that are left of each GPU, and their formula; ``slots`` is the most that is served at once."""
    tier = next(tier for tier in TIERS if gpu_gib < tier.below_gib)
    batch = tier.batch if place.tensor < _MANY else tier.batch_of_four
    batch = min(batch, slots or batch)
    graphs = 2 * batch + (1536 if is_latent else 8 * _GRAPHS[tier.chunk])
    gpus = place.tensor * place.stages
    found = 512 + 1.5 * tier.chunk + 1024 * gpus / 8 + graphs
    return found, f"512 + 1.5 x {tier.chunk} + 1024 x {gpus} / 8 + {graphs} of graphs"
