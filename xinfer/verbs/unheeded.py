"""Keys that mean nothing to a verb which starts, measures or lists something all the same: typed, they are refused.

Verbs that only ask take the keys of a run, so that ``plan`` can stand in front of what is typed for one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from xinfer.config import overrides
from xinfer.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

_STARTS = "which starts the engine all the same; plan starts nothing"
_OF_RUNS = "which measures nothing; -m runs, and tunes"
_ALL = "which goes over all {}; leave it out"
REASONS: dict[str, dict[str, str]] = {
    "run": {"format": "which prints a table; record.json has everything, and export prints it for other tools"},
    "serve": {"dry": _STARTS, "tune": _OF_RUNS, "format": "which prints where the server is"},
    "provision": {"dry": "which makes everything all the same; plan makes nothing", "tune": _OF_RUNS},
    "parity": {"dry": "which starts the engines all the same", "tune": "which compares answers; -m tunes"},
    "choose": {"model": _ALL.format("models")},
    "models": {"model": _ALL.format("models")},
    "engines": {"engine": _ALL.format("engines")},
    "environments": {"dry": "which removes all the same; without remove= it lists"},
}
"""Of each verb, the keys and groups, and what the verb does instead."""


def check(verb: str, typed: Sequence[str]) -> None:
    """Refuse what the verb would drop; raise ConfigError."""
    reasons = REASONS.get(verb, {})
    for word in typed if reasons else ():
        key = overrides.read(word).top
        if key in reasons:
            raise ConfigError(f"{word!r} means nothing to {verb}, {reasons[key]}")
