"""The formats in which a plan is printed: one table, which the verb, its error messages and the usage text share."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from xinfer.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable

    from xinfer.deploying.deployment import Deployment

DOCUMENTS = ("json", "yaml")
"""The whole document: verdicts, reasons and plan."""
ARTEFACTS = ("shell", "compose", "kubernetes", "slurm", "systemd")
"""What another program runs: each is a module of this room that has a ``text``."""
NAMES = ("text", *DOCUMENTS, *ARTEFACTS)
"""All of them; the first is for people."""
SPREAD = ("shell", "slurm")
"""Those that start what serves on several machines together."""
CONTAINED = frozenset({"compose", "kubernetes"})
"""Those whose server runs in a container, which has no path of this machine."""


def text(how: str, deployment: Deployment) -> str:
    """Return an artefact; ConfigError says why there is none of this plan, and what to ask for instead."""
    if deployment.launch.nodes and how not in SPREAD:
        count = len(deployment.launch.nodes)
        able = " or ".join(SPREAD)
        raise ConfigError(f"format={how} is for one machine, and this plan for {count}; say format={able}")
    write: Callable[[Deployment], str] = import_module(f"xinfer.deploying.{how}").text
    return write(deployment)
