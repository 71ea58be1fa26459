"""Makes a plan's directories complete: the engine's environment and the model's files, each exactly once.

A directory is complete when the marker in it says which commands filled it. The marker is written last,
so whatever a killed installation left is made again.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import tempfile
import time
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from xinfer.environments import locks, packages, steps
from xinfer.errors import ProvisionError
from xinfer.sources import fetched

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import IO

    from xinfer.environments.steps import Progress
    from xinfer.plan import Argv, Artefact, LaunchPlan

MARKER = ".complete.json"
_TOOL = re.compile(r".*/environments/(tool-[a-z_]+)-[0-9a-f]{8}(/.*)")
"""A program of a tool's environment, whose name ends in a hash that depends on the Python which made it."""
_PROGRAM = re.compile(r"/.*/(?=\w+\.py$)")
"""Where a program lies that fills a directory: xinfer's own, or a plugin's."""
READ_ONLY = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})
HOW_TO_GET = {"uv": "install it (pip install uv), or say installer=pip"}
"""Programs of steps that a machine may lack, and what to do then."""


class Marker(msgspec.Struct, frozen=True, kw_only=True):
    """What a complete directory records about itself."""

    steps: tuple[tuple[str, ...], ...]
    resolved: tuple[str, ...]
    """The packages of a virtual environment, as ``name==version``."""
    made: str
    seconds: float


def provision(plan: LaunchPlan, *, progress: Progress, log: Path) -> list[str]:
    """Make the plan's directories complete and return the packages of the engine's environment.

    What is only a source of something complete is left as it is. Where the plan uses the user's own interpreter, its
    packages are listed each time. Whatever interrupts it, the running command is ended and its directory removed;
    after a SIGKILL, the directory is made anew the next time.
    """
    _check_programs(plan)
    with _refusals(str(log)):
        log.parent.mkdir(parents=True, exist_ok=True)
        output = log.open("ab")
    with output:
        resolved = {artefact.path: _complete(artefact, plan, progress, output) for artefact in roots(plan)}
    return list(resolved[plan.environment.path] if plan.environment else packages.beside(plan.argv))


def logs(home: Path, place: str) -> Path:
    """Return a home's directory for logs, or a temporary one: a home that others fill may be for reading only."""
    directory = home / place
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=directory):
            return directory
    except OSError:
        return Path(tempfile.mkdtemp(prefix=f"xinfer-{place}-"))


def marker(artefact: Artefact) -> Marker | None:
    """Return the record of a directory that exactly these steps have filled, or None."""
    found = read(Path(artefact.path))
    return found if found and _portable(found.steps) == _portable(artefact.steps) else None


def _portable(commands: Iterable[Argv]) -> tuple[Argv, ...]:
    """Return steps with programs and tools by name.

    Two checkouts that share a home have the programs in two places; whether they are the same, the name of a directory
    says, which has a hash of them. Two versions of Python have a tool each, and what it fetches or makes is the same.
    """
    return tuple(tuple(_PROGRAM.sub("", _TOOL.sub(r"\1\2", word)) for word in step) for step in commands)


def read(directory: Path) -> Marker | None:
    """Return what a complete directory records about itself; None for any other."""
    try:
        return msgspec.json.decode((directory / MARKER).read_bytes(), type=Marker)
    except (OSError, msgspec.DecodeError):
        return None


def roots(plan: LaunchPlan) -> list[Artefact]:
    """Return the directories that the engine itself needs, without those that only lead to them."""
    sources = [source for artefact in plan.weights for source in _sources(artefact, plan)]
    named = [a for a in plan.weights if a not in sources or any(_names(word, a) for word in plan.argv)]
    return [*([plan.environment] if plan.environment else []), *named]


@contextmanager
def used(plan: LaunchPlan) -> Iterator[None]:
    """Keep the plan's directories from being removed or made anew for the length of the body."""
    with ExitStack() as stack:
        for artefact in roots(plan):
            stack.enter_context(_kept(artefact))
        yield


@contextmanager
def _kept(artefact: Artefact) -> Iterator[None]:
    directory = Path(artefact.path)
    with ExitStack() as stack:
        with _refusals(artefact.path):
            # Whoever makes it anew now makes the same thing.
            stack.enter_context(locks.held(directory, is_shared=True, waiting=lambda: None))
        if marker(artefact) is None:
            raise ProvisionError(f"{artefact.path} was removed while it was about to be used; run it again")
        yield


def _sources(artefact: Artefact, plan: LaunchPlan) -> list[Artefact]:
    """Return what must be there while an artefact is made: the tools and files that its steps name."""
    words = [word for step in artefact.steps for word in step]
    others = (other for other in plan.weights if other != artefact)
    return [other for other in others if any(_names(word, other) for word in words)]


def _names(word: str, artefact: Artefact) -> bool:
    return word == artefact.path or word.startswith(f"{artefact.path}/")


def _check_programs(plan: LaunchPlan) -> None:
    """Refuse to begin what a missing program would end half-way."""
    for artefact in roots(plan):
        for step in artefact.steps if marker(artefact) is None else ():
            name = steps.program(step)
            if name in HOW_TO_GET and shutil.which(name) is None:
                raise ProvisionError(f"{name} is not on PATH: {HOW_TO_GET[name]}")


@contextmanager
def _refusals(path: str) -> Iterator[None]:
    """Turn what the file system refuses into one line."""
    try:
        yield
    except OSError as error:
        remedy = "free or unlock it"
        if error.errno in READ_ONLY:
            remedy = "not all that the plan needs is in this home, and you cannot write there; unlock it"
        message = f"{error.filename or path}: {error.strerror}; {remedy}, or choose another home="
        raise ProvisionError(message) from error


def _complete(artefact: Artefact, plan: LaunchPlan, progress: Progress, log: IO[bytes]) -> tuple[str, ...]:
    directory = Path(artefact.path)

    def waiting_for(doing: str) -> Callable[[], object]:
        return lambda: progress(f"waiting for another xinfer that is {doing} {directory}")

    with _refusals(artefact.path):
        with locks.held(directory, is_shared=True, waiting=waiting_for("making")):
            if found := _usable(artefact, plan):
                return found.resolved
        with locks.held(directory, waiting=waiting_for("making or using")) as lock:
            try:
                found = _usable(artefact, plan) or _make(artefact, plan, progress, log, lock)
            finally:
                if not directory.exists():
                    locks.of(directory).unlink(missing_ok=True)
            return found.resolved


def _usable(artefact: Artefact, plan: LaunchPlan) -> Marker | None:
    """Return the record of a directory that is as it was made; its time tells when that was last asked."""
    found = marker(artefact)
    if found is None or _missing(artefact, plan):
        return None
    with suppress(PermissionError):  # a home that others fill
        os.utime(Path(artefact.path) / MARKER)
    return found


def _make(artefact: Artefact, plan: LaunchPlan, progress: Progress, log: IO[bytes], lock: int) -> Marker:
    """Run the steps into a fresh directory; remove it again unless every one succeeds.

    A running step holds the lock too: when xinfer is killed, nobody starts before its last process is gone.
    """
    directory = Path(artefact.path)
    _remove(directory)
    try:
        with ExitStack() as stack:
            for source in _sources(artefact, plan):
                _complete(source, plan, progress, log)
                stack.enter_context(_kept(source))
            start_s = time.monotonic()
            for number, step in enumerate(artefact.steps, 1):
                steps.run(step, progress=progress, log=log, hold=lock)
                if artefact.is_model:
                    fetched.check(directory, is_whole=number == len(artefact.steps))
        _check(artefact, plan)
        is_environment = (directory / "pyvenv.cfg").is_file()
        found = Marker(
            steps=_portable(artefact.steps),
            resolved=packages.of(directory / "bin" / "python") if is_environment else (),
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
    """Return the files of the directory that the launch command or another directory's steps name and that lack."""
    steps_of_others = (step for other in plan.weights if other != artefact for step in other.steps)
    words = (word for command in (plan.argv, *steps_of_others) for word in command)
    return [word for word in words if word.startswith(f"{artefact.path}/") and not Path(word).exists()]


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
