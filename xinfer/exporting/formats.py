"""The formats of ``export`` by name."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from xinfer.exporting import bencher, github_action_benchmark, openmetrics, pytest_benchmark, tables

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
        return _json(bencher.document(subjects))
    if how == "pytest-benchmark":
        return _json(pytest_benchmark.document(subjects))
    return _json(github_action_benchmark.document(subjects, higher_is_better=higher_is_better))


def _json(document: object) -> str:
    return msgspec.json.format(msgspec.json.encode(document), indent=1).decode() + "\n"
