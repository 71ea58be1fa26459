"""What is expected of a row of a matrix, and whether what was observed is that."""

from __future__ import annotations

import re
from typing import Any

import msgspec

from xinfer.errors import ConfigError

_CONDITION = re.compile(r"[\w-]+\.[\w.-]+")
_TAKES = "runs, {chooses: ENGINE}, or {refused-by: [ENGINE.CONDITION, …]}"


class Expectation(msgspec.Struct, frozen=True, kw_only=True, rename="kebab", omit_defaults=True):
    """That it runs, with any engine or a certain one; or that it is refused, and why."""

    chooses: str | None = None
    refused_by: tuple[str, ...] = ()
    """Every condition that is not met, as ENGINE.CONDITION, of each engine that is named."""

    @property
    def runs(self) -> bool:
        """Say whether the row is expected to run."""
        return not self.refused_by

    def __str__(self) -> str:
        """Say it as a table does."""
        if self.refused_by:
            return f"refused by {', '.join(self.refused_by)}"
        return f"runs with {self.chooses}" if self.chooses else "runs"


class Observed(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What became of a row: the engine that serves it, or why there is none."""

    engine: str | None = None
    refusal: str = ""
    not_met: tuple[str, ...] = ()
    """Every condition of every engine that failed or is unknown, as ENGINE.CONDITION."""

    def __str__(self) -> str:
        """Say it as a table does."""
        return self.engine or self.refusal


RUNS = Expectation()


def read(node: Any, where: str) -> Expectation:
    """Read what a file says; ConfigError says where, and what may stand there."""
    if node == "runs":
        return RUNS
    if isinstance(node, dict) and len(node) == 1:
        engine, conditions = node.get("chooses"), node.get("refused-by")
        if engine and isinstance(engine, str):
            return Expectation(chooses=engine)
        if conditions and isinstance(conditions, list) and all(_is_condition(each) for each in conditions):
            return Expectation(refused_by=tuple(conditions))
    raise ConfigError(f"{where}: expect is {msgspec.json.encode(node).decode()}; it takes {_TAKES}")


def _is_condition(node: Any) -> bool:
    return isinstance(node, str) and bool(_CONDITION.fullmatch(node))


def fault(expected: Expectation, observed: Observed) -> str | None:
    """Say what was expected, and what is instead; null where it is as expected."""
    if expected.runs:
        is_met, seen = observed.engine is not None and expected.chooses in {None, observed.engine}, str(observed)
    else:
        named = {condition.partition(".")[0] for condition in expected.refused_by}
        against = [each for each in observed.not_met if each.partition(".")[0] in named]
        is_met = observed.engine is None and set(against) == set(expected.refused_by)
        seen = str(observed) if observed.engine or not against else f"refused by {', '.join(against)}"
    return None if is_met else f"expected: {expected}; observed: {seen}"
