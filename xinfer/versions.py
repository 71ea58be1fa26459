"""Versions of engines as conditions bound themselves to them: read once, compared in numbers, never as text."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Literal

import msgspec

from xinfer.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from packaging.version import Version

Outside = Literal["not yet", "no more"]
"""Why a condition says nothing of a version: its first one is later, or its last one was earlier."""


class Bounds(msgspec.Struct, frozen=True, kw_only=True):
    """Where a condition begins and ends: the first version that has it, and the first that has not."""

    since: Version | None
    until: Version | None

    def outside(self, version: str | None) -> Outside | bool | None:
        """Return why a version lies outside, false where it lies within, null where nobody can tell."""
        found = None if version is None else read(version)
        if found is None:
            return None
        if self.since is not None and found < self.since:
            return "not yet"
        return "no more" if self.until is not None and found >= self.until else False


@lru_cache(maxsize=1024)
def read(text: str) -> Version | None:
    """Read a version; null for what is none, as a build from a branch may call itself anything."""
    from packaging.version import InvalidVersion, Version  # noqa: PLC0415 -- only who reads a version pays for it

    try:
        return Version(text)
    except InvalidVersion:
        return None


def bounds(since: str | None, until: str | None, where: str) -> Bounds | None:
    """Compile a condition's bounds; ConfigError names ``where`` for what is no version, or no range."""
    if since is None and until is None:
        return None
    first, end = (checked(text, f"{where}: {key}") for key, text in (("since", since), ("until", until)))
    if first is not None and end is not None and first >= end:
        message = f"{where}: since {since} is not before until {until}, so no version has the condition"
        raise ConfigError(message)
    return Bounds(since=first, until=end)


def checked(text: str | None, where: str) -> Version | None:
    """Read a version that somebody wrote down; ConfigError for what is none."""
    found = None if text is None else read(text)
    if text is not None and found is None:
        message = f"{where}: {text!r} is no version; write it as 0.24.0"
        raise ConfigError(message)
    return found


def said(since: str | None, until: str | None) -> str:
    """Say which versions a condition is about."""
    parts = (since and f"since version {since}", until and f"before version {until}")
    return " and ".join(part for part in parts if part)


def way_out(since: str | None, until: str | None, releases: Sequence[str]) -> str | None:
    """Name the versions in which the condition is not in force: the last release before it, the first one after it."""
    first = None if since is None else read(since)
    earlier = [text for text in releases if first is not None and (found := read(text)) is not None and found < first]
    before = f"engine.version={earlier[-1]}" if earlier else since and f"an engine.version before {since}"
    return " or ".join(part for part in (before, until and f"engine.version={until}") if part) or None
