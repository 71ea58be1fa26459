"""Runs one installation command under the guard, and says in one line what went wrong when it fails."""

from __future__ import annotations

import os
import re
import shlex
import socket
import subprocess
import sys
from collections import deque
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from xinfer.errors import ProvisionError

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import IO

    from xinfer.plan import Argv

    Progress = Callable[[str], object]

GUARD = Path(__file__).with_name("guard.py")
GRACE_S = 5.0
"""How long a step may take to end itself when xinfer is told to stop."""
KEPT = 400
"""How many of a step's last lines are searched for what went wrong."""
DETAILS = 20
"""How many of them an error carries."""
WITH_VALUE = {"--target", "--index-url", "--extra-index-url", "--find-links", "--no-binary"}
"""pip's options that are followed by a value, as far as plans use them."""
NOT_INHERITED = {"PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "__PYVENV_LAUNCHER__"}
"""What xinfer's own interpreter was started with must not reach the engine's."""
NO_NETWORK = (
    r"Failed to establish a new connection|Temporary failure in name resolution|Name or service not known"
    r"|Connection refused|Network is unreachable|Read timed out|ConnectTimeout|ConnectError|ProxyError"
    r"|Cannot reach|LocalEntryNotFoundError"
)
REMEDIES = (
    (r"No space left on device|Errno 28", "free disk space, or choose another disk with home="),
    (NO_NETWORK, "the network did not answer: check it, and your mirror if you use one, then run it again"),
    (r"No matching distribution found", "choose a version that exists for this Python and this machine"),
    (r"ensurepip is not available", "install Python's venv module (Debian and Ubuntu: python3-venv)"),
    (r"No module named pip", "choose an interpreter that has pip, with engine.python="),
    (r"no GPU was detected", "compile on the machine that has the GPU"),
    (
        r"No CMAKE_CUDA_COMPILER|CUDA_COMPILER not set|CUDA Toolkit not found",
        "install the CUDA toolkit (nvcc), then run it again",
    ),
    (r"Failed to find ROCm|HIP_COMPILER not set", "install ROCm with its compiler, then run it again"),
    (r"Could NOT find Vulkan", "install the Vulkan SDK, then run it again"),
    (
        r"No CMAKE_C(XX)?_COMPILER could be found|CMAKE_C(XX)?_COMPILER not set",
        "install a C++ compiler (g++ or clang), then run it again",
    ),
    (r"Permission denied|Errno 13", "make the directory writable, or choose another with home="),
)
"""What the output of a failed step says, and what to do about it; the first that is found counts."""


def title(step: Argv) -> str:
    """Say in a few words what a step does."""
    words = _command(step)
    if words[1:3] == ("-m", "venv"):
        return "creating a virtual environment"
    if words[1:4] == ("-m", "pip", "install"):
        pairs = pairwise(words[3:])
        named = (word for before, word in pairs if not word.startswith("-") and before not in WITH_VALUE)
        return f"installing {' '.join(named)}"
    if words[1:2] == ("download",):
        return f"downloading {' '.join(words[2:4])}"
    return f"running {Path(words[0]).name}"


def run(step: Argv, *, progress: Progress, log: IO[bytes], hold: int) -> None:
    """Run one step to its end; ``hold`` is a descriptor that stays open until its last process is gone.

    A step whose output counts as ninja does, ``[12/268]``, tells each tenth of its way.
    """
    progress(title(step))
    log.write(f"$ {shlex.join(step)}\n".encode())
    log.flush()
    ours, theirs = socket.socketpair()
    with ours, theirs:
        argv = [sys.executable, "-I", "-S", str(GUARD), str(theirs.fileno()), str(GRACE_S), *step]
        with subprocess.Popen(
            argv,
            env=variables(),
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
    """Copy a step's output to the log until it ends, and return its last lines."""
    lines: deque[str] = deque(maxlen=KEPT)
    told = 0
    for raw in guard.stdout or ():
        log.write(raw)
        log.flush()
        line = raw.decode(errors="replace").rstrip()
        if line:
            lines.append(line)
        if counted := re.match(r"\s*\[(\d+)/(\d+)\] ", line):
            done, of = int(counted[1]), int(counted[2])
            if 10 * done // of > told:
                told = 10 * done // of
                progress(f"{doing}: {done} of {of} files")
    return list(lines)


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
    telling, remedy = _diagnosis(lines)
    message = f"{title(step)}: {Path(_command(step)[0]).name} {ending}: {telling}; {remedy}"
    return ProvisionError(message, details=tuple(lines[-DETAILS:]))


def _diagnosis(lines: list[str]) -> tuple[str, str]:
    """Return the line of a failed step's output that says most, and what to do."""
    plain = [re.sub(r"\x1b\[[0-9;]*m", "", line).strip() for line in lines]
    pattern, remedy = next(
        ((pattern, remedy) for pattern, remedy in REMEDIES if re.search(pattern, "\n".join(plain))),
        ("$^", "the log says more"),
    )
    known = [line for line in plain if re.search(pattern, line) and not line.startswith("WARNING")]
    errors = [line for line in plain if re.match(r"(ERROR|[Ee]rror|fatal|[\w.]*(Error|Exception))\b", line)]
    telling = (known or errors or plain or ["it printed nothing"])[-1]
    return re.sub(r"^(ERROR|[Ee]rror): ", "", telling)[:200].rstrip("."), remedy


def _command(step: Argv) -> Argv:
    """Return a step without a leading ``env NAME=VALUE…``."""
    if step[0] != "env":
        return step
    first = next((i for i, word in enumerate(step) if i and "=" not in word), 0)
    return step[first:]
