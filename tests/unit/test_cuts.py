"""Prompts in words: exact by a vocabulary, unlike each other, and the same work in every run."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_tokenizers import Tokenizer

from xinfer.measuring import corpus, cuts, vocabulary
from xinfer.measuring.cuts import Cut, Length
from xinfer.measuring.vocabulary import Vocabulary

KNOWN = asyncio.run(vocabulary.learn(Tokenizer(), set(corpus.words()))) or Vocabulary({})


def made(lengths: list[Length], run_id: str = "run") -> list[Cut]:
    chosen = cuts.exact(KNOWN, lengths, run_id)
    assert chosen is not None
    return chosen


def size(words: object) -> int:
    assert isinstance(words, (list, tuple))
    return sum(map(KNOWN.count, words))


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 400), st.floats(0, 1)), min_size=1, max_size=8))
def test_every_length_is_exact(asked: list[tuple[int, float]]) -> None:
    """Whatever the lengths of a run's requests, each has its own, and shares no more than it may."""
    lengths = [Length(total, int(total * shared)) for total, shared in asked]
    for cut, length in zip(made(lengths), lengths, strict=True):
        assert size(cut.words) == length.total
        assert size(cut.shared) <= length.shared
        assert len(cut.nonce) == min(corpus.NONCE, length.total - size(cut.shared))


def test_a_run_repeats_the_work_and_not_the_nonces() -> None:
    """Two runs differ in their nonces alone, whose tokens are as many."""
    lengths = [Length(64, 16)] * 20
    first, second = made(lengths, "a"), made(lengths, "b")
    assert [cut.work for cut in first] == [cut.work for cut in second]
    assert all(one.nonce != other.nonce for one, other in zip(first, second, strict=True))


def test_no_two_prompts_begin_alike_behind_what_they_share() -> None:
    """The first word of the nonces differs: a cache has nothing beyond the shared part."""
    found = made([Length(64, 32)] * 500)
    assert len({cut.nonce[0] for cut in found}) == 500
    assert len({tuple(cut.shared) for cut in found}) == 1


def test_what_is_shared_by_prompts_of_several_lengths_begins_alike() -> None:
    """A shorter one's part is the beginning of a longer one's."""
    short, long = made([Length(40, 20), Length(400, 200)])
    assert list(long.shared[: len(short.shared)]) == list(short.shared)
    assert 18 <= size(short.shared) <= 20


def test_cuts_do_not_overlap_until_the_corpus_ends() -> None:
    """The prompts of a run read on where the one before them ended, and read real text."""
    found = made([Length(200, 0)] * 30)
    text = " ".join(corpus.words())
    places = [text.index(" ".join(cut.rest[:100])) for cut in found]
    assert places == sorted(places)
    assert places[0] == 0
    ends = [place + len(" ".join(cut.rest[:-5])) for place, cut in zip(places, found, strict=True)]
    assert all(end < place for end, place in zip(ends, places[1:], strict=False))


def test_a_prompt_longer_than_the_corpus_reads_it_again() -> None:
    """Nothing is too long."""
    total = size(corpus.words()) + 1000
    [cut] = made([Length(total, 0)])
    assert size(cut.words) == total


def test_what_is_needed_is_what_is_used() -> None:
    """No prompt has a word that was not asked for, and few prompts do not need the whole corpus."""
    lengths = [Length(64, 32)] * 10
    needed = cuts.needed(lengths)
    assert {word for cut in made(lengths) for word in cut.words} <= needed
    assert len(needed) < len(set(corpus.words())) / 2
    assert cuts.needed([Length(500_000, 0)] * 3) == set(corpus.words()) | set(cuts.common())
    assert cuts.needed([]) == set(cuts.common())


def test_words_that_are_not_needed_need_not_be_known() -> None:
    """A vocabulary of what is needed gives the same prompts as one of everything."""
    lengths = [Length(total, total // 2) for total in range(1, 40)]
    known = Vocabulary({word: KNOWN.ids[word] for word in cuts.needed(lengths)})
    assert cuts.exact(known, lengths, "run") == made(lengths)


@pytest.mark.parametrize("total", [8, 9, 64, 700])
def test_a_prompt_is_filled_up_only_where_the_next_word_does_not_fit(total: int) -> None:
    """What follows the nonce is the corpus, word by word, as far as it goes."""
    [cut] = made([Length(total, 0)])
    read = 0
    while read < len(cut.rest) and cut.rest[read] == corpus.words()[read]:
        read += 1
    assert size(cut.rest[:read]) + KNOWN.count(corpus.words()[read]) > total - size(cut.nonce)


def test_a_vocabulary_of_letters_makes_no_exact_prompts() -> None:
    """Where hardly a word is one token, nothing fills the last gap."""
    letters = Vocabulary({word: tuple(range(2 + len(word))) for word in corpus.words()})
    assert cuts.exact(letters, [Length(64, 0)], "run") is None


def test_estimates_are_about_as_long() -> None:
    """With two tokens to a word, a prompt of a hundred tokens has fifty words; a short one has one at least."""
    lengths = [Length(100, 40), Length(1, 0), Length(20, 20)]
    found = cuts.estimated(lengths, 2.0, "run")
    assert [(len(cut.shared), len(cut.nonce), len(cut.rest)) for cut in found] == [(20, 8, 22), (0, 1, 0), (10, 0, 0)]


@pytest.mark.parametrize(
    ("missing", "words"),
    [
        pytest.param(3, 12, id="two-words-of-two"),
        pytest.param(-1, 9, id="one-token-too-many"),
        pytest.param(-5, 7, id="three-words-of-two"),
        pytest.param(-500, 0, id="never-less-than-nothing"),
    ],
)
def test_corrections(missing: int, words: int) -> None:
    """What is missing is added in words, and what is too much is taken away."""
    before = Cut(["a"], ["b"], ["c"] * 10)
    after = cuts.adjusted(before, missing, 2.0, 0)
    assert (after.shared, after.nonce, len(after.rest)) == (["a"], ["b"], words)


def test_a_nonce_gives_way_where_nothing_else_is_left() -> None:
    """A word of it remains."""
    assert cuts.adjusted(Cut([], ["a", "b", "c"], ["d"]), -4, 2.0, 0) == Cut([], ["a", "b"], [])
    assert cuts.adjusted(Cut([], ["a", "b", "c"], []), -40, 2.0, 0) == Cut([], ["a"], [])


def test_later_corrections_fill_a_small_gap_with_letters() -> None:
    """Where no word is a single token, a letter may be."""
    assert cuts.adjusted(Cut([], [], ["c", "d"]), 3, 2.0, 2).rest == ["c", "deee"]
    assert len(cuts.adjusted(Cut([], [], ["c", "d"]), 8, 2.0, 2).rest) == 6


def test_each_correction_adds_other_words() -> None:
    """One that did not help is not tried again."""
    before = Cut([], [], [])
    assert len({tuple(cuts.adjusted(before, 2, 1.0, turn).rest) for turn in (0, 1, 4, 5, 8)}) == 5
