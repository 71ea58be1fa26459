"""What came of a tuning: every setting, whether the best is better than noise, and a configuration to keep."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from xinfer import keys
from xinfer.config import overrides
from xinfer.config.overrides import LABELS
from xinfer.deploying import dumping
from xinfer.errors import ConfigError
from xinfer.measuring.quantity import METRICS
from xinfer.planning import tunables
from xinfer.verbs import report

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from xinfer.flow import Planned
    from xinfer.measuring.statistics import Centre
    from xinfer.planning.tunables import Space, Tunable
    from xinfer.spec import Tune
    from xinfer.verbs.ranking import Pair
    from xinfer.verbs.trials import Outcome, Trial

_PLAIN = "the plan as it is"
_WIDE = 100
"""How much of a failure's message fits a table; the record has all of it."""
_NOT_KEPT = (*keys.OF_THE_COMMAND, "api_key")
"""What is of one command or one machine, and not of the plan."""


class Tuned(NamedTuple):
    """A search that has ended."""

    tune: Tune
    planned: Planned
    base: tuple[str, ...]
    """What was typed beside the tuning, with the engine named."""
    tunables: Mapping[str, Tunable]
    space: Space
    trials: tuple[Trial, ...]
    """The plan as it is first."""
    best: Trial | None
    """Null where no setting counts."""
    pair: Pair | None
    """The plan as it is and the best, measured again in turns; null where there was nothing to compare."""
    minutes: float
    config: Mapping[str, Any]
    """What was typed, and the best settings, composed."""

    @property
    def is_kept(self) -> bool:
        """Whether the best is worth keeping: shown to be better, or the only one that works, or nobody asked."""
        if self.best is None or self.best is self.trials[0]:
            return False
        if self.pair is None:
            return not self.trials[0].outcome.counts or not self.tune.repeats
        return any(row.verdict == "better" for row in self.pair.rows)


def space_text(known: Mapping[str, Tunable], space: Space, tune: Tune) -> str:
    """Print what will be tried, and why."""
    count = tunables.size(space)
    many = f"all {count}" if count <= tune.trials else f"at most {tune.trials} of {count}"
    lines = [f"tuning for {tune.name}, {tune.metric}: {many} combinations in at most {tune.minutes:g} minutes"]
    for key, values in space.items():
        own = known[key]
        lines.append(f"  {key}: the plan's own, {', '.join(map(str, values[1:]))}  {own.why}  [{own.source}]")
    return "\n".join(lines)


def outcome_text(found: Outcome, tune: Tune) -> str:
    """Say in a few words what a setting reached."""
    if found.value is None:
        return report.one_line(f"no value: {found.why}")
    notes = "; ".join(part for part in (found.why, ", ".join(found.flags)) if part)
    return f"{_number(found.value, tune)} {METRICS[str(tune.metric)].unit}{notes and f' ({notes})'}"


def text(made: Tuned) -> str:
    """Print a row for each setting, then the best one and how sure that is."""
    launch, spec = made.planned.launch, made.planned.decision.spec
    what = " ".join(str(part) for part in (launch and launch.engine, launch and launch.version) if part)
    head = (
        f"{made.tune.name} of {what} with {report.artefact(spec)}, workload {made.planned.ask.workload.name}: "
        f"{len(made.trials)} settings in {made.minutes:.1f} min"
    )
    rows = [_row(number, trial, made) for number, trial in enumerate(made.trials, 1)]
    return "\n".join([head, "", report.rows_text(rows), "", *_verdict(made)])


def _row(number: int, trial: Trial, made: Tuned) -> dict[str, Any]:
    found, own = trial.outcome, trial is made.trials[0]
    remarks = [_PLAIN] if own else []
    remarks += ["the best"] if trial is made.best else []
    remarks += [part for part in (found.why, ", ".join(found.flags)) if part]
    unit = METRICS[str(made.tune.metric)].unit
    value = None if found.value is None else _number(found.value, made.tune)
    return {
        "#": number, f"{made.tune.metric} {unit}": value, **{key: trial.point[key] for key in made.space},
        "remarks": _short("; ".join(remarks)) or None,
    }  # fmt: skip


def _short(remark: str) -> str:
    line = report.one_line(remark)
    return line if len(line) <= _WIDE else f"{line[: _WIDE - 1]}…"


def _verdict(made: Tuned) -> Iterator[str]:
    best, default = made.best, made.trials[0]
    if best is None:
        yield "no setting counts; the remarks say why"
        return
    if best is default:
        yield f"{_PLAIN} is the best that was found"
        return
    yield f"best       {' '.join(tunables.words(best.point))}"
    lossy = [key for key, value in best.point.items() if value is not None and made.tunables[key].lossy]
    if lossy:
        yield f"answers    may differ by {', '.join(lossy)}; xinfer parity tells"
    if made.pair is None:
        why = "the closing runs failed: how much is luck is not known"
        if not made.tune.repeats:
            why = "not measured again, as tune.repeats=0 says: how much is luck is not known"
        if not default.outcome.counts:
            why = f"{_PLAIN} does not count: {_short(default.outcome.why)}"
        yield f"gain       {why}"
        return
    yield from _compared(made.pair, made.tune)


def _compared(pair: Pair, tune: Tune) -> Iterator[str]:
    for row in pair.rows:
        if row.base and row.other:
            yield f"before     {_centre(row.base, tune)}"
            yield f"after      {_centre(row.other, tune)}"
        gain = ""
        if row.effect:
            low, high = row.effect.ci or (float("nan"), float("nan"))
            gain = f", {row.effect.ratio:.3g} times [{low:.3g}, {high:.3g}], p {row.effect.p:.2g}"
        yield f"gain       {row.verdict}{gain}: {row.why}"
    if pair.refused:
        yield f"gain       not comparable: {', '.join(each.key for each in pair.refused)}"


def _centre(found: Centre, tune: Tune) -> str:
    interval = "" if found.ci is None else f" [{_number(found.ci[0], tune)}, {_number(found.ci[1], tune)}]"
    return f"{_number(found.median, tune)}{interval} {METRICS[str(tune.metric)].unit}, {found.n} runs"


def _number(value: float, tune: Tune) -> str:
    return f"{value * METRICS[str(tune.metric)].scale:.4g}"


def usage(made: Tuned, directory: Path | None) -> str:
    """Keep the best, if it is worth it, and say how it is used; without a name for it, print it."""
    if not made.is_kept:
        return "nothing is kept"
    body, name = experiment(made), made.tune.experiment
    if directory is None or name is None:
        where = "DIR/experiment/NAME.yaml, for --config-dir DIR experiment=NAME"
        return f"to keep it  {where}; or tune.experiment=NAME writes it below --config-dir\n\n{body}"
    file = directory / "experiment" / f"{name}.yaml"
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(body, encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"tune.experiment: {file} cannot be written: {error.strerror}") from error
    return f"kept       {file}\nuse it     python -m xinfer --config-dir {directory} experiment={name}"


def experiment(made: Tuned) -> str:
    """Return the file that chooses what was typed, and the best settings."""
    words = [overrides.read(word) for word in (*made.base, *tunables.words(made.best.point if made.best else {}))]
    chosen = [
        {f"override /{each.key}": each.value} for each in words if each.key in LABELS and each.key != "experiment"
    ]
    node: dict[str, Any] = {"defaults": chosen}
    left_out = []
    for each in words:
        if each.key == "experiment" or (each.key not in LABELS and each.key.startswith("rules.")):
            left_out.append(each.text)
        elif each.key not in LABELS and each.top not in _NOT_KEPT:
            _put(node, made.config, each.key.split("."))
    gain = next((f"# {line}\n" for line in _verdict(made) if line.startswith("gain")), "")
    beside = f"# Type beside it what was typed then: {' '.join(left_out)}\n" if left_out else ""
    return f"# @package _global_\n# Found by xinfer -m tune={made.tune.name}.\n{gain}{beside}{dumping.dump(node)}"


def _put(node: dict[str, Any], config: Any, path: Sequence[str]) -> None:
    """Copy one value of a configuration."""
    *way, last = path
    for name in way:
        node, config = node.setdefault(name, {}), config[name]
    node[last] = config[last]
