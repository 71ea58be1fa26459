"""Cells that one server can serve, one after another: it is planned for the most of them, and started once."""

from __future__ import annotations

import os
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import msgspec

from xinfer import flow, judgement
from xinfer.environments import environment
from xinfer.errors import ProvisionError, XinferError
from xinfer.measuring import placing
from xinfer.running.deadline import within
from xinfer.running.runner import running
from xinfer.verbs import report

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from xinfer.loadgens.peers import Loadgen
    from xinfer.record import Record
    from xinfer.running.server import Server
    from xinfer.spec import Workload
    from xinfer.verbs.cell import Attempt


def groups(attempts: Iterable[Attempt]) -> list[list[Attempt]]:
    """Put together what one server can serve, in the given order.

    It differs in nothing but the workload and the place of its records; and whether prompts share a beginning is of the
    server too, as that is what switches its prefix cache on.
    """
    found: dict[bytes, list[Attempt]] = {}
    for each in attempts:
        found.setdefault(_key(each), []).append(each)
    return list(found.values())


def _key(attempt: Attempt) -> bytes:
    config = {key: value for key, value in attempt.config.items() if key not in {"workload", "runs", "repeat"}}
    return msgspec.json.encode([config, attempt.asked.workload.shared_prefix > 0], order="sorted")


def capacity(workloads: Sequence[Workload]) -> Workload:
    """Return a workload that asks of a server what the most demanding of these ask, each in its own way."""
    longest = max(workloads, key=lambda each: each.input_tokens + each.output_tokens)
    widest = max(workloads, key=lambda each: each.concurrency)
    name = "+".join(dict.fromkeys([longest.name, widest.name]))
    return msgspec.structs.replace(longest, name=name, concurrency=widest.concurrency)


def settle(attempts: Sequence[Attempt], more: Sequence[Workload] = ()) -> None:
    """Decide what a server must carry to serve all of these, and ``more``; raise what says that there can be none."""
    first, *others = attempts
    first.settle(capacity([*(each.asked.workload for each in attempts), *more]))
    for each in others:
        each.follow(first)


def in_order(groups: Iterable[list[Attempt]]) -> list[list[Attempt]]:
    """Put first what is installed already, and side by side what needs the same environment or weights."""
    places: dict[tuple[str, ...], int] = {}

    def place(group: list[Attempt]) -> tuple[bool, int, int]:
        launch = group[0].judged.launch
        if launch is None:  # another machine decides on it
            return True, len(places), 0
        roots = environment.roots(launch)
        own = launch.environment.path if launch.environment else ""
        rest = (root.path for root in roots if root != launch.environment)
        environments, weights = (places.setdefault(each, len(places)) for each in (("", own), tuple(rest)))
        return any(environment.marker(root) is None for root in roots), environments, weights

    return sorted(groups, key=place)


def measure(attempts: Sequence[Attempt], *, tell: Callable[[Record], None]) -> None:
    """Measure each, and close its record; a server that dies takes along the cell that it served, not the rest.

    ``tell`` gets each record as soon as it is written.
    """
    waiting = list(attempts)
    while waiting:
        rest = _serve(waiting)
        for each in waiting:
            if each.record is not None:
                tell(each.record)
        waiting = rest


def _serve(attempts: list[Attempt]) -> list[Attempt]:
    """Start once, measure as many as the server lives for, and return those that were not tried."""
    current, *waiting = attempts
    for each in attempts:
        if each.title:
            each.progress(each.title)
    try:
        _plan(attempts)
        loadgen = current.peer()
        with _started(current, loadgen) as server:
            current.load(server, loadgen)
            while waiting and (server is None or server.is_alive()):
                current.close(None)
                current, *waiting = waiting
                current.begin()
                _hand_on(attempts[0], current)
                current.load(server, loadgen)
    except XinferError as error:
        current.close(error)
        return waiting if current.was_loaded else _all_closed(waiting, error)
    except Exception as unforeseen:  # noqa: BLE001 -- one cell's defect must not take the others' records along
        current.close(report.defect(unforeseen))
        return waiting
    current.close(None)
    return waiting


def _all_closed(attempts: Sequence[Attempt], error: XinferError) -> list[Attempt]:
    """Give each the reason for which there is no server for any."""
    for each in attempts:
        each.close(error)
    return []


def _plan(attempts: Sequence[Attempt]) -> None:
    """Write one plan for all."""
    first, *others = attempts
    first.plan(port=first.config["port"] or flow.free_port(), capacity=first.asked.capacity)
    for each in others:
        each.follow(first)


@contextmanager
def _started(attempt: Attempt, loadgen: Loadgen | None) -> Iterator[Server | None]:
    """Make what is needed and start the server; null where somebody else runs it, or where there shall be none."""
    launch = judgement.launched(attempt.judged)
    needs = [*([] if launch.engine == "external" else [launch]), *([loadgen.needs] if loadgen else [])]
    if needs:
        attempt.make_directory()
    limit_s = float(attempt.config["install_timeout_s"])
    with within(limit_s, ProvisionError(f"what it needs was not complete after install_timeout_s={limit_s:g}")):
        for each in needs:
            packages = environment.provision(each, progress=attempt.progress, log=attempt.directory / "provision.log")
            attempt.packages = attempt.packages or packages
    attempt.look(launch)
    if launch.engine == "external" or (loadgen and loadgen.peer.scope == "inproc"):
        yield None
        return
    attempt.progress(f"starting {launch.engine} on {launch.url}")
    timeout_s = float(attempt.config["start_timeout_s"])
    log = attempt.directory / "engine.log"
    with running(
        launch, log=log, start_timeout_s=timeout_s, api_key=attempt.api_key, cores=placing.left_to_the_server()
    ) as server:
        attempt.progress(f"ready after {server.startup.ready_s:.1f} s")
        yield server


def _hand_on(first: Attempt, later: Attempt) -> None:
    """Let a later cell know what is known of their one server, and link its logs, where links can be."""
    later.packages, later.conditions = first.packages, first.conditions
    later.found, later.answer = first.found, first.answer
    later.make_directory()
    for name in ("provision.log", "engine.log"):
        with suppress(OSError):
            os.link(first.directory / name, later.directory / name)
