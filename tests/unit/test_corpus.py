"""Prompts: exact in length, unlike each other, and cut alike for every engine."""

from __future__ import annotations

import pytest

from xinfer.measuring import corpus

WORDS = corpus.text().split()


def test_the_corpus_is_text() -> None:
    """The line that names the works is no part of it, and there is enough of it."""
    assert corpus.text().startswith("Down the Rabbit-Hole")
    assert "Public domain" not in corpus.text()
    assert len(WORDS) >= 3000


@pytest.mark.parametrize("length", [1, 7, 8, 9, 100, 20_000])
def test_prompts_are_as_long_as_asked(length: int) -> None:
    """A prompt longer than the corpus reads it again."""
    assert len(corpus.prompt(WORDS, run_id="r", index=3, length=length)) == length


def test_no_two_prompts_of_a_run_share_their_first_unit() -> None:
    """A prefix cache of any granularity has nothing to reuse."""
    prompts = [corpus.prompt(WORDS, run_id="r", index=i, length=32) for i in range(500)]
    assert len({prompt[0] for prompt in prompts}) == 500


def test_two_runs_share_no_nonce() -> None:
    """A server that stays up between runs has not seen the prompts either."""
    nonces = {tuple(corpus.nonce(WORDS, run_id=run, index=i)) for run in "abcdef" for i in range(100)}
    assert len(nonces) == 600


def test_cuts_depend_on_the_index_alone() -> None:
    """Every run and every engine gets the same work: only the nonces differ."""
    first, again = (corpus.prompt(WORDS, run_id=run, index=5, length=64) for run in ("a", "b"))
    assert first[: corpus.NONCE] != again[: corpus.NONCE]
    assert first[corpus.NONCE :] == again[corpus.NONCE :]
    assert first[corpus.NONCE :] != corpus.prompt(WORDS, run_id="a", index=6, length=64)[corpus.NONCE :]


def test_prompts_of_ids_use_ids_of_the_corpus() -> None:
    """No id is made up, so that none is a control token."""
    ids = [7, 8, 9, 7, 300, 12]
    assert set(corpus.prompt(ids, run_id="r", index=0, length=50)) <= set(ids)


def test_prompts_are_reproducible() -> None:
    """The same run id gives the same prompts in every process; a change here makes old records another workload."""
    assert corpus.prompt(list(range(100)), run_id="r", index=0, length=10) == [56, 15, 18, 5, 60, 24, 19, 74, 48, 49]
