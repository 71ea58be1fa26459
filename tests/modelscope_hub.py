"""A hub on loopback that answers as ModelScope does, for its own client to ask."""

from __future__ import annotations

import hashlib
import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


class Hub:
    """One repository, ``org/Tiny``, at some revisions."""

    def __init__(self, files: Mapping[str, bytes]) -> None:
        self.files = dict(files)
        self.sent: list[tuple[str, str]] = []
        """The revision and the name of each file that was asked for."""

    def answer(self, path: str, query: Mapping[str, list[str]]) -> bytes | None:
        """Return a listing or a file; none for what is not there."""
        revision = query.get("Revision", ["master"])[0]
        if path == "/api/v1/models/org/Tiny/repo/files":
            return json.dumps({"Code": 200, "Success": True, "Data": {"Files": self._listing()}}).encode()
        if path == "/api/v1/models/org/Tiny/repo":
            name = query["FilePath"][0]
            self.sent.append((revision, name))
            return self.files.get(name)
        return None

    def _listing(self) -> list[dict[str, Any]]:
        return [
            {
                "Path": name, "Name": name.rpartition("/")[2], "Type": "blob", "Size": len(data),
                "Sha256": hashlib.sha256(data).hexdigest(),
            }
            for name, data in self.files.items()
        ]  # fmt: skip

    @contextmanager
    def served(self) -> Iterator[str]:
        """Answer while the body runs, and give the address."""
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                parts = urlsplit(self.path)
                found = hub.answer(parts.path, parse_qs(parts.query))
                self.send_response(404 if found is None else 200)
                self.send_header("Content-Length", str(len(found or b"")))
                self.end_headers()
                self.wfile.write(found or b"")

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 -- the base class calls it so
                pass

        with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
            thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
            thread.start()
            try:
                yield f"http://127.0.0.1:{server.server_port}"
            finally:
                server.shutdown()
                thread.join()
