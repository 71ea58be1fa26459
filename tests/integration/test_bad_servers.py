"""Servers that misbehave: every request ends in bounded time, with its error named and its stamps kept."""

from __future__ import annotations

import asyncio
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import msgspec
import pytest
import trustme

from xinfer import record
from xinfer.errors import RequestError
from xinfer.measuring import load, stream
from xinfer.measuring.capabilities import COMPLETIONS, completion
from xinfer.measuring.client import Client, Exchange, explain, judge
from xinfer.measuring.load import Target, drive
from xinfer.measuring.metrics import flags, summarize
from xinfer.measuring.samples import Samples
from xinfer.measuring.stream import Reply
from xinfer.spec import Workload
from xinfer.testing.reference_ports import refusing, unaccepting, unanswering
from xinfer.testing.reference_server import Behaviour, Remote, Served, context, serving, spawned

Ask = Callable[..., subprocess.CompletedProcess[str]]

FAST = Behaviour(ttft_s=0.004, gap_s=0.001)
PROBES = 2
"""Completion requests before the load, which have to succeed."""
TIMEOUT_S = 0.5
SLACK_S = 5.0
"""How much later than the time-out a request may end on a machine that is very busy; a hang is longer."""
LARGE = 10_000_000


@pytest.fixture(scope="module")
def process() -> Iterator[Remote]:
    with spawned(FAST) as remote:
        yield remote


def workload(**changes: Any) -> Workload:
    plain = Workload(
        name="w", input_tokens=24, output_tokens=8, concurrency=2, requests=8, warmup=0, timeout_s=TIMEOUT_S
    )
    return msgspec.structs.replace(plain, **changes)


def target(url: str) -> Target:
    return Target(url=url, model="reference", request={"ignore_eos": True})


def run(remote: Remote, changes: dict[str, Any], **of: Any) -> tuple[Samples, list[Served]]:
    """Drive a load of which every other request is served badly."""
    remote.become(msgspec.structs.replace(FAST, **{"healthy": PROBES, "fail_every": 2} | changes))
    samples = drive(target(remote.url), workload(**of), run_id="bad")
    return samples, remote.log()[PROBES:]


def check(samples: Samples, log: list[Served], errors: set[str]) -> None:
    """Hold what every bad server has in common against a run."""
    assert [sample.index for sample in samples.samples] == list(range(8))
    bad = [sample for sample in samples.samples if sample.error is not None]
    good = [sample for sample in samples.samples if sample.error is None]
    assert (len(good), len(bad)) == (4, 4)
    assert {sample.error for sample in bad} <= errors
    assert {(s.completion_tokens, s.finish_reason, s.detail) for s in good} == {(8, "length", None)}
    for sample in bad:
        assert sample.detail
        assert len(sample.detail) <= 300
        assert sample.detail == " ".join(sample.detail.split())
        stamps = [sample.t_sched, sample.t_send, *(chunk.t_ns for chunk in sample.chunks), sample.t_end]
        assert stamps == sorted(stamps)
        assert (sample.t_end - sample.t_sched) / 1e9 < TIMEOUT_S + SLACK_S
    assert (samples.run.ended_ns - samples.run.started_ns) / 1e9 < 8 * TIMEOUT_S + SLACK_S
    found = summarize(samples, workload())
    assert (found.requests, found.failed) == (8, 4)
    assert found.ttft is not None
    assert found.ttft.n == 4
    failed = next(flag for flag in flags(samples, workload()) if flag.id == "failed")
    assert failed.value == 4
    assert len(log) >= 8


# What it says


@pytest.mark.parametrize("status", [301, 302, 307, 308, 400, 401, 403, 404, 422, 429, 500, 502, 503])
def test_a_status(process: Remote, status: int) -> None:
    """Every status but 200 is an error with what the server said about it; a redirect is not followed."""
    samples, log = run(process, {"status": status, "location": "/v1/completions"})
    check(samples, log, {f"http {status}"})
    bad = [sample for sample in samples.samples if sample.error]
    assert all("as it was told to" in (sample.detail or "") for sample in bad)
    assert {(sample.status, sample.chunks) for sample in bad} == {(status, ())}
    assert all(sample.t_headers is not None for sample in bad)
    assert len(log) == 8


BROKEN: dict[str, tuple[dict[str, Any], set[str]]] = {
    "closed-in-the-stream": ({"fail": "close"}, {"closed early"}),
    "closed-in-the-stream-of-a-known-length": ({"fail": "close", "framing": "length"}, {"closed early"}),
    "closed-in-the-stream-that-closing-ends": ({"fail": "close", "framing": "close"}, {"closed early"}),
    "closed-within-a-chunk": ({"fail": "cut"}, {"closed early"}),
    "closed-within-an-event": ({"fail": "cut", "framing": "close"}, {"closed early"}),
    "stalled": ({"fail": "stall"}, {"stalled"}),
    "garbage": ({"fail": "garbage"}, {"garbage"}),
    "an-error": ({"fail": "error"}, {"error in stream"}),
    "an-error-in-a-kept-connection": ({"fail": "error", "framing": "length"}, {"error in stream"}),
    "a-chunk-of-no-size": ({"fail": "bad_chunk"}, {"garbage"}),
    "a-chunk-of-all-the-memory-there-is": ({"fail": "huge_chunk"}, {"garbage", "stalled"}),
    "comments-without-end": ({"fail": "endless_comments"}, {"stalled"}),
    "comments-without-end-and-pause": ({"fail": "endless_comments", "gap_s": 0.0}, {"stalled", "too large"}),
    "a-line-without-end": ({"fail": "endless_line"}, {"stalled", "too large"}),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_a_stream_that_breaks(process: Remote, name: str) -> None:
    """What came before is kept: as many chunks with text as the server sent."""
    changes, errors = BROKEN[name]
    samples, log = run(process, {"fail_after": 3} | changes)
    check(samples, log, errors)
    sent = sorted(len(served.sent) for served in log)
    kept = sorted(sum(chunk.is_token for chunk in sample.chunks) for sample in samples.samples)
    assert kept == sent
    if changes["fail"] != "garbage":
        assert kept == [3] * 4 + [8] * 4


UNANSWERED: dict[str, tuple[dict[str, Any], set[str]]] = {
    "closed-without-a-byte": ({"fail": "slam", "keep_alive": False}, {"closed early"}),
    "closed-after-the-headers": ({"fail": "close"}, {"closed early"}),
    "nothing-in-good-order": ({"fail": "empty"}, {"closed early"}),
    "silent": ({"fail": "silence"}, {"timeout"}),
    "silent-after-the-headers": ({"fail": "stall"}, {"timeout"}),
    "headers-after-the-time-out": ({"fail": "late", "stall_s": 2 * TIMEOUT_S}, {"timeout"}),
    "a-page": ({"fail": "html"}, {"garbage"}),
    "no-http": ({"fail": "no_http"}, {"garbage"}),
    "headers-without-end": ({"fail": "endless_headers"}, {"timeout", "too large", "garbage"}),
    "headers-drop-by-drop": ({"fail": "slow_headers", "gap_s": 0.02}, {"timeout"}),
}


@pytest.mark.parametrize("name", UNANSWERED)
def test_an_answer_that_never_begins(process: Remote, name: str) -> None:
    """Not a single chunk is made up."""
    changes, errors = UNANSWERED[name]
    samples, log = run(process, changes)
    check(samples, log, errors)
    assert {len(sample.chunks) for sample in samples.samples if sample.error} == {0}


def test_a_stream_that_is_reset(process: Remote) -> None:
    """The system may throw away what had arrived already; the rest is kept."""
    samples, log = run(process, {"fail": "reset", "fail_after": 3, "gap_s": 0.02})
    check(samples, log, {"closed early"})
    assert {sum(chunk.is_token for chunk in sample.chunks) for sample in samples.samples} <= {0, 1, 2, 3, 8}


def test_tokens_without_end(process: Remote) -> None:
    """A server that generates for ever is cut off by the time-out, and what came is kept."""
    samples, log = run(process, {"fail": "endless_tokens", "gap_s": 0.01})
    check(samples, log, {"stalled"})
    assert all(sum(c.is_token for c in sample.chunks) > 8 for sample in samples.samples if sample.error)


STREAM = b'data: {"choices":[{"text":" a"}]}\n\n'
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
RAW: dict[str, bytes] = {
    "nothing": b"",
    "one-byte": b"H",
    "half-a-status-line": b"HTTP/1.1 2",
    "no-status": b"HTTP/1.1 OK\r\n\r\n",
    "a-status-of-five-digits": b"HTTP/1.1 20000 OK\r\n\r\n",
    "a-negative-status": b"HTTP/1.1 -200 OK\r\n\r\n",
    "another-version": b"HTTP/7.3 200 OK\r\n\r\n" + STREAM,
    "no-version": STREAM,
    "only-interim-answers": b"HTTP/1.1 100 Continue\r\n\r\n" * 1000,
    "another-protocol": b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n\x00\x01",
    "no-content": b"HTTP/1.1 204 No Content\r\n\r\n",
    "not-modified": b"HTTP/1.1 304 Not Modified\r\nContent-Length: 99\r\n\r\n",
    "a-length-that-is-too-long": HEAD + b"Content-Length: 999\r\n\r\n" + STREAM,
    "a-length-that-is-too-short": HEAD + b"Content-Length: 9\r\n\r\n" + STREAM,
    "a-negative-length": HEAD + b"Content-Length: -1\r\n\r\n" + STREAM,
    "a-length-of-a-thousand-digits": HEAD + b"Content-Length: " + b"9" * 1000 + b"\r\n\r\n" + STREAM,
    "two-lengths": HEAD + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n" + STREAM,
    "a-length-and-chunks": HEAD + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n" + STREAM,
    "chunks-that-are-none": HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + STREAM,
    "a-coding-that-was-not-asked-for": HEAD + b"Content-Encoding: gzip\r\n\r\n\x1f\x8b\x08\x00" + b"\xff" * 99,
    "a-header-without-a-colon": HEAD + b"nonsense\r\n\r\n" + STREAM,
    "a-header-with-a-zero": HEAD + b"X-A: \x00\r\n\r\n" + STREAM,
    "bare-line-feeds": HEAD.replace(b"\r\n", b"\n") + b"\n" + STREAM,
    "two-answers": (HEAD + b"Content-Length: 33\r\n\r\n" + STREAM[:33]) * 2,
    "zeros": b"\x00" * 100_000,
    "random-bytes": bytes(i * 7919 % 256 for i in range(100_000)),
    "a-json-list": HEAD + b"\r\n" + b"data: []\n\n",
    "json-of-the-wrong-types": HEAD + b"\r\n" + b'data: {"choices": {"text": 7}}\n\n',
    "json-without-end": HEAD + b"\r\ndata: " + b"[" * 100_000 + b"\n\n",
    "a-number-of-tokens-that-is-none": HEAD + b'\r\ndata: {"usage": {"completion_tokens": "many"}}\n\n',
    "tls": bytes.fromhex("15030300020228"),
}  # fmt: skip


KINDS = {"closed early", "garbage", "timeout", "stalled", "http 204", "http 304", "http 101"}


def answer(url: str, body: bytes) -> tuple[Exchange, Reply]:
    """Ask for one completion, on a connection of its own."""

    async def ask() -> Exchange:
        async with Client(target(url)) as client:
            return await client.send(COMPLETIONS, body, timeout_s=TIMEOUT_S)

    exchange = asyncio.run(ask())
    return exchange, stream.read(exchange.pieces)


@pytest.mark.parametrize("ending", [pytest.param(None, id="closed"), "reset", "stall"])
@pytest.mark.parametrize("name", RAW)
def test_whatever_the_bytes_are(process: Remote, name: str, ending: Literal["reset", "stall"] | None) -> None:
    """Any answer that is no whole stream is an error that says so, however the connection ends."""
    process.become(Behaviour(raw=RAW[name], fail=ending))
    body = completion(target(process.url), "a b c", 8, extras=True, stream_options=True)
    exchange, reply = answer(process.url, body)
    assert judge(exchange, reply) in KINDS
    assert 0 < len(explain(exchange, reply, target(process.url))) <= 300
    assert (exchange.t_end - exchange.t_send) / 1e9 < TIMEOUT_S + SLACK_S
    stamps = [exchange.t_send, *(t_ns for t_ns, _ in exchange.pieces), exchange.t_end]
    assert stamps == sorted(stamps)


def test_ten_megabytes_in_one_chunk(process: Remote) -> None:
    """They are read whole, and the request succeeds; the others are not harmed."""
    process.become(msgspec.structs.replace(FAST, text="x" * (LARGE // 8), tokens_per_chunk=8))
    samples = drive(target(process.url), workload(requests=4, timeout_s=30), run_id="bad")
    assert [sample.error for sample in samples.samples] == [None] * 4
    assert {tuple(c.characters for c in sample.chunks if c.is_token) for sample in samples.samples} == {(LARGE,)}
    assert {sample.completion_tokens for sample in samples.samples} == {8}


# When it says nothing any more


def test_a_server_that_dies(process: Remote) -> None:
    """What was measured before is kept whole, and the rest is known to have failed."""
    del process
    with spawned(msgspec.structs.replace(FAST, healthy=PROBES + 3, fail="leave")) as remote:
        samples = drive(target(remote.url), workload(concurrency=1), run_id="bad")
    assert [sample.error for sample in samples.samples[:3]] == [None] * 3
    assert "refused" in {sample.error for sample in samples.samples[3:]} <= {"closed early", "refused"}
    assert len(samples.samples) == 8
    assert all(sample.detail for sample in samples.samples[3:])


@pytest.mark.parametrize("concurrency", [1, 3])
def test_a_server_that_falls_silent(process: Remote, concurrency: int) -> None:
    """It does not cost a time-out for each request: soon the rest is not sent, and is kept as such."""
    changes: dict[str, Any] = {"fail": "silence", "fail_every": 1, "healthy": PROBES + 2}
    samples, log = run(process, changes, concurrency=concurrency, requests=40)
    errors = [sample.error for sample in sorted(samples.samples, key=lambda sample: sample.t_sched)]
    assert errors[:2] == [None, None]
    assert set(errors[2:]) == {"timeout", "abandoned"}
    assert 3 <= errors.count("timeout") <= 3 * concurrency
    assert len(log) == 40 - errors.count("abandoned")
    assert all(sample.t_end - sample.t_send == 0 for sample in samples.samples if sample.error == "abandoned")


# Where there is no server


@pytest.mark.parametrize(
    ("port", "said"),
    [
        pytest.param(refusing, r"refused: connection refused", id="nobody-listens"),
        pytest.param(unanswering, r"timeout: after 0\.5 s", id="nobody-takes-the-connection"),
        pytest.param(unaccepting, r"timeout: after 0\.5 s", id="no-connection-is-made"),
    ],
)
def test_a_port_without_a_server(port: Callable[[], Any], said: str) -> None:
    """One line, in bounded time, and no run."""
    with port() as number, pytest.raises(RequestError, match=f"^http.*/v1/completions: no completion: {said}$"):
        drive(target(f"http://127.0.0.1:{number}"), workload(), run_id="bad")


# TLS


class Keys:
    """A certificate for this machine, and the authority that everybody would have to trust."""

    def __init__(self, directory: Path) -> None:
        authority = trustme.CA()
        issued = authority.issue_cert("127.0.0.1", "localhost")
        self.certificate, self.key, self.authority = (
            str(directory / name) for name in ("certificate.pem", "key.pem", "authority.pem")
        )
        Path(self.certificate).write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
        issued.private_key_pem.write_to_path(self.key)
        authority.cert_pem.write_to_path(self.authority)


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    return Keys(tmp_path_factory.mktemp("keys"))


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({}, id="kept-open"),
        pytest.param({"keep_alive": False}, id="a-connection-a-request"),
        pytest.param({"framing": "close"}, id="ended-by-closing"),
        pytest.param({"write_bytes": 5}, id="in-small-writes"),
        pytest.param({"text": "x" * (LARGE // 8), "tokens_per_chunk": 8}, id="ten-megabytes-a-chunk"),
    ],
)
def test_a_server_with_tls(keys: Keys, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any]) -> None:
    """An authority that the system is told to trust is trusted, and the stream is seen as without TLS."""
    monkeypatch.setenv("SSL_CERT_FILE", keys.authority)
    with spawned(msgspec.structs.replace(FAST, **changes), tls=(keys.certificate, keys.key)) as remote:
        assert remote.url.startswith("https:")
        samples = drive(target(remote.url), workload(timeout_s=30), run_id="bad")
        log = remote.log()
    assert [sample.error for sample in samples.samples] == [None] * 8
    assert {sum(c.is_token for c in s.chunks) for s in samples.samples} == {len(log[-1].sent)}
    first = min(sample.t_send for sample in samples.samples)
    assert first <= min(served.received_ns for served in log[PROBES:])


def test_a_certificate_that_nobody_vouches_for(keys: Keys) -> None:
    """The server is not asked anything."""
    with serving(FAST, context(keys.certificate, keys.key)) as server:
        with pytest.raises(RequestError, match=r"/v1/completions: no completion: refused: .*certificate"):
            drive(target(server.url), workload(timeout_s=5), run_id="bad")
        assert server.log == []


def test_a_stream_that_breaks_under_tls(keys: Keys, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is an early close, with or without the farewell of TLS, and what came before is kept."""
    monkeypatch.setenv("SSL_CERT_FILE", keys.authority)
    for fail in ("close", "reset", "stall"):
        does = msgspec.structs.replace(FAST, healthy=PROBES, fail_every=2, fail=fail, fail_after=3, gap_s=0.01)
        with spawned(does, tls=(keys.certificate, keys.key)) as remote:
            samples = drive(target(remote.url), workload(), run_id="bad")
            check(samples, remote.log()[PROBES:], {"stalled"} if fail == "stall" else {"closed early"})


def test_tls_to_a_plain_port() -> None:
    """One line in bounded time."""
    with serving(FAST) as server:
        with pytest.raises(RequestError, match=r"no completion: (refused|closed early): .*(wrong|record|ssl)"):
            drive(target(server.url.replace("http:", "https:")), workload(timeout_s=5), run_id="bad")
        assert server.log == []


def test_tls_to_a_port_that_waits_for_more() -> None:
    """A handshake that nobody answers ends with the time-out."""
    with unanswering() as port, pytest.raises(RequestError, match=r"no completion: timeout: after 0\.5 s$"):
        drive(target(f"https://127.0.0.1:{port}"), workload(), run_id="bad")


def test_plain_requests_to_a_tls_port(keys: Keys) -> None:
    """One line in bounded time."""
    with serving(FAST, context(keys.certificate, keys.key)) as server:
        with pytest.raises(RequestError, match=r"no completion: (closed early|garbage): "):
            drive(target(server.url.replace("https:", "http:")), workload(timeout_s=5), run_id="bad")
        assert server.log == []


# Through the command line

EXTERNAL = ("engine=external", "workload=tiny", "engine.model=reference", "workload.timeout_s=1")
OWN = ("--config-dir", str(Path(__file__).parents[1] / "resources" / "conf"))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        pytest.param({"status": 500}, "all 4 requests failed: http 500", id="it-errs"),
        pytest.param({"status": 429}, "all 4 requests failed: http 429", id="it-has-enough"),
        pytest.param({"fail": "cut", "fail_after": 2}, "all 4 requests failed: closed early", id="it-breaks-off"),
        pytest.param({"fail": "garbage"}, "all 4 requests failed: garbage", id="it-talks-garbage"),
        pytest.param({"fail": "silence"}, r"all 4 requests failed: (abandoned, )?timeout.*", id="it-is-silent"),
    ],
)
def test_a_run_in_which_all_fail_is_a_failed_one(ask: Ask, tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    """The exit code and one line say so; the record has its stamps and its flags."""
    with serving(msgspec.structs.replace(FAST, healthy=PROBES + 1, **changes)) as server:
        done = ask(*OWN, *EXTERNAL, "workload.warmup=1", f"engine.url={server.url}")
    assert done.returncode == 4
    assert "Traceback" not in done.stderr
    assert re.search(rf"^xinfer: {said}$", done.stderr, re.MULTILINE)
    (path,) = tmp_path.glob("runs/*/*/record.json")
    found = record.read(path)
    assert found.status == "failed"
    assert found.metrics is not None
    assert (found.metrics["requests"], found.metrics["failed"]) == (4, 4)
    assert "failed" in [flag["id"] for flag in found.flags]
    samples = load.read(path.with_name("samples.jsonl"))
    assert len(samples.measured) == 4
    assert all(sample.error and sample.t_end >= sample.t_send > 0 for sample in samples.measured)
    assert samples.samples[0].error is None


def test_a_run_in_which_some_fail_is_flagged_and_kept(ask: Ask, tmp_path: Path) -> None:
    """What was measured of the others stands in the table."""
    does = msgspec.structs.replace(FAST, healthy=PROBES + 2, fail="reset", fail_after=1, fail_every=2)
    with serving(does) as server:
        done = ask(*OWN, *EXTERNAL, "workload.warmup=1", f"engine.url={server.url}")
    assert done.returncode == 0
    assert "failed" in done.stdout.splitlines()[1]
    (path,) = tmp_path.glob("runs/*/*/record.json")
    found = record.read(path)
    assert found.status == "ok"
    assert found.metrics is not None
    assert (found.metrics["requests"], found.metrics["failed"], found.metrics["ttft"]["n"]) == (4, 2, 2)


def test_a_port_that_takes_no_connection_is_one_line(ask: Ask) -> None:
    """And it is said before the time-out has passed many times."""
    with unaccepting() as port:
        done = ask(*OWN, *EXTERNAL, f"engine.url=http://127.0.0.1:{port}")
    assert done.returncode == 4
    assert re.search(r"^xinfer: http://127\.0\.0\.1:\d+/v1/\w+: .*timeout: after 1 s", done.stderr, re.MULTILINE)
