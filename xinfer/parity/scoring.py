"""Log-probabilities of what a server has said, from a program of its engine's own: for servers that tell none."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from xinfer.environments import steps
from xinfer.errors import EngineError, ProvisionError
from xinfer.parity.answers import Answer, Step
from xinfer.parity.dialects import TOP

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from xinfer.plan import LaunchPlan


class _Said(msgspec.Struct, frozen=True, kw_only=True):
    """An answer, as the program gets it."""

    prompt: str
    text: str
    tokens: int
    """How many tokens the server counted."""


class _Questions(msgspec.Struct, frozen=True, kw_only=True):
    top: int
    questions: dict[str, _Said]


class _Score(msgspec.Struct, frozen=True, kw_only=True):
    """What the program found: the tokens that the text consists of, as far as they can be told."""

    steps: tuple[Step, ...]


def score(
    plan: LaunchPlan,
    prompts: Mapping[str, str],
    answers: Mapping[str, Answer],
    *,
    directory: Path,
    progress: Callable[[str], object],
) -> dict[str, Answer]:
    """Return the answers with the tokens and log-probabilities that the plan's program finds for their texts.

    Raises EngineError when the program fails. The files that it reads and writes stay in the directory.
    """
    asked, told = directory / f"{plan.engine}-texts.json", directory / f"{plan.engine}-scores.json"
    said = {
        name: _Said(prompt=prompts[name], text=answer.text, tokens=answer.completion_tokens or 0)
        for name, answer in answers.items()
    }
    asked.write_bytes(msgspec.json.encode(_Questions(top=TOP, questions=said)))
    try:
        with (directory / f"{plan.engine}-scorer.log").open("wb") as log:
            step = (*plan.outside(plan.scorer), str(asked.absolute()), str(told.absolute()))
            steps.run(step, progress=progress, log=log, hold=log.fileno())
        scores = msgspec.json.decode(told.read_bytes(), type=dict[str, _Score])
        return {name: msgspec.structs.replace(answers[name], steps=scores[name].steps) for name in answers}
    except ProvisionError as error:
        raise EngineError(f"{plan.engine}: no log-probabilities: {error}", details=error.details) from error
    except (OSError, ValueError, KeyError) as error:
        raise EngineError(f"{plan.engine}: no log-probabilities: {told}: {error}") from error
