"""A tuning from what was typed to what is kept, with an engine that reaches what the test says."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
import yaml
from recorded import changed

from xinfer import engines
from xinfer.config.compose import Composer
from xinfer.verbs import sweep, trials, tuned

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Sequence

    from xinfer.record import Record

    Ask = Callable[..., subprocess.CompletedProcess[str]]

OWN = str(Path(__file__).parents[1] / "resources" / "conf")
BASE = ("engine=fake", "model=fake-model", "rules=fake", "workload=tiny")
NOISE = (0.0, 0.4, -0.3, 0.1, -0.2)


class Cell(NamedTuple):
    records: list[Record]


class Bench:
    """Stands for all measuring: what each setting reaches, and what was asked of it."""

    def __init__(self) -> None:
        self.tps: Callable[[set[str]], float | str] = lambda words: 300.0 if "engine.args.threads=8" in words else 100.0
        self.asked: list[list[list[str]]] = []
        self.flags: list[dict[str, str]] = []

    def __call__(self, cells: Sequence[Sequence[str]], _composer: Composer, **_more: Any) -> list[Cell]:
        self.asked.append([list(cell) for cell in cells])
        return [Cell(self._records(cell)) for cell in cells]

    def _records(self, words: Sequence[str]) -> list[Record]:
        tps = self.tps(set(words))
        cell = f"cell-{len(words)}-{hash(tuple(words))}"
        if isinstance(tps, str):
            failure = {"stage": "start", "message": tps, "exit_code": 4}
            return [changed(cell=cell, status="failed", metrics=None, failure=failure)]
        often = next((int(word.partition("=")[2]) for word in words if word.startswith("repeat.least=")), 1)
        return [
            changed(cell=cell, run=f"run-{n}", metrics__output_tps=tps + NOISE[n], flags=self.flags)
            for n in range(often)
        ]


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch, fake_plugin: Path) -> Bench:
    assert fake_plugin.is_dir()
    made = Bench()
    monkeypatch.setattr(sweep, "carried_out", made)
    return made


def tune(ask: Ask, *words: str) -> subprocess.CompletedProcess[str]:
    return ask("-m", "--config-dir", OWN, "tune=throughput", *BASE, *words)


def test_the_best_is_found_and_shown_to_be_better(bench: Bench, ask: Ask) -> None:
    """Every setting once, what fails among them; then the plan as it is and the best in turns, whatever was kept."""
    bench.tps = lambda words: (
        "no" if "engine.behaviour=die-at-start" in words else 300.0 if "engine.args.threads=8" in words else 100.0
    )
    done = tune(ask)
    assert done.returncode == 0
    assert len(bench.asked) == 7
    plain = ["model=fake-model", "rules=fake", "workload=tiny", "engine=fake"]
    assert bench.asked[0] == [plain]
    again = [*plain, "repeat.least=5", "resume=off"]
    assert bench.asked[-1] == [again, [*again, "engine.args.threads=8"]]
    assert "throughput of fake 0.1 with fake-model" in done.stdout
    assert done.stdout.count("start: no") == 3
    assert "best       engine.args.threads=8\n" in done.stdout
    assert "before     100 [99.66, 100.3] tok/s, 5 runs\n" in done.stdout
    assert "gain       better, 3 times [" in done.stdout
    assert "to keep it  DIR/experiment/NAME.yaml" in done.stdout
    assert "all 6 combinations" in done.stderr
    assert "engine.args.threads: the plan's own, 2, 8  the work for a token is shared by all  [" in done.stderr


def test_the_best_is_kept_and_can_be_used(bench: Bench, ask: Ask, tmp_path: Path) -> None:
    """The file chooses what was typed and what was found, and the command that is shown reads it."""
    mine = tmp_path / "mine"
    mine.mkdir()
    typed = ("engine.args.work-s=0.02", "workload.requests=6", "repeat.cooldown_s=0", "runs=here")
    words = ("-m", "--config-dir", str(mine), "--config-dir", OWN, "tune=throughput", *BASE, *typed)
    done = ask(*words, "tune.experiment=fast")
    assert bench.asked[-1][1][-1] == "engine.args.threads=8"
    assert done.stdout.endswith(
        f"kept       {mine}/experiment/fast.yaml\nuse it     python -m xinfer --config-dir {mine} experiment=fast\n"
    )
    config = Composer([mine, Path(OWN), *engines.conf_directories()]).compose(["experiment=fast"])
    chosen = (config["model"]["family"], config["engine"]["name"], config["rules"]["name"], config["workload"]["name"])
    assert chosen == ("fake-model", "fake", "fake", "tiny")
    assert config["engine"]["args"] == {"work-s": 0.02, "threads": 8}
    assert (config["workload"]["requests"], config["runs"], config["tune"]["name"]) == (6, "runs", "none")
    text = (mine / "experiment" / "fast.yaml").read_text(encoding="utf-8")
    assert "# Found by xinfer -m tune=throughput.\n# gain       better, 3 times" in text
    assert set(yaml.safe_load(text)) == {"defaults", "engine", "workload"}


@pytest.mark.parametrize(
    ("tps", "flags", "said"),
    [
        pytest.param(100.1, [], "gain       same, 1 times", id="no-difference"),
        pytest.param(106.0, [{"id": "noisy"}], ": flagged (noisy)", id="only-flagged-runs"),
    ],
)
def test_a_lucky_winner_is_not_claimed(
    bench: Bench, ask: Ask, tps: float, flags: list[dict[str, str]], said: str
) -> None:
    """What the closing runs do not show is not kept."""
    bench.flags, bench.tps = flags, lambda words: tps if "engine.args.threads=2" in words else 100.0
    done = tune(ask)
    assert said in done.stdout
    assert done.stdout.endswith("nothing is kept\n")


def test_where_the_plan_is_the_best_nothing_is_measured_again(bench: Bench, ask: Ask) -> None:
    """And nothing is kept."""
    bench.tps = lambda words: 50.0 if len(words) > 4 else 100.0
    done = tune(ask)
    assert len(bench.asked) == 6
    assert done.stdout.endswith("the plan as it is is the best that was found\nnothing is kept\n")


def test_a_plan_that_fails_has_a_best_beside_it(bench: Bench, ask: Ask) -> None:
    """There is nothing to compare with: what works is kept."""
    bench.tps = lambda words: 100.0 if "engine.args.threads=2" in words else "out of memory"
    done = tune(ask)
    assert "gain       the plan as it is does not count: start: out of memory\n" in done.stdout
    assert "to keep it" in done.stdout


def test_where_nothing_works_the_exit_code_says_so(bench: Bench, ask: Ask) -> None:
    """As in any sweep whose cells failed."""
    bench.tps = lambda _: "out of memory"
    done = tune(ask)
    assert done.returncode == 4
    assert "no setting counts; the remarks say why\nnothing is kept\n" in done.stdout


def test_closing_runs_that_fail_decide_nothing(bench: Bench, ask: Ask) -> None:
    """The best is named, and not kept."""
    bench.tps = lambda words: "it died" if "resume=off" in words else 300.0 if "engine.args.threads=8" in words else 1.0
    done = tune(ask)
    assert "gain       the closing runs failed: how much is luck is not known\nnothing is kept\n" in done.stdout


def test_without_closing_runs_the_user_decides(bench: Bench, ask: Ask) -> None:
    """It is said that luck is not known."""
    done = tune(ask, "tune.repeats=0")
    assert len(bench.asked) == 6
    assert "gain       not measured again, as tune.repeats=0 says: how much is luck is not known\n" in done.stdout
    assert "to keep it" in done.stdout


def test_the_trials_and_the_time_have_an_end(bench: Bench, ask: Ask) -> None:
    """What is tried then is at most so much; the plan as it is always is."""
    tune(ask, "tune.trials=3", "tune.repeats=0")
    assert len(bench.asked) == 3
    tune(ask, "tune.minutes=1e-9", "tune.repeats=0")
    assert bench.asked[3:] == [bench.asked[0]]


def test_a_plan_is_measured_once(bench: Bench, ask: Ask) -> None:
    """Two settings that make the same command line are one trial."""
    tune(ask, "tune.space.engine.args.threads=[8]", "tune.space.engine.behaviour=[serve]", "tune.repeats=0")
    assert len(bench.asked) == 2


def test_settings_that_cannot_be_planned_are_trials(bench: Bench, ask: Ask) -> None:
    """What is wrong with them is in their records."""
    bench.tps = lambda words: "no key" if "engine.breaks=plan" in words else 100.0
    words = ["tune.space.engine.args.threads=null", "tune.space.engine.behaviour=null"]
    done = tune(ask, *words, "tune.space.engine.breaks=[plan]")
    assert len(bench.asked) == 2
    assert "plan           start: no key" in done.stdout


def test_the_space_alone_can_be_asked_for(bench: Bench, ask: Ask) -> None:
    """dry=true starts nothing."""
    done = tune(ask, "dry=true", "tune.lossy=false")
    assert (done.returncode, bench.asked) == (0, [])
    assert "engine.behaviour: the plan's own, die-at-start" in done.stderr


def test_cells_are_tuned_one_after_another(bench: Bench, ask: Ask) -> None:
    """Each has its own search and its own end."""
    done = tune(ask, "workload.concurrency=1,2", "tune.trials=1")
    assert done.stdout.count("the plan as it is is the best that was found") == 2
    assert ["workload.concurrency=1" in cell for ((*cell,),) in bench.asked] == [True, False]


def test_a_cell_that_is_refused_takes_no_other_along(bench: Bench, ask: Ask) -> None:
    """It is told before the first is started; what the others came to is printed."""
    done = tune(ask, "model=fake-model,qwen2-instruct", "tune.trials=1")
    assert (done.returncode, len(bench.asked)) == (0, 1)
    assert done.stderr.startswith("xinfer: fake refuses fake: family\ntuning for ")
    assert "the plan as it is is the best that was found" in done.stdout


def test_a_chosen_engine_is_named(bench: Bench, ask: Ask) -> None:
    """What the rules choose is tuned, and is what the file names."""
    tune(ask, "engine=auto", "tune.trials=1")
    assert bench.asked[0][0][-1] == "engine=fake"


def test_an_experiment_may_ask_for_it(bench: Bench, ask: Ask, tmp_path: Path) -> None:
    """What it says beside it is typed again when the best is used."""
    mine = tmp_path / "mine" / "experiment"
    mine.mkdir(parents=True)
    text = "# @package _global_\ndefaults: [{override /tune: throughput}]\ntune: {repeats: 0}\n"
    (mine / "look.yaml").write_text(text, encoding="utf-8")
    done = ask("-m", "--config-dir", str(mine.parent), "--config-dir", OWN, "experiment=look", *BASE)
    assert len(bench.asked) == 6
    assert "# Type beside it what was typed then: experiment=look\n" in done.stdout


def test_what_is_too_short_is_said_at_once(bench: Bench, ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    """No other setting would tell more."""
    monkeypatch.setattr(trials, "outcome", lambda *_: trials.Outcome(None, why="x cannot be told", is_untold=True))
    done = tune(ask)
    assert (done.returncode, len(bench.asked)) == (2, 1)
    assert done.stderr.endswith("xinfer: x cannot be told; say more with workload.requests=\n")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        pytest.param(["tune.metric=tps"], "there is no number 'tps' in a record", id="metric"),
        pytest.param(["tune.experiment=x", "experiment=y"], "cannot be written on top of experiment=", id="experiment"),
        pytest.param(["tune.space.engine.args.threads=null", "tune.space.engine.behaviour=null"],
                     "nothing of fake is left to be tuned; say tune.space.engine.NAME=[…]", id="nothing-left"),
        pytest.param(["tune.space.engine.behavior=null"], "tune.space.engine.behavior: engine has ", id="no-such-key"),
        pytest.param(["tune.space.engine.behavior=[serve]"],
                     "tune.space.engine.behavior: engine has no key 'behavior'; did you mean 'behaviour'?",
                     id="no-key"),
        pytest.param(["model=qwen2-instruct"], "fake refuses fake: family", id="a-refusal"),
        pytest.param(["engine=external", "engine.url=http://127.0.0.1:1"], "runs already", id="external"),
        pytest.param(["hydra/launcher=joblib"], "leave hydra/ out", id="launcher"),
    ],
)  # fmt: skip
@pytest.mark.usefixtures("bench")
def test_what_cannot_be_tuned(ask: Ask, tmp_path: Path, words: list[str], said: str) -> None:
    """One line, before anything is measured."""
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "y.yaml").write_text("# @package _global_\nport: 7\n", encoding="utf-8")
    done = ask("-m", "--config-dir", str(tmp_path), "--config-dir", OWN, "tune=throughput", *BASE, *words)
    assert done.returncode in {2, 3}
    assert said in done.stderr


def test_a_place_that_cannot_be_written_is_an_error(ask: Ask, bench: Bench, tmp_path: Path) -> None:
    """The result has been printed before."""
    (tmp_path / "experiment").write_text("in the way", encoding="utf-8")
    words = ("-m", "--config-dir", str(tmp_path), "--config-dir", OWN, "tune=throughput", *BASE, "tune.experiment=x")
    done = ask(*words)
    assert (done.returncode, bool(bench.asked)) == (2, True)
    assert "tune.experiment: " in done.stderr
    assert "gain       better" in done.stdout


def test_long_remarks_are_cut() -> None:
    """The record has all of them."""
    assert len(tuned._short("x" * 500)) == 100
