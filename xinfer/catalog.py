"""The catalogue: which artefacts of a model family are published, on which day, and where."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args

import msgspec

from xinfer import bounds
from xinfer.config import spelling
from xinfer.config.document import Loader
from xinfer.errors import ConfigError, nearest
from xinfer.shape import Shape

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

__all__ = [
    "CHOICES", "DAYS", "SOURCES", "Counts", "Day", "Family", "Row", "Shape", "Spec",
    "is_open", "load", "matching", "parse", "rows", "select",
]  # fmt: skip

Day = Literal["2024-07", "2024-08", "2026-08", "2026-10"]
"""A day whose published catalogue is known, named by its month."""
DAYS: tuple[str, ...] = get_args(Day)
SOURCES: dict[str, str] = {
    "2024-07": "github.com/xorbitsai/inference@35c300824 (2024-07-19) xinference/model/llm/llm_family*.json",
    "2024-08": "github.com/xorbitsai/inference@de06eb7fd (2024-08-14) xinference/model/llm/llm_family*.json",
    "2026-08": "github.com/xorbitsai/inference@7ecec16b6 (2026-08-23) xinference/model/llm/models/*.json",
    "2026-10": "pypi.org/project/xinference/4.1.0 (2026-10-25) xinference/model/llm/models/*.json",
}
"""Where each day's catalogue was published, unless a line names another place."""
Counts = Literal["all", "active"]
"""Which parameters a published size counts: a mixture of experts may be named after its active ones."""
CHOICES = ("size", "format", "quantization", "hub")
"""The keys of a family's file by which the user selects; they are no part of what is published."""


class Spec(msgspec.Struct, frozen=True, kw_only=True):
    """One concrete artefact of a family: size, format, quantization and the hub that has it."""

    family: str
    size: str | None
    """In billions of parameters, as published: ``7``, ``0_5``."""
    format: str | None
    """As published: pytorch, gptq, awq, fp8, ggufv2, ggmlv3, mlx."""
    quantization: str | None
    """As published: none, Int4, q4_K_M, 4-bit…"""
    hub: str | None
    id: str | None
    revision: str | None = None
    file: str | None = None
    bytes: int | None = None
    """Size of the weights files where it is known exactly."""
    derived: bool = False
    """Published by nobody, made here from ``file``."""
    parts: tuple[str, ...] = ()
    """The files that ``file`` continues in, where a GGUF is split."""
    fingerprint: str | None = None
    """Tells a model on this machine from others at its path; null where ``revision`` does."""
    remote_code: bool = False
    """Its network or tokenizer is Python that comes with it; the user has allowed an engine to execute that."""
    pickled: bool = False
    """Its weights are pickles, which execute whatever is in them; the user has allowed an engine to load them."""
    listed: tuple[str, ...] = ()
    context_length: int | None = None
    abilities: tuple[str, ...] = ()
    shape: Shape = Shape()
    note: str | None = None
    """Why a part of this record is unknown, where the catalogue says."""
    size_counts: Counts = "all"

    @property
    def parameters_b(self) -> float | None:
        """All parameters in billions; null where the published size counts only the active ones."""
        return float(self.size.replace("_", ".")) if self.size and self.size_counts == "all" else None

    @property
    def weights_b(self) -> float | None:
        """All weights in billions: as counted, else as the published size says."""
        return self.shape.total_b if self.shape.total_b is not None else self.parameters_b


class Row(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One line of a family's table: what is published alike, on some days, on some hubs."""

    size: Annotated[str, msgspec.Meta(pattern=r"^\d+(_\d+)?$")]
    format: str
    quantizations: Annotated[tuple[str, ...], msgspec.Meta(min_length=1)]
    hubs: Annotated[dict[str, str], msgspec.Meta(min_length=1)]
    """For each hub the id there, as ``id`` or ``id@revision``."""
    listed: tuple[Day, ...] = ()
    """The days whose catalogue has the line; none for what no dated catalogue has: always selectable."""
    file: str | None = None
    bytes: int | None = None
    derived: bool = False
    """Made here from ``file``, which is published in another format or quantization."""
    context_length: int | None = None
    """Where it differs from the family's."""
    note: str | None = None
    source: str | None = None
    """Where the line was published; null where that is the catalogue of the days that list it."""

    def is_listed(self, day: str | None) -> bool:
        """Tell whether the line is selectable on a day; without a day all are."""
        return day is None or not self.listed or day in self.listed


class Family(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A named model line, with everything that was published of it on the known days."""

    family: str
    rows: tuple[Row, ...] = msgspec.field(name="specs")
    shapes: dict[str, Shape] = {}
    abilities: tuple[str, ...] = ()
    context_length: int | None = None
    note: str | None = None
    size_counts: Counts = "all"

    def specs(self, day: str | None = None) -> tuple[Spec, ...]:
        """Return what was published on a day, in the published order; without a day, on any.

        Raises ConfigError for a day whose catalogue is not known.
        """
        if day is not None and day not in DAYS:
            message = f"there is no catalogue of {day!r}; there are {', '.join(DAYS)}"
            raise ConfigError(message)
        return tuple(spec for row in self.rows if row.is_listed(day) for spec in self._expand(row))

    def unpublished(self, day: str | None) -> Spec:
        """Return the spec of which nothing is known, because the day's catalogue has none; it says why."""
        note = self.note or "the catalogue has no record of it"
        if self.rows:
            listed = sorted({known for row in self.rows for known in row.listed})
            note = f"not listed on {day}; listed on {', '.join(listed)}"
        return Spec(
            family=self.family, size=None, format=None, quantization=None, hub=None, id=None,
            context_length=self.context_length, abilities=self.abilities, note=note,
        )  # fmt: skip

    def _expand(self, row: Row) -> Iterator[Spec]:
        shape = self.shapes.get(row.size) or Shape()
        for quantization in row.quantizations:
            for hub, address in row.hubs.items():
                name, _, revision = address.partition("@")
                yield Spec(
                    family=self.family, size=row.size, format=row.format, quantization=quantization,
                    hub=hub, id=name, revision=revision or None, file=row.file, bytes=row.bytes,
                    derived=row.derived, parts=_continued(row.file, quantization),
                    listed=row.listed, context_length=row.context_length or self.context_length,
                    abilities=self.abilities, shape=shape, note=row.note, size_counts=self.size_counts,
                )  # fmt: skip


def select(
    family: Family,
    *,
    day: str | None,
    size: str | float | None = None,
    format: str | None = None,  # noqa: A002 -- the word of the command line
    quantization: str | None = None,
    hub: str | None = None,
) -> tuple[Spec, ...]:
    """Return the specs of a day that are what the user chose, in the published order; null is open.

    A family of which that day's catalogue has nothing gives its one unpublished spec, whatever was
    chosen. Raises ConfigError for a value that is not published, listing the ones that are.
    """
    found = family.specs(day)
    if not found:
        return (family.unpublished(day),)
    asked: dict[str, str] = {}
    for field, typed in zip(CHOICES, (size, format, quantization, hub), strict=True):
        if typed is None:
            continue
        asked[field] = str(typed)
        narrowed = matching(found, field, str(typed))
        if not narrowed:
            raise ConfigError(_refusal(family, day, found, asked))
        found = narrowed
    return found


def matching(specs: Iterable[Spec], field: str, typed: str) -> tuple[Spec, ...]:
    """Return the specs of which a field is what was typed; one that is not known is nothing that can be typed."""
    specs = tuple(specs)
    meant = spelling.matching(field, typed, {getattr(spec, field) for spec in specs} - {None})
    return tuple(spec for spec in specs if getattr(spec, field) in meant)


def rows(families: Iterable[Family], day: str | None) -> list[Spec]:
    """Return one spec per published family, size, format and quantization: that of the first hub."""
    distinct: dict[tuple[str | None, ...], Spec] = {}
    for family in families:
        for spec in (spec for spec in family.specs(day) if not spec.derived):
            distinct.setdefault((spec.family, spec.size, spec.format, spec.quantization), spec)
    return list(distinct.values())


def load(directory: Path) -> dict[str, Family]:
    """Read every family's file, by name; each file is named after its family.

    A file with the key ``source`` is no family: it says where models are that no catalogue lists. Raises
    ConfigError, naming the file, for what is no YAML or no family.
    """
    found = {path.stem: _read(path) for path in sorted(directory.glob("*.yaml"))}
    families = {name: family for name, family in found.items() if family is not None}
    for name, family in families.items():
        if family.family != name:
            where = f"{directory.name}/{name}.yaml"
            message = f"{where}: family must be the file's name, {name!r}, not {family.family!r}"
            raise ConfigError(message)
    return families


def is_open(mapping: Any) -> bool:
    """Tell whether a model's file names no family, but a source of models that no catalogue lists."""
    return isinstance(mapping, dict) and "source" in mapping


def parse(mapping: Mapping[str, Any], where: str) -> Family:
    """Build a family from its YAML mapping.

    Raises ConfigError, naming ``where`` and the key, for an unknown key or a value of the wrong type.
    """
    if not isinstance(mapping, dict):
        message = f"{where}: must be a mapping with family and specs, not {mapping!r}"
        raise ConfigError(message)
    published = {key: value for key, value in mapping.items() if value is not None and key not in CHOICES}
    try:
        found = msgspec.convert(published, Family)
    except msgspec.ValidationError as error:
        raise ConfigError(_complaint(str(error), where)) from error
    bounds.check(found, f"{where}: ")
    for size, shape in found.shapes.items():
        bounds.check(shape, f"{where}: shapes.{size}.")
    for number, row in enumerate(found.rows):
        bounds.check(row, f"{where}: specs[{number}].")
    return found


def _continued(file: str | None, quantization: str) -> tuple[str, ...]:
    """Name the other files of a GGUF that is split, as llama.cpp counts them, from the name of the first."""
    stem, first, count = (file or "").replace("{quantization}", quantization).partition("-00001-of-")
    of, dot, rest = count.partition(".")
    if not first or not of.isdecimal():
        return ()
    return tuple(f"{stem}-{number:05}-of-{of}{dot}{rest}" for number in range(2, int(of) + 1))


def _read(path: Path) -> Family | None:
    import yaml  # noqa: PLC0415 -- a plan has its one family from Hydra and needs no YAML

    where = f"{path.parent.name}/{path.name}"
    try:
        mapping = yaml.load(path.read_bytes(), Loader)  # noqa: S506 -- a SafeLoader
    except (yaml.YAMLError, RecursionError) as error:
        message = f"{where}: not valid YAML: {' '.join(str(error).split()) or 'it is nested beyond reason'}"
        raise ConfigError(message) from error
    return None if is_open(mapping) else parse(mapping, where)


def _refusal(family: Family, day: str | None, found: tuple[Spec, ...], asked: Mapping[str, str]) -> str:
    """Say that the last thing asked is not published, what is, and on which days it is listed."""
    *chosen, field = asked
    subject = " ".join([family.family, *(str(getattr(found[0], name)) for name in chosen)])
    published = list(dict.fromkeys(str(getattr(spec, field)) for spec in found))
    on = f" on {day}" if day and any(spec.listed for spec in found) else ""
    message = f"{subject} has no {field} {asked[field]!r}; published{on}: {', '.join(published)}"
    elsewhere = family.specs()
    for name, typed in asked.items():
        elsewhere = matching(elsewhere, name, typed)
    if elsewhere:
        days = sorted({listed for spec in elsewhere for listed in spec.listed})
        return f"{message}; {getattr(elsewhere[0], field)!r} is listed on {', '.join(days)}"
    return message + spelling.suggestion(field, asked[field], published)


def _complaint(problem: str, where: str) -> str:
    """Turn msgspec's complaint into ours: the file, the path in it, and the nearest known key."""
    what, _, at = problem.partition(" - at ")
    path = at.replace("`", "").replace("$.", "").replace("$", "")
    place = f"{where}: {path}" if path else where
    if "unknown field" in what:
        struct = Row if path.startswith("specs") else Shape if path.startswith("shapes") else Family
        known = [field.encode_name for field in msgspec.structs.fields(struct)]
        known += CHOICES if struct is Family else ()
        key = what.split("`")[1]
        return f"{place}: there is no key {key!r}{nearest(key, known)}"
    if "missing required field" in what:
        return f"{place}: the key {what.split('`')[1]!r} is missing"
    if "matching regex" in what:
        return f"{place}: must be digits, as in 7 or 0_5"
    allowed = f"; there are {', '.join(DAYS)}" if "enum value" in what else ""
    return f"{place}: {what[0].lower()}{what[1:].replace('`', '')}{allowed}"
