"""A launch plan inside a container: which image, which command, which files of xinfer's own it needs there.

The plan itself is made for the container already: its home is the volume, its Python the image's.
"""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from xinfer.deploying import once, recipe
from xinfer.deploying.recipe import Image
from xinfer.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from xinfer.deploying.deployment import Deployment
    from xinfer.plan import Argv, Artefact

HOME = "/xinfer"
"""Where the volume is mounted: environments, models, and all that an engine keeps in its user's home."""
PYTHON = "python3"
"""What creates environments in the base image."""
BASE = "python:3.12-bookworm"
"""Python with a C compiler, which PyTorch's and Triton's compilers call; 3.12 is what all engines have wheels for."""
PROGRAMS = "/opt/xinfer"
"""Where xinfer's own programs lie in a container."""
EVERYWHERE = "0.0.0.0"  # noqa: S104 -- of a container's own network
HOME_WHY = "the volume: what is fetched, compiled or cached outlives the container"


class Container(NamedTuple):
    """What runs, and what has to be there before."""

    image: str
    image_why: str
    command: Argv
    variables: dict[str, str]
    files: dict[str, str]
    """The text of each file that lies in PROGRAMS, by name."""
    script: str
    """What fills the volume, in the base image, before the server starts; empty if nothing is needed."""


def contained(deployment: Deployment, how: str) -> Container:
    """Return a plan as a container runs it; ConfigError says what stands against it."""
    launch = deployment.launch
    if launch.environment is None:
        raise ConfigError(f"format={how}: this plan runs by an interpreter of this machine; leave engine.python= out")
    found = recipe.image_of(deployment.recipe, launch, deployment.hardware)
    if isinstance(found, str):
        raise ConfigError(f"format={how}: {found}; say format=shell")
    places = _places(deployment)
    command = tuple(places.get(word, word) for word in _listening(launch.argv, how))
    artefacts = (*(() if found else (launch.environment,)), *launch.weights)
    lines = "\n".join(once.made(_placed(artefact, places) for artefact in artefacts))
    return Container(
        image=found.name if found else BASE,
        image_why=_why(found),
        command=(found.python, *command[1:]) if found else command,
        variables={**launch.env, "HOME": HOME},
        files={place.rpartition("/")[2]: deployment.programs[path] for path, place in places.items()},
        script=f"set -eu\n{lines}\n" if lines else "",
    )


def _placed(artefact: Artefact, places: Mapping[str, str]) -> Artefact:
    """Return a directory whose steps run xinfer's programs where the container has them."""
    steps = tuple(tuple(places.get(word, word) for word in step) for step in artefact.steps)
    return msgspec.structs.replace(artefact, steps=steps)


def _why(found: Image | None) -> str:
    if found is None:
        return "no image has this very version: the plan's own steps install it, into the volume, once"
    return f"the engine's own image of this version; {found.source}"


def _places(deployment: Deployment) -> dict[str, str]:
    """Return where each of xinfer's own programs lies in the container, by its path on this machine."""
    return {path: f"{PROGRAMS}/{PurePosixPath(path).name}" for path in deployment.programs}


def _listening(argv: Argv, how: str) -> Argv:
    """Return the command with a server that others than its own container reach."""
    if "--host" not in argv[:-1]:
        raise ConfigError(f"format={how}: this engine's plan has no --host, so nobody outside its container reached it")
    at = argv.index("--host") + 1
    return (*argv[:at], EVERYWHERE, *argv[at + 1 :])


def foreign(deployment: Deployment, container: Container) -> list[str]:
    """Return the words of the command that look like paths, and are not of the container."""
    known = (HOME, PROGRAMS, *deployment.local)
    words = [part for word in container.command[1:] for part in re.split(r"[=,]", word)]
    return [
        word for word in words
        if word.startswith("/") and not any(word == place or word.startswith(f"{place}/") for place in known)
    ]  # fmt: skip
