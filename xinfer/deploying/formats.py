"""The formats in which a plan is printed: one table, which the verb, its error messages and the usage text share."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from xinfer.deploying.deployment import Deployment

DOCUMENTS = ("json", "yaml")
"""The whole document: verdicts, reasons and plan."""
ARTEFACTS = ("shell", "compose", "kubernetes", "slurm", "systemd")
"""What another program runs: each is a module of this room that has a ``text``."""
NAMES = ("text", *DOCUMENTS, *ARTEFACTS)
"""All of them; the first is for people."""
CONTAINED = frozenset({"compose", "kubernetes"})
"""Those whose server runs in a container, which has no path of this machine."""


def text(how: str, deployment: Deployment) -> str:
    """Return an artefact; ConfigError says why there is none of this plan, and what to ask for instead."""
    write: Callable[[Deployment], str] = import_module(f"xinfer.deploying.{how}").text
    return write(deployment)
