"""Makes everything that a plan needs, and nothing else: what a run would do before it starts the engine."""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from xinfer import flow, judgement, record
from xinfer.environments import environment, storage
from xinfer.errors import ProvisionError
from xinfer.running.runner import terminating_as_exception
from xinfer.verbs import report

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from xinfer.config.compose import Composer
    from xinfer.environments.storage import Stored
    from xinfer.plan import LaunchPlan


class Provisioned(msgspec.Struct, frozen=True, kw_only=True):
    """What is there now, for one engine and one model."""

    schema: int = 1
    engine: str
    version: str | None
    variant: str
    environment: Stored | None
    """Null where the user's own interpreter has the engine, or the server is somebody else's."""
    weights: tuple[Stored, ...]
    """With the tools and sources that are there; none where the engine downloads for itself, or nothing has to be."""
    packages: tuple[str, ...]
    """Of the engine's interpreter, as ``name==version``."""
    seconds: float
    """How long it took this time."""


def run(config: Mapping[str, Any], composer: Composer, progress: Callable[[str], None]) -> Provisioned:
    """Judge, and make the plan's directories complete.

    Raises Refused like a run; ProvisionError with the log's place, which is kept only then.
    """
    start_s = time.perf_counter()
    with terminating_as_exception():
        planned = judgement.here(judgement.first(config, composer), composer, progress, port=None)
        launch = judgement.launched(planned)
        progress(report.summary(planned))
        packages = [] if launch.base_url else _provision(launch, flow.home(config), progress)
    return Provisioned(
        engine=launch.engine, version=launch.version, variant=launch.variant,
        environment=storage.entry(Path(launch.environment.path)) if launch.environment else None,
        weights=tuple(storage.entry(path) for each in launch.weights if (path := Path(each.path)).exists()),
        packages=tuple(packages), seconds=flow.seconds_since(start_s),
    )  # fmt: skip


def _provision(launch: LaunchPlan, home: Path, progress: Callable[[str], None]) -> list[str]:
    log = environment.logs(home, "provision") / f"{record.run_id()}.log"
    keep = False
    try:
        return environment.provision(launch, progress=progress, log=log)
    except ProvisionError as error:
        with suppress(OSError):
            keep = log.stat().st_size > 0
        error.details += (f"log: {log}",) if keep else ()
        raise
    finally:
        if not keep:
            with suppress(OSError):
                log.unlink(missing_ok=True)
                if log.parent.parent != home:
                    log.parent.rmdir()


def text(made: Provisioned) -> str:
    """Print what is there, where, and how large it is."""
    lines = [" ".join(filter(None, (made.engine, made.version, f"({made.variant})")))]
    stored = [*([made.environment] if made.environment else []), *made.weights]
    rows = [
        {"what": row.kind, "size": size(row.size_bytes), "packages": row.packages, "made in": _seconds(row.seconds),
         "path": row.path}
        for row in stored
    ]  # fmt: skip
    lines += [report.rows_text(rows)] if rows else ["nothing had to be made: its server and its model are elsewhere"]
    total = size(sum(row.size_bytes for row in stored))
    return "\n".join([*lines, f"complete after {made.seconds:.1f} s; {total}"]) + "\n"


def table(rows: Sequence[Stored], closing: str) -> str:
    """Print directories, and a closing line after their number and size."""
    shown = [
        {"name": row.name, "engine": row.engine, "version": row.version, "variant": row.variant,
         "size": size(row.size_bytes), "packages": row.packages, "made": row.made and row.made[:10],
         "last used": row.used[:10], "state": _state(row)}
        for row in rows
    ]  # fmt: skip
    total = f"{len(rows)} directories, {size(sum(row.size_bytes for row in rows))}, {closing}"
    return "\n".join([*([report.rows_text(shown)] if shown else []), total]) + "\n"


def size(count: int) -> str:
    """Write bytes as people do: in decimal megabytes."""
    return f"{count / 1e6:.1f} MB"


def _seconds(seconds: float | None) -> str | None:
    return None if seconds is None else f"{seconds:.1f} s"


def _state(row: Stored) -> str:
    return ("complete" if row.complete else "incomplete") + (", in use" if row.in_use else "")
