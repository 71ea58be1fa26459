"""What a launcher's own process does with a job: hand it to a process of its own, and return what that says.

Its process is the library's: a worker of joblib's or Ray's, or Slurm's task. Signals and threads in there are not ours.
"""

from __future__ import annotations

import collections
import signal
import socket
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

from xinfer.launching.job import Job, Outcome, packed, unpacked

LAST_WORDS = 8
"""Lines of a process that died, which may say why."""
HEAD = 8
"""Bytes that say how long the job is which follows."""


def carried_out(data: bytes) -> bytes:
    """Carry out a packed job and return the packed outcome; a process that dies is one too.

    When this process dies, the other one reads its input's end, ends what it has started, and then itself.
    """
    cwd = unpacked(data, Job).cwd
    words: collections.deque[str] = collections.deque(maxlen=LAST_WORDS)
    with (
        tempfile.TemporaryFile() as result,
        subprocess.Popen(
            [sys.executable, "-m", "xinfer.launching.errand"],
            cwd=cwd if Path(cwd).is_dir() else None,
            stdin=subprocess.PIPE, stdout=result, stderr=subprocess.PIPE,
        ) as process,
    ):  # fmt: skip
        if process.stdin is None or process.stderr is None:
            raise RuntimeError("the process has no pipes")
        try:
            process.stdin.write(len(data).to_bytes(HEAD) + data)
            process.stdin.flush()
        except BrokenPipeError:  # it has died already, and its last words say why
            with suppress(BrokenPipeError):
                process.stdin.close()
        for line in process.stderr:
            words.append(line.decode(errors="replace").rstrip())
            sys.stderr.write(f"{words[-1]}\n")
        code = process.wait()
        result.seek(0)
        return result.read() if code == 0 else packed(_death(code, words))


def _death(code: int, words: collections.deque[str]) -> Outcome:
    how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
    return Outcome(host=socket.gethostname(), failure=f"the job's process {how}", details=tuple(words))
