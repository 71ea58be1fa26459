"""The load generator against a server of exactly known behaviour, in a process of its own."""

from __future__ import annotations

import socket
import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from xinfer.errors import RequestError
from xinfer.measuring import load
from xinfer.measuring.load import Target, drive, probe
from xinfer.measuring.metrics import flags, summarize
from xinfer.measuring.samples import Samples
from xinfer.spec import Workload
from xinfer.testing.reference_server import Behaviour, Remote, serving, spawned

FAST = Behaviour(ttft_s=0.004, gap_s=0.001)
PROBES = 2
"""Completion requests before the warm-up, where a server takes everything at once: one of text, one of ids."""


@pytest.fixture(scope="module")
def process() -> Iterator[Remote]:
    with spawned(FAST) as remote:
        yield remote


def workload(**changes: Any) -> Workload:
    plain = Workload(name="w", input_tokens=24, output_tokens=8, concurrency=2, requests=6, warmup=2, timeout_s=5)
    return msgspec.structs.replace(plain, **changes)


def target(remote: Remote, **changes: Any) -> Target:
    return msgspec.structs.replace(Target(url=remote.url, model="reference", request={"ignore_eos": True}), **changes)


def run(remote: Remote, behaviour: Behaviour, *, of: dict[str, Any] | None = None, **changes: Any) -> Samples:
    """Drive a workload against a behaviour; ``of`` are fields of the target."""
    remote.become(behaviour)
    return drive(target(remote, **(of or {})), workload(**changes), run_id="run")


def flag_ids(samples: Samples, **changes: Any) -> list[str]:
    """Return the flags but for the one that every small test raises."""
    return [flag.id for flag in flags(samples, workload(**changes)) if flag.id != "short"]


def test_a_good_run(process: Remote) -> None:
    """Every request is there, in order, with exactly the tokens that were asked for."""
    samples = run(process, FAST)
    assert [(s.index, s.warmup) for s in samples.samples] == [(i, i < 2) for i in range(8)]
    assert {(s.status, s.error, s.detail, s.finish_reason) for s in samples.samples} == {(200, None, None, "length")}
    assert {(s.prompt_tokens, s.completion_tokens) for s in samples.samples} == {(24, 8)}
    assert (samples.run.prompts, flag_ids(samples)) == ("ids", [])
    assert len(process.log()) == PROBES + 8
    for sample in samples.samples:
        stamps = [sample.t_sched, sample.t_send, sample.t_headers, *(c.t_ns for c in sample.chunks), sample.t_end]
        assert stamps == sorted(s for s in stamps if s is not None)


def test_stamps_agree_with_what_the_server_did(process: Remote) -> None:
    """No chunk is seen before it was sent, and half of them within 20 ms of that; so are TTFT and TPOT."""
    samples = run(process, Behaviour(ttft_s=0.05, gap_s=0.01), concurrency=1, requests=8, output_tokens=12)
    truth = process.log()[PROBES:]
    late_ns: list[int] = []
    for sample, served in zip(samples.samples, truth, strict=True):
        seen = [chunk.t_ns for chunk in sample.chunks if chunk.is_token]
        late_ns += [t_seen - t_sent for t_seen, (t_sent, _) in zip(seen, served.sent, strict=True)]
        assert sample.t_send <= served.received_ns
    assert min(late_ns) >= 0
    assert statistics.median(late_ns) < 20e6
    found = summarize(samples, workload(concurrency=1))
    assert found.ttft is not None
    assert found.tpot is not None
    measured = truth[2:]
    true_ttft = statistics.median((served.sent[0][0] - served.received_ns) / 1e9 for served in measured)
    true_tpot = statistics.median((served.sent[-1][0] - served.sent[0][0]) / 11e9 for served in measured)
    assert found.ttft.p50 == pytest.approx(true_ttft, abs=0.02)
    assert found.ttft.min >= min((served.sent[0][0] - served.received_ns) / 1e9 for served in measured)
    assert found.tpot.p50 == pytest.approx(true_tpot, rel=0.2)


def test_the_loop_is_closed_and_never_drained(process: Remote) -> None:
    """As many requests as places are in flight, never more; the warm-up still runs when measuring starts."""
    samples = run(process, Behaviour(ttft_s=0.03), concurrency=3, requests=12, warmup=1)
    log = process.log()[PROBES:]
    edges = sorted([(s.received_ns, 1) for s in log] + [(s.sent[-1][0], -1) for s in log])
    in_flight = [sum(change for _, change in edges[: i + 1]) for i in range(len(edges))]
    assert max(in_flight) == 3
    warm, *measured = samples.samples
    assert min(s.t_send for s in measured) < warm.t_end
    found = summarize(samples, workload(concurrency=3))
    assert found.concurrency_avg is not None
    assert 2.5 < found.concurrency_avg <= 3


def test_prompts_differ_by_request_and_run_but_not_in_their_work(process: Remote) -> None:
    """No prompt is sent twice, not even in another run; the cuts of two runs hash alike."""
    first = run(process, FAST)
    second = drive(target(process), workload(), run_id="another")
    prompts = [served.prompt for served in process.log() if served.prompt.startswith("[")]
    hashes = [sample.prompt_hash for samples in (first, second) for sample in samples.samples]
    assert len(set(hashes)) == 16
    assert len(set(prompts)) == 16 + 1  # the probes of both runs are alike
    assert first.run.prompts_hash == second.run.prompts_hash
    other = drive(target(process), workload(input_tokens=25), run_id="run")
    assert other.run.prompts_hash != first.run.prompts_hash


@pytest.mark.parametrize(
    "behaviour",
    [
        pytest.param({"comment_every": 1}, id="comments"),
        pytest.param({"done": False}, id="no-done"),
        pytest.param({"finish": False}, id="no-finish-reason"),
        pytest.param({"empty_first": True}, id="an-empty-first-chunk"),
        pytest.param({"shape": "chat", "empty_first": True}, id="chat-chunks"),
        pytest.param({"usage": "last"}, id="usage-in-the-last-chunk"),
        pytest.param({"usage": "every"}, id="usage-in-every-chunk"),
        pytest.param({"tokens_per_chunk": 4}, id="four-tokens-a-chunk"),
        pytest.param({"framing": "close"}, id="ended-by-closing"),
        pytest.param({"framing": "close", "done": False}, id="ended-by-closing-without-done"),
        pytest.param({"hang_up": False}, id="kept-open-after-done"),
        pytest.param({"text": "é" * 100_000}, id="very-long-chunks"),
    ],
)
def test_ways_to_stream(process: Remote, behaviour: dict[str, Any]) -> None:
    """Whatever the form, each chunk with text is seen once, after it was sent, and the count is the server's."""
    samples = run(process, msgspec.structs.replace(FAST, **behaviour), requests=2, warmup=0)
    assert [sample.error for sample in samples.samples] == [None, None]
    assert {sample.completion_tokens for sample in samples.samples} == {8}
    served = {one.prompt: one for one in process.log()}
    assert len(served) == PROBES + 2
    per_chunk = behaviour.get("tokens_per_chunk", 1)
    for sample in samples.samples:
        texts = [chunk for chunk in sample.chunks if chunk.is_token]
        assert len(texts) == 8 / per_chunk
        assert (sample.t_end - texts[-1].t_ns) / 1e9 < 4  # the end was seen, not waited for until the time-out
    sent = sorted(t_ns for one in process.log()[PROBES:] for t_ns, _ in one.sent)
    seen = sorted(chunk.t_ns for sample in samples.samples for chunk in sample.chunks if chunk.is_token)
    assert all(t_seen >= t_sent for t_seen, t_sent in zip(seen, sent, strict=True))
    assert samples.run.capabilities.tokens_per_chunk == per_chunk


def test_tokens_of_the_first_chunk(process: Remote) -> None:
    """A server that counts along lets time per token be exact although its chunks carry several tokens."""
    behaviour = Behaviour(ttft_s=0.01, gap_s=0.04, tokens_per_chunk=4, usage="every")
    found = summarize(run(process, behaviour, concurrency=1, requests=3, warmup=0), workload(concurrency=1))
    sent = [served.sent for served in process.log()[PROBES:]]
    assert found.tpot is not None
    assert found.tpot.p50 == pytest.approx(statistics.median((s[1][0] - s[0][0]) / 4e9 for s in sent), abs=0.005)
    assert found.tokens_per_chunk == 4


def test_slow_headers_are_seen(process: Remote) -> None:
    """The time to the headers is kept apart from the time to the first token."""
    samples = run(process, Behaviour(headers_s=0.05, ttft_s=0.1), requests=2, warmup=0)
    for sample in samples.samples:
        assert sample.t_headers is not None
        assert 0.05 <= (sample.t_headers - sample.t_send) / 1e9 < (sample.chunks[0].t_ns - sample.t_send) / 1e9


@pytest.mark.parametrize(
    ("behaviour", "errors"),
    [
        pytest.param({"status": 500}, {"http 500"}, id="500"),
        pytest.param({"status": 429}, {"http 429"}, id="too-many-requests"),
        pytest.param({"status": 307}, {"http 307"}, id="a-redirect-is-not-followed"),
        pytest.param({"fail": "reset", "fail_after": 3}, {"closed early"}, id="reset-in-the-stream"),
        pytest.param({"fail": "close", "fail_after": 3}, {"closed early"}, id="closed-in-the-stream"),
        pytest.param({"fail": "close", "framing": "close"}, {"closed early"}, id="closed-without-a-word"),
        pytest.param({"fail": "stall", "fail_after": 3}, {"stalled", "abandoned"}, id="stall-in-the-stream"),
        pytest.param({"fail": "stall"}, {"timeout", "abandoned"}, id="headers-and-silence"),
        pytest.param({"fail": "silence"}, {"timeout", "abandoned"}, id="silence"),
        pytest.param({"fail": "garbage", "fail_after": 3}, {"garbage"}, id="garbage-in-the-stream"),
        pytest.param({"fail": "html"}, {"garbage"}, id="a-page-instead-of-a-stream"),
        pytest.param({"fail": "no_http"}, {"garbage"}, id="another-protocol"),
        pytest.param({"fail": "error", "fail_after": 3}, {"error in stream"}, id="an-error-event"),
        pytest.param({"fail": "leave"}, {"closed early", "refused"}, id="the-server-dies"),
    ],
)
def test_failures(behaviour: dict[str, Any], errors: set[str]) -> None:
    """Each request ends in a sample with a classified error, and those before the failure are kept whole."""
    does = msgspec.structs.replace(FAST, healthy=PROBES + 3, **behaviour)
    with spawned(does) as remote:
        samples = drive(target(remote), workload(concurrency=1, requests=6, timeout_s=0.5), run_id="run")
    assert [sample.error for sample in samples.samples[:3]] == [None] * 3
    assert {sample.error for sample in samples.samples[3:]} == errors
    assert len(samples.samples) == 8
    assert all(sample.detail for sample in samples.samples[3:])
    assert flag_ids(samples) == ["failed"]
    found = summarize(samples, workload(concurrency=1))
    assert (found.requests, found.failed) == (6, 5)
    assert found.ttft is not None
    assert found.ttft.n == 1
    expected = behaviour.get("fail_after", 0)
    kept = {sum(c.is_token for c in s.chunks) for s in samples.samples[3:] if s.error in {"stalled", "error in stream"}}
    assert kept <= {expected}


def test_a_silent_server_does_not_cost_a_time_out_per_request(process: Remote) -> None:
    """After three time-outs in a row the rest is not sent, and is kept as such."""
    does = msgspec.structs.replace(FAST, healthy=PROBES, fail="silence")
    samples = run(process, does, concurrency=1, requests=50, warmup=0, timeout_s=0.2)
    assert [sample.error for sample in samples.samples] == ["timeout"] * 3 + ["abandoned"] * 47
    assert len(process.log()) == PROBES + 3


@pytest.mark.parametrize(
    ("behaviour", "expected"),
    [
        pytest.param({}, {}, id="everything"),
        pytest.param({"refuses": ("ignore_eos",)}, {"extras": False}, id="refuses-extras"),
        pytest.param({"refuses": ("stream_options",)}, {"stream_options": False, "usage": False, "fixed_length": None,
                     "token_ids": False, "tokens_per_chunk": None}, id="refuses-stream-options"),
        pytest.param({"refuses": (), "usage": "last"}, {"extras": False, "stream_options": False}, id="strict"),
        pytest.param({"usage": "none"}, {"usage": False, "fixed_length": None, "token_ids": False,
                     "tokens_per_chunk": None}, id="counts-nothing"),
        pytest.param({"stop_after": 5}, {"fixed_length": False}, id="stops-early"),
        pytest.param({"cached_tokens": 0}, {"cached_tokens": True}, id="reports-its-cache"),
        pytest.param({"token_ids": False}, {"token_ids": False}, id="refuses-ids"),
        pytest.param({"tokenizer": "prompt"}, {}, id="tokenizes-as-vllm"),
        pytest.param({"tokenizer": None}, {"tokenizer": None, "token_ids": False}, id="has-no-tokenizer"),
        pytest.param({"tokens_per_chunk": 2}, {"tokens_per_chunk": 2.0}, id="two-tokens-a-chunk"),
    ],
)  # fmt: skip
def test_capabilities(process: Remote, behaviour: dict[str, Any], expected: dict[str, Any]) -> None:
    """The probe finds what a server takes and reports, and notes what it refused."""
    process.become(msgspec.structs.replace(FAST, **behaviour))
    found = probe(target(process), workload())
    usual: dict[str, Any] = {
        "model": "reference", "extras": True, "stream_options": True, "usage": True, "fixed_length": True,
        "cached_tokens": False, "tokenizer": "/tokenize", "token_ids": True, "tokens_per_chunk": 1.0,
    }  # fmt: skip
    seen = msgspec.structs.asdict(found)
    assert {key: seen[key] for key in usual} == usual | expected
    assert found.tokens_per_word == pytest.approx(1.4, abs=0.2)
    refusals = "refuses" in behaviour or behaviour.get("token_ids") is False
    assert bool(found.notes) == refusals
    assert all("\n" not in note for note in found.notes)


def test_a_strict_server_is_measured_with_what_it_takes(process: Remote) -> None:
    """Refused fields are left out of every request of the run."""
    samples = run(process, msgspec.structs.replace(FAST, refuses=(), usage="last"))
    assert {sample.error for sample in samples.samples} == {None}
    fields = {tuple(served.fields) for served in process.log()[-8:]}
    assert fields == {("max_tokens", "model", "prompt", "stream", "temperature")}


@pytest.mark.parametrize(
    ("behaviour", "expected"),
    [
        pytest.param({"stop_after": 5}, ["osl_mismatch"], id="an-early-stop"),
        pytest.param({"cached_tokens": 12}, ["cache_hit"], id="a-prefix-cache"),
        pytest.param({"cached_tokens": 0}, [], id="an-unused-prefix-cache"),
        pytest.param({"usage": "none"}, ["no_usage"], id="no-counts"),
    ],
)
def test_deviations_are_flagged(process: Remote, behaviour: dict[str, Any], expected: list[str]) -> None:
    """What makes a run unequal to others is a flag on it."""
    assert flag_ids(run(process, msgspec.structs.replace(FAST, **behaviour))) == expected


def test_text_prompts_are_near_the_length_that_was_asked_for(process: Remote) -> None:
    """Without ids, words are cut by the server's own count; the deviation is flagged and not hidden."""
    samples = run(process, msgspec.structs.replace(FAST, tokenizer=None), input_tokens=200)
    counts = [sample.prompt_tokens or 0 for sample in samples.samples]
    assert samples.run.prompts == "text"
    assert statistics.fmean(counts) == pytest.approx(200, rel=0.15)
    assert "isl_mismatch" in flag_ids(samples, input_tokens=200)


def test_without_counts_prompts_follow_the_tokenizer(process: Remote) -> None:
    """A server that tokenizes for others but counts nothing still gets prompts of about the right length."""
    run(process, msgspec.structs.replace(FAST, usage="none"), input_tokens=200)
    counts = [served.prompt_tokens for served in process.log()[PROBES:]]
    assert statistics.fmean(counts) == pytest.approx(200, rel=0.15)


def test_a_model_without_a_name_is_the_first_that_is_listed(process: Remote) -> None:
    """The name that was used is kept with the run."""
    samples = run(process, FAST, of={"model": ""}, requests=1, warmup=0)
    assert samples.run.capabilities.model == "reference"


def test_raw_stamps_survive_a_file_and_have_no_key_in_them(process: Remote, tmp_path: Path) -> None:
    """The key goes to the server and nowhere else, even when the server repeats it in an error."""
    does = msgspec.structs.replace(FAST, api_key="s3cret-key")
    samples = run(process, does, of={"api_key": "s3cret-key"})
    assert {sample.error for sample in samples.samples} == {None}
    load.write(samples, tmp_path / "samples.jsonl")
    assert load.read(tmp_path / "samples.jsonl") == samples
    assert "s3cret" not in (tmp_path / "samples.jsonl").read_text(encoding="utf-8")
    assert "s3cret" not in repr(samples)
    with pytest.raises(RequestError, match=r"^http://127\.0\.0\.1:\d+/v1/completions: no completion: http 401: ") as no:
        drive(target(process, api_key="wr0ng-key"), workload(), run_id="run")
    assert "***" in str(no.value)
    assert "wr0ng" not in str(no.value)


def test_a_server_that_is_not_there() -> None:
    """Nobody at the address is one clear error, and no run."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(RequestError, match=rf"^{url}/v1/completions: no completion: refused: connection refused$"):
            drive(Target(url=url, model="m"), workload(), run_id="run")
        with pytest.raises(
            RequestError, match=rf"^{url}/v1/models: lists no model: connection refused; name one with engine.model="
        ):
            drive(Target(url=url), workload(), run_id="run")


@pytest.mark.parametrize(
    ("behaviour", "expected"),
    [
        pytest.param({"fail": "silence"}, r"timeout: after 0\.5 s$", id="silence"),
        pytest.param({"fail": "reset"}, "closed early: ", id="reset"),
        pytest.param({"fail": "html"}, "garbage: <html>", id="a-page"),
        pytest.param({"fail": "no_http"}, "garbage: ", id="another-protocol"),
        pytest.param({"fail": "close"}, "closed early: ", id="closed"),
        pytest.param({"status": 400}, "http 400: .*as it was told to", id="refused-whatever-is-left-out"),
        pytest.param({"status": 503}, "http 503: .*as it was told to", id="unavailable"),
    ],
)
def test_a_server_that_completes_nothing(process: Remote, behaviour: dict[str, Any], expected: str) -> None:
    """A server that breaks its first completion is an error in bounded time, and no run."""
    process.become(msgspec.structs.replace(FAST, **behaviour))
    with pytest.raises(RequestError, match=f"/v1/completions: no completion: {expected}") as no:
        drive(target(process), workload(timeout_s=0.5), run_id="run")
    assert "\n" not in str(no.value)


def test_the_reference_server_runs_in_a_thread_too() -> None:
    """Tests that need no separate process can have it beside them, log included."""
    with serving(FAST) as server:
        samples = drive(Target(url=server.url, model="m"), workload(), run_id="run")
        assert len(server.log) == PROBES + 8
    assert flag_ids(samples) == []
