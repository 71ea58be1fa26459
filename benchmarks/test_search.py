"""How long the search for changes takes beyond composing, and the choice over all families. No time is asserted."""

from __future__ import annotations

from typing import Any

import pytest

from xinfer import engines
from xinfer.config.compose import Composer
from xinfer.verbs import choose, why

WHY = (
    ("engine=vllm", "model=qwen2-instruct", "model.format=ggufv2", "hw=cpu"),
    ("engine=vllm", "model=qwen2-instruct", "model.size=72", "hw=rtx4090"),
    ("engine=vllm", "model=qwen-chat", "hw=t4", "rules=engines-2026-11"),
)


@pytest.mark.parametrize("typed", WHY, ids=" ".join)
def test_why(benchmark: Any, typed: tuple[str, ...]) -> None:
    """One engine, up to three changes, each set confirmed by a plan; goal: 0.3 s."""
    composer = Composer(engines.conf_directories())
    config = composer.compose(typed)
    _, reasons = benchmark(why.run, typed, config, composer)
    assert all(reason.ways for reason in reasons)


def test_choose(benchmark: Any) -> None:
    """Every artefact of every family, judged for every engine, the best of each family planned; goal: 1 s."""
    composer = Composer(engines.conf_directories())
    typed = ("hw=rtx4090", "workload=chat")
    choice = benchmark(choose.run, composer.compose(typed), composer)
    assert len(choice.rows) > 40
