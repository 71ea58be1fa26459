"""Every metric against what a server of known behaviour really did, by its own account.

Client and server read one clock, so what is later in truth is later in the stamps, on the busiest machine too. That
makes almost all of this exact: a request is received after it was sent, a chunk arrives after it left, and with the
longest delay of a run as D, each time and each rate of the client lies within bounds that follow from D by arithmetic.
Only that D itself is small is a matter of wall time, and is asked for with much room.
"""

from __future__ import annotations

import hashlib
import itertools
import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest

from xinfer.measuring import crew
from xinfer.measuring import load as load_module
from xinfer.measuring.load import Target, drive
from xinfer.measuring.metrics import Distribution, Metrics, Slo, flags, summarize
from xinfer.measuring.samples import Sample, Samples
from xinfer.spec import Workload
from xinfer.testing.reference_server import Behaviour, Remote, Served, spawned

PACED = Behaviour(ttft_s=0.03, gap_s=0.01)
PROMPT_DELAY_S = 0.02
"""What half of all requests and chunks take less than, from one process to the other, on a busy machine too."""
SAME = 1e-9
"""What sums of the same floats in another order may differ by."""

BEHAVIOURS: dict[str, dict[str, Any]] = {
    "a-token-a-chunk": {},
    "jittered-gaps": {"jitter": 0.9, "seed": 7},
    "four-tokens-a-chunk": {"tokens_per_chunk": 4},
    "five-tokens-a-chunk-which-does-not-divide": {"tokens_per_chunk": 5, "usage": "every"},
    "three-events-a-write": {"events_per_write": 3},
    "an-event-in-two-writes": {"pieces": 2, "piece_gap_s": 0.02, "gap_s": 0.03},
    "seven-bytes-a-write": {"write_bytes": 7},
    "a-role-first": {"empty_first": True, "shape": "chat"},
    "an-empty-text-first": {"empty_first": True},
    "thoughts-before-the-answer": {"shape": "reasoning"},
    "calls-of-tools": {"shape": "tools"},
    "half-letters-held-back": {"hold_every": 3},
    "half-letters-held-back-but-counted": {"hold_every": 3, "usage": "every"},
    "comments": {"comment_every": 1},
    "no-done": {"done": False},
    "no-done-and-the-end-is-the-connections": {"done": False, "framing": "close"},
    "no-finish-reason": {"finish": False},
    "the-reason-comes-with-the-last-text": {"finish_with_text": True, "usage": "last"},
    "usage-in-every-chunk": {"usage": "every"},
    "usage-in-the-last-chunk": {"usage": "last"},
    "no-usage": {"usage": "none"},
    "an-early-stop": {"stop_after": 5},
    "one-token": {"stop_after": 1},
    "more-than-was-asked-for": {"overrun": 3},
    "one-prompt-token-more": {"extra_prompt_tokens": 1},
    "a-cache-that-was-used": {"cached_tokens": 12},
    "a-cache-that-was-not": {"cached_tokens": 0},
    "a-pause": {"stall_after": 4, "stall_s": 0.2},
    "some-pause": {"stall_after": 4, "stall_s": 0.2, "fail_every": 3},
    "slow-headers": {"headers_s": 0.025},
    "headers-after-the-first-token-was-due": {"headers_s": 0.06},
    "ended-by-closing": {"framing": "close"},
    "a-length-told-before": {"framing": "length"},
    "left-open-after-done": {"hang_up": False},
    "interim-answers-chunk-extensions-trailers": {"extensions": True},
    "a-connection-a-request": {"keep_alive": False},
    "a-server-that-tires-of-waiting": {"idle_s": 0.0},
    "a-server-that-drops-what-is-reused": {"drops_reused": True},
    "lines-that-end-in-two-letters-and-no-space": {"line_end": "\r\n", "space": False},
    "a-megabyte-a-chunk": {"text": "é" * 500_000, "stop_after": 4},
    "all-at-once": {"ttft_s": 0.0, "gap_s": 0.0},
    "some-are-refused": {"status": 503, "fail_every": 3, "healthy": 2},
    "some-break-off": {"fail": "cut", "fail_after": 3, "fail_every": 3, "healthy": 2},
    "some-are-reset": {"fail": "reset", "fail_after": 3, "fail_every": 3, "healthy": 2},
    "some-break-off-unheard": {"fail": "slam", "fail_every": 3, "healthy": 2},
    "some-err": {"fail": "error", "fail_after": 3, "fail_every": 3, "healthy": 2},
}  # fmt: skip
LOADS: dict[str, dict[str, Any]] = {
    "one-at-a-time": {"concurrency": 1},
    "eight-at-a-time": {"concurrency": 8, "requests": 40},
    "for-a-time": {"seconds": 1.0, "requests": 3},
    "constant": {"load": "constant", "rate": 50.0, "requests": 40},
    "constant-and-slower-than-the-server": {"load": "constant", "rate": 4.0, "requests": 5},
    "poisson": {"load": "poisson", "rate": 50.0, "requests": 40},
    "offline": {"load": "offline", "requests": 30},
    "offline-without-a-warm-up": {"load": "offline", "requests": 30, "warmup": 0},
    "trace": {"load": "trace"},
    "three-workers": {"requests": 12},
    "three-workers-offline": {"load": "offline", "requests": 12},
}
TRACE = tuple((7 * number + 100 * (number // 7), 10 + number, 3 + number % 5) for number in range(20))
"""Milliseconds, prompt tokens and generated ones."""


@pytest.fixture(scope="module")
def process() -> Iterator[Remote]:
    with spawned(PACED) as remote:
        yield remote


class Pair(NamedTuple):
    """A request as the client saw it, and as the server did."""

    sample: Sample
    served: Served

    @property
    def texts(self) -> list[int]:
        """Return when the client saw each chunk with text."""
        return [chunk.t_ns for chunk in self.sample.chunks if chunk.is_token]

    @property
    def is_fine(self) -> bool:
        return self.served.outcome == "whole"


class Seen(NamedTuple):
    """A run from both sides."""

    behaviour: Behaviour
    samples: Samples
    workload: Workload
    metrics: Metrics
    pairs: list[Pair]
    """All, in the client's order, warm-up included."""

    @property
    def measured(self) -> list[Pair]:
        return [pair for pair in self.pairs if not pair.sample.warmup]

    @property
    def counted(self) -> list[Pair]:
        """Return those that the rates are of: without a fixed concurrency, the warm-up is a part of the load."""
        return self.measured if self.workload.load == "closed" else self.pairs

    def since_ns(self, sample: Sample) -> int:
        """Return when an objective's time begins: where the load does not wait, waiting to be sent is waiting."""
        return sample.t_send if self.workload.load == "closed" else sample.t_sched

    @property
    def fine(self) -> list[Pair]:
        """Return those measured that the server served to their end."""
        return [pair for pair in self.measured if pair.is_fine]

    @property
    def delay_ns(self) -> int:
        """Return the longest way of any request or chunk."""
        sent = (pair.served.received_ns - pair.sample.t_send for pair in self.pairs)
        seen = (t - s for pair in self.pairs for t, (s, _) in zip(pair.texts, pair.served.sent, strict=False))
        ended = (pair.sample.t_end - pair.served.sent[-1][0] for pair in self.pairs if pair.is_fine)
        return max(itertools.chain(sent, seen, ended))


SLO = Slo(e2e_s=0.2)
"""The pause of some servers is as long, and half of it is more than all else takes."""


def see(process: Remote, behaviour: Behaviour, **changes: Any) -> Seen:
    """Run a load, and put each of its requests beside the server's account of it."""
    plain = Workload(name="w", input_tokens=24, output_tokens=12, concurrency=3, requests=9, warmup=3, timeout_s=20)
    workload = msgspec.structs.replace(plain, **changes)
    process.become(behaviour)
    target = Target(url=process.url, model="reference", request={"ignore_eos": True})
    samples = drive(target, workload, run_id="truth")
    served = {_hash(one.prompt): one for one in process.log()}
    pairs = [Pair(sample, served[sample.prompt_hash]) for sample in samples.samples]
    return Seen(behaviour, samples, workload, summarize(samples, workload, slo=SLO), pairs)


def _hash(prompt: str) -> str:
    """Return the client's name for a prompt, which it sends as text or as ids."""
    written = prompt.encode() if prompt.startswith("[") else msgspec.json.encode(prompt)
    return hashlib.sha256(written).hexdigest()[:16]


@pytest.fixture(scope="module", params=[*BEHAVIOURS, *LOADS, *(f"{load}:some-are-refused" for load in LOADS)])
def seen(request: pytest.FixtureRequest, process: Remote, tmp_path_factory: pytest.TempPathFactory) -> Seen:
    """Run a load against each behaviour, and each load against a good and a bad one, once for all claims about it."""
    load, _, behaviour = request.param.rpartition(":")
    load = load or request.param
    changes = dict(LOADS.get(load, {}))
    if load == "trace":
        changes["trace"] = str(tmp_path_factory.mktemp("trace") / "trace.jsonl")
        names = ("timestamp", "input_length", "output_length")
        lines = (msgspec.json.encode(dict(zip(names, line, strict=True))) for line in TRACE)
        Path(changes["trace"]).write_bytes(b"\n".join(lines))
    with pytest.MonkeyPatch.context() as patch:
        if load.startswith("three-workers"):
            patch.setattr(crew, "STREAMS", 1)
            patch.setattr(load_module, "usable_cores", lambda: (None,) * 12)
        found = see(process, msgspec.structs.replace(PACED, **BEHAVIOURS.get(behaviour, {})), **changes)
    assert len(found.samples.run.workers) == (3 if load.startswith("three-workers") else 1)
    return found


# What was seen


def test_every_request_is_kept_in_order(seen: Seen) -> None:
    """None is lost, none is there twice, and each has the outcome that the server gave it."""
    numbers = range(len(seen.pairs))
    assert [(pair.sample.index, pair.sample.warmup) for pair in seen.pairs] == [
        (number, number < seen.workload.warmups) for number in numbers
    ]
    if seen.workload.load == "trace":
        assert len(seen.measured) == len(TRACE)
    elif seen.workload.seconds:
        assert len(seen.measured) > seen.workload.requests
        first, last = min(p.sample.t_sched for p in seen.measured), max(p.sample.t_sched for p in seen.measured)
        assert seconds(last, first) <= seen.workload.seconds
        if len(seen.fine) == len(seen.measured):  # refusals are faster than the requests that were prepared for
            assert seconds(seen.samples.run.ended_ns, first) >= seen.workload.seconds
    else:
        assert len(seen.measured) == seen.workload.requests
    assert len({id(pair.served) for pair in seen.pairs}) == len(numbers)
    assert [pair.sample.error is None for pair in seen.pairs] == [pair.is_fine for pair in seen.pairs]


def test_nothing_is_seen_before_it_happened(seen: Seen) -> None:
    """Each stamp of the client lies between the server's stamps of what came before and what came after."""
    for sample, served in seen.pairs:
        assert sample.t_sched <= sample.t_send <= served.received_ns
        assert sample.t_headers is None or (served.headers_ns or 0) <= sample.t_headers <= sample.t_end
        stamps = [chunk.t_ns for chunk in sample.chunks]
        assert stamps == sorted(stamps)
        assert all(t_ns <= sample.t_end for t_ns in stamps)
        seen_ns = Pair(sample, served).texts
        assert all(t >= s for t, (s, _) in zip(seen_ns, served.sent, strict=False))


def test_every_chunk_with_text_is_seen_once(seen: Seen) -> None:
    """As many as were sent: none for a role, a comment or a count, one for a token whose letters were held back."""
    for pair in seen.pairs:
        if pair.is_fine:
            assert len(pair.texts) == len(pair.served.sent)
        else:
            assert len(pair.texts) <= len(pair.served.sent)


def test_the_counts_are_the_servers(seen: Seen) -> None:
    """Of prompts, of generated tokens and of those from a cache; none is made up where the server told none."""
    for sample, served in seen.pairs:
        if served.outcome == "whole":
            told = served.completion_tokens
            extra = seen.behaviour.extra_prompt_tokens
            assert sample.completion_tokens == told
            assert sample.prompt_tokens == (None if told is None else served.prompt_tokens + extra)
            assert sample.cached_tokens == served.cached_tokens
            assert sample.finish_reason == served.finish_reason
            assert told in {None, sum(size for _, size in served.sent)}


def test_the_way_is_short(seen: Seen) -> None:
    """Half of all requests and of all chunks arrive within 20 ms of their sending; the only claim about wall time."""
    ways = [pair.served.received_ns - pair.sample.t_send for pair in seen.pairs]
    ways += [t - s for pair in seen.pairs for t, (s, _) in zip(pair.texts, pair.served.sent, strict=False)]
    assert statistics.median(ways) / 1e9 < PROMPT_DELAY_S


# What follows from it


def near(value: float) -> Any:
    return pytest.approx(value, rel=SAME, abs=SAME)


def agrees(found: Distribution | None, values: list[float], *, independent: bool = True) -> None:
    """Compute a distribution by other means, and compare; values that depend on each other count for fewer."""
    assert (found is None) == (not values)
    if found is None:
        return
    ordered = sorted(values)
    assert (found.n, found.min, found.max) == (len(values), near(ordered[0]), near(ordered[-1]))
    assert found.mean == near(sum(values) / len(values))
    assert found.p50 == near(statistics.median(values))
    few = (len(values) < 72, len(values) < 368)
    assert (found.p95 is None, found.p99 is None) == few or (not independent and (found.p95 is None) >= few[0])
    if found.p95 is not None:
        assert found.p95 == near(statistics.quantiles(values, n=100, method="inclusive")[94])
    if found.p99 is not None:
        assert found.p99 == near(statistics.quantiles(values, n=100, method="inclusive")[98])


def seconds(later: int, earlier: int) -> float:
    return (later - earlier) / 1e9


def tpot(pair: Pair, stamps: list[int]) -> float | None:
    """Return the time per token after the first chunk, by the client's stamps or by the server's."""
    first = pair.served.sent[0][1] if is_counted_along(pair) else 1
    later = (pair.served.completion_tokens or 0) - first
    return seconds(stamps[-1], stamps[0]) / later if later > 0 and stamps[-1] > stamps[0] else None


def is_counted_along(pair: Pair) -> bool:
    """Say whether the server counted in every chunk, so that the size of the first is known."""
    return all(chunk.completion_tokens is not None for chunk in pair.sample.chunks if chunk.is_token)


def test_latencies_follow_from_the_stamps(seen: Seen) -> None:
    """By an arithmetic of its own."""
    found, fine = seen.metrics, seen.fine
    agrees(found.ttft, [seconds(pair.texts[0], pair.sample.t_send) for pair in fine])
    agrees(found.ttft_sched, [seconds(pair.texts[0], pair.sample.t_sched) for pair in fine])
    agrees(found.e2e, [seconds(pair.texts[-1], pair.sample.t_send) for pair in fine])
    agrees(found.e2e_sched, [seconds(pair.texts[-1], pair.sample.t_sched) for pair in fine])
    agrees(found.icl, [seconds(b, a) for p in fine for a, b in itertools.pairwise(p.texts)], independent=False)
    tpots = [value for pair in fine if (value := tpot(pair, pair.texts)) is not None]
    agrees(found.tpot, tpots)
    agrees(found.decode_tps_user, [1 / value for value in tpots])


def window(seen: Seen) -> tuple[int, int] | None:
    """Return where the load is steady, by trying every instant."""
    stamps = [pair.sample for pair in seen.measured]
    if seen.workload.load == "offline":
        full = [min(sample.t_sched for sample in stamps), max(sample.t_end for sample in stamps)]
    elif seen.workload.load != "closed":
        full = [sample.t_sched for sample in stamps]
    else:
        flights = [(sample.t_send, sample.t_end) for sample in stamps if sample.t_end > sample.t_send]
        most = 0.9 * seen.workload.concurrency
        full = [t for t in itertools.chain(*flights) if sum(a <= t <= b for a, b in flights) >= most]
    return (min(full), max(full)) if full and max(full) > min(full) else None


def test_rates_follow_from_the_stamps(seen: Seen) -> None:
    """In the steady window and over the whole run, by an arithmetic of its own."""
    found, steady = seen.metrics, window(seen)
    fine = [pair for pair in seen.counted if pair.is_fine]
    told = all(pair.served.completion_tokens is not None for pair in fine)
    assert (found.window_s is None) == (steady is None)
    if steady is not None:
        start, end = steady
        length = seconds(end, start)
        generated = prompts = 0.0
        for pair in fine:
            inside = [start <= t <= end for t in pair.texts]
            generated += (pair.sample.completion_tokens or 0) * sum(inside) / len(inside)
            prompts += (pair.sample.prompt_tokens or 0) * inside[0]
        overlaps = (min(end, p.sample.t_end) - max(start, p.sample.t_send) for p in seen.counted)
        assert found.window_s == near(length)
        assert found.output_tps == (near(generated / length) if told else None)
        assert found.total_tps == (near((generated + prompts) / length) if told else None)
        assert found.req_rate == near(sum(start <= p.sample.t_end <= end for p in fine) / length)
        assert found.concurrency_avg == near(sum(max(0, overlap) for overlap in overlaps) / 1e9 / length)
    whole = seconds(max(p.sample.t_end for p in seen.measured), min(p.sample.t_send for p in seen.measured))
    tokens = sum(pair.served.completion_tokens or 0 for pair in seen.fine)
    assert found.duration_s == near(whole)
    assert found.output_tps_full == (near(tokens / whole) if told else None)


def test_counts_are_those_of_the_server(seen: Seen) -> None:
    """What was sent, what failed, how many tokens, and how many of them a chunk had."""
    found, fine = seen.metrics, seen.fine
    told = all(pair.served.completion_tokens is not None for pair in fine)
    sizes = [size for pair in fine for _, size in pair.served.sent]
    assert (found.requests, found.failed) == (len(seen.measured), len(seen.measured) - len(fine))
    assert found.tokens_per_chunk == (near(sum(sizes) / len(sizes)) if told else None)
    assert found.output_tokens == (sum(sizes) if told else None)
    prompts = [pair.served.prompt_tokens + seen.behaviour.extra_prompt_tokens for pair in fine]
    assert found.prompt_tokens == (sum(prompts) if told else None)


def test_the_objective_is_met_by_those_that_met_it(seen: Seen) -> None:
    """A failed request is a miss, and so is one that the server held up for longer than is allowed."""
    found = seen.metrics
    good = [pair for pair in seen.fine if seconds(pair.texts[-1], seen.since_ns(pair.sample)) <= (SLO.e2e_s or 0)]
    assert found.slo_attainment == near(len(good) / len(seen.measured))
    assert found.goodput == near(len(good) / found.duration_s)
    held = [pair for pair in seen.fine if seconds(pair.served.sent[-1][0], pair.served.received_ns) > (SLO.e2e_s or 0)]
    assert len(good) <= len(seen.measured) - len(held)


# What the server really did


def within(found: Distribution | None, truth: list[float], below_s: float, above_s: float) -> None:
    """Compare with the truth, given how far each single value may lie below and above it."""
    assert found is not None
    pairs = ((found.min, min(truth)), (found.max, max(truth)), (found.p50, statistics.median(truth)))
    for seen_s, true_s in (*pairs, (found.mean, statistics.fmean(truth))):
        assert true_s - below_s - SAME <= seen_s <= true_s + above_s + SAME


def test_latencies_are_the_servers_and_the_way(seen: Seen) -> None:
    """No shorter than the server took, and longer by no more than the longest way there and back."""
    found, fine, delay_s = seen.metrics, seen.fine, seen.delay_ns / 1e9
    within(found.ttft, [seconds(p.served.sent[0][0], p.served.received_ns) for p in fine], 0, 2 * delay_s)
    within(found.e2e, [seconds(p.served.sent[-1][0], p.served.received_ns) for p in fine], 0, 2 * delay_s)
    gaps = [seconds(b, a) for p in fine for (a, _), (b, _) in itertools.pairwise(p.served.sent)]
    if gaps:
        within(found.icl, gaps, delay_s, delay_s)
    paced = [value for p in fine if (value := tpot(p, [t for t, _ in p.served.sent])) is not None]
    if found.tpot is not None and found.tpot.n == len(paced):
        most_s = delay_s / min((p.served.completion_tokens or 0) - p.served.sent[0][1] for p in fine)
        within(found.tpot, paced, most_s, most_s)


def test_tokens_in_the_window_are_those_that_were_sent_in_it(seen: Seen) -> None:
    """No fewer than were sent well within it, and no more than were sent in it or within the longest way before."""
    found, steady = seen.metrics, window(seen)
    if steady is None or found.output_tps is None:
        return
    start, end = steady
    fine = [pair for pair in seen.counted if pair.is_fine]
    sent = [(t, size) for pair in fine for t, size in pair.served.sent]
    uneven = sum(max(size for _, size in p.served.sent) - min(size for _, size in p.served.sent) for p in fine)
    tokens = found.output_tps * seconds(end, start)
    assert tokens >= sum(size for t, size in sent if start <= t <= end - seen.delay_ns) - uneven - SAME
    assert tokens <= sum(size for t, size in sent if start - seen.delay_ns <= t <= end) + uneven + SAME


def test_no_more_is_in_flight_than_was_asked_for(seen: Seen) -> None:
    """By the server's account: from the receipt of a request to its last text."""
    if seen.workload.load != "closed":
        return
    edges = [(p.served.received_ns, 1) for p in seen.fine] + [(p.served.sent[-1][0], -1) for p in seen.fine]
    flying = list(itertools.accumulate(change for _, change in sorted(edges)))
    assert max(flying) <= seen.workload.concurrency
    if seen.metrics.concurrency_avg is not None:
        assert seen.metrics.concurrency_avg <= seen.workload.concurrency + SAME


def test_flags_name_what_the_server_did(seen: Seen) -> None:
    """Each deviation of the server is a flag with its true size, and nothing else is."""
    fine, asked = seen.fine, seen.workload
    expected: dict[str, float] = {}
    if len(fine) < len(seen.measured):
        expected["failed"] = len(seen.measured) - len(fine)
    told = [pair for pair in fine if pair.served.completion_tokens is not None]
    wrong = [pair for pair in fine if pair.served.finish_reason != "length"]
    wrong += [p for p in told if p not in wrong and p.served.completion_tokens != p.served.max_tokens]
    if wrong:
        expected["osl_mismatch"] = len(wrong)
    if len(told) < len(fine):
        expected["no_usage"] = len(fine) - len(told)
    cached = sum(pair.served.cached_tokens or 0 for pair in told)
    if cached:
        expected["cache_hit"] = cached / sum(pair.served.prompt_tokens for pair in told)  # no extra ones there
    reads = [(p.served.prompt_tokens + seen.behaviour.extra_prompt_tokens, p.sample.prompt_tokens_asked) for p in told]
    worst = max((abs(read - wanted) / wanted for read, wanted in reads), default=0)
    if worst > 0.01:
        expected["isl_mismatch"] = worst
    ours = {flag.id: flag.value for flag in flags(seen.samples, asked) if flag.id not in {"short", "client_bound"}}
    assert ours == pytest.approx(expected)


# When it was sent


def test_a_schedule_is_kept(seen: Seen) -> None:
    """Each instant is the one that was fixed before, whatever the server did; half are kept to within 20 ms."""
    load, due = seen.workload.load, [pair.sample.t_sched for pair in seen.measured]
    if load == "closed":
        return
    offsets = [seconds(t, due[0]) for t in due]
    rate = seen.workload.rate or 0
    if load == "constant":
        assert offsets == [pytest.approx(number / rate, abs=1e-8) for number in range(len(due))]
    elif load == "poisson":
        gaps = [b - a for a, b in itertools.pairwise(offsets)]
        assert min(gaps) >= 0
        assert statistics.pstdev(gaps) > 0.3 / rate
        assert 0.3 < offsets[-1] * rate / len(due) < 1.5
    elif load == "offline":
        assert set(offsets) == {0}
    else:
        assert offsets == [pytest.approx((line[0] - TRACE[0][0]) / 1e3) for line in TRACE]
    assert statistics.median(seconds(p.sample.t_send, p.sample.t_sched) for p in seen.measured) < PROMPT_DELAY_S


def test_a_trace_says_how_long_each_request_is(seen: Seen) -> None:
    """Of each prompt and each answer, in the order of the file."""
    if seen.workload.load == "trace":
        asked = [(p.served.prompt_tokens, p.served.max_tokens) for p in seen.measured]
        assert asked == [(read, written) for _, read, written in TRACE]
        assert [(p.sample.prompt_tokens_asked, p.sample.completion_asked) for p in seen.measured] == asked


def test_a_load_with_a_rate_does_not_wait_for_the_server(process: Remote) -> None:
    """A server that holds every reply back gets all requests all the same, and is charged from when they were due."""
    behaviour = Behaviour(ttft_s=1.0, gap_s=0.0)
    seen = see(process, behaviour, load="constant", rate=40.0, requests=20, output_tokens=2, warmup=0)
    test_a_schedule_is_kept(seen)
    received = [pair.served.received_ns for pair in seen.pairs]
    assert max(received) < min(pair.served.sent[0][0] for pair in seen.pairs) or seen.delay_ns > 5e8
    assert seen.metrics.ttft_sched is not None
    assert seen.metrics.ttft_sched.min >= 1.0


def test_high_percentiles_are_those_of_the_server(process: Remote) -> None:
    """With enough requests p95 and p99 are given, and lie as near to the truth as the rest."""
    seen = see(process, Behaviour(ttft_s=0.002, gap_s=0.001, jitter=0.9), requests=400, output_tokens=3, concurrency=8)
    test_latencies_follow_from_the_stamps(seen)
    ttft, truth = seen.metrics.ttft, [seconds(p.served.sent[0][0], p.served.received_ns) for p in seen.fine]
    assert ttft is not None
    cuts = statistics.quantiles(truth, n=100, method="inclusive")
    for found, true_s in ((ttft.p95, cuts[94]), (ttft.p99, cuts[98])):
        assert found is not None
        assert true_s - SAME <= found <= true_s + 2 * seen.delay_ns / 1e9
