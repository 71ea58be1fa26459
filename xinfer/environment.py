"""Makes a plan's directories complete: the engine's environment and the model's files, each exactly once.

A directory is complete when the marker in it says which commands filled it. The marker is written last,
so whatever a killed installation left is made again.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import time
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from xinfer import steps
from xinfer.errors import ProvisionError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import IO

    from xinfer.plan import Artefact, LaunchPlan
    from xinfer.steps import Progress

MARKER = ".complete.json"


class Marker(msgspec.Struct, frozen=True, kw_only=True):
    """What a complete directory records about itself."""

    steps: tuple[tuple[str, ...], ...]
    resolved: tuple[str, ...]
    """The packages of a virtual environment, as ``name==version``."""
    made: str
    seconds: float


def provision(plan: LaunchPlan, *, progress: Progress, log: Path) -> list[str]:
    """Make the plan's directories complete and return the packages of the engine's environment.

    Where the plan uses the user's own interpreter, its packages are listed each time. Whatever interrupts it, the
    running command is ended and its directory removed; after a SIGKILL, the directory is made anew the next time.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        packages = _complete(plan.environment, plan, progress, output) if plan.environment else _foreign(plan)
        for artefact in plan.weights:
            _complete(artefact, plan, progress, output)
    return list(packages)


def marker(artefact: Artefact) -> Marker | None:
    """Return the record of a directory that exactly these steps have filled, or None."""
    try:
        found = msgspec.json.decode((Path(artefact.path) / MARKER).read_bytes(), type=Marker)
    except (OSError, msgspec.DecodeError):
        return None
    return found if found.steps == artefact.steps else None


def _complete(artefact: Artefact, plan: LaunchPlan, progress: Progress, log: IO[bytes]) -> tuple[str, ...]:
    try:
        with _locked(artefact, progress) as lock:
            found = marker(artefact)
            if found is None or _missing(artefact, plan):
                found = _make(artefact, plan, progress, log, lock)
            os.utime(Path(artefact.path) / MARKER)  # its time says when the directory was last used
            return found.resolved
    except OSError as error:
        message = f"{error.filename or artefact.path}: {error.strerror}; free or unlock it, or choose another home="
        raise ProvisionError(message) from error


@contextmanager
def _locked(artefact: Artefact, progress: Progress) -> Iterator[int]:
    """Hold the lock beside the directory and yield its descriptor."""
    path = Path(f"{artefact.path}.lock")
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            progress(f"waiting for another xinfer that is making {artefact.path}")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield file.fileno()


def _make(artefact: Artefact, plan: LaunchPlan, progress: Progress, log: IO[bytes], lock: int) -> Marker:
    """Run the steps into a fresh directory; remove it again unless every one succeeds.

    A running step holds the lock too: when xinfer is killed, nobody starts before its last process is gone.
    """
    directory = Path(artefact.path)
    start_s = time.monotonic()
    _remove(directory)
    try:
        for step in artefact.steps:
            steps.run(step, progress=progress, log=log, hold=lock)
        _check(artefact, plan)
        found = Marker(
            steps=artefact.steps,
            resolved=_packages(directory / "bin" / "python") if artefact == plan.environment else (),
            made=datetime.now(UTC).isoformat(timespec="seconds"),
            seconds=round(time.monotonic() - start_s, 1),
        )
        _write(directory / MARKER, msgspec.json.encode(found))
    except BaseException:
        _remove(directory)
        raise
    return found


def _check(artefact: Artefact, plan: LaunchPlan) -> None:
    if missing := _missing(artefact, plan):
        message = f"{missing[0]} is not there, though every step succeeded: not what was planned has been fetched"
        raise ProvisionError(message)


def _missing(artefact: Artefact, plan: LaunchPlan) -> list[str]:
    """Return the files of the directory that the launch command names and that are not there."""
    named = (word for word in plan.argv if word.startswith(f"{artefact.path}/"))
    return [word for word in named if not Path(word).exists()]


def _remove(directory: Path) -> None:
    if directory.is_symlink() or directory.is_file():
        directory.unlink()
    elif directory.exists():
        shutil.rmtree(directory)


def _write(path: Path, content: bytes) -> None:
    """Write a file that is either whole or absent, whenever the machine stops."""
    partial = path.with_suffix(".partial")
    with partial.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def _foreign(plan: LaunchPlan) -> tuple[str, ...]:
    """List the packages of the user's own interpreter; none where it cannot tell."""
    if not plan.argv:
        return ()
    program = Path(plan.argv[0])
    try:
        return _packages(program if program.name.startswith("python") else program.with_name("python"))
    except ProvisionError:
        return ()


def _packages(python: Path) -> tuple[str, ...]:
    argv = [str(python), "-m", "pip", "list", "--format=freeze", "--disable-pip-version-check"]
    try:
        done = subprocess.run(argv, env=steps.variables(), capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        message = f"{python}: its packages cannot be listed: {error}"
        raise ProvisionError(message) from error
    return tuple(line for line in done.stdout.splitlines() if "==" in line)
