"""Addresses where something listens that is no server at all."""

from __future__ import annotations

import contextlib
import socket
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

HOST = "127.0.0.1"
FULL_AFTER_S = 0.2
"""A connection on this machine that takes longer than this is not going to be made."""
MOST = 64
"""Systems queue more connections than they are told to, but not so many."""


@contextlib.contextmanager
def unanswering(backlog: int = 128) -> Iterator[int]:
    """Yield a port where connections are made and nobody ever takes them, as of a process that hangs."""
    with socket.create_server((HOST, 0), backlog=backlog) as listener:
        yield listener.getsockname()[1]


@contextlib.contextmanager
def unaccepting() -> Iterator[int]:
    """Yield a port where the queue is full, so that no further connection is made or refused."""
    with contextlib.ExitStack() as stack:
        port = stack.enter_context(unanswering(0))
        for _ in range(MOST):
            waiting = stack.enter_context(socket.socket())
            waiting.settimeout(FULL_AFTER_S)
            try:
                waiting.connect((HOST, port))
            except OSError:
                break
        yield port


@contextlib.contextmanager
def refusing() -> Iterator[int]:
    """Yield a port that is taken, and where nobody listens."""
    with socket.socket() as taken:
        taken.bind((HOST, 0))
        yield taken.getsockname()[1]
