"""A plan as commands to paste: no comments, which an interactive zsh does not take for comments."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from xinfer.deploying.deployment import Deployment


def text(deployment: Deployment) -> str:
    """Return the install commands and the launch command, each a line, unless a word has a line end in it."""
    return "".join(f"{line}\n" for line in deployment.launch.shell())
