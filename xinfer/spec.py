"""What the user may ask for: a model, a machine, an engine, a workload and the rules to judge by."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

Shape = Literal["closed", "constant", "poisson", "offline", "trace"]


class Workload(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the load generator sends, and when."""

    name: str
    input_tokens: int
    output_tokens: int
    load: Shape = "closed"
    """closed: so many requests in flight, the next as soon as one ends. constant, poisson: at a rate, whatever the
    server does. offline: all at once. trace: at the instants and with the lengths that a file says."""
    concurrency: int = 1
    """Requests in flight of a closed loop; for the other loads the most that the server is planned for."""
    rate: float | None = None
    """Requests per second, of a constant or a Poisson load."""
    trace: str | None = None
    """A file of JSON lines with ``timestamp`` (ms), ``input_length`` and ``output_length``, as Mooncake's are."""
    shared_prefix: float = 0.0
    """The part of each prompt that all prompts share, from 0 to 1; the rest, a nonce first, is unlike every other."""
    requests: int = 1
    """How many measured requests are sent at least."""
    seconds: float = 0.0
    """How long a closed loop goes on at least."""
    warmup: int | None = None
    """How many requests are sent first and not measured, each with a prompt of its own; null is one for each place."""
    timeout_s: float = 120.0
    """After this long a request counts as failed."""

    @property
    def warmups(self) -> int:
        """How many requests are sent first."""
        return self.concurrency if self.warmup is None else self.warmup


class Repeat(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How often a cell is measured: the unit of all comparing is one run, start included."""

    least: int = 1
    most: int | None = None
    """More, up to so many, until the interval of the median throughput is narrow enough; null is no more."""
    width: float = 0.05
    """How narrow: the 95 % interval's length relative to the median."""
    cooldown_s: float = 0.0
    """A pause before each start but the first."""


class Limits(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a setting must keep to in order to count, in milliseconds; null is no limit."""

    ttft_p50_ms: float | None = None
    ttft_p99_ms: float | None = None
    tpot_p50_ms: float | None = None
    tpot_p99_ms: float | None = None
    e2e_p50_ms: float | None = None
    e2e_p99_ms: float | None = None

    def seconds(self) -> dict[str, float]:
        """Return the limits that there are by the name of their metric, in the record's unit."""
        known = {name.removesuffix("_ms").replace("_", "."): getattr(self, name) for name in self.__struct_fields__}
        return {metric: limit / 1000 for metric, limit in known.items() if limit is not None}


class Tune(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is looked for among an engine's settings, and for how long."""

    name: str
    metric: str | None = None
    """What is made as good as can be; null: nothing is tuned."""
    slo: Limits = Limits()
    trials: int = 20
    """Settings that are measured at most, the plan as it is among them."""
    minutes: float = 60.0
    """After so long no other is begun."""
    repeats: int = 5
    """How often the plan as it is and the best are measured again, in turns."""
    lossy: bool = True
    """Whether what may change the answers is tried too."""
    space: dict[str, Any] = {}
    """What to try instead of, or beside, what the plugin declares."""
    experiment: str | None = None
    """The name under which the best is kept."""
    seed: int = 0
