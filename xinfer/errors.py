"""Every error xinfer raises on purpose, each with the exit code the command line ends with.

XinferError
├── ConfigError        what was asked is wrong: a key, a name, a value, a rule file    exit 2
├── Refused            the rules say no                                                exit 3
│   └── Missing            this machine lacks what the profile declares
├── EngineError        the engine broke                                                exit 4
│   ├── ProvisionError     its environment or the model's files could not be made
│   ├── StartError         it died, hung, or found its port taken before it was ready
│   ├── RequestError       it was ready, and then did not answer as a server should
│   ├── Disparity          engines answered differently, or not at all, when they were compared
│   ├── LaunchError        a launcher could not have it measured, or lost what was
│   └── Defect             xinfer itself broke while it tried a cell
├── Worse              what was measured is worse than the baseline                    exit 5
└── Unexpected         what came out is not what a matrix expects                      exit 5

A message is one line: what is wrong, where, and what would be allowed.
"""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from collections.abc import Iterable


class XinferError(Exception):
    """Base of all errors that are shown to the user as one line, without a traceback."""

    exit_code: ClassVar[int] = 1
    stage: ClassVar[str] = "xinfer"

    def __init__(self, message: str = "", *, details: tuple[str, ...] = ()) -> None:
        """Take the one line, and further lines (the end of a log) that may be shown below it."""
        super().__init__(message)
        self.details = details


class ConfigError(XinferError):
    """What the user wrote cannot be understood or is not allowed."""

    exit_code = 2
    stage = "config"


class Refused(XinferError):  # noqa: N818 -- a refusal is a verdict, not a malfunction
    """The rules refuse the cell, or this machine lacks what the profile declares."""

    exit_code = 3
    stage = "rules"


class Missing(Refused):
    """This machine is not the one that was planned for."""

    stage = "machine"


class EngineError(XinferError):
    """The engine, its environment or its server failed."""

    exit_code = 4
    stage = "engine"


class ProvisionError(EngineError):
    """An environment could not be created or a model's files could not be fetched."""

    stage = "provision"


class StartError(EngineError):
    """The server ended, hung or lost its port before it was ready."""

    stage = "start"


class RequestError(EngineError):
    """A ready server refused or broke a request that it must answer."""

    stage = "load"


class Disparity(EngineError):  # noqa: N818 -- a finding, as a refusal is
    """Engines that were to give the same answers did not; the details say where."""

    stage = "parity"


class LaunchError(EngineError):
    """Who was to measure a cell, a process or a machine, died or could not be had; the details are its last words."""

    stage = "launch"


class Defect(EngineError):  # noqa: N818 -- it is xinfer's own, and no error of the user
    """Something that xinfer did not expect ended a cell; the details say where."""

    stage = "xinfer"


class Worse(XinferError):  # noqa: N818 -- a finding, as a refusal is
    """What was measured is worse than what it was compared with; the details say which numbers."""

    exit_code = 5
    stage = "compare"


class Unexpected(XinferError):  # noqa: N818 -- a finding, as a refusal is
    """Rows of a matrix came out otherwise than expected; the details say which, and how."""

    exit_code = 5
    stage = "matrix"


def nearest(name: str, known: Iterable[str]) -> str:
    """Return ``"; did you mean 'x'?"`` for the closest known name, or an empty string."""
    lowered = {k.lower(): k for k in known}
    close = difflib.get_close_matches(name.lower(), lowered, n=1, cutoff=0.6)
    return f"; did you mean {lowered[close[0]]!r}?" if close else ""
