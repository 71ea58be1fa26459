"""A Markov chain of words behind an OpenAI-compatible API: Python alone, one file, loopback only."""

from __future__ import annotations

import argparse
import json
import random
import sys
from collections import defaultdict
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

END = "."
"""The word after which a text is complete."""


class Chain:
    """What followed each run of up to ``words`` words of a text."""

    def __init__(self, text: str, words: int) -> None:
        self._words = words
        self._followers: dict[tuple[str, ...], list[str]] = defaultdict(list)
        known = text.split()
        for i, word in enumerate(known):
            for length in range(min(words, i) + 1):
                self._followers[tuple(known[i - length : i])].append(word)

    def write(self, prompt: str, temperature: float) -> Iterator[str]:
        """Yield words for ever; at temperature 0 always the most frequent one, and the first of equals."""
        past = prompt.split()
        while True:
            longest = min(self._words, len(past))
            runs = (tuple(past[len(past) - length :]) for length in range(longest, -1, -1))
            found = next(self._followers[run] for run in runs if run in self._followers)
            past.append(random.choice(found) if temperature else max(found, key=found.count))  # noqa: S311
            yield past[-1]


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    server: Server

    def do_GET(self) -> None:
        """Answer ``/health``."""
        self._answer(HTTPStatus.OK if self.path == "/health" else HTTPStatus.NOT_FOUND, {"status": "ok"})

    def do_POST(self) -> None:
        """Answer ``/v1/completions``, as a stream or at once."""
        asked = json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0))))
        if self.path != "/v1/completions":
            self._answer(HTTPStatus.NOT_FOUND, {"error": f"there is no {self.path}"})
        elif asked.get("stream"):
            self._begin(HTTPStatus.OK, "text/event-stream")
            for event in self.events(asked):
                self.wfile.write(f"data: {event}\n\n".encode())
        else:
            words = [*self.words(asked)]
            self._answer(
                HTTPStatus.OK, self._event("".join(words), self._reason(asked, words), self.usage(asked, words))
            )

    def words(self, asked: dict[str, Any]) -> Iterator[str]:
        """Yield the words of a completion, to the end of the sentence or, if so asked, to the last token."""
        written = self.server.chain.write(asked["prompt"], asked.get("temperature", 1))
        for _ in range(asked.get("max_tokens", 16)):
            word = next(written)
            yield f" {word}"
            if word == END and not asked.get("ignore_eos"):
                return

    def events(self, asked: dict[str, Any]) -> Iterator[str]:
        """Yield the events of a stream: a word each, the reason why it ends, and the counts if they are asked for."""
        words = []
        for word in self.words(asked):
            words.append(word)
            yield json.dumps(self._event(word))
        yield json.dumps(self._event("", self._reason(asked, words)))
        if (asked.get("stream_options") or {}).get("include_usage"):
            yield json.dumps({**self._event(""), "choices": [], "usage": self.usage(asked, words)})
        yield "[DONE]"

    def usage(self, asked: dict[str, Any], words: list[str]) -> dict[str, Any]:
        """Count words as tokens; nothing of a prompt is ever kept."""
        read, written = len(asked["prompt"].split()), len(words)
        cached = {"prompt_tokens_details": {"cached_tokens": 0}}
        return {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written, **cached}

    def _reason(self, asked: dict[str, Any], words: list[str]) -> str:
        return "length" if len(words) == asked.get("max_tokens", 16) else "stop"

    def _event(self, text: str, reason: str | None = None, usage: dict[str, Any] | None = None) -> dict[str, Any]:
        choice = {"index": 0, "text": text, "finish_reason": reason}
        return {"object": "text_completion", "model": self.server.model, "choices": [choice], "usage": usage}

    def _answer(self, status: HTTPStatus, document: dict[str, Any]) -> None:
        self._begin(status, "application/json")
        self.wfile.write(json.dumps(document).encode())

    def _begin(self, status: HTTPStatus, kind: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.end_headers()


class Server(ThreadingHTTPServer):
    """The server, with what all of its connections share."""

    daemon_threads = True

    def __init__(self, address: tuple[str, int], chain: Chain, model: str, handler: type[Handler] = Handler) -> None:
        self.chain = chain
        self.model = model
        super().__init__(address, handler)


def read_options(argv: list[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="markov", description=__doc__, allow_abbrev=False)
    parser.add_argument("--model", type=Path, required=True, help="the text that the chain is made from")
    parser.add_argument("--served-model-name", default="markov")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8090)
    parser.add_argument("--words", type=int, default=4, help="how many words the chain looks back")
    return parser.parse_args(argv)


def main(argv: list[str]) -> None:
    """Serve until a signal ends the process."""
    options = read_options(argv)
    try:
        chain = Chain(options.model.read_text(encoding="utf-8"), options.words)
    except OSError as error:
        sys.exit(f"{options.model}: {error.strerror}")
    Server((options.host, options.port), chain, options.served_model_name).serve_forever()


if __name__ == "__main__":
    main(sys.argv[1:])
