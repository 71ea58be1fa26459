"""Why an engine serves a cell or does not, and the smallest changes that would make it; each is planned again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from xinfer import engines, flow
from xinfer.catalog import Spec
from xinfer.errors import ConfigError, XinferError
from xinfer.judging import changes, rules
from xinfer.judging.alternatives import KINDS, Change
from xinfer.judging.changes import Judge
from xinfer.judging.disagreement import TODAY
from xinfer.judging.rules import Finding
from xinfer.plan import Memory
from xinfer.verbs import report
from xinfer.verbs.variation import Variation

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from collections.abc import Set as AbstractSet

    from xinfer.config.compose import Composer
    from xinfer.flow import Ask, Planned
    from xinfer.judging.disagreement import Disagreement
    from xinfer.judging.rules import Verdict

_SHOWN = 8
"""How many sets of changes are printed; JSON has all of them."""
_LISTED = 6
"""How many values are printed that would do as well."""


class Way(msgspec.Struct, frozen=True, kw_only=True):
    """A smallest set of changes that does, and what is served then."""

    typed: tuple[str, ...]
    """What to type beside, or in place of, what was typed."""
    changes: tuple[Change, ...]
    also: tuple[str, ...] = ()
    """What the dearest change can be instead, as it is typed; the nearest first."""
    spec: Spec
    memory: Memory


class Reason(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be said of one engine."""

    engine: str
    verdict: rules.Answer
    spec: Spec
    """The artefact that was judged: of those that were left open, the planner's choice."""
    findings: tuple[Finding, ...]
    memory: Memory | None = None
    """Null where nothing can be planned."""
    risks: tuple[str, ...] = ()
    """What may go wrong though the rules say yes."""
    ways: tuple[Way, ...] = ()
    """The changes that make it a yes that is not known to be too large, the cheapest first."""
    blocked: tuple[str, ...] = ()
    """Where there are none: the conditions that no declared alternative meets."""


def run(typed: Sequence[str], config: dict[str, Any], composer: Composer) -> tuple[Ask, list[Reason]]:
    """Judge the engine that was asked for, or every one, and search for the changes that would make it serve."""
    asked = flow.ask(config, composer)
    name = str(asked.engine["name"])
    if name == "external":
        raise ConfigError("engine=external is not xinfer's to start, so no rule is about it; ask why of another engine")
    names = asked.pack.order(asked.hardware) if name == "auto" else (name,)
    return asked, [_reason(_for(asked, each, composer), typed, composer, named=name == each) for each in names]


def text(asked: Ask, reasons: Sequence[Reason]) -> str:
    """Print all findings of each engine, and below them the changes that would do."""
    lines = [f"on {report.machine(asked.hardware)}, by {asked.pack.name}", ""]
    for reason in reasons:
        lines += [*_said(reason), ""]
    if any(reason.ways for reason in reasons):
        lines += [f"cheapest first: {' < '.join(KINDS)}; a set is as dear as its dearest change", ""]
    return "\n".join(lines).rstrip() + "\n"


def is_answered(reason: Reason) -> bool:
    """Tell whether there is a yes, or a way to one."""
    too_large = reason.memory is not None and reason.memory.fits is False
    return bool(reason.ways) or (reason.verdict == "yes" and not too_large)


def _for(asked: Ask, engine: str, composer: Composer) -> Ask:
    is_there = engine in engines.registered()
    node = flow.settings_of(asked, composer, engine) if is_there else {**asked.engine, "name": engine}
    return msgspec.structs.replace(asked, engine=node)


def _reason(asked: Ask, typed: Sequence[str], composer: Composer, *, named: bool) -> Reason:
    planned, error = _planned(asked, composer)
    name = str(asked.engine["name"])
    verdict = next(each for each in planned.decision.verdicts if each.engine == name)
    launch = planned.launch
    base = Reason(
        engine=name, verdict=verdict.verdict, spec=planned.decision.spec, findings=verdict.findings,
        memory=None if launch is None else launch.memory,
    )  # fmt: skip
    risks = tuple(_risks(base, planned.today or (), error)) if verdict.verdict == "yes" else ()
    if is_answered(base) and error is None:
        return msgspec.structs.replace(base, risks=risks)
    unmet = {finding.id for finding in base.findings if finding.result != "met"}
    beside = () if named else (f"engine={name}",)
    ways, blocked = _searched(asked, Variation(asked, typed, composer), unmet, beside)
    return msgspec.structs.replace(base, risks=risks, ways=ways, blocked=() if ways else blocked)


def _planned(asked: Ask, composer: Composer) -> tuple[Planned, XinferError | None]:
    """Plan; where the rules say yes and the plan cannot be made, return the decision and why."""
    try:
        return flow.plan(asked, composer), None
    except XinferError as error:
        return flow.decide(asked, composer), error


def _searched(
    asked: Ask, variation: Variation, unmet: AbstractSet[str], beside: tuple[str, ...]
) -> tuple[tuple[Way, ...], tuple[str, ...]]:
    name = str(asked.engine["name"])
    if name not in asked.pack.engines or name in engines.load(asked.pack.engines)[1]:
        return (), ("plugin",)
    judge = Judge(asked.pack, name, variation.versions)
    axes = variation.axes(name, unmet)
    if not judge.hopeful(axes).models:
        axes = variation.axes(name, unmet, is_wide=True)
    found = changes.smallest(judge, axes, variation.fits, variation.repairs(), left=variation.left)
    return tuple(_ways(found, variation, beside)), judge.blocking(axes)


def _ways(found: Iterable[changes.Set], variation: Variation, beside: tuple[str, ...]) -> Iterator[Way]:
    """Yield the sets that their plans confirm; those that differ in the value of their dearest change only, as one."""
    groups: dict[tuple[changes.Set, str], list[Change]] = {}
    for each in filter(None, found):
        dearest = changes.ordered(each)[-1]
        groups.setdefault((each - {dearest}, dearest.key), []).append(dearest)
    for (rest, _), group in groups.items():
        confirmed = ((number, _confirmed(rest | {dearest}, variation)) for number, dearest in enumerate(group))
        number, planned = next(((number, planned) for number, planned in confirmed if planned is not None), (0, None))
        if planned is not None and planned.launch is not None:
            made = changes.ordered(rest | {group[number]})
            yield Way(
                typed=(*beside, *(change.text for change in made)), changes=made,
                also=tuple(each.text for each in group[number + 1 :]),
                spec=planned.decision.spec, memory=planned.launch.memory,
            )  # fmt: skip


def _confirmed(some: changes.Set, variation: Variation) -> Planned | None:
    """Plan again with the changes; null where that is no yes after all, or does not fit."""
    try:
        planned = variation.planned(some)
    except XinferError:
        return None
    verdict = _own(planned)
    is_yes = verdict is not None and verdict.verdict == "yes" and planned.launch is not None
    return planned if is_yes and planned.launch and planned.launch.memory.fits is not False else None


def _own(planned: Planned) -> Verdict | None:
    name = planned.ask.engine["name"]
    return next((each for each in planned.decision.verdicts if each.engine == name), None)


def _risks(base: Reason, today: Iterable[Disagreement], error: XinferError | None) -> Iterator[str]:
    if error is not None:
        yield f"no plan can be made: {error}"
    need = base.memory
    if need is not None and need.fits is False:
        yield f"it does not fit: {_need(need)}"
    elif need is not None and need.fits is None:
        unknown = [name for name in ("weights", "kv", "overhead", "available") if getattr(need, f"{name}_gib") is None]
        listed = f"these are not known: {', '.join(unknown)}" if unknown else "only bounds of the overhead are known"
        yield f"nobody knows whether it fits, as {listed}"
    for each in today:
        if each.engine == base.engine:
            ids = ", ".join(finding.id for finding in each.findings)
            yield f"{TODAY} says {each.today}: {ids}; rules={TODAY} has the reasons"


def _said(reason: Reason) -> Iterator[str]:
    yield f"{reason.engine}: {reason.verdict}, for {report.artefact(reason.spec)}"
    for finding in reason.findings:
        yield report.finding_text(finding)
    yield from (f"  may go wrong: {risk}" for risk in reason.risks)
    if reason.ways:
        yield f"  to change, one of these {len(reason.ways)}:" if len(reason.ways) > 1 else "  to change:"
        for number, way in enumerate(reason.ways[:_SHOWN], 1):
            yield f"  {number:>3}  {' '.join(way.typed)}"
            yield f"       {report.artefact(way.spec)}; {_need(way.memory)}"
            if way.also:
                yield f"       or {_listed(way.also)}"
        if len(reason.ways) > _SHOWN:
            yield f"       and {len(reason.ways) - _SHOWN} dearer ones: format=json"
    elif not is_answered(reason):
        yield f"  nothing helps within {changes.MOST} changes: {_blocked(reason)}"


def _listed(values: Sequence[str]) -> str:
    more = len(values) - _LISTED
    return ", ".join(values[:_LISTED]) + (f" and {more} more" if more > 0 else "")


def _blocked(reason: Reason) -> str:
    if reason.blocked:
        return f"no declared model, machine or setting meets {', '.join(reason.blocked)}"
    open_ids = [finding.id for finding in reason.findings if finding.result != "met"]
    return f"each alternative leaves some of {', '.join(open_ids)} open, or does not fit" if open_ids else "none fits"


def _need(need: Memory) -> str:
    least = "" if need.total_gib is not None else "at least "
    needs = f"needs {least}{need.known_gib:.1f} GiB" if need.known_gib is not None else "needs an unknown amount"
    has = "of an unknown amount" if need.available_gib is None else f"of {need.available_gib:.1f}"
    fits = {True: "fits", False: "does not fit", None: "not known whether it fits"}[need.fits]
    return f"{needs} {has}, {fits}"


def unanswered(reasons: Sequence[Reason]) -> str:
    """Say in one line that nothing helps."""
    names = ", ".join(reason.engine for reason in reasons)
    return f"no {changes.MOST} changes make {names} serve {reasons[0].spec.family}"
