"""``xinfer diff rules=A rules=B``: every artefact of which two rule packs say different things, by reason."""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING, Any

import msgspec

from xinfer import catalog, flow, judgement
from xinfer.errors import ConfigError
from xinfer.judging import differences
from xinfer.judging.differences import Group
from xinfer.verbs import grid, report

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from typing import TextIO

    from xinfer.catalog import Spec
    from xinfer.config.compose import Composer
    from xinfer.facts import Hardware
    from xinfer.judging.differences import Difference
    from xinfer.judging.rules import Finding, Pack

_WORD = "rules="
_MOST = 12
"""How many lines of artefacts, and how many observed values, a group gets in print; the other formats have all."""
_COLUMNS = ("family", "size", "format", "quantization", "engine", "first", "second", "first_against", "second_against")


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """Two packs compared on one machine."""

    first: str
    second: str
    hardware: Hardware
    catalog: str
    engines: tuple[str, ...]
    """Those that both packs know."""
    artefacts: int
    groups: tuple[Group, ...]

    def document(self) -> dict[str, Any]:
        """Return what ``format=json`` prints: each artefact by its four words, each condition once for a group."""
        return {
            "schema": 1, "first": self.first, "second": self.second, "hardware": self.hardware,
            "catalog": self.catalog, "engines": self.engines, "artefacts": self.artefacts,
            "verdicts": self.artefacts * len(self.engines),
            "differing": sum(len(group.differences) for group in self.groups),
            "groups": [_document(group) for group in self.groups],
        }  # fmt: skip


def words(typed: Sequence[str]) -> tuple[list[str], list[str]]:
    """Split off the two packs, as Hydra takes one of a group; ConfigError if there are not two."""
    packs = [word for word in typed if word.startswith(_WORD)]
    if len(packs) != 2:  # noqa: PLR2004 -- that many are compared
        there = "there are" if len(packs) > 1 else "there is"
        said = f"{there} {len(packs)} of them: {' '.join(packs)}" if packs else "there is none"
        example = "rules=xinference-2024-08 rules=engines-2026-11"
        raise ConfigError(f"diff compares two rule packs, as in {example}; {said}")
    return packs, [word for word in typed if not word.startswith(_WORD)]


def run(typed: Sequence[str], composer: Composer) -> Found:
    """Judge the catalogue of the first pack's day by both, all families that their pages name."""
    packs, others = words(typed)
    asks = [flow.ask(composer.compose([*others, word]), composer, detect=judgement.detect) for word in packs]
    one, other = (grid.limited(ask.pack, ask.engine["name"]) for ask in asks)
    day = flow.day_of(asks[0].config, one)
    chosen = grid.distinct(asks[0].candidates) if grid.is_of_one(others) else None
    specs = _published((one, other), day, composer) if chosen is None else chosen
    found = differences.between(one, other, specs, asks[0].hardware)
    return Found(
        first=one.name, second=other.name, hardware=asks[0].hardware, catalog=day,
        engines=differences.shared(one, other), artefacts=len(specs), groups=differences.grouped(found),
    )  # fmt: skip


def _published(packs: Sequence[Pack], day: str, composer: Composer) -> list[Spec]:
    known = grid.families(composer)
    named = dict.fromkeys(name for pack in packs for name in pack.families)
    return catalog.rows([known[name] for name in (named or known) if name in known], day)


def text(found: Found) -> str:
    """Print each reason, the conditions behind it, and what it is about."""
    document = found.document()
    judged = f"{found.artefacts} artefacts, {len(found.engines)} engines"
    lines = [
        f"{found.first} and {found.second} on {report.machine(found.hardware)}",
        f"catalogue of {found.catalog}: {judged}; {document['differing']} of {document['verdicts']} verdicts differ",
    ]
    for group in found.groups:
        lines += ["", *_group(found, group)]
    return "\n".join(lines) + "\n"


def write_csv(found: Found, stream: TextIO) -> None:
    """Write one line per artefact and engine; ids of conditions are separated by spaces."""
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for group in found.groups:
        engine, first, second, *against = group.reason
        for each in group.differences:
            cells = ("" if word is None else word for word in _named(each.spec))
            writer.writerow([*cells, engine, first, second, *(" ".join(ids) for ids in against)])


def _group(found: Found, group: Group) -> Iterator[str]:
    reason, count = group.reason, len(group.differences)
    plural = "" if count == 1 else "s"
    said = f"{found.first} says {reason.first}, {found.second} says {reason.second}"
    yield f"{reason.engine}: {said}; {count} artefact{plural}"
    for finding, observed in (*group.findings(0), *group.findings(1)):
        values = [str(value) for value in observed[:_MOST]] + ["…"] * (len(observed) > _MOST)
        shown = msgspec.structs.replace(finding, observed=values, fix=None)
        yield report.finding_text(shown)
    lines = _artefacts(group.differences)
    yield from (f"    {line}" for line in lines[:_MOST])
    if len(lines) > _MOST:
        yield f"    … and {len(lines) - _MOST} lines more; format=csv has them all"


def _artefacts(found: Iterable[Difference]) -> list[str]:
    """Return a line for each family and format: the sizes and the quantizations that go together."""
    sizes: dict[tuple[str, str, str], list[str]] = {}
    for each in found:
        family, size, form, quantization = (word or "-" for word in _named(each.spec))
        sizes.setdefault((family, form, quantization), []).append(size.replace("_", "."))
    lines: dict[tuple[str, str, str], list[str]] = {}
    for (family, form, quantization), known in sizes.items():
        lines.setdefault((family, form, " ".join(known)), []).append(quantization)
    return [f"{family} {form} {' '.join(of)}: {known}" for (family, form, known), of in lines.items()]


def _named(spec: Spec) -> tuple[str | None, ...]:
    return spec.family, spec.size, spec.format, spec.quantization


def _document(group: Group) -> dict[str, Any]:
    reason = group.reason
    return {
        "engine": reason.engine, "first": reason.first, "second": reason.second,
        "first_against": [_condition(*each) for each in group.findings(0)],
        "second_against": [_condition(*each) for each in group.findings(1)],
        "artefacts": [dict(zip(_COLUMNS, _named(each.spec), strict=False)) for each in group.differences],
    }  # fmt: skip


def _condition(finding: Finding, observed: tuple[Any, ...]) -> dict[str, Any]:
    return {**msgspec.structs.asdict(finding), "observed": observed}
