"""A server that looks like an engine's, answers at a set speed, and fails on request.

Run as a script: ``python fake_engine.py --port 8080 --behaviour die-mid-stream``. A token is a word; every
completion has exactly ``max_tokens`` of them. Where FAKE_API_KEY is set, it asks for that key.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

BEHAVIOURS = (
    "serve",
    "die-at-start",
    "hang-at-start",
    "die-after-health",
    "refuse-completion",
    "chat-only",
    "fork-children",
    "ignore-sigterm",
    "die-mid-stream",
    "be-killed-mid-stream",
    "tell-key",
)
KEY_VARIABLE = "FAKE_API_KEY"
DEATH = 3
"""The exit code of every death on request."""


class Engine(ThreadingHTTPServer):
    """The server, and what it was told to do."""

    daemon_threads = True

    def __init__(self, options: argparse.Namespace) -> None:
        """Listen at once; ``/health`` says no until the delay is over."""
        super().__init__((options.host, options.port), Handler)
        self.options = options
        self.ready_s = time.perf_counter() + options.health_delay_s


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Engine

    def log_message(self, *_: object) -> None:
        """Keep the log for what the tests look for."""

    def do_GET(self) -> None:
        """Answer ``/health``: 503 while loading, then 200."""
        is_ready = time.perf_counter() >= self.server.ready_s
        status = HTTPStatus.OK if is_ready else HTTPStatus.SERVICE_UNAVAILABLE
        self._answer(status if self.path == "/health" else HTTPStatus.NOT_FOUND, {"ready": is_ready})

    def do_POST(self) -> None:
        """Answer completions and ``/tokenize``."""
        body = json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0))))
        behaviour = self.server.options.behaviour
        if self.path == "/tokenize":
            self._answer(HTTPStatus.OK, {"tokens": list(range(len(body["content"].split())))})
        elif not is_allowed(self.headers.get("Authorization")):
            self._answer(HTTPStatus.UNAUTHORIZED, {"error": "no such key"})
        elif behaviour == "tell-key":
            say(f"asked with {self.headers.get('Authorization')}")
            self._answer(HTTPStatus.INTERNAL_SERVER_ERROR, {"error": f"sent: {self.headers.get('Authorization')}"})
        elif behaviour == "die-after-health":
            die("the first request was too much")
        elif behaviour == "refuse-completion":
            self._answer(HTTPStatus.INTERNAL_SERVER_ERROR, {"error": "no completion today"})
        elif self.path not in PATHS or (behaviour == "chat-only" and self.path == "/v1/completions"):
            self._answer(HTTPStatus.NOT_FOUND, {"error": f"no such path: {self.path}"})
        elif body.get("stream"):
            self._stream(body)
        else:
            time.sleep(self.server.options.ttft_s + self.server.options.gap_s * (tokens(body) - 1))
            text = "".join(f" word{i}" for i in range(tokens(body)))
            self._answer(HTTPStatus.OK, {**self._event(text, "length"), "usage": usage(body)})

    def _stream(self, body: dict[str, Any]) -> None:
        options = self.server.options
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        start_s = time.perf_counter()
        for i in range(tokens(body)):
            time.sleep(max(0.0, start_s + options.ttft_s + i * options.gap_s - time.perf_counter()))
            self._send(json.dumps(self._event(f" word{i}", "length" if i == tokens(body) - 1 else None)))
            if i == 1 and options.behaviour == "die-mid-stream":
                die("the stream was too long")
            if i == 1 and options.behaviour == "be-killed-mid-stream":
                os.kill(os.getpid(), signal.SIGKILL)
        if body.get("stream_options", {}).get("include_usage"):
            self._send(json.dumps({**self._event("", None), "choices": [], "usage": usage(body)}))
        self._send("[DONE]")
        self._chunk(b"")

    def _event(self, text: str, finish_reason: str | None) -> dict[str, Any]:
        content: dict[str, Any] = {"text": text}
        if self.path != "/v1/completions":
            content = {"delta": {"content": text}, "message": {"role": "assistant", "content": text}}
        choice = {"index": 0, **content, "finish_reason": finish_reason}
        return {"id": "fake", "model": self.server.options.model, "choices": [choice]}

    def _send(self, data: str) -> None:
        self._chunk(f"data: {data}\n\n".encode())

    def _chunk(self, data: bytes) -> None:
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))

    def _answer(self, status: HTTPStatus, content: dict[str, Any]) -> None:
        data = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


PATHS = ("/v1/completions", "/v1/chat/completions")


def is_allowed(authorization: str | None) -> bool:
    """Say whether a request may be answered: with the right key, or where none is asked for."""
    key = os.environ.get(KEY_VARIABLE)
    return key is None or authorization == f"Bearer {key}"


def tokens(body: dict[str, Any]) -> int:
    """Return how many tokens the request gets."""
    return int(body.get("max_tokens", 16))


def usage(body: dict[str, Any]) -> dict[str, int]:
    """Count the prompt's words and the answer's."""
    messages = body.get("messages", [{"content": body.get("prompt", "")}])
    prompt = sum(len(message["content"].split()) for message in messages)
    return {"prompt_tokens": prompt, "completion_tokens": tokens(body), "total_tokens": prompt + tokens(body)}


def say(words: str) -> None:
    """Write a line to the log, at once."""
    sys.stderr.write(f"fake engine: {words}\n")


def die(last_words: str) -> None:
    """End the whole process at once, as a crash would."""
    say(last_words)
    os._exit(DEATH)


def sleeping_child() -> int:
    """Start a plain child that sleeps; return its process id."""
    return subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"]).pid


def sleeping_daemon() -> int:
    """Start a child as daemons do: a session of its own, its parent gone, deaf to SIGTERM and SIGHUP."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.setsid()
        if os.fork() == 0:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            signal.signal(signal.SIGHUP, signal.SIG_IGN)
            os.write(writing, str(os.getpid()).encode())
            while True:
                signal.pause()
        os._exit(0)
    os.waitpid(child, 0)
    return int(os.read(reading, 32))


def read_options(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--model", default="fake")
    parser.add_argument("--health-delay-s", type=float, default=0.0)
    parser.add_argument("--ttft-s", type=float, default=0.0)
    parser.add_argument("--gap-s", type=float, default=0.0)
    parser.add_argument("--work-s", type=float, default=0.0, help="what a token costs, shared by all threads")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--pids-file", type=Path, help="where fork-children leaves its process ids")
    parser.add_argument("--behaviour", choices=BEHAVIOURS, default="serve")
    options = parser.parse_args(argv)
    options.gap_s += options.work_s / options.threads
    return options


def main() -> None:
    """Do as told, for ever."""
    options = read_options()
    say(f"{options.behaviour} as process {os.getpid()}")
    if options.behaviour == "die-at-start":
        die("cannot load the model")
    if options.behaviour == "hang-at-start":
        signal.pause()
    if options.behaviour == "ignore-sigterm":
        signal.signal(signal.SIGTERM, lambda *_: say("no"))
    if options.behaviour == "fork-children":
        options.pids_file.write_text(json.dumps([sleeping_child(), sleeping_daemon()]))
    Engine(options).serve_forever()


if __name__ == "__main__":
    main()
