"""The lines of a shell script that make a plan's directories complete, each once, as xinfer itself would.

They take the same locks and believe the same markers, so that a home may be shared with it. Their own marker is
another, as xinfer's tells which packages there are: what only a script has made, xinfer makes anew.
"""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from xinfer.environments.environment import MARKER
from xinfer.environments.locks import SUFFIX

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from xinfer.plan import Artefact

OWN = ".complete-by-script"


def made(artefacts: Iterable[Artefact]) -> Iterator[str]:
    """Yield the lines that fill each directory, unless it is complete; they are for a shell that stops at errors."""
    for artefact in artefacts:
        yield f"d={shlex.quote(artefact.path)}"
        yield 'mkdir -p "${d%/*}"'
        yield "("
        yield "  flock 9"
        yield f'  if [ ! -s "$d/{MARKER}" ] && [ ! -e "$d/{OWN}" ]; then'
        yield '    rm -rf "$d"'
        yield from (f"    {shlex.join(step)}" for step in artefact.steps)
        yield f'    touch "$d/{OWN}"'
        yield "  fi"
        yield f') 9>>"$d{SUFFIX}"'


def kept(artefacts: Iterable[Artefact]) -> Iterator[str]:
    """Yield the lines of bash that keep each directory from being removed, for as long as this process runs."""
    for artefact in artefacts:
        yield f"exec {{lock}}<{shlex.quote(artefact.path + SUFFIX)}"
        yield 'flock --shared "$lock"'
