"""Every published artefact against every engine, for one machine and one rule pack."""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING, Any

import msgspec

from xinfer import catalog, engines, flow
from xinfer.config import overrides
from xinfer.errors import ConfigError
from xinfer.judging import releases, rules, supplement
from xinfer.machine import hardware

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
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


def rows(config: dict[str, Any], composer: Composer, typed: Sequence[str] = ()) -> list[Row]:
    """Judge the day's catalogue; a pack that comes from a page covers the families its page names.

    Where a model was ``typed`` it is judged alone, and so is an engine that was named.
    """
    pack = supplement.chosen(config["rules"], composer)
    _, broken = engines.load(pack.engines)
    machine = hardware.declared(config["hw"])
    pack = releases.settled(pack, machine, config["engine"], is_here=hardware.is_read(config["hw"]))
    pack = limited(pack, config["engine"]["name"])
    if is_of_one(typed):
        specs = distinct(flow.ask(config, composer).candidates)
    else:
        known = families(composer)
        named = [known[name] for name in pack.families if name in known] if pack.families else known.values()
        specs = catalog.rows(named, flow.day_of(config, pack))
    return list(judge(pack, specs, machine, broken))


def is_of_one(typed: Sequence[str]) -> bool:
    """Say whether a model was typed; else all of them are meant, though one of them is the usual one."""
    return any(overrides.read(word).top == "model" for word in typed)


def limited(pack: Pack, engine: str) -> Pack:
    """Return the pack with the conditions of one engine alone, if one was named."""
    if engine == "auto":
        return pack
    if engine not in pack.engines:
        raise ConfigError(f"rule pack {pack.name} has no rules for engine {engine!r}")
    return msgspec.structs.replace(pack, engines={engine: pack.engines[engine]})


def distinct(specs: Iterable[Spec]) -> list[Spec]:
    """Return each published artefact once, whatever hubs have it."""
    found: dict[tuple[str | None, ...], Spec] = {}
    for spec in (each for each in specs if not each.derived):
        found.setdefault((spec.family, spec.size, spec.format, spec.quantization), spec)
    return list(found.values())


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
