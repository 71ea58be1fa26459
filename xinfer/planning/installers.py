"""The commands that create an environment and install into it: pip's, or uv's for the same words."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from xinfer.plan import Argv

PIP = ("-m", "pip", "install", "--disable-pip-version-check")
# pip compiles what it installs; without it, an engine's first start would take seconds longer than its second.
UV = ("uv", "pip", "install", "--compile-bytecode")
UVS = {"--no-cache-dir": "--no-cache", "--force-reinstall": "--reinstall", "--pre": "--prerelease=allow"}
"""How uv spells pip's options where it spells them otherwise."""
SEARCHING = {"--extra-index-url", "--find-links", "-f"}
"""Options that add places to look for a package."""


def creation(installer: str, python: str, path: str) -> Argv:
    """Return the command that creates a virtual environment."""
    return ("uv", "venv", "--python", python, path) if installer == "uv" else (python, "-m", "venv", path)


def installation(installer: str, python: str, words: Sequence[str]) -> Argv:
    """Return the command that installs into the environment of an interpreter; ``words`` are pip's arguments."""
    return (*UV, "--python", python, *_uvs(words)) if installer == "uv" else (python, *PIP, *words)


def _uvs(words: Sequence[str]) -> Iterator[str]:
    options = [word.partition("=")[0] for word in words]
    if SEARCHING.intersection(options):
        # As pip does: the best version of all places, not the best of the first place that has any.
        yield "--index-strategy=unsafe-best-match"
    for option, word in zip(options, words, strict=True):
        yield f"{UVS.get(option, option)}{word[len(option) :]}"
