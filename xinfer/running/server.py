"""An engine's server as a process: started behind its guard, listened to, ended with all that it started."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import msgspec

from xinfer import apikey, guard
from xinfer.errors import EngineError, StartError
from xinfer.machine import probes

if TYPE_CHECKING:
    from collections.abc import Mapping

    from xinfer.plan import LaunchPlan

GUARD_S = 30.0
"""How long the guard may take for what it does at once, killing included, before it is taken for broken."""
TAIL_LINES = 20
SEARCHED_LINES = 60
"""How many of a log's last lines are searched for one that calls itself an error: some are followed by a long usage."""
TAIL_BYTES = 64 * 1024
WORDS_LENGTH = 240
WARM, COLD = 0.9, 0.1
"""The part of the weights that is in memory at least before a warm start, and at most before a cold one: their headers
have been read already."""
_ERROR = re.compile(r"\s*(ERROR|[Ee]rror|fatal|[\w.]*(Error|Exception)):")


class Startup(msgspec.Struct, frozen=True, kw_only=True):
    """How long the engine took to become useful, from ``time.perf_counter``."""

    ready_s: float
    """From the start of its process until its health endpoint said yes; late by at most 5 %, or 0.1 s."""
    first_request_s: float
    """From the question to the end of its first completion, which is one token long."""
    weights_cached: float | None = None
    """Which part of the weights' files was in memory before the start, from 0 to 1; null where that is not known."""

    @property
    def kind(self) -> Literal["cold", "warm", "mixed"] | None:
        """Whether the weights came from the disk or from memory; null where that is not known."""
        if self.weights_cached is None:
            return None
        return "warm" if self.weights_cached >= WARM else "cold" if self.weights_cached <= COLD else "mixed"


class Server:
    """An engine's server and its process tree: what the body of :func:`running` gets."""

    startup: Startup
    """Set before the body of :func:`running` begins."""

    def __init__(self, plan: LaunchPlan, log: Path, grace_s: float, api_key: str | None = None) -> None:
        """Describe a server that is not started yet; ``grace_s`` is what lies between SIGTERM and SIGKILL."""
        self.plan = plan
        self.log = log
        self.api_key = api_key
        """What the server asks for; it is in no message of this class, whoever wrote it into the log."""
        self._grace_s = grace_s
        self.pid = 0
        self.started_s = 0.0
        """``time.perf_counter`` at the start of the engine's process."""
        self.exit_status: int | None = None
        """The exit code once the engine has ended, or minus the number of the signal that ended it."""
        self._failure = ""
        self.path = ""
        """Where its first completion came from; set before the body of :func:`running` begins."""
        self.left: tuple[str, ...] = ()
        """Processes that did not even obey SIGKILL when the tree was ended."""
        self._oom_kills: int | None = None
        self._temporary = ""
        """The directory for the engine's temporary files."""
        self._unread = b""
        self._is_guarded = True
        self._link, self._guard_link = socket.socketpair()
        self._guard: subprocess.Popen[bytes] | None = None

    def is_alive(self, within_s: float = 0) -> bool:
        """Say whether the engine still runs, after waiting up to ``within_s`` for news of its end."""
        deadline_s = time.perf_counter() + within_s
        while self.exit_status is None and self._listen(max(0.0, deadline_s - time.perf_counter())):
            pass
        return self.exit_status is None and self._is_guarded

    def pids(self) -> tuple[int, ...]:
        """Return the process ids of the engine and of everything it started, as they are now."""
        if self._guard is None or self._guard.poll() is not None:
            return ()
        table = guard.processes()
        found = guard.tree(table, self._guard.pid, self.pid)
        return tuple(sorted(pid for pid in found if not table[pid].is_zombie))

    def log_tail(self, n: int = TAIL_LINES) -> tuple[str, ...]:
        """Return the last ``n`` lines of the log that are not blank."""
        try:
            with self.log.open("rb") as file:
                file.seek(max(0, file.seek(0, os.SEEK_END) - TAIL_BYTES))
                lines = apikey.hidden(file.read().decode(errors="replace"), self.api_key).splitlines()
        except OSError:  # a log that was taken away must not hide the error that it would have explained
            return ()
        return tuple(line.rstrip() for line in lines if line.strip())[-n:]

    @property
    def ending(self) -> str:
        """How the engine ended, as the rest of a sentence."""
        if self.exit_status is None:
            return "lost its guard process and was ended"
        kills = probes.oom_kills(Path("/"))
        is_starved = kills is not None and self._oom_kills is not None and kills > self._oom_kills
        if self.exit_status < 0:
            why = " by the kernel, as memory ran out" if is_starved and -self.exit_status == signal.SIGKILL else ""
            return f"was ended by {_signal_name(-self.exit_status)}{why}"
        why = "; meanwhile the kernel killed a process, as memory ran out" if is_starved else ""
        return f"ended with exit code {self.exit_status}{why}"

    def error(self, kind: type[EngineError], what: str) -> EngineError:
        """Return an error that says what happened, the log's last words, and where the log is."""
        words = " | ".join(_telling(self.log_tail(SEARCHED_LINES)))[-WORDS_LENGTH:]
        said = f"its last words: {words}" if words else "it wrote nothing"
        return kind(f"{self.plan.engine} {what}; {said}; log: {self.log}", details=self.log_tail())

    def start(self, environ: Mapping[str, str]) -> None:
        """Start the guard, which starts the engine."""
        self._oom_kills = probes.oom_kills(Path("/"))
        try:
            self._guard = self._start_guard(environ)
        except OSError as error:
            raise self.error(StartError, f"could not be started: {error}") from None
        self._guard_link.close()  # the guard's copy is the only one now, so that its end can be seen here
        while not self.pid and self._listen(GUARD_S):
            pass
        self.started_s = time.perf_counter()
        if not self.pid:
            raise self.error(StartError, f"could not be started: {self._failure or 'its guard did not'}")

    def _start_guard(self, environ: Mapping[str, str]) -> subprocess.Popen[bytes]:
        link = self._guard_link.fileno()
        script = [sys.executable, "-I", "-S", str(Path(guard.__file__).resolve())]
        with self.log.open("wb") as log:
            return subprocess.Popen(
                [*script, str(link), str(self._grace_s), *self.plan.argv],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=dict(environ),
                start_new_session=True,
                pass_fds=[link],
            )

    def stop(self) -> None:
        """End the whole tree: SIGTERM, the grace, SIGKILL; an interrupt meanwhile cuts the grace short."""
        self._guard_link.close()
        try:
            if self._guard is not None:
                self._stop(self._guard)
        finally:
            self._link.close()

    def _stop(self, process: subprocess.Popen[bytes]) -> None:
        with suppress(OSError):
            self._link.shutdown(socket.SHUT_WR)
        try:
            self._listen_out(self._grace_s + GUARD_S)
            if self._is_guarded:
                process.kill()
        except BaseException:
            process.terminate()
            self._listen_out(GUARD_S)
            raise
        finally:
            if process.wait() and self.pid:
                with suppress(OSError):  # without its guard, the group is all that is known of the tree
                    os.killpg(self.pid, signal.SIGKILL)
            if self._temporary:
                shutil.rmtree(self._temporary, ignore_errors=True)  # the guard has, unless it was killed

    def _listen_out(self, timeout_s: float) -> None:
        deadline_s = time.perf_counter() + timeout_s
        while self._is_guarded and self._listen(max(0.0, deadline_s - time.perf_counter())):
            pass

    def _listen(self, timeout_s: float) -> bool:
        """Take in what the guard reports; return false when nothing came in time, or nothing will come."""
        try:
            self._link.settimeout(timeout_s)
            news = self._link.recv(4096)
        except (TimeoutError, BlockingIOError):
            return False
        except OSError:
            news = b""
        self._is_guarded = bool(news)
        *lines, self._unread = (self._unread + news).split(b"\n")
        for line in lines:
            self._learn(*line.decode(errors="replace").split(" ", 1))
        return self._is_guarded

    def _learn(self, word: str, value: str) -> None:
        match word:
            case "started":
                self.pid = int(value)
            case "failed":
                self._failure = value
            case "ended":
                self.exit_status = int(value)
            case "left":
                self.left = tuple(value.split())
            case "temporary":
                self._temporary = value


def _telling(lines: tuple[str, ...]) -> tuple[str, ...]:
    """Return a log's last two lines, or the last that calls itself an error and the very last one."""
    errors = [line for line in lines[:-2] if _ERROR.match(line)]
    return (errors[-1], lines[-1]) if errors and not any(map(_ERROR.match, lines[-2:])) else lines[-2:]


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
