"""What one run of a workload left behind: raw stamps, and what the server reported about each request.

All stamps are nanoseconds of one monotonic clock (``time.perf_counter_ns``); only differences mean anything.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import msgspec

from xinfer.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path


class Chunk(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """One event of a stream; a short array in files, because there are many."""

    t_ns: int
    """When the network delivered its last byte."""
    characters: int
    is_token: bool
    """Whether it carried generated text; the opening role and the closing usage do not."""
    completion_tokens: int | None = None
    """The server's running count, from the few that send one with every event."""


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """One request, whatever became of it."""

    index: int
    """Place in the order of sending, warm-up included."""
    warmup: bool
    t_sched: int
    """When its turn came; in a closed loop, when a place became free."""
    t_send: int
    """When its first byte left: after the connection stood. Equal to ``t_sched`` if it never left."""
    t_headers: int | None
    t_end: int
    chunks: tuple[Chunk, ...]
    prompt_tokens_asked: int
    prompt_tokens: int | None
    completion_asked: int
    completion_tokens: int | None
    cached_tokens: int | None
    finish_reason: str | None
    status: int | None
    error: str | None
    """Null if it succeeded, else: refused, http <status>, timeout, stalled, closed early, garbage, too large,
    error in stream, or abandoned (never sent, because the server had stopped answering)."""
    detail: str | None
    """What the server or the operating system said about the error."""
    prompt_hash: str
    worker: int = 0
    """Which of the run's workers sent it."""
    resent: int = 0
    """How often it was sent once more, on another connection, as the server had closed the one it went out on without a
    word; ``t_send`` is that of the last time."""


class Capabilities(msgspec.Struct, frozen=True, kw_only=True):
    """What a server was found to do; null where a probe could not tell."""

    model: str
    """The name that requests used."""
    extras: bool
    """Whether it takes the engine's own request fields; true where there are none."""
    stream_options: bool
    """Whether it takes ``stream_options``."""
    usage: bool
    """Whether it reports token counts in the stream."""
    fixed_length: bool | None
    """Whether it generates as many tokens as it is asked for."""
    cached_tokens: bool
    """Whether it reports how much of a prompt it had in a cache."""
    tokenizer: str | None
    """Where it tokenizes text for others."""
    token_ids: bool
    """Whether it takes a prompt as token ids, exactly as many as are sent."""
    tokens_per_chunk: float | None = None
    tokens_per_word: float | None = None
    """By its count, in the corpus; prompts are cut by it where no tokenizer is at hand."""
    prompt_offset: int | None = None
    """How many more tokens it counts in a text than the model's tokenizer does, special tokens included."""
    notes: tuple[str, ...] = ()
    probe_ttft_s: float | None = None
    """What a short completion took by itself, before the load: nothing to compare by, but to plan with."""
    probe_tpot_s: float | None = None


class Worker(msgspec.Struct, frozen=True, kw_only=True):
    """A process that sent a part of the load."""

    cpu_s: float
    """What it used between its first measured request and its last."""
    loop_lag_p99_s: float | None
    """How late it looked at what had come, at the worst of a hundred random instants; null if there were fewer."""
    core: int | None
    """Which core it kept to; null if to none."""


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """What holds for all samples of a run."""

    capabilities: Capabilities
    prompts: Literal["ids", "text"]
    """Token ids, or their text where a server takes no ids."""
    prompts_hash: str
    """Of all prompts without their nonces: equal for equal work, on every engine."""
    client_cpu_s: float
    """Of all workers together, between ``started_ns`` and ``ended_ns``."""
    started_ns: int
    """When the first measured request's turn came."""
    ended_ns: int
    workers: tuple[Worker, ...] = ()
    capacity_tps: float | None = None
    """Tokens that a worker takes in a second of its core's time from a server that does nothing else; null if it was
    not tried, because the client had so much time to spare that nothing could be learnt from it."""


class Samples(msgspec.Struct, frozen=True, kw_only=True):
    """A finished run: every request that was due, in order."""

    run: Run
    samples: tuple[Sample, ...]

    @property
    def measured(self) -> tuple[Sample, ...]:
        """The requests that count, failed ones included."""
        return tuple(sample for sample in self.samples if not sample.warmup)


class _Head(msgspec.Struct, frozen=True):
    run: Run


def write(samples: Samples, path: Path) -> None:
    """Write JSON lines: what holds for the run under the key ``run``, then one request a line."""
    encode = msgspec.json.Encoder().encode_lines
    path.write_bytes(encode([_Head(samples.run), *samples.samples]))


def read(path: Path) -> Samples:
    """Read what :func:`write` wrote; raise ConfigError for anything else."""
    head, _, rest = path.read_bytes().partition(b"\n")
    try:
        run = msgspec.json.decode(head, type=_Head).run
        samples = msgspec.json.Decoder(Sample).decode_lines(rest)
    except ValueError as exc:
        message = f"{path}: not raw stamps of a run: {exc}"
        raise ConfigError(message) from exc
    return Samples(run=run, samples=tuple(samples))
