"""What a machine can serve for a workload: of every family the best artefact that runs and fits, the best first."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from xinfer import engines, flow
from xinfer.catalog import Spec
from xinfer.errors import ConfigError, XinferError
from xinfer.judging import rules
from xinfer.plan import Memory
from xinfer.planning import memory, parallel
from xinfer.planning.room import Room
from xinfer.verbs import candidates, grid, report
from xinfer.verbs.candidates import Able, Rank

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from xinfer.catalog import Family
    from xinfer.config.compose import Composer
    from xinfer.flow import Ask


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One family: its best artefact, and the engine for it."""

    family: str
    spec: Spec
    engine: str
    verdict: rules.Answer
    memory: Memory
    bits: float | None
    """Per weight."""
    why: str
    """Why no larger one of the family, and why it is below the row above."""


class LeftOut(msgspec.Struct, frozen=True, kw_only=True):
    """The families that are not in the table for one reason."""

    reason: str
    families: tuple[str, ...]


class Choice(msgspec.Struct, frozen=True, kw_only=True):
    """The whole answer."""

    rules: str
    catalog: str
    machine: str
    workload: str
    ranking: str
    notes: tuple[str, ...] = ()
    rows: tuple[Row, ...]
    left_out: tuple[LeftOut, ...]


class _Best(NamedTuple):
    rank: Rank
    able: Able
    memory: Memory
    why: str


def run(config: dict[str, Any], composer: Composer) -> Choice:
    """Judge the day's whole catalogue for a machine, plan the best of each family, and rank them."""
    asked = flow.ask(config, composer)
    if asked.engine["name"] == "external":
        raise ConfigError("engine=external serves what it serves; choose is about engines that xinfer starts")
    planner = _Planner(asked, composer)
    found: list[_Best] = []
    left_out: dict[str, list[str]] = {}
    for family in grid.families(composer).values():
        best = planner.best(family)
        if isinstance(best, str):
            left_out.setdefault(best, []).append(family.family)
        else:
            found.append(best)
    found.sort(key=lambda best: (best.rank, best.able.spec.family))
    return Choice(
        rules=asked.pack.name, catalog=asked.day or "", machine=report.machine(asked.hardware),
        workload=_load(asked), ranking=candidates.RANKING, notes=tuple(_notes(asked)), rows=tuple(_rows(found)),
        left_out=tuple(LeftOut(reason=reason, families=tuple(names)) for reason, names in sorted(left_out.items())),
    )  # fmt: skip


class _Planner:
    """Finds the best of a family; what does not depend on the family is looked up once."""

    def __init__(self, asked: Ask, composer: Composer) -> None:
        self._asked, self._composer = asked, composer
        name = str(asked.engine["name"])
        usable, _ = engines.load(asked.pack.engines)
        names = asked.pack.order(asked.hardware) if name == "auto" else (name,)
        if name != "auto" and name not in asked.pack.engines:
            raise ConfigError(f"rule pack {asked.pack.name} has no rules for engine {name!r}")
        self._splits = parallel.declared(usable, asked.engine)
        self._engines = {each: flow.settings_of(asked, composer, each) for each in names if each in usable}

    def best(self, family: Family) -> _Best | str:
        """Return the best artefact that can be planned and is not too large, or why there is none."""
        specs = candidates.distinct(family.specs(self._asked.day), self._asked.prefer.hubs)
        if not specs:
            return f"not in the catalogue of {self._asked.day}"
        try:
            flow.context_of(self._asked, specs[0])
        except ConfigError:
            return "made for shorter texts"
        served = list(self._served(specs))
        if not served:
            return "refused by every engine's rules"
        able = sorted((each for each in served if not each.is_too_large), key=lambda each: candidates.rank(each, fit=0))
        best, lacks = self._first(family, able)
        if best is None:
            return lacks or "too large"
        each, need = best
        return _Best(candidates.rank(each, fit=candidates.fit_of(need)), each, need, _larger(each.spec, specs, served))

    def _first(self, family: Family, able: Iterable[Able]) -> tuple[tuple[Able, Memory] | None, str | None]:
        """Return the first that fits with room to spare, else the first that may; or why none can be planned."""
        others: list[tuple[Able, Memory]] = []
        lacks = None
        for each in able:
            if others and others[0][0].verdict != each.verdict:
                break
            need = self._planned(family, each)
            if isinstance(need, str):
                lacks = need
            elif candidates.fit_of(need) == 0:
                return (each, need), None
            else:
                others.append((each, need))
        return (others[0] if others else None), lacks

    def _served(self, specs: Iterable[Spec]) -> Iterator[Able]:
        """Yield every artefact with every engine whose rules do not refuse it."""
        hardware, settings, pack = self._asked.hardware, self._asked.engine, self._asked.pack
        at_once = self._asked.capacity.concurrency
        for spec in specs:
            facts = rules.gather(spec, hardware, python=settings.get("python"))
            verdicts = [(name, pack.judge(name, facts).verdict) for name in self._engines]
            if all(verdict == "no" for _, verdict in verdicts):
                continue
            tokens = flow.context_of(self._asked, spec) * at_once
            room = Room(hardware, tokens=tokens, sequences=at_once, splits=self._splits)
            for place, (name, verdict) in enumerate(verdicts):
                if verdict != "no":
                    yield Able(spec, name, verdict, candidates.bits_of(spec), room.is_exceeded(spec, name), place)

    def _planned(self, family: Family, able: Able) -> Memory | str:
        """Return what the plan needs, or why there can be none."""
        asked = msgspec.structs.replace(
            self._asked, family=family, candidates=(able.spec,), engine=self._engines[able.engine]
        )
        try:
            launch = flow.plan(asked, self._composer, compares=False).launch
        except XinferError:
            return "cannot be planned"
        return "too large" if launch is None or launch.memory.fits is False else launch.memory


def text(choice: Choice) -> str:
    """Print the ranking, one row for each family, and what is not there."""
    head = [
        f"{choice.machine}; {choice.workload}; by {choice.rules}, catalogue of {choice.catalog}",
        f"best first: {choice.ranking}",
        "likely: all but the engine's own need is known, and leaves a tenth of the memory",
        *choice.notes,
        "",
    ]
    closing = "; ".join(f"{len(each.families)} {each.reason}" for each in choice.left_out)
    count = f"{len(choice.rows)} families run" if choice.rows else "nothing runs"
    table = report.rows_text([_cells(number, row) for number, row in enumerate(choice.rows, 1)])
    lines = [*head, table, ""] if choice.rows else head
    return "\n".join([*lines, f"{count}, {closing}" if closing else count]) + "\n"


def _cells(number: int, row: Row) -> dict[str, Any]:
    need = row.memory
    least = "" if need.total_gib is not None else ">= "
    return {
        "#": number,
        "model": row.family,
        "size": f"{row.spec.size}B".replace("_", "."),
        "format": row.spec.format,
        "quantization": row.spec.quantization,
        "bits": None if row.bits is None else f"{row.bits:.1f}",
        "engine": row.engine if row.verdict == "yes" else f"{row.engine}?",
        "needs": None if need.known_gib is None else f"{least}{need.known_gib:.1f}",
        "of GiB": None if need.available_gib is None else f"{need.available_gib:.1f}",
        "fits": "yes" if need.fits else "likely" if candidates.fit_of(need) == 0 else "?",
        "for": ", ".join(row.spec.abilities),
        "why": row.why,
    }


def _rows(found: Sequence[_Best]) -> Iterator[Row]:
    for number, best in enumerate(found):
        below = candidates.below(found[number - 1].rank, best.rank) if number else "the first of all"
        yield Row(
            family=best.able.spec.family, spec=best.able.spec, engine=best.able.engine, verdict=best.able.verdict,
            memory=best.memory, bits=best.able.bits, why="; ".join(part for part in (below, best.why) if part),
        )  # fmt: skip


def _larger(spec: Spec, specs: Iterable[Spec], served: Iterable[Able]) -> str:
    """Say why it is no larger one of the family."""
    size = spec.weights_b or 0.0
    larger = {each.size: each.weights_b for each in specs if (each.weights_b or 0.0) > size}
    runs = {each.spec.size for each in served}
    names = sorted(larger, key=lambda name: larger[name] or 0.0)
    for sizes, why in (
        ([name for name in names if name in runs], "too large"),
        ([name for name in names if name not in runs], "refused"),
    ):
        if sizes:
            return f"{', '.join(f'{name}B'.replace('_', '.') for name in sizes)} {why}"
    return ""


def _notes(asked: Ask) -> Iterator[str]:
    device = memory.device_of(asked.hardware)
    if memory.available(asked.hardware, device) is None:
        key = "hw.memory_gib" if device == "cpu" or asked.hardware.gpu.vendor == "apple" else "hw.gpu.memory_gib"
        yield f"nobody knows what fits: the memory of this machine is not known; say it with {key}=…"


def _load(asked: Ask) -> str:
    load, length = asked.workload, asked.config["context_length"] or flow.DEFAULT_CONTEXT
    length = max(length, load.input_tokens + load.output_tokens)
    return f"workload {load.name}: {asked.capacity.concurrency} at once, {length} tokens each"
