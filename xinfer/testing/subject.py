"""An engine under test: planned, installed, and started as seldom as possible, in folders of its own."""

from __future__ import annotations

import contextlib
import http.client
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from xinfer import engines, flow, judgement
from xinfer.config.pieces import Pieces
from xinfer.environments import environment
from xinfer.errors import XinferError
from xinfer.measuring import capabilities, load
from xinfer.measuring.client import Target
from xinfer.running.runner import running
from xinfer.spec import Workload
from xinfer.testing import wire
from xinfer.testing.demands import Broken
from xinfer.testing.traces import Sandbox, Traces

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from xinfer.flow import Planned
    from xinfer.measuring.samples import Capabilities
    from xinfer.plan import LaunchPlan
    from xinfer.running.server import Server
    from xinfer.testing.wire import Answer, Event

ANSWER_S = 300.0
"""How long one answer may take."""


class Live(NamedTuple):
    """A running server, and how it can be asked."""

    server: Server
    launch: LaunchPlan
    able: Capabilities

    def ask(
        self, prompt: str, tokens: int, *, plainly: bool = False, then: Callable[[Event], object] | None = None
    ) -> Answer:
        """Ask for a completion as xinfer does; ``plainly`` leaves the engine's own request fields out."""
        target = Target(url=self.launch.url, model=self.able.model, request=self.launch.request)
        extras, options = self.able.extras and not plainly, self.able.stream_options
        body = capabilities.completion(target, prompt, tokens, extras=extras, stream_options=options)
        address, path = (self.launch.host, self.launch.port), capabilities.COMPLETIONS
        try:
            return wire.post(address, path, body, timeout_s=ANSWER_S, then=then)
        except (OSError, http.client.HTTPException) as error:
            raise Broken(f"the answer to a request broke off: {type(error).__name__}: {error}") from error


class Trial:
    """One attempt to run a plan in a sandbox, and what is left of it afterwards."""

    def __init__(self, launch: LaunchPlan, folder: Path, home: Path) -> None:
        """Prepare; the log goes into ``folder``, and ``home`` has the engine's environment."""
        self.launch = launch
        self.folder = folder
        self.sandbox = Sandbox()
        self.traces = Traces(self.sandbox, [folder, home])

    @contextlib.contextmanager
    def running(self, timeout_s: float) -> Iterator[Server]:
        """Run the server for the length of the body; raises what :func:`xinfer.running.runner.running` raises."""
        log = self.folder / f"engine-{time.monotonic_ns()}.log"
        with contextlib.ExitStack() as stack:
            with contextlib.chdir(self.sandbox.work):
                ready = running(self.launch, log=log, start_timeout_s=timeout_s, environ=self.sandbox.environ())
                server = stack.enter_context(ready)
            self.traces.note(server.pids())
            yield server
            self.traces.note(server.pids())

    def failure(self, timeout_s: float) -> tuple[XinferError, float]:
        """Start what cannot start; return the error and after how many seconds it came."""
        start_s = time.monotonic()
        try:
            with self.running(timeout_s):
                pass
        except XinferError as error:
            return error, time.monotonic() - start_s
        raise Broken("the server started although it must not")

    def left(self, keeps: Sequence[str]) -> list[str]:
        """Say what is left of a server that was stopped; ``keeps`` are the files that may be."""
        return [*self.traces.left(), *(f"file {name} in its own folders" for name in self.sandbox.left(keeps))]

    def close(self) -> None:
        """Throw the sandbox away."""
        self.traces.close()
        self.sandbox.remove()


class Subject:
    """One engine, and its server if it runs at the moment."""

    def __init__(
        self, engine: str, overrides: Sequence[str], *, directories: Sequence[str | Path], home: Path, folder: Path
    ) -> None:
        """Name the engine; ``home`` gets environments and weights, ``folder`` the logs."""
        self.engine = engine
        self.overrides = tuple(overrides)
        self.home = home
        self.folder = folder
        self.directories = tuple(Path(directory).absolute() for directory in directories)
        self.composer = Pieces([*self.directories, *engines.conf_directories()])
        self._trials = contextlib.ExitStack()
        self._server = contextlib.ExitStack()
        self._live: Live | None = None
        self._trial: Trial | None = None
        self._failure: Exception | None = None

    def words(self, *more: str) -> list[str]:
        """Return what would be typed to get this engine."""
        return [f"engine={self.engine}", f"home={self.home}", *self.overrides, *more]

    def planned(self, *more: str, port: int | None = None) -> Planned:
        """Decide and plan for this machine, unless another is named."""
        config = self.composer.compose(self.words(*more))
        return flow.plan(flow.ask(config, self.composer, detect=judgement.detect), self.composer, port=port)

    def launch(self, *more: str) -> LaunchPlan:
        """Return the plan that runs here, on a free port; raise an XinferError where there is none."""
        planned = judgement.here(self.planned(*more), self.composer, _progress, port=flow.free_port())
        return judgement.launched(planned)

    def trial(self, launch: LaunchPlan) -> Trial:
        """Install what the plan needs, and give it a sandbox, which lasts until :meth:`close`."""
        environment.provision(launch, progress=_progress, log=self.folder / "provision.log")
        return self._trials.enter_context(contextlib.closing(Trial(launch, self.folder, self.home)))

    def live(self, timeout_s: float) -> Live:
        """Return the running server; it is started the first time, and when it could not be, never again."""
        if self._failure is not None:
            raise self._failure
        try:
            self._live = self._live or self._start(timeout_s)
        except (XinferError, Broken) as error:
            self._failure = error
            self._server.close()
            raise
        return self._live

    def _start(self, timeout_s: float) -> Live:
        self._trial = self.trial(self.launch())
        return live(self._server.enter_context(self._trial.running(timeout_s)), self._trial.launch)

    def stop(self, keeps: Sequence[str]) -> list[str]:
        """Stop the running server and say what it left behind."""
        self._live = None
        self._server.close()
        return self._trial.left(keeps) if self._trial else []

    def close(self) -> None:
        """Stop the server if it runs, and throw its folders away."""
        try:
            self._server.close()
        finally:
            self._trials.close()


def live(server: Server, launch: LaunchPlan) -> Live:
    """Find out how a server can be asked."""
    workload = Workload(name="contract", input_tokens=32, output_tokens=16, timeout_s=ANSWER_S)
    target = Target(url=launch.url, model=launch.model, request=launch.request)
    return Live(server, launch, load.probe(target, workload).capabilities)


def _progress(line: str) -> None:
    sys.stderr.write(f"{line}\n")
