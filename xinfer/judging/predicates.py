"""The operators of rules: closed, typed, and three-valued.

``{fact: model.format, in: [gptq, awq]}`` compares one fact; ``{all: […]}``, ``{any: […]}`` and
``{not: {…}}`` combine. A predicate answers true, false, or None when it cannot be decided.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from xinfer import versions
from xinfer.errors import ConfigError, nearest
from xinfer.facts import FACTS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from packaging.specifiers import SpecifierSet

    Test = Callable[[Mapping[str, Any]], bool | None]


class Predicate(msgspec.Struct, frozen=True, kw_only=True):
    """A compiled test of facts, and how to say it."""

    fact: str
    """The fact it is about; of a combination, the first one."""
    test: Test
    text: str
    """What is expected of the fact, as ``one of gptq, awq``."""
    fix: str | None
    """The change that would make it hold, as ``model.format=gptq``."""
    facts: tuple[str, ...]
    named: tuple[tuple[str, Any], ...] = ()
    """The values it compares facts with, each with the name of its fact."""
    is_combined: bool = False

    @property
    def full_text(self) -> str:
        """The expectation with the fact's name in front."""
        return f"({self.text})" if self.is_combined else f"{self.fact} is {self.text}"


_KINDS = {"text": "text", "number": "a number", "flag": "true or false", "list": "a list", "version": "a version"}
_VALUES: dict[str, tuple[tuple[type, ...], str, str]] = {
    "text": ((str,), "text", "texts"),
    "number": ((int, float), "a number", "numbers"),
    "flag": ((bool,), "true or false", "flags"),
}
"""What a rule compares with: its types, and what one and several of it are called."""
_OPERATORS: dict[str, tuple[str, ...]] = {
    "eq": ("text", "number", "flag", "version"),
    "ne": ("text", "number", "flag", "version"),
    "in": ("text", "number"),
    "not_in": ("text", "number"),
    "ge": ("number", "version"),
    "le": ("number",),
    "divides": ("number",),
    "contains": ("text",),
    "version": ("version",),
    "text_ge": ("version",),
    "text_gt": ("version",),
    "has": ("list",),
    "present": ("text", "number", "flag", "list", "version"),
}
"""Operator to the kinds of fact it applies to."""
_LISTS = ("in", "not_in", "contains")
"""The operators that take a list; a list within it is spliced in, so that conditions can share one."""
_NAMING = ("eq", "in", "ge", "le", "has")
"""The operators whose value is one that would do."""
_COMBINATIONS = ("all", "any", "not")
KEYS = ("fact", *_OPERATORS, *_COMBINATIONS)
"""Every key that a condition may have."""


def compile_predicate(body: Any, where: str) -> Predicate:
    """Turn one YAML mapping into a predicate; ConfigError names ``where`` and what is misspelt."""
    if not isinstance(body, dict) or not body:
        message = f"{where}: a condition is a mapping such as {{fact: model.format, in: [gptq]}}, not {body!r}"
        raise ConfigError(message)
    for key in body:
        if key not in KEYS:
            message = f"{where}: unknown operator or key {key!r}; known: {', '.join(KEYS)}{nearest(str(key), KEYS)}"
            raise ConfigError(message)
    combined = [key for key in body if key in _COMBINATIONS]
    if combined:
        return _combination(combined[0], body, where)
    name, rest = body.get("fact"), {key: value for key, value in body.items() if key != "fact"}
    if name is None:
        message = f"{where}: names no fact, as {{fact: model.format, in: [gptq]}} does"
        raise ConfigError(message)
    if not isinstance(name, str) or name not in FACTS:
        message = f"{where}: {name!r} is no fact{nearest(str(name), FACTS)}"
        raise ConfigError(message)
    if len(rest) != 1:
        message = f"{where}: needs exactly one operator, has {', '.join(rest) or 'none'}"
        raise ConfigError(message)
    operator, value = next(iter(rest.items()))
    return _comparison(name, operator, value, where)


def _comparison(name: str, operator: str, value: Any, where: str) -> Predicate:
    fact = FACTS[name]
    if fact.kind not in _OPERATORS[operator]:
        suits = ", ".join(op for op, kinds in _OPERATORS.items() if fact.kind in kinds)
        message = f"{where}: {operator!r} does not apply to {name}, which is {_KINDS[fact.kind]}; use one of {suits}"
        raise ConfigError(message)
    if operator in _LISTS and isinstance(value, (list, tuple)):
        value = [item for part in value for item in (part if isinstance(part, (list, tuple)) else [part])]
    _check_value(name, operator, value, where)
    test, text, wanted = _BUILDERS[operator](name, value)
    fix = f"{fact.override}={wanted}" if fact.override and wanted is not None else None
    named = tuple((name, item) for item in (value if operator in _LISTS else [value]) if operator in _NAMING)
    return Predicate(fact=name, test=test, text=text, fix=fix, facts=(name,), named=named)


def _check_value(name: str, operator: str, value: Any, where: str) -> None:
    kind = FACTS[name].kind
    types, one, several = _VALUES.get("flag" if operator == "present" else kind, _VALUES["text"])
    is_many = operator in _LISTS
    values = value if is_many else [value]
    is_list = isinstance(values, (list, tuple)) and bool(values)
    if not is_list or any(isinstance(v, bool) is not (bool in types) or not isinstance(v, types) for v in values):
        message = f"{where}: {operator} of {name} needs {f'a list of {several}' if is_many else one}, not {value!r}"
        raise ConfigError(message)
    if operator == "divides" and value <= 0:
        message = f"{where}: divides needs a number above 0, not {value!r}"
        raise ConfigError(message)
    if operator == "version":
        _specifiers(value, where)
    elif kind == "version" and operator == "ge":
        versions.checked(value, f"{where}: ge")


def _specifiers(text: str, where: str) -> SpecifierSet:
    from packaging.specifiers import InvalidSpecifier, SpecifierSet  # noqa: PLC0415 -- only packs with versions pay

    try:
        return SpecifierSet(text)
    except InvalidSpecifier as error:
        message = f"{where}: version needs a specifier such as '>=0.6,<0.9', not {text!r}"
        raise ConfigError(message) from error


def _combination(operator: str, body: Mapping[str, Any], where: str) -> Predicate:
    others = [key for key in body if key != operator]
    if others:
        message = f"{where}: {operator!r} stands alone, but has {', '.join(others)} beside it"
        raise ConfigError(message)
    parts = [body["not"]] if operator == "not" else body[operator]
    if not isinstance(parts, (list, tuple)) or not parts:
        message = f"{where}: {operator!r} needs a list of conditions, not {parts!r}"
        raise ConfigError(message)
    inner = [compile_predicate(part, where) for part in parts]
    word = {"all": " and ", "any": " or "}.get(operator, "")
    said = word.join(p.full_text for p in inner)
    negated = f"not {said}" if inner[0].is_combined else f"not ({said})"
    return Predicate(
        fact=inner[0].fact,
        test={"all": _all, "any": _any, "not": _not}[operator]([p.test for p in inner]),
        text=negated if operator == "not" else said,
        fix=None,
        facts=tuple(dict.fromkeys(name for p in inner for name in p.facts)),
        named=tuple(pair for p in inner for pair in p.named),
        is_combined=True,
    )


def _all(tests: list[Test]) -> Test:
    def test(facts: Mapping[str, Any]) -> bool | None:
        results = [t(facts) for t in tests]
        return False if False in results else None if None in results else True

    return test


def _any(tests: list[Test]) -> Test:
    def test(facts: Mapping[str, Any]) -> bool | None:
        results = [t(facts) for t in tests]
        return True if True in results else None if None in results else False

    return test


def _not(tests: list[Test]) -> Test:
    def test(facts: Mapping[str, Any]) -> bool | None:
        result = tests[0](facts)
        return None if result is None else not result

    return test


Built = tuple["Test", str, Any]


def _known(name: str, holds: Callable[[Any], bool]) -> Test:
    """Lift a two-valued comparison: a fact that is not known decides nothing."""

    def test(facts: Mapping[str, Any]) -> bool | None:
        observed = facts[name]
        return None if observed is None else holds(observed)

    return test


def _eq(name: str, value: Any) -> Built:
    return _known(name, lambda o: bool(o == value)), _say(value), _say(value)


def _ne(name: str, value: Any) -> Built:
    return _known(name, lambda o: bool(o != value)), f"not {_say(value)}", None


def _in(name: str, value: list[Any]) -> Built:
    accepted = frozenset(value)
    listed = _listed(value)
    wanted = listed.replace(", ", "|") if len(value) <= _SHORT else "…"
    return _known(name, accepted.__contains__), listed if len(value) == 1 else f"one of {listed}", wanted


def _not_in(name: str, value: list[Any]) -> Built:
    refused = frozenset(value)
    return _known(name, lambda o: o not in refused), f"none of {_listed(value)}", None


def _ge(name: str, value: float | str) -> Built:
    least = versions.read(value) if isinstance(value, str) else None
    if least is None:
        return _known(name, lambda o: bool(o >= value)), f"at least {value}", value

    def test(facts: Mapping[str, Any]) -> bool | None:
        found = None if facts[name] is None else versions.read(facts[name])
        return None if found is None else found >= least

    return test, f"at least {value}", value


def _le(name: str, value: float) -> Built:
    return _known(name, lambda o: bool(o <= value)), f"at most {value}", value


def _divides(name: str, value: float) -> Built:
    return _known(name, lambda o: o % value == 0), f"a multiple of {value}", None


def _contains(name: str, value: list[str]) -> Built:
    """Look for a part of a text, as code does that compares names carelessly."""
    return _known(name, lambda o: any(part in o for part in value)), f"a text with {' or '.join(value)} in it", None


def _version(name: str, value: str) -> Built:
    accepted = _specifiers(value, name)

    def test(facts: Mapping[str, Any]) -> bool | None:
        found = None if facts[name] is None else versions.read(facts[name])
        return None if found is None else accepted.contains(found, prereleases=True)

    return test, f"a version {value}", None


def _text_ge(name: str, value: str) -> Built:
    """Compare letter by letter, as code does that takes versions for texts: "0.10.0" comes before "0.3.0"."""
    return _known(name, lambda o: bool(o >= value)), f"{value} or what sorts after it as text", None


def _text_gt(name: str, value: str) -> Built:
    return _known(name, lambda o: bool(o > value)), f"what sorts after {value} as text", None


def _has(name: str, value: str) -> Built:
    return _known(name, lambda o: value in o), f"a list with {value}", None


def _present(name: str, value: bool) -> Built:  # noqa: FBT001 -- the YAML value itself
    return (lambda facts: (facts[name] is not None) is value), "known" if value else "not known", None


_SHORT = 6
_BUILDERS: dict[str, Callable[[str, Any], Built]] = {
    "eq": _eq, "ne": _ne, "in": _in, "not_in": _not_in, "ge": _ge, "le": _le,
    "divides": _divides, "contains": _contains, "version": _version, "text_ge": _text_ge, "text_gt": _text_gt,
    "has": _has, "present": _present,
}  # fmt: skip


def _say(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _listed(values: list[Any]) -> str:
    if len(values) > 2 * _SHORT:
        return f"{', '.join(map(str, values[:3]))}… ({len(values)} in all)"
    return ", ".join(map(str, values))
