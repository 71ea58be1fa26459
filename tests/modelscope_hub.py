"""A hub on loopback that answers as ModelScope does, for its own client to ask."""

from __future__ import annotations

import hashlib
import json
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import local_server

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from local_server import Handler


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
        with local_server.served("HTTP/1.1", GET=self._reply) as port:
            yield f"http://127.0.0.1:{port}"

    def _reply(self, handler: Handler) -> None:
        parts = urlsplit(handler.path)
        found = self.answer(parts.path, parse_qs(parts.query))
        handler.reply(404 if found is None else 200, found or b"")
