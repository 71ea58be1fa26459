"""What the numbers of a record are: how each is read and shown, and whether more of it is better."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping


class Metric(NamedTuple):
    """How a number of a record is read, shown and judged."""

    higher_is_better: bool
    unit: str
    base: str
    """The unit that a record has it in, in words, as OpenMetrics names units."""
    scale: float = 1.0
    """What a value is multiplied by to be in ``unit``."""


_RATE = Metric(higher_is_better=True, unit="tok/s", base="tokens_per_second")
_REQUESTS = Metric(higher_is_better=True, unit="req/s", base="requests_per_second")
_S = Metric(higher_is_better=False, unit="s", base="seconds")
_MS = Metric(higher_is_better=False, unit="ms", base="seconds", scale=1000.0)
_MIB = Metric(higher_is_better=False, unit="MiB", base="bytes", scale=2.0**-20)
_SPREAD = ("p50", "p95", "p99", "mean")
METRICS: dict[str, Metric] = {
    "output_tps": _RATE, "output_tps_full": _RATE, "total_tps": _RATE, "req_rate": _REQUESTS, "goodput": _REQUESTS,
    "slo_attainment": Metric(higher_is_better=True, unit="%", base="ratio", scale=100.0),
    **{f"{name}.{p}": _MS for name in ("ttft", "ttft_sched", "tpot", "icl", "e2e", "e2e_sched") for p in _SPREAD},
    **{f"{name}.{p}": _RATE for name in ("decode_tps_user", "prefill_tps", "decode_tps") for p in ("p50", "mean")},
    "load_s": _S, "ready_s": _S, "first_request_s": _S, "cpu_s": _S,
    "peak_rss": _MIB, "peak_vram": _MIB, "joules": Metric(higher_is_better=False, unit="J", base="joules"),
}  # fmt: skip
"""Every number that can be compared, and whether more of it is better."""


def value(metrics: Mapping[str, Any], metric: str) -> float | None:
    """Return one number of a record by its name here; null where the run does not support it."""
    name, _, part = metric.partition(".")
    whole = metrics.get(name)
    found = (whole or {}).get(part) if part else whole
    return None if found is None else float(found)
