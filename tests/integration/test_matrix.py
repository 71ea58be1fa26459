"""Every row of the matrix is composed, judged and planned, and comes out as expected."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import msgspec
import pytest
import yaml

from xinfer import engines, flow
from xinfer.config.compose import Composer
from xinfer.facts import Hardware

MATRIX = Path(__file__).parents[2] / "matrix"


class Chooses(msgspec.Struct, forbid_unknown_fields=True):
    chooses: str


class RefusedBy(msgspec.Struct, forbid_unknown_fields=True, rename="kebab"):
    refused_by: set[str]


class Row(msgspec.Struct, forbid_unknown_fields=True):
    """What stands in a file of the matrix."""

    cell: list[str]
    expect: Literal["runs"] | dict[str, str | list[str]]


def rows() -> list[tuple[str, Row]]:
    """Return every row of every file, with a name for it."""
    files = {path: yaml.safe_load(path.read_bytes()) for path in sorted(MATRIX.glob("*.yaml"))}
    typed = {path: msgspec.convert(body, list[Row]) for path, body in files.items()}
    return [(f"{path.stem}: {' '.join(row.cell)}", row) for path, found in typed.items() for row in found]


def here() -> Hardware:
    """Stand in for this machine, which no expectation may depend on."""
    return Hardware(profile="auto")


@pytest.mark.parametrize("row", [pytest.param(row, id=name) for name, row in rows()])
def test_a_row_comes_out_as_expected(row: Row) -> None:
    """Chosen by the engine that the page would choose, or refused by exactly these conditions."""
    composer = Composer(engines.conf_directories())
    planned = flow.plan(flow.ask(composer.compose(row.cell), composer, detect=here), composer)
    if row.expect == "runs":
        assert planned.launch is not None
    elif "chooses" in row.expect:
        expected = msgspec.convert(row.expect, Chooses)
        assert planned.decision.engine == expected.chooses
        assert planned.launch is not None
        assert planned.launch.engine == expected.chooses
    else:
        expected_by = msgspec.convert(row.expect, RefusedBy).refused_by
        named = {condition.partition(".")[0] for condition in expected_by}
        assert planned.launch is None
        assert not_met(planned, named) == expected_by


def not_met(planned: flow.Planned, named: set[str]) -> set[str]:
    return {
        f"{verdict.engine}.{finding.id}"
        for verdict in planned.decision.verdicts
        if verdict.engine in named
        for finding in verdict.of("failed", "unknown")
    }


def test_the_matrix_has_both_packs_and_every_engine() -> None:
    """A matrix that forgets one says nothing about it."""
    words = " ".join(name for name, _ in rows())
    assert "rules=xinference-2024-07" in words
    chosen = {row.expect["chooses"] for _, row in rows() if isinstance(row.expect, dict) and "chooses" in row.expect}
    assert chosen == {"vllm", "mlx", "transformers", "llama_cpp"}
    refused = [
        row.expect["refused-by"] for _, row in rows() if isinstance(row.expect, dict) and "refused-by" in row.expect
    ]
    assert {name.partition(".")[0] for names in refused for name in names} == set(engines.registered())
