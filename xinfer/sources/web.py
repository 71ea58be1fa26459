"""A few small answers from a web server, with a token that nobody else gets to see."""

from __future__ import annotations

import time
import urllib.error
import urllib.request
from http import HTTPStatus
from http.client import HTTPException, HTTPMessage, HTTPResponse
from typing import IO, NamedTuple
from urllib.parse import urlsplit

from xinfer.errors import ConfigError

WAIT_S = 10.0
"""How long a server may be silent."""
PATIENCE_S = 60.0
"""How long one answer may take in all."""
_PIECE_BYTES = 2**16
_BUSY = frozenset({HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY, HTTPStatus.TOO_MANY_REQUESTS})
_LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})


class SilentError(Exception):
    """A server does not answer, or not now; the message says why."""


class DenialError(Exception):
    """A server answers that it will not, or cannot, ever."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(f"HTTP {status}")
        self.status = status
        self.reason = reason
        """The server's own word for it, from ``X-Error-Code``; may be empty."""


class Server(NamedTuple):
    """Where to ask, and with which token."""

    url: str
    token: str | None = None

    def __repr__(self) -> str:
        """Leave the token out, so that no message or log can show it."""
        return f"Server(url={self.url!r})"

    @property
    def host(self) -> str:
        """The server's name, as messages say it."""
        return urlsplit(self.url).netloc.rpartition("@")[2]

    def get(self, path: str, *, most: int) -> bytes:
        """Return what is at a path, which must be shorter than ``most`` bytes.

        Raises SilentError or DenialError; ConfigError for a longer answer.
        """
        body = self._bytes(path, 0, most + 1, whole=True)
        if len(body) > most:
            raise ConfigError(f"{self.host}{path}: is longer than {most} bytes; that is not what was asked for")
        return body

    def part(self, path: str, start: int, length: int) -> bytes:
        """Return some bytes of what is at a path, as many as there are; raises SilentError or DenialError."""
        return self._bytes(path, start, length, whole=False)

    def _bytes(self, path: str, start: int, length: int, *, whole: bool) -> bytes:
        request = urllib.request.Request(self.url + path, headers={"User-Agent": "xinfer"})  # noqa: S310 -- is http
        if self.token and _keeps_secrets(self.url):
            request.add_unredirected_header("Authorization", f"Bearer {self.token}")
        if not whole:
            request.add_header("Range", f"bytes={start}-{start + length - 1}")
        try:
            with urllib.request.build_opener(_Redirects).open(request, timeout=WAIT_S) as response:
                skipped = 0 if response.status == HTTPStatus.PARTIAL_CONTENT else start  # not all know of ranges
                return _read(response, skipped + length)[skipped:]
        except urllib.error.HTTPError as error:
            with error:
                raise _refusal(error) from error
        except (OSError, HTTPException, ValueError) as error:
            raise SilentError(_reason(error)) from error


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects as long as nobody else can listen; the token goes nowhere but to where it belongs."""

    max_redirections = 5

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> urllib.request.Request | None:
        old, new = _origin(req.full_url), _origin(newurl)
        is_here = new[1] in _LOOPBACK and old[1] in _LOOPBACK
        if new[0] != "https" and new != old and not is_here:
            raise urllib.error.HTTPError(newurl, code, "it redirects to an address without https", headers, fp)
        request = super().redirect_request(req, fp, code, msg, headers, newurl)
        token = req.get_header("Authorization")
        if request is not None and token and new == old:
            request.add_unredirected_header("Authorization", token)
        return request


def _origin(url: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port


def _keeps_secrets(url: str) -> bool:
    """Tell whether nobody on the way can read what is sent to an address."""
    scheme, host, _ = _origin(url)
    return scheme == "https" or host in _LOOPBACK


def _read(response: HTTPResponse, most: int) -> bytes:
    """Read an answer, or its beginning; TimeoutError for one that comes drop by drop."""
    body, deadline = bytearray(), time.monotonic() + PATIENCE_S
    while len(body) < most and (piece := response.read1(min(_PIECE_BYTES, most - len(body)))):
        body += piece
        if time.monotonic() > deadline:
            raise TimeoutError(f"no whole answer after {PATIENCE_S:g} s")
    return bytes(body)


def _refusal(error: urllib.error.HTTPError) -> SilentError | DenialError:
    if error.code >= HTTPStatus.INTERNAL_SERVER_ERROR or error.code in _BUSY:
        return SilentError(f"HTTP {error.code}")
    if error.code < HTTPStatus.BAD_REQUEST:
        return SilentError(str(error.reason).splitlines()[0])
    return DenialError(error.code, error.headers.get("X-Error-Code") or "")


def _reason(error: Exception) -> str:
    """Say in a few words why there is no answer; urllib wraps what the system said."""
    inner = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(inner, TimeoutError):
        return str(inner) if inner.errno is None and str(inner) != "timed out" else f"silent for {WAIT_S:g} s"
    return str(getattr(inner, "strerror", None) or inner) or type(inner).__name__
