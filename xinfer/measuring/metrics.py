"""From raw stamps to numbers, by arithmetic alone. Times are in seconds, sizes in bytes.

For one request, ``first`` and ``last`` are its first and last chunk with generated text, and N is the
server's own count of generated tokens. Failed requests and the warm-up have no latencies.

====================  ================================================================================
``ttft``              first - t_send; ``ttft_sched`` counts from t_sched
``e2e``               last - t_send; ``e2e_sched`` counts from t_sched
``tpot``              (last - first) / (N - n), where n is the tokens of the first chunk if the server
                      says, else 1; none for a reply that came in one piece
``icl``               every gap between chunks with text, over all requests
``decode_tps_user``   1 / tpot
``output_tps``        generated tokens in the window / its length; a request's tokens are spread evenly
                      over its chunks
``total_tps``         the same with prompt tokens, which count at the first chunk
``req_rate``          requests that ended in the window / its length
``concurrency_avg``   sum of all requests' time in the window / its length
``output_tps_full``   all generated tokens / ``duration_s``, ramp and drain included
``goodput``           requests within every limit of the objective / ``duration_s``
``slo_attainment``    the same / requests sent: a failed one is a miss
====================  ================================================================================

The window is where the load is steady:

closed                    from the first to the last instant with at least nine tenths of the concurrency in flight
constant, poisson, trace  from the first to the last measured arrival; where the warm-up goes over into it without a
                          pause, its requests count in the rates
offline                   the whole run

Where requests arrive whatever the server does, an objective counts from t_sched: waiting to be sent is waiting.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Literal

import msgspec

from xinfer.measuring.distribution import Distribution, describe, describe_groups
from xinfer.measuring.validity import Flag, flags

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from xinfer.measuring.samples import Chunk, Sample, Samples
    from xinfer.spec import Workload

__all__ = ["Distribution", "Flag", "Metrics", "Slo", "flags", "summarize"]

NS = 1_000_000_000
FULL_LOAD = 0.9
"""The part of the concurrency that must be in flight for the load to count as steady."""


class Slo(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A service-level objective: the most that a request may take; null is no limit."""

    ttft_s: float | None = None
    tpot_s: float | None = None
    e2e_s: float | None = None


class Metrics(msgspec.Struct, frozen=True, kw_only=True):
    """The numbers of one run; null where it does not support one."""

    scope: Literal["http"] = "http"
    requests: int
    """Measured requests that were sent, failed ones included."""
    failed: int
    resent: int | None = None
    """How often a request was sent once more, as the server had closed the connection that it went out on."""
    prompt_tokens: int | None = None
    """All that the server read for requests that succeeded, and ``output_tokens`` all that it generated for them; null
    where it did not count every one."""
    output_tokens: int | None = None
    duration_s: float
    """From the first measured request to the end of the last."""
    window_s: float | None = None
    ttft: Distribution | None = None
    ttft_sched: Distribution | None = None
    e2e: Distribution | None = None
    e2e_sched: Distribution | None = None
    tpot: Distribution | None = None
    icl: Distribution | None = None
    tokens_per_chunk: float | None = None
    decode_tps_user: Distribution | None = None
    output_tps: float | None = None
    total_tps: float | None = None
    req_rate: float | None = None
    concurrency_avg: float | None = None
    output_tps_full: float | None = None
    goodput: float | None = None
    slo_attainment: float | None = None
    load_s: float | None = None
    ready_s: float | None = None
    first_request_s: float | None = None
    peak_rss: int | None = None
    peak_vram: int | None = None
    cpu_s: float | None = None
    joules: float | None = None


class _Timed(msgspec.Struct, frozen=True):
    """A request that succeeded, and its chunks with generated text: at least one."""

    sample: Sample
    chunks: tuple[Chunk, ...]

    def ttft(self, since_ns: int) -> float:
        """Return seconds from an instant to the first chunk."""
        return (self.chunks[0].t_ns - since_ns) / NS

    def e2e(self, since_ns: int) -> float:
        """Return seconds from an instant to the last chunk."""
        return (self.chunks[-1].t_ns - since_ns) / NS

    def tpot(self) -> float | None:
        """Return seconds per token after the first chunk; null where that means nothing."""
        first, last = self.chunks[0], self.chunks[-1]
        later = (self.sample.completion_tokens or 0) - (first.completion_tokens or 1)
        return (last.t_ns - first.t_ns) / later / NS if later > 0 and last.t_ns > first.t_ns else None

    def gaps(self) -> Iterator[float]:
        """Yield seconds between one chunk and the next."""
        return ((after.t_ns - before.t_ns) / NS for before, after in itertools.pairwise(self.chunks))

    def meets(self, slo: Slo, since_ns: int) -> bool:
        """Say whether every limit holds; a value that is not known is a miss."""
        pairs = ((self.ttft(since_ns), slo.ttft_s), (self.tpot(), slo.tpot_s), (self.e2e(since_ns), slo.e2e_s))
        return all(limit is None or (value is not None and value <= limit) for value, limit in pairs)


class _Window(msgspec.Struct, frozen=True):
    """The steady part of a run."""

    start: int
    end: int

    @property
    def seconds(self) -> float:
        """Its length."""
        return (self.end - self.start) / NS

    def holds(self, t_ns: int) -> bool:
        """Say whether an instant lies in it; both ends do."""
        return self.start <= t_ns <= self.end

    def overlap_s(self, sample: Sample) -> float:
        """Return how long a request was in flight in it."""
        return max(0, min(sample.t_end, self.end) - max(sample.t_send, self.start)) / NS

    def generated(self, one: _Timed) -> float:
        """Return how many of a request's tokens arrived in it."""
        inside = sum(self.holds(chunk.t_ns) for chunk in one.chunks)
        return (one.sample.completion_tokens or 0) * inside / len(one.chunks)

    def read(self, one: _Timed) -> int:
        """Return a request's prompt tokens if their reading ended in it."""
        return (one.sample.prompt_tokens or 0) if self.holds(one.chunks[0].t_ns) else 0


def _window(sent: Sequence[Sample], workload: Workload) -> _Window | None:
    """Return where the load is steady, if it is anywhere."""
    if workload.load == "closed":
        return _full(sent, workload.concurrency)
    start = min((sample.t_sched for sample in sent), default=0)
    is_whole = workload.load == "offline"
    end = max((sample.t_end if is_whole else sample.t_sched for sample in sent), default=0)
    return _Window(start, end) if end > start else None


def _full(sent: Sequence[Sample], concurrency: int) -> _Window | None:
    """Return from the first to the last instant with nearly the whole concurrency in flight, if there is one."""
    flown = [sample for sample in sent if sample.t_end > sample.t_send]
    # Of two changes at one instant a start comes first, so that a place taken over is never seen empty.
    changes = sorted([(s.t_send, 0) for s in flown] + [(s.t_end, 1) for s in flown])
    in_flight = 0
    full: list[int] = []
    for t_ns, is_end in changes:
        if is_end and in_flight >= FULL_LOAD * concurrency:
            full.append(t_ns)
        in_flight += -1 if is_end else 1
        if in_flight >= FULL_LOAD * concurrency:
            full.append(t_ns)
    return _Window(full[0], full[-1]) if full and full[-1] > full[0] else None


def _rates(sent: Sequence[Sample], timed: Sequence[_Timed], window: _Window | None) -> dict[str, float | None]:
    """Return what is counted in the window; null without one, and where the server did not count."""
    names = ("window_s", "output_tps", "total_tps", "req_rate", "concurrency_avg")
    if window is None:
        return dict.fromkeys(names)
    fine = [sample for sample in sent if sample.error is None]
    output = sum(map(window.generated, timed)) if _counted(fine, "completion_tokens") else None
    prompts = sum(map(window.read, timed)) if _counted(fine, "prompt_tokens") else None
    total = None if output is None or prompts is None else output + prompts
    ended = sum(window.holds(sample.t_end) for sample in fine)
    overlap = sum(map(window.overlap_s, sent))
    per_s = (None if value is None else value / window.seconds for value in (output, total, ended, overlap))
    return dict(zip(names, (window.seconds, *per_s), strict=True))


def _counted(fine: Sequence[Sample], field: str) -> bool:
    """Say whether the server reported a count for every request that succeeded."""
    return bool(fine) and all(getattr(sample, field) is not None for sample in fine)


def _sum(fine: Sequence[Sample], field: str) -> int | None:
    return sum(getattr(sample, field) for sample in fine) if _counted(fine, field) else None


def _duration_s(sent: Sequence[Sample]) -> float:
    start, end = min((s.t_send for s in sent), default=0), max((s.t_end for s in sent), default=0)
    return (end - start) / NS


def _totals(
    sent: Sequence[Sample], timed: Sequence[_Timed], slo: Slo | None, *, is_closed: bool
) -> dict[str, float | None]:
    """Return what is counted over the whole run."""
    fine = [sample for sample in sent if sample.error is None]
    tokens = _sum(fine, "completion_tokens")
    since = [one.sample.t_send if is_closed else one.sample.t_sched for one in timed]
    good = None if slo is None else sum(one.meets(slo, since_ns) for one, since_ns in zip(timed, since, strict=True))
    return {
        "tokens_per_chunk": _ratio(tokens, sum(len(one.chunks) for one in timed)),
        "output_tps_full": _ratio(tokens, _duration_s(sent)),
        "goodput": _ratio(good, _duration_s(sent)),
        "slo_attainment": _ratio(good, len(sent)),
    }


def _ratio(part: float | None, whole: float) -> float | None:
    return None if part is None or not whole else part / whole


def summarize(samples: Samples, workload: Workload, *, slo: Slo | None = None) -> Metrics:
    """Return the metrics of a run; start-up times, memory and CPU are for the caller to fill in."""
    sent = samples.measured
    fine = [sample for sample in sent if sample.error is None]
    timed = _timed(fine)
    tpots = [tpot for one in timed if (tpot := one.tpot()) is not None]
    latencies = Metrics(
        requests=len(sent),
        resent=sum(sample.resent for sample in sent),
        failed=len(sent) - len(fine),
        prompt_tokens=_sum(fine, "prompt_tokens"),
        output_tokens=_sum(fine, "completion_tokens"),
        duration_s=_duration_s(sent),
        ttft=describe(one.ttft(one.sample.t_send) for one in timed),
        ttft_sched=describe(one.ttft(one.sample.t_sched) for one in timed),
        e2e=describe(one.e2e(one.sample.t_send) for one in timed),
        e2e_sched=describe(one.e2e(one.sample.t_sched) for one in timed),
        tpot=describe(tpots),
        icl=describe_groups(tuple(one.gaps()) for one in timed),
        decode_tps_user=describe(1 / tpot for tpot in tpots),
    )
    is_closed = workload.load == "closed"
    window = _window(sent, workload)
    flows = workload.load in {"constant", "poisson"}
    rates = _rates(samples.samples, _timed(samples.samples), window) if flows else _rates(sent, timed, window)
    return msgspec.structs.replace(latencies, **rates, **_totals(sent, timed, slo, is_closed=is_closed))


def _timed(several: Sequence[Sample]) -> list[_Timed]:
    written = ((one, tuple(chunk for chunk in one.chunks if chunk.is_token)) for one in several if one.error is None)
    return [_Timed(sample, chunks) for sample, chunks in written if chunks]
