"""``xinfer -m tune=…``: the settings of an engine that are best for a workload, and whether that is more than noise.

Every trial is a cell like any other, with its record: what an earlier tuning has measured is not measured again. A
setting that fails or is refused is a trial without a value. The best one of a search is partly the luckiest one, so the
plan as it is and the best are measured again at the end, in turns, and only those runs decide.
"""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from xinfer import history, judgement, keys
from xinfer.config import launcher, overrides
from xinfer.config.document import read
from xinfer.config.pieces import Pieces
from xinfer.errors import ConfigError, EngineError, Refused, XinferError, nearest
from xinfer.measuring.quantity import METRICS
from xinfer.planning import tunables
from xinfer.planning.tunables import Place
from xinfer.verbs import ranking, sweep, trials, tuned
from xinfer.verbs.ranking import Contestant
from xinfer.verbs.trials import Study, Trial
from xinfer.verbs.tuned import Tuned

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from xinfer.config.compose import Composer
    from xinfer.flow import Planned
    from xinfer.planning.tunables import Space, Tunable
    from xinfer.spec import Tune
    from xinfer.verbs.ranking import Pair

_FINAL = ("repeat.least", "repeat.most", "resume")
"""What the closing runs decide for themselves."""


def is_asked(words: Sequence[str], composer: Composer) -> bool:
    """Say whether a command is to tune: by what was typed, or by an experiment."""
    _, others = launcher.chosen(words, composer)
    return _tune(composer.expand(others)[0], composer).metric is not None


def _tune(words: Sequence[str], composer: Composer) -> Tune:
    return keys.tune(composer.compose(words)["tune"])


def run(
    words: Sequence[str],
    composer: Composer,
    directories: Sequence[Path],
    *,
    multirun: bool,
    api_key: str | None = None,
) -> int:
    """Tune each cell, print what was found, and return 0, or 4 if nothing could be measured for one of them."""
    if not multirun:
        raise ConfigError("tune= measures many settings, one after another; say -m in front")
    chosen, others = launcher.chosen(words, composer)
    if chosen is not None:
        raise ConfigError("tune= chooses each setting by what the others reached, on this machine; leave hydra/ out")
    quick, directory = Pieces.over(composer), next(iter(directories), None)
    searches, refused = [], []
    for cell in composer.expand(others):  # all of them before the first is started, which takes its hour
        try:
            searches.append(_Search(cell, quick, api_key, directory))
        except Refused as error:
            refused.append(error)
    if not searches:
        raise refused[0]
    for refusal in refused:
        _say(f"xinfer: {refusal}")
    made = [_told(each.run(), directory) for each in searches]
    return EngineError.exit_code if any(each and each.best is None for each in made) else 0


def _told(made: Tuned | None, directory: Path | None) -> Tuned | None:
    """Print what was found at once: what comes next may fail."""
    if made is not None:
        sys.stdout.write(f"{tuned.text(made)}\n")
        sys.stdout.write(f"{tuned.usage(made, directory)}\n")
        sys.stdout.flush()
    return made


class _Goal(NamedTuple):
    """What is searched, for what."""

    planned: Planned
    tunables: dict[str, Tunable]
    space: Space


class _Search:
    """One cell's tuning; Refused where there is no plan to be tuned."""

    def __init__(self, cell: Sequence[str], composer: Composer, api_key: str | None, directory: Path | None) -> None:
        self._composer, self._api_key = composer, api_key
        self._tune = _tune(cell, composer)
        _check(self._tune, cell, directory)
        self._base = [word for word in cell if overrides.read(word).top != "tune"]
        self._trials: list[Trial] = []
        self._goal = self._found()

    def run(self) -> Tuned | None:
        """Search, then measure the plan as it is and the best in turns; null where only the space was asked for."""
        goal, tune = self._goal, self._tune
        study = Study(goal.space, tune)
        _say(tuned.space_text(goal.tunables, goal.space, tune))
        if goal.planned.ask.config["dry"]:
            return None
        began = time.perf_counter()
        self._try_all(study, goal)
        best, default = trials.best(self._trials, tune), self._trials[0]
        pair = None
        if best is not None and best is not default and default.outcome.value is not None and tune.repeats:
            pair = self._compared(best)
        return Tuned(
            tune=tune, planned=goal.planned, base=tuple(self._base), tunables=goal.tunables, space=goal.space,
            trials=tuple(self._trials), best=best, pair=pair, minutes=(time.perf_counter() - began) / 60,
            config=self._composer.compose([*self._base, *tunables.words(best.point if best else {})]),
        )  # fmt: skip

    def _found(self) -> _Goal:
        """Find out what is to be tuned: the engine that the rules choose, and what its plugin declares."""
        planned = self._planned(self._base)
        judgement.check(planned)
        launch, engine = judgement.launched(planned), str(planned.decision.engine)
        if engine == "external":
            raise ConfigError("tune= starts the engine with other settings; engine=external runs already")
        self._base = [*(word for word in self._base if not word.startswith("engine=")), f"engine={engine}"]
        chosen = self._chosen(engine)
        cores = planned.ask.hardware.cores or judgement.detect().cores
        place = Place(device=launch.device, cores=cores, concurrency=planned.ask.workload.concurrency)
        fixed = {overrides.read(word).key for word in self._base}
        space = tunables.space(chosen, place, fixed=fixed, lossy=self._tune.lossy)
        if not space:
            raise ConfigError(f"nothing of {engine} is left to be tuned; say tune.space.engine.NAME=[…]")
        return _Goal(planned, chosen, space)

    def _chosen(self, engine: str) -> dict[str, Tunable]:
        """Return what may be tuned; ConfigError for a key that was typed and does not exist."""
        known = _declared(engine, self._composer)
        chosen = tunables.chosen(known, self._tune.space)
        for key in tunables.named(self._tune.space) - known.keys():
            try:
                self._composer.compose([*self._base, f"{key}=null"])
            except ConfigError as error:
                raise ConfigError(f"tune.space.{key}: {error}") from error
        return chosen

    def _planned(self, words: Sequence[str]) -> Planned:
        return judgement.first(self._composer.compose(words), self._composer, compares=False)

    def _try_all(self, study: Study, goal: _Goal) -> None:
        """Measure what is asked for, each plan once, until the trials or the time are used up."""
        tune, end = self._tune, time.monotonic() + 60 * self._tune.minutes
        seen: dict[bytes, Trial] = {}
        for point, token in study.asked():
            words = tunables.words(point)
            plan = self._plan([*self._base, *words])
            known = seen.get(plan)
            if known is None:
                number, most = len(self._trials) + 1, min(tune.trials, tunables.size(goal.space))
                _say(f"\ntrial {number} of {most}: {_named(words)}")
                (cell,) = sweep.carried_out(
                    [[*self._base, *words]], self._composer, multirun=True, api_key=self._api_key
                )
                known = Trial(point, trials.outcome(cell.records, tune))
                seen[plan] = known
                self._trials.append(known)
                _say(f"{_named(words)}: {tuned.outcome_text(known.outcome, tune)}")
            if self._trials[0].outcome.is_untold:
                raise ConfigError(f"{self._trials[0].outcome.why}; say more with workload.requests=")
            study.tell(token, known.outcome)
            if len(self._trials) >= tune.trials or time.monotonic() > end:
                break

    def _plan(self, words: Sequence[str]) -> bytes:
        """Return what tells one plan from another; settings that make the same one need not be tried twice."""
        try:
            launch = self._planned(words).launch
        except XinferError:
            launch = None  # the trial says why
        return msgspec.json.encode([launch.argv, launch.env, launch.environment] if launch else words)

    def _compared(self, best: Trial) -> Pair | None:
        """Measure the plan as it is and the best in turns, and compare only these; null where one of them failed."""
        base = [word for word in self._base if overrides.read(word).key not in _FINAL]
        again = [*base, f"repeat.least={self._tune.repeats}", "resume=off"]
        _say(f"\nthe plan as it is and the best, {self._tune.repeats} times each, in turns")
        cells = sweep.carried_out(
            [again, [*again, *tunables.words(best.point)]], self._composer, multirun=True, api_key=self._api_key
        )
        runs = [history.Cell(cell.records[0].cell, tuple(cell.records)) for cell in cells]
        sides = [Contestant(letter, "", each) for letter, each in zip("AB", runs, strict=True)]
        if not all(each.able for each in sides):
            return None
        (pair,) = ranking.compare(sides[:1], sides[1:], metrics=[str(self._tune.metric)], allowed=("quantization",))
        return pair


def _check(tune: Tune, cell: Sequence[str], directory: Path | None) -> None:
    if tune.metric not in METRICS:
        hint = nearest(str(tune.metric), METRICS) or f"; there are {', '.join(METRICS)}"
        raise ConfigError(f"there is no number {tune.metric!r} in a record{hint}")
    if tune.experiment is None:
        return
    if directory is None:
        raise ConfigError(
            f"tune.experiment={tune.experiment} is written below a directory of yours; say --config-dir DIR"
        )
    if any(overrides.read(word).top == "experiment" for word in cell):
        raise ConfigError("tune.experiment= cannot be written on top of experiment=; type what that one says")


def _declared(engine: str, composer: Composer) -> dict[str, Tunable]:
    """Read what an engine's plugin declares, or the user in its place; nothing where nobody does."""
    if engine not in composer.options("tunables"):
        return {}
    file = composer.file("tunables", engine)
    return tunables.declared(read(file), str(file))


def _named(words: Sequence[str]) -> str:
    return " ".join(words) or "the plan as it is"


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()
