"""One engine on every machine of ``conf/hw`` and for several families: what the rules say, and the plans."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from xinfer import engines, flow, judgement
from xinfer.config.overrides import read
from xinfer.errors import ConfigError
from xinfer.judging import decision
from xinfer.testing.demands import Broken, demand

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from xinfer.flow import Ask
    from xinfer.judging.rules import Verdict
    from xinfer.plan import LaunchPlan
    from xinfer.testing.subject import Subject

NOTHING = ("hw=auto", "hw.detect=false")
"""A machine of which nothing is known."""


class Case(NamedTuple):
    """One machine and one family, for which the engine is asked."""

    where: str
    ask: Ask


class Survey:
    """What the rules and the adapter say of an engine; nothing is installed or started."""

    def __init__(self, subject: Subject, families: Sequence[str]) -> None:
        self._subject = subject
        self._families = families

    @cached_property
    def cases(self) -> list[Case]:
        """Every machine with the subject's own model and with each of the families."""
        subject = self._subject
        groups = {word: read(word).top for word in subject.overrides}
        plain = [word for word, group in groups.items() if group not in ("model", "hw")]
        own = [word for word, group in groups.items() if group == "model"]
        compose = subject.composer.compose
        machines = {name: (f"hw={name}",) for name in subject.composer.options("hw")} | {"nothing-known": NOTHING}
        nodes = {name: compose(words)["hw"] for name, words in machines.items()}
        models = [own, *([f"model={family}"] for family in self._families if f"model={family}" not in own)]
        configs = [compose([f"engine={subject.engine}", *plain, *model]) for model in models]
        return [
            Case(f"{config['model']['family']} on {name}", self._ask({**config, "hw": node}))
            for config in configs
            for name, node in nodes.items()
        ]

    def _ask(self, config: dict[str, Any]) -> Ask:
        return flow.ask(config, self._subject.composer, detect=judgement.detect)

    def verdicts(self) -> Iterator[tuple[str, Verdict]]:
        """Yield the verdict on the engine for every artefact of every case."""
        for where, ask in self.cases:
            yield from ((f"{where}, {spec}", found) for spec, found in self._judged(where, ask))

    def _judged(self, where: str, ask: Ask) -> Iterator[tuple[str, Verdict]]:
        broken = engines.load(ask.pack.engines)[1]
        for spec in ask.candidates:
            judged = decision.judge_all(ask.pack, spec, ask.hardware, broken)
            found = next((verdict for verdict in judged if verdict.engine == self._subject.engine), None)
            if found is None:
                raise Broken(f"{where}: rule pack {ask.pack.name} has no rules for {self._subject.engine}")
            yield f"{spec.format} {spec.quantization}", found

    def plans(self, home: str) -> Iterator[tuple[str, LaunchPlan]]:
        """Yield the plan of every case that the rules do not refuse.

        An adapter may refuse what the rules do not know; where they say yes, there must be a plan.
        """
        for where, ask in self.cases:
            asked = msgspec.structs.replace(ask, config={**ask.config, "home": home})
            try:
                launch = flow.plan(asked, self._subject.composer).launch
            except ConfigError as error:
                sure = [spec for spec, found in self._judged(where, ask) if found.verdict == "yes"]
                demand(not sure, f"{where}: the rules say yes to {', '.join(sure)}, and the plan is refused: {error}")
            else:
                if launch is not None:
                    yield where, launch
