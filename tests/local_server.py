"""A server on loopback, in a thread of the tests that ask it."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Handler(BaseHTTPRequestHandler):
    """A request, and how to answer it."""

    def reply(self, status: int, body: bytes, **headers: str) -> None:
        """Send a whole answer."""
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Print nothing."""


@contextmanager
def served(protocol: str = "HTTP/1.0", **answers: Callable[[Handler], None]) -> Iterator[int]:
    """Answer each method, as in ``GET=…``, on a free port while the body runs; give the port."""

    class Answering(Handler):
        protocol_version = protocol

        def __getattr__(self, name: str) -> Callable[[], None]:
            """Return ``do_GET`` and the like, which there is for methods that are answered."""
            method = name.removeprefix("do_")
            if method not in answers:
                raise AttributeError(name)
            return partial(answers[method], self)

    with ThreadingHTTPServer(("127.0.0.1", 0), Answering) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()
