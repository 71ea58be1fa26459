"""What an engine leaves besides processes: the guard removes what was the engine's, and nothing else."""

from __future__ import annotations

import mmap
import os
import socket
import subprocess
import sys
import tempfile
import uuid
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from xinfer import guard
from xinfer.guard import SHARED, Traces

if TYPE_CHECKING:
    from collections.abc import Iterator

ENGINE = """
import mmap, multiprocessing, os, signal, sys, tempfile
signal.signal(signal.SIGTERM, signal.SIG_IGN)
with open(sys.argv[1], "x+b") as file:
    file.truncate(4096)
    buffer = mmap.mmap(file.fileno(), 4096)
lock = multiprocessing.get_context("spawn").Lock()
print(tempfile.mkstemp()[1], lock._semlock.name, flush=True)
signal.pause()
"""
"""Makes a buffer and a semaphore in shared memory, and a temporary file, and has to be killed."""


@pytest.fixture
def shared() -> Iterator[Path]:
    """Return a path in shared memory where nothing is."""
    path = Path(SHARED, f"xinfer-test-{uuid.uuid4().hex}")
    yield path
    path.unlink(missing_ok=True)


@contextmanager
def mapping(path: Path) -> Iterator[None]:
    """Have a file in this process's memory."""
    with path.open("a+b") as file:
        file.truncate(mmap.PAGESIZE)
        with mmap.mmap(file.fileno(), mmap.PAGESIZE):
            yield


@contextmanager
def guarded(shared: Path, temporary: Path) -> Iterator[tuple[Path, Path]]:
    """Run the engine behind its guard; yield the paths of its temporary file and of its semaphore."""
    link, theirs = socket.socketpair()
    script = [sys.executable, "-I", "-S", guard.__file__, str(theirs.fileno()), "0.1"]
    with subprocess.Popen(
        [*script, sys.executable, "-c", ENGINE, str(shared)],
        stdout=subprocess.PIPE, text=True, pass_fds=[theirs.fileno()], env={**os.environ, "TMPDIR": str(temporary)},
    ) as process, link:  # fmt: skip
        theirs.close()
        assert process.stdout
        file, semaphore = process.stdout.readline().split()
        yield Path(file), Path(SHARED, f"sem.{semaphore.removeprefix('/')}")
        link.shutdown(socket.SHUT_WR)
        assert process.wait() == 0


def test_nothing_is_left(shared: Path, tmp_path: Path) -> None:
    """An engine that was killed can clear up nothing; its guard does."""
    with guarded(shared, tmp_path) as (file, semaphore):
        assert all(path.exists() for path in (shared, semaphore, file))
        assert file.parent.parent == tmp_path
    assert not any(path.exists() for path in (shared, semaphore))
    assert list(tmp_path.iterdir()) == []


def test_what_somebody_else_still_has(shared: Path, tmp_path: Path) -> None:
    """A buffer that the engine made and another process has in its memory stays."""
    with ExitStack() as stack:
        with guarded(shared, tmp_path):
            stack.enter_context(mapping(shared))
        assert shared.exists()


@pytest.fixture
def traces(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Traces:
    """Return the traces of an engine that starts now."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    return Traces()


def here() -> list[int]:
    """Return this process, which takes the engine's part."""
    return [os.getpid()]


def test_a_file_is_noted_while_its_maker_lives(shared: Path, traces: Traces) -> None:
    """A crash leaves nobody to ask, so new files are looked at as they come."""
    with traces:
        with mapping(shared):
            traces.look(here)
        traces.look(list, again=True)
    assert not shared.exists()


def test_the_processes_are_looked_at_only_for_a_new_file(shared: Path, traces: Traces) -> None:
    """Reading their memory maps takes time, which is the engine's."""
    with traces:
        traces.look(pytest.fail)
        with mapping(shared):
            traces.look(here)
            traces.look(pytest.fail)


@pytest.mark.parametrize("is_older", [True, False], ids=["older-than-the-engine", "of-no-process-of-the-engine"])
def test_what_was_never_the_engines(
    shared: Path,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    is_older: bool,  # noqa: FBT001
) -> None:
    """It stays, though nobody has it in memory any more."""
    if is_older:
        shared.touch()
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    with Traces() as traces, mapping(shared):
        traces.look(here if is_older else list, again=True)
    assert shared.exists()
