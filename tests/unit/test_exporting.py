"""Each format as its own reader reads it."""

from __future__ import annotations

import csv
import io
import json
import statistics
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import jsonschema
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parsed
from pytest_benchmark import cli
from pytest_benchmark.stats import Stats
from recorded import changed, repeats

from xinfer.exporting import bencher, formats, github_action_benchmark, openmetrics, pytest_benchmark, tables
from xinfer.exporting.subject import Subject, subjects
from xinfer.history import Cell
from xinfer.measuring.quantity import METRICS

if TYPE_CHECKING:
    from pathlib import Path

ASKED = ["output_tps", "goodput", "ttft.p50", "ready_s", "peak_rss", "slo_attainment"]
BMF: dict[str, Any] = {
    "$schema": "http://json-schema.org/draft-07/schema", "type": "object",
    "patternProperties": {".+": {"type": "object", "patternProperties": {".+": {
        "type": "object", "required": ["value"],
        "properties": {name: {"type": "number"} for name in ("value", "lower_value", "upper_value")},
    }}}},
}  # fmt: skip
"""The schema that Bencher publishes as bmf.json, version 0."""


def made(*, metrics: list[str] | None = None, flagged: bool = False) -> list[Subject]:
    """Return a cell that ran three times and one that ran once, with quotes and a line break in its name."""
    odd = changed(cell="cell-b", hardware__cpu='A "CPU"\\', overrides=('engine.args.x="a\nb"',), metrics__ready_s=2.0)
    cells = [Cell("cell-a", repeats([90.0, 110, 100])), Cell("cell-b", (odd,))]
    return subjects(cells, metrics or ASKED, flagged=flagged)[0]


FIRST, SECOND = made()


# github-action-benchmark


def test_github_action_benchmark() -> None:
    """One direction a file; a range where there are several runs; units as people read them."""
    entry, *others = github_action_benchmark.document(made(), higher_is_better=True)
    assert entry == {
        "name": f"{FIRST.name} / output_tps", "unit": "tok/s", "value": 100.0, "range": "90 to 110",
        "extra": "runs: 3\nengine: llama_cpp 2026.10\ncpu: AMD EPYC\ncell: cell-a",
    }  # fmt: skip
    assert [(each["name"], each["value"], "range" in each) for each in others] == [
        (f"{SECOND.name} / output_tps", 100.0, False)
    ]
    lower = github_action_benchmark.document(made(), higher_is_better=False)
    assert [(each["unit"], each["value"]) for each in lower] == [
        ("ms", 50.0), ("MiB", 256.0), ("ms", 50.0), ("s", 2.0), ("MiB", 256.0),
    ]  # fmt: skip
    assert all(set(each) <= {"name", "unit", "value", "range", "extra"} for each in (entry, *others, *lower))


# Bencher


def test_bencher() -> None:
    """It keeps to the published schema; bounds are those of the runs."""
    document = bencher.document(made())
    jsonschema.validate(document, BMF)
    assert document[FIRST.name]["output_tps"] == {"value": 100.0, "lower_value": 90.0, "upper_value": 110.0}
    assert document[SECOND.name] == {
        "output_tps": {"value": 100.0}, "ttft.p50": {"value": 0.05}, "ready_s": {"value": 2.0},
        "peak_rss": {"value": 2.0**28},
    }  # fmt: skip


def test_the_names_of_bencher_are_short_enough() -> None:
    """A measure's name has at most 64 characters."""
    assert max(map(len, METRICS)) <= 64


# pytest-benchmark


@example([1.0])
@example([3.0, 1.0, 2.0])
@given(st.lists(st.floats(1e-6, 1e6), min_size=1, max_size=12))
def test_statistics_are_pytest_benchmarks(data: list[float]) -> None:
    """Its own class computes the same of the same rounds."""
    theirs = Stats()
    theirs.data = data
    ours = pytest_benchmark.stats(data)
    assert ours.pop("data") == data
    assert ours.pop("iterations") == 1
    outliers = ("iqr_outliers", "stddev_outliers", "outliers", "ld15iqr", "hd15iqr")
    assert {key: value for key, value in ours.items() if key not in outliers} == pytest.approx(
        {key: value for key, value in theirs.as_dict().items() if key not in outliers}
    )
    if statistics.median(data) == data[0]:  # no value lies where rounding decides on which side of a fence
        assert set(ours) == set(theirs.as_dict())


@pytest.mark.parametrize("n", range(1, 10))
def test_outliers_are_pytest_benchmarks(n: int) -> None:
    """However many rounds there are, and with one far off."""
    theirs = Stats()
    theirs.data = [*map(float, range(10, 10 + n)), 100.0]
    ours = pytest_benchmark.stats(theirs.data)
    assert {key: ours[key] for key in theirs.fields} == pytest.approx(theirs.as_dict())


def test_pytest_benchmark_compares_what_is_exported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its own command reads the file and prints every cell and metric that is a time or a rate."""
    path = tmp_path / "xinfer.json"
    path.write_text(formats.text("pytest-benchmark", made(), higher_is_better=True), encoding="utf-8")
    table = tmp_path / "table.csv"
    words = ["compare", str(path), "--group-by=fullname", "--columns=median,ops,rounds", f"--csv={table}"]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["pytest-benchmark", f"--storage=file://{tmp_path}/kept", *words])
    cli.main()
    assert "Failed to load" not in capsys.readouterr().err
    rows = list(csv.DictReader(io.StringIO(table.read_text(encoding="utf-8"))))
    assert {(row["name"], float(row["median"]), int(row["rounds"])) for row in rows} == {
        (f"{FIRST.name} / output_tps", 0.01, 3), (f"{FIRST.name} / ttft.p50", 0.05, 3),
        (f"{SECOND.name} / output_tps", 0.01, 1), (f"{SECOND.name} / ttft.p50", 0.05, 1),
        (f"{SECOND.name} / ready_s", 2.0, 1),
    }  # fmt: skip
    rate = next(row for row in rows if row["name"] == f"{SECOND.name} / output_tps")
    assert float(rate["ops"]) == pytest.approx(100.0)


def test_what_is_no_time_is_told() -> None:
    """And so is a rate of nothing, whose inverse is none."""
    assert pytest_benchmark.left_out(made()) == ["peak_rss"]
    nothing, _ = subjects([Cell("c", (changed(metrics__output_tps=0.0),))], ["output_tps"])
    assert pytest_benchmark.left_out(nothing) == ["output_tps"]
    assert pytest_benchmark.document(nothing)["benchmarks"] == []
    assert pytest_benchmark.stats([0.0])["ops"] == 0.0


# OpenMetrics


def test_openmetrics() -> None:
    """The reference parser reads every family with its unit, and every value with its labels and time."""
    families = {each.name: each for each in parsed(openmetrics.text(made()))}
    assert {name: (each.type, each.unit) for name, each in families.items() if "est" not in name} == {
        "xinfer_output_tokens_per_second": ("gauge", "tokens_per_second"),
        "xinfer_ttft_p50_seconds": ("gauge", "seconds"),
        "xinfer_ready_seconds": ("gauge", "seconds"),
        "xinfer_peak_rss_bytes": ("gauge", "bytes"),
        "xinfer_runs": ("gauge", ""),
    }
    samples = families["xinfer_output_lowest_tokens_per_second"].samples
    assert [(each.labels["name"], each.value) for each in samples] == [(FIRST.name, 90.0), (SECOND.name, 100.0)]
    assert samples[1].labels["cpu"] == 'A "CPU"\\'
    assert families["xinfer_output_highest_tokens_per_second"].samples[0].value == 110.0
    started = datetime(2026, 11, 22, 12, tzinfo=UTC).timestamp()
    assert float(samples[0].timestamp) == started


def test_every_metric_has_a_family_of_its_own() -> None:
    """No two are called the same once their unit follows, and the parser takes each name."""
    names = [line.split()[2] for line in openmetrics.text(made(metrics=list(METRICS))).splitlines() if "# TYPE" in line]
    assert len(names) == len(set(names))
    stems = {(openmetrics._stem(metric), about.base) for metric, about in METRICS.items()}
    assert len(stems) == len(METRICS)


def test_nothing_is_an_exposition_too() -> None:
    """It only ends."""
    assert openmetrics.text([]) == "# EOF\n"
    assert list(parsed(openmetrics.text([]))) == []


# Tables


def test_comma_separated_values() -> None:
    """A row for each cell and metric, empty where a cell does not support it."""
    rows = list(csv.DictReader(io.StringIO(tables.comma_separated(made()))))
    assert [(row["cell"], row["metric"]) for row in rows] == [
        (cell, metric) for cell in ("cell-a", "cell-b") for metric in ASKED
    ]
    rate, goodput, *_ = rows
    assert [rate[key] for key in ("unit", "better", "runs", "median", "lowest", "highest")] == [
        "tokens_per_second", "higher", "3", "100.0", "90.0", "110.0",
    ]  # fmt: skip
    assert [goodput[key] for key in ("runs", "median", "lowest", "highest")] == ["0", "", "", ""]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        pytest.param("llama_cpp 1.5 %", "llama_cpp 1.5 %", id="plain"),
        pytest.param("a|b\nc", r"a\|b c", id="columns-and-lines"),
        pytest.param("_x_ *y* `z` [u](v)", r"\_x\_ \*y\* \`z\` \[u\](v)", id="elements"),
        pytest.param("<b>&amp;", "&lt;b>&amp;amp;", id="html"),
        pytest.param("C:\\d", r"C:\\d", id="a-backslash"),
    ],
)
def test_markdown_shows_a_text_as_it_is(text: str, shown: str) -> None:
    """An error message cannot break the table, nor become part of the page."""
    assert tables.escaped(text) == shown
    assert tables.markdown([("a", "b"), (text, "-")]) == f"| a | b |\n| --- | --- |\n| {shown} | - |\n"


# All


@pytest.mark.parametrize("how", [name for name in formats.NAMES if name != "markdown"])
def test_a_format_can_be_asked_for_by_its_name(how: str) -> None:
    """Its document is whole, and ends its last line; so is one without any numbers."""
    for found in (made(), []):
        text = formats.text(how, found, higher_is_better=True)
        assert text.endswith("\n")
        if how in ("bencher", "pytest-benchmark", "github-action-benchmark"):
            assert isinstance(json.loads(text), (dict, list))
