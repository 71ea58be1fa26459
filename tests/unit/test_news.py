"""A long installation says what it is doing, now and then."""

from __future__ import annotations

import pytest

from xinfer.environments.news import PAUSE_S, REPEAT_S, News


def told(*lines: str) -> str | None:
    """Return what is said of an output when it is time."""
    news = News("installing a", 0.0)
    for line in lines:
        assert news.hear(line, 1.0) is None
    return news.due(PAUSE_S)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        pytest.param("Collecting torch==2.13.0 (from a)", "collecting torch==2.13.0", id="a-search"),
        pytest.param(
            "  Downloading torch-2.13.0+cpu-cp311-cp311-manylinux_2_28_x86_64.whl (190.2 MB)",
            "downloading torch-2.13.0+cpu-cp311-cp311-manylinux_2_28_x86_64.whl (190.2 MB)", id="a-download",
        ),
        pytest.param("Downloading numpy (16.1MiB)", "downloading numpy (16.1 MiB)", id="a-download-by-uv"),
        pytest.param("Building wheels for collected packages: a, b", "building a, b", id="a-build"),
        pytest.param("   Building a==1.0", "building a==1.0", id="a-build-by-uv"),
        pytest.param("Installing collected packages: a, b, c", "installing what was downloaded", id="the-rest"),
        pytest.param("Prepared 12 packages in 2.31s", "installing what was downloaded", id="the-rest-by-uv"),
    ],
)  # fmt: skip
def test_what_is_understood(line: str, expected: str) -> None:
    """The lines of pip and uv that tell what takes long, and of what size it is."""
    assert told(line) == f"installing a: {expected}, 5 s so far"


@pytest.mark.parametrize("line", ["", "Looking in indexes: http://i", "Downloading", "[1/", "WARNING: Collecting"])
def test_nothing_is_made_of_other_lines(line: str) -> None:
    """Nothing new is nothing to say yet."""
    assert told(line) is None


def test_the_last_thing_counts() -> None:
    """Only what goes on now is said."""
    assert told("Collecting b", "  Downloading b.whl (3 kB)") == "installing a: downloading b.whl (3 kB), 5 s so far"


def test_news_come_with_pauses() -> None:
    """At most one line in a pause; the same thing is said again only after long."""
    news = News("installing a", 100.0)
    news.hear("Collecting b", 100.0)
    assert news.due(100.0 + PAUSE_S - 0.1) is None
    assert news.due(100.0 + PAUSE_S) is not None
    news.hear("Collecting c", 106.0)
    assert news.due(106.0) is None
    assert news.due(100.0 + 2 * PAUSE_S) == "installing a: collecting c, 10 s so far"
    assert news.due(100.0 + 2 * PAUSE_S + REPEAT_S - 0.1) is None
    assert news.due(100.0 + 2 * PAUSE_S + REPEAT_S) == "installing a: collecting c, 70 s so far"


def test_silence_is_told_too() -> None:
    """A command that says nothing for long has not been forgotten."""
    assert News("running x", 0.0).due(REPEAT_S) == "running x: still running, 60 s so far"


def test_a_compilation_tells_each_tenth() -> None:
    """At once, and not a line for each file; it counts as a line, so that nothing else follows at once."""
    news = News("installing a", 0.0)
    said = [news.hear(f"[{number}/40] g++ -c x.cpp", 0.1 * number) for number in range(1, 41)]
    assert [line for line in said if line] == [f"installing a: {done} of 40 files" for done in range(4, 41, 4)]
    news.hear("Installing collected packages: a", 4.0)
    assert news.due(PAUSE_S) is None
    assert news.hear("[0/0] nothing to do", 5.0) is None
