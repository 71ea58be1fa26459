"""A token is sent to its server and to nobody else, over a connection that nobody else can read."""

from __future__ import annotations

import io
import urllib.error
import urllib.request
from http.client import HTTPMessage

import pytest

from xinfer.sources import web

HUB = "https://hub.example/a"


def redirected(old: str, new: str) -> urllib.request.Request | None:
    request = urllib.request.Request(old, headers={"Range": "bytes=0-1"})  # noqa: S310 -- nothing is opened
    request.add_unredirected_header("Authorization", "Bearer secret")
    return web._Redirects().redirect_request(request, io.BytesIO(), 302, "Found", HTTPMessage(), new)


@pytest.mark.parametrize(
    ("new", "token"),
    [
        pytest.param("https://hub.example/b", "Bearer secret", id="the-same-server"),
        pytest.param("https://storage.example/b", None, id="another-server"),
        pytest.param("https://hub.example:444/b", None, id="another-port"),
        pytest.param("https://hub.example.evil.example/b", None, id="a-name-that-begins-alike"),
    ],
)
def test_a_redirect_takes_the_token_along_only_at_home(new: str, token: str | None) -> None:
    """The range goes along everywhere."""
    request = redirected(HUB, new)
    assert request is not None
    assert request.get_header("Authorization") == token
    assert request.get_header("Range") == "bytes=0-1"


@pytest.mark.parametrize(
    "new",
    [
        pytest.param("http://hub.example/b", id="the-same-server-in-the-open"),
        pytest.param("http://127.0.0.1/b", id="this-machine"),
        pytest.param("ftp://hub.example/b", id="another-protocol"),
    ],
)
def test_a_redirect_into_the_open_is_not_followed(new: str) -> None:
    """Nor one to what only this machine can reach."""
    with pytest.raises(urllib.error.HTTPError, match="without https"):
        redirected(HUB, new)


@pytest.mark.parametrize(
    ("url", "keeps"),
    [
        pytest.param("https://hub.example", True, id="https"),
        pytest.param("http://127.0.0.1:8000", True, id="loopback"),
        pytest.param("http://[::1]:8000", True, id="loopback-6"),
        pytest.param("http://hub.example", False, id="http"),
    ],
)
def test_a_token_is_not_sent_in_the_open(url: str, *, keeps: bool) -> None:
    """A mirror inside a company may be asked so, but not with a token."""
    assert web._keeps_secrets(url) is keeps


@pytest.mark.parametrize(
    ("error", "said"),
    [
        pytest.param(urllib.error.URLError(OSError(111, "Connection refused")), "Connection refused", id="refused"),
        pytest.param(urllib.error.URLError("unknown url type: x"), "unknown url type: x", id="a-text"),
        pytest.param(TimeoutError("timed out"), "silent for 10 s", id="a-socket's-timeout"),
        pytest.param(urllib.error.URLError(TimeoutError("timed out")), "silent for 10 s", id="while-connecting"),
        pytest.param(TimeoutError("no whole answer after 60 s"), "no whole answer after 60 s", id="our-own"),
        pytest.param(TimeoutError(110, "Connection timed out"), "silent for 10 s", id="the-system's-timeout"),
        pytest.param(ValueError(), "ValueError", id="nothing-is-said"),
    ],
)
def test_why_there_is_no_answer_is_said_in_a_few_words(error: Exception, said: str) -> None:
    """As the system said it."""
    assert web._reason(error) == said
