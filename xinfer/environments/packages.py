"""What an interpreter would import: the packages of an environment, or of the user's own Python."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from xinfer.environments import steps
from xinfer.errors import ProvisionError

if TYPE_CHECKING:
    from xinfer.plan import Argv

LISTING = """
import sys
sys.path = [place for place in sys.path if place]  # not what happens to lie in the working directory
import json
from importlib.metadata import distributions
found = {}
for each in distributions():
    name = each.metadata["Name"]
    if name and each.version:
        found.setdefault(name.lower(), f"{name}=={each.version}")  # the first on the path is imported
print(json.dumps([found[name] for name in sorted(found)]))
"""
"""What the interpreter runs to tell its packages; pip need not be there."""


def of(python: Path) -> tuple[str, ...]:
    """List the packages of an interpreter as ``name==version``, sorted by name."""
    argv = [str(python), "-c", LISTING]
    try:
        done = subprocess.run(argv, env=steps.variables(), capture_output=True, text=True, check=True)
        return msgspec.json.decode(done.stdout, type=tuple[str, ...])
    except (OSError, subprocess.CalledProcessError, msgspec.DecodeError) as error:
        message = f"{python}: its packages cannot be listed: {error}"
        raise ProvisionError(message) from error


def beside(argv: Argv) -> tuple[str, ...]:
    """List the packages of the interpreter that a command runs, or that lies beside its program; none if unknown."""
    if not argv:
        return ()
    program = Path(argv[0])
    try:
        return of(program if program.name.startswith("python") else program.with_name("python"))
    except ProvisionError:
        return ()
