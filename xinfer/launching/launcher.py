"""What every launcher is: it carries packed jobs, and is told by ``conf/hydra/launcher/*.yaml`` how."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, ClassVar, Protocol

import msgspec

from xinfer.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator


class Need(msgspec.Struct, frozen=True, kw_only=True):
    """What a job takes of a machine, as far as its launch plan says; null where it does not."""

    gpus: int | None = None
    cores: int | None = None


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What every launcher is told."""

    alone: bool
    retries: int


class Launcher(Protocol):
    """Carries packed jobs for as many threads as it takes jobs ``at_once``."""

    name: ClassVar[str]
    is_elsewhere: ClassVar[bool]
    """Whether its jobs run on other machines than this one."""
    settings: Settings
    at_once: int

    def call(self, job: bytes, need: Need) -> bytes:
        """Return a job's outcome; whatever is raised instead says why there is none."""

    def stop(self) -> None:
        """End what still runs."""


@contextmanager
def extra(name: str) -> Iterator[None]:
    """Say how a library is installed if its import fails."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise ConfigError(f"{name} is not installed here: pip install 'xinfer[{name}]'") from error


def at_least(least: int, key: str, value: int) -> int:
    """Return a setting's value; ConfigError if it is too small."""
    if value < least:
        raise ConfigError(f"hydra.launcher.{key}={value} must be at least {least}")
    return value
