"""The contract that every engine keeps, as pytest tests: subclass it, name the engine, and run pytest.

    class TestMyEngine(EngineContract):
        engine = "my_engine"
        overrides = ("model=my-model", "rules=my_engine")

The engine is installed and started for real, twice in all. ``XINFER_TEST_HOME`` keeps what was installed for the next
time. Needs pytest 9.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import msgspec
import pytest

from xinfer.errors import ConfigError, XinferError
from xinfer.judgement import launched
from xinfer.measuring import corpus
from xinfer.planning.artefacts import file_name, repository
from xinfer.testing import demands
from xinfer.testing.demands import Broken, demand
from xinfer.testing.subject import Live, Subject, Trial, live
from xinfer.testing.survey import Survey

if TYPE_CHECKING:
    from collections.abc import Iterator

    from xinfer.flow import Planned
    from xinfer.plan import LaunchPlan
    from xinfer.testing.wire import Event

HOME = "XINFER_TEST_HOME"
ODD = "a höme; with $signs & 'quotes'"
"""A directory that a shell would take apart."""
MISSING = "/nowhere/no such model"
BAD_FLAG = "no-such-flag"
LONG = 200
"""Tokens of an answer that is still being written when its server is killed."""
SEEDS = ("0", "1")
"""Of Python's hashes: what the order of a set depends on."""


class EngineContract:
    """What xinfer relies on; an engine that differs says so in the attributes, each of which is a promise too."""

    engine: ClassVar[str]
    """Its name, as in ``engine=``."""
    overrides: ClassVar[tuple[str, ...]] = ()
    """What else would be typed to run it: a small model, a rule pack, settings."""
    directories: ClassVar[tuple[str | Path, ...]] = ()
    """Where ``--config-dir`` would point to."""
    families: ClassVar[tuple[str, ...]] = ("smollm2-135m-instruct", "qwen2-instruct", "llama-3.1-instruct")
    """The families that are judged and planned on every machine of ``conf/hw``, besides the one that runs."""
    question: ClassVar[str] = "The capital of France is"
    expected: ClassVar[str] = "Paris"
    """What a greedy answer to the question has in it, in any case of letters."""
    ending: ClassVar[str] = "<|im_start|>user\nSay yes.<|im_end|>\n<|im_start|>assistant\nYes."
    """A prompt after which the model ends by itself within a few tokens, unless it is told to go on."""
    lengths: ClassVar[tuple[int, ...]] = (1, 8, 40)
    """Numbers of tokens that are asked for and must be had."""
    prompt_words: ClassVar[int] = 512
    """How long a prompt is that is worth caching."""
    defeats_prefix_cache: ClassVar[bool] = True
    """Whether a plan's requests are computed anew each time; if not, the server must report what it had cached."""
    reports_cached_tokens: ClassVar[bool] = True
    """Whether the server says how many tokens of a prompt it had cached; if not, the time to the first text tells."""
    keeps: ClassVar[tuple[str, ...]] = ()
    """Caches that may be left when the engine has stopped: patterns below ``tmp/``, ``work/`` and ``home/``."""
    start_timeout_s: ClassVar[float] = 600.0
    patience_s: ClassVar[float] = 120.0
    """How long the engine may take to notice that it cannot start, or that it was killed."""

    @pytest.fixture(scope="class")
    @classmethod
    def subject(cls, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Subject]:
        """Yield the engine; its server is started by the first test that needs it."""
        home = Path(os.environ.get(HOME) or tmp_path_factory.getbasetemp() / "xinfer-home").absolute()
        overrides = ("workload.concurrency=4", *cls.overrides)
        folder = tmp_path_factory.mktemp(cls.engine)
        subject = Subject(cls.engine, overrides, directories=cls.directories, home=home, folder=folder)
        try:
            yield subject
        finally:
            subject.close()

    @pytest.fixture(scope="class")
    @classmethod
    def survey(cls, subject: Subject) -> Survey:
        """Return what the rules and the adapter say, on every machine."""
        return Survey(subject, cls.families)

    def live(self, subject: Subject) -> Live:
        """Return the engine's running server."""
        return subject.live(self.start_timeout_s)

    def without_model(self, launch: LaunchPlan, planned: Planned) -> LaunchPlan:
        """Return the plan with a model that is not there; override it where the model is no word of the command."""
        spec = planned.decision.spec
        names = {name for name in (repository(spec), spec.file and file_name(spec)) if name}
        places = tuple(f"{artefact.path}/" for artefact in launch.weights)

        def is_model(word: str) -> bool:
            return f"{word}/".startswith(places) or word in names or word.endswith(tuple(f"/{name}" for name in names))

        argv = (launch.argv[0], *(MISSING if is_model(word) else word for word in launch.argv[1:]))
        demand(argv != launch.argv, f"no word of the plan is the model; override without_model: {launch.argv}")
        return msgspec.structs.replace(launch, argv=argv)

    # What is said before anything is started

    def test_every_verdict_is_three_valued_and_has_a_source(self, survey: Survey) -> None:
        """On every machine of conf/hw, and on one of which nothing is known."""
        for where, verdict in survey.verdicts():
            demands.verdict_is_sourced(verdict, where)

    def test_a_plan_is_the_same_every_time(self, subject: Subject, survey: Survey) -> None:
        """The same words give the same plan: in this process, and in others whose sets have another order."""
        for (where, once), (_, again) in zip(survey.plans("/xinfer"), survey.plans("/xinfer"), strict=True):
            demand(msgspec.json.encode(once) == msgspec.json.encode(again), f"{where}: the same plan differs")
        mine = msgspec.to_builtins(launched(subject.planned()))
        for seed in SEEDS:
            theirs = msgspec.json.decode(_printed_plan(subject, seed))["launch"]
            differing = [key for key in mine if msgspec.json.encode(mine[key]) != msgspec.json.encode(theirs[key])]
            demand(not differing, f"two processes plan differently: {', '.join(differing)}")

    def test_every_flag_has_a_reason(self, survey: Survey) -> None:
        """And every variable, in every plan."""
        for where, launch in survey.plans("/xinfer"):
            demands.flags_have_reasons(launch, where)

    def test_every_plan_can_be_pasted(self, survey: Survey) -> None:
        """Into a shell, wherever the environments lie."""
        plans = list(survey.plans(f"/tmp/{ODD}"))  # noqa: S108 -- it is printed, never written to
        demand(plans, "the rules refuse this engine everywhere")
        demands.can_be_pasted(plans)

    # What a running server does

    def test_it_answers_sensibly(self, subject: Subject) -> None:
        """A greedy answer has in it what it must."""
        text = self.live(subject).ask(self.question, 16).text
        demand(self.expected.lower() in text.lower(), f"{self.question!r} is answered with {text!r}")

    def test_a_stream_is_whole_and_counted_once(self, subject: Subject) -> None:
        """Text in pieces, one reason to end, one block of usage; with [DONE] or without."""
        answer = self.live(subject).ask(self.question, 24)
        demands.stream_is_whole(answer, "a stream")
        demands.chunks_carry_text(answer, "a stream")

    def test_an_answer_has_the_length_that_was_asked_for(self, subject: Subject) -> None:
        """However long."""
        for tokens in self.lengths:
            demands.length_is(tokens, self.live(subject).ask(self.question, tokens), "an answer")

    def test_a_prompt_that_would_end_early_does_not(self, subject: Subject) -> None:
        """The same prompt without the engine's own fields ends early, or this shows nothing."""
        tokens = max(self.lengths)
        plain = self.live(subject).ask(self.ending, tokens, plainly=True)
        reasons = plain.finish_reasons
        demand(reasons == ("stop",), f"this prompt does not end by itself, so choose another ending: {plain.text!r}")
        demands.length_is(tokens, self.live(subject).ask(self.ending, tokens), "a prompt that would end early")

    def test_no_prompt_is_remembered(self, subject: Subject) -> None:
        """The second time costs as much as the first; where it cannot, the server counts what it had cached."""
        prompts = [_prompt(number, self.prompt_words) for number in range(4)]
        _, *pairs = [(self.live(subject).ask(prompt, 4), self.live(subject).ask(prompt, 4)) for prompt in prompts]
        if self.defeats_prefix_cache:
            demands.nothing_is_remembered(pairs, reports=self.reports_cached_tokens)
        else:
            demands.memory_is_reported(pairs)

    def test_four_at_once(self, subject: Subject) -> None:
        """Each is answered in full, and gets its own length."""
        lengths = (8, 16, 24, 32)
        server = self.live(subject)
        with ThreadPoolExecutor(len(lengths)) as pool:
            answers = [*pool.map(lambda n: server.ask(_prompt(n, 32), n), lengths)]
        for tokens, answer in zip(lengths, answers, strict=True):
            demands.stream_is_whole(answer, "one of four at once")
            demands.length_is(tokens, answer, "one of four at once")

    def test_a_stopped_server_leaves_nothing(self, subject: Subject) -> None:
        """No process, no port, no shared memory, and no file but the caches that ``keeps`` names."""
        self.live(subject).ask(self.question, 4)
        left = subject.stop(self.keeps)
        demand(not left, f"left behind: {'; '.join(left)}")

    # What goes wrong

    def test_a_missing_model_is_a_clear_error(self, subject: Subject) -> None:
        """In time, and with the model's name."""
        launch = self.without_model(subject.launch(), subject.planned())
        self._fails(subject.trial(launch), [MISSING], "a missing model")

    def test_an_unknown_flag_is_a_clear_error(self, subject: Subject) -> None:
        """Whether the plugin finds it out or the engine."""
        try:
            launch = subject.launch(f"engine.args.{BAD_FLAG}=true")
        except ConfigError as error:
            demands.error_is_clear(error, names=[BAD_FLAG], seconds=0, within_s=1, where="an unknown flag")
        else:
            demand(f"--{BAD_FLAG}" in launch.argv, f"engine.args.{BAD_FLAG} is not in the plan")
            self._fails(subject.trial(launch), [BAD_FLAG], "an unknown flag")

    def test_a_taken_port_is_a_clear_error(self, subject: Subject) -> None:
        """Whoever listens there is left alone."""
        launch = subject.launch()
        with socket.create_server((launch.host, launch.port)):
            self._fails(subject.trial(launch), [str(launch.port)], "a taken port")

    def test_a_killed_server_is_a_clear_error(self, subject: Subject) -> None:
        """In the middle of an answer; all that it had started goes with it."""
        trial = subject.trial(subject.launch())
        error, seconds = self._killed(trial)
        where = "a killed server"
        demands.error_is_clear(error, names=["SIGKILL"], seconds=seconds, within_s=self.patience_s, where=where)
        left = trial.traces.left()
        demand(not left, f"{where} leaves: {'; '.join(left)}")

    def _killed(self, trial: Trial) -> tuple[XinferError, float]:
        """Kill a server in the middle of an answer; return the error, and how long it took to come."""
        killed_s: list[float] = []
        try:
            with trial.running(self.start_timeout_s) as server:

                def kill(event: Event) -> None:
                    if event.text and not killed_s:
                        os.kill(server.pid, signal.SIGKILL)
                        killed_s.append(time.monotonic())

                with suppress(Broken):
                    live(server, trial.launch).ask(self.question, LONG, then=kill)
                server.is_alive(within_s=self.patience_s)
        except XinferError as error:
            return error, time.monotonic() - (killed_s or [0.0])[0]
        raise Broken("nobody noticed that the server was killed")

    def _fails(self, trial: Trial, names: list[str], where: str) -> None:
        """Start what cannot start: a clear error, and nothing runs any more."""
        error, seconds = trial.failure(self.patience_s)
        demands.error_is_clear(error, names=names, seconds=seconds, within_s=self.patience_s, where=where)
        left = trial.traces.left()
        demand(not left, f"{where} leaves: {'; '.join(left)}")


def _prompt(number: int, words: int) -> str:
    """Return a prompt of so many words that starts like no other."""
    return " ".join(corpus.prompt(corpus.text().split(), run_id="contract", index=number, length=words))


def _printed_plan(subject: Subject, seed: str) -> bytes:
    """Return what ``xinfer plan format=json`` prints in a process of its own."""
    directories = [word for directory in subject.directories for word in ("--config-dir", str(directory))]
    argv = [sys.executable, "-P", "-m", "xinfer", "plan", *directories, *subject.words("format=json")]
    paths = os.pathsep.join(filter(None, sys.path))
    environ = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": paths}
    done = subprocess.run(argv, env=environ, capture_output=True, check=False)
    demand(not done.returncode, f"{' '.join(argv)}: {done.stderr.decode(errors='replace').strip()}")
    return done.stdout
