"""Runs another load generator against a ready server: as a program of its own, with everything that it starts.

First ``peers.plan`` (pure), then ``environment.provision`` of its needs before the server starts, then :func:`run`.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from xinfer.environments import steps
from xinfer.environments.environment import used
from xinfer.environments.packages import of
from xinfer.errors import ConfigError, RequestError
from xinfer.loadgens.foreign import LOG, Foreign
from xinfer.measuring import load
from xinfer.measuring.metrics import Metrics
from xinfer.running.server import Server

if TYPE_CHECKING:
    from xinfer.loadgens.foreign import Peer, Task
    from xinfer.loadgens.peers import Loadgen
    from xinfer.measuring.load import Target
    from xinfer.spec import Workload

START_S = 300.0
"""How long a peer may take besides its requests: importing its packages takes up to a minute on a busy core."""
GRACE_S = 5.0
TICK_S = 1.0


def run(loadgen: Loadgen, target: Target | None, workload: Workload, *, run_id: str, directory: Path) -> Foreign:
    """Send the workload with a peer and return what it found; its files and its log stay in ``directory``.

    A peer of scope inproc loads the model itself: no server should run, and ``target`` is null. The peer inherits the
    affinity of the calling thread. Raises ConfigError for a workload that it cannot send, and RequestError if the
    server cannot be reached, the peer fails or every request does, or it does not end in the time that the slowest
    server allowed would take.
    """
    task = loadgen.task(workload, run_id=run_id, directory=str(directory / loadgen.name))
    if target is not None:
        model = target.model or load.probe(target, workload).capabilities.model
        task = msgspec.structs.replace(task, url=target.url.rstrip("/"), model=model, request=target.request)
    program = _started(loadgen, task, directory / f"{loadgen.name}.log", target.api_key if target else None)
    found = _read(loadgen, task, program)
    return msgspec.structs.replace(found, source=f"{loadgen.peer.title} {version_of(loadgen)}")


def _started(loadgen: Loadgen, task: Task, log: Path, api_key: str | None) -> Server:
    """Run one task to its end, good or bad."""
    peer = loadgen.peer
    argv = peer.argv(task)
    place = Path(task.directory)
    place.mkdir(parents=True)
    for name, content in peer.inputs(task).items():
        (place / name).write_bytes(content)
    # Peers would send the key of the user's own account, if its variable is set, to whatever server they load.
    inherited = {name: value for name, value in steps.variables().items() if not name.endswith("API_KEY")}
    own = {**loadgen.needs.env, **peer.variables(task), **_key(peer, api_key)}
    variables = {"PYTHONUNBUFFERED": "1", **inherited, **own}
    with used(loadgen.needs):
        program = Server(msgspec.structs.replace(loadgen.needs, engine=peer.name, argv=argv), log, GRACE_S, api_key)
        try:
            program.start(variables)
            _wait(program, patience_s(task.workload))
        finally:
            program.stop()
    return program


def _read(loadgen: Loadgen, task: Task, program: Server) -> Foreign:
    """Return what a program that has ended left; RequestError if that is nothing, or it ended badly."""
    try:
        found = loadgen.peer.read(_files(loadgen, task, program.log), task)
    except RequestError:
        if program.exit_status:
            raise program.error(RequestError, program.ending) from None
        raise
    counts = found.metrics
    if isinstance(counts, Metrics) and counts.failed == counts.requests:  # which some end badly for, and some well
        why = "; ".join(found.errors) or "it does not say why"
        raise RequestError(f"{loadgen.peer.title}: all {counts.requests} requests failed: {why}; log: {program.log}")
    if program.exit_status:
        raise program.error(RequestError, program.ending)
    return found


def _key(peer: Peer, api_key: str | None) -> dict[str, str]:
    """Return the variable with the key; ConfigError for a peer that takes one as a flag alone."""
    if not api_key:
        return {}
    if peer.key_variable is None:
        raise ConfigError(f"loadgen={peer.name} takes an API key as a flag alone, which everyone's ps shows")
    return {peer.key_variable: api_key}


def _files(loadgen: Loadgen, task: Task, log: Path) -> dict[str, bytes]:
    """Return what the peer left, by name: of several, the one that lies highest."""
    places = sorted(Path(task.directory).rglob("*"), key=lambda path: -len(path.parts))
    found = {path.name: path for path in places if path.is_file()} | {LOG: log}
    return {name: found[name].read_bytes() for name in loadgen.peer.results if name in found}


def _wait(program: Server, timeout_s: float) -> None:
    """Return when the program has ended."""
    deadline_s = time.perf_counter() + timeout_s
    while program.is_alive(within_s=TICK_S):
        if time.perf_counter() > deadline_s:
            raise program.error(RequestError, f"was not done after {timeout_s:g} s")


def patience_s(workload: Workload) -> float:
    """Return how long a peer may take: as if every request took all the time it is allowed."""
    rounds = -(-(workload.requests + workload.warmups) // workload.concurrency)
    spread_s = workload.requests / workload.rate if workload.rate else 0.0
    return START_S + spread_s + rounds * workload.timeout_s


def version_of(loadgen: Loadgen) -> str:
    """Return the version of the peer's package in the interpreter that ran it."""
    lines = of(Path(loadgen.python)) if loadgen.python else ()
    packages = dict(line.split("==", 1) for line in lines)
    return next((packages[name] for name in loadgen.peer.packages if name in packages), "of unknown version")
