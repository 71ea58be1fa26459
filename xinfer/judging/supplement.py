"""The conditions of engines that a rule pack does not know, as the engines' own plugins bring them.

A plugin's ``conf/rules/<engine>.yaml`` is a pack like any other and can be chosen by its name. Its conditions of
that one engine also complete every pack that has none: last in its order, each with the plugin's source. Not those of
xinfer's own plugins, as whoever writes a pack knows these engines and means what it leaves out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import msgspec

from xinfer import engines
from xinfer.errors import ConfigError
from xinfer.judging import packs
from xinfer.judging.predicates import compile_predicate
from xinfer.judging.rules import Condition, Finding, Pack, Source

if TYPE_CHECKING:
    from collections.abc import Mapping

    from xinfer.config.compose import Composer

_OURS = "xinfer.plugins."
_packs: WeakKeyDictionary[Composer, dict[bytes, Pack]] = WeakKeyDictionary()
"""The rule packs that a composer's configurations have in common, by what is written in them."""
_XINFER = Source(kind="xinfer", title="xinfer", date="", where="xinfer/judging/supplement.py")
_ANYTHING = compile_predicate({"fact": "hw.os", "present": True}, "")


class Unreadable(Condition, frozen=True, kw_only=True):
    """Stands for a plugin's conditions that cannot be read: unknown, whatever the facts are."""

    error: str

    def evaluate(self, facts: Mapping[str, Any]) -> Finding:  # noqa: ARG002 -- no fact makes it known
        """Return the error as what was observed."""
        return Finding(
            id=self.id, result="unknown", fact="engine.rules", observed=self.error, expected=self.expected,
            source=self.source, fix=self.fix,
        )  # fmt: skip


def chosen(body: Mapping[str, Any], composer: Composer) -> Pack:
    """Load the chosen rule pack, with what plugins add to it; ConfigError names its file and the rule."""
    known, written = _packs.setdefault(composer, {}), msgspec.msgpack.encode(body)
    if written not in known:
        file = str(composer.file("rules", body["name"]))
        pack = packs.load(body, file)
        if not pack.engines:
            raise ConfigError(f"{file}: has no engines")
        known[written] = completed(pack, composer)
    return known[written]


def completed(pack: Pack, composer: Composer) -> Pack:
    """Return the pack with the conditions of every registered engine that it has none of and whose plugin has some."""
    brought = {
        name: _conditions(name, composer)
        for name, entry in engines.registered().items()
        if name not in pack.engines and not entry.value.startswith(_OURS) and name in composer.options("rules")
    }
    return msgspec.structs.replace(pack, engines={**pack.engines, **brought}) if brought else pack


def _conditions(engine: str, composer: Composer) -> tuple[Condition, ...]:
    try:
        found = packs.named(engine, composer).engines.get(engine)
        said = f"{composer.file('rules', engine)}: has no conditions of {engine}"
    except ConfigError as error:
        found, said = None, str(error)
    return found or (_unreadable(engine, said),)


def _unreadable(engine: str, error: str) -> Condition:
    return Unreadable(
        id="rules", predicate=_ANYTHING, when=None, expected="conditions that can be read", source=_XINFER,
        fix=f"mend the rules of {engine}'s plugin, or choose a pack that knows it", error=error,
    )  # fmt: skip
