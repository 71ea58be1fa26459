"""Reasons not to believe a run: each is computed, and says what was found and what would have been allowed."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterator

    from xinfer.measuring.samples import Sample, Samples
    from xinfer.spec import Workload

PROMPT_DEVIATION = 0.01
CACHE_SHARE = 0.01
CLIENT_SHARE = 0.7
LOAD_PER_CORE = 0.3
REQUESTS = 30
REQUESTS_PER_PLACE = 4


class Flag(msgspec.Struct, frozen=True, kw_only=True):
    """One reason; a flagged run is shown, and is not ranked."""

    id: str
    value: float
    limit: float
    text: str


def flags(samples: Samples, workload: Workload, *, load_per_core: float | None = None) -> tuple[Flag, ...]:
    """Return every reason that holds.

    ``load_per_core`` is the machine's load average over one minute before the engine was started,
    divided by its cores; null where that was not read.
    """
    sent = samples.measured
    fine = [sample for sample in sent if sample.error is None]
    return (
        *_failed(sent),
        *_lengths(fine),
        *_prompts(fine),
        *_caches(fine),
        *_uncounted(fine),
        *_client(samples),
        *_amount(fine, workload),
        *_noise(load_per_core),
    )


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


def _caches(fine: list[Sample]) -> Iterator[Flag]:
    cached = sum(sample.cached_tokens or 0 for sample in fine)
    share = cached / max(1, sum(sample.prompt_tokens or sample.prompt_tokens_asked for sample in fine))
    if share >= CACHE_SHARE:
        text = f"{share:.1%} of the prompt tokens came from a cache"
        yield Flag(id="cache_hit", value=share, limit=CACHE_SHARE, text=text)


def _uncounted(fine: list[Sample]) -> Iterator[Flag]:
    count = sum(sample.completion_tokens is None for sample in fine)
    if count:
        text = f"the server did not report token counts for {count} of {len(fine)} replies"
        yield Flag(id="no_usage", value=count, limit=0, text=text)


def _client(samples: Samples) -> Iterator[Flag]:
    share = samples.run.client_cpu_s / max(1e-9, (samples.run.ended_ns - samples.run.started_ns) / 1e9)
    if share > CLIENT_SHARE:
        text = f"the client used {share:.0%} of a core, so its stamps may be late"
        yield Flag(id="client_bound", value=share, limit=CLIENT_SHARE, text=text)


def _amount(fine: list[Sample], workload: Workload) -> Iterator[Flag]:
    limit = max(REQUESTS, REQUESTS_PER_PLACE * workload.concurrency)
    if len(fine) < limit:
        text = f"{len(fine)} requests are fewer than the {limit} that steady numbers need"
        yield Flag(id="short", value=len(fine), limit=limit, text=text)


def _noise(load_per_core: float | None) -> Iterator[Flag]:
    if load_per_core is not None and load_per_core > LOAD_PER_CORE:
        text = f"the machine was busy before the start: load average {load_per_core:.2f} per core"
        yield Flag(id="noisy", value=load_per_core, limit=LOAD_PER_CORE, text=text)
