"""Who takes part in a comparison of answers: each engine that the rules allow, with the same weights and arithmetic."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from xinfer import apikey, flow, judgement, keys
from xinfer.config import overrides
from xinfer.engines import typed
from xinfer.errors import ConfigError, Refused, XinferError, nearest
from xinfer.machine import hardware

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from xinfer.catalog import Spec
    from xinfer.config.compose import Composer
    from xinfer.flow import Planned
    from xinfer.plan import LaunchPlan

CONTEXT = 2048
"""Tokens of one sequence; the prompts and answers need a tenth of it."""
DTYPE = "float32"
"""What is computed in where nothing else is asked: the differences that rounding makes are smallest."""
FILES = {"F32": "float32", "BF16": "bfloat16", "F16": "float16"}
"""What a file whose own types decide is computed in, by the name of its quantization."""
EXACT = {
    "float32": ("NONE", "F32", "BF16", "F16", "Q8_0"),
    "bfloat16": ("NONE", "BF16", "F32", "F16", "Q8_0"),
    "float16": ("NONE", "F16", "F32", "BF16", "Q8_0"),
}
"""Which weights are chosen for a type where several are there: its own, then the nearest."""
FEWEST = 2
TOKENS = 512


class Asked(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The ``parity`` node of the configuration."""

    engines: tuple[str, ...] | None = None
    """Null: every engine that the rules say yes to."""
    tokens: int = 24
    """How many are generated for each prompt."""


class Seat(NamedTuple):
    """An engine that was thought of: its plan, or why it takes no part."""

    engine: str
    planned: Planned | None
    refusal: XinferError | None


def asked(config: Mapping[str, Any]) -> Asked:
    """Give the ``parity`` node its type; ConfigError for what a comparison cannot do."""
    found = typed(config["parity"], Asked, "parity")
    if not 1 <= found.tokens <= TOKENS:
        raise ConfigError(f"parity.tokens={found.tokens} is not a number from 1 to {TOKENS}")
    if found.engines is not None and len(set(found.engines)) < FEWEST:
        raise ConfigError(f"parity.engines={_listed(found.engines)} must name two engines or more")
    if apikey.variable(config):
        raise ConfigError("parity asks only servers of its own, on this machine; leave the key out")
    return found


def seats(config: Mapping[str, Any], typed_overrides: Sequence[str], composer: Composer) -> tuple[Seat, ...]:
    """Judge every engine; raise Refused where fewer than two are left, or one that was named is refused.

    Raises ConfigError for settings that would be meant for all engines at once.
    """
    wanted = asked(config)
    for override in map(overrides.read, typed_overrides):
        if override.top == "engine":
            message = f"{override.key}= is of one engine, and parity starts several; choose with parity.engines="
            raise ConfigError(message)
    question = flow.ask(dict(config), composer, detect=judgement.detect)
    known = question.pack.order(question.hardware)
    for name in wanted.engines or ():
        if name not in known:
            raise ConfigError(f"parity.engines: {question.pack.name} has no engine {name!r}{nearest(name, known)}")
    names = known if wanted.engines is None else tuple(dict.fromkeys(wanted.engines))
    found = tuple(_seat(name, typed_overrides, composer, wanted) for name in names)
    _check(found, wanted)
    return found


def _seat(name: str, typed_overrides: Sequence[str], composer: Composer, wanted: Asked) -> Seat:
    try:
        config = alike(composer.compose([*typed_overrides, f"engine={name}"]), wanted.tokens)
        planned = _planned({**config, "dtype": None}, config["dtype"], composer)
        judgement.launched(planned)
        verdict = next(each for each in planned.decision.verdicts if each.engine == name)
        if verdict.verdict != "yes" and wanted.engines is None:
            unknown = ", ".join(finding.id for finding in verdict.of("unknown"))
            raise Refused(f"{planned.decision.rules} cannot decide whether {name} may serve this: {unknown}")
        if not _file_decides(planned.decision.spec):
            planned = _planned(config, config["dtype"], composer)
    except XinferError as error:
        return Seat(name, None, error)
    return Seat(name, planned, None)


def _planned(config: dict[str, Any], dtype: str, composer: Composer) -> Planned:
    question = flow.ask(config, composer, detect=judgement.detect)
    here = hardware.completed(question.hardware, judgement.detect())
    candidates = exact(question.candidates, dtype)
    return flow.plan(msgspec.structs.replace(question, candidates=candidates, hardware=here), composer)


def alike(config: Mapping[str, Any], tokens: int) -> dict[str, Any]:
    """Return the configuration of an engine so that it computes as all others do, one request at a time."""
    most = config["model"].get("context_length") or CONTEXT
    workload = {
        "name": "parity", "input_tokens": 1, "output_tokens": tokens, "concurrency": 1, "requests": 1, "warmup": 0,
        "timeout_s": keys.workload(config["workload"]).timeout_s,
    }  # fmt: skip
    length = config["context_length"] or min(CONTEXT, most)
    return {**config, "dtype": config["dtype"] or DTYPE, "context_length": length, "workload": workload}


def exact(candidates: Sequence[Spec], dtype: str) -> tuple[Spec, ...]:
    """Return, of each format, the artefacts whose weights lose least in a type."""
    order = EXACT[dtype]

    def loss(spec: Spec) -> int:
        quantization = (spec.quantization or "none").upper()
        return order.index(quantization) if quantization in order else len(order)

    least = {spec.format: min(loss(each) for each in candidates if each.format == spec.format) for spec in candidates}
    return tuple(spec for spec in candidates if loss(spec) == least[spec.format])


def _file_decides(spec: Spec) -> bool:
    return (spec.format or "").startswith("gg")


def precision(launch: LaunchPlan, spec: Spec) -> str:
    """Return what an engine computes in; for weights of fewer bits, the name of their quantization."""
    quantization = spec.quantization or "none"
    if _file_decides(spec):
        return FILES.get(quantization.upper(), quantization)
    return launch.dtype or "not known" if quantization == "none" else quantization


def _check(found: Sequence[Seat], wanted: Asked) -> None:
    """Raise what keeps a comparison from being one."""
    refused = [seat for seat in found if seat.refusal]
    details = tuple(f"{seat.engine}: {seat.refusal}" for seat in refused)
    if wanted.engines is not None and refused:
        first = refused[0]
        raise type(first.refusal or Refused())(f"parity.engines: {details[0]}", details=details[1:])
    taken = [seat for seat in found if seat.planned]
    if len(taken) < FEWEST:
        who = f"{taken[0].engine} alone" if taken else "no engine"
        raise Refused(f"parity compares two engines or more, and {who} may serve this model here", details=details)
    sizes = {seat.planned.decision.spec.size: seat.engine for seat in taken if seat.planned}
    if len(sizes) > 1:
        said = ", ".join(f"{engine} {size}" for size, engine in sizes.items())
        raise ConfigError(f"the engines would serve models of different sizes ({said}); choose one with model.size=")


def _listed(names: Sequence[str]) -> str:
    return f"[{','.join(names)}]"
