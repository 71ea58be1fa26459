"""An index of packages on loopback, for pip and uv to ask instead of any other."""

from __future__ import annotations

import hashlib
import os
import sys
import zipfile
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import local_server

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from local_server import Handler


class Index:
    """The files that the index has, and what is wrong with them."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.hashes: dict[str, str] = {}
        """Instead of the right ones."""
        self.missing_bytes = 0
        """How many bytes less than promised are sent of a file."""

    def add(self, name: str, payload: bytes = b"") -> str:
        """Add version 1.0 of a package with one module, and return its file's name."""
        content, info = BytesIO(), f"{name}-1.0.dist-info"
        members: dict[str, str | bytes] = {
            f"{name}.py": "NUMBER = 1\n",
            f"{name}.bin": payload,
            f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n",
            f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: x\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        }
        with zipfile.ZipFile(content, "w") as wheel:
            for member, text in members.items():
                wheel.writestr(member, text)
            wheel.writestr(f"{info}/RECORD", "".join(f"{member},,\n" for member in (*members, f"{info}/RECORD")))
        file = f"{name}-1.0-py3-none-any.whl"
        self.files[file] = content.getvalue()
        return file

    def answer(self, path: str) -> bytes | None:
        """Return a page of links to a package's files, or a file."""
        *_, kind, name = path.rstrip("/").split("/")
        if kind == "simple":
            return "".join(self._link(file) for file in self.files if file.startswith(f"{name}-")).encode() or None
        return self.files.get(name)

    def _link(self, file: str) -> str:
        digest = self.hashes.get(file) or hashlib.sha256(self.files[file]).hexdigest()
        return f'<a href="/files/{file}#sha256={digest}">{file}</a>'

    def served(self) -> AbstractContextManager[int]:
        """Answer on a port while the body runs."""
        return local_server.served(GET=self._reply, HEAD=self._reply)

    def _reply(self, handler: Handler) -> None:
        body, is_file = self.answer(handler.path), handler.path.startswith("/files/")
        if body is None:
            handler.send_error(404)
            return
        handler.send_response(200)
        handler.send_header("Content-Type", "application/octet-stream" if is_file else "text/html")
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        less = self.missing_bytes if is_file else 0
        handler.wfile.write(body[: len(body) - less] if handler.command == "GET" else b"")


def settings(port: int, cache: Path) -> dict[str, str]:
    """Return the variables that let pip and uv ask a port, with no other index, cache, setting or patience."""
    url = f"http://127.0.0.1:{port}/simple"
    return {
        "PIP_INDEX_URL": url, "PIP_CONFIG_FILE": os.devnull, "PIP_NO_CACHE_DIR": "1", "PIP_RETRIES": "0",
        "UV_DEFAULT_INDEX": url, "UV_NO_CONFIG": "1", "UV_CACHE_DIR": str(cache), "UV_HTTP_RETRIES": "0",
        "UV_PYTHON_DOWNLOADS": "never", "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }  # fmt: skip
