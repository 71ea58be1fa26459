"""Runs one installation command under the guard, and says in one line what went wrong when it fails."""

from __future__ import annotations

import os
import re
import select
import shlex
import socket
import subprocess
import sys
import time
from collections import deque
from contextlib import suppress
from itertools import pairwise, takewhile
from pathlib import Path
from typing import TYPE_CHECKING

from xinfer.environments import remedies
from xinfer.environments.news import News
from xinfer.errors import ProvisionError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import IO

    from xinfer.plan import Argv

    Progress = Callable[[str], object]

GUARD = Path(__file__).parents[1] / "guard.py"
GRACE_S = 5.0
"""How long a step may take to end itself when xinfer is told to stop."""
TICK_MS = 1000
"""How often to see whether it is time for a line of progress."""
KEPT = 400
"""How many of a step's last lines are searched for what went wrong."""
DETAILS = 20
"""How many of them an error carries."""
NAMED = 3
"""How many packages a title names."""
WITH_VALUE = {
    *("--target", "--index-url", "--extra-index-url", "--find-links", "--no-binary", "--only-binary"),
    *("--python", "--index-strategy", "--prerelease"),
}
"""Options of pip and uv that are followed by a value, as far as plans use them."""
CONVERSION, PLACE = re.compile(r"gguf_to_\w+"), 4
"""The programs that make one format from another, and which of their words is what they make."""
NOT_INHERITED = {"PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "__PYVENV_LAUNCHER__"}
"""What xinfer's own interpreter was started with must not reach the engine's."""


def title(step: Argv) -> str:
    """Say in a few words what a step does."""
    words = _command(step)
    name = program(step)
    if words[1:3] == ("-m", "venv") or (name, *words[1:2]) == ("uv", "venv"):
        return "creating a virtual environment"
    if words[1:4] == ("-m", "pip", "install") or (name, *words[1:3]) == ("uv", "pip", "install"):
        start = words.index("install")
        pairs = pairwise(words[start:])
        named = [word for before, word in pairs if not word.startswith("-") and before not in WITH_VALUE]
        more = f" and {len(named) - NAMED + 1} more" if len(named) > NAMED else ""
        return f"installing {' '.join(named[: NAMED - 1] if more else named)}{more}"
    if words[1:2] == ("download",):
        return f"downloading {' '.join(takewhile(lambda word: not word.startswith('-'), words[2:4]))}"
    if CONVERSION.fullmatch(Path(words[2]).stem if len(words) > PLACE else ""):
        return f"making {Path(words[PLACE]).name}"
    return f"running {name}"


def program(step: Argv) -> str:
    """Return the name of the program that a step runs."""
    return Path(_command(step)[0]).name


def run(step: Argv, *, progress: Progress, log: IO[bytes], hold: int) -> None:
    """Run one step to its end; ``hold`` is a descriptor that stays open until its last process is gone.

    What the step's output tells of its way is said every few seconds; if it counts as ninja does, ``[12/268]``, at
    each tenth.
    """
    progress(title(step))
    log.write(f"$ {shlex.join(step)}\n".encode())
    log.flush()
    ours, theirs = socket.socketpair()
    with ours, theirs:
        argv = [sys.executable, "-I", "-S", str(GUARD), str(theirs.fileno()), str(GRACE_S), *step]
        with subprocess.Popen(
            argv,
            env=variables() | {"COLUMNS": "1000"},  # uv breaks its sentences where it takes the terminal to end
            pass_fds=(theirs.fileno(), hold),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        ) as guard:
            theirs.close()
            try:
                lines = _follow(guard, title(step), progress, log)
            finally:
                with suppress(OSError):  # the guard is gone already
                    ours.shutdown(socket.SHUT_WR)
                guard.wait()
        reports = _reports(ours)
    if reports.get("ended") != "0":
        raise _failure(step, reports, lines)


def variables() -> dict[str, str]:
    """Return the environment variables that commands of an engine's environment run with."""
    kept = {name: value for name, value in os.environ.items() if name not in NOT_INHERITED}
    return kept | {"PIP_NO_INPUT": "1"}


def _follow(guard: subprocess.Popen[bytes], doing: str, progress: Progress, log: IO[bytes]) -> list[str]:
    """Copy a step's output to the log until it ends, telling how far it is, and return its last lines."""
    lines: deque[str] = deque(maxlen=KEPT)
    news = News(doing, time.monotonic())
    for raw in _output(guard):
        now_s = time.monotonic()
        said = None
        if raw is not None:
            log.write(raw)
            log.flush()
            line = raw.decode(errors="replace").rstrip().rpartition("\r")[2]  # the last state of a progress bar
            lines.extend([line] if line else [])
            said = news.hear(line, now_s)
        if said := said or news.due(now_s):
            progress(said)
    return list(lines)


def _output(guard: subprocess.Popen[bytes]) -> Iterator[bytes | None]:
    """Yield each line of a step's output as it comes, and None whenever none has come for a while."""
    if guard.stdout is None:  # it is a pipe
        return
    descriptor, rest = guard.stdout.fileno(), b""
    poller = select.poll()
    poller.register(descriptor, select.POLLIN)
    while True:
        if not poller.poll(TICK_MS):
            yield None
            continue
        if not (part := os.read(descriptor, 1 << 16)):
            break
        *whole, rest = (rest + part).split(b"\n")
        yield from (line + b"\n" for line in whole)
    if rest:
        yield rest


def _reports(link: socket.socket) -> dict[str, str]:
    """Return what the guard reported, by the first word of each line."""
    text = b""
    while part := link.recv(4096):
        text += part
    return {word: rest for word, _, rest in (line.partition(" ") for line in text.decode().splitlines())}


def _failure(step: Argv, reports: dict[str, str], lines: list[str]) -> ProvisionError:
    if reason := reports.get("failed"):
        return ProvisionError(f"{title(step)}: {step[0]} cannot be run: {reason}")
    status = reports.get("ended", "an unknown status")
    ending = f"was ended by signal {status[1:]}" if status.startswith("-") else f"exited with {status}"
    telling, remedy = remedies.diagnosis(lines)
    message = f"{title(step)}: {program(step)} {ending}: {telling}; {remedy}"
    return ProvisionError(message, details=tuple(lines[-DETAILS:]))


def _command(step: Argv) -> Argv:
    """Return a step without a leading ``env NAME=VALUE…``."""
    if step[0] != "env":
        return step
    first = next((i for i, word in enumerate(step) if i and "=" not in word), 0)
    return step[first:]
