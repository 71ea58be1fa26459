"""Over which GPUs one job's network is spread: as the user's flags say, else as few as hold it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from xinfer.planning import cache, memory, parallel
from xinfer.planning.parallel import Split

if TYPE_CHECKING:
    from collections.abc import Callable

    from xinfer.engines import Job
    from xinfer.planning.cache import Place
    from xinfer.planning.parallel import Splits

FLAGS = (("tensor-parallel-size", "tp-size", "tp"), ("pipeline-parallel-size", "pp-size", "pp"))
"""What vLLM and SGLang call the GPUs that share each layer, and the stages."""


class Spread(NamedTuple):
    """A split, and who says it."""

    split: Split
    is_own: bool = False
    """Whether the user's own flags do."""


ALONE = Spread(Split(1, "one GPU"))


def spread(
    job: Job,
    splits: Splits,
    dtype: str | None,
    *,
    has_gib: float | None,
    overhead_gib: Callable[[Place], float | None] = lambda _: None,
) -> Spread:
    """Return the split of a job's network; ConfigError where the user's own flags are illegal.

    ``has_gib`` is what the engine takes of one GPU, ``overhead_gib`` what it needs there beside weights and cache.
    """
    shape, gpus, args = job.spec.shape, job.hardware.gpus, flags_of(job)
    own = parallel.asked(shape, None if "nnodes" in args else gpus, splits, args, FLAGS)
    if own is not None:
        return Spread(own, is_own=True)
    kept = cache.widths(cache.words(args), dtype)

    def holds(place: Place) -> bool | None:
        demand = memory.Demand(job.context_length, job.workload.concurrency, dtype, kept, place)
        return memory.holds(job.spec, demand, has_gib, overhead_gib(place))

    return Spread(parallel.choose(shape, gpus or 1, splits, holds))


def flags_of(job: Job) -> dict[str, object]:
    """Return the user's own flags, spelt as engines spell them."""
    return {str(name).replace("_", "-"): value for name, value in (job.settings.get("args") or {}).items()}


def share_of(job: Job, flag: str, asked: float | None, otherwise: float) -> float:
    """Return the share of a GPU's memory that an engine takes: by its flag, its setting, or its own default."""
    given = flags_of(job).get(flag, asked)
    return float(given) if isinstance(given, (int, float)) and not isinstance(given, bool) else otherwise
