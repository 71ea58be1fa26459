"""Puts a workload on a ready server: probes what it can do, warms it up, and keeps every stamp.

A closed loop: each of the workload's places sends its next request as soon as the last one ended.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, NamedTuple

from xinfer.measuring import corpus, stream
from xinfer.measuring.capabilities import COMPLETIONS, Found, Probe, completion
from xinfer.measuring.client import Client, Exchange, Target, explain, judge
from xinfer.measuring.samples import Capabilities, Run, Sample, Samples, read, write

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from xinfer.measuring.corpus import Unit
    from xinfer.spec import Workload

__all__ = ["Target", "drive", "probe", "read", "write"]

TOKENS_PER_WORD = 1.3
"""Of English text, where nothing better is known."""

PATIENCE = 3
"""After as many time-outs in a row, and one for each place of the loop, the rest is not sent."""


def probe(target: Target, workload: Workload) -> Capabilities:
    """Return what a server can do; raise RequestError if it cannot be reached or completes nothing."""

    async def run() -> Capabilities:
        async with Client(target) as client:
            return (await Probe(client, workload).run()).capabilities

    return asyncio.run(run())


class _Job(NamedTuple):
    number: int
    warmup: bool
    body: bytes
    prompt_hash: str


def _prompts(found: Found, workload: Workload, run_id: str) -> tuple[Sequence[list[int] | str], str]:
    """Return a prompt for each request, and a hash of all without their nonces."""
    if found.ids:
        ids = _cut(found.ids, workload.input_tokens, workload, run_id)
        return ids, corpus.fingerprint([prompt[corpus.NONCE :] for prompt in ids])
    per_word = found.capabilities.tokens_per_word or TOKENS_PER_WORD
    length = max(1, round(workload.input_tokens / per_word))
    words = _cut(corpus.text().split(), length, workload, run_id)
    return [" ".join(prompt) for prompt in words], corpus.fingerprint([prompt[corpus.NONCE :] for prompt in words])


def _cut(units: Sequence[Unit], length: int, workload: Workload, run_id: str) -> list[list[Unit]]:
    numbers = range(workload.warmups + workload.requests)
    return [corpus.prompt(units, run_id=run_id, index=number, length=length) for number in numbers]


def _job(number: int, prompt: list[int] | str, target: Target, workload: Workload, able: Capabilities) -> _Job:
    """Write a request out beforehand, so that nothing but sending is left for the run."""
    tokens = workload.output_tokens
    body = completion(target, prompt, tokens, extras=able.extras, stream_options=able.stream_options)
    return _Job(number, number < workload.warmups, body, corpus.fingerprint(prompt))


class _Loop:
    """Runs jobs on a fixed number of places; the warm-up flows into the measured part without a pause."""

    def __init__(self, client: Client, jobs: Iterable[_Job], workload: Workload) -> None:
        self._client = client
        self._jobs: Iterator[_Job] = iter(jobs)
        self._workload = workload
        self._timeouts = 0
        self.exchanges: dict[int, Exchange] = {}
        self.started = self.ended = (0, 0.0)
        """Stamps and CPU seconds of this process."""

    async def run(self) -> None:
        """Work until no job is left."""
        async with asyncio.TaskGroup() as group:
            for _ in range(self._workload.concurrency):
                group.create_task(self._place())
        self.ended = (time.perf_counter_ns(), time.process_time())

    async def _place(self) -> None:
        for job in self._jobs:
            if not job.warmup and not self.started[0]:
                self.started = (time.perf_counter_ns(), time.process_time())
            self.exchanges[job.number] = await self._exchange(job)

    async def _exchange(self, job: _Job) -> Exchange:
        if self._timeouts >= max(PATIENCE, self._workload.concurrency):
            exchange = Exchange.at(time.perf_counter_ns())
            exchange.failure, exchange.detail = "abandoned", f"after {self._timeouts} time-outs in a row"
            return exchange
        exchange = await self._client.send(COMPLETIONS, job.body, timeout_s=self._workload.timeout_s)
        self._timeouts = self._timeouts + 1 if exchange.failure == "timeout" else 0
        return exchange


def _sample(job: _Job, exchange: Exchange, target: Target, workload: Workload) -> Sample:
    """Read what was stamped."""
    reply = stream.read(exchange.pieces)
    error = judge(exchange, reply)
    return Sample(
        index=job.number,
        warmup=job.warmup,
        t_sched=exchange.t_sched,
        t_send=exchange.t_send,
        t_headers=exchange.t_headers,
        t_end=exchange.t_end,
        chunks=tuple(reply.chunks),
        prompt_tokens_asked=workload.input_tokens,
        prompt_tokens=reply.prompt_tokens,
        completion_asked=workload.output_tokens,
        completion_tokens=reply.completion_tokens,
        cached_tokens=reply.cached_tokens,
        finish_reason=reply.finish_reason,
        status=exchange.status,
        error=error,
        detail=None if error is None else explain(exchange, reply, target),
        prompt_hash=job.prompt_hash,
    )


async def _drive(target: Target, workload: Workload, run_id: str) -> Samples:
    async with Client(target) as client:
        found = await Probe(client, workload).run()
        prompts, prompts_hash = _prompts(found, workload, run_id)
        jobs = [_job(i, prompt, client.target, workload, found.capabilities) for i, prompt in enumerate(prompts)]
        loop = _Loop(client, jobs, workload)
        await loop.run()
    run = Run(
        capabilities=found.capabilities,
        prompts="ids" if found.ids else "text",
        prompts_hash=prompts_hash,
        client_cpu_s=loop.ended[1] - loop.started[1],
        started_ns=loop.started[0],
        ended_ns=loop.ended[0],
    )
    samples = (_sample(job, loop.exchanges[job.number], target, workload) for job in jobs)
    return Samples(run=run, samples=tuple(samples))


def drive(target: Target, workload: Workload, *, run_id: str) -> Samples:
    """Send the whole workload and return a sample of every request, failed ones too.

    Raises RequestError if the server cannot be reached, or completes nothing, when it is probed.
    """
    return asyncio.run(_drive(target, workload, run_id))
