"""The trials of a tuning: which settings are tried next, and what became of each.

Optuna is asked and told directly. Hydra's own Optuna sweeper (hydra-optuna-sweeper 1.3.0) wants Optuna below 3 and
Hydra's command line, which xinfer does not use, and would know nothing of rules, records and verdicts.
"""

from __future__ import annotations

from itertools import product
from statistics import median
from typing import TYPE_CHECKING, Any, NamedTuple

from xinfer.errors import ConfigError
from xinfer.measuring import quantity
from xinfer.planning import tunables

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from xinfer.planning.tunables import Space, Value
    from xinfer.record import Record
    from xinfer.spec import Tune

    Point = dict[str, Value | None]


class Outcome(NamedTuple):
    """What a setting reached; without a value it counts for nothing, and ``why`` says why."""

    value: float | None
    excess: Mapping[str, float] = {}
    """How far each limited number is above its limit, as a part of that; not above 0 where it keeps to it."""
    why: str = ""
    flags: tuple[str, ...] = ()
    is_untold: bool = False
    """Whether the workload is too short for a number that is asked for."""

    @property
    def counts(self) -> bool:
        """Whether there is a value, and all limits are kept."""
        return self.value is not None and all(each <= 0 for each in self.excess.values())


class Trial(NamedTuple):
    """A setting that was measured."""

    point: Point
    outcome: Outcome


def outcome(records: Sequence[Record], tune: Tune) -> Outcome:
    """Judge the runs of one setting by their medians."""
    able = [made for made in records if made.status == "ok" and made.metrics]
    if not able:
        failure = records[-1].failure
        return Outcome(None, why=f"{failure.stage}: {failure.message}" if failure else "nothing was measured")
    numbers = {name: _median(able, name) for name in (str(tune.metric), *tune.slo.seconds())}
    missing = [name for name, value in numbers.items() if value is None]
    if missing:
        return Outcome(None, why=f"{', '.join(missing)} cannot be told from so few requests", is_untold=True)
    excess = {name: (numbers[name] or 0.0) / limit - 1 for name, limit in tune.slo.seconds().items()}
    beyond = ", ".join(f"{name} is {part:.0%} above its limit" for name, part in excess.items() if part > 0)
    flags = dict.fromkeys(str(flag["id"]) for made in able for flag in made.flags)
    return Outcome(numbers[str(tune.metric)], excess, beyond, tuple(flags))


def _median(records: Sequence[Record], metric: str) -> float | None:
    found = [quantity.value(made.metrics or {}, metric) for made in records]
    known = [value for value in found if value is not None]
    return median(known) if known else None


def best(trials: Sequence[Trial], tune: Tune) -> Trial | None:
    """Return the trial with the best value of those that keep to all limits; of equal ones the first."""
    able = [each for each in trials if each.outcome.counts]
    sign = 1 if quantity.METRICS[str(tune.metric)].higher_is_better else -1
    return max(able, key=lambda each: sign * (each.outcome.value or 0.0), default=None)


class Study:
    """What Optuna knows, and what it would try next: the plan as it is first, and all of a space that is small."""

    def __init__(self, space: Space, tune: Tune) -> None:
        try:
            import optuna  # noqa: PLC0415 -- an extra, and of use only here
        except ImportError as error:
            raise ConfigError("tune= needs Optuna, which is not installed; pip install 'xinfer[tune]'") from error
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._optuna: Any = optuna
        self._space = space
        higher = quantity.METRICS[str(tune.metric)].higher_is_better
        sampler = optuna.samplers.TPESampler(seed=tune.seed, n_startup_trials=max(4, tune.trials // 3))
        self._study: Any = optuna.create_study(direction="maximize" if higher else "minimize", sampler=sampler)
        self._is_whole = tunables.size(space) <= tune.trials
        for point in _all(space) if self._is_whole else [dict.fromkeys(space)]:
            self._study.enqueue_trial(point)
        self._most = tunables.size(space) if self._is_whole else 10 * tune.trials
        """How often it may be asked; it may name a setting again that it knows already."""

    def asked(self) -> Iterator[tuple[Point, Any]]:
        """Yield what to try, with what its outcome is told by."""
        for _ in range(self._most):
            trial = self._study.ask()
            yield {key: trial.suggest_categorical(key, values) for key, values in self._space.items()}, trial

    def tell(self, trial: Any, found: Outcome) -> None:
        """Let the next settings be chosen with this in mind; one that has no value is pruned."""
        for name, excess in found.excess.items():
            trial.set_constraint(name, excess)
        if found.value is None:
            self._study.tell(trial, state=self._optuna.trial.TrialState.PRUNED)
        else:
            self._study.tell(trial, found.value)


def _all(space: Space) -> Iterator[Point]:
    """Yield every point, the plan as it is first."""
    yield from (dict(zip(space, values, strict=True)) for values in product(*space.values()))
