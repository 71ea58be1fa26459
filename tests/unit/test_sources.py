"""Every fact in conf/ says where it was published: catalogues, networks, machines, rules and names of architectures."""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING, Any

import pytest

from xinfer import catalog, engines
from xinfer.config.compose import Composer, conf_dir, read

if TYPE_CHECKING:
    from collections.abc import Iterator

HARDWARE = sorted(path.stem for path in (conf_dir() / "hw").glob("*.yaml"))
COMPOSER = Composer(engines.conf_directories())
PACKS = [name for name in COMPOSER.options("rules") if "engines" in read(COMPOSER.file("rules", name))]
"""Every file with rules; what is made of others has none of its own."""
FAMILIES = catalog.load(conf_dir() / "model")
FIGURES = ("os_version", "cpu", "cores", "memory_gib", "bandwidth_gbs", "isa")
"""What a profile says of a machine that is sold; a system, or how many devices there are, is what it is asked for."""
ADDRESS = re.compile(
    r"@[0-9a-f]{7,}|\d+\.\d+|\.(com|org|io|net)\b|\b20\d\d\b|data sheet|product page|technical specifications"
    r"|own header"
    r"|Intel ARK|WikiChip|model card|third-party catalogue|[A-Za-z][\w-]+/[A-Za-z][\w.-]+"
)
"""A commit, a version, an address, a year, a repository, or a document: something that can be looked up."""


def published_lines() -> Iterator[tuple[str, str | None]]:
    """Name each line of each family with its own source, or those of the days that list it."""
    for name, family in FAMILIES.items():
        for row in family.rows:
            where = f"model/{name}: {row.size} {row.format} {row.quantizations[0]}"
            own = [row.source] if row.source else []
            for source in [*own, *(catalog.SOURCES.get(day) for day in row.listed)] or [None]:
                yield where, source


def networks() -> Iterator[tuple[str, str | None]]:
    """Name each network of which more than its class is known."""
    for name, family in FAMILIES.items():
        for size, shape in family.shapes.items():
            if any((shape.layers, shape.hidden, shape.heads, shape.vocab, shape.total_b, shape.active_b)):
                yield f"model/{name}: shape {size}", shape.source


def profiles() -> Iterator[tuple[str, str | None]]:
    """Name each profile with a figure that somebody must have published."""
    for name in HARDWARE:
        node = read(conf_dir() / "hw" / f"{name}.yaml")
        if any(node[key] is not None for key in FIGURES) or any(v for k, v in node["gpu"].items() if k != "vendor"):
            yield f"hw/{name}", node["source"]


def rules() -> Iterator[tuple[str, str | None]]:
    """Name each rule with the document that its source is, and where in that it stands."""
    for name in PACKS:
        pack = read(COMPOSER.file("rules", name))
        for engine, conditions in pack["engines"].items():
            for key, rule in conditions.items():
                for source in filter(None, (rule["source"], rule.get("conflict"))):
                    document = pack["sources"].get(source, {})
                    said = f"{document.get('title')}, {document.get('date')}, {document.get('where')}"
                    yield f"rules/{name}: {engine}.{key}", said if document else None


def names() -> Iterator[tuple[str, str | None]]:
    """Name each table of what the names in a model's files mean."""
    table = read(conf_dir() / "architectures.yaml")
    for key in table:
        if key != "sources":
            yield f"architectures: {key}", table["sources"].get(key)


KINDS = {"lines": published_lines, "networks": networks, "profiles": profiles, "rules": rules, "names": names}


@cache
def listed(kind: str) -> tuple[tuple[str, str | None], ...]:
    return tuple(KINDS[kind]())


@pytest.mark.parametrize("kind", KINDS)
def test_every_fact_has_a_source(kind: str) -> None:
    """Nothing stands in conf/ of which nobody can say where it is from."""
    assert [where for where, source in listed(kind) if not source] == []


@pytest.mark.parametrize("kind", KINDS)
def test_every_source_can_be_looked_up(kind: str) -> None:
    """It names a commit, a version, an address, a date or a document."""
    assert {source for _, source in listed(kind) if source and not ADDRESS.search(source)} == set()


def test_the_list_is_of_everything() -> None:
    """No kind of fact, and no file of facts, is left out of the list."""
    assert len(listed("lines")) >= sum(len(family.rows) for family in FAMILIES.values())
    assert {where.split(":")[0].removeprefix("rules/") for where, _ in listed("rules")} == set(PACKS)
    assert set(catalog.SOURCES) == set(catalog.DAYS)
    definitions = set(HARDWARE) - {where.removeprefix("hw/") for where, _ in listed("profiles")}
    assert definitions == {"auto", "cpu", "cuda", "rocm", "apple"}


def test_a_definition_claims_no_source() -> None:
    """A profile that names no machine that is sold has nothing to be published."""
    for name in ("auto", "cpu", "cuda", "rocm", "apple"):
        node: dict[str, Any] = read(conf_dir() / "hw" / f"{name}.yaml")
        assert node["source"] is None, name
