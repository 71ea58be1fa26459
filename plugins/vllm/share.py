"""What part of each GPU's memory vLLM takes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from xinfer.planning import memory, spread

if TYPE_CHECKING:
    from collections.abc import Mapping

    from xinfer.engines import Job

SHARE = 0.92
"""If it is not told (``config/cache.py``)."""


def of(settings: Mapping[str, Any]) -> float:
    """Return the share by the user's settings; all of it where the size of the cache is said instead."""
    if settings.get("kv_gib"):
        return 1.0
    return spread.share_of(settings, "gpu-memory-utilization", settings.get("gpu_memory"), SHARE)


def taken(job: Job) -> float | None:
    """Return what vLLM takes of one GPU, in GiB."""
    has = memory.available(job.hardware, "gpu")
    return None if has is None else has * of(job.settings)
