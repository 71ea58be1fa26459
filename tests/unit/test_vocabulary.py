"""What is found out about a tokenizer: its words, and what it puts around a text."""

from __future__ import annotations

import asyncio

import pytest
from small_tokenizers import Closed, Forced, Greedy, Letters, Nothing, Sentences, Tokenizer, number

from xinfer.measuring import corpus, vocabulary
from xinfer.measuring.vocabulary import Frame, Vocabulary, framed, split

ALL = sorted(set(corpus.words()))


def learn(tokenizer: Tokenizer, words: list[str]) -> Vocabulary | None:
    return asyncio.run(vocabulary.learn(tokenizer, words, len(tokenizer.forced)))


@pytest.mark.parametrize(
    ("tokenizer", "expected"),
    [
        pytest.param(Tokenizer(), Frame(), id="nothing"),
        pytest.param(Sentences(), Frame(head=(1,)), id="a-beginning"),
        pytest.param(Closed(), Frame(head=(1,), tail=(2,)), id="a-beginning-and-an-end"),
        pytest.param(Forced(), Frame(head=(1,), forced=1), id="a-beginning-that-cannot-be-left-out"),
    ],
)
def test_what_a_model_puts_around_a_text(tokenizer: Tokenizer, expected: Frame) -> None:
    """Special tokens are found by asking for a text with them and without."""
    assert asyncio.run(vocabulary.frame(tokenizer)) == expected
    assert expected.size == len(expected.head) + len(expected.tail)


def test_a_text_that_special_tokens_change_is_taken_without_them() -> None:
    """If the same text is not found among its ids with special tokens, none are known."""
    assert framed([5], [6], [1, 7]) == Frame()


@pytest.mark.parametrize(
    "tokenizer",
    [
        pytest.param(Tokenizer(), id="spaces-belong-to-words"),
        pytest.param(Sentences(), id="a-space-is-put-before-a-text"),
        pytest.param(Forced(), id="a-token-is-put-before-a-text"),
    ],
)
def test_every_word_of_the_corpus_is_learnt(tokenizer: Tokenizer) -> None:
    """Each has the ids that it has inside a text; also those that mark the ends of words, and parts of them."""
    known = learn(tokenizer, ALL)
    assert known is not None
    assert known.ids.keys() == set(ALL)
    for word in ("of", "and", "the", "thence", "Rabbit-Hole", "dear!", "'You"):
        pieces = tokenizer.pieces(f"a {word}")[-(1 if len(word) <= 5 else 2) :]
        assert known.ids[word] == tuple(map(number, pieces))
        assert known.count(word) == len(pieces)
    words = list(corpus.words()[:2000])
    [text] = asyncio.run(tokenizer.encode(["the " + " ".join(words)]))
    assert known.joined(words) == text[1 + len(tokenizer.forced) :]


def test_words_are_asked_for_many_at_a_time() -> None:
    """A server is asked once for some hundred words, not once for each."""
    tokenizer = Tokenizer()
    learn(tokenizer, ALL)
    assert len(tokenizer.asked) < len(ALL) / 400


def test_letters_are_learnt_too() -> None:
    """A word may be any number of tokens."""
    assert learn(Letters(), ["dear"]) is None  # the marks are more than one token each


@pytest.mark.parametrize(
    "tokenizer", [pytest.param(Greedy(), id="spans-words"), pytest.param(Nothing(), id="a-riddle")]
)
def test_a_tokenizer_that_is_no_sum_of_words_is_not_learnt(tokenizer: Tokenizer) -> None:
    """It is said, and not guessed."""
    assert learn(tokenizer, ["dear", "Rabbit"]) is None


class _Merging(Tokenizer):
    """Takes a word and the mark behind it for one."""

    def pieces(self, text: str) -> list[str]:
        return super().pieces(text.replace(" dear of", " dearof").replace(" Rabbit of", " of"))


@pytest.mark.parametrize("word", ["dear", "Rabbit"])
def test_a_word_that_is_not_found_again_is_no_guess(word: str) -> None:
    """One that vanishes, or swallows a mark, and none is learnt."""
    assert learn(_Merging(), [word, "hole"]) is None


def test_marks_split() -> None:
    """What stands before the first and behind the last is there, too; parts of a mark are no mark."""
    assert list(split([1, 7, 8, 9, 7, 7, 8, 9, 8], [7, 8, 9])) == [(1,), (7,), (8,)]
