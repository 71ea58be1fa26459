"""What the user types as ``key=value``: read, checked and quoted before Hydra sees it.

Raises ConfigError, one line, for what could not mean anything; whether a key exists is for Hydra to say.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from xinfer.errors import ConfigError, nearest

if TYPE_CHECKING:
    from collections.abc import Callable

LABELS = {
    "model": "model", "hw": "machine profile", "engine": "engine", "workload": "workload", "rules": "rule pack",
    "experiment": "experiment", "tune": "tuning",
}  # fmt: skip
"""The groups: folders of YAML files, one of which is chosen by name; and what one of them is called."""

LAUNCHER = "hydra/launcher"
"""The one group of Hydra's own that may be chosen from."""

_FORM = re.compile(r"(?P<sign>\+{1,2}|~)?(?P<key>[^=]*)(?:=(?P<value>.*))?", re.DOTALL)
_TEXTS = re.compile(
    rf"{'|'.join(LABELS)}|model\.(?:size|quantization|format|hub|revision|id|file|path)"
    r"|hw\.(?:os|os_version|arch|cpu)|hw\.gpu\.(?:vendor|name|driver|compute_capability)"
    r"|engine\.(?:version|python|url|model|api_key_env|index)|catalog|home|runs|api_key(?:_env)?"
)
"""Keys whose value is text whatever it looks like: Hydra reads 1_5 as 15 and 3.10 as 3.1."""
_OPEN = re.compile(r"(?:engine\.(?:args|env|request)\..+|model\.(?:size|format|quantization|hub)|tune\.space\..+)")
"""Keys that need not be there already: an engine's own flags, and choices that a user's model file may leave out."""
NAMES = {
    "model.family": "model", "hw.profile": "hw", "engine.name": "engine", "workload.name": "workload",
    "rules.name": "rules", "tune.name": "tune",
}  # fmt: skip
"""What each file of a group is called in itself: the name by which it is chosen."""
_RULE = re.compile(r"rules\.engines\..+")
_STRUCTURED = re.compile(r"[\"'\[{]|(?:choice|glob|interval|range|shuffle|sort|tag)\(|.*\$\{", re.DOTALL)
"""What Hydra reads as more than a text: a quoted one, a list, a mapping, a function, an interpolation."""
_SEVERAL = re.compile(r"[,(]")
_LISTED = 12


class Override(NamedTuple):
    """One argument of the command line that is no verb and no flag."""

    text: str
    sign: str
    """Hydra's ``+``, ``++`` or ``~``, or empty."""
    key: str
    value: str | None

    @property
    def top(self) -> str:
        """The group or key that it is about: the first part of its own."""
        return self.key.partition(".")[0]

    @property
    def is_text(self) -> bool:
        """Tell whether the value is plain text, which Hydra's grammar must not interpret."""
        if self.sign == "~" or self.value in (None, "", "null") or _STRUCTURED.match(self.value or ""):
            return False
        return bool(_TEXTS.fullmatch(self.key))

    @property
    def is_forbidden_removal(self) -> bool:
        """Tell whether a ``~`` would take away more than a rule."""
        return self.sign == "~" and not _RULE.fullmatch(self.key)

    def quoted(self) -> str:
        """Return what Hydra is given."""
        sign = "++" if not self.sign and _OPEN.fullmatch(self.key) else self.sign
        if not self.is_text:
            return self.text if sign == self.sign else f"{sign}{self.text}"
        items = (item if item == "null" else quote(item) for item in (self.value or "").split(","))
        return f"{sign}{self.key}={','.join(items)}"

    def check(self, options: Callable[[str], tuple[str, ...]]) -> None:
        """Refuse a name that does not exist before Hydra says so in ten lines; ``options`` lists a group's names."""
        if is_of_launcher(self.key):
            raise ConfigError(f"{self.key} says who carries the cells of a sweep; say -m in front")
        if re.match(r"hydra\b", self.key):
            raise ConfigError(f"{self.key} is a setting of Hydra's own, and has no effect here")
        if self.key in NAMES and self.sign != "~":
            raise ConfigError(f"{self.key} is what a file is called; choose another file with {NAMES[self.key]}=")
        if self.key in LABELS and self.value is not None and self.sign != "~":
            self._check_group(self.value, options(self.key))

    def _check_group(self, value: str, known: tuple[str, ...]) -> None:
        if self.sign and self.key != "experiment":
            raise ConfigError(f"{self.text!r}: {self.key} is there already; say {self.key}={value}")
        if value in known or (value == "null" and self.key == "experiment"):
            return
        if _SEVERAL.search(value):
            raise several(self.text)
        listed = f"; there are {', '.join(known)}" if len(known) <= _LISTED else f"; {len(known)} are known"
        hint = nearest(value, known) or (listed if known else "; there are none")
        raise ConfigError(f"there is no {LABELS[self.key]} {value!r}{hint}")


def read(text: str) -> Override:
    """Take an argument apart; ConfigError if it names no key or is no text."""
    form = _FORM.fullmatch(text)
    if form is None or not form["key"]:
        raise ConfigError(f"{text!r} names no key; say key=value")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ConfigError(f"{text!r} is not valid UTF-8") from error
    return Override(text, form["sign"] or "", form["key"], form["value"])


def is_of_launcher(key: str) -> bool:
    """Say whether a key is about who carries a sweep, which Hydra calls its launcher."""
    return key == LAUNCHER or key.startswith("hydra.launcher.")


def quote(text: str) -> str:
    """Write a text so that Hydra's grammar leaves it as it is."""
    return "'" + re.sub(r"(\\*)('|$)", lambda m: m[1] * 2 + ("\\'" if m[2] else ""), text) + "'"


def several(text: str) -> ConfigError:
    """Return the error for a value that only a sweep can have."""
    return ConfigError(f"{text!r} names several values; sweep over them with -m in front")
