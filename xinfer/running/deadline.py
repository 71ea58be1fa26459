"""Ends what takes too long as an interrupt would: whatever was started in the meantime is ended on the way out."""

from __future__ import annotations

import signal
from contextlib import contextmanager
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from collections.abc import Iterator

    from xinfer.errors import EngineError


class _Overdue(SystemExit):
    """Leaves loops and tasks of asyncio, which keep every other exception to themselves."""


@contextmanager
def within(seconds: float, error: EngineError) -> Iterator[None]:
    """Raise ``error`` in the body if that is not done after so many seconds; only the main thread may use it."""
    is_done = False

    def end(*_: object) -> None:
        if not is_done:
            _end()

    before = signal.signal(signal.SIGALRM, end)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        try:
            yield
        finally:
            is_done = True
    except _Overdue:
        raise error from None
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _end() -> NoReturn:
    raise _Overdue
