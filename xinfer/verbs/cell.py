"""One cell from what was asked to its record: judge, plan, measure, write."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from xinfer import __version__, apikey, flow, forecast, judgement, record
from xinfer.errors import ConfigError, EngineError, RequestError, XinferError
from xinfer.judgement import detect
from xinfer.loadgens import peers
from xinfer.loadgens import running as loadgens
from xinfer.machine import hardware
from xinfer.measuring import conditions, load, metrics, resources, validity
from xinfer.measuring.client import Target
from xinfer.parity import interview
from xinfer.record import Record
from xinfer.running.deadline import within

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from xinfer.config.compose import Composer
    from xinfer.flow import Ask, Planned
    from xinfer.loadgens.peers import Loadgen
    from xinfer.measuring.capabilities import Found
    from xinfer.measuring.conditions import Conditions
    from xinfer.measuring.resources import Watch
    from xinfer.measuring.usage import Resources
    from xinfer.plan import LaunchPlan
    from xinfer.running.server import Server
    from xinfer.spec import Workload


class Attempt:
    """A cell being tried once; whatever is known of it so far goes into its record."""

    def __init__(
        self,
        overrides: Sequence[str],
        composer: Composer,
        progress: Callable[[str], None],
        *,
        sweeping: bool = False,
        api_key: str | None = None,
    ) -> None:
        self.overrides = tuple(overrides)
        self.progress = progress
        self.api_key: str | None = None
        self.packages: Sequence[str] = ()
        self.conditions: Conditions | None = None
        """What the machine was like before its server was started."""
        self.config: dict[str, Any] = {}
        self.planned: Planned | None = None
        self.record: Record | None = None
        """What became of it, once it is closed."""
        self.found: Found | None = None
        """What its server can do, once that has been asked for."""
        self.answer: dict[str, object] | None = None
        """What its server said to a fixed prompt, once a load has ended."""
        self.was_loaded = False
        """Whether its server was ready and the load was begun."""
        self.title = ""
        """What to say before it is tried."""
        self.is_elsewhere = False
        """Whether it is for another machine to measure it, and to say whether it can."""
        self.place: Path | None = None
        """Where the runs of cells lie, if not where the configuration says."""
        self._typed_key = api_key
        self._composer = composer
        self._sweeping = sweeping
        self._fields: dict[str, Any] = {}
        self.begin()

    def begin(self) -> None:
        """Count from now: its turn has come."""
        self.run = record.run_id()
        self._started = time.time()
        self._clock = time.perf_counter()

    def again(self) -> Attempt:
        """Return the same cell, to be measured once more; what was judged holds."""
        other = Attempt(self.overrides, self._composer, self.progress, sweeping=self._sweeping, api_key=self._typed_key)
        other.config, other.planned, other.api_key, other.title = self.config, self.planned, self.api_key, self.title
        other.place = self.place
        return other

    @property
    def judged(self) -> Planned:
        """The decision, and the plan if there is one; only after :meth:`judge`."""
        if self.planned is None:
            raise RuntimeError("the cell has not been judged")
        return self.planned

    @property
    def asked(self) -> Ask:
        """What was asked for, with its types; only after :meth:`judge`."""
        return self.judged.ask

    @property
    def directory(self) -> Path:
        """Where the record and the raw files of this run lie."""
        runs = self.said("runs")
        base = Path(runs if isinstance(runs, str) and runs.strip() else "runs")
        return (self.place or base.expanduser()) / self.cell / self.run

    def said(self, key: str) -> Any:
        """Return the value of a key that is no group; of a cell that cannot be composed, as it was typed, or null."""
        typed = next((o.partition("=")[2] for o in reversed(self.overrides) if o.startswith(f"{key}=")), None)
        return self.config.get(key, typed)

    @property
    def cell(self) -> str:
        """The cell's id; of a cell that could not be composed, a hash of what was typed."""
        if self.planned is None:
            return record.cell_id("invalid", overrides=self.overrides)
        asked, decision = self.planned.ask, self.planned.decision
        engine = decision.engine or str(asked.engine["name"])
        return record.cell_id(
            "-".join(dict.fromkeys([decision.spec.family, engine, asked.workload.name])),
            spec=decision.spec, hardware=msgspec.structs.replace(asked.hardware, profile="", source=None),
            engine=engine, settings=self.planned.settings,
            version=self.planned.launch.version if self.planned.launch else None, workload=asked.workload,
            slots=asked.capacity.concurrency, tokens=asked.capacity.input_tokens + asked.capacity.output_tokens,
            context_length=asked.config["context_length"], dtype=asked.config["dtype"], rules=asked.pack.name,
            loadgen=asked.config["loadgen"], **load.identity(asked.workload),
        )  # fmt: skip

    def judge(self) -> Planned:
        """Compose and decide; raise Refused when the rules say no, Missing when this machine is another one."""
        self.config = self._composer.compose(self.overrides)
        peers.check(str(self.config.get("loadgen", peers.OWN)))
        self.planned = judgement.first(self.config, self._composer, compares=not self._sweeping)
        if not self.is_elsewhere:
            judgement.check(self.planned)
        elif not hardware.is_read(self.config["hw"]):
            judgement.launched(self.planned)
        load.check(self.planned.ask.workload)
        self.api_key = apikey.find(self.config, self._typed_key, os.environ)
        return self.planned

    def settle(self, capacity: Workload) -> None:
        """Plan for this machine and for all that the server will carry, but for no port yet: then its id is known."""
        self.planned = judgement.here(
            self.judged, self._composer, lambda _: None, port=None, capacity=capacity, compares=False
        )

    def plan(self, *, port: int, capacity: Workload) -> None:
        """Plan for this machine and for all that the server will carry; raise Refused or Missing when it cannot be."""
        self.begin()
        planned = judgement.here(self.judged, self._composer, self.progress, port=port, capacity=capacity)
        self.planned = forecast.foreseen(planned)

    def follow(self, other: Attempt) -> None:
        """Take over the plan of a cell that differs from this one in the workload alone."""
        asked = msgspec.structs.replace(other.asked, config=self.config, workload=self.asked.workload)
        planned = msgspec.structs.replace(other.judged, ask=asked)
        self.planned = planned if other.judged.predicted is None else forecast.foreseen(planned)

    def look(self, launch: LaunchPlan) -> Conditions:
        """Look at the machine while no server of ours runs on it."""
        self.conditions = conditions.take(
            self.judged.decision.spec, launch, detect(), flow.home(self.config), self.progress
        )
        return self.conditions

    def peer(self) -> Loadgen | None:
        """Return somebody else's load generator, if one was asked for, with what it needs."""
        name, asked, decision = self.config["loadgen"], self.asked, self.judged.decision
        if name == peers.OWN:
            return None
        is_ours = decision.engine != "external"
        place = peers.Place(
            specs=(*((decision.spec,) if is_ours else ()), *asked.family.specs(asked.day)), hardware=asked.hardware,
            launch=judgement.launched(self.judged) if is_ours else None, home=str(flow.home(self.config)),
            python=flow.interpreter(), installer=self.config["installer"],
        )  # fmt: skip
        return peers.plan(name, place, asked.workload)

    def load(self, server: Server | None, loadgen: Loadgen | None = None) -> None:
        """Load the server and keep what was seen; without a server of ours, the one that runs already."""
        self.was_loaded = True
        before = self.conditions or self.look(judgement.launched(self.judged))
        limit_s = float(self.config["measure_timeout_s"])
        late = RequestError(f"workload {self.asked.workload.name} took longer than measure_timeout_s={limit_s:g}")
        with within(limit_s, late):
            if loadgen is None:
                self._load(server, before)
            else:
                self._load_by(loadgen, server, before)

    def _target(self, server: Server | None) -> Target:
        launch = judgement.launched(self.judged)
        key = self.api_key
        if server is None:
            key = apikey.of_another(self.asked.engine["api_key_env"], key, os.environ)
        return Target(
            url=launch.url, model=launch.model, request=launch.request, api_key=key,
            tokenizer=launch.outside(launch.tokenizer),
        )  # fmt: skip

    def _used(self, before: Conditions, watch: Watch, span: tuple[int, int], server: Server | None) -> Resources:
        """Keep what was seen of the machine, and return what was used of it between two stamps."""
        resources.write(watch.seen, self.directory / "resources.jsonl")
        return conditions.used(before, watch.seen, span, is_ours=server is not None)

    def _load_by(self, loadgen: Loadgen, server: Server | None, before: Conditions) -> None:
        """Let somebody else's program do it, and keep its numbers as its own: xinfer has seen none of its stamps."""
        self.progress(f"measuring workload {self.asked.workload.name} by {loadgen.peer.title}")
        self.make_directory()
        target = self._target(server) if loadgen.peer.scope == "http" else None
        started_ns = time.perf_counter_ns()
        with resources.watching(server.pids if server else tuple) as watch:
            found = loadgens.run(loadgen, target, self.asked.workload, run_id=self.run, directory=self.directory)
        used = self._used(before, watch, (started_ns, time.perf_counter_ns()), server)
        startup, numbers = server.startup if server else None, found.metrics
        if isinstance(numbers, metrics.Metrics):
            numbers = conditions.completed(numbers, used, startup)
        foreign = msgspec.to_builtins(found)
        del foreign["metrics"]
        self._fields |= {
            "metrics": msgspec.to_builtins(numbers),
            "foreign": foreign,
            "flags": tuple(msgspec.to_builtins(f) for f in validity.of_machine(used, before.load_per_core)),
            **conditions.recorded(before, used, None, startup),
        }

    def _load(self, server: Server | None, before: Conditions) -> None:
        launch, asked, target = judgement.launched(self.judged), self.asked, self._target(server)
        self.progress(f"measuring workload {asked.workload.name}")
        with resources.watching(server.pids if server else tuple) as watch:
            self.found = self.found or load.probe(target, asked.workload)
            samples = load.drive(target, asked.workload, run_id=self.run, found=self.found)
        self.make_directory()
        load.write(samples, self.directory / "samples.jsonl")
        startup = server.startup if server else None
        used = self._used(before, watch, (samples.run.started_ns, samples.run.ended_ns), server)
        numbers = conditions.completed(metrics.summarize(samples, asked.workload), used, startup)
        limits = conditions.limits(before, numbers, self.judged.decision.spec, launch, asked.workload, samples)
        self._fields |= {
            "prompts_hash": samples.run.prompts_hash,
            "metrics": msgspec.to_builtins(numbers),
            "capabilities": msgspec.to_builtins(samples.run.capabilities),
            "flags": tuple(
                msgspec.to_builtins(f)
                for f in validity.flags(samples, asked.workload, load_per_core=before.load_per_core, used=used)
            ),
            **conditions.recorded(before, used, limits, startup),
        }
        if limits.text:
            self.progress(limits.text)
        if numbers.failed == numbers.requests:
            reasons = sorted({sample.error for sample in samples.measured if sample.error})
            raise EngineError(f"all {numbers.requests} requests failed: {', '.join(reasons)}")
        if self.answer is None:
            named = msgspec.structs.replace(target, model=samples.run.capabilities.model)
            self.answer = interview.sample(named)
        self._fields["answer"] = self.answer

    def make_directory(self) -> None:
        """Make the place for the record before anything is tried that is worth one."""
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            message = f"runs: {error.filename or self.directory} cannot be made: {error.strerror}"
            raise ConfigError(message) from error

    def close(self, error: XinferError | None) -> Record:
        """Write the record and return it.

        Raises ConfigError if there can be none, and the error itself where nothing was tried that a record is owed
        for: a ConfigError, except in a sweep, where it is a refused cell like others.
        """
        if isinstance(error, ConfigError) and not self._sweeping:
            raise error
        self.make_directory()
        status: record.Status = "ok" if error is None else "failed" if isinstance(error, EngineError) else "refused"
        made = Record(
            protocol=record.PROTOCOL, cell=self.cell, run=self.run, status=status, overrides=self.overrides,
            failure=None if error is None else record.failure(error, self.api_key),
            started=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self._started)),
            seconds=flow.seconds_since(self._clock), config=record.shortened(self.config), xinfer=__version__,
            packages=tuple(self.packages), **self._judged(),
            **{"machine": msgspec.to_builtins(judgement.this_machine()), **self._fields},
        )  # fmt: skip
        self.record = record.write(self.directory, made)
        return self.record

    def _judged(self) -> dict[str, Any]:
        if self.planned is None:
            return {}
        document = msgspec.to_builtins(self.planned.document())
        return {key: document[key] for key in ("model", "hardware", "decision", "launch", "advice", "predicted")}
