"""What an engine's plugin says of deploying it: its ``deployment.yaml``, if it has one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import yaml

if TYPE_CHECKING:
    from pathlib import Path

    from xinfer.facts import Hardware
    from xinfer.plan import LaunchPlan

FILE = "deployment.yaml"
ARCHITECTURES = {"x86_64": "x86_64", "amd64": "x86_64", "aarch64": "arm64", "arm64": "arm64"}
"""What tags of images call the instruction sets that ``platform.machine()`` names."""


class Image(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A published image that has the very engine that the plan would install."""

    name: str
    """With ``{version}``, and ``{arch}`` where a tag is for one instruction set."""
    source: str
    """Where the name and the form of its tags are written down."""
    python: str = "python3"
    """The interpreter in it that has the engine."""


class Recipe(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How an engine is deployed, as far as a launch plan does not say it."""

    gpu_flags: tuple[str, ...] | None = None
    """The flags whose values multiplied are the GPUs it uses, one where there are none; null: all that it sees."""
    shm_gib: int | None = None
    """Shared memory for what its processes tell each other, where its documentation asks for more than 64 MiB."""
    images: dict[str, Image | str] = {}
    """The image for each variant of the plan, or why a container cannot have that one. Others are installed."""


def read(directory: Path) -> Recipe:
    """Return the recipe in a plugin's folder; a plugin without one is installed by its plan's own steps."""
    path = directory / FILE
    return msgspec.convert(yaml.safe_load(path.read_bytes()), Recipe) if path.is_file() else Recipe()


def image_of(recipe: Recipe, launch: LaunchPlan, hardware: Hardware) -> Image | str | None:
    """Return the image of a plan with its tag filled in, or why it can be in none; null where none is published."""
    found = recipe.images.get(launch.variant)
    if not isinstance(found, Image):
        return found
    arch = ARCHITECTURES.get(hardware.arch or "")
    if launch.version is None or ("{arch}" in found.name and arch is None):
        return None
    name = found.name.replace("{version}", launch.version).replace("{arch}", arch or "")
    return msgspec.structs.replace(found, name=name)
