"""What servers write becomes one answer: shortened from what vLLM, SGLang, llama-server and mlx_lm really sent."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from xinfer.parity import dialects
from xinfer.parity.answers import Answer, Step, Token
from xinfer.parity.dialects import DIALECTS, MOST, PLAIN, Question

ASKED = Question("m", "The capital of France is", 2)
USAGE = {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}
BY_NAME = {each.name: each for each in DIALECTS}
PARIS = Token(id=7042, text=" Paris", logprob=-0.25)
THE = Token(id=260, text=" the", logprob=-2.74)
POINT = Token(id=30, text=".", logprob=-0.38)
COMMA = Token(id=28, text=",", logprob=-1.65)


def step(token: Token, *others: Token) -> Step:
    return Step(id=token.id, text=token.text, logprob=token.logprob, top=(token, *others))


WHOLE = Answer(
    text=" Paris.", steps=(step(PARIS, THE), step(POINT, COMMA)), prompt_tokens=5, completion_tokens=2,
    finish_reason="length",
)  # fmt: skip


def only(answer: Answer, *, ids: bool = True, texts: bool = True) -> Answer:
    """The answer as a server tells it that leaves something out."""

    def less(token: Any) -> Any:
        return msgspec.structs.replace(token, id=token.id if ids else None, text=token.text if texts else None)

    steps = [msgspec.structs.replace(less(each), top=tuple(map(less, each.top))) for each in answer.steps]
    return msgspec.structs.replace(answer, steps=tuple(steps))


def entry(token: Token, *others: Token) -> dict[str, Any]:
    top: list[dict[str, Any]] = [
        {"id": t.id, "token": t.text, "bytes": [], "logprob": t.logprob} for t in (token, *others)
    ]
    return {**top[0], "top_logprobs": top}


def completion(logprobs: object = None, **more: object) -> dict[str, Any]:
    choice = {"index": 0, "text": " Paris.", "finish_reason": "length", "logprobs": logprobs, **more}
    return {"id": "cmpl-1", "object": "text_completion", "model": "m", "choices": [choice], "usage": USAGE}


def legacy(*, as_ids: bool = False) -> dict[str, Any]:
    def name(token: Token) -> str:
        return f"token_id:{token.id}" if as_ids else token.text or ""

    return {
        "text_offset": [0, 6], "tokens": [name(PARIS), name(POINT)], "token_logprobs": [-0.25, -0.38],
        "top_logprobs": [{name(PARIS): -0.25, name(THE): -2.74}, {name(POINT): -0.38, name(COMMA): -1.65}],
    }  # fmt: skip


VLLM = completion(legacy(as_ids=True), token_ids=[7042, 30], prompt_token_ids=[504], stop_reason=None)
SGLANG = {
    "text": " Paris.", "output_ids": [7042, 30],
    "meta_info": {
        "id": "6054", "finish_reason": {"type": "length", "length": 2}, "prompt_tokens": 5, "completion_tokens": 2,
        "output_token_logprobs": [[-0.25, 7042, " Paris"], [-0.38, 30, "."]],
        "output_top_logprobs": [
            [[-0.25, 7042, " Paris"], [-2.74, 260, " the"]],
            [[-0.38, 30, "."], [-1.65, 28, ","]],
        ],
    },
}  # fmt: skip
LLAMA = {
    "index": 0, "content": " Paris.", "tokens": [7042, 30], "tokens_predicted": 2, "tokens_evaluated": 5,
    "stop_type": "limit", "completion_probabilities": [entry(PARIS, THE), entry(POINT, COMMA)],
}  # fmt: skip
MLX = (
    completion({"content": [{"id": 7042, "logprob": -0.25}, {"id": 30, "logprob": -0.38}]}),
    completion({"content": [entry(THE, PARIS), entry(COMMA, POINT)]}),
)
"""Of the second answer the first of the likeliest is taken for the generated one, and they are in no order."""


@pytest.mark.parametrize(
    ("name", "bodies", "expected"),
    [
        pytest.param("vllm", (VLLM,), only(WHOLE, texts=False), id="vllm-with-ids-in-place-of-texts"),
        pytest.param("sglang", (SGLANG,), WHOLE, id="sglang"),
        pytest.param("llama_cpp", (LLAMA,), WHOLE, id="llama-server"),
        pytest.param("openai", (completion(legacy()),), only(WHOLE, ids=False), id="texts-alone"),
        pytest.param(
            "openai", (completion({"content": [entry(PARIS, THE), entry(POINT, COMMA)]}),), WHOLE, id="the-new-shape"
        ),
        pytest.param("text", (completion(),), msgspec.structs.replace(WHOLE, steps=()), id="a-text-alone"),
        pytest.param(
            "text",
            ({"choices": [{"text": "x"}]},),
            Answer(text="x", prompt_tokens=None, completion_tokens=None, finish_reason=None),
            id="next-to-nothing",
        ),
    ],
)
def test_an_answer_is_read(name: str, bodies: tuple[object, ...], expected: Answer) -> None:
    """Tokens, log-probabilities, what else was likely, and the counts."""
    assert BY_NAME[name].read([json.dumps(body).encode() for body in bodies]) == expected


def test_mlx_gives_its_tokens_in_one_answer_and_the_likeliest_in_another() -> None:
    """Whose order means nothing, and whose texts are spelt as in the vocabulary's file."""
    found = dialects.read_mlx([json.dumps(body).encode() for body in MLX])
    assert found.ids == (7042, 30)
    assert [each.logprob for each in found.steps] == [-0.25, -0.38]
    assert [{t.id for t in each.top} for each in found.steps] == [{7042, 260}, {30, 28}]
    assert {t.text for each in found.steps for t in (each, *each.top)} == {None}


def test_llama_server_leaves_parts_of_characters_out() -> None:
    """They have an id, and nothing else."""
    body = {**LLAMA, "tokens": [7042, 24024, 30], "tokens_predicted": 3, "stop_type": "eos"}
    found = dialects.read_llama_cpp([json.dumps(body).encode()])
    assert found.ids == (7042, 24024, 30)
    assert [each.logprob for each in found.steps] == [-0.25, None, -0.38]
    assert found.finish_reason == "stop"


def test_llama_server_may_tell_no_probabilities() -> None:
    """Then the ids are all there is."""
    found = dialects.read_llama_cpp([json.dumps({**LLAMA, "completion_probabilities": []}).encode()])
    assert (found.ids, found.has_logprobs) == ((7042, 30), False)


def test_sglang_may_tell_less() -> None:
    """No likeliest tokens, and no reason for the end."""
    body = {
        "text": "x",
        "meta_info": {"prompt_tokens": 1, "completion_tokens": 1, "output_token_logprobs": [[-1, 2, None]]},
    }
    found = dialects.read_sglang([json.dumps(body).encode()])
    assert found == Answer(
        text="x", steps=(Step(id=2, logprob=-1.0),), prompt_tokens=1, completion_tokens=1, finish_reason=None
    )


@pytest.mark.parametrize(
    ("name", "body"),
    [
        pytest.param("vllm", b"{}", id="no-choices"),
        pytest.param("vllm", b'{"choices": []}', id="choices-of-none"),
        pytest.param("vllm", b"<html>", id="no-json"),
        pytest.param("llama_cpp", b'{"choices": [{"text": "x"}]}', id="another-dialect"),
        pytest.param("sglang", b'{"text": "x"}', id="half-an-answer"),
    ],
)
def test_another_dialect_is_no_answer(name: str, body: bytes) -> None:
    """A server's other endpoints must not be taken for this one."""
    with pytest.raises(ValueError, match=r"."):
        BY_NAME[name].read([body])


@pytest.mark.parametrize(
    ("answer", "detail"),
    [
        pytest.param(WHOLE, MOST, id="everything"),
        pytest.param(only(WHOLE, texts=False), MOST, id="ids-suffice"),
        pytest.param(only(WHOLE, ids=False), 1, id="texts-and-log-probabilities"),
        pytest.param(dialects.read_completion([json.dumps(completion(legacy(), token_ids=[7042, 30])).encode()]), 2,
                     id="the-likeliest-as-texts"),
        pytest.param(msgspec.structs.replace(WHOLE, steps=()), 0, id="a-text-alone"),
        pytest.param(msgspec.structs.replace(WHOLE, completion_tokens=3), 2, id="a-token-is-missing"),
        pytest.param(msgspec.structs.replace(WHOLE, completion_tokens=None), MOST, id="nobody-counts"),
    ],
)  # fmt: skip
def test_what_an_answer_tells_can_be_weighed(answer: Answer, detail: int) -> None:
    """So that a server is asked in the dialect in which it tells most."""
    assert dialects.detail(answer) == detail


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda each: str(each.name))
def test_every_question_is_greedy_and_of_the_asked_length(dialect: dialects.Dialect) -> None:
    """Whatever its words are."""
    for body in dialect.bodies(ASKED):
        said = json.dumps(body)
        assert ASKED.prompt in said
        assert '"temperature": 0' in said
        assert any(f'"{word}": 2' in said for word in ("max_tokens", "n_predict", "max_new_tokens"))


def test_the_plainest_question_is_the_last_resort() -> None:
    """It has no field that is not OpenAI's."""
    (body,) = PLAIN.bodies(ASKED)
    assert body == {"model": "m", "prompt": ASKED.prompt, "max_tokens": 2, "temperature": 0, "stream": False}
