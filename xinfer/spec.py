"""What the user may ask for: a model, a machine, an engine, a workload and the rules to judge by."""

from __future__ import annotations

import msgspec


class Workload(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the load generator sends: closed loop at a fixed concurrency."""

    name: str
    input_tokens: int
    output_tokens: int
    concurrency: int = 1
    requests: int = 1
    """How many measured requests are sent in all."""
    warmup: int = 1
    """How many requests are sent first and not measured; each has a prompt of its own."""
    timeout_s: float = 120.0
    """After this long a request counts as failed."""
