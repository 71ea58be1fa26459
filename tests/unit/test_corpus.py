"""The corpus, and what is chosen from it by numbers."""

from __future__ import annotations

import pytest

from xinfer.measuring import corpus

WORDS = corpus.words()


def test_the_corpus_is_text() -> None:
    """The line that names the works is no part of it, and there is enough of it."""
    assert corpus.text().startswith("Down the Rabbit-Hole")
    assert "Public domain" not in corpus.text()
    assert len(WORDS) > 128_000
    assert "gutenberg" not in corpus.text().lower()


def test_the_works_are_named_and_are_there_to_their_ends() -> None:
    """What the first line says is what follows."""
    for last in ("and the happy summer days.", "Through Eden took their solitary way.", "bid me farewell. [Exeunt]"):
        assert " ".join(last.split()) in " ".join(WORDS)


@pytest.mark.parametrize("length", [1, 7, 8, 9, 100, 200_000])
def test_prompts_are_as_long_as_asked(length: int) -> None:
    """A prompt longer than the corpus reads it again."""
    assert len(corpus.prompt(WORDS, run_id="r", index=3, length=length)) == length


def test_no_two_nonces_of_a_run_share_their_first_unit() -> None:
    """A prefix cache of any granularity has nothing to reuse."""
    nonces = [corpus.nonce(range(500), run_id="r", index=i) for i in range(500)]
    assert len({nonce[0] for nonce in nonces}) == 500


def test_two_runs_share_no_nonce() -> None:
    """A server that stays up between runs has not seen the prompts either."""
    nonces = {tuple(corpus.nonce(range(500), run_id=run, index=i)) for run in "abcdef" for i in range(100)}
    assert len(nonces) == 600


def test_prompts_depend_on_the_index_alone_behind_their_nonces() -> None:
    """Every run gets the same work."""
    first, again = (corpus.prompt(WORDS, run_id=run, index=5, length=64) for run in ("a", "b"))
    assert first[: corpus.NONCE] != again[: corpus.NONCE]
    assert first[corpus.NONCE :] == again[corpus.NONCE :]
    assert first[corpus.NONCE :] != corpus.prompt(WORDS, run_id="a", index=6, length=64)[corpus.NONCE :]


def test_cuts_go_round() -> None:
    """Behind the last unit comes the first."""
    assert corpus.cut([1, 2, 3], start=2, length=5) == [3, 1, 2, 3, 1]


def test_prompts_of_ids_use_ids_that_are_given() -> None:
    """No id is made up, so that none is a control token."""
    ids = [7, 8, 9, 7, 300, 12]
    assert set(corpus.prompt(ids, run_id="r", index=0, length=50)) <= set(ids)


def test_prompts_are_reproducible() -> None:
    """The same run id gives the same prompts in every process; a change here makes old records another workload."""
    assert corpus.prompt(list(range(100)), run_id="r", index=0, length=10) == [56, 15, 18, 5, 60, 24, 19, 74, 48, 49]
