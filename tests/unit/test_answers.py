"""The fixed prompts stay what they are, and an answer knows what it tells."""

from __future__ import annotations

import hashlib

import msgspec
import pytest

from xinfer.parity import answers
from xinfer.parity.answers import Answer, Step, Token


def test_the_prompts_never_change_under_their_name() -> None:
    """Or answers of different days could not be compared; new prompts are a new set."""
    found = answers.fixed()
    digest = hashlib.sha256(msgspec.json.encode(found.prompts)).hexdigest()[:16]
    assert (found.name, digest) == ("parity-1", "64cb19af529a5738")
    assert len(found.prompts) == 8


def test_the_prompts_are_diverse() -> None:
    """Other alphabets, digits, code, and one that is longer than the rest."""
    texts = answers.fixed().prompts.values()
    assert any(not text.isascii() for text in texts)
    assert any("def " in text for text in texts)
    assert any(text[0].isdigit() for text in texts)
    assert max(map(len, texts)) > 300


@pytest.mark.parametrize(
    ("answer", "ids"),
    [
        pytest.param(Answer(text="ab", steps=(Step(id=1), Step(id=2))), (1, 2), id="all-are-known"),
        pytest.param(Answer(text="ab", steps=(Step(id=1), Step(text="b"))), None, id="one-is-not"),
        pytest.param(Answer(text="ab", steps=(Step(id=1),), completion_tokens=2), None, id="one-is-missing"),
        pytest.param(Answer(text="ab"), None, id="none-is-told"),
    ],
)
def test_ids_are_all_or_nothing(answer: Answer, ids: tuple[int, ...] | None) -> None:
    """A gap would shift everything after it."""
    assert answer.ids == ids


def test_one_token_is_no_distribution() -> None:
    """Log-probabilities are there if those of two tokens are."""
    alone = Step(id=1, logprob=-0.1)
    several = Step(id=1, logprob=-0.1, top=(Token(id=2, logprob=-3.0), Token(id=3)))
    assert [Answer(text="a", steps=(each,)).has_logprobs for each in (alone, several)] == [False, True]
    assert [token.id for token in several.known] == [2, 1]
