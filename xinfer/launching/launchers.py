"""Who can carry a sweep: joblib, submitit or Ray, by the names and keys of Hydra's launcher plugins.

The plugins themselves return nothing before the last job has ended, and nothing at all where one died; and they have
one request for resources for all jobs. So the libraries are used without them.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from xinfer.errors import ConfigError
from xinfer.launching.batch import Slurm, Submitit
from xinfer.launching.cluster import Ray
from xinfer.launching.launcher import Launcher, at_least
from xinfer.launching.pool import Joblib

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

KINDS: dict[str, Callable[[dict[str, Any]], Launcher]] = {kind.name: kind for kind in (Joblib, Submitit, Slurm, Ray)}


@contextmanager
def opened(name: str, node: dict[str, Any]) -> Iterator[Launcher]:
    """Make a launcher ready, and end with it whatever it still runs."""
    if name not in KINDS:
        raise ConfigError(f"hydra/launcher={name}: uses: must name one of {', '.join(KINDS)}")
    launcher = KINDS[name](node)
    try:
        at_least(0, "retries", launcher.settings.retries)
        yield launcher
    finally:
        launcher.stop()
