"""Over which GPUs one job's network is spread: as the user's flags say, else as few as hold it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from xinfer.errors import ConfigError
from xinfer.planning import cache, memory, parallel
from xinfer.planning.parallel import Split

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from xinfer.engines import Job
    from xinfer.planning.cache import Place
    from xinfer.planning.parallel import Splits

FLAGS = (("tensor-parallel-size", "tp-size", "tp"), ("pipeline-parallel-size", "pp-size", "pp"))
"""What vLLM and SGLang call the GPUs that share each layer, and the stages."""


PLANNED = ("nnodes", "node-rank", "master-addr", "dist-init-addr", "headless", "distributed-executor-backend")
"""Flags of machines that serve together, in vLLM's words and SGLang's."""


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
    shape, gpus, nodes, args = job.spec.shape, job.hardware.gpus, job.hardware.nodes, flags_of(job.settings)
    _check_own(args, nodes)
    total = None if gpus is None or "nnodes" in args else gpus * nodes
    own = parallel.asked(shape, total, splits, args, FLAGS, nodes)
    if own is not None:
        return Spread(own, is_own=True)
    kept = cache.widths(cache.words(args), dtype)

    def holds(place: Place) -> bool | None:
        demand = memory.Demand(job.context_length, job.workload.concurrency, dtype, kept, place)
        return memory.holds(job.spec, demand, has_gib, overhead_gib(place))

    if nodes > 1:
        return Spread(parallel.choose_across(shape, gpus or 1, nodes, splits, holds))
    return Spread(parallel.choose(shape, gpus or 1, splits, holds))


def _check_own(args: Mapping[str, object], nodes: int) -> None:
    """Refuse flags that say how machines find each other where the plan itself does."""
    for flag in PLANNED if nodes > 1 else ():
        if flag in args:
            raise ConfigError(f"engine.args.{flag}: hw.nodes= and hw.head= set this flag; leave it out")


def flags_of(settings: Mapping[str, Any]) -> dict[str, object]:
    """Return the user's own flags, spelt as engines spell them; none of what is no mapping, which planning refuses."""
    args = settings.get("args")
    return {str(name).replace("_", "-"): value for name, value in args.items()} if isinstance(args, dict) else {}


def share_of(settings: Mapping[str, Any], flag: str, asked: float | None, otherwise: float) -> float:
    """Return the share of a GPU's memory that an engine takes: by its flag, its setting, or its own default."""
    given = flags_of(settings).get(flag, asked)
    return float(given) if isinstance(given, (int, float)) and not isinstance(given, bool) else otherwise
