"""What a long command's output tells about its way: pip's downloads and builds, and files counted by ninja."""

from __future__ import annotations

import re

PAUSE_S = 5.0
"""The least time between two lines, unless files are counted."""
REPEAT_S = 60.0
"""How long nothing new may happen before that is said, too."""
_PHASES = (
    (r"\s*Downloading (\S+) \((\d[\d.]*) ?([kKMGT]i?B|bytes)\)", "downloading {0} ({1} {2})"),
    (r"\s*Collecting ([^\s;(]+)", "collecting {0}"),
    (r"Building wheels? for collected packages: (.+)", "building {0}"),
    (r"\s*Building (\S+==\S+)", "building {0}"),
    (r"Installing collected packages: (.+)", "installing what was downloaded"),
    (r"Prepared (\d+) packages?", "installing what was downloaded"),
)
"""Lines of pip's and uv's output, and what they mean."""
_COUNTED = re.compile(r"\s*\[(\d+)/(\d+)\] ")


class News:
    """Collects what one command is doing, and says it in a line now and then."""

    def __init__(self, doing: str, now_s: float) -> None:
        """Begin; ``doing`` is said in front of every line."""
        self._doing = doing
        self._start_s = self._told_s = now_s
        self._phase = self._told = ""
        self._tenths = 0

    def hear(self, line: str, now_s: float) -> str | None:
        """Take a line of the output in; return what must be said at once: each tenth of a compilation."""
        if counted := _COUNTED.match(line):
            done, of = int(counted[1]), max(1, int(counted[2]))
            if 10 * done // of > self._tenths:
                self._tenths, self._told_s = 10 * done // of, now_s
                return f"{self._doing}: {done} of {of} files"
        for pattern, meaning in _PHASES:
            if found := re.match(pattern, line):
                self._phase = meaning.format(*found.groups())
        return None

    def due(self, now_s: float) -> str | None:
        """Return the line that it is time for, if it is."""
        pause_s = REPEAT_S if self._phase == self._told else PAUSE_S
        if now_s - self._told_s < pause_s:
            return None
        self._told_s, self._told = now_s, self._phase
        return f"{self._doing}: {self._phase or 'still running'}, {now_s - self._start_s:.0f} s so far"
