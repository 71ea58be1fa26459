"""The formats of ``export`` by name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from xinfer.exporting import bencher, github_action_benchmark, openmetrics, pytest_benchmark, tables
from xinfer.verbs import report

if TYPE_CHECKING:
    from collections.abc import Sequence

    from xinfer.exporting.subject import Subject

NAMES = ("csv", "markdown", "github-action-benchmark", "bencher", "pytest-benchmark", "openmetrics")


def text(how: str, subjects: Sequence[Subject], *, higher_is_better: bool) -> str:
    """Return the numbers in a format; markdown is made of the records themselves."""
    if how == "csv":
        return tables.comma_separated(subjects)
    if how == "openmetrics":
        return openmetrics.text(subjects)
    if how == "bencher":
        return f"{report.json_text(bencher.document(subjects))}\n"
    if how == "pytest-benchmark":
        return f"{report.json_text(pytest_benchmark.document(subjects))}\n"
    entries = github_action_benchmark.document(subjects, higher_is_better=higher_is_better)
    return f"{report.json_text(entries)}\n"
