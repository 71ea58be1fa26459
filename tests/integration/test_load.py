"""The load generator against a server of exactly known behaviour, in a process of its own."""

from __future__ import annotations

import itertools
import socket
import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from xinfer.errors import ConfigError, RequestError
from xinfer.measuring import load, schedule
from xinfer.measuring.load import Target, drive, identity, probe
from xinfer.measuring.metrics import flags, summarize
from xinfer.measuring.prompts import Prompts
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
    """Return the flags but for those that a small test, or a busy machine, raises."""
    return [flag.id for flag in flags(samples, workload(**changes)) if flag.id not in {"short", "client_bound"}]


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
    found = probe(target(process), workload()).capabilities
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


OPEN: dict[str, Any] = {"concurrency": 3, "requests": 12, "warmup": 3}


@pytest.mark.parametrize("load", ["constant", "poisson"])
def test_an_open_loop_keeps_its_schedule_whatever_the_server_does(process: Remote, load: Any) -> None:
    """Each request leaves at its instant and none before; a server that takes its time has ever more in flight."""
    samples = run(process, Behaviour(ttft_s=1.0), load=load, rate=100.0, **OPEN)
    asked = workload(load=load, rate=100.0, **OPEN)
    due = [one.at_ns or 0 for one in schedule.phases(asked, "run")[0].due]
    sched = [sample.t_sched for sample in samples.samples]
    assert [t_ns - sched[0] for t_ns in sched] == [at_ns - due[0] for at_ns in due]
    assert all(sample.t_send >= sample.t_sched for sample in samples.samples)
    assert {sample.error for sample in samples.samples} == {None}
    log = process.log()[PROBES:]
    assert max(served.received_ns for served in log) < min(served.sent[-1][0] for served in log)
    found = summarize(samples, asked)
    assert found.window_s == pytest.approx((sched[-1] - sched[3]) / 1e9)
    assert found.ttft is not None
    assert found.ttft_sched is not None
    assert found.ttft_sched.min >= found.ttft.min


def test_offline_sends_everything_once_the_warm_up_is_over(process: Remote) -> None:
    """All at one instant, whatever the concurrency."""
    samples = run(process, Behaviour(ttft_s=0.5), load="offline", **OPEN)
    assert len({sample.t_sched for sample in samples.measured}) == 1
    log = process.log()[PROBES:]
    warm, burst = log[:3], log[3:]
    assert max(served.sent[-1][0] for served in warm) < min(served.received_ns for served in burst)
    assert max(served.received_ns for served in burst) < min(served.sent[-1][0] for served in burst)
    found = summarize(samples, workload(load="offline", **OPEN))
    assert found.window_s == pytest.approx((max(s.t_end for s in samples.measured) - samples.samples[-1].t_sched) / 1e9)


def test_a_trace_is_replayed(process: Remote, tmp_path: Path) -> None:
    """Each request at its instant, and with its own lengths."""
    moments = [(1000, 16, 3), (1000, 20, 8), (1040, 9, 1), (1100, 24, 5)]
    lines = [f'{{"timestamp": {t}, "input_length": {i}, "output_length": {o}, "hash_ids": []}}' for t, i, o in moments]
    (tmp_path / "t.jsonl").write_text("\n".join(lines), encoding="utf-8")
    asked: dict[str, Any] = {"load": "trace", "trace": str(tmp_path / "t.jsonl"), "requests": 1}
    samples = run(process, FAST, **asked)
    start = samples.measured[0].t_sched
    assert [(s.t_sched - start) // 1_000_000 for s in samples.measured] == [0, 0, 40, 100]
    assert [(s.prompt_tokens, s.completion_tokens) for s in samples.measured] == [m[1:] for m in moments]
    assert flag_ids(samples, **asked) == []


def test_a_trace_is_known_by_what_is_in_it(tmp_path: Path) -> None:
    """A file that was changed makes another cell, and one that has only moved the same."""
    one, other = tmp_path / "one", tmp_path / "other"
    one.write_text("a")
    other.write_text("a")
    known = identity(workload(load="trace", trace=str(one)))
    assert known == identity(workload(load="trace", trace=str(other)))
    other.write_text("b")
    assert known != identity(workload(load="trace", trace=str(other)))
    assert identity(workload()) == identity(workload(load="trace", trace=str(tmp_path / "none"))) == {}


def test_a_bad_trace_is_refused_before_anything_is_sent(process: Remote, tmp_path: Path) -> None:
    """With the file, the line and what would be allowed."""
    process.become(FAST)
    path = tmp_path / "t.jsonl"
    asked = workload(load="trace", trace=str(path))
    for content, said in (
        (None, "cannot be read: No such file"),
        (b"\xff", "is no text"),
        (b"{}", ":1: object missing"),
    ):
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(ConfigError, match=f"t.jsonl.*{said}"):
            drive(target(process), asked, run_id="run")
    assert process.log() == []


def test_a_closed_loop_goes_on_until_its_time_is_up(process: Remote) -> None:
    """Beyond the requests that were asked for, with prompts of their own; and no longer than that."""
    samples = run(process, FAST, requests=4, seconds=0.5)
    assert len(samples.measured) > 4
    assert samples.run.ended_ns - samples.run.started_ns >= 0.5e9
    assert max(sample.t_sched for sample in samples.measured) - samples.run.started_ns < 1e9
    assert {sample.error for sample in samples.samples} == {None}
    assert [sample.index for sample in samples.samples] == list(range(len(samples.samples)))
    assert len({sample.prompt_hash for sample in samples.samples}) == len(samples.samples)


def test_a_closed_loop_sends_what_was_asked_for_even_after_its_time(process: Remote) -> None:
    """Both limits must be reached."""
    assert len(run(process, FAST, requests=20, seconds=0.001).measured) == 20


def test_connections_are_kept_where_the_server_allows(process: Remote) -> None:
    """Each place needs one; a server that closes them gets a new one for each request, and loses none."""
    for behaviour, most in (
        ({}, 2),
        ({"keep_alive": False}, 8),
        ({"framing": "close"}, 8),
        ({"drops_reused": True}, 8),
    ):
        samples = run(process, msgspec.structs.replace(FAST, **behaviour))
        assert {sample.error for sample in samples.samples} == {None}
        used = {served.connection for served in process.log()[PROBES:]}
        assert len(used) <= 2 if most == 2 else len(used) == most
        again = sum(sample.resent for sample in samples.samples)
        assert (again > 0) is ("drops_reused" in behaviour), (
            "sent once more only where the server dropped what it had taken"
        )


def test_a_connection_that_the_server_closed_while_it_was_idle_costs_no_request(process: Remote) -> None:
    """The next request goes over a new one, without a sign of it in the sample."""
    samples = run(process, msgspec.structs.replace(FAST, idle_s=0.02), load="constant", rate=10.0, requests=4, warmup=0)
    assert {sample.error for sample in samples.samples} == {None}
    assert len(process.log()) == PROBES + 4
    assert len({served.connection for served in process.log()[PROBES:]}) > 1


def test_given_prompts_are_sent(process: Remote) -> None:
    """Who has made the prompts has nothing to prepare; too few of them are refused."""
    process.become(FAST)
    mine = run(process, FAST)
    able = mine.run.capabilities
    given = Prompts("text", [f"prompt number {n}" for n in range(8)], [4] * 8, "hash", able)
    samples = drive(target(process), workload(), run_id="run", prompts=given)
    assert [served.prompt for served in process.log()[-8:]].count("prompt number 7") == 1
    assert samples.run.prompts_hash == "hash"
    with pytest.raises(ConfigError, match="8 prompts are given for 9 requests"):
        drive(target(process), workload(requests=7), run_id="run", prompts=given)


def test_places_begin_one_after_another(process: Remote) -> None:
    """Within the time of a request, so that they do not stay in step; the probe tells how long that is."""
    samples = run(process, Behaviour(ttft_s=0.04, gap_s=0.02), concurrency=4, warmup=4, requests=8)
    starts = [sample.t_sched for sample in samples.samples[:4]]
    gaps = [(after - before) / 1e9 for before, after in itertools.pairwise(starts)]
    assert min(gaps) > 0.03  # a request takes 0.04 + 8 * 0.02 s, and there are four
