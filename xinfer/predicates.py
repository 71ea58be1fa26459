"""The operators of rules: closed, typed, and three-valued.

``{fact: model.format, in: [gptq, awq]}`` compares one fact; ``{all: […]}``, ``{any: […]}`` and
``{not: {…}}`` combine. A predicate answers true, false, or None when it cannot be decided.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from xinfer.errors import ConfigError, nearest
from xinfer.facts import FACTS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

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

    @property
    def full_text(self) -> str:
        """The expectation with the fact's name in front."""
        return self.text if len(self.facts) > 1 else f"{self.fact} is {self.text}"


_KINDS: dict[str, tuple[type, ...]] = {
    "text": (str,), "version": (str,), "number": (int, float), "flag": (bool,), "list": (str,),
}  # fmt: skip
_OPERATORS: dict[str, tuple[str, ...]] = {
    "eq": ("text", "number", "flag", "version"),
    "ne": ("text", "number", "flag", "version"),
    "in": ("text", "number"),
    "not_in": ("text", "number"),
    "ge": ("number",),
    "le": ("number",),
    "divides": ("number",),
    "version": ("version",),
    "has": ("list",),
    "present": ("text", "number", "flag", "list", "version"),
}
"""Operator to the kinds of fact it applies to."""
_COMBINATIONS = ("all", "any", "not")


def compile_predicate(body: Any, where: str) -> Predicate:
    """Turn one YAML mapping into a predicate; ConfigError names ``where`` and what is misspelt."""
    if not isinstance(body, dict) or not body:
        message = f"{where}: a condition is a mapping such as {{fact: model.format, in: [gptq]}}, not {body!r}"
        raise ConfigError(message)
    combined = [key for key in body if key in _COMBINATIONS]
    if combined:
        return _combination(combined[0], body, where)
    name, rest = body.get("fact"), {key: value for key, value in body.items() if key != "fact"}
    if name not in FACTS:
        message = f"{where}: {name!r} is no fact{nearest(str(name), FACTS)}"
        raise ConfigError(message)
    for key in rest:
        if key not in _OPERATORS:
            allowed = ", ".join([*_OPERATORS, *_COMBINATIONS])
            message = f"{where}: unknown operator or key {key!r}; operators: {allowed}{nearest(key, _OPERATORS)}"
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
        message = f"{where}: {operator!r} does not apply to {name}, a {fact.kind}; use one of {suits}"
        raise ConfigError(message)
    _check_value(name, operator, value, where)
    test, text, wanted = _BUILDERS[operator](name, value)
    fix = f"{fact.override}={wanted}" if fact.override and wanted is not None else None
    return Predicate(fact=name, test=test, text=text, fix=fix, facts=(name,))


def _check_value(name: str, operator: str, value: Any, where: str) -> None:
    expected = {"present": (bool,), "version": (str,), "has": (str,)}.get(operator, _KINDS[FACTS[name].kind])
    values = value if operator in ("in", "not_in") else [value]
    is_list = isinstance(values, (list, tuple)) and bool(values)
    if not is_list or any(not isinstance(v, expected) or (isinstance(v, bool) and bool not in expected) for v in values):
        kinds = " or ".join(kind.__name__ for kind in expected)
        shape = f"a list of {kinds}" if operator in ("in", "not_in") else f"a {kinds}"
        message = f"{where}: {operator} of {name} needs {shape}, not {value!r}"
        raise ConfigError(message)


def _combination(operator: str, body: Mapping[str, Any], where: str) -> Predicate:
    if len(body) != 1:
        message = f"{where}: {operator!r} stands alone, but has {', '.join(k for k in body if k != operator)} beside it"
        raise ConfigError(message)
    parts = [body["not"]] if operator == "not" else body[operator]
    if not isinstance(parts, (list, tuple)) or not parts:
        message = f"{where}: {operator!r} needs a list of conditions, not {parts!r}"
        raise ConfigError(message)
    inner = [compile_predicate(part, where) for part in parts]
    word = {"all": " and ", "any": " or "}.get(operator, "")
    said = word.join(p.full_text for p in inner)
    return Predicate(
        fact=inner[0].fact,
        test={"all": _all, "any": _any, "not": _not}[operator]([p.test for p in inner]),
        text=f"not ({said})" if operator == "not" else said,
        fix=None,
        facts=tuple(dict.fromkeys(name for p in inner for name in p.facts)),
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


def _ge(name: str, value: float) -> Built:
    return _known(name, lambda o: bool(o >= value)), f"at least {value}", value


def _le(name: str, value: float) -> Built:
    return _known(name, lambda o: bool(o <= value)), f"at most {value}", value


def _divides(name: str, value: float) -> Built:
    return _known(name, lambda o: o % value == 0), f"a multiple of {value}", None


def _version(name: str, value: str) -> Built:
    from packaging.specifiers import SpecifierSet  # noqa: PLC0415 -- only packs with versions pay for it

    accepted = SpecifierSet(value)
    return _known(name, lambda o: accepted.contains(str(o), prereleases=True)), f"version {value}", None


def _has(name: str, value: str) -> Built:
    return _known(name, lambda o: value in o), f"with {value}", None


def _present(name: str, value: bool) -> Built:  # noqa: FBT001 -- the YAML value itself
    return (lambda facts: (facts[name] is not None) is value), "known" if value else "not known", None


_SHORT = 6
_BUILDERS: dict[str, Callable[[str, Any], Built]] = {
    "eq": _eq, "ne": _ne, "in": _in, "not_in": _not_in, "ge": _ge, "le": _le,
    "divides": _divides, "version": _version, "has": _has, "present": _present,
}  # fmt: skip


def _say(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _listed(values: list[Any]) -> str:
    if len(values) > 2 * _SHORT:
        return f"{', '.join(map(str, values[:3]))}… ({len(values)} in all)"
    return ", ".join(map(str, values))
