"""The Markov chain's server with one defect at a time; without one it keeps the contract."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from http import HTTPStatus
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).parents[1] / "third_party_plugin"))
from xinfer_markov import server

if TYPE_CHECKING:
    from collections.abc import Iterator

DEFECT = ""
OPEN: list[IO[str]] = []
"""What stays open until the end."""
SHORT = 8
PREFILL_S = 0.5


class Handler(server.Handler):
    """One connection; ``DEFECT`` names what goes wrong in it."""

    seen: set[str] = set()  # noqa: RUF012 -- what the server remembers of all connections
    is_known = False
    busy = threading.Lock()

    def words(self, asked: dict[str, Any]) -> Iterator[str]:
        """Write what was asked for, or not."""
        if DEFECT == "answers-nonsense":
            yield from (" nonsense" for _ in range(asked["max_tokens"]))
            return
        if DEFECT == "ignores-ignore-eos":
            asked = {**asked, "ignore_eos": False}
        if DEFECT == "never-ends":
            asked = {**asked, "ignore_eos": True}
        if DEFECT == "stops-at-eight":
            asked = {**asked, "max_tokens": min(asked["max_tokens"], SHORT)}
        self.is_known = asked["prompt"] in self.seen
        self.seen.add(asked["prompt"])
        if DEFECT.startswith("remembers"):
            time.sleep(0 if self.is_known else PREFILL_S)
        yield from super().words(asked)

    def usage(self, asked: dict[str, Any], words: list[str]) -> dict[str, Any]:
        """Count."""
        counted = super().usage(asked, words)
        if DEFECT == "counts-one-less":
            counted["completion_tokens"] -= 1
        if DEFECT in ("remembers-and-says-nothing", "says-nothing"):
            del counted["prompt_tokens_details"]
        if DEFECT == "remembers-and-says-so" and self.is_known:
            counted["prompt_tokens_details"]["cached_tokens"] = counted["prompt_tokens"] - 1
        return counted

    def events(self, asked: dict[str, Any]) -> Iterator[str]:
        """Stream, with whatever is wrong about it."""
        events = [*super().events(asked)]
        *texts, finish, usage, done = events
        blank = json.dumps({"choices": [{"index": 0, "text": "", "finish_reason": None}]})
        late = json.dumps({"choices": [{"index": 0, "text": " late", "finish_reason": None}]})
        lump = json.dumps({"choices": [{"index": 0, "text": "".join(self.words(asked)), "finish_reason": None}]})
        yield from {
            "two-usages": [*texts, finish, usage, usage, done],
            "no-usage": [*texts, finish, done],
            "two-ends": [*texts, finish, finish, usage, done],
            "no-end": [*texts, usage, done],
            "text-behind-the-end": [*texts, finish, late, usage, done],
            "done-twice": [*texts, finish, usage, done, done],
            "garbage": [*texts, "{half", finish, usage, done],
            "error-in-the-stream": [*texts, json.dumps({"error": "out of memory"}), finish, usage, done],
            "no-text": [*(blank for _ in texts), finish, usage, done],
            "one-lump": [lump, finish, usage, done],
        }.get(DEFECT if asked["max_tokens"] > SHORT else "", events)  # a short stream is xinfer's probe

    def do_POST(self) -> None:  # noqa: N802 -- named by http.server
        """Answer, unless the defect is that it does not."""
        if DEFECT == "one-at-a-time" and not self.busy.acquire(blocking=False):
            self._answer(HTTPStatus.TOO_MANY_REQUESTS, {"error": "busy"})
            return
        try:
            if DEFECT == "one-at-a-time":
                time.sleep(PREFILL_S)
            super().do_POST()
        finally:
            if DEFECT == "one-at-a-time":
                self.busy.release()

    def _begin(self, status: HTTPStatus, kind: str) -> None:
        super()._begin(status, "text/plain" if DEFECT == "wrong-content-type" else kind)
        if DEFECT == "stray-line" and kind == "text/event-stream":
            self.wfile.write(b"hello\n")


def leave() -> None:
    """Leave something where it does not belong; ``TMPDIR`` itself is cleared by xinfer."""
    name = f"xinfer-defect-{os.getpid()}"
    places = {
        "leaves-a-temporary-file": Path(os.environ["TMP"]),
        "leaves-a-file-at-home": Path.home() / ".cache",
        "leaves-a-file-where-it-was-started": Path.cwd(),
        "leaves-shared-memory": Path("/dev/shm"),  # noqa: S108 -- that is the defect
        "leaves-a-file-elsewhere": Path("/tmp"),  # noqa: S108 -- likewise
    }
    if DEFECT == "leaves-a-folder":
        (Path(os.environ["TMP"]) / name).mkdir()
    elif DEFECT in places:
        OPEN.append((places[DEFECT] / name).open("w"))


def main(argv: list[str]) -> None:
    """Serve like the Markov chain, in the name of the defect."""
    global DEFECT  # noqa: PLW0603 -- one process, one defect
    DEFECT = argv[argv.index("--defect") + 1]
    argv.remove("--defect")
    argv.remove(DEFECT)
    if DEFECT == "takes-any-flag":
        argv = [word for word in argv if word != "--no-such-flag"]
    options = server.read_options(argv)
    if not options.model.is_file() and DEFECT == "hangs-without-a-model":
        signal.pause()
    if not options.model.is_file() and DEFECT == "says-nothing-of-the-model":
        sys.exit(1)
    if not options.model.is_file():
        sys.exit(f"{options.model}: no such file")
    leave()
    chain = server.Chain(options.model.read_text(encoding="utf-8"), options.words)
    server.Server((options.host, options.port), chain, "markov", Handler).serve_forever()


if __name__ == "__main__":
    main(sys.argv[1:])
