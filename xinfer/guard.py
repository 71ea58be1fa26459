"""Stand between xinfer and an engine, and end the engine's whole process tree however xinfer ends.

What the tree would leave is removed too: its temporary files, which get a directory of their own, and the files in
shared memory that it made.

Runs as a script (``python -I -S guard.py LINK GRACE ARGV…``) and so imports nothing of xinfer. LINK is one
end of a socket pair; when the other end is shut down or its owner is gone, the tree is ended. Each report on
LINK is one line: ``temporary DIRECTORY`` and ``started PID``, or ``failed REASON``; later ``ended STATUS`` (minus a
signal's number) and ``left PID…``.
"""

from __future__ import annotations

import ctypes
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Self

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

TICK_MS = 1000
"""How often to check that the parent is still the parent: a fork of it may hold the link open."""
PAUSE_MS = 50
KILL_S = 10.0
"""How long a process may take to obey SIGKILL before it is reported as left."""
STOPS = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}
PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
IS_LINUX = sys.platform == "linux"
SHARED = "/dev/shm/"  # noqa: S108 -- where Linux shows shared memory, not where anything is written
File = tuple[str, int]
"""A path and the number of its inode: another file of the same name is another."""


class Process(NamedTuple):
    """One row of the process table."""

    parent: int
    group: int
    is_zombie: bool


Table = dict[int, Process]


def parse_stat(text: str) -> Process:
    """Read the content of Linux's ``/proc/PID/stat``; the command name in it may contain anything."""
    state, parent, group = text.rpartition(")")[2].split()[:3]
    return Process(int(parent), int(group), state == "Z")


def parse_ps(text: str) -> Table:
    """Read the output of ``ps -axo pid=,ppid=,pgid=,stat=``."""
    rows = (line.split() for line in text.splitlines())
    return {int(pid): Process(int(parent), int(group), stat[0] == "Z") for pid, parent, group, stat in rows}


def tree(table: Table, root: int, group: int = 0) -> set[int]:
    """Return the descendants of ``root``, and the members of ``group`` that lost their parents."""
    children: dict[int, list[int]] = {}
    for pid, process in table.items():
        children.setdefault(process.parent, []).append(pid)
    orphans = [pid for pid, process in table.items() if group and process.group == group]
    waiting = [*children.get(root, []), *orphans]
    found: set[int] = set()
    while waiting:
        pid = waiting.pop()
        if pid not in found:
            found.add(pid)
            waiting += children.get(pid, [])
    return found - {root}


def processes() -> Table:
    """Return the machine's process table as far as this user may see it."""
    return _table_from_proc() if IS_LINUX else _table_from_ps()


def _table_from_proc() -> Table:
    table: Table = {}
    for entry in os.scandir("/proc"):
        if entry.name.isdecimal():
            with suppress(OSError):  # it ended meanwhile
                table[int(entry.name)] = parse_stat(Path(entry.path, "stat").read_text(errors="replace"))
    return table


def _table_from_ps() -> Table:
    argv = ["/bin/ps", "-axo", "pid=,ppid=,pgid=,stat="]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as ps:
        table = parse_ps(ps.communicate()[0])
    table.pop(ps.pid, None)
    return table


def shared_files() -> set[File]:
    """Return this user's files in shared memory (Linux)."""
    found: set[File] = set()
    with suppress(OSError), os.scandir(SHARED) as entries:
        for entry in entries:
            with suppress(OSError):  # it was removed meanwhile
                stat = entry.stat(follow_symlinks=False)
                found |= {(entry.path, stat.st_ino)} if stat.st_uid == os.getuid() else set()
    return found


def parse_maps(text: str) -> set[int]:
    """Read the inodes of the shared-memory files in Linux's ``/proc/PID/maps``.

    Their paths say little: a semaphore is made under another name, by which it is listed there as deleted.
    """
    rows = (line.split(maxsplit=5) for line in text.splitlines() if SHARED in line)
    return {int(row[4]) for row in rows if row[5].startswith(SHARED)}


def mapped(pids: Iterable[int]) -> set[int]:
    """Return the inodes of the shared-memory files that processes have in their memory."""
    found: set[int] = set()
    for pid in pids:
        with suppress(OSError):  # it has ended, or is somebody else's
            found |= parse_maps(Path(f"/proc/{pid}/maps").read_text(errors="replace"))
    return found


class Traces:
    """What an engine leaves besides processes: temporary files, and semaphores and buffers in shared memory.

    Python removes the latter at the end of a process, and so not where a server kills its own children (SGLang does).
    Of what lies in shared memory, only a file goes that is younger than the engine, was in the memory of one of its
    processes, and is in no living process's.
    """

    def __init__(self) -> None:
        """Give the engine a temporary directory, and note what lies in shared memory already."""
        self.directory = tempfile.mkdtemp(prefix="xinfer-")
        os.environ["TMPDIR"] = self.directory
        self._old = self._seen = shared_files()
        self._own: set[File] = set()

    def look(self, pids: Callable[[], Iterable[int]], *, again: bool = False) -> None:
        """Note which files are the engine's: where there are new ones, or ``again`` among all younger ones."""
        there = shared_files()
        if again or not there <= self._seen:
            inodes = mapped(pids())
            self._own |= {file for file in there - self._old if file[1] in inodes}
        self._seen = there

    def __enter__(self) -> Self:
        """Return itself; the body is the engine's life."""
        return self

    def __exit__(self, *_: object) -> None:
        """Remove everything, now that the engine's processes are gone."""
        shutil.rmtree(self.directory, ignore_errors=True)
        left = self._own & shared_files()
        held = mapped(processes()) if left else set()
        for path, inode in left:
            if inode not in held:
                with suppress(OSError):
                    Path(path).unlink()


def adopt_orphans() -> None:
    """Become the parent of every descendant that loses its own (Linux), so that daemons cannot slip away."""
    if IS_LINUX:
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def start(argv: list[str]) -> subprocess.Popen[bytes]:
    """Start the engine in a process group of its own; on Linux it dies with this process."""
    libc = ctypes.CDLL(None) if IS_LINUX else None
    guard = os.getpid()

    def die_with_guard() -> None:
        if libc:
            libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != guard:  # it died before the call above
            os._exit(1)

    # The guard has a single thread, which is what makes preexec_fn safe here.
    return subprocess.Popen(argv, process_group=0, preexec_fn=die_with_guard)  # noqa: PLW1509


def signals_as_bytes() -> int:
    """Return a descriptor from which the numbers of arriving signals can be read."""
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    os.set_blocking(writing, False)
    signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    for number in (*STOPS, signal.SIGCHLD):
        signal.signal(number, lambda *_: None)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())  # a mask is inherited from the thread that started this one
    return reading


class Guard:
    """One engine, from its start until nothing of its process tree is left."""

    def __init__(self, link: int, grace_s: float) -> None:
        """Prepare; ``grace_s`` is what lies between SIGTERM and SIGKILL."""
        self._link = link
        self._grace_s = grace_s
        self._parent = os.getppid()
        self._arrivals = signals_as_bytes()
        self._root = 0
        self._is_running = False

    def run(self, argv: list[str]) -> int:
        """Start the engine, watch it, end its tree, clear up after it; return this process's own exit code."""
        adopt_orphans()
        try:
            with Traces() as traces:
                engine = start(argv)
                self._root, self._is_running = engine.pid, True
                self._report("temporary", traces.directory)
                self._report("started", engine.pid)
                self._watch(traces)
                traces.look(self._members, again=True)
                left = self._end()
        except (OSError, subprocess.SubprocessError) as error:
            if self._root:
                raise
            self._report("failed", getattr(error, "strerror", None) or error)
            return 1
        engine.returncode = 0  # reaped below, by waitpid, together with the adopted
        if left:
            self._report("left", *sorted(left))
        return 1 if left else 0

    def _report(self, *words: object) -> None:
        with suppress(OSError):  # nobody is listening any more
            os.write(self._link, (" ".join(map(str, words)) + "\n").encode())

    def _watch(self, traces: Traces) -> None:
        """Return when the engine has ended, when xinfer asks to stop or is gone, or on a signal."""
        poller = select.poll()
        poller.register(self._link, select.POLLIN)
        poller.register(self._arrivals, select.POLLIN)
        self._reap()
        while self._is_running and os.getppid() == self._parent:
            ready = {descriptor for descriptor, _ in poller.poll(TICK_MS)}
            if self._link in ready or self._is_told_to_stop():
                return
            self._reap()
            traces.look(self._members)

    def _end(self) -> set[int]:
        """Ask with SIGTERM, wait, then SIGKILL until nothing is left; a further signal ends the patience."""
        self._signal(signal.SIGTERM)
        deadline_s = time.monotonic() + self._grace_s
        while self._members() and time.monotonic() < deadline_s and not self._is_told_to_stop(PAUSE_MS):
            pass
        deadline_s = time.monotonic() + KILL_S
        while (left := self._members()) and time.monotonic() < deadline_s:
            self._signal(signal.SIGKILL)
            self._is_told_to_stop(PAUSE_MS)
        return set(left)

    def _is_told_to_stop(self, timeout_ms: int = 0) -> bool:
        """Wait for a signal, any signal, and say whether one that has arrived asks for an end."""
        poller = select.poll()
        poller.register(self._arrivals, select.POLLIN)
        return bool(poller.poll(timeout_ms)) and not STOPS.isdisjoint(os.read(self._arrivals, 4096))

    def _reap(self) -> None:
        with suppress(ChildProcessError):
            while (child := os.waitpid(-1, os.WNOHANG))[0]:
                if child[0] == self._root and self._is_running:
                    self._is_running = False
                    self._report("ended", os.waitstatus_to_exitcode(child[1]))

    def _members(self) -> Table:
        self._reap()
        table = processes()
        return {pid: table[pid] for pid in tree(table, os.getpid(), self._root)}

    def _signal(self, number: signal.Signals) -> None:
        """Signal each process of the tree once only: many servers take a second SIGTERM for "at once"."""
        members = self._members()
        with suppress(OSError):
            if any(process.group == self._root for process in members.values()):
                os.killpg(self._root, number)
        for pid, process in members.items():
            if process.group != self._root:
                with suppress(OSError):
                    os.kill(pid, number)


if __name__ == "__main__":
    sys.exit(Guard(int(sys.argv[1]), float(sys.argv[2])).run(sys.argv[3:]))
