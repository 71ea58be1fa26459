"""A completion server with exactly known behaviour, to hold a client's numbers against the truth.

It does what a :class:`Behaviour` says and logs what it really did, on the clock that clients on the same
machine use too. Its HTTP is written by hand, so that it shares no bug with a client's library.

    python -m xinfer.testing.reference_server --port 0 --behaviour '{"ttft_s": 0.05, "gap_s": 0.01}'

prints the port. ``PUT /behaviour`` replaces the behaviour and empties the log; ``GET /log`` returns it.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import os
import ssl
import subprocess
import sys
import threading
import urllib.request
from typing import TYPE_CHECKING

import msgspec
import uvloop

from xinfer.testing.reference_behaviour import Behaviour, Served
from xinfer.testing.reference_clock import Clock
from xinfer.testing.reference_connection import Connection, tokens

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["Behaviour", "ReferenceServer", "Remote", "Served", "serving", "spawned", "tokens"]

BACKLOG = 4096


class ReferenceServer:
    """Serves one behaviour at a time on a loopback port."""

    def __init__(self, behaviour: Behaviour, tls: ssl.SSLContext | None = None) -> None:
        self.behaviour = behaviour
        self.log: list[Served] = []
        self.port = 0
        self.connections = 0
        """How many have been accepted."""
        self.open: set[Connection] = set()
        self._tls = tls
        self._stopped = asyncio.Event()

    @property
    def url(self) -> str:
        """The base address, without ``/v1``."""
        return f"{'http' if self._tls is None else 'https'}://127.0.0.1:{self.port}"

    async def serve(self, port: int, ready: Callable[[], object]) -> None:
        """Answer on a loopback port until stopped; port 0 takes a free one."""
        self._loop = asyncio.get_running_loop()
        self.clock = Clock(self._loop)
        self._server = await self._loop.create_server(
            lambda: Connection(self), "127.0.0.1", port, backlog=BACKLOG, ssl=self._tls
        )
        self.port = self._server.sockets[0].getsockname()[1]
        ready()
        await self._stopped.wait()
        self.clock.close()

    def stop(self) -> None:
        """End :meth:`serve`, from any thread."""
        self._loop.call_soon_threadsafe(self.leave)

    def leave(self) -> None:
        """End :meth:`serve` and every connection, as a server that dies."""
        self._server.close()
        for connection in tuple(self.open):
            connection.abort()
        self._stopped.set()

    def become(self, behaviour: Behaviour) -> None:
        """Replace the behaviour and empty the log."""
        self.behaviour = behaviour
        self.log = []


def context(certificate: str, key: str) -> ssl.SSLContext:
    """Return what a server needs to speak TLS, from two PEM files."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.load_cert_chain(certificate, key)
    return made


def _run(server: ReferenceServer, port: int, ready: Callable[[], object]) -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(server.serve(port, ready))


@contextlib.contextmanager
def serving(behaviour: Behaviour, tls: ssl.SSLContext | None = None) -> Iterator[ReferenceServer]:
    """Run a server in a thread of this process; it is late by up to two milliseconds."""
    server, ready = ReferenceServer(behaviour, tls), threading.Event()
    thread = threading.Thread(target=_run, args=(server, 0, ready.set), daemon=True)
    thread.start()
    ready.wait()
    try:
        yield server
    finally:
        server.stop()
        thread.join()


class Remote:
    """A server in a process of its own, whose work cannot delay its client."""

    def __init__(self, url: str, pid: int) -> None:
        self.url = url
        self.pid = pid

    def become(self, behaviour: Behaviour) -> None:
        """Replace the behaviour and empty the log."""
        self._ask("/behaviour", msgspec.json.encode(behaviour))

    def log(self) -> list[Served]:
        """Return what was done with each completion request, in the order in which they arrived."""
        return msgspec.json.decode(self._ask("/log"), type=list[Served])

    def cpu_s(self) -> float:
        """Return the processor time that the server has used."""
        return float(self._ask("/cpu"))

    def _ask(self, path: str, body: bytes | None = None) -> bytes:
        request = urllib.request.Request(self.url + path, body, method="PUT" if body else "GET")  # noqa: S310
        unverified = ssl._create_unverified_context()  # noqa: S323, SLF001 -- loopback only
        with urllib.request.urlopen(request, timeout=30, context=unverified) as answer:  # noqa: S310 -- loopback only
            content: bytes = answer.read()
        return content


@contextlib.contextmanager
def spawned(behaviour: Behaviour, *, core: int | None = None, tls: tuple[str, str] | None = None) -> Iterator[Remote]:
    """Run a server in a process of its own; ``tls`` are the paths of a certificate and its key."""
    argv = [sys.executable, "-m", __name__, "--guarded"]
    argv += [] if core is None else ["--core", str(core)]
    argv += [] if tls is None else ["--certificate", tls[0], "--key", tls[1]]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            port = int(process.stdout.readline() if process.stdout else 0)
            remote = Remote(f"{'http' if tls is None else 'https'}://127.0.0.1:{port}", process.pid)
            remote.become(behaviour)
            yield remote
        finally:
            process.terminate()


def main() -> None:
    """Serve until terminated."""
    parser = argparse.ArgumentParser(description="A completion server with exactly known behaviour.")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--behaviour", default="{}", help="JSON; the fields are those of Behaviour")
    parser.add_argument("--core", type=int, help="run on this core only, where the system allows it")
    parser.add_argument("--certificate", help="speak TLS: a certificate chain as PEM")
    parser.add_argument("--key", help="its private key as PEM")
    parser.add_argument("--guarded", action="store_true", help="end with standard input, and so with whoever holds it")
    options = parser.parse_args()
    if options.core is not None and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {options.core})
    gc.disable()  # a collection would hold up every stream; what runs in a circle here is small
    tls = context(options.certificate, options.key) if options.certificate else None
    server = ReferenceServer(msgspec.json.decode(options.behaviour, type=Behaviour), tls)

    def ready() -> None:
        if options.guarded:
            asyncio.get_running_loop().add_reader(sys.stdin.fileno(), server.stop)
        print(server.port, flush=True)  # noqa: T201

    with contextlib.suppress(KeyboardInterrupt):
        _run(server, options.port, ready)


if __name__ == "__main__":
    main()
