"""Reasons not to believe a run: each is computed, and says what was found and what would have been allowed."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from typing import TYPE_CHECKING

import msgspec

from xinfer.machine.disturbance import OTHERS_SHARE, STOLEN_SHARE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from xinfer.measuring.samples import Run, Sample, Samples
    from xinfer.measuring.usage import Resources
    from xinfer.spec import Workload

PROMPT_DEVIATION = 0.01
CACHE_SHARE = 0.01
CLIENT_SHARE = 0.7
"""Of a core, for one worker."""
LAG_SHARE = 0.1
"""Of the median time per token: how late a worker may look at what has come, in 99 of 100 cases."""
LAG_S = 0.001
"""What is less is no sign of a busy client: a system that wakes a sleeping process may take as long."""
CAPACITY = 5
"""How many times the run's tokens per second the client must be able to take."""
LOAD_PER_CORE = 0.3
REQUESTS = 30
REQUESTS_PER_PLACE = 4
HELD_SHARE = 0.001
SPARE_CORES = 0.1
"""What a server's threads that do not compute, such as that of its HTTP, may take of the client's core."""


class Flag(msgspec.Struct, frozen=True, kw_only=True):
    """One reason; a flagged run is shown, and is not ranked."""

    id: str
    value: float
    limit: float
    text: str


def flags(
    samples: Samples, workload: Workload, *, load_per_core: float | None = None, used: Resources | None = None
) -> tuple[Flag, ...]:
    """Return every reason that holds.

    ``load_per_core`` is the machine's load average over one minute before the engine was started,
    divided by its cores; null where that was not read. ``used`` is what was seen of the machine meanwhile.
    """
    sent = samples.measured
    fine = [sample for sample in sent if sample.error is None]
    return (
        *_failed(sent),
        *_lengths(fine),
        *_prompts(fine),
        *_caches(fine, workload.shared_prefix),
        *_uncounted(fine),
        *_client(samples.run, fine),
        *_amount(samples.run, fine, workload),
        *of_machine(used, load_per_core),
        *(_sharing(samples, used) if used else ()),
    )


def of_machine(used: Resources | None, load_per_core: float | None = None) -> tuple[Flag, ...]:
    """Return the reasons that the machine alone gives, whoever sent the load."""
    return (*_noise(load_per_core, used), *(_throttling(used) if used else ()))


def _failed(sent: tuple[Sample, ...]) -> Iterator[Flag]:
    errors = Counter(sample.error for sample in sent if sample.error is not None)
    if errors:
        count = errors.total()
        kinds = ", ".join(f"{kind} ({n})" for kind, n in errors.most_common())
        yield Flag(id="failed", value=count, limit=0, text=f"{count} of {len(sent)} requests failed: {kinds}")


def _lengths(fine: list[Sample]) -> Iterator[Flag]:
    def differs(sample: Sample) -> bool:
        counted = sample.completion_tokens
        return (counted is not None and counted != sample.completion_asked) or sample.finish_reason != "length"

    wrong = [sample for sample in fine if differs(sample)]
    if wrong:
        one = wrong[0]
        text = (
            f"{len(wrong)} of {len(fine)} replies are not of the length that was asked for: request {one.index} "
            f"has {one.completion_tokens} of {one.completion_asked} tokens, finish_reason {one.finish_reason}"
        )
        yield Flag(id="osl_mismatch", value=len(wrong), limit=0, text=text)


def _prompts(fine: list[Sample]) -> Iterator[Flag]:
    def deviation(sample: Sample) -> float:
        asked = sample.prompt_tokens_asked
        return 0.0 if sample.prompt_tokens is None else abs(sample.prompt_tokens - asked) / asked

    worst = max(fine, key=deviation, default=None)
    if worst is not None and deviation(worst) > PROMPT_DEVIATION:
        text = f"the server read {worst.prompt_tokens} prompt tokens where {worst.prompt_tokens_asked} were asked for"
        yield Flag(id="isl_mismatch", value=deviation(worst), limit=PROMPT_DEVIATION, text=text)


def _caches(fine: list[Sample], shared_prefix: float) -> Iterator[Flag]:
    """What all prompts begin with may come from a cache, and nothing else."""

    def sizes(sample: Sample) -> tuple[int, int]:
        shared = int(sample.prompt_tokens_asked * shared_prefix)
        read = sample.prompt_tokens or sample.prompt_tokens_asked
        return max(0, (sample.cached_tokens or 0) - shared), read - shared

    cached, own = (sum(column) for column in zip((0, 0), *map(sizes, fine), strict=True))
    share = cached / max(1, own)
    if share >= CACHE_SHARE:
        which = "prompt tokens that no other prompt has" if shared_prefix else "prompt tokens"
        text = f"{share:.1%} of the {which} came from a cache"
        yield Flag(id="cache_hit", value=share, limit=CACHE_SHARE, text=text)


def _uncounted(fine: list[Sample]) -> Iterator[Flag]:
    count = sum(sample.completion_tokens is None for sample in fine)
    if count:
        text = f"the server did not report token counts for {count} of {len(fine)} replies"
        yield Flag(id="no_usage", value=count, limit=0, text=text)


def _client(run: Run, fine: list[Sample]) -> Iterator[Flag]:
    """Yield one flag for all that the client could not keep up with, with the value that is worst beside its limit."""
    reasons = [*_busy(run), *_late(run, fine), *_outrun(run, fine)]
    if reasons:
        worst = max(reasons, key=lambda reason: max(reason.value / reason.limit, reason.limit / reason.value))
        text = f"its stamps may be late: {'; '.join(reason.text for reason in reasons)}"
        yield Flag(id="client_bound", value=worst.value, limit=worst.limit, text=text)


def _busy(run: Run) -> Iterator[Flag]:
    used_s = max((worker.cpu_s for worker in run.workers), default=run.client_cpu_s)
    share = used_s / max(1e-9, (run.ended_ns - run.started_ns) / 1e9)
    if share > CLIENT_SHARE:
        text = f"the client used {share:.0%} of a core, above {CLIENT_SHARE:.0%}"
        yield Flag(id="client_bound", value=share, limit=CLIENT_SHARE, text=text)


def _late(run: Run, fine: list[Sample]) -> Iterator[Flag]:
    lag_s = max((worker.loop_lag_p99_s or 0.0 for worker in run.workers), default=0.0)
    tpots = [tpot for sample in fine if (tpot := _tpot_s(sample)) is not None]
    limit = max(LAG_S, LAG_SHARE * statistics.median(tpots)) if tpots else math.inf
    if lag_s > limit:
        text = f"the client looked {lag_s * 1e3:.2g} ms late at what had come, above {limit * 1e3:.2g} ms"
        yield Flag(id="client_bound", value=lag_s, limit=limit, text=text)


def _tpot_s(sample: Sample) -> float | None:
    """Return the time per token after the first, roughly; null for a reply that came in one piece."""
    stamps = [chunk.t_ns for chunk in sample.chunks if chunk.is_token]
    later = (sample.completion_tokens or len(stamps)) - 1
    return (stamps[-1] - stamps[0]) / later / 1e9 if len(stamps) > 1 and later > 0 else None


def _outrun(run: Run, fine: list[Sample]) -> Iterator[Flag]:
    tokens = sum(sample.completion_tokens or 0 for sample in fine)
    offered = tokens / max(1e-9, (run.ended_ns - run.started_ns) / 1e9)
    able = None if run.capacity_tps is None else run.capacity_tps * max(1, len(run.workers))
    if able is not None and able < CAPACITY * offered:
        text = (
            f"the client takes {able:.0f} tokens/s from a server that does nothing else, "
            f"below {CAPACITY} times the {offered:.0f} of this run"
        )
        yield Flag(id="client_bound", value=able / offered, limit=CAPACITY, text=text)


def _amount(run: Run, fine: list[Sample], workload: Workload) -> Iterator[Flag]:
    limit = max(REQUESTS, REQUESTS_PER_PLACE * workload.concurrency if workload.load == "closed" else 0)
    if len(fine) < limit:
        text = f"{len(fine)} requests are fewer than the {limit} that steady numbers need"
        yield Flag(id="short", value=len(fine), limit=limit, text=text)
    elif (seconds := (run.ended_ns - run.started_ns) / 1e9) < workload.seconds:
        text = f"all requests that were prepared had been sent after {seconds:.3g} of {workload.seconds:g} s"
        yield Flag(id="short", value=seconds, limit=workload.seconds, text=text)


def _noise(load_per_core: float | None, used: Resources | None) -> Iterator[Flag]:
    """Yield one flag for all that disturbed, with the value that is furthest beyond its limit."""
    others, stolen = (used.others_share, used.stolen_share) if used else (None, None)
    # What others did meanwhile says more than the average before, which holds our own earlier work too.
    before = load_per_core if others is None else None
    seen = (
        (before, LOAD_PER_CORE, "the machine was busy before the start: load average {:.2f} per core"),
        (others, OTHERS_SHARE, "other processes used {:.1%} of the machine's CPU time meanwhile"),
        (stolen, STOLEN_SHARE, "the host of this virtual machine took {:.1%} of the CPU time meanwhile"),
    )
    beyond = [(value, limit, text.format(value)) for value, limit, text in seen if value is not None and value > limit]
    if beyond:
        value, limit, _ = max(beyond, key=lambda found: found[0] / found[1])
        yield Flag(id="noisy", value=value, limit=limit, text="; ".join(text for *_, text in beyond))


def _throttling(used: Resources) -> Iterator[Flag]:
    held = used.held_share or 0.0
    seen = (
        (float(used.throttles or 0), 0.0, f"cores were slowed down {used.throttles} times because of heat"),
        (held, HELD_SHARE, f"a CPU quota stopped the processes for {held:.1%} of the time"),
        (float(len(used.slowed)), 0.0, f"the GPU was slowed down: {', '.join(used.slowed)}"),
    )
    beyond = [found for found in seen if found[0] > found[1]]
    if beyond:
        value, limit, _ = beyond[0]
        yield Flag(id="throttled", value=value, limit=limit, text="; ".join(text for *_, text in beyond))


def _sharing(samples: Samples, used: Resources) -> Iterator[Flag]:
    """Yield a flag where the server's work left the client no core of its own."""
    if used.server_cores is None or used.cpu_s is None or not used.seconds:
        return
    kept = {worker.core for worker in samples.run.workers if worker.core is not None}
    clients = max(1, len(samples.run.workers))
    # A worker that keeps to no core goes wherever xinfer may.
    clients_cores = kept if len(kept) == clients else kept | set(used.own_cores or used.server_cores)
    both = clients_cores | set(used.server_cores)
    busy, limit = used.cpu_s / used.seconds, max(0, len(both) - clients) + SPARE_CORES
    if busy > limit and not clients_cores.isdisjoint(used.server_cores):
        text = (
            f"the server computed on {busy:.1f} of the {len(both)} cores that it shares with the client, "
            f"which needs {clients} to itself"
        )
        yield Flag(id="shared_core", value=busy, limit=limit, text=text)
