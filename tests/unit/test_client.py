"""Targets, and the judgement of what happened on the wire."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from xinfer.errors import ConfigError
from xinfer.measuring import stream
from xinfer.measuring.client import Exchange, Target, explain, judge

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
