"""The same conditions judged by xinfer and by two rule engines for Python, side by side. No time is asserted, truth is.

The others are given every advantage: each condition is compiled once, facts are converted before the clock runs, all of
them are known, and true or false is all that they say. xinfer says what was observed and expected, and the way out.
"""

from __future__ import annotations

import gc
import json
import random
import statistics
import time
from typing import TYPE_CHECKING, Any, NamedTuple

import celpy
import pytest
import rule_engine
from celpy import adapter
from speed_table import print_table

from xinfer import catalog, engines
from xinfer.config.compose import Composer, conf_dir, read
from xinfer.judging import packs, rules
from xinfer.machine import hardware

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from xinfer.catalog import Spec
    from xinfer.facts import Hardware
    from xinfer.judging.rules import Pack

    Facts = Mapping[str, Any]
    Truths = list[bool]
    Judge = Callable[[str, Any], Any]
    """Says of one engine what its conditions make of some facts."""

PACK = "engines-2026-11"
COMPOSER = Composer(engines.conf_directories())
UNSAYABLE = {"version", "since", "until"}
"""What a condition has that neither of the others can say; it is left out for all three."""
KNOWN = {
    "model.size_b": 7.0, "model.architecture": "LlamaForCausalLM", "model.abilities": ("chat",), "model.heads": 32,
    "model.kv_heads": 8, "model.context_length": 4096, "hw.os": "linux", "hw.arch": "x86_64", "hw.cores": 16,
    "hw.memory_gib": 64.0, "hw.isa": ("avx2", "avx512f"), "hw.apple_silicon": False, "hw.cuda_devices": 0,
    "hw.rocm_devices": 0, "hw.gpu_memory_gib": 24.0, "hw.compute_capability": 8.9, "hw.device": "cpu",
    "engine.version": "1.0",
}  # fmt: skip
"""What takes the place of an unknown fact."""


class Dialect(NamedTuple):
    """How a language says what a rule says."""

    both: str
    either: str
    no: str
    remainder: str


CEL = Dialect(" && ", " || ", "!({})", "int({}) % {} == 0")
RULE_ENGINE = Dialect(" and ", " or ", "not ({})", "{} % {} == 0")


def name(fact: str) -> str:
    return fact.replace(".", "_")


def literal(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(literal(item) for item in flat(value))}]"
    return repr(float(value)) if isinstance(value, (int, float)) and not isinstance(value, bool) else json.dumps(value)


def flat(values: Sequence[Any]) -> list[Any]:
    return [item for part in values for item in (part if isinstance(part, (list, tuple)) else [part])]


def said(body: Mapping[str, Any], by: Dialect) -> str:
    """Write a condition in another language; what does not apply holds."""
    if body.get("when"):
        return f"({by.no.format(said(body['when'], by))}){by.either}({said({**body, 'when': None}, by)})"
    for word, glue in (("all", by.both), ("any", by.either)):
        if word in body:
            return glue.join(f"({said(part, by)})" for part in body[word])
    if "not" in body:
        return by.no.format(said(body["not"], by))
    fact = name(body["fact"])
    operator = next(key for key in body if key in SAYINGS)
    return SAYINGS[operator](fact, body[operator], by)


SAYINGS: dict[str, Callable[[str, Any, Dialect], str]] = {
    "eq": lambda fact, value, _: f"{fact} == {literal(value)}",
    "ne": lambda fact, value, _: f"{fact} != {literal(value)}",
    "in": lambda fact, value, _: f"{fact} in {literal(value)}",
    "not_in": lambda fact, value, by: by.no.format(f"{fact} in {literal(value)}"),
    "ge": lambda fact, value, _: f"{fact} >= {literal(value)}",
    "le": lambda fact, value, _: f"{fact} <= {literal(value)}",
    "has": lambda fact, value, _: f"{literal(value)} in {fact}",
    "divides": lambda fact, value, by: by.remainder.format(fact, int(value)),
    "present": lambda _fact, value, _by: literal(value),
}


def is_sayable(body: Any) -> bool:
    if isinstance(body, dict):
        return not UNSAYABLE & set(body) and all(map(is_sayable, body.values()))
    return not isinstance(body, list) or all(map(is_sayable, body))


def bodies() -> dict[str, dict[str, Any]]:
    """Return the conditions of each engine, as they are written."""
    raw = COMPOSER.rules(PACK)["engines"]
    return {engine: {rule: body for rule, body in each.items() if is_sayable(body)} for engine, each in raw.items()}


def pack() -> Pack:
    """Load the pack anew: nothing is remembered."""
    return packs.load({**COMPOSER.rules(PACK), "engines": bodies()}, PACK)


def grid() -> list[tuple[Spec, Hardware]]:
    """Return every artefact of the catalogue on every profile."""
    specs = catalog.rows(catalog.load(conf_dir() / "model").values(), None)
    profiles = [read(path) for path in sorted((conf_dir() / "hw").glob("*.yaml"))]
    machines = [hardware.declared(profile) for profile in profiles if not profile["detect"]]
    return [(spec, machine) for spec in specs for machine in machines]


def known(cells: Sequence[tuple[Spec, Hardware]]) -> list[Facts]:
    """Return the facts of some cells, with all of them known."""
    gathered = [rules.gather(spec, machine) for spec, machine in cells]
    return [{key: KNOWN.get(key) if value is None else value for key, value in facts.items()} for facts in gathered]


class Contestant(NamedTuple):
    who: str
    make: Callable[[], Judge]
    """What is not timed; of xinfer, a pack that remembers nothing yet."""
    cells: Callable[[], Iterator[Sequence[Any]]]
    """What is judged, in batches as small as those of the others: a computer is faster with what it has just seen."""
    truths: Callable[[Any], Truths]
    """Read what was said of one engine."""


def evaluating() -> Judge:
    tests = {engine: [each.evaluate for each in conditions] for engine, conditions in pack().engines.items()}
    return lambda engine, facts: rules.evaluate(engine, tests[engine], facts)


def with_rule_engine() -> Judge:
    context = rule_engine.Context(resolver=rule_engine.resolve_item)
    engines = {
        engine: [rule_engine.Rule(said(body, RULE_ENGINE), context).matches for body in each.values()]
        for engine, each in bodies().items()
    }
    return lambda engine, facts: [matches(facts) for matches in engines[engine]]


def with_cel() -> Judge:
    environment = celpy.Environment()
    engines = {
        engine: [environment.program(environment.compile(said(body, CEL))).evaluate for body in each.values()]
        for engine, each in bodies().items()
    }
    return lambda engine, facts: [evaluate(facts) for evaluate in engines[engine]]


def of_findings(verdict: rules.Verdict) -> Truths:
    return [finding.result == "met" for finding in verdict.findings]


def of_list(answers: Sequence[Any]) -> Truths:
    return [bool(answer) for answer in answers]


def plain(facts: Facts) -> dict[str, Any]:
    """Return facts by names and as values that other languages have; all their numbers are floating."""
    found = {name(key): list(value) if isinstance(value, tuple) else value for key, value in facts.items()}
    return {key: float(value) if type(value) is int else value for key, value in found.items()}


def timed(contestant: Contestant, engines: Sequence[str]) -> float:
    """Return the microseconds of a processor that one verdict took, without collecting garbage, as ``timeit`` does."""
    judge, taken_s, count = contestant.make(), 0.0, 0
    gc.collect()
    gc.disable()
    for batch in contestant.cells():
        began_s = time.process_time()
        for facts in batch:
            for engine in engines:
                judge(engine, facts)
        taken_s, count = taken_s + time.process_time() - began_s, count + len(batch) * len(engines)
    gc.enable()
    return taken_s * 1e6 / count


def test_beside_other_rule_engines(benchmark: Any) -> None:
    """In turns, so that a busy moment slows all; xinfer over the whole grid from nothing, the others over a part."""
    rounds, part = (1, 10) if benchmark.disabled else (5, 100)
    whole, engines = grid(), list(bodies())
    chosen = random.Random(5).sample(whole, part)  # noqa: S311 -- the same ones each time
    sample = known(chosen)
    batches = range(0, part if benchmark.disabled else len(whole), part)
    plainly = [plain(facts) for facts in sample]
    in_cel = [{key: adapter.json_to_cel(value) for key, value in facts.items()} for facts in plainly]
    contestants = (
        Contestant(
            "xinfer", lambda: pack().judge, lambda: (known(whole[at : at + part]) for at in batches), of_findings
        ),
        Contestant("xinfer, remembering nothing", evaluating, lambda: iter([sample]), of_findings),
        Contestant("rule-engine", with_rule_engine, lambda: iter([plainly]), of_list),
        Contestant("cel-python", with_cel, lambda: iter([in_cel]), of_list),
    )
    taken: list[list[float]] = []
    benchmark.pedantic(lambda: taken.append([timed(each, engines) for each in contestants]), rounds=rounds)
    samples: tuple[Sequence[Any], ...] = (sample, sample, plainly, in_cel)
    truths = [
        [each.truths(judge(engine, facts)) for facts in given for engine in engines]
        for each, given in zip(contestants, samples, strict=True)
        for judge in [each.make()]
    ]
    assert all(found == truths[0] for found in truths)
    assert {truth for verdict in truths[0] for truth in verdict} == {True, False}
    rows = [("one core, the same conditions", "µs a verdict", "times", "over")]
    for at, each in enumerate(contestants):
        verdict_us = statistics.median(turn[at] for turn in taken)
        times = statistics.median(turn[at] / turn[0] for turn in taken)
        count = (len(whole) if at == 0 else part) * len(engines)
        rows.append((each.who, f"{verdict_us:.2f}", f"{times:.1f}", f"{count} verdicts"))
    print_table(rows)


@pytest.mark.parametrize("language", [CEL, RULE_ENGINE], ids=["cel", "rule-engine"])
def test_a_condition_is_said_in_another_language(language: Dialect) -> None:
    body = {
        "when": {"fact": "hw.os", "eq": "linux"},
        "any": [{"fact": "hw.isa", "has": "avx2"}, {"not": {"fact": "hw.cores", "ge": 2}}],
    }
    glue, no = language.either, language.no
    first, second = no.format('hw_os == "linux"'), no.format("hw_cores >= 2.0")
    assert said(body, language) == f'({first}){glue}(("avx2" in hw_isa){glue}({second}))'
