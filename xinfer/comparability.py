"""Which records may stand in one row: what defines the work and the machine must be the same in both.

The engine, its version and its settings are what is compared, and may differ.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from xinfer.spec import Workload

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from xinfer.record import Record

ALLOWABLE = {"quantization": ("model.format", "model.quantization")}
"""What a user may let differ, and the keys that are meant."""
ARTEFACT = tuple(f"model.{name}" for name in ("hub", "id", "revision", "file", "bytes", "fingerprint", "derived"))
"""Which file it is: what must be equal where format and quantization are."""
OWN = "xinfer"
"""What stands for a load generator where it is not somebody else's."""
WORK = ("prompts_hash", "prompt_tokens per request", "output_tokens per request")
"""What was really read and written."""
PATIENCE = ("name", "timeout_s")
"""What of a workload changes no number: how it is called, and when a request counts as failed."""
DEVIATION = 0.01
"""How far the tokens of a request may differ, as a part: some engines put a control token of their own in front."""
_NOT_SPEED = ("id", "os_version", "kernel")
"""What of a machine's fingerprint an update changes, and the hash over the rest."""


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """A key whose values are not the same; null is not known."""

    key: str
    values: tuple[Any, Any]


Keys = dict[str, Any]


def keys(made: Record) -> Keys:
    """Return what must be the same, by names that a user can find in the record; null is not known."""
    numbers, spec = made.metrics or {}, (made.decision or {}).get("spec") or {}
    found: dict[str, Any] = {"protocol": made.protocol, "loadgen": (made.foreign or {}).get("source", OWN)}
    found |= {"scope": numbers.get("scope"), "machine": machine(made.machine)}
    found |= {key: spec.get(key.partition(".")[2]) for key in ("model.family", "model.size")}
    found |= {key: spec.get(key.partition(".")[2]) for key in (*ALLOWABLE["quantization"], *ARTEFACT)}
    if (made.launch or {}).get("base_url"):
        found["model.served"] = (made.capabilities or {}).get("model")
    asked = made.config.get("workload") or {}
    for field in msgspec.structs.fields(Workload):
        if field.name not in PATIENCE:
            default = None if field.required else field.default
            found[f"workload.{field.name}"] = asked.get(field.name, default)
    if found["workload.warmup"] is None:
        found["workload.warmup"] = found["workload.concurrency"] or 1  # as Workload.warmups
    found["prompts_hash"] = made.prompts_hash
    fine = (numbers.get("requests") or 0) - (numbers.get("failed") or 0)
    for key in WORK[1:]:
        total = numbers.get(key.partition(" ")[0])
        found[key] = None if total is None or fine <= 0 else total / fine
    return found


def machine(facts: Keys | None) -> Keys | None:
    """Return what of a machine's fingerprint must be the same."""
    return facts and dict(_machine(facts))


def _machine(facts: Keys) -> Iterator[tuple[str, Any]]:
    """Yield what a machine's speed depends on; memory in whole GiB, since kernels differ in what they keep."""
    for name, value in facts.items():
        if name == "memory_gib":
            yield name, None if value is None else round(value)
        elif name == "gpus":
            yield name, [{key: fact for key, fact in gpu.items() if key != "driver"} for gpu in value or ()]
        elif name not in _NOT_SPEED:
            yield name, value


def differences(
    one: Keys, other: Keys, allowed: Collection[str] = ()
) -> tuple[tuple[Difference, ...], tuple[Difference, ...]]:
    """Return what forbids to compare two records, and what differs by the user's leave (names in ``ALLOWABLE``).

    What must be known to be compared and is not known in both is a difference too. Other load generators keep no
    account of their prompts, and not all of them of tokens: of theirs what is known is compared. Where the protocol is
    not the same, that is all there is to say.
    """
    found = list(_unequal(one, other))
    if found and found[0].key == "protocol":
        return (found[0],), ()
    free = {key for each in allowed for key in ALLOWABLE[each]} & {each.key for each in found}
    if free:
        found = [each for each in found if each.key not in ARTEFACT]
    refused = tuple(each for each in found if each.key not in free)
    return refused, tuple(each for each in found if each.key in free)


def _unequal(one: Keys, other: Keys) -> Iterator[Difference]:
    needed = {"protocol", "scope", "machine", *(WORK if one["loadgen"] == OWN else ())}
    for key in dict.fromkeys((*one, *other)):
        first, second = one.get(key), other.get(key)
        if key == "machine" and first and second:
            facts = (name for name in dict.fromkeys((*first, *second)) if first.get(name) != second.get(name))
            yield from (Difference(key=f"machine.{n}", values=(first.get(n), second.get(n))) for n in facts)
        elif not _is_equal(key, first, second) or (key in needed and first is None):
            yield Difference(key=key, values=(first, second))


def _is_equal(key: str, one: Any, other: Any) -> bool:
    if key.endswith(" per request") and one is not None and other is not None:
        return bool(abs(one - other) <= DEVIATION * max(one, other))
    return bool(one == other)
