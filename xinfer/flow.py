"""The whole program, in the order in which data flows: compose, detect, evaluate, decide, plan, run, record."""

from __future__ import annotations

import os
import socket
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from xinfer import apikey, catalog, engines, external, history, keys
from xinfer.catalog import Family, Spec
from xinfer.config.compose import Composer
from xinfer.config.document import read
from xinfer.engines import Engine, Job, typed
from xinfer.errors import ConfigError, EngineError, XinferError
from xinfer.facts import Hardware
from xinfer.judging import decision, disagreement, packs, releases, supplement
from xinfer.judging.decision import Decision, Prefer
from xinfer.judging.disagreement import Disagreement
from xinfer.judging.rules import Pack
from xinfer.machine import hardware
from xinfer.plan import LaunchPlan
from xinfer.planning import advice, cache, memory, parallel
from xinfer.planning.advice import Advice, Case
from xinfer.planning.cache import Place
from xinfer.planning.prediction import Prediction
from xinfer.spec import Workload

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from xinfer.evidence import Evidence

T = TypeVar("T")
DEFAULT_CONTEXT = 4096
"""Tokens of one sequence where nothing else is asked: enough for a conversation, little enough for any machine."""


class Ask(msgspec.Struct, frozen=True, kw_only=True):
    """One cell, composed and checked: what the user asked for, before anything is decided."""

    config: dict[str, Any]
    family: Family
    day: str | None
    candidates: tuple[Spec, ...]
    hardware: Hardware
    engine: dict[str, Any]
    workload: Workload
    capacity: Workload
    """What a server is planned for: the workload, or the most of several that it serves one after another."""
    pack: Pack
    prefer: Prefer
    evidence: Evidence | None = None
    """What a choice by measurement goes by; null where it is made by documented order."""


class Planned(msgspec.Struct, frozen=True, kw_only=True):
    """A decision and, unless the rules refuse, the plan that carries it out."""

    ask: Ask
    decision: Decision
    launch: LaunchPlan | None
    settings: dict[str, Any]
    """The engine's settings: the same whether the engine was named or chosen."""
    today: tuple[Disagreement, ...] | None = None
    """Where the pack of today's engines judges otherwise; null where nothing was compared with it."""
    advice: tuple[Advice, ...] = ()
    """Which of the plan's choices cost speed or memory."""
    predicted: Prediction | None = None
    """How fast it is expected to be; null where nobody asked (``forecast.foreseen``)."""

    def document(self) -> dict[str, Any]:
        """Return the versioned JSON document that ``xinfer plan format=json`` prints."""
        launch = None
        if self.launch is not None:
            launch = {"install": self.launch.install, **msgspec.structs.asdict(self.launch)}
        today = None if self.today is None else {"rules": disagreement.TODAY, "disagreements": self.today}
        return {
            "schema": 1, "model": self.decision.spec, "hardware": self.ask.hardware,
            "decision": self.decision, "today": today, "launch": launch, "advice": self.advice,
            "predicted": self.predicted,
        }  # fmt: skip


def ask(config: dict[str, Any], composer: Composer, *, detect: Callable[[], Hardware] = hardware.detect) -> Ask:
    """Check a composed configuration and give its parts their types; ConfigError names the key."""
    keys.check(config)
    chosen = config["model"]
    pack = supplement.chosen(config["rules"], composer)
    day = day_of(config, pack)
    family, candidates = _candidates(chosen, day)
    workload = keys.workload(config["workload"])
    machine, engine = hardware.declared(config["hw"], detect), dict(config["engine"])
    return Ask(
        config=config, family=family, day=day, candidates=candidates, hardware=machine, engine=engine,
        workload=workload, capacity=workload,
        pack=releases.settled(pack, machine, engine, is_here=hardware.is_read(config["hw"])),
        prefer=typed(config["prefer"], Prefer, "prefer"),
        evidence=history.evidence(config, machine, workload, detect, lambda name: read(composer.file("engine", name))),
    )  # fmt: skip


def _candidates(chosen: Mapping[str, Any], day: str) -> tuple[Family, tuple[Spec, ...]]:
    """Return what was published of a family on a day and chosen; or what a source of other models has."""
    if catalog.is_open(chosen):
        from xinfer.sources import source  # noqa: PLC0415 -- only a model that no catalogue lists needs its readers

        found = source.specs(chosen)
        return Family(family=found[0].family, rows=()), found
    family = catalog.parse(chosen, f"model/{chosen.get('family')}.yaml")
    return family, catalog.select(
        family, day=day, size=_text(chosen.get("size")), format=_text(chosen.get("format")),
        quantization=_text(chosen.get("quantization")), hub=_text(chosen.get("hub")),
    )  # fmt: skip


def day_of(config: Mapping[str, Any], pack: Pack) -> str:
    """Return the day whose catalogue is meant: the chosen one, else that of the rule pack, else the latest."""
    day = _text(config["catalog"]) or pack.catalog or catalog.DAYS[-1]
    keys.check_day(day)
    return day


def plan(
    asked: Ask, composer: Composer, *, port: int | None = None, python: str | None = None, compares: bool = True
) -> Planned:
    """Decide, and write the launch plan out; nothing outside is touched.

    ``compares`` says whether the plan is held against others: today's rules, and what is known to be faster.
    """
    if asked.engine["name"] == "external":
        served, running = external.plan(asked.engine, asked.pack.name)
        return Planned(ask=asked, decision=served, launch=running, settings=asked.engine)
    decided = decide(asked, composer, compares=compares)
    made = decided.decision
    if made.engine is None:
        return decided
    usable, _ = engines.load(asked.pack.engines)
    engine = usable[made.engine]
    settings = settings_of(asked, composer, made.engine)
    parallel.check_nodes(made.engine, asked.hardware, parallel.declared(usable, settings))
    job = Job(
        spec=made.spec, hardware=asked.hardware, settings=settings,
        workload=asked.capacity, context_length=context_of(asked, made.spec), home=str(home(asked.config)),
        python=python or interpreter(), port=port or asked.config["port"] or engine.port,
        dtype=asked.config["dtype"], installer=asked.config["installer"],
    )  # fmt: skip
    launched = _of_plugin(engine, "planned", lambda: engine.plan(job))
    launch = _completed(launched, job, asked, _key_variables(engine, asked, usable))
    if not compares:
        return msgspec.structs.replace(decided, launch=launch, settings=settings)
    case = Case(job, launch, asked.family, asked.day, _usual(engine, job))
    given = _of_plugin(engine, "advised", lambda: advice.given(engine, case))
    return msgspec.structs.replace(decided, launch=launch, settings=settings, advice=given)


def decide(asked: Ask, composer: Composer, *, compares: bool = True) -> Planned:
    """Judge every engine and choose, and plan no launch."""
    name = asked.engine["name"]
    usable, broken = engines.load(asked.pack.engines)
    tokens = context_of(asked, asked.candidates[0]) * asked.capacity.concurrency
    made = decision.decide(
        asked.pack, asked.candidates, asked.hardware, asked.prefer,
        engine=None if name == "auto" else name, broken=broken, tokens=tokens, python=asked.engine.get("python"),
        sequences=asked.capacity.concurrency, splits=parallel.declared(usable, asked.engine),
        fastest=asked.evidence.fastest if asked.evidence else None,
    )  # fmt: skip
    today = _today(asked, made, composer, broken) if compares else None
    return Planned(ask=asked, decision=made, launch=None, settings=asked.engine, today=today)


def home(config: Mapping[str, Any]) -> Path:
    """Return the cache directory: ``home=``, else ``$XINFER_HOME``, else ``~/.cache/xinfer``."""
    chosen = config["home"] or os.environ.get("XINFER_HOME")
    base = Path(chosen) if chosen else Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "xinfer"
    return base.expanduser().absolute()


def interpreter() -> str:
    """Return the Python that creates environments: the one behind this virtual environment, and all others."""
    return str(Path(sys.executable).resolve())


def free_port() -> int:
    """Ask the system for a loopback port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _today(
    asked: Ask, made: Decision, composer: Composer, broken: Mapping[str, str]
) -> tuple[Disagreement, ...] | None:
    """Judge the same artefact by the pack of today's engines, unless the plan is made by that one."""
    if asked.pack.name == disagreement.TODAY:
        return None
    pack, is_here = packs.named(disagreement.TODAY, composer), hardware.is_read(asked.config["hw"])
    pack = releases.settled(pack, asked.hardware, asked.engine, is_here=is_here)
    verdicts = decision.judge_all(pack, made.spec, asked.hardware, broken, asked.engine.get("python"))
    return disagreement.between(made.verdicts, verdicts)


def _of_plugin(engine: Engine, doing: str, work: Callable[[], T]) -> T:
    """Let an adapter do its part; whatever else than a refusal it raises is the plugin's fault, and says so."""
    try:
        return work()
    except XinferError:
        raise
    except Exception as error:
        message = f"the plugin of {engine.name} broke while it {doing}: {type(error).__name__}: {error}"
        raise EngineError(message) from error


def _usual(engine: Engine, job: Job) -> str | None:
    """Return the version that an adapter takes if it is not told; null where it was not."""
    if job.settings.get("version") is None:
        return None
    try:
        return engine.plan(msgspec.structs.replace(job, settings={**job.settings, "version": None})).version
    except Exception:  # noqa: BLE001 -- a plugin may raise anything; it has planned once
        return None


def _key_variables(engine: Engine, asked: Ask, usable: Mapping[str, Engine]) -> dict[str, str]:
    """Return how the engine gets an API key; ConfigError if one is asked for and it checks none."""
    found = engines.key_variables(engine)
    if apikey.variable(asked.config) and not found:
        able = ", ".join(name for name, other in usable.items() if engines.key_variables(other))
        raise ConfigError(f"{engine.name} checks no API key, so everybody here could use it; these check one: {able}")
    return found


def _completed(launch: LaunchPlan, job: Job, asked: Ask, key_variables: dict[str, str]) -> LaunchPlan:
    """Add what the adapter does not know: the memory lines, the key's way, what the pack says of such a build."""
    estimated = memory.estimate(
        job.spec, job.hardware, tokens=job.context_length * job.workload.concurrency, device=launch.device,
        dtype=launch.dtype, sequences=job.workload.concurrency, widths=cache.widths(launch.argv, launch.dtype),
        place=Place(launch.tensor, launch.stages), given=launch.memory,
        overhead_gib=launch.memory.overhead_gib,
        overhead_why=launch.memory.formula.get("overhead_gib", "not measured for this engine"),
    )  # fmt: skip
    flag = asked.pack.build_flags.get(launch.engine, {}).get(launch.variant)
    notes = (*launch.notes, *([flag.note] if flag else []))
    if apikey.variable(asked.config):
        ways = " ".join(f"{name}={value}" for name, value in key_variables.items())
        notes = (*notes, f"the key is no part of this plan; the server asks for it if it is started with {ways}")
    return msgspec.structs.replace(launch, memory=estimated, notes=notes, key_variables=key_variables)


def settings_of(asked: Ask, composer: Composer, engine: str) -> dict[str, Any]:
    """Return the chosen engine's settings; those of ``engine=auto`` are laid over the plugin's own."""
    if asked.engine["name"] == engine:
        return asked.engine
    defaults = read(composer.file("engine", engine))
    given = {key: value for key, value in asked.engine.items() if value not in (None, {})}
    return {**defaults, **given, "name": engine}


def context_of(asked: Ask, spec: Spec) -> int:
    """Return the tokens of one sequence, checked against the model and the workload."""
    wanted, most = asked.config["context_length"], spec.context_length
    need = asked.capacity.input_tokens + asked.capacity.output_tokens
    length = wanted if wanted is not None else max(DEFAULT_CONTEXT, need)
    workload = f"workload {asked.capacity.name}"
    if most is not None and need > most:
        raise ConfigError(f"{workload} needs {need} tokens, more than the {most} that {spec.family} was made for")
    if most is not None and length > most:
        if wanted is not None:
            message = f"context_length={length} is more than the {most} tokens that {spec.family} was made for"
            raise ConfigError(message)
        length = most
    if length < need:
        message = f"context_length={length} is too short for {workload}, which needs {need} tokens"
        raise ConfigError(message)
    return length


def _text(value: Any) -> str | None:
    return None if value is None else str(value)


def seconds_since(start: float) -> float:
    """Return the seconds since a ``time.perf_counter()`` reading, to the millisecond."""
    return round(time.perf_counter() - start, 3)
