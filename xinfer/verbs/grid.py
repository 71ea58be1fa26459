"""Every published artefact against every engine, for one machine and one rule pack."""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING, Any

import msgspec

from xinfer import catalog, engines, flow
from xinfer.judging import releases, rules, supplement
from xinfer.machine import hardware

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import TextIO

    from xinfer.catalog import Family, Spec
    from xinfer.config.compose import Composer
    from xinfer.facts import Hardware
    from xinfer.judging.rules import Pack


class Row(msgspec.Struct, frozen=True):
    """One artefact and one engine."""

    family: str
    size: str | None
    format: str | None
    quantization: str | None
    engine: str
    verdict: rules.Answer
    conditions: tuple[str, ...]
    """Ids of the failed conditions of a no, of the unknown ones of an unknown."""


def rows(config: dict[str, Any], composer: Composer) -> list[Row]:
    """Judge the day's catalogue; a pack that comes from a page covers the families its page names."""
    pack = supplement.chosen(config["rules"], composer)
    day = flow.day_of(config, pack)
    known = families(composer)
    named = [known[name] for name in pack.families if name in known] if pack.families else list(known.values())
    _, broken = engines.load(pack.engines)
    machine = hardware.declared(config["hw"])
    pack = releases.settled(pack, machine, config["engine"], is_here=bool(config["hw"].get("detect")))
    return list(judge(pack, catalog.rows(named, day), machine, broken))


def families(composer: Composer) -> dict[str, Family]:
    """Read every family that can be asked for; a user's file takes the place of xinfer's own."""
    found: dict[str, Family] = {}
    for directory in reversed(composer.directories):
        found |= catalog.load(directory / "model")
    return found


def judge(pack: Pack, specs: Iterable[Spec], machine: Hardware, broken: Iterable[str] = ()) -> Iterator[Row]:
    """Yield one row per artefact and engine, engines in the pack's order."""
    for spec in specs:
        facts = rules.gather(spec, machine)
        for engine in pack.engines:
            verdict = pack.judge(engine, facts)
            unusable = engine in broken and verdict.verdict != "no"
            answer = "unknown" if unusable else verdict.verdict
            missing = verdict.of("failed") if answer == "no" else verdict.of("unknown")
            ids = (*(f.id for f in missing), *(("plugin",) if unusable else ()))
            yield Row(spec.family, spec.size, spec.format, spec.quantization, engine, answer, ids)


def write_csv(table: Iterable[Row], stream: TextIO) -> None:
    """Write the table; an unknown size or format is an empty cell, ids are separated by spaces."""
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(Row.__struct_fields__)
    for row in table:
        *cells, ids = msgspec.structs.astuple(row)
        writer.writerow([*("" if cell is None else cell for cell in cells), " ".join(ids)])
