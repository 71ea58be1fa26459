"""The prompts of a run, by tokenizers of every kind: exact, and the same work however they are sent."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import small_tokenizers
from small_tokenizers import Closed, Forced, Greedy, Letters, Nothing, Sentences, Tokenizer

from xinfer.errors import RequestError
from xinfer.measuring import corpus, prompts
from xinfer.measuring.capabilities import Found
from xinfer.measuring.client import Client, Target
from xinfer.measuring.prompts import Prompts
from xinfer.measuring.samples import Capabilities
from xinfer.spec import Workload

TEXT = " ".join(corpus.words()[-12:])
PROGRAM = f"""
import asyncio, json, sys
sys.path.insert(0, {str(Path(small_tokenizers.__file__).parent)!r})
import small_tokenizers
tokenizer = getattr(small_tokenizers, sys.argv[1])()
for line in sys.stdin:
    asked = json.loads(line)
    print(json.dumps(asyncio.run(tokenizer.encode(asked["texts"], special=asked["special"]))), flush=True)
"""


def found(tokenizer: Tokenizer | None, *, token_ids: bool = True, text_tokens: int | None = None) -> Found:
    """Return what a probe leaves; with a tokenizer, the server's."""
    able = Capabilities(
        model="m", extras=True, stream_options=True, usage=True, fixed_length=True, cached_tokens=False,
        tokenizer=tokenizer.name if tokenizer else None, token_ids=token_ids, tokens_per_word=1.4,
    )  # fmt: skip
    own = (lambda _: tokenizer) if tokenizer else None
    return Found(capabilities=able, tokenizer=own, text=TEXT, text_tokens=text_tokens)


def prepare(
    of: Found,
    *,
    argv: Sequence[str] = (),
    lengths: Sequence[int] | None = None,
    run_id: str = "run",
    **changes: Any,
) -> Prompts:
    plain: dict[str, Any] = {"name": "w", "input_tokens": 64, "output_tokens": 8, "requests": 5, "warmup": 2}
    client = Client(Target(url="http://127.0.0.1:9", model="m", tokenizer=tuple(argv)))
    return asyncio.run(prompts.prepare(client, of, Workload(**{**plain, **changes}), run_id, lengths=lengths))


def program(kind: type[Tokenizer], tmp_path: Path) -> tuple[str, ...]:
    """Return a program that tokenizes like one of the test's."""
    path = tmp_path / "program.py"
    path.write_text(PROGRAM, encoding="utf-8")
    return sys.executable, str(path), kind.__name__


def counts(tokenizer: Tokenizer, made: Prompts) -> list[int]:
    """Return what a server counts that puts the model's own tokens around a text."""
    texts = [sent for sent in made.sent if isinstance(sent, str)]
    return [len(ids) for ids in asyncio.run(tokenizer.encode(texts, special=True))]


KINDS = [
    pytest.param(Tokenizer, id="spaces-belong-to-words"),
    pytest.param(Sentences, id="a-space-is-put-before-a-text"),
    pytest.param(Closed, id="with-an-end"),
    pytest.param(Forced, id="with-a-beginning-always"),
]
ODD = [pytest.param(Greedy, id="tokens-span-words"), pytest.param(Letters, id="a-token-for-a-letter")]


@pytest.mark.parametrize("kind", KINDS)
def test_ids_are_exact_and_those_of_their_text(kind: type[Tokenizer]) -> None:
    """A server that takes ids gets as many as were asked for, and what its tokenizer would make of the same text."""
    tokenizer = kind()
    ids = prepare(found(tokenizer))
    texts = prepare(found(tokenizer, token_ids=False))
    assert (ids.kind, texts.kind) == ("ids", "text")
    assert [len(sent) for sent in ids.sent] == [64] * 7
    assert counts(tokenizer, texts) == [64] * 7
    assert asyncio.run(tokenizer.encode([str(text) for text in texts.sent], special=True)) == list(ids.sent)


@pytest.mark.parametrize("kind", [*KINDS, *ODD])
def test_every_way_to_send_is_the_same_work(kind: type[Tokenizer], tmp_path: Path) -> None:
    """The hash is of the model and the workload: not of the run, the engine, or who has the tokenizer."""
    by_server = prepare(found(kind()), run_id="a")
    as_text = prepare(found(kind(), token_ids=False), run_id="a")
    by_program = prepare(found(None, token_ids=False), argv=program(kind, tmp_path), run_id="a")
    assert by_server.hash == as_text.hash == by_program.hash
    assert by_program.sent == as_text.sent
    assert prepare(found(kind()), input_tokens=65).hash != by_server.hash
    assert prepare(found(kind()), shared_prefix=0.5).hash != by_server.hash


@pytest.mark.parametrize("kind", KINDS)
def test_another_run_is_the_same_work_with_other_prompts(kind: type[Tokenizer]) -> None:
    """Nothing that was sent is sent again, and the hash says that the work is equal."""
    first, second = prepare(found(kind()), run_id="a"), prepare(found(kind()), run_id="b")
    assert first.hash == second.hash
    assert len({str(sent) for sent in (*first.sent, *second.sent)}) == 14


@pytest.mark.parametrize(
    ("kind", "length"),
    [
        pytest.param(Greedy, 16, id="spans-words-in-a-short-text"),
        pytest.param(Greedy, 500, id="spans-words-in-a-long-text"),
        pytest.param(Letters, 120, id="letters-in-a-short-text"),
        pytest.param(Letters, 500, id="letters-in-a-long-text"),
    ],
)
def test_a_tokenizer_that_is_no_sum_of_words_is_exact_too(kind: type[Tokenizer], length: int) -> None:
    """Its texts are tokenized, corrected and tokenized again."""
    tokenizer = kind()
    made = prepare(found(tokenizer, token_ids=False), input_tokens=length)
    assert counts(tokenizer, made) == [length] * 7
    assert {len(sent) for sent in prepare(found(tokenizer), input_tokens=length).sent} == {length}


def test_what_cannot_be_exact_is_as_near_as_it_came() -> None:
    """A tokenizer that always gives three tokens ends no run, and the server's count will show it."""
    made = prepare(found(Nothing(), token_ids=False))
    assert len(made.sent) == 7
    assert made.lengths == [64] * 7
    assert counts(Nothing(), made) == [3] * 7


@pytest.mark.parametrize("kind", KINDS)
def test_tokens_that_a_server_adds_are_part_of_the_length(kind: type[Tokenizer]) -> None:
    """What it counts more than the tokenizer in the probe's text is left out of every text, and noted."""
    tokenizer = kind()
    [ids] = asyncio.run(tokenizer.encode([TEXT], special=True))
    made = prepare(found(tokenizer, token_ids=False, text_tokens=len(ids) + 3))
    assert counts(tokenizer, made) == [61] * 7
    assert made.capabilities.prompt_offset == 3
    assert {len(sent) for sent in prepare(found(tokenizer, text_tokens=len(ids) + 3)).sent} == {64}


def test_a_count_that_is_far_off_is_no_offset() -> None:
    """A server with another tokenizer is not followed, and the difference is noted."""
    tokenizer = Tokenizer()
    made = prepare(found(tokenizer, token_ids=False, text_tokens=100))
    assert counts(tokenizer, made) == [64] * 7
    assert made.capabilities.prompt_offset is None
    assert [note[:38] for note in made.capabilities.notes] == ["it counted 100 tokens in a text that a"]


def test_requests_may_differ_in_length() -> None:
    """As a trace's do: each prompt has its own."""
    lengths = [10, 400, 3, 2, 64]
    made = prepare(found(Sentences()), lengths=lengths, trace="t")
    assert [len(sent) for sent in made.sent] == lengths
    assert made.lengths == lengths


def test_more_prompts_than_are_sure_are_the_same_work() -> None:
    """How many a closed loop of some seconds gets through differs; what every run has is hashed."""
    assert prepare(found(Tokenizer()), lengths=[64] * 20).hash == prepare(found(Tokenizer())).hash


@pytest.mark.parametrize("share", [0.0, 0.25, 0.5, 1.0])
def test_prompts_share_their_beginnings(share: float) -> None:
    """As much as the workload says, to a word, and then nothing: the nonce comes behind what is shared."""
    made = prepare(found(Sentences()), shared_prefix=share, input_tokens=80)
    prompts_sent = [sent for sent in made.sent if isinstance(sent, list)]
    common = max(i for i in range(81) if len({tuple(ids[:i]) for ids in prompts_sent}) == 1)
    assert 80 * share - 2 <= common <= max(1, 80 * share)
    assert {len(sent) for sent in prompts_sent} == {80}


def test_few_prompts_are_tokenized_as_a_whole() -> None:
    """Once words are known, and a text is seen to be their sum, a thousand prompts cost a server next to nothing."""
    tokenizer = Tokenizer()
    made = prepare(found(tokenizer), requests=2000)
    assert len(tokenizer.asked) < 200
    assert {len(sent) for sent in made.sent} == {64}


def test_without_a_tokenizer_words_are_counted() -> None:
    """The lengths are estimates by what the probe found of words, and so is the hash another."""
    made = prepare(found(None, token_ids=False))
    assert made.kind == "text"
    assert {len(str(sent).split()) for sent in made.sent} == {round(64 / 1.4)}
    assert made.hash == prepare(found(None, token_ids=False), run_id="b").hash
    assert made.hash != prepare(found(Tokenizer())).hash


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        pytest.param(["/nowhere/python"], "/nowhere/python: cannot be started to tokenize: No such", id="not-there"),
        pytest.param(
            [sys.executable, "-c", "raise SystemExit('no model there')"], "failed: no model there", id="fails"
        ),
        pytest.param(
            [sys.executable, "-c", "input(); print('hello')"], "failed: JSON is malformed", id="says-nonsense"
        ),
    ],
)
def test_a_program_that_fails_leaves_estimates(argv: list[str], expected: str) -> None:
    """The run goes on with words, and what the server can do says why."""
    made = prepare(found(None, token_ids=False), argv=argv)
    assert made.kind == "text"
    [note] = made.capabilities.notes
    assert note.startswith("prompts are cut by words: ")
    assert expected in note
    assert "\n" not in note


def test_a_server_whose_tokenizer_fails_leaves_estimates() -> None:
    """As when it stops answering between the probe and the run."""

    class Failing(Tokenizer):
        async def encode(self, texts: Sequence[str], *, special: bool = False) -> list[list[int]]:
            raise RequestError(f"no tokens for {len(texts)} texts, {special}")

    made = prepare(found(Failing()))
    assert made.kind == "text"
    assert "prompts are cut by words: no tokens for" in made.capabilities.notes[0]


def test_the_programs_protocol_is_json_lines(tmp_path: Path) -> None:
    """A program is asked as the one that is shipped wants to be: this test's are the same to it."""
    argv = program(Tokenizer, tmp_path)
    log = tmp_path / "log"
    tee = (
        f"import sys, subprocess\nwith open({str(log)!r}, 'w') as log:\n"
        f"    p = subprocess.Popen({list(argv)!r}, stdin=-1)\n"
        "    for line in sys.stdin:\n"
        "        log.write(line); log.flush(); p.stdin.write(line.encode()); p.stdin.flush()"
    )
    prepare(found(None, token_ids=False), argv=(sys.executable, "-c", tee))
    asked = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    assert all(one.keys() == {"texts", "special"} for one in asked)
    assert [one["special"] for one in asked].count(True) == 2
