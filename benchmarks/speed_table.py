"""What benchmarks of speed measured, as one table at their end."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


class Result(NamedTuple):
    what: str
    measured: str
    goal: str


def printed() -> Iterator[list[Result]]:
    """Let the tests of a module add their results, then print them: a fixture where ``pytest.fixture`` makes it one."""
    rows = [Result("what", "measured", "goal")]
    yield rows
    print_table(rows)


def print_table(rows: Sequence[Sequence[str]]) -> None:
    """Print rows of equally many columns, the heads of the columns first."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    sys.stdout.write("\n\n" + "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows) + "\n")
