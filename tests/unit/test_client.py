"""Targets, and the judgement of what happened on the wire."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from xinfer.errors import ConfigError
from xinfer.measuring import stream
from xinfer.measuring.client import Exchange, Target, explain, judge, read
from xinfer.measuring.wire import Recording

WORD = b'data: {"choices":[{"text":"a"}]}\n\n'
END = b'data: {"choices":[{"text":"","finish_reason":"length"}]}\n\n'


def exchange(*pieces: bytes, **changes: Any) -> Exchange:
    """Make an exchange with a good status, in which these pieces arrived."""
    plain = Exchange(t_sched=1, t_send=2, t_end=9, t_headers=3, status=200, pieces=[(4, p) for p in pieces])
    return msgspec.structs.replace(plain, **changes)


@pytest.mark.parametrize(
    ("happened", "expected"),
    [
        pytest.param(exchange(WORD, END), None, id="a-whole-stream"),
        pytest.param(exchange(WORD, END, failure="timeout"), None, id="a-whole-stream-and-no-hanging-up"),
        pytest.param(exchange(status=None, failure="refused"), "refused", id="nobody-listens"),
        pytest.param(exchange(status=None, failure="timeout"), "timeout", id="no-headers"),
        pytest.param(exchange(status=None, failure="garbage"), "garbage", id="no-http"),
        pytest.param(exchange(b"{}", status=503), "http 503", id="a-status"),
        pytest.param(exchange(status=429, failure="closed early"), "http 429", id="a-status-with-a-cut-body"),
        pytest.param(exchange(failure="timeout"), "timeout", id="headers-and-silence"),
        pytest.param(exchange(WORD, failure="timeout"), "stalled", id="text-and-silence"),
        pytest.param(exchange(WORD, failure="closed early"), "closed early", id="reset"),
        pytest.param(exchange(WORD), "closed early", id="a-clean-end-in-the-middle"),
        pytest.param(exchange(), "closed early", id="an-empty-body"),
        pytest.param(exchange(b"<html></html>"), "garbage", id="a-page"),
        pytest.param(exchange(WORD, b"data: {\n", END), "garbage", id="a-line-that-is-no-event"),
        pytest.param(exchange(b'data: {"error":"x"}\n', END), "error in stream", id="an-error-event"),
    ],
)
def test_judge(happened: Exchange, expected: str | None) -> None:
    """Every way to fail has one name."""
    assert judge(happened, stream.read(happened.pieces)) == expected


@pytest.mark.parametrize(
    ("happened", "expected"),
    [
        pytest.param(exchange(b'{"error": "no\n such model"}', status=404), '{"error": "no such model"}', id="a-body"),
        pytest.param(exchange(status=404), "the answer is empty", id="no-body"),
        pytest.param(exchange(detail="after 5 s", failure="timeout"), "after 5 s", id="the-client-knows"),
        pytest.param(exchange(b"data: {\n"), "1 lines are no events of a completion stream", id="garbage"),
        pytest.param(exchange(WORD), "the stream ended without finish_reason and without [DONE]", id="an-early-end"),
        pytest.param(exchange(b'data: {"error":"x"}\n'), '"x"', id="an-error-event"),
        pytest.param(exchange(b"bad key: s3cret", status=401), "bad key: ***", id="a-key-that-the-server-repeats"),
        pytest.param(exchange(b"x" * 9999, status=500), "x" * 300, id="a-very-long-body"),
    ],
)
def test_explain(happened: Exchange, expected: str) -> None:
    """A failure is explained in one line that never has the key in it."""
    target = Target(url="http://127.0.0.1", model="m", api_key=" s3cret\n")
    assert explain(happened, stream.read(happened.pieces), target) == expected


def test_a_target_does_not_show_secrets() -> None:
    """Neither its text nor the address that messages use has a key or a password in it."""
    target = Target(url="https://user:pass@host:8000/", model="m", api_key="s3cret")
    assert repr(target) == "Target(url='https://host:8000', model='m', request={})"


@pytest.mark.parametrize("url", ["", "localhost:8000", "ftp://host", "http://", "http://host:99999", "http://[", "/v1"])
def test_an_address_must_be_one(url: str) -> None:
    """What is no address of a web server is refused before anything is sent."""
    with pytest.raises(ConfigError, match=r"is not an address of a server; allowed: http://host:port, https://host"):
        Target(url=url, model="m").check()


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        pytest.param({"url": "http://127.0.0.1:8000"}, ["POST /v1/x HTTP/1.1", "Host: 127.0.0.1:8000"], id="plain"),
        pytest.param({"url": "https://Example.com/"}, ["POST /v1/x HTTP/1.1", "Host: example.com"], id="no-port"),
        pytest.param({"url": "http://[::1]:80/a b/ü"}, ["POST /a%20b/%C3%BC/v1/x HTTP/1.1", "Host: [::1]:80"],
                     id="a-path-before"),
        pytest.param({"url": "http://bücher.example"}, ["Host: xn--bcher-kva.example"], id="a-name-beyond-ascii"),
        pytest.param({"url": "http://h", "api_key": " k3y\n"}, ["Authorization: Bearer k3y"], id="a-key"),
        pytest.param({"url": "http://u%40:p%3a@h"}, ["Host: h", "Authorization: Basic dUA6cDo="], id="a-password"),
        pytest.param({"url": "http://u:p@h", "api_key": "k"}, ["Authorization: Bearer k"], id="a-key-wins"),
    ],
)  # fmt: skip
def test_a_request_as_it_is_sent(target: dict[str, Any], expected: list[str]) -> None:
    """Its head says where it goes and how long it is, and each header once."""
    head, _, body = Target(model="m", **target).asking("/v1/x", b'{"a": 1}').partition(b"\r\n\r\n")
    lines = head.decode("ascii").split("\r\n")
    assert set(expected) <= set(lines)
    assert "Content-Length: 8" in lines
    assert body == b'{"a": 1}'
    names = [line.partition(":")[0] for line in lines[1:]]
    assert len(names) == len(set(names))


def test_a_get_has_no_body() -> None:
    """And nothing that announces one."""
    asked = Target(url="http://h").asking("/v1/models")
    assert asked.startswith(b"GET /v1/models HTTP/1.1\r\n")
    assert asked.endswith(b"\r\n\r\n")
    assert b"Content" not in asked


@pytest.mark.parametrize("key", ["a\r\nX: y", "schlüssel", "a\0"])
def test_a_key_that_no_header_can_carry_is_refused(key: str) -> None:
    """Before it could become a header of its own; and it is not repeated."""
    with pytest.raises(ConfigError, match=r"^the API key has a character that no header can carry") as no:
        Target(url="http://h", api_key=key).check()
    assert key not in str(no.value)


def recorded(*pieces: bytes, failure: str | None = None) -> Recording:
    """Make a recording of which the n-th piece came at 10 n."""
    recording = Recording(1)
    for number, piece in enumerate(pieces, 1):
        recording.raw += piece
        recording.stamps.append(10 * number)
        recording.counts.append(len(recording.raw))
    recording.failure, recording.detail = failure, failure and "a detail"
    return recording


HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    ("recording", "expected"),
    [
        pytest.param(recorded(HEAD[:9], HEAD[9:] + b"3\r\nab", b"c\r\n0\r\n\r\n"),
                     (200, 20, [(20, b"ab"), (30, b"c")], None, None), id="whole"),
        pytest.param(recorded(HEAD, failure="timeout"), (200, 10, [], "timeout", "a detail"), id="silent"),
        pytest.param(recorded(failure="refused"), (None, None, [], "refused", "a detail"), id="nobody-there"),
        pytest.param(recorded(HEAD, b"1\r\nax", failure="timeout"),
                     (200, 10, [(20, b"a")], "garbage", "expected LF after chunk data"), id="garbage-and-silence"),
    ],
)  # fmt: skip
def test_what_was_recorded_is_read(recording: Recording, expected: tuple[Any, ...]) -> None:
    """With the stamps of its deliveries; bytes that are no HTTP outrank whatever ended the connection."""
    found = read(recording)
    assert (found.status, found.t_headers, found.pieces, found.failure, found.detail) == expected


def test_nothing_at_all_is_no_success() -> None:
    """Whatever may have happened to an exchange, one without a status has failed."""
    assert judge(read(recorded()), stream.read(())) == "closed early"
