"""The scorer follows a text token by token, as far as a greedy server's text can be followed."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

scorer: Any = import_module("xinfer.plugins.transformers.scorer")
SCRIPT = scorer.__file__
BYTES = {0: b"", 1: b" Pa", 2: b" Paris", 3: b"ris", 4: b".", 5: b"\xe5\xba", 6: b"\xa7", 7: b"\xe5", 8: b"\xba"}
"""What each token of the vocabulary adds; 0 ends an answer and is not shown."""


def split(ids: list[int]) -> tuple[str, bytes]:
    data = b"".join(BYTES[number] for number in ids)
    text = data.decode(errors="replace")
    said = text.rstrip("\ufffd")
    return said, scorer.unfinished(data[-4:]) if said != text else b""


def preferring(*order: int) -> Any:
    """A model that always finds the same tokens likely, in this order."""
    return lambda _: [scorer.Scored(number, -float(rank)) for rank, number in enumerate(order)]


@pytest.mark.parametrize(
    ("text", "count", "order", "ids"),
    [
        pytest.param(" Paris.", 2, (2, 4, 1), [2, 4], id="the-likeliest-that-fits"),
        pytest.param(" Paris.", 3, (1, 3, 4, 2), [1, 3, 4], id="in-parts-where-these-are-likelier"),
        pytest.param(" Paris.", 3, (0, 2, 4), [2, 4, 0], id="the-last-may-end-the-answer"),
        pytest.param(" Paris", 2, (2, 0), [2, 0], id="and-only-the-last"),
        pytest.param("座", 2, (5, 6, 4), [5, 6], id="a-character-in-two-parts"),
        pytest.param("座.", 4, (8, 7, 6, 4), [7, 8, 6, 4], id="parts-in-their-order"),
        pytest.param(".座", 3, (7, 4, 5, 6), [4, 7], id="a-part-that-leads-nowhere"),
        pytest.param(" Paris.", 2, (7, 5, 2, 4), [2, 4], id="no-part-where-a-character-is-whole"),
        pytest.param(" Paris\ufffd", 2, (5, 2), [2, 5], id="a-cut-in-its-place"),
        pytest.param(" Paris\ufffd", 2, (2, 5), [2, 5], id="a-character-that-is-cut"),
        pytest.param("London", 2, (2, 4), [], id="a-text-that-the-model-does-not-know"),
        pytest.param(" Paris London", 3, (2, 4, 0), [2], id="a-text-as-far-as-it-can-be-followed"),
        pytest.param("", 0, (2, 4), [], id="nothing"),
    ],
)
def test_a_text_is_followed(text: str, count: int, order: tuple[int, ...], ids: list[int]) -> None:
    """Each token is the likeliest with which the text goes on."""
    found = scorer.align(text, count, preferring(*order), split)
    assert [taken.id for taken, _ in found] == ids
    assert all([each.id for each in candidates] == list(order) for _, candidates in found)


def test_a_character_may_have_many_parts() -> None:
    """Of which none has a text of its own."""
    parts = [7, 8, 6, 4]
    found = scorer.align("座.", 4, lambda ids: [scorer.Scored(parts[len(ids)], -0.1)], split)
    assert [taken.id for taken, _ in found] == parts


@pytest.mark.parametrize(
    ("token", "data"),
    [
        pytest.param("Paris", b"Paris", id="letters"),
        pytest.param("ĠParis", b" Paris", id="a-space-of-a-vocabulary-of-bytes"),
        pytest.param("åº", "座".encode()[:2], id="a-part-of-a-character"),
        pytest.param("Ċ", b"\n", id="a-byte-that-is-not-printed"),
        pytest.param("<0xE5>", b"\xe5", id="a-byte-by-its-number"),
        pytest.param("▁Paris", "▁Paris".encode(), id="a-vocabulary-of-letters"),
    ],
)
def test_a_token_stands_for_bytes(token: str, data: bytes) -> None:
    """However its vocabulary spells them."""
    assert scorer.byte(token) == data


class Fake:
    """Stands in for the network."""

    begin = staticmethod(lambda _: None)
    likely = staticmethod(preferring(2, 4, 1))
    split = staticmethod(split)
    told = staticmethod(lambda token: {"id": token.id, "text": split([token.id])[0], "logprob": token.logprob})


def test_scores_are_written_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """For every text its tokens, each with the likeliest at its place."""
    made: list[tuple[str, ...]] = []

    def network(*words: str) -> Fake:
        made.append(words)
        return Fake()

    monkeypatch.setattr(scorer, "Network", network)
    asked = {"top": 2, "questions": {"fact": {"prompt": "The capital is", "text": " Paris.", "tokens": 2}}}
    (tmp_path / "texts").write_text(json.dumps(asked))
    scorer.main(["folder", "float32", "cpu", str(tmp_path / "texts"), str(tmp_path / "scores")])
    assert made == [("folder", "float32", "cpu")]
    first, second = json.loads((tmp_path / "scores").read_text())["fact"]["steps"]
    assert first == {
        "id": 2, "text": " Paris", "logprob": 0.0,
        "top": [{"id": 2, "text": " Paris", "logprob": 0.0}, {"id": 4, "text": ".", "logprob": -1.0}],
    }  # fmt: skip
    assert second["id"] == 4
    assert sorted(path.name for path in tmp_path.iterdir()) == ["scores", "texts"]


def test_it_needs_its_engine() -> None:
    """Anywhere else it says what it lacks, and writes nothing."""
    argv = [sys.executable, "-I", str(SCRIPT), "folder", "float32", "cpu", "texts", "scores"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "texts" in done.stderr
