"""One comparison of engines, from what was asked to its record: each answers alone, then every two are compared.

``runs/parity-<model>-<hash>/<run>/`` holds the record, every answer as it was read, and each engine's log.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from xinfer import __version__, flow, judgement, keys, record
from xinfer.catalog import Spec
from xinfer.environments import environment
from xinfer.errors import ConfigError, Disparity, EngineError, XinferError
from xinfer.machine import hardware
from xinfer.measuring.client import Target
from xinfer.parity import agreement, answers, interview, scoring
from xinfer.parity.agreement import Pair
from xinfer.plan import LaunchPlan
from xinfer.record import Failure, Record, Status
from xinfer.running.runner import running, terminating_as_exception
from xinfer.verbs import panel, report

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from xinfer.config.compose import Composer
    from xinfer.flow import Planned
    from xinfer.parity.answers import Answer
    from xinfer.verbs.panel import Seat

    Progress = Callable[[str], None]


class Member(msgspec.Struct, frozen=True, kw_only=True):
    """One engine of the comparison, and what became of it."""

    engine: str
    status: Status
    version: str | None = None
    model: Spec | None = None
    precision: str | None = None
    dialect: str | None = None
    """How the server was asked (``xinfer.parity.dialects``)."""
    logprobs: str | None = None
    """Who told them: the server, or a program of the engine's own; null: nobody."""
    seconds: float | None = None
    packages: tuple[str, ...] = ()
    launch: LaunchPlan | None = None
    failure: Failure | None = None


class Parity(msgspec.Struct, frozen=True, kw_only=True):
    """What a record of a comparison has in ``Record.parity``."""

    schema: int = 1
    prompts: str
    """The name of the prompt set."""
    tokens: int
    members: tuple[Member, ...]
    pairs: tuple[Pair, ...]


class Heard(NamedTuple):
    """An engine and its answers; none where it failed."""

    member: Member
    answers: Mapping[str, Answer]


def run(overrides: Sequence[str], composer: Composer, progress: Progress) -> tuple[Record, Parity]:
    """Ask every engine, compare, and write the record; a failing engine does not end the others.

    Raises ConfigError and Refused, before anything is started, where there are not two engines to compare.
    """
    config = composer.compose(overrides)
    keys.check(config)
    judgement.check_machine(hardware.declared(config["hw"], judgement.detect))
    seats = panel.seats(config, overrides, composer)
    taken = [seat.planned for seat in seats if seat.planned is not None]
    directory = _directory(config, taken)
    started, clock = time.time(), time.perf_counter()
    with terminating_as_exception():
        heard = [_hear(seat, taken, composer, directory, progress) for seat in seats]
    found = _compared(config, heard)
    raw = {each.member.engine: each.answers for each in heard if each.answers}
    (directory / "answers.json").write_bytes(msgspec.json.format(msgspec.json.encode(raw), indent=1) + b"\n")
    error = fault(found)
    made = Record(
        cell=directory.parent.name, run=directory.name, status="failed" if error else "ok",
        overrides=tuple(overrides), failure=_failure(error) if error else None, config=record.shortened(config),
        started=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(started)), seconds=flow.seconds_since(clock),
        hardware=msgspec.to_builtins(taken[0].ask.hardware), xinfer=__version__, parity=msgspec.to_builtins(found),
    )  # fmt: skip
    return record.write(directory, made), found


def _directory(config: dict[str, Any], taken: Sequence[Planned]) -> Path:
    """Make the place for the record before anything is tried that is worth one."""
    specs = {each.decision.engine or "": each.decision.spec for each in taken}
    family = taken[0].decision.spec.family
    cell = record.cell_id(
        f"parity-{family}", prompts=answers.fixed().name, specs=specs, tokens=panel.asked(config).tokens,
        dtype=config["dtype"], hardware=msgspec.structs.replace(taken[0].ask.hardware, profile=""),
    )  # fmt: skip
    directory = Path(config["runs"]).expanduser() / cell / record.run_id()
    try:
        directory.mkdir(parents=True)
    except OSError as error:
        raise ConfigError(f"runs: {error.filename or directory} cannot be made: {error.strerror}") from error
    return directory


def _hear(seat: Seat, taken: Sequence[Planned], composer: Composer, directory: Path, progress: Progress) -> Heard:
    """Let one engine answer; whatever goes wrong becomes what is known of it."""
    if seat.planned is None:
        failure = _failure(seat.refusal) if seat.refusal else None
        return Heard(Member(engine=seat.engine, status="refused", failure=failure), {})
    number = taken.index(seat.planned) + 1
    progress(f"\n[{number}/{len(taken)}] {seat.engine}: {report.artefact(seat.planned.decision.spec)}")
    spec = seat.planned.decision.spec
    try:
        return _asked(seat.planned, composer, directory, progress)
    except XinferError as raised:
        error: XinferError = raised
    except Exception as unforeseen:  # noqa: BLE001 -- one engine's defect must not take the others' answers along
        error = report.defect(unforeseen)
    progress(f"xinfer: {report.one_line(str(error))}")
    return Heard(Member(engine=seat.engine, status="failed", model=spec, failure=_failure(error)), {})


def _asked(planned: Planned, composer: Composer, directory: Path, progress: Progress) -> Heard:
    clock = time.perf_counter()
    port = planned.ask.config["port"] or flow.free_port()
    planned = judgement.here(planned, composer, progress, port=port)
    launch, asked = judgement.launched(planned), planned.ask
    packages = environment.provision(launch, progress=progress, log=directory / f"{launch.engine}-provision.log")
    progress(f"starting {launch.engine} on {launch.url}")
    timeout_s, prompts = float(asked.config["start_timeout_s"]), answers.fixed()
    with running(launch, log=directory / f"{launch.engine}.log", start_timeout_s=timeout_s) as server:
        progress(f"ready after {server.startup.ready_s:.1f} s; asking {len(prompts.prompts)} prompts")
        target = Target(url=launch.url, model=launch.model)
        tokens, patience_s = asked.workload.output_tokens, asked.workload.timeout_s
        heard = interview.ask(target, prompts, tokens=tokens, timeout_s=patience_s)
    told, who = heard.answers, "server" if any(each.has_logprobs for each in heard.answers.values()) else None
    if who is None and launch.scorer:
        told = scoring.score(launch, prompts.prompts, told, directory=directory, progress=progress)
        who = "program"
    member = Member(
        engine=launch.engine, status="ok", version=launch.version, model=planned.decision.spec,
        precision=panel.precision(launch, planned.decision.spec), dialect=heard.dialect, logprobs=who,
        seconds=flow.seconds_since(clock), packages=tuple(packages), launch=launch,
    )  # fmt: skip
    return Heard(member, told)


def _compared(config: dict[str, Any], heard: Sequence[Heard]) -> Parity:
    able = [each for each in heard if each.answers]
    said = {each.member.engine: each.answers for each in able}
    precisions = {each.member.engine: each.member.precision or "" for each in able}
    return Parity(
        prompts=answers.fixed().name, tokens=panel.asked(config).tokens,
        members=tuple(each.member for each in heard), pairs=agreement.pairs(said, precisions),
    )  # fmt: skip


def fault(found: Parity) -> EngineError | None:
    """Return what was wrong: engines that failed, and those whose answers differ."""
    failed = [each.engine for each in found.members if each.status == "failed"]
    apart = [
        f"{' and '.join(pair.engines)} on {each.prompt}: {each.why}"
        for pair in found.pairs
        for each in pair.prompts
        if each.verdict == "different"
    ]
    said = [f"{', '.join(failed)} failed"] if failed else []
    said += [f"answers differ {len(apart)} times"] if apart else []
    if not said:
        return None
    return Disparity("; ".join(said), details=tuple(apart))


def _failure(error: XinferError) -> Failure:
    return Failure(stage=error.stage, message=str(error), exit_code=error.exit_code, details=tuple(error.details))


def text(found: Parity) -> str:
    """Print the engines, then every two of them."""
    members = [
        {
            "engine": each.engine, "version": each.version, "weights": each.model and _weights(each.model),
            "computed in": each.precision, "log-probabilities from": each.logprobs, "status": _status(each),
        }
        for each in found.members
    ]  # fmt: skip
    pairs = [
        {
            "pair": " ".join(each.engines), "same": each.same, "tie": each.tie, "different": each.different,
            "first token": _number(each.first_delta), "allowed": each.tolerance, "all tokens": _number(each.path_delta),
        }
        for each in found.pairs
    ]  # fmt: skip
    head = f"{found.prompts}, {found.tokens} tokens for each prompt, greedy; largest differences in log-probability"
    return "\n".join([head, "", report.rows_text(members), *(["", report.rows_text(pairs)] if pairs else []), ""])


def _weights(spec: Spec) -> str:
    return f"{spec.format} {spec.quantization}"


def _status(member: Member) -> str:
    why = member.failure and report.one_line(member.failure.message)
    return f"{member.status}: {why}" if why else member.status


def _number(value: float | None) -> str | None:
    return None if value is None else f"{value:.4f}"
