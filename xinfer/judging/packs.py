"""Rule packs as they are written: a YAML mapping of engines to conditions, each with its source, read and checked."""

from __future__ import annotations

import itertools
from functools import lru_cache
from typing import TYPE_CHECKING, Any, get_args

import msgspec

from xinfer import versions
from xinfer.errors import ConfigError, nearest
from xinfer.facts import Device
from xinfer.judging.predicates import KEYS, compile_predicate
from xinfer.judging.rules import BuildFlag, Condition, Kind, Pack, Source

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from xinfer.config.compose import Composer

_PACK_KEYS = (
    *("name", "title", "date", "catalog", "parts", "versions", "releases"),
    *("sources", "families", "preference", "engines", "build_flags"),
)
_RULE_KEYS = (*KEYS, "when", "since", "until", "otherwise", "conflict", "source", "at", "fix")
_VERSION = "engine.version="
_KINDS: tuple[str, ...] = get_args(Kind)
_DEVICES = (*get_args(Device), "default")


@lru_cache(maxsize=8)
def named(name: str, composer: Composer) -> Pack:
    """Return a pack as it stands in its files, with nothing overridden; they are read once."""
    return load(composer.rules(name), str(composer.file("rules", name)))


def load(raw: Mapping[str, Any], where: str) -> Pack:
    """Build a pack from its YAML mapping.

    Raises ConfigError, naming ``where`` and the rule, for a fact, operator, key or source that does
    not exist.
    """
    _closed(raw, _PACK_KEYS, where)
    sources = {name: _source(body, f"{where}: source {name}") for name, body in _mapping(raw, "sources", where)}
    releases = _releases(raw, where)
    engines = {
        engine: tuple(
            _condition(rule, body, sources, releases.get(engine, ()), f"{where}: rule {engine}.{rule}")
            for rule, body in _mapping({engine: rules}, engine, f"{where}: engines")
        )
        for engine, rules in _mapping(raw, "engines", where)
    }
    preferences = _preferences(raw, engines, where)
    name = _text(raw, "name", where) or where
    return Pack(
        name=name, title=_text(raw, "title", where) or name, date=_text(raw, "date", where) or "",
        catalog=_text(raw, "catalog", where), families=_texts(raw, "families", where),
        preference=preferences.pop("default", ()), preferences=preferences, engines=engines,
        build_flags=_build_flags(raw, where), versions=_versions(raw, engines, where), releases=releases,
    )  # fmt: skip


def _preferences(raw: Mapping[str, Any], engines: Iterable[str], where: str) -> dict[str, tuple[str, ...]]:
    """Return the order of engines for each kind of device, and under ``default`` that for all others."""
    body = raw.get("preference")
    if isinstance(body, dict):
        inside = f"{where}: preference"
        _closed(body, _DEVICES, inside)
        orders = {device: _texts(body, device, inside) for device in body}
    else:
        orders = {"default": _texts(raw, "preference", where)}
    for engine in (name for order in orders.values() for name in order):
        if engine not in engines:
            message = f"{where}: preference names engine {engine!r}, which has no rules{nearest(engine, engines)}"
            raise ConfigError(message)
    return orders


def _versions(raw: Mapping[str, Any], engines: Iterable[str], where: str) -> dict[str, str | None]:
    """Return the version that each engine is judged by where nobody chose one."""
    body = raw.get("versions") or {}
    _closed(body if isinstance(body, dict) else {}, list(engines), f"{where}: versions")
    found = {engine: _text(body, engine, f"{where}: versions") for engine, _ in _mapping(raw, "versions", where)}
    for engine, text in found.items():
        versions.checked(text, f"{where}: versions: {engine}")
    return found


def _releases(raw: Mapping[str, Any], where: str) -> dict[str, tuple[str, ...]]:
    """Return the versions of each engine that the pack tells apart; they must be in their order."""
    inside = f"{where}: releases"
    body = {engine: _texts(raw["releases"], engine, inside) for engine, _ in _mapping(raw, "releases", where)}
    for engine, listed in body.items():
        inside = f"{where}: releases: {engine}"
        read = [found for text in listed if (found := versions.checked(text, inside)) is not None]
        if any(later <= earlier for earlier, later in itertools.pairwise(read)):
            message = f"{inside}: must be in order, oldest first, each once, not {', '.join(listed)}"
            raise ConfigError(message)
    return body


def _condition(rule: str, body: Any, sources: Mapping[str, Source], releases: Sequence[str], where: str) -> Condition:
    if not isinstance(body, dict):
        message = f"{where}: must be a mapping with fact, an operator and source, not {body!r}"
        raise ConfigError(message)
    _closed(body, _RULE_KEYS, where)
    at, fix, otherwise, since, until = (_text(body, key, where) for key in ("at", "fix", "otherwise", "since", "until"))
    source, against = (_named(body, key, sources, where) for key in ("source", "conflict"))
    if source is None:
        message = f"{where}: names no source; it has {', '.join(sources) or 'none'}"
        raise ConfigError(message)
    if against and otherwise:
        message = f"{where}: has otherwise and conflict; one of them says why a failure is not a no"
        raise ConfigError(message)
    predicate = compile_predicate({key: value for key, value in body.items() if key in KEYS}, where)
    when = compile_predicate(body["when"], f"{where}: when") if body.get("when") is not None else None
    expected = (predicate.text, when and f"when {when.full_text}", versions.said(since, until))
    fixes = (fix or predicate.fix, None if _VERSION in (fix or "") else versions.way_out(since, until, releases))
    return Condition(
        id=rule, predicate=predicate, when=when, expected=" ".join(part for part in expected if part),
        source=msgspec.structs.replace(source, at=at), fix=", or ".join(part for part in fixes if part) or None,
        doubt=f"sources conflict: {source.title} says no, {against.title} does not" if against else otherwise,
        since=since, until=until, bounds=versions.bounds(since, until, where),
    )  # fmt: skip


def _named(body: Mapping[str, Any], key: str, sources: Mapping[str, Source], where: str) -> Source | None:
    """Return the source that a key of a rule names."""
    name = _text(body, key, where)
    if name is not None and name not in sources:
        has, inside = ", ".join(sources) or "none", "" if key == "source" else f"{key}: "
        message = f"{where}: {inside}source {name!r} is not one of the pack's; it has {has}{nearest(name, sources)}"
        raise ConfigError(message)
    return None if name is None else sources[name]


def _source(body: Any, where: str) -> Source:
    if not isinstance(body, dict):
        message = f"{where}: must be a mapping with kind, title, date and where, not {body!r}"
        raise ConfigError(message)
    _closed(body, Source.__struct_fields__, where)
    texts = {key: _text(body, key, where) for key in Source.__struct_fields__}
    missing = [key for key in ("kind", "title", "date", "where") if not texts[key]]
    if missing:
        message = f"{where}: has no {', '.join(missing)}"
        raise ConfigError(message)
    kind = str(texts["kind"])
    if kind not in _KINDS:
        message = f"{where}: kind {kind!r} is not one of {', '.join(_KINDS)}{nearest(kind, _KINDS)}"
        raise ConfigError(message)
    return msgspec.convert(texts, Source)


def _build_flags(raw: Mapping[str, Any], where: str) -> dict[str, dict[str, BuildFlag]]:
    try:
        return msgspec.convert(raw.get("build_flags") or {}, dict[str, dict[str, BuildFlag]])
    except msgspec.ValidationError as error:
        text = str(error).replace("`", "").partition(" - at ")[0]
        raise ConfigError(f"{where}: build_flags: {text[:1].lower()}{text[1:]}") from error


def _mapping(raw: Mapping[str, Any], key: str, where: str) -> list[tuple[str, Any]]:
    body = raw.get(key)
    if body is None:
        return []
    if not isinstance(body, dict) or not all(isinstance(name, str) for name in body):
        message = f"{where}: {key} must be a mapping keyed by names, not {body!r}"
        raise ConfigError(message)
    return list(body.items())


def _text(raw: Mapping[str, Any], key: str, where: str) -> str | None:
    value = raw.get(key)
    if value is not None and not isinstance(value, str):
        message = f"{where}: {key} must be text, not {value!r}"
        raise ConfigError(message)
    return value


def _texts(raw: Mapping[str, Any], key: str, where: str) -> tuple[str, ...]:
    values = raw.get(key)
    if values is None:
        return ()
    if not isinstance(values, (list, tuple)) or not all(isinstance(value, str) for value in values):
        message = f"{where}: {key} must be a list of texts, not {values!r}"
        raise ConfigError(message)
    return tuple(values)


def _closed(raw: Mapping[str, Any], known: Sequence[str], where: str) -> None:
    for key in raw:
        if key not in known:
            message = f"{where}: unknown key {key!r}; allowed: {', '.join(known)}{nearest(str(key), known)}"
            raise ConfigError(message)
