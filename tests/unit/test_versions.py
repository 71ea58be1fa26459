"""Versions of engines: compared in numbers, with a first one that has a condition and a first one that has not."""

from __future__ import annotations

import itertools
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xinfer import versions
from xinfer.errors import ConfigError

WHERE = "pack.yaml: rule vllm.mine"
NUMBERS = st.tuples(st.integers(0, 40), st.integers(0, 40), st.integers(0, 40))


@pytest.mark.parametrize(
    ("since", "until", "version", "outside"),
    [
        pytest.param("0.24.0", None, "0.23.0", "not yet", id="before-the-first"),
        pytest.param("0.24.0", None, "0.24.0", False, id="the-first-has-it"),
        pytest.param("0.24.0", None, "0.100.0", False, id="in-numbers-not-as-text"),
        pytest.param("0.24.0", None, "0.24.0rc1", "not yet", id="a-candidate-is-before-its-release"),
        pytest.param("0.24.0", None, "0.23.0+cu129", "not yet", id="a-build-of-an-older-one"),
        pytest.param(None, "0.24.0", "0.23.9", False, id="the-last"),
        pytest.param(None, "0.24.0", "0.24.0", "no more", id="the-first-without-it"),
        pytest.param("0.3", "0.5", "0.2", "not yet", id="before-a-range"),
        pytest.param("0.3", "0.5", "0.4.1", False, id="in-a-range"),
        pytest.param("0.3", "0.5", "0.5", "no more", id="after-a-range"),
        pytest.param("0.3", "0.5", None, None, id="nobody-knows-the-version"),
        pytest.param("0.3", "0.5", "main-f3a1", None, id="what-is-no-version-cannot-be-compared"),
    ],
)
def test_outside(since: str | None, until: str | None, version: str | None, outside: object) -> None:
    """A version has the condition from its first one on, the last excluded; else it is said on which side it lies."""
    found = versions.bounds(since, until, WHERE)
    assert found is not None
    assert found.outside(version) is outside or found.outside(version) == outside


def test_a_condition_without_bounds_has_none() -> None:
    """All versions have it."""
    assert versions.bounds(None, None, WHERE) is None


@given(since=NUMBERS, until=NUMBERS, version=NUMBERS)
def test_every_version_is_on_one_side(since: tuple[int, ...], until: tuple[int, ...], version: tuple[int, ...]) -> None:
    """Numbers decide, whatever they look like as text."""
    if since >= until:
        since, until = until, (*since[:2], since[2] + 1)
    first, end, text = (".".join(map(str, each)) for each in (since, until, version))
    found = versions.bounds(first, end, WHERE)
    assert found is not None
    expected = "not yet" if version < since else "no more" if version >= until else False
    assert found.outside(text) == expected


@pytest.mark.parametrize(
    ("since", "until", "message"),
    [
        pytest.param("soon", None, "since: 'soon' is no version; write it as 0.24.0", id="no-version"),
        pytest.param(None, "", "until: '' is no version; write it as 0.24.0", id="nothing"),
        pytest.param("0.5", "0.5", "since 0.5 is not before until 0.5, so no version has the condition", id="empty"),
        pytest.param(
            "0.10", "0.9", "since 0.10 is not before until 0.9, so no version has the condition", id="reversed"
        ),
    ],
)
def test_what_is_refused(since: str | None, until: str | None, message: str) -> None:
    """What is no version, and a range with nothing in it, in one line that says where."""
    with pytest.raises(ConfigError, match=re.escape(message)) as error:
        versions.bounds(since, until, WHERE)
    assert str(error.value).startswith(WHERE)


RELEASES = ("0.18.0", "0.23.0", "0.24.0", "0.28.0")


@pytest.mark.parametrize(
    ("since", "until", "said", "way_out"),
    [
        pytest.param(None, None, "", None, id="none"),
        pytest.param("0.24.0", None, "since version 0.24.0", "engine.version=0.23.0", id="the-last-release-before"),
        pytest.param(None, "0.28.0", "before version 0.28.0", "engine.version=0.28.0", id="the-first-after"),
        pytest.param(
            "0.24.0", "0.28.0", "since version 0.24.0 and before version 0.28.0",
            "engine.version=0.23.0 or engine.version=0.28.0", id="either",
        ),
        pytest.param("0.18.0", None, "since version 0.18.0", "an engine.version before 0.18.0", id="none-is-known"),
    ],
)  # fmt: skip
def test_what_is_said(since: str | None, until: str | None, said: str, way_out: str | None) -> None:
    """Which versions have the condition, and the nearest ones that have not, by their numbers."""
    assert versions.said(since, until) == said
    assert versions.way_out(since, until, RELEASES) == way_out


def test_a_version_is_read_once() -> None:
    """Judging a catalogue asks for the same few thousands of times."""
    assert versions.read("0.33.0") is versions.read("0.33.0")
    assert versions.read("x") is None


def test_versions_are_no_texts() -> None:
    """The order of releases is not that of their letters."""
    ordered = ("0.3.0", "0.9.2", "0.10.0", "0.24.0", "0.100.0", "1.0")
    for earlier, later in itertools.pairwise(ordered):
        found = versions.bounds(later, None, WHERE)
        assert found is not None
        assert found.outside(earlier) == "not yet"
