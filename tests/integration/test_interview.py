"""A server is asked in the dialect in which it tells most; one that answers nothing is an error."""

from __future__ import annotations

import json
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import local_server
import pytest

from xinfer.errors import RequestError
from xinfer.flow import free_port
from xinfer.measuring.client import Target
from xinfer.parity import answers, interview
from xinfer.parity.answers import PromptSet

if TYPE_CHECKING:
    from collections.abc import Iterator

    from local_server import Handler

PROMPTS = PromptSet(name="two", prompts={"one": "a b", "two": "c d e"})
CHOICE = {"text": " x", "finish_reason": "stop"}
COMPLETION = {"choices": [CHOICE], "usage": {"prompt_tokens": 2, "completion_tokens": 1}}
LEGACY = {"tokens": [" x"], "token_logprobs": [-0.1], "top_logprobs": [{" x": -0.1, " y": -2.5}]}


@contextmanager
def serving(*replies: tuple[str, str, int, object]) -> Iterator[tuple[Target, list[Any]]]:
    """Serve what is given for a path and a field of the body, the first that fits; yield what was asked."""
    asked: list[Any] = []

    def answer(handler: Handler) -> None:
        body = json.loads(handler.rfile.read(int(handler.headers["Content-Length"])))
        asked.append((handler.path, body))
        fitting = ((s, d) for path, field, s, d in replies if path == handler.path and (not field or field in body))
        status, document = next(fitting, (404, {}))
        handler.reply(status, json.dumps(document).encode())

    with local_server.served(POST=answer) as port:
        yield Target(url=f"http://127.0.0.1:{port}", model="m"), asked


def test_a_server_is_asked_in_the_dialect_that_tells_most() -> None:
    """Each is tried with the first prompt; the others are asked in the one that was found."""
    told = {**COMPLETION, "choices": [{**CHOICE, "logprobs": LEGACY}]}
    unknown = ("/v1/completions", "return_token_ids", 422, {"error": "unknown field"})
    with serving(unknown, ("/v1/completions", "logprobs", 200, told), ("/v1/completions", "", 200, COMPLETION)) as (
        to,
        asked,
    ):
        found = interview.ask(to, PROMPTS, tokens=3, timeout_s=10)
    assert found.dialect == "openai"
    assert list(found.answers) == ["one", "two"]
    assert found.answers["two"].has_logprobs
    assert [path for path, body in asked if body.get("prompt") == "c d e"] == ["/v1/completions"]


def test_a_text_is_better_than_nothing() -> None:
    """What no server refuses is asked last."""
    refusals = (("/v1/completions", field, 400, {"error": "no"}) for field in ("logprobs",))
    with serving(*refusals, ("/v1/completions", "", 200, COMPLETION)) as (to, _):
        found = interview.ask(to, PROMPTS, tokens=3, timeout_s=10)
    assert (found.dialect, found.answers["one"].text, found.answers["one"].steps) == ("text", " x", ())


@pytest.mark.parametrize(
    ("status", "document", "said"),
    [
        pytest.param(500, {"error": "out of memory"}, "no answer: http 500: .*out of memory", id="a-refusal"),
        pytest.param(200, {"choices": []}, "not an answer that is known: a completion without choices", id="nonsense"),
    ],
)
def test_no_answer_is_an_error(status: int, document: object, said: str) -> None:
    """With what the server said to the plainest question."""
    with serving(("/v1/completions", "", status, document)) as (to, _), pytest.raises(RequestError, match=said):
        interview.ask(to, PROMPTS, tokens=3, timeout_s=10)


def test_an_answer_after_a_measurement() -> None:
    """One short prompt, greedily, without any of the fields that were measured with."""
    with serving(("/v1/completions", "", 200, COMPLETION)) as (to, asked):
        found = interview.sample(to)
    ((_, body),) = asked
    assert found == {"prompts": "parity-1", "prompt": "fact", "tokens": 8, "text": " x"}
    assert body["prompt"] == answers.fixed().prompts["fact"]
    assert (body["temperature"], body["max_tokens"], "ignore_eos" in body) == (0, 8, False)


def test_a_measurement_is_not_lost_with_its_answer() -> None:
    """The error is kept in its place."""
    found = interview.sample(Target(url=f"http://127.0.0.1:{free_port()}", model="m"))
    assert "no answer: refused" in str(found["error"])
