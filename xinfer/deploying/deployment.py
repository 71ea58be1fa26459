"""What every artefact is made from, and what all of them say alike: where it comes from, and why each flag is there."""

from __future__ import annotations

import math
import re
import shlex
from typing import TYPE_CHECKING

import msgspec

from xinfer.deploying.recipe import Recipe
from xinfer.errors import ConfigError
from xinfer.facts import Hardware
from xinfer.plan import LaunchPlan

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

NAME_LENGTH = 50
"""Letters of a name: a label of the domain name system has 63, of which a cluster adds some."""
MARGIN = 1.25
"""What a server is allowed beside the estimate of its main memory, which is no upper bound."""


class Deployment(msgspec.Struct, frozen=True, kw_only=True):
    """A launch plan, and what is known of the place where it shall run."""

    launch: LaunchPlan
    hardware: Hardware
    recipe: Recipe = Recipe()
    typed: tuple[str, ...] = ()
    """The words behind ``xinfer plan``."""
    about: dict[str, str] = {}
    """What the engine, the model and the machine are called."""
    family: str = ""
    local: tuple[str, ...] = ()
    """The model's file or folder, and what else of it lies beside, where it is one of this machine."""
    hub: str | None = None
    """Who has the model, or what it is made from."""
    stored_gib: float | None = None
    """What is fetched of the model, and made of it; null where that is not known."""
    key: str | None = None
    """The environment variable with the key that the server asks for."""
    start_timeout_s: float = 600
    programs: dict[str, str] = {}
    """The text of xinfer's own programs that the plan runs, by path."""


def name(deployment: Deployment) -> str:
    """Return what the service is called, as a label of the domain name system."""
    label = re.sub(r"[^a-z0-9]+", "-", deployment.family.lower()).strip("-")[:NAME_LENGTH].rstrip("-")
    return f"xinfer-{label}" if label else "xinfer"


def comments(deployment: Deployment, notes: Mapping[str, str], changed: Mapping[str, str]) -> Iterator[str]:
    """Yield the comment lines that an artefact begins with.

    ``notes`` are about the artefact itself, each with what it is about; ``changed`` are flags that have another reason
    here than in the plan.
    """
    launch = deployment.launch
    command = shlex.join(["xinfer", "plan", *deployment.typed])
    yield _comment(f"made by: {command}")
    yield from (_comment(f"{what}: {text}") for what, text in deployment.about.items())
    yield "#"
    yield "# why each flag and variable is there:"
    yield from _table({**launch.because, **{flag: why for flag, why in changed.items() if flag in launch.because}})
    if notes:
        yield "#"
        yield "# about this file:"
        yield from _table(notes)
    if launch.notes:
        yield "#"
        yield from (_comment(f"note: {note}") for note in launch.notes)


def _table(rows: Mapping[str, str]) -> Iterator[str]:
    width = max(map(len, rows), default=0)
    yield from (_comment(f"  {key:<{width}}  {text}") for key, text in rows.items())


def _comment(text: str) -> str:
    """Return one line of comment, whatever the values in it are."""
    return "# " + "".join(letter if letter.isprintable() else " " for letter in text).rstrip(" \\")


def gpus(deployment: Deployment) -> int:
    """Return how many GPUs the server uses."""
    launch, flags = deployment.launch, deployment.recipe.gpu_flags
    if launch.device == "cpu":
        return 0
    if flags is None:
        return deployment.hardware.gpus or 1
    used = 1
    for flag, value in zip(launch.argv, launch.argv[1:], strict=False):
        used *= int(value) if flag in flags and value.isdecimal() else 1
    return used


def memory_gib(deployment: Deployment) -> tuple[int, int] | None:
    """Return the main memory that the server needs and may have, in whole GiB; null where it is not known.

    What a GPU's server needs beside the GPU is not estimated.
    """
    total = deployment.launch.memory.total_gib
    if deployment.launch.device != "cpu" or total is None:
        return None
    return math.ceil(total), math.ceil(total * MARGIN)


def takes_token(deployment: Deployment, *, installing: bool) -> bool:
    """Say whether a token of Hugging Face's hub may be needed: while the weights are made, or else by the server."""
    return deployment.hub == "huggingface" and bool(deployment.launch.weights) is installing


def check_linux(deployment: Deployment, how: str) -> None:
    """Refuse a plan for another system; ConfigError says what there is instead."""
    system = deployment.hardware.os
    if system not in {"linux", None}:
        named = {"darwin": "macOS", "windows": "Windows"}[system]
        raise ConfigError(f"format={how}: this plan is for {named}, and that is for Linux; say format=shell, or hw=")
