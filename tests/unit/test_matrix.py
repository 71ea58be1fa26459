"""A file of cells: which rows it has, and what is wrong with one that has none of what it says."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from xinfer import expectation, matrix
from xinfer.errors import ConfigError
from xinfer.matrix import Matrix, Row

if TYPE_CHECKING:
    from collections.abc import Callable

    Read = Callable[[str], Matrix]


@pytest.fixture
def read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Read:
    """Return how to read a text as the file ``m.yaml``."""
    monkeypatch.chdir(tmp_path)

    def load(text: str) -> Matrix:
        path = Path("m.yaml")
        path.write_text(text, encoding="utf-8")
        return matrix.load(path)

    return load


def names(found: Matrix) -> list[str]:
    return [row.name for row in found.rows]


# Rows


def test_every_combination_is_a_row(read: Read) -> None:
    """The last axis is fastest, and what all rows have is no part of their names."""
    found = read("{title: T, defaults: {hw: cpu}, axes: {engine: [vllm, mlx], workload.concurrency: [1, 4]}}")
    assert found.title == "T"
    assert names(found) == [
        "engine=vllm workload.concurrency=1", "engine=vllm workload.concurrency=4",
        "engine=mlx workload.concurrency=1", "engine=mlx workload.concurrency=4",
    ]  # fmt: skip
    first = found.rows[0]
    assert first.overrides == ("hw=cpu", "engine=vllm", "workload.concurrency=1")
    assert (first.file, first.expect, first.is_canary) == ("m.yaml", expectation.RUNS, False)


@pytest.mark.parametrize(
    ("value", "word"),
    [
        pytest.param("3.10", "x=3.10", id="a-version"),
        pytest.param("1_5", "x=1_5", id="a-size"),
        pytest.param("off", "x=off", id="a-word-that-YAML-has-plans-for"),
        pytest.param("null", "x=null", id="nothing"),
        pytest.param("2024-08", "x=2024-08", id="a-day"),
        pytest.param("'[a, b]'", "x=[a, b]", id="a-list-of-the-command-line"),
        pytest.param("''", "x=", id="an-empty-text"),
    ],
)
def test_a_value_is_what_is_typed(read: Read, value: str, word: str) -> None:
    """As on the command line, so that a row can be pasted there."""
    assert read(f"axes: {{x: {value}}}").rows[0].overrides == (word,)


def test_a_rule_may_be_switched_off(read: Read) -> None:
    """With its path alone, as it is typed."""
    found = read("axes: {engine: [vllm, mlx], ~rules.engines.vllm.family: ''}")
    assert found.rows[0].overrides == ("engine=vllm", "~rules.engines.vllm.family")


def test_what_is_excluded_is_no_row(read: Read) -> None:
    """Several values stand for each of them."""
    found = read("{axes: {a: [1, 2, 3], b: [x, y]}, exclude: [{a: [2, 3], b: x}, {a: 1, b: y}]}")
    assert names(found) == ["a=1 b=x", "a=2 b=y", "a=3 b=y"]


def test_the_first_line_that_fits_says_what_is_expected(read: Read) -> None:
    """A row that none fits runs."""
    found = read("""
        axes: {a: [1, 2, 3]}
        expect:
          - {where: {a: 1}, expect: {chooses: vllm}}
          - {where: {a: [1, 2]}, expect: {refused-by: [vllm.cuda]}}
    """)
    assert [str(row.expect) for row in found.rows] == ["runs with vllm", "refused by vllm.cuda", "runs"]


def test_included_rows_bring_their_own_expectation(read: Read) -> None:
    """Lists in one make a row of every combination; a default may be said otherwise."""
    found = read("""
        defaults: {hw: cpu, w: 1}
        axes: {a: 1}
        include:
          - {row: {a: [2, 3], hw: cuda}, expect: {chooses: vllm}}
          - row: {}
    """)
    assert names(found) == ["a=1", "hw=cuda a=2", "hw=cuda a=3", "hw=cpu w=1"]
    assert [str(row.expect) for row in found.rows] == ["runs", "runs with vllm", "runs with vllm", "runs"]
    assert found.rows[1].overrides == ("hw=cuda", "w=1", "a=2")


def test_the_canary_is_the_first_row(read: Read) -> None:
    """The first of those that fit; the others keep their order."""
    found = read("{axes: {a: [1, 2, 3], b: [x, y]}, canary: {a: 2}}")
    assert names(found)[:3] == ["a=2 b=x", "a=1 b=x", "a=1 b=y"]
    assert [row.is_canary for row in found.rows] == [True, *[False] * 5]


def test_a_budget_is_in_minutes_and_rows(read: Read) -> None:
    """Both may be left out."""
    found = read("{axes: {a: 1}, budget: {minutes: 2.5, rows: 3}}").budget
    assert (found.minutes, found.rows) == (2.5, 3)
    found = read("axes: {a: 1}").budget
    assert (found.minutes, found.rows) == (None, None)


# Errors

_TAKES = "it takes runs, {chooses: ENGINE}, or {refused-by: [ENGINE.CONDITION, …]}"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        pytest.param("{}", "m.yaml: has no rows; say axes or include", id="an-empty-file"),
        pytest.param("[a]", "m.yaml: must be a mapping of keys to values, not ['a']", id="a-list"),
        pytest.param("axis: {a: 1}", "m.yaml has no key 'axis'; did you mean 'axes'?", id="a-misspelt-part"),
        pytest.param("{axes: {a: 1}, title: [x]}", "m.yaml.title: expected text, got a list", id="a-title-of-several"),
        pytest.param("axes: [a]", 'm.yaml: axes: ["a"] is not a mapping of keys to values, as in {engine: [vllm, mlx]}',
                     id="axes-without-keys"),
        pytest.param("axes: {a: []}", "m.yaml: axes: a is []; it takes a value, or a list of values",
                     id="an-axis-of-none"),
        pytest.param("axes: {a: [[1]]}", 'm.yaml: axes: a is [["1"]]; it takes a value, or a list of values',
                     id="an-axis-of-lists"),
        pytest.param("axes: {a: {b: 1}}", 'm.yaml: axes: a is {"b":"1"}; it takes a value, or a list of values',
                     id="an-axis-of-keys"),
        pytest.param("{defaults: {a: [1, 2]}}", "m.yaml: defaults: a has 2 values; several are for axes",
                     id="a-default-of-several"),
        pytest.param("{axes: {a: 1}, exclude: {a: 1}}", "m.yaml.exclude: expected a list, got a mapping",
                     id="an-exclusion-that-is-no-list"),
        pytest.param("{axes: {a: 1}, exclude: [{a: 2}]}", "m.yaml: exclude 1 fits no row: none has a=2",
                     id="an-exclusion-that-fits-none"),
        pytest.param("{axes: {a: 1}, exclude: [{a: 1}]}", "m.yaml: has no rows; say axes or include",
                     id="an-exclusion-of-all"),
        pytest.param("{axes: {a: 1}, expect: [{where: {b: [1, 2]}, expect: runs}]}",
                     "m.yaml: expect 1 fits no row that the lines above it leave", id="an-expectation-of-none"),
        pytest.param("{axes: {a: 1}, expect: [{expect: runs}, {where: {a: 1}, expect: {chooses: vllm}}]}",
                     "m.yaml: expect 2 fits no row that the lines above it leave", id="an-expectation-too-late"),
        pytest.param("{axes: {a: 1}, expect: [{wher: {}, expect: runs}]}",
                     "m.yaml: expect 1 has no key 'wher'; did you mean 'where'?", id="a-misspelt-condition"),
        pytest.param("{axes: {a: 1}, expect: [{where: {a: 1}}]}", f"m.yaml: expect 1: expect is null; {_TAKES}",
                     id="a-line-without-an-expectation"),
        pytest.param("{axes: {a: 1}, expect: [{expect: fails}]}", f'm.yaml: expect 1: expect is "fails"; {_TAKES}',
                     id="an-outcome-that-is-none"),
        pytest.param("include: [{row: {a: 1}, expects: runs}]",
                     "m.yaml: include 1 has no key 'expects'; did you mean 'expect'?", id="a-misspelt-key-of-a-row"),
        pytest.param("include: [{row: a=1}]",
                     'm.yaml: include 1: "a=1" is not a mapping of keys to values, as in {engine: [vllm, mlx]}',
                     id="a-row-that-is-a-text"),
        pytest.param("include: [{row: {a: 1}, expect: {chooses: [x]}}]",
                     f'm.yaml: include 1: expect is {{"chooses":["x"]}}; {_TAKES}', id="an-outcome-of-several"),
        pytest.param("{axes: {a: [1, 2]}, include: [{row: {a: 2}, expect: {chooses: vllm}}]}",
                     "m.yaml: the row 'a=2' is there twice; exclude one of them", id="a-row-that-is-there-twice"),
        pytest.param("{axes: {a: 1}, canary: {a: [2, 3]}}", "m.yaml: canary fits no row: none has a=2|3",
                     id="a-canary-that-is-no-row"),
        pytest.param("{axes: {a: 1}, budget: {hours: 1}}",
                     "m.yaml: budget has no key 'hours'; its keys are minutes, rows",
                     id="a-budget-in-hours"),
        pytest.param("{axes: {a: 1}, budget: {minutes: long}}",
                     "m.yaml: budget.minutes: expected a number or null, got text",
                     id="minutes-that-are-no-number"),
        pytest.param("{axes: {a: 1}, budget: {rows: 0}}", "m.yaml: budget.rows: expected a whole number >= 1",
                     id="a-budget-of-nothing"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_one_line(read: Read, text: str, said: str) -> None:
    """It names the file, the part of it, and what may stand there."""
    with pytest.raises(ConfigError, match=f"^{re.escape(said)}$"):
        read(text)


# What is made of rows


def row(name: str, expect: Any = "runs") -> Row:
    return Row(file="dir/m.yaml", name=name, overrides=tuple(name.split()), expect=expectation.read(expect, ""))


def test_overrides_take_the_place_of_a_rows_own() -> None:
    """Hydra wants each key once."""
    assert matrix.overlaid(row("a=1 b=2"), ["b=3", "c=4"]).overrides == ("a=1", "b=3", "c=4")


ROWS = [
    (row("1"), {"engine": {"name": "vllm", "args": {}}, "workload": {"concurrency": 1}, "dtype": None}),
    (row("2"), {"engine": {"name": "vllm", "args": {}}, "workload": {"concurrency": 4}, "dtype": "float32"}),
    (
        row("3", {"refused-by": ["mlx.format"]}),
        {"engine": {"name": "mlx"}, "workload": {"concurrency": 1}, "dtype": None},
    ),
]


@pytest.mark.parametrize(
    ("filters", "kept"),
    [
        pytest.param([], "1 2 3", id="all"),
        pytest.param(["engine=vllm"], "1 2", id="by-a-group"),
        pytest.param(["workload.concurrency=1"], "1 3", id="by-a-number"),
        pytest.param(["dtype=null"], "1 3", id="by-nothing"),
        pytest.param(["engine=vllm", "workload.concurrency=4"], "2", id="by-both"),
        pytest.param(["engine=vllm,mlx", "workload.concurrency=1"], "1 3", id="by-one-of-several"),
        pytest.param(["expect=runs"], "1 2", id="by-what-is-expected"),
        pytest.param(["expect=refused"], "3", id="by-what-is-not"),
    ],
)
def test_filters_keep_what_has_all_they_say(filters: list[str], kept: str) -> None:
    """Of what was composed, not only of what the row itself says."""
    assert [each.name for each, _ in matrix.narrowed(ROWS, filters)] == kept.split()


@pytest.mark.parametrize(
    ("filters", "said"),
    [
        pytest.param(
            ["engine=vlm"],
            "filter=engine=vlm leaves no row: engine is mlx, vllm; did you mean 'vllm'?",
            id="no-such-value",
        ),
        pytest.param(
            ["engine=mlx", "expect=runs"], "filter=expect=runs leaves no row: expect is refused", id="none-left"
        ),
        pytest.param(
            ["engin=vllm"], "filter=engin=vllm leaves no row: none has engin; did you mean 'engine'?", id="no-such-key"
        ),
        pytest.param(
            ["dtype.x=1"], "filter=dtype.x=1 leaves no row: none has dtype.x; did you mean 'dtype'?", id="nothing-in-it"
        ),
        pytest.param(["vllm"], "filter=vllm is not KEY=VALUE, as in filter=engine=vllm", id="no-key"),
        pytest.param([""], "filter= is not KEY=VALUE, as in filter=engine=vllm", id="nothing"),
    ],
)
def test_a_filter_that_leaves_nothing_is_an_error(filters: list[str], said: str) -> None:
    """It says what there is."""
    with pytest.raises(ConfigError, match=f"^{re.escape(said)}$"):
        matrix.narrowed(ROWS, filters)


def test_jobs_are_what_github_takes() -> None:
    """Overrides are quoted for a shell; more rows than it allows make several documents."""
    many = [row(f"a={number}") for number in range(matrix.GITHUB_MOST + 1)]
    first, second = matrix.jobs(many)
    assert (len(first["include"]), len(second["include"])) == (256, 1)
    odd = Row(file="dir/m.yaml", name="x", overrides=("x=[a, b]", "y=1"), expect=expectation.RUNS, is_canary=True)
    (part,) = matrix.jobs([odd])
    expected = {"matrix": "m", "name": "x", "overrides": "'x=[a, b]' y=1", "expect": "runs", "canary": True}
    assert part == {"include": [expected]}
