"""A server with a language model of sorts, which answers in the dialect of any engine, and wrongly on request.

``twin.py --port 8080 --dialect sglang --flaw wrong``; ``twin.py --score TEXTS SCORES`` scores texts instead.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import os
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

WORDS = [" Paris", " is", " a", " city", " of", " light", ",", ".", " é", "\n"]
OFFSET = 100
"""Of the ids, so that a place in a list is no id."""
WRONG, NEAR = 3, 5
"""The token that a flawed server gets wrong, and the one that is a near tie for all."""


def likely(prompt: str, said: list[int]) -> list[tuple[int, float]]:
    """Return ids and log-probabilities, the likeliest first: always the same for the same text."""
    seed = hashlib.sha256(f"{prompt}{said}".encode()).digest()
    order = sorted(range(len(WORDS)), key=lambda i: seed[i])
    weights = [-float(rank) for rank in range(len(WORDS))]
    if len(said) == NEAR:
        weights[1] = -0.004
    total = math.log(sum(math.exp(weight) for weight in weights))
    return [(number + OFFSET, weight - total) for number, weight in zip(order, weights, strict=True)]


def generate(prompt: str, count: int, flaw: str) -> list[dict[str, Any]]:
    """Return what is chosen at each place, with the likeliest tokens."""
    said: list[int] = []
    steps = []
    for place in range(count):
        found = likely(prompt, said)
        if flaw == "drift":
            found = [(number, lp - 0.02 * rank) for rank, (number, lp) in enumerate(found)]
        if (flaw, place) in {("wrong", WRONG), ("tie", NEAR)}:
            (first, high), (second, low) = found[:2]
            found[:2] = [(second, high), (first, low)]
        said.append(found[0][0])
        steps.append({"id": found[0][0], "logprob": found[0][1], "top": found[:5]})
    return steps


def text_of(number: int) -> str:
    return WORDS[number - OFFSET]


def completion(prompt: str, steps: list[dict[str, Any]], flaw: str) -> dict[str, Any]:
    text = "".join(text_of(step["id"]) for step in steps)
    counted = len(prompt.split()) + (flaw == "bos")
    usage = {"prompt_tokens": counted, "completion_tokens": len(steps), "total_tokens": counted + len(steps)}
    return {"choices": [{"index": 0, "text": text, "finish_reason": "length"}], "usage": usage}


class Handler(BaseHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Keep quiet."""

    def do_GET(self) -> None:
        self._answer(200 if self.path == "/health" else 404, {})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        dialect, flaw = OPTIONS.dialect, OPTIONS.flaw
        prompt = body.get("prompt", body.get("text", ""))
        count = body.get("max_tokens") or body.get("n_predict") or body.get("sampling_params", {}).get("max_new_tokens")
        if flaw == "die" and "Fibonacci" in prompt:
            sys.stderr.write("too hard\n")
            os._exit(3)
        if flaw == "refuse" and count != 1:
            self._answer(500, {"error": "no answer today"})
            return
        if body.get("stream"):
            self._answer(400, {"error": "no streams"})
            return
        steps = generate(prompt, count, flaw)
        said = completion(prompt, steps, flaw)
        shape = getattr(self, f"_{dialect}")
        status, document = shape(body, steps, said)
        self._answer(status, document)

    def _vllm(self, body: dict[str, Any], steps: list[dict[str, Any]], said: dict[str, Any]) -> tuple[int, Any]:
        if self.path != "/v1/completions":
            return 404, {}
        choice = said["choices"][0]
        if isinstance(body.get("logprobs"), int):
            as_ids = body.get("return_tokens_as_token_ids")
            name = (lambda i: f"token_id:{i}") if as_ids else text_of
            choice["logprobs"] = {
                "tokens": [name(step["id"]) for step in steps],
                "token_logprobs": [step["logprob"] for step in steps],
                "top_logprobs": [{name(i): lp for i, lp in step["top"]} for step in steps],
            }
            choice["token_ids"] = [step["id"] for step in steps] if body.get("return_token_ids") else None
        return 200, said

    def _openai(self, body: dict[str, Any], steps: list[dict[str, Any]], said: dict[str, Any]) -> tuple[int, Any]:
        known = {"model", "prompt", "max_tokens", "temperature", "stream", "logprobs"}
        return (422, {}) if set(body) - known else self._vllm(body, steps, said)

    def _text(self, body: dict[str, Any], steps: list[dict[str, Any]], said: dict[str, Any]) -> tuple[int, Any]:
        known = {"model", "prompt", "max_tokens", "temperature", "stream"}
        return (422, {}) if set(body) - known else self._vllm(body, steps, said)

    def _mlx(self, body: dict[str, Any], steps: list[dict[str, Any]], said: dict[str, Any]) -> tuple[int, Any]:
        if self.path != "/v1/completions":
            return 404, {}
        if not isinstance(body.get("logprobs", False), bool):
            return 400, {"error": "logprobs must be of type bool"}
        content = [{"id": step["id"], "logprob": step["logprob"]} for step in steps]
        if body.get("top_logprobs"):
            tops = [[{"id": i, "token": "Ġx", "logprob": lp} for i, lp in reversed(step["top"])] for step in steps]
            content = [{**top[0], "top_logprobs": top} for top in tops]
        said["choices"][0]["text"] = said["choices"][0]["text"].lstrip()
        if body.get("logprobs"):
            said["choices"][0]["logprobs"] = {"content": content}
        return 200, said

    def _llama_cpp(self, _body: dict[str, Any], steps: list[dict[str, Any]], said: dict[str, Any]) -> tuple[int, Any]:
        if self.path == "/v1/completions":
            return 200, said
        if self.path != "/completion":
            return 404, {}
        entries = [
            {
                "id": step["id"],
                "token": text_of(step["id"]),
                "logprob": step["logprob"],
                "top_logprobs": [{"id": i, "token": text_of(i), "logprob": lp} for i, lp in step["top"]],
            }
            for step in steps
        ]
        return 200, {
            "content": said["choices"][0]["text"],
            "tokens": [step["id"] for step in steps],
            "tokens_evaluated": said["usage"]["prompt_tokens"],
            "tokens_predicted": len(steps),
            "stop_type": "limit",
            "completion_probabilities": entries,
        }

    def _sglang(self, _body: dict[str, Any], steps: list[dict[str, Any]], said: dict[str, Any]) -> tuple[int, Any]:
        if self.path == "/v1/completions":
            return 200, said
        if self.path != "/generate":
            return 404, {}
        usage = said["usage"]
        return 200, {
            "text": said["choices"][0]["text"],
            "meta_info": {
                "prompt_tokens": usage["prompt_tokens"],
                "completion_tokens": usage["completion_tokens"],
                "finish_reason": {"type": "length", "length": len(steps)},
                "output_token_logprobs": [[step["logprob"], step["id"], text_of(step["id"])] for step in steps],
                "output_top_logprobs": [[[lp, i, text_of(i)] for i, lp in step["top"]] for step in steps],
            },
        }

    def _answer(self, status: int, document: object) -> None:
        data = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


def score(texts: str, scores: str) -> None:
    """Score texts as an engine's own program does."""
    asked = json.loads(Path(texts).read_text(encoding="utf-8"))
    found = {}
    for name, said in asked["questions"].items():
        steps = generate(said["prompt"], said["tokens"], "none")
        found[name] = {
            "steps": [
                {"id": s["id"], "logprob": s["logprob"], "top": [{"id": i, "logprob": lp} for i, lp in s["top"]]}
                for s in steps
            ]
        }
    Path(scores).write_text(json.dumps(found), encoding="utf-8")


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int)
    parser.add_argument("--dialect", default="vllm")
    parser.add_argument("--flaw", default="none")
    parser.add_argument("--score", nargs=2)
    return parser.parse_args()


OPTIONS = read_options() if __name__ == "__main__" else argparse.Namespace()

if __name__ == "__main__":
    if OPTIONS.score:
        score(*OPTIONS.score)
    else:
        ThreadingHTTPServer(("127.0.0.1", OPTIONS.port), Handler).serve_forever()
