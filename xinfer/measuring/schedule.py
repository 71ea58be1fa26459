"""When each request of a workload is due, and how long it is: all known before the first is sent.

closed     none has an instant: each is due as soon as a place is free.
constant   one every ``1 / rate`` seconds.
poisson    as many in the same time, at instants that know nothing of each other: a Poisson process of which the count
           is known, so that the rate is the one that was asked for and not one near it.
offline    all at once, after the warm-up has ended.
trace      as the file says, after the warm-up has ended.
"""

from __future__ import annotations

import math
import random
from typing import TYPE_CHECKING

import msgspec

from xinfer.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from xinfer.spec import Workload

MOST_TOKENS = 10**6
MOST_MS = 7 * 24 * 3600 * 1000
"""A week; what is longer is a date, or microseconds."""


class Due(msgspec.Struct, frozen=True, array_like=True):
    """One request to be sent."""

    index: int
    """Place in the order of sending, warm-up included."""
    warmup: bool
    at_ns: int | None
    """After the start of its phase; null is as soon as a place is free."""
    input_tokens: int
    output_tokens: int
    is_extra: bool = False
    """Whether it is sent only while a closed loop's time is not up."""


class Phase(msgspec.Struct, frozen=True):
    """Requests that share one start; the next phase begins when all of them have ended."""

    places: tuple[int, ...]
    """For each of the places that take requests without an instant, when it begins, in nanoseconds after the start."""
    due: tuple[Due, ...]


class Moment(msgspec.Struct, frozen=True):
    """One line of a trace."""

    timestamp: float
    """Milliseconds."""
    input_length: int
    output_length: int


def parse(text: str, name: str, workload: Workload) -> tuple[Moment, ...]:
    """Read a trace as Mooncake writes them, a JSON object a line; raise ConfigError with the file's name and line.

    A server is planned for requests of the workload's lengths, so none may be longer.
    """
    most = workload.input_tokens + workload.output_tokens
    moments: list[Moment] = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            moment = msgspec.json.decode(line, type=Moment)
        except ValueError as error:
            raise _bad(name, number, _said(error)) from None
        before = moments[-1].timestamp if moments else 0.0
        if wrong := _wrong(moment, before, most):
            raise _bad(name, number, wrong)
        moments.append(moment)
    if not moments:
        raise ConfigError(f"{name}: a trace without a request; {FORMAT}")
    return tuple(moments)


FORMAT = (
    'allowed on a line: {"timestamp": milliseconds, "input_length": tokens, "output_length": tokens}, '
    "in the order of time"
)


def _bad(name: str, number: int, wrong: str) -> ConfigError:
    return ConfigError(f"{name}:{number}: {wrong}; {FORMAT}")


def _said(error: ValueError) -> str:
    return " ".join(str(error).split())[:200].rstrip(".").lower()


def _wrong(moment: Moment, before: float, most: int) -> str:
    """Say what is wrong with a line's values, or nothing."""
    for key, value in (("input_length", moment.input_length), ("output_length", moment.output_length)):
        if not 1 <= value <= MOST_TOKENS:
            return f"{key} {value} is not a number from 1 to a million"
    if not 0 <= moment.timestamp <= MOST_MS:
        return f"timestamp {moment.timestamp:g} is not within a week of 0"
    if moment.timestamp < before:
        return f"timestamp {moment.timestamp:g} is before the last, {before:g}"
    if (total := moment.input_length + moment.output_length) > most:
        return f"{total} tokens are more than workload.input_tokens + workload.output_tokens = {most}"
    return ""


def phases(
    workload: Workload, run_id: str, *, trace: Sequence[Moment] = (), extras: int = 0, ramp_s: float = 0.0
) -> tuple[Phase, ...]:
    """Return a workload's requests.

    ``extras`` are those that a closed loop may send until its time is up. Its places begin one after another within
    ``ramp_s``: together, they would go on in step for the whole run, and each request would wait for all others.
    """
    warm = workload.warmups
    if workload.load == "closed":
        return (_free(workload, warm + workload.requests, extras, ramp_s),)
    if workload.load in {"constant", "poisson"}:
        count = warm + workload.requests
        instants = _instants(workload, run_id, count)
        tokens = (workload.input_tokens, workload.output_tokens)
        return (Phase((), tuple(Due(i, i < warm, at_ns, *tokens) for i, at_ns in enumerate(instants))),)
    if workload.load == "offline":
        moments = [Moment(0, workload.input_tokens, workload.output_tokens)] * workload.requests
    else:
        moments = list(trace)
    return (*([_free(workload, warm, 0, ramp_s)] if warm else []), _timed(moments, warm))


def _free(workload: Workload, count: int, extras: int, ramp_s: float) -> Phase:
    tokens = (workload.input_tokens, workload.output_tokens)
    due = (
        Due(index, index < workload.warmups, None, *tokens, is_extra=index >= count) for index in range(count + extras)
    )
    places = workload.concurrency
    return Phase(tuple(round(ramp_s * 1e9 * place / places) for place in range(places)), tuple(due))


def _timed(moments: Sequence[Moment], first: int) -> Phase:
    start = moments[0].timestamp
    due = (
        Due(first + number, False, round((one.timestamp - start) * 1e6), one.input_length, one.output_length)  # noqa: FBT003
        for number, one in enumerate(moments)
    )
    return Phase((), tuple(due))


def _instants(workload: Workload, run_id: str, count: int) -> list[int]:
    """Return instants in nanoseconds, the same for the same run."""
    rate = workload.rate or math.inf
    if workload.load == "constant":
        return [round(number / rate * 1e9) for number in range(count)]
    chance = random.Random(run_id)  # noqa: S311 -- chance, and no secret
    return sorted(round(chance.uniform(0, count / rate) * 1e9) for _ in range(count))


def share(phase: Phase, worker: int, workers: int) -> Phase:
    """Return one worker's part: places are dealt out one by one, and requests in the order of places."""
    turns = len(phase.places) or len(phase.due)
    due = (one for number, one in enumerate(phase.due) if number % turns % workers == worker)
    return Phase(phase.places[worker::workers], tuple(due))


def last_s(phase: Phase, timeout_s: float, seconds: float = 0.0) -> float:
    """Return how long a phase can take if every request in it takes as long as it may; extras end after ``seconds``."""
    if phase.places:
        rounds = math.ceil(sum(not due.is_extra for due in phase.due) / len(phase.places))
        return phase.places[-1] / 1e9 + rounds * timeout_s + (seconds + timeout_s if seconds else 0.0)
    return max((due.at_ns or 0 for due in phase.due), default=0) / 1e9 + timeout_s
