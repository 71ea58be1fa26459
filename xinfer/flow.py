"""The whole program, in the order in which data flows: compose, detect, evaluate, decide, plan, run, record."""

from __future__ import annotations

import os
import socket
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from xinfer import catalog, decision, engines, hardware, memory, rules
from xinfer.catalog import Family, Spec
from xinfer.compose import GROUPS, Composer
from xinfer.decision import Decision, Prefer
from xinfer.engines import Engine, Job
from xinfer.errors import ConfigError, EngineError, XinferError, nearest
from xinfer.facts import Hardware
from xinfer.plan import LaunchPlan
from xinfer.rules import Pack
from xinfer.spec import Workload

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

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
    pack: Pack
    prefer: Prefer


class Planned(msgspec.Struct, frozen=True, kw_only=True):
    """A decision and, unless the rules refuse, the plan that carries it out."""

    ask: Ask
    decision: Decision
    launch: LaunchPlan | None

    def document(self) -> dict[str, Any]:
        """Return the versioned JSON document that ``xinfer plan format=json`` prints."""
        launch = None
        if self.launch is not None:
            launch = {"install": self.launch.install, **msgspec.structs.asdict(self.launch)}
        return {
            "schema": 1, "model": self.decision.spec, "hardware": self.ask.hardware,
            "decision": self.decision, "launch": launch,
        }  # fmt: skip


def ask(config: dict[str, Any], composer: Composer, *, detect: Callable[[], Hardware] = hardware.detect) -> Ask:
    """Check a composed configuration and give its parts their types; ConfigError names the key."""
    _closed(config)
    chosen = config["model"]
    family = catalog.parse(chosen, f"model/{chosen.get('family')}.yaml")
    pack = rules.load(config["rules"], _pack_file(config, composer))
    day = _text(config["catalog"]) or pack.catalog
    candidates = catalog.select(
        family, day=day, size=_text(chosen["size"]), format=_text(chosen["format"]),
        quantization=_text(chosen["quantization"]), hub=_text(chosen["hub"]),
    )  # fmt: skip
    return Ask(
        config=config, family=family, day=day, candidates=tuple(candidates),
        hardware=hardware.declared(config["hw"], detect), engine=dict(config["engine"]),
        workload=_convert(config["workload"], Workload, "workload"), pack=pack,
        prefer=_convert(config["prefer"], Prefer, "prefer"),
    )  # fmt: skip


def plan(asked: Ask, composer: Composer, *, port: int | None = None, python: str = sys.executable) -> Planned:
    """Decide, and write the launch plan out; nothing outside is touched."""
    name = asked.engine["name"]
    usable, broken = engines.load(asked.pack.engines)
    if name == "external":
        return _external(asked)
    tokens = _context(asked, asked.candidates[0]) * asked.workload.concurrency
    made = decision.decide(
        asked.pack, asked.candidates, asked.hardware, asked.prefer,
        engine=None if name == "auto" else name, broken=broken, tokens=tokens,
    )  # fmt: skip
    if made.engine is None:
        return Planned(ask=asked, decision=made, launch=None)
    engine = usable[made.engine]
    job = Job(
        spec=made.spec, hardware=asked.hardware, settings=_settings(asked, composer, made.engine),
        workload=asked.workload, context_length=_context(asked, made.spec), home=str(home(asked.config)),
        python=python, port=port or asked.config["port"] or engine.port,
    )  # fmt: skip
    return Planned(ask=asked, decision=made, launch=_completed(_launch(engine, job), job, asked))


def home(config: Mapping[str, Any]) -> Path:
    """Return the cache directory: ``home=``, else ``$XINFER_HOME``, else ``~/.cache/xinfer``."""
    chosen = config["home"] or os.environ.get("XINFER_HOME")
    base = Path(chosen) if chosen else Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "xinfer"
    return base.expanduser().absolute()


def free_port() -> int:
    """Ask the system for a loopback port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _launch(engine: Engine, job: Job) -> LaunchPlan:
    """Ask an adapter for its plan; whatever else than a refusal it raises is the plugin's fault, and says so."""
    try:
        return engine.plan(job)
    except XinferError:
        raise
    except Exception as error:
        message = f"the plugin of {engine.name} broke while it planned: {type(error).__name__}: {error}"
        raise EngineError(message) from error


def _completed(launch: LaunchPlan, job: Job, asked: Ask) -> LaunchPlan:
    """Add what the adapter does not know: the memory lines, and what the pack says of such a build."""
    estimated = memory.estimate(
        job.spec, job.hardware, tokens=job.context_length * job.workload.concurrency, device=launch.device,
        overhead_gib=launch.memory.overhead_gib,
        overhead_why=launch.memory.formula.get("overhead_gib", "not measured for this engine"),
    )  # fmt: skip
    flag = asked.pack.build_flags.get(launch.engine, {}).get(launch.variant)
    notes = (*launch.notes, *([flag.note] if flag else []))
    return msgspec.structs.replace(launch, memory=estimated, notes=notes)


def _external(asked: Ask) -> Planned:
    """Plan for a server that somebody else runs: nothing to install, start or stop."""
    url = asked.engine["url"]
    if not isinstance(url, str) or not url.startswith(("http://", "https://")):
        message = f"engine.url={url!r} is not an address; say engine.url=http://127.0.0.1:8000"
        raise ConfigError(message)
    made = Decision(
        engine="external", spec=asked.candidates[0], rules=asked.pack.name, verdicts=(),
        because=(f"a running server was named: {url}; the rules judge only what xinfer starts",),
    )  # fmt: skip
    launch = LaunchPlan(
        engine="external", version=None, variant="external", base_url=url.rstrip("/").removesuffix("/v1"),
        model=_text(asked.engine["model"]) or "", request=dict(asked.engine["request"]),
    )  # fmt: skip
    return Planned(ask=asked, decision=made, launch=launch)


def _settings(asked: Ask, composer: Composer, engine: str) -> dict[str, Any]:
    """Return the chosen engine's settings; those of ``engine=auto`` are laid over the plugin's own."""
    if asked.engine["name"] == engine:
        return asked.engine
    from xinfer.compose import read  # noqa: PLC0415 -- only an automatic choice needs the file

    defaults: dict[str, Any] = read(composer.file("engine", engine))
    given = {key: value for key, value in asked.engine.items() if value not in (None, {})}
    return {**defaults, **given, "name": engine}


def _context(asked: Ask, spec: Spec) -> int:
    """Return the tokens of one sequence, checked against the model and the workload."""
    wanted, most = asked.config["context_length"], spec.context_length
    need = asked.workload.input_tokens + asked.workload.output_tokens
    length = wanted if wanted is not None else max(DEFAULT_CONTEXT, need)
    if not isinstance(length, int) or isinstance(length, bool) or length < 1:
        message = f"context_length={wanted!r} is not a number of tokens; say null or a whole number above 0"
        raise ConfigError(message)
    if most is not None and length > most:
        if wanted is not None or need > most:
            message = f"context_length={length} is more than the {most} tokens that {spec.family} was made for"
            raise ConfigError(message)
        length = most
    if length < need:
        message = f"context_length={length} is too short for workload {asked.workload.name}, which needs {need} tokens"
        raise ConfigError(message)
    return length


def _closed(config: Mapping[str, Any]) -> None:
    known = {*GROUPS, "context_length", "port", "catalog", "format", "runs", "start_timeout_s", "home", "prefer"}
    for key in config:
        if key not in known:
            message = f"there is no key {key!r}{nearest(key, known)}"
            raise ConfigError(message)
    port = config["port"]
    if port is not None and not (isinstance(port, int) and 0 < port < 2**16):
        message = f"port={port!r} is not a port; say null or a number from 1 to 65535"
        raise ConfigError(message)
    day = _text(config["catalog"])
    if day is not None and day not in catalog.DAYS:
        message = f"catalog={day} is not a day that was kept; say {', '.join(catalog.DAYS)}{nearest(day, catalog.DAYS)}"
        raise ConfigError(message)


def _pack_file(config: Mapping[str, Any], composer: Composer) -> str:
    name = str(config["rules"].get("name"))
    try:
        return str(composer.file("rules", name))
    except ConfigError:
        return f"rules {name}"


def _convert(body: Any, kind: type[Any], key: str) -> Any:
    try:
        return msgspec.convert(body, kind)
    except msgspec.ValidationError as error:
        text = str(error).replace("`", "")
        where = f"{key}.{text.rpartition('$.')[2]}" if "$." in text else key
        message = f"{where}: {text.partition(' - at')[0][0].lower()}{text.partition(' - at')[0][1:]}"
        raise ConfigError(message) from error


def _text(value: Any) -> str | None:
    return None if value is None else str(value)


def seconds_since(start: float) -> float:
    """Return the seconds since a ``time.perf_counter()`` reading, to the millisecond."""
    return round(time.perf_counter() - start, 3)
