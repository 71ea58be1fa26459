"""Where the pack of today's engines judges otherwise than the pack that a plan was made by."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from xinfer.judging.rules import Answer, Finding, Verdict

if TYPE_CHECKING:
    from collections.abc import Iterable

TODAY = "engines-2026-11"
"""The pack with the conditions of the engines as they are now."""


class Disagreement(msgspec.Struct, frozen=True, kw_only=True):
    """One engine of which two packs say different things of the same artefact on the same machine."""

    engine: str
    verdict: Answer
    """By the plan's own pack."""
    today: Answer
    findings: tuple[Finding, ...]
    """What each pack holds against the engine and thus makes the difference; its source tells whose it is."""


def between(verdicts: Iterable[Verdict], today: Iterable[Verdict]) -> tuple[Disagreement, ...]:
    """Compare two packs' verdicts, engine by engine; an engine that only one of them knows is left out."""
    current = {verdict.engine: verdict for verdict in today}
    pairs = [(verdict, current[verdict.engine]) for verdict in verdicts if verdict.engine in current]
    return tuple(
        Disagreement(
            engine=then.engine, verdict=then.verdict, today=now.verdict, findings=(*then.against, *now.against)
        )
        for then, now in pairs
        if then.verdict != now.verdict
    )  # fmt: skip
