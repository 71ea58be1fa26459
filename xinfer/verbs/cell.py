"""One cell from what was asked to its record: judge, provision, start, measure, write."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from xinfer import __version__, apikey, flow, judgement, record
from xinfer.environments import environment
from xinfer.errors import ConfigError, EngineError, XinferError
from xinfer.judgement import detect
from xinfer.measuring import load, metrics, validity
from xinfer.measuring.client import Target
from xinfer.measuring.resources import Usage, usage
from xinfer.parity import interview
from xinfer.record import Failure, Record
from xinfer.running.runner import running
from xinfer.verbs import report

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from xinfer.config.compose import Composer
    from xinfer.facts import Hardware
    from xinfer.flow import Planned
    from xinfer.plan import LaunchPlan


class Attempt:
    """A cell being tried; whatever is known of it so far goes into its record."""

    def __init__(
        self, overrides: Sequence[str], composer: Composer, progress: Callable[[str], None], api_key: str | None = None
    ) -> None:
        self.overrides = tuple(overrides)
        self._typed_key = api_key
        self._api_key: str | None = None
        self.composer = composer
        self.progress = progress
        self.planned: Planned | None = None
        self.config: dict[str, Any] = {}
        self.run = record.run_id()
        self._started = time.time()
        self._clock = time.perf_counter()
        self._fields: dict[str, Any] = {}

    @property
    def directory(self) -> Path:
        """Where the record and the raw files of this run lie."""
        typed = next((o.partition("=")[2] for o in reversed(self.overrides) if o.startswith("runs=")), "")
        runs = self.config.get("runs") or typed
        base = Path(runs if isinstance(runs, str) and runs.strip() else "runs")
        return base.expanduser() / self.cell / self.run

    @property
    def cell(self) -> str:
        """The cell's id; of a cell that could not be composed, a hash of what was typed."""
        if self.planned is None:
            return record.cell_id("invalid", overrides=self.overrides)
        asked, decision = self.planned.ask, self.planned.decision
        engine = decision.engine or str(asked.engine["name"])
        return record.cell_id(
            "-".join(dict.fromkeys([decision.spec.family, engine, asked.workload.name])),
            spec=decision.spec, hardware=msgspec.structs.replace(asked.hardware, profile=""),
            engine=engine, settings=self.planned.settings,
            version=self.planned.launch.version if self.planned.launch else None, workload=asked.workload,
            context_length=asked.config["context_length"], dtype=asked.config["dtype"], rules=asked.pack.name,
        )  # fmt: skip

    def judge(self) -> Planned:
        """Compose, decide and plan; raise Refused when the rules or this machine say no."""
        self.config = self.composer.compose(self.overrides)
        self.planned = judgement.first(self.config, self.composer)
        self._api_key = apikey.find(self.config, self._typed_key, os.environ)
        port = self.config["port"] or flow.free_port()
        self.planned = judgement.here(self.planned, self.composer, self.progress, port=port)
        return self.planned

    def measure(self, planned: Planned) -> None:
        """Make the environment, start the server, load it, and keep what was seen."""
        launch, asked = judgement.launched(planned), planned.ask
        busy = _load_average(detect())
        if planned.decision.engine == "external":
            self._load(planned, self._external(asked.engine, launch), Measured(busy))
            return
        self._make_directory()
        provision_log = self.directory / "provision.log"
        self._fields["packages"] = tuple(environment.provision(launch, progress=self.progress, log=provision_log))
        self.progress(f"starting {launch.engine} on {launch.url}")
        timeout = float(asked.config["start_timeout_s"])
        log = self.directory / "engine.log"
        with running(launch, log=log, start_timeout_s=timeout, api_key=self._api_key) as server:
            startup = server.startup
            self.progress(f"ready after {startup.ready_s:.1f} s; measuring workload {asked.workload.name}")
            before = usage(server.pids())
            target = Target(url=launch.url, model=launch.model, request=launch.request, api_key=self._api_key)
            self._load(planned, target, Measured(busy, startup.ready_s, startup.first_request_s, before, server.pids))

    def _external(self, settings: Mapping[str, Any], launch: LaunchPlan) -> Target:
        variable = settings["api_key_env"]
        key = os.environ.get(variable) if variable else self._api_key
        if variable and key is None:
            raise ConfigError(f"engine.api_key_env={variable}: there is no such environment variable")
        return Target(url=launch.url, model=launch.model, request=launch.request, api_key=key)

    def _load(self, planned: Planned, target: Target, seen: Measured) -> None:
        asked = planned.ask
        samples = load.drive(target, asked.workload, run_id=self.run)
        after = usage(seen.pids()) if seen.pids else Usage(None, None)
        self._make_directory()
        load.write(samples, self.directory / "samples.jsonl")
        cpu_s = None if after.cpu_s is None or seen.before.cpu_s is None else round(after.cpu_s - seen.before.cpu_s, 3)
        numbers = msgspec.structs.replace(
            metrics.summarize(samples, asked.workload), ready_s=seen.ready_s, first_request_s=seen.first_request_s,
            peak_rss=after.peak_rss, cpu_s=cpu_s,
        )  # fmt: skip
        self._fields |= {
            "metrics": msgspec.to_builtins(numbers),
            "capabilities": msgspec.to_builtins(samples.run.capabilities),
            "flags": tuple(
                msgspec.to_builtins(f) for f in validity.flags(samples, asked.workload, load_per_core=seen.busy)
            ),
        }
        if numbers.failed == numbers.requests:
            reasons = sorted({sample.error for sample in samples.measured if sample.error})
            raise EngineError(f"all {numbers.requests} requests failed: {', '.join(reasons)}")
        named = msgspec.structs.replace(target, model=samples.run.capabilities.model)
        self._fields["answer"] = interview.sample(named)

    def _make_directory(self) -> None:
        """Make the place for the record before anything is tried that is worth one."""
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            message = f"runs: {error.filename or self.directory} cannot be made: {error.strerror}"
            raise ConfigError(message) from error

    def close(self, error: XinferError | None) -> Record:
        """Write the record and return it; ConfigError if there can be none."""
        self._make_directory()
        status: record.Status = "ok"
        failure = None
        if error is not None:
            status = "failed" if isinstance(error, EngineError) else "refused"
            failure = Failure(
                stage=error.stage, message=apikey.hidden(str(error), self._api_key), exit_code=error.exit_code,
                details=tuple(apikey.hidden(line, self._api_key) for line in error.details),
            )  # fmt: skip
        made = Record(
            cell=self.cell, run=self.run, status=status, overrides=self.overrides, failure=failure,
            started=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self._started)),
            seconds=flow.seconds_since(self._clock), config=record.shortened(self.config), xinfer=__version__,
            **self._judged(), **self._fields,
        )  # fmt: skip
        return record.write(self.directory, made)

    def _judged(self) -> dict[str, Any]:
        if self.planned is None:
            return {}
        document = msgspec.to_builtins(self.planned.document())
        return {key: document[key] for key in ("model", "hardware", "decision", "launch")}


class Measured(NamedTuple):
    """What was seen around the load: how busy the machine was, and what the server used."""

    busy: float | None
    ready_s: float | None = None
    first_request_s: float | None = None
    before: Usage = Usage(None, None)
    pids: Callable[[], tuple[int, ...]] | None = None


def attempt(
    overrides: Sequence[str],
    composer: Composer,
    progress: Callable[[str], None],
    *,
    sweeping: bool,
    api_key: str | None = None,
) -> tuple[Record, Planned | None]:
    """Try one cell and return its record.

    A ConfigError passes through, because nothing was tried that a record is owed for; in a sweep it is
    a refused cell like others.
    """
    trial = Attempt(overrides, composer, progress, api_key)
    error: XinferError | None = None
    try:
        planned = trial.judge()
        progress(report.summary(planned))
        trial.measure(planned)
    except ConfigError as wrong:
        if not sweeping:
            raise
        error = wrong
    except XinferError as raised:
        error = raised
    except Exception as unforeseen:  # noqa: BLE001 -- one cell's defect must not take the others' records along
        error = report.defect(unforeseen)
    return trial.close(error), trial.planned


def _load_average(machine: Hardware) -> float | None:
    """Return the load of the last minute per core, before anything is started."""
    if machine.cores is None or not hasattr(os, "getloadavg"):
        return None
    return os.getloadavg()[0] / machine.cores
