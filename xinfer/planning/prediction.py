"""How fast a plan will be: the least time that its machine needs, times what earlier runs needed of theirs.

The median of (least time / measured time) over the records that are most like the plan is the efficiency that it is
given. Without such a record the estimate is a bound, and is called one. How far estimates of its kind were off is found
by predicting each record from others that are as much, and no more, like it as those are like the plan: the median of
|predicted / measured - 1|.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from xinfer.catalog import Spec
from xinfer.plan import LaunchPlan
from xinfer.planning import bound
from xinfer.planning.bound import Load, Plan, Tops

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from xinfer.planning.bound import Least
    from xinfer.spec import Workload

SIMILAR = 4.0
"""How many times the bytes of a step may differ: what a step costs beside them is another share of its time then."""
UNTRUE = {"failed", "osl_mismatch", "cache_hit", "no_usage"}
"""Flags of runs whose numbers are not those of what was asked for."""
DISTURBED = {"noisy", "throttled", "client_bound", "shared_core"}
"""Flags of runs that count only where there is none without."""
ALIKE = ("engine and device", "load", "format", "model")
"""What a record and a plan may have in common, the most telling first."""


class Estimate(msgspec.Struct, frozen=True, kw_only=True):
    """One predicted figure; null where a fact is missing."""

    value: float | None = None
    is_bound: bool = False
    """Whether no record tells how near to it a run comes: nothing is faster."""
    efficiency: float | None = None
    """The share of the machine's limit that the records reached."""
    records: int = 0
    alike: tuple[str, ...] = ()
    """What the records have in common with the plan."""
    error: float | None = None
    error_records: int = 0
    """How many records were predicted from others to find the error."""
    formula: str = ""
    note: str = ""
    """Why there is no figure."""


class Prediction(msgspec.Struct, frozen=True, kw_only=True):
    """How fast a plan will be."""

    batch: int
    """Requests in flight."""
    decode_tps: Estimate
    """Output tokens per second of each, from its first token on."""
    total_tps: Estimate
    """Output tokens per second of all together, while each that ends is followed by another with its prompt."""
    prefill_tokens: int
    prefill_s: Estimate
    """How long a prompt of so many tokens takes, while no other request is in flight."""


class Middle(msgspec.Struct, frozen=True):
    """Of a record's distribution, what is needed here; the next ones likewise."""

    p50: float | None = None


class Numbers(msgspec.Struct, frozen=True, kw_only=True):
    """Of a record's metrics."""

    tpot: Middle | None = None
    ttft: Middle | None = None
    output_tps: float | None = None


class Chosen(msgspec.Struct, frozen=True, kw_only=True):
    """Of a record's decision."""

    spec: Spec


class Sent(msgspec.Struct, frozen=True, kw_only=True):
    """Of a record's workload."""

    input_tokens: int
    output_tokens: int
    shared_prefix: float = 0.0
    load: str = "closed"
    concurrency: int = 1


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """Of a record's configuration."""

    workload: Sent


class Flag(msgspec.Struct, frozen=True, kw_only=True):
    """Of a record's flag."""

    id: str


class Past(msgspec.Struct, frozen=True, kw_only=True):
    """Of a record, what is needed here."""

    decision: Chosen
    launch: LaunchPlan
    config: Asked
    metrics: Numbers
    ceilings: Tops
    foreign: dict[str, Any] | None = None
    flags: tuple[Flag, ...] = ()


class Sample(NamedTuple):
    """What a record reached of the least time."""

    keys: tuple[object, ...]
    """Its values of what :data:`ALIKE` names."""
    amount: float
    efficiency: float = 1.0
    is_disturbed: bool = False


def predict(spec: Spec, launch: LaunchPlan, workload: Workload, tops: Tops, pasts: Sequence[Past] = ()) -> Prediction:
    """Return how fast a plan will be on a machine with these tops."""
    plan = Plan(spec, launch, tops, _load(workload))
    alone = plan._replace(load=plan.load._replace(batch=1.0))
    return Prediction(
        batch=workload.concurrency,
        decode_tps=_estimate(bound.step(plan), _keys(plan), _samples(pasts, _step), tokens=1.0),
        total_tps=_estimate(
            bound.cycle(plan), _keys(plan), _samples(pasts, _cycle), tokens=plan.load.batch * plan.load.output
        ),
        prefill_tokens=round(plan.load.prompt),
        prefill_s=_estimate(bound.prompt(alone), _keys(alone), _samples(pasts, _prompt), tokens=None),
    )


def _load(sent: Sent | Workload) -> Load:
    return Load(
        batch=float(sent.concurrency), prompt=sent.input_tokens * (1 - sent.shared_prefix), output=sent.output_tokens,
        length=sent.input_tokens + sent.output_tokens / 2,
    )  # fmt: skip


def _samples(pasts: Iterable[Past], measure: Callable[[Plan, Numbers], tuple[Least, float | None]]) -> list[Sample]:
    """Return what records reached of a least time; those that do not tell are left out."""
    found = []
    for past in pasts:
        flags = {flag.id for flag in past.flags}
        if past.foreign or past.config.workload.load != "closed" or flags & UNTRUE:
            continue
        plan = Plan(past.decision.spec, past.launch, past.ceilings, _load(past.config.workload))
        least, seconds = measure(plan, past.metrics)
        if least.seconds is not None and seconds:
            found.append(Sample(_keys(plan), least.amount, least.seconds / seconds, not flags.isdisjoint(DISTURBED)))
    return found


def _step(plan: Plan, numbers: Numbers) -> tuple[Least, float | None]:
    return bound.step(plan), numbers.tpot.p50 if numbers.tpot else None


def _cycle(plan: Plan, numbers: Numbers) -> tuple[Least, float | None]:
    tokens = plan.load.batch * plan.load.output
    return bound.cycle(plan), tokens / numbers.output_tps if numbers.output_tps else None


def _prompt(plan: Plan, numbers: Numbers) -> tuple[Least, float | None]:
    """With several at once, the first token's time is not the prompt's: it waits for others."""
    return bound.prompt(plan), numbers.ttft.p50 if numbers.ttft and plan.load.batch == 1 else None


def _keys(plan: Plan) -> tuple[object, ...]:
    """Return the values of what :data:`ALIKE` names; loads are alike that are nearest to the same power of two."""
    spec, launch = plan.spec, plan.launch
    return (
        (launch.engine, launch.device),
        round(math.log2(plan.load.batch)),
        (spec.format, (spec.quantization or "").lower(), launch.dtype, launch.variant),
        (spec.family, spec.size),
    )


def _estimate(least: Least, keys: tuple[object, ...], samples: Sequence[Sample], *, tokens: float | None) -> Estimate:
    """Return a rate of so many tokens in the least time, or a time, from the records that are most like a plan."""
    if least.seconds is None:
        return Estimate(note=least.why)
    own = Sample(keys, least.amount)
    found = ((depth, _like(own, samples, depth)) for depth in range(len(ALIKE), 0, -1))
    depth, like = next(((depth, like) for depth, like in found if like), (0, []))
    if not like and not least.is_sure:
        return Estimate(
            note="there is no record of a run like it, and the peak of its own type of numbers is not known"
        )
    efficiency = _median(like) if like else 1.0
    seconds = least.seconds / efficiency
    off = [one.efficiency / other for one, other in _left_out(samples, depth)] if like else []
    errors = [abs((each if tokens is None else 1 / each) - 1) for each in off]
    return Estimate(
        value=seconds if tokens is None else tokens / seconds,
        is_bound=not like,
        efficiency=efficiency if like else None,
        records=len(like),
        alike=ALIKE[:depth],
        error=_middle(errors) if errors else None,
        error_records=len(errors),
        formula=least.formula,
    )


def _like(one: Sample, samples: Iterable[Sample], depth: int) -> list[Sample]:
    """Return the samples with the first ``depth`` keys of another, and about its size; disturbed ones if need be."""
    found = [
        each
        for each in samples
        if each.keys[:depth] == one.keys[:depth]
        and max(one.amount, each.amount) <= SIMILAR * min(one.amount, each.amount)
    ]
    return _preferred(found)


def _preferred(samples: Sequence[Sample]) -> list[Sample]:
    return [each for each in samples if not each.is_disturbed] or list(samples)


def _left_out(samples: Sequence[Sample], depth: int) -> Iterable[tuple[Sample, float]]:
    """Yield each record with the efficiency that others would give it which are as much like it, and no more."""
    for one in _preferred(samples):
        closer = one.keys[: depth + 1]
        others = [
            each for each in samples if each is not one and (depth == len(ALIKE) or each.keys[: depth + 1] != closer)
        ]
        like = _like(one, others, depth)
        if like:
            yield one, _median(like)


def _median(samples: Iterable[Sample]) -> float:
    return _middle([each.efficiency for each in samples])


def _middle(values: Sequence[float]) -> float:
    """Return the median; Python's own module for that takes longer to import than a plan has."""
    ordered, half = sorted(values), len(values) // 2
    return ordered[half] if len(values) % 2 else (ordered[half - 1] + ordered[half]) / 2
