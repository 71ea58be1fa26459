"""Metrics of hand-made stamps, against values worked out by hand."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xinfer.measuring.metrics import Distribution, Metrics, Slo, summarize
from xinfer.measuring.samples import Capabilities, Chunk, Run, Sample, Samples
from xinfer.spec import Workload

NS = 1_000_000_000


def ns(seconds: float) -> int:
    return round(seconds * NS)


def sample(send: float, *chunks: float, end: float | None = None, **changes: Any) -> Sample:
    """Make a request that succeeded, with a token per chunk and ten prompt tokens."""
    stamps = tuple(Chunk(t_ns=ns(t), characters=4, is_token=True) for t in chunks)
    last = max((send, *chunks))
    plain = Sample(
        index=0, warmup=False, t_sched=ns(send), t_send=ns(send), t_headers=ns(send),
        t_end=ns(last if end is None else end), chunks=stamps, prompt_tokens_asked=10, prompt_tokens=10,
        completion_asked=len(chunks), completion_tokens=len(chunks), cached_tokens=0, finish_reason="length",
        status=200, error=None, detail=None, prompt_hash="",
    )  # fmt: skip
    return msgspec.structs.replace(plain, **changes)


def samples(*several: Sample) -> Samples:
    able = Capabilities(
        model="m", extras=True, stream_options=True, usage=True, fixed_length=True, cached_tokens=True,
        tokenizer=None, token_ids=False,
    )  # fmt: skip
    run = Run(capabilities=able, prompts="ids", prompts_hash="", client_cpu_s=0.1, started_ns=0, ended_ns=NS)
    return Samples(run=run, samples=several)


def workload(concurrency: int = 1) -> Workload:
    return Workload(name="w", input_tokens=10, output_tokens=4, concurrency=concurrency, requests=2)


def metrics(*several: Sample, concurrency: int = 1, slo: Slo | None = None) -> Metrics:
    return summarize(samples(*several), workload(concurrency), slo=slo)


def values(found: Distribution | None) -> tuple[float, float, float]:
    assert found is not None
    return pytest.approx((found.min, found.mean, found.max))  # type: ignore[return-value]  # compares as a tuple


A = sample(1.0, 1.5, 1.6, 1.7, 1.8, end=2.0)
B = sample(2.0, 2.7, 2.9, 3.1, end=3.2, completion_tokens=5, t_sched=ns(1.9))


def test_latencies_of_two_requests_in_a_row() -> None:
    """Every latency is what its definition says, worked out by hand."""
    found = metrics(A, B)
    assert values(found.ttft) == (0.5, 0.6, 0.7)
    assert values(found.ttft_sched) == (0.5, 0.65, 0.8)
    assert values(found.e2e) == (0.8, 0.95, 1.1)
    assert values(found.e2e_sched) == (0.8, 1.0, 1.2)
    assert values(found.tpot) == (0.1, 0.1, 0.1)  # 0.3 s / 3 tokens; 0.4 s / 4 tokens in two chunks
    assert values(found.decode_tps_user) == (10.0, 10.0, 10.0)
    assert values(found.icl) == (0.1, 0.14, 0.2)
    assert found.icl is not None
    assert found.icl.n == 5
    assert found.scope == "http"


def test_rates_of_two_requests_in_a_row() -> None:
    """With one place the steady window is the whole run: 9 tokens, 20 prompt tokens, 2 requests in 2.2 s."""
    found = metrics(A, B)
    assert (found.requests, found.failed) == (2, 0)
    assert found.duration_s == pytest.approx(2.2)
    assert found.window_s == pytest.approx(2.2)
    assert found.output_tps == pytest.approx(9 / 2.2)
    assert found.output_tps_full == pytest.approx(9 / 2.2)
    assert found.total_tps == pytest.approx(29 / 2.2)
    assert found.req_rate == pytest.approx(2 / 2.2)
    assert found.concurrency_avg == pytest.approx(1)
    assert found.tokens_per_chunk == pytest.approx(9 / 7)
    assert (found.prompt_tokens, found.output_tokens) == (20, 9)


def test_ramp_and_drain_are_outside_the_window() -> None:
    """Two places are both taken from 1 s to 4 s: 7 of the 9 tokens, 2 of the 3 ends, 6 s of requests lie there."""
    ramp, short, drain = sample(0, 1, 2, 3, 4), sample(1, 2, 3), sample(3, 4, 5, 6)
    found = metrics(ramp, short, drain, concurrency=2)
    assert found.window_s == pytest.approx(3)
    assert found.output_tps == pytest.approx(7 / 3)
    assert found.total_tps == pytest.approx(37 / 3)
    assert found.req_rate == pytest.approx(2 / 3)
    assert found.concurrency_avg == pytest.approx(2)
    assert found.output_tps_full == pytest.approx(9 / 6)


def test_nine_tenths_of_the_concurrency_are_a_full_load() -> None:
    """Of ten places nine suffice, eight do not."""
    nine = [sample(0, 1, 2) for _ in range(9)]
    assert metrics(*nine, concurrency=10).window_s == pytest.approx(2)
    assert metrics(*nine[1:], concurrency=10).window_s is None


@pytest.mark.parametrize(
    "several",
    [
        pytest.param((sample(0, 1, 2), sample(3, 4)), id="never-at-full-load"),
        pytest.param((sample(0, 1, 2), sample(2, 3)), id="only-for-an-instant"),
        pytest.param((), id="nothing-was-sent"),
    ],
)
def test_without_a_window_there_are_no_steady_rates(several: tuple[Sample, ...]) -> None:
    """A load that was never reached has no rate under it."""
    found = metrics(*several, concurrency=2)
    rates = (found.window_s, found.output_tps, found.total_tps, found.req_rate, found.concurrency_avg)
    assert rates == (None,) * 5


def test_warm_up_never_counts() -> None:
    """A slow warm-up request changes no number."""
    assert metrics(sample(0, 50, 99, warmup=True), A, B) == metrics(A, B)


def test_a_failed_request_has_no_latency_and_is_counted() -> None:
    """What was measured of a failed request stays out of latencies and token rates."""
    broken = sample(3.2, 3.3, end=4.0, error="closed early", completion_tokens=None)
    found = metrics(A, B, broken)
    assert (found.requests, found.failed) == (3, 1)
    assert found.ttft == metrics(A, B).ttft
    assert found.duration_s == pytest.approx(3.0)
    assert found.output_tps == pytest.approx(9 / 3.0)
    assert found.concurrency_avg == pytest.approx(1)
    assert (found.prompt_tokens, found.output_tokens) == (20, 9)


def test_a_run_of_failures_has_no_numbers() -> None:
    """If nothing succeeded, what would be a number is null."""
    found = metrics(sample(0, error="refused"), slo=Slo())
    assert (found.requests, found.failed) == (1, 1)
    assert (found.ttft, found.tpot, found.output_tps_full, found.tokens_per_chunk) == (None,) * 4
    assert (found.prompt_tokens, found.output_tokens) == (None, None)
    assert found.slo_attainment == 0


def test_a_request_that_never_left_takes_no_part_in_the_load() -> None:
    """An abandoned request has no time in flight, so that it cannot widen the window."""
    assert metrics(A, sample(9, error="abandoned")).window_s == pytest.approx(1)


@pytest.mark.parametrize(
    ("one", "expected"),
    [
        pytest.param(sample(0, 1, 2, 3), 1.0, id="one-token-a-chunk"),
        pytest.param(sample(0, 1, 2, 3, completion_tokens=9), 0.25, id="more-tokens-than-chunks"),
        pytest.param(sample(0, 1), None, id="one-token"),
        pytest.param(sample(0, 1, 1, 1), None, id="all-at-once"),
        pytest.param(sample(0, 1, 2, completion_tokens=None), None, id="not-counted-by-the-server"),
    ],
)
def test_time_per_output_token(one: Sample, expected: float | None) -> None:
    """It needs the server's count, two tokens, and two instants."""
    found = metrics(one)
    assert (found.tpot and found.tpot.mean) == expected
    assert (found.decode_tps_user and found.decode_tps_user.mean) == (expected and 1 / expected)


def test_tokens_of_the_first_chunk_are_subtracted_where_they_are_known() -> None:
    """Four of twelve tokens came first; the other eight took two seconds."""
    first = Chunk(t_ns=ns(1), characters=9, is_token=True, completion_tokens=4)
    rest = (Chunk(t_ns=ns(2), characters=9, is_token=True), Chunk(t_ns=ns(3), characters=9, is_token=True))
    found = metrics(sample(0, 3, chunks=(first, *rest), completion_tokens=12))
    assert found.tpot is not None
    assert found.tpot.mean == pytest.approx(2 / 8)


def test_chunks_without_text_are_no_tokens() -> None:
    """A role before and a count after the text move neither the first nor the last token."""
    role, usage = (Chunk(t_ns=ns(t), characters=0, is_token=False) for t in (0.1, 9))
    plain = sample(0, 1, 2)
    found = metrics(msgspec.structs.replace(plain, chunks=(role, *plain.chunks, usage)))
    assert (found.ttft, found.e2e, found.icl) == (metrics(plain).ttft, metrics(plain).e2e, metrics(plain).icl)


def test_a_reply_without_text_has_no_latency() -> None:
    """It succeeded, it is sent work, and there is no first token to time."""
    found = metrics(sample(0, end=1.0, completion_tokens=0))
    assert (found.failed, found.ttft, found.icl) == (0, None, None)
    assert found.req_rate == pytest.approx(1)


def test_without_counts_there_are_no_token_rates() -> None:
    """Tokens are never guessed; what does not need them stays."""
    found = metrics(A, msgspec.structs.replace(B, completion_tokens=None, prompt_tokens=None))
    assert (found.output_tps, found.total_tps, found.output_tps_full, found.tokens_per_chunk) == (None,) * 4
    assert (found.prompt_tokens, found.output_tokens) == (None, None)
    assert found.req_rate == pytest.approx(2 / 2.2)


def test_without_prompt_counts_the_output_rate_stays() -> None:
    """Only the rate that needs prompt tokens goes."""
    found = metrics(msgspec.structs.replace(A, prompt_tokens=None))
    assert found.total_tps is None
    assert found.output_tps == pytest.approx(4)


@pytest.mark.parametrize(
    ("slo", "share"),
    [
        pytest.param(Slo(), 2 / 3, id="no-limit-is-met-by-every-success"),
        pytest.param(Slo(ttft_s=0.6), 1 / 3, id="one-reads-too-slowly"),
        pytest.param(Slo(tpot_s=0.11), 2 / 3, id="both-write-fast-enough"),
        pytest.param(Slo(ttft_s=1.0, e2e_s=0.5), 0, id="every-limit-must-hold"),
    ],
)
def test_objectives(slo: Slo, share: float) -> None:
    """The share is of requests sent, so that a failed one is a miss; goodput is per second of the run."""
    found = metrics(A, B, sample(3.2, end=4.0, error="timeout"), slo=slo)
    assert found.slo_attainment == pytest.approx(share)
    assert found.goodput == pytest.approx(share * 3 / 3.0)


def test_an_objective_on_an_unknown_value_is_a_miss() -> None:
    """A limit on time per token cannot be met by a reply that has none."""
    assert metrics(sample(0, 1), slo=Slo(tpot_s=9.0)).slo_attainment == 0


def test_without_an_objective_there_is_no_goodput() -> None:
    """Null is not zero."""
    assert (metrics(A).goodput, metrics(A).slo_attainment) == (None, None)


@st.composite
def requests(draw: st.DrawFn) -> Sample:
    gaps = draw(st.lists(st.integers(0, NS), min_size=0, max_size=8))
    send = draw(st.integers(0, 5 * NS))
    stamps = [send + sum(gaps[: i + 1]) for i in range(len(gaps))]
    return sample(
        send / NS, *(t / NS for t in stamps), t_send=send, t_end=max([send, *stamps]) + draw(st.integers(0, NS)),
        completion_tokens=len(gaps) + draw(st.integers(0, 9)), error=draw(st.sampled_from([None, None, "stalled"])),
    )  # fmt: skip


runs = st.lists(requests(), min_size=1, max_size=12)


@settings(deadline=None)
@given(several=runs, places=st.integers(1, 6))
def test_all_tokens_are_in_the_full_rate(several: list[Sample], places: int) -> None:
    """Rate times duration is the sum of tokens, and no more of them lie in the window."""
    found = metrics(*several, concurrency=places)
    total = sum(s.completion_tokens or 0 for s in several if s.error is None)
    if found.output_tps_full is not None:
        assert found.output_tps_full * found.duration_s == pytest.approx(total)
    if found.output_tps is not None:
        assert (found.output_tps * (found.window_s or 0)) <= total * (1 + 1e-9)


@settings(deadline=None)
@given(orders=runs.flatmap(lambda run: st.tuples(st.just(run), st.permutations(run))), places=st.integers(1, 6))
def test_the_order_of_requests_does_not_matter(orders: tuple[list[Sample], list[Sample]], places: int) -> None:
    """A run is a set of requests."""
    before, after = (flat(msgspec.to_builtins(metrics(*order, concurrency=places))) for order in orders)
    assert after == pytest.approx(before)


@settings(deadline=None)
@given(several=runs, places=st.integers(1, 6))
def test_the_load_in_the_window_is_what_was_asked_for(several: list[Sample], places: int) -> None:
    """The window is part of the run, and no more is in flight in it than was sent."""
    found = metrics(*several, concurrency=places)
    if found.window_s is not None:
        assert 0 < found.window_s <= found.duration_s
        assert 0 <= (found.concurrency_avg or 0) <= len(several) * (1 + 1e-9)


def flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return the numbers of a nested document by path, so that they compare with a tolerance."""
    found: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            found |= flat(value, f"{prefix}{key}.")
        elif isinstance(value, (int, float)):
            found[prefix + key] = value
    return found


OPEN = [sample(t, t + 0.5, t + 1.5, end=t + 1.5, t_sched=ns(t - 0.1)) for t in (10.0, 11.0, 12.0, 13.0)]
"""Requests that arrive every second and take a second and a half."""
WARM = sample(9.0, 9.5, 10.5, end=10.5, t_sched=ns(8.9), warmup=True)


@pytest.mark.parametrize("load", ["constant", "poisson"])
def test_an_open_loop_is_steady_while_requests_arrive(load: Any) -> None:
    """From the first to the last of them; the warm-up's rest is a part of that load, what comes later is not."""
    asked = msgspec.structs.replace(workload(), load=load)
    found = summarize(samples(WARM, *OPEN), asked)
    assert found.requests == 4
    assert found.window_s == pytest.approx(3.0)  # from 9.9 to 12.9
    assert found.output_tps == pytest.approx((1 + 2 + 2 + 1) / 3)  # at 10.5; 10.5, 11.5; 11.5, 12.5; 12.5
    assert found.total_tps == pytest.approx((6 + 30) / 3)
    assert found.req_rate == pytest.approx(3 / 3)  # at 10.5, 11.5, 12.5
    assert found.concurrency_avg == pytest.approx((0.6 + 1.5 + 1.5 + 0.9) / 3)
    assert found.output_tps_full == pytest.approx(8 / 4.5)


def test_offline_counts_from_the_first_to_the_last() -> None:
    """Without the warm-up, which has ended before."""
    asked = msgspec.structs.replace(workload(), load="offline")
    found = summarize(samples(WARM, *OPEN), asked)
    assert found.window_s == pytest.approx(4.6)  # from 9.9 to 14.5
    assert found.req_rate == pytest.approx(4 / 4.6)
    assert found.output_tps == pytest.approx(8 / 4.6)


def test_a_trace_is_steady_while_requests_arrive() -> None:
    """Without the warm-up, which has ended before."""
    asked = msgspec.structs.replace(workload(), load="trace")
    found = summarize(samples(WARM, *OPEN), asked)
    assert found.window_s == pytest.approx(3.0)
    assert found.output_tps == pytest.approx((2 + 2 + 1) / 3)


@pytest.mark.parametrize("load", ["constant", "offline", "trace"])
def test_nothing_sent_has_no_window(load: Any) -> None:
    """And no rates."""
    found = summarize(samples(WARM), msgspec.structs.replace(workload(), load=load))
    assert (found.window_s, found.output_tps, found.requests) == (None, None, 0)


def test_an_objective_of_an_open_loop_counts_from_the_schedule() -> None:
    """Waiting to be sent is waiting; in a closed loop there is nobody who waits."""
    slo = Slo(ttft_s=0.55)
    assert summarize(samples(*OPEN), workload(), slo=slo).slo_attainment == 1
    asked = msgspec.structs.replace(workload(), load="constant")
    assert summarize(samples(*OPEN), asked, slo=slo).slo_attainment == 0
