"""Puts a workload on a ready server: probes what it can do, prepares every request, and has workers send them."""

from __future__ import annotations

import asyncio
import hashlib
import math
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from xinfer.errors import ConfigError
from xinfer.measuring import capacity, corpus, schedule
from xinfer.measuring.capabilities import COMPLETIONS, Found, Probe, completion
from xinfer.measuring.client import Client, Target
from xinfer.measuring.crew import Crew, cores
from xinfer.measuring.orders import Order, Report
from xinfer.measuring.placing import usable_cores
from xinfer.measuring.prompts import Prompts, prepare
from xinfer.measuring.samples import Run, Samples, read, write

if TYPE_CHECKING:
    from collections.abc import Sequence

    from xinfer.measuring.schedule import Moment, Phase
    from xinfer.spec import Workload

__all__ = ["Target", "check", "drive", "identity", "probe", "read", "write"]

PATIENCE = 3
"""After as many time-outs in a row, and one for each request in flight, the rest is not sent."""
MOST_EXTRAS = 20_000
"""Requests that are prepared for a closed loop with a time; what is faster than that ends before it."""
SHORTEST_S = 1e-3
"""Less than any request takes."""
MOST_RAMP_S = 2.0
"""Within which the places of a closed loop begin, if a request takes as long."""
REQUEST_DELIVERIES = 12
"""To send a request and to end it costs a worker as much as so many deliveries in between."""
SPARE = 0.1
"""The part of its core that a client may use of which nothing has to be tested."""
MARGIN = 2.0
"""How much faster than the probe's the requests of a closed loop are thought to be at most."""
CHEAP_TOKENS = 100_000
"""So many are prepared at least, if there is time for them: it takes a fifth of a second, and a probe may have been
slow, or of longer prompts."""


def check(workload: Workload) -> tuple[Moment, ...]:
    """Read a workload's trace, if it has one; raise ConfigError if there is no reading it."""
    if workload.trace is None:
        return ()
    path = Path(workload.trace).expanduser()
    try:
        return schedule.parse(path.read_text(encoding="utf-8"), str(path), workload)
    except OSError as error:
        raise ConfigError(f"workload.trace: {path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"workload.trace: {path} is no text; {schedule.FORMAT}") from error


def identity(workload: Workload) -> dict[str, str]:
    """Return what a trace is known by, whatever its file is called; nothing where there is none to be read."""
    with suppress(OSError):
        if workload.trace is not None:
            return {"trace": hashlib.sha256(Path(workload.trace).expanduser().read_bytes()).hexdigest()}
    return {}


def probe(target: Target, workload: Workload) -> Found:
    """Return what a server can do; raise RequestError if it cannot be reached or completes nothing."""

    async def run() -> Found:
        async with Client(target) as client:
            return await Probe(client, workload).run()

    return asyncio.run(run())


class _Plan(NamedTuple):
    """Everything that is known before the first request is sent."""

    target: Target
    found: Found
    phases: tuple[Phase, ...]
    prompts: Prompts


async def _plan(
    target: Target, found: Found, workload: Workload, trace: tuple[Moment, ...], run_id: str, prompts: Prompts | None
) -> _Plan:
    async with Client(msgspec.structs.replace(target, model=found.capabilities.model)) as client:
        request_s = _request_s(workload, found)
        extras, ramp_s = _extras(workload, request_s), min(MOST_RAMP_S, request_s)
        phases = schedule.phases(workload, run_id, trace=trace, extras=extras, ramp_s=ramp_s)
        lengths = [due.input_tokens for phase in phases for due in phase.due]
        prepared = prompts or await prepare(client, found, workload, run_id, lengths=lengths)
        if len(prepared.sent) < len(lengths):
            raise ConfigError(f"{len(prepared.sent)} prompts are given for {len(lengths)} requests")
        return _Plan(client.target, found, phases, prepared)


def _request_s(workload: Workload, found: Found) -> float:
    """Return how long a request may take by itself."""
    able = found.capabilities
    return (able.probe_ttft_s or 0.0) + (able.probe_tpot_s or 0.0) * workload.output_tokens


def _extras(workload: Workload, request_s: float) -> int:
    """Return how many requests more than are asked for a closed loop could send within its time."""
    if not workload.seconds:
        return 0
    most = workload.seconds * workload.concurrency / SHORTEST_S
    likely = MARGIN * workload.seconds * workload.concurrency / max(request_s, SHORTEST_S)
    could = min(most, max(likely, CHEAP_TOKENS / workload.input_tokens), MOST_EXTRAS)
    return max(0, math.ceil(could) - workload.requests)


def _orders(plan: _Plan, workload: Workload) -> list[Order]:
    """Divide the work among as many workers as it needs."""
    given = cores(*_demand(plan, workload), usable_cores())
    able = plan.prompts.capabilities
    return [
        Order(
            number=number,
            target=plan.target,
            path=COMPLETIONS,
            phases=(phases := tuple(schedule.share(phase, number, len(given)) for phase in plan.phases)),
            bodies={
                due.index: completion(
                    plan.target, plan.prompts.sent[due.index], due.output_tokens,
                    extras=able.extras, stream_options=able.stream_options,
                ) for phase in phases for due in phase.due
            },
            hashes={
                due.index: corpus.fingerprint(plan.prompts.sent[due.index]) for phase in phases for due in phase.due
            },
            seconds=workload.seconds,
            timeout_s=workload.timeout_s,
            patience=max(PATIENCE, -(-workload.concurrency // len(given))),
            core=core,
        )
        for number, core in enumerate(given)
    ]  # fmt: skip


def _demand(plan: _Plan, workload: Workload) -> tuple[int, float]:
    """Return how many streams there will be at once, and the deliveries per second, if none slows another down."""
    due = plan.phases[-1].due
    request_s = max(_request_s(workload, plan.found), SHORTEST_S)
    per_request = sum(one.output_tokens for one in due) / len(due) + REQUEST_DELIVERIES
    if workload.load == "closed":
        streams = min(workload.concurrency, len(due))
        return streams, streams * per_request / request_s
    span_s = max(request_s, (due[-1].at_ns or 0) / 1e9)
    return math.ceil(len(due) * request_s / span_s), len(due) * per_request / span_s


def _capacity(reports: Sequence[Report], seconds: float) -> float | None:
    """Have the client test itself, if it was busy enough for a test to tell anything.

    A worker that used less than a tenth of its core can take ten times the tokens of this run, and five are asked for.
    """
    busy = max(reports, key=lambda report: report.worker.cpu_s)
    return capacity.measured(busy.worker.core) if busy.worker.cpu_s > SPARE * seconds else None


def drive(
    target: Target, workload: Workload, *, run_id: str, found: Found | None = None, prompts: Prompts | None = None
) -> Samples:
    """Send the whole workload and return a sample of every request, failed ones too.

    ``found`` is what an earlier :func:`probe` found of the same server. Raises RequestError if the server cannot be
    reached, or completes nothing, when it is probed, and if a worker dies.
    """
    trace = check(workload)
    found = found or probe(target, workload)
    plan = asyncio.run(_plan(target, found, workload, trace, run_id, prompts))
    with Crew(_orders(plan, workload)) as crew:
        crew.run()
    reports = crew.reports
    started_ns = min((r.started_ns for r in reports if r.started_ns is not None), default=0)
    ended_ns = max(report.ended_ns for report in reports)
    run = Run(
        capabilities=plan.prompts.capabilities,
        prompts=plan.prompts.kind,
        prompts_hash=plan.prompts.hash,
        client_cpu_s=sum(report.worker.cpu_s for report in reports),
        started_ns=started_ns,
        ended_ns=ended_ns,
        workers=tuple(report.worker for report in reports),
        capacity_tps=_capacity(reports, (ended_ns - started_ns) / 1e9),
    )
    return Samples(run=run, samples=tuple(sorted(crew.samples, key=lambda sample: sample.index)))
