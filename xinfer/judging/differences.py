"""Where two rule packs judge the same artefact on the same machine otherwise, and the conditions that make it so."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from xinfer.catalog import Spec
from xinfer.judging import rules
from xinfer.judging.rules import Answer, Finding

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from xinfer.facts import Hardware
    from xinfer.judging.rules import Pack


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """One artefact and one engine of which two packs say different things."""

    spec: Spec
    engine: str
    first: Answer
    second: Answer
    first_against: tuple[Finding, ...]
    """What the first pack holds against the engine: the failed conditions of a no, the unknown ones of an unknown."""
    second_against: tuple[Finding, ...]


class Reason(NamedTuple):
    """What differences have in common: the engine, both answers, and the conditions behind each."""

    engine: str
    first: Answer
    second: Answer
    first_against: tuple[str, ...]
    second_against: tuple[str, ...]


class Group(msgspec.Struct, frozen=True, kw_only=True):
    """All differences for one reason."""

    reason: Reason
    differences: tuple[Difference, ...]

    def findings(self, which: int) -> tuple[tuple[Finding, tuple[Any, ...]], ...]:
        """Return the conditions of the first (0) or second (1) pack, each with all that was observed."""
        found: dict[str, Finding] = {}
        observed: dict[str, dict[Any, None]] = {}
        for each in self.differences:
            for finding in (each.first_against, each.second_against)[which]:
                found.setdefault(finding.id, finding)
                observed.setdefault(finding.id, {})[finding.observed] = None
        return tuple((finding, tuple(observed[name])) for name, finding in found.items())


def shared(first: Pack, second: Pack) -> tuple[str, ...]:
    """Return the engines that both packs know, in the first one's order."""
    return tuple(engine for engine in first.engines if engine in second.engines)


def between(first: Pack, second: Pack, specs: Iterable[Spec], hardware: Hardware) -> Iterator[Difference]:
    """Judge every artefact by both packs; an engine that only one of them knows is left out."""
    engines = shared(first, second)
    for spec in specs:
        facts = rules.gather(spec, hardware)
        for engine in engines:
            one, other = first.judge(engine, facts), second.judge(engine, facts)
            if one.verdict != other.verdict:
                yield Difference(
                    spec=spec, engine=engine, first=one.verdict, second=other.verdict,
                    first_against=one.against, second_against=other.against,
                )  # fmt: skip


def grouped(found: Iterable[Difference]) -> tuple[Group, ...]:
    """Put together what differs for the same reason, the reason behind the most differences first."""
    groups: dict[Reason, list[Difference]] = {}
    for each in found:
        groups.setdefault(_reason(each), []).append(each)
    ordered = sorted(groups.items(), key=lambda group: -len(group[1]))
    return tuple(Group(reason=reason, differences=tuple(members)) for reason, members in ordered)


def _reason(each: Difference) -> Reason:
    one, other = (tuple(f.id for f in findings) for findings in (each.first_against, each.second_against))
    return Reason(each.engine, each.first, each.second, one, other)
