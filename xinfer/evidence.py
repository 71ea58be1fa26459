"""Which of several engines the records of this machine show to be the fastest: what ``choose=measured`` goes by.

A record counts if it is of an artefact and of settings that would be served, was measured here by xinfer, is not
flagged, and its workload is near to the one that is asked for. Engines are compared on one workload only, and one is
called faster by the rule of ``xinfer compare`` (:data:`xinfer.measuring.statistics.RULE`).
"""

from __future__ import annotations

import math
from collections import Counter
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, NamedTuple

from xinfer import comparability, record
from xinfer.measuring import statistics

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from xinfer.catalog import Spec
    from xinfer.comparability import Keys
    from xinfer.facts import Hardware
    from xinfer.record import Record
    from xinfer.spec import Workload

    Options = Sequence[tuple[str, Spec]]

NEAR = 4.0
"""How many times more or less a workload may ask for, of each of :data:`SIZES`, to say anything of another."""
SIZES = {"input_tokens": "input", "output_tokens": "output", "concurrency": "requests at once"}
_ARTEFACT = ("format", "quantization")
_FREE = ("quantization",)
"""What may differ between engines: each serves the artefact that would be chosen for it."""
_PAIR = 2


class Archive(NamedTuple):
    """What is kept of earlier runs, where they lie, and what machine this is."""

    place: str
    records: Sequence[Record]
    """The newest first."""
    machine: Keys
    """This machine's fingerprint, as records have it."""
    elsewhere: str = ""
    """Why nothing that is kept here tells of the machine that is planned for."""


class Answer(NamedTuple):
    """The engine that was found to be the fastest, if any was, and why."""

    engine: str | None
    because: tuple[str, ...]


class _Field(NamedTuple):
    """The comparable runs of one workload, by engine, in the order of the options."""

    workload: Mapping[str, Any]
    runs: dict[str, list[Record]]

    @property
    def able(self) -> list[str]:
        """The engines that ran often enough."""
        return [engine for engine, runs in self.runs.items() if len(runs) >= statistics.LEAST]


class Evidence(NamedTuple):
    """What was measured here, and what is asked for."""

    archive: Archive
    workload: Workload
    hardware: Hardware
    settings: Mapping[str, Any]
    """The ``engine`` node, which is laid over each engine's own."""
    dtype: str | None
    defaults: Callable[[str], Mapping[str, Any]]
    """What an engine's settings are where nothing is asked for."""

    def fastest(self, options: Options) -> Answer:
        """Return the fastest of the engines with the artefact that each would serve, the documented choice first."""
        if len(options) < _PAIR:
            return _none("no other engine may serve it")
        if self.archive.elsewhere:
            return _none(self.archive.elsewhere)
        left_out: Counter[str] = Counter()
        fields: list[tuple[Keys, _Field]] = []
        for made in self.archive.records:
            if not _is_of(made, options):
                continue
            why = self._flaw(made, dict(options)) or self._sort(made, fields, [engine for engine, _ in options])
            if why:
                left_out[why] += 1
        answer = self._judged([field for _, field in fields], options[0][0])
        others = ", ".join(f"{count} {why}" for why, count in left_out.most_common())
        return answer._replace(because=(*answer.because, *([f"records that do not count: {others}"] if others else [])))

    def _flaw(self, made: Record, options: Mapping[str, Spec]) -> str:
        """Say why a record of this model does not count; empty where it does."""
        engine = str((made.launch or {}).get("engine"))
        flags = ", ".join(sorted({str(flag["id"]) for flag in made.flags}))
        flaws: dict[str, Callable[[], bool]] = {
            "without numbers": lambda: made.status != "ok" or not (made.metrics or {}).get("output_tps"),
            "measured another way": lambda: bool(made.foreign) or made.protocol != record.PROTOCOL,
            "of another machine": lambda: not self._is_here(made),
            "of what would not be served": lambda: engine not in options or not _is_artefact(made, options[engine]),
            "with other settings": lambda: not self._is_set_alike(made, engine),
            f"flagged ({flags})": lambda: bool(flags),
            "of a workload that is not near": lambda: self._doublings(made.config["workload"]) is None,
        }
        return next((name for name, is_so in flaws.items() if is_so()), "")

    def _is_here(self, made: Record) -> bool:
        """Say whether it was measured on this machine, and on as much of it as is planned for."""
        kept = made.hardware or {}
        parts = {name: getattr(self.hardware, name) for name in ("gpus", "cores")}
        is_whole = all(value is None or kept.get(name) == value for name, value in parts.items())
        return is_whole and comparability.machine(made.machine) == comparability.machine(self.archive.machine)

    def _is_set_alike(self, made: Record, engine: str) -> bool:
        """Say whether an engine was told then what it would be told now."""
        defaults, then = self.defaults(engine), made.config.get("engine") or {}
        return made.config.get("dtype") == self.dtype and _laid(then, defaults) == _laid(self.settings, defaults)

    def _doublings(self, sent: Mapping[str, Any]) -> float | None:
        """Return how often a workload must be doubled or halved to be the other; null where it is another kind."""
        asked = self.workload
        same = (sent.get("load", "closed"), sent.get("shared_prefix", 0.0), asked.load)
        if same != (asked.load, asked.shared_prefix, "closed"):
            return None
        steps = [abs(math.log2(sent.get(name, 1) / getattr(asked, name))) for name in SIZES]
        return None if max(steps) > math.log2(NEAR) else sum(steps)

    def _sort(self, made: Record, fields: list[tuple[Keys, _Field]], order: Sequence[str]) -> str:
        """Put a run beside those that it may be compared with; say why if it is of an older version than they are."""
        keys, engine = comparability.keys(made), str((made.launch or {})["engine"])
        field = next((f for other, f in fields if not comparability.differences(other, keys, _FREE)[0]), None)
        if field is None:
            field = _Field(made.config["workload"], {name: [] for name in order})
            fields.append((keys, field))
        runs = field.runs[engine]
        if runs and _version(runs[0]) != _version(made):
            return "of another version than the newest"
        runs.append(made)
        return ""

    def _judged(self, fields: Sequence[_Field], documented: str) -> Answer:
        """Choose by the nearest workload with which two engines ran often enough."""

        def rank(field: _Field) -> tuple[bool, float, int]:
            return len(field.able) < _PAIR, self._doublings(field.workload) or 0.0, -len(field.able)

        nearest = min(fields, key=rank, default=None)
        if nearest is None:
            return _none(f"no record below {self.archive.place} tells")
        if len(nearest.able) < _PAIR:
            had = ", ".join(f"{len(runs)} of {engine}" for engine, runs in nearest.runs.items())
            return _none(f"{self._named(nearest)} has {had}; {statistics.LEAST} each of two engines are needed")
        return self._compared(nearest, documented)

    def _compared(self, field: _Field, documented: str) -> Answer:
        """Hold all against the first of those that were measured, which is the documented choice if that was."""
        rates = {engine: [_rate(made) for made in field.runs[engine]] for engine in field.able}
        first, *others = field.able
        best = max(rates, key=lambda engine: statistics.centre(rates[engine]).median)
        verdicts = list(_verdicts(rates[first], [rates[engine] for engine in others]))
        unmeasured = ", ".join(engine for engine in field.runs if engine not in rates)
        because = (
            f"measured with {self._named(field)}, by output tokens per second",
            *(_told(engine, field.runs[engine]) for engine in rates),
            *(f"{engine} beside {first}: {said}" for engine, (_, said) in zip(others, verdicts, strict=True)),
            *([f"not measured, or not often enough: {unmeasured}"] if unmeasured else []),
        )
        won = dict(zip(others, (verdict for verdict, _ in verdicts), strict=True))
        is_sure = set(won.values()) == {"worse"} if best == first else won[best] == "better"
        if is_sure:
            return Answer(best, because)
        doubt = f"none is shown to be faster than {best}" if best == documented else "the runs decide nothing"
        return Answer(None, (f"choose=measured: {doubt}", *because))

    def _named(self, field: _Field) -> str:
        """Name a workload, and say how far it is from the one that is asked for."""
        sent, asked = field.workload, self.workload
        shape = ", ".join(f"{sent.get(name, 1)} {title}" for name, title in SIZES.items())
        steps = {title: sent.get(name, 1) / getattr(asked, name) for name, title in SIZES.items()}
        off = ", ".join(f"{title} x {step:.3g}" for title, step in steps.items() if step != 1)
        near = f"the nearest to {asked.name}: {off}" if off else f"as large as {asked.name}"
        return f"workload {sent.get('name')} ({shape}; {near})"


def _is_of(made: Record, options: Options) -> bool:
    """Say whether a record is of the same network."""
    spec, own = (made.decision or {}).get("spec") or {}, options[0][1]
    return (spec.get("family"), spec.get("size")) == (own.family, own.size)


def _is_artefact(made: Record, spec: Spec) -> bool:
    return all((made.decision or {})["spec"].get(part) == getattr(spec, part) for part in _ARTEFACT)


def _laid(node: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Lay what was asked for over an engine's defaults, as it is for ``engine=auto``; its name is no setting."""
    whole = {**defaults, **{key: value for key, value in node.items() if value not in (None, {})}}
    return {key: value for key, value in whole.items() if key != "name" and value not in (None, {})}


def _version(made: Record) -> tuple[Any, Any]:
    return (made.launch or {}).get("version"), (made.launch or {}).get("variant")


def _rate(made: Record) -> float:
    return float((made.metrics or {})["output_tps"])


def _verdicts(base: Sequence[float], others: Sequence[Sequence[float]]) -> Iterator[tuple[str, str]]:
    """Yield of each whether it gives more than the baseline, and in numbers how much more."""
    found = [statistics.effect(base, other) for other in others]
    corrected = statistics.holm([each.p for each in found if each])
    for each, p in zip(filter(None, found), corrected, strict=True):
        verdict, why = statistics.judge(each, p, rows=len(others), higher_is_better=True)
        low, high = each.ci or (0.0, math.inf)
        yield verdict, f"{verdict}, {each.ratio:.3g} times as many [{low:.3g}, {high:.3g}], p {p:.2g} ({why})"


def _told(engine: str, runs: Sequence[Record]) -> str:
    """Say what an engine reached, with which artefact and in which runs."""
    made, middle = runs[-1], statistics.centre([_rate(made) for made in runs])
    spec, launch = (made.decision or {})["spec"], made.launch or {}
    low, high = middle.ci or (middle.median, middle.median)
    what = " ".join(str(part) for part in (engine, launch.get("version"), *(spec[name] for name in _ARTEFACT)) if part)
    where = PurePath(made.path).parent.parent
    return f"{what}: {middle.median:.1f} tok/s [{low:.1f}, {high:.1f}] in {middle.n} runs, {where}"


def _none(why: str) -> Answer:
    return Answer(None, (f"choose=measured: {why}",))
