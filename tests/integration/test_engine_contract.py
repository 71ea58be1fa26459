"""The contract finds each defect that an engine can have, and none in an engine that has none."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from xinfer import engines
from xinfer.errors import StartError
from xinfer.plan import Artefact
from xinfer.testing import EngineContract, shared_memory
from xinfer.testing.demands import Broken
from xinfer.testing.shared_memory import SHARED
from xinfer.testing.subject import Subject
from xinfer.testing.survey import Survey
from xinfer.testing.traces import Sandbox, Traces

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

RESOURCES = Path(__file__).parents[1] / "resources"
MARKOV = RESOURCES / "third_party_plugin" / "xinfer_markov" / "conf"


class Contract(EngineContract):
    """The contract of an engine whose defect is chosen by a setting."""

    engine = "defective"
    overrides = ("model=capitals",)
    directories = (MARKOV,)
    families = ()
    ending = "The capital of France is Paris"
    patience_s = 5.0
    start_timeout_s = 30.0


TESTS = [name for name in vars(EngineContract) if name.startswith("test_")]


@pytest.fixture(autouse=True)
def plugin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Install the plugin with the defects into this process."""
    monkeypatch.syspath_prepend(str(RESOURCES / "defective_plugin"))
    for cached in (engines.registered, engines.get):
        cached.cache_clear()
    yield
    monkeypatch.undo()
    for cached in (engines.registered, engines.get):
        cached.cache_clear()


@pytest.fixture
def subject(tmp_path: Path) -> Iterator[Subject]:
    """Return the engine without a defect."""
    made = Subject("defective", ["model=capitals"], directories=[MARKOV], home=tmp_path / "home", folder=tmp_path)
    yield made
    made.close()


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Callable[..., None]]:
    """Return how to run one test of the contract against an engine with a defect."""
    subjects: list[Subject] = []

    def run(name: str, *overrides: str, engine: str = "defective", **promises: object) -> None:
        kind: type[Contract] = type("Promised", (Contract,), {"engine": engine, **promises})
        words = ("workload.concurrency=4", *kind.overrides, *overrides)
        subject = Subject(engine, words, directories=[MARKOV], home=tmp_path / "home", folder=tmp_path)
        subjects.append(subject)
        test: Any = getattr(kind(), name)
        wanted = test.__code__.co_varnames[1 : test.__code__.co_argcount + 1]
        given = {"subject": subject, "survey": Survey(subject, kind.families)}
        test(**{key: value for key, value in given.items() if key in wanted})

    yield run
    for subject in subjects:
        subject.close()


PLAN = "test_a_plan_is_the_same_every_time"
VERDICT = "test_every_verdict_is_three_valued_and_has_a_source"
REASON = "test_every_flag_has_a_reason"
PASTE = "test_every_plan_can_be_pasted"
SENSE = "test_it_answers_sensibly"
STREAM = "test_a_stream_is_whole_and_counted_once"
LENGTH = "test_an_answer_has_the_length_that_was_asked_for"
ENDING = "test_a_prompt_that_would_end_early_does_not"
MEMORY = "test_no_prompt_is_remembered"
FOUR = "test_four_at_once"
LEFT = "test_a_stopped_server_leaves_nothing"
MODEL = "test_a_missing_model_is_a_clear_error"
FLAG = "test_an_unknown_flag_is_a_clear_error"
PORT = "test_a_taken_port_is_a_clear_error"
KILLED = "test_a_killed_server_is_a_clear_error"

DEFECTS = [
    (PLAN, "plans-anew", r"capitals on \S+: the same plan differs"),
    (PLAN, "depends-on-hashes", "two processes plan differently: env$"),
    (PLAN, "refuses-another-machine", "the rules say yes to markov none, and the plan is refused: this engine has no"),
    (REASON, "flag-without-a-reason", "--words has no reason in because"),
    (REASON, "variable-without-a-reason", "QUIET has no reason in because"),
    (REASON, "reason-for-nothing", "because explains --gone, which is not in the plan"),
    (PASTE, "variable-that-is-none", "'TWO WORDS' is no name of a variable"),
    (PASTE, "word-of-two-lines", "a command spans lines: "),
    (SENSE, "answers-nonsense", "'The capital of France is' is answered with ' nonsense nonsense"),
    (STREAM, "two-usages", "a stream: 2 blocks of usage, where xinfer needs exactly one"),
    (STREAM, "no-usage", "a stream: 0 blocks of usage"),
    (STREAM, "two-ends", "a stream: finish_reason is given 2 times"),
    (STREAM, "no-end", "a stream: finish_reason is given 0 times"),
    (STREAM, "text-behind-the-end", "a stream: there is text behind the finish_reason"),
    (STREAM, "done-twice", r"a stream: \[DONE\] is not the end, or comes twice"),
    (STREAM, "garbage", "a stream: an event is no JSON object: {half"),
    (STREAM, "error-in-the-stream", "a stream: an error in the stream: .*out of memory"),
    (STREAM, "no-text", "a stream: the stream has no text"),
    (STREAM, "one-lump", "a stream: 24 tokens came in 1 pieces"),
    (STREAM, "wrong-content-type", "a stream: its content type is text/plain"),
    (STREAM, "stray-line", r"a stream: lines that are no part of an event stream: \('hello',\)"),
    (LENGTH, "stops-at-eight", "asked for 40 tokens; finish_reason is stop$"),
    (LENGTH, "counts-one-less", "asked for 1 tokens; completion_tokens is 0$"),
    (ENDING, "ignores-ignore-eos", "a prompt that would end early: asked for 40 tokens; finish_reason is stop$"),
    (ENDING, "never-ends", "this prompt does not end by itself, so choose another ending"),
    (MEMORY, "remembers-and-says-so", r"the same prompt twice: cached_tokens is \[0, 511, 0, 511, 0, 511\], and mu"),
    (MEMORY, "remembers", "the same prompt twice: first text after .*: it is cached"),
    (MEMORY, "says-nothing", "if it never does, reports_cached_tokens = False"),
    (FOUR, "one-at-a-time", "one of four at once: status 429: "),
    (FOUR, "stops-at-eight", "one of four at once: asked for 16 tokens"),
    (LEFT, "leaves-a-temporary-file", r"left behind: file tmp/xinfer-defect-\d+ in its own folders$"),
    (LEFT, "leaves-a-folder", r"left behind: file tmp/xinfer-defect-\d+ in its own folders$"),
    (LEFT, "leaves-a-file-at-home", r"left behind: file home/.cache/xinfer-defect-\d+ in its own folders$"),
    (LEFT, "leaves-a-file-where-it-was-started", r"left behind: file work/xinfer-defect-\d+ in its own folders$"),
    (LEFT, "leaves-a-file-elsewhere", r"left behind: file /tmp/xinfer-defect-\d+$"),
    (MODEL, "hangs-without-a-model", "a missing model: it took .* the engine must end by itself within 5 s"),
    (MODEL, "says-nothing-of-the-model", "a missing model: nothing names /nowhere/no such model: "),
    (FLAG, "takes-any-flag", "the server started although it must not"),
    (FLAG, "drops-the-users-flags", "engine.args.no-such-flag is not in the plan"),
]  # fmt: skip
if SHARED.is_dir():
    DEFECTS.append((LEFT, "leaves-shared-memory", rf"left behind: shared memory {SHARED}/xinfer-defect-\d+$"))


@pytest.mark.parametrize(
    ("name", "defect", "said"), [pytest.param(*row, id=f"{row[1]}-{row[0][5:9]}") for row in DEFECTS]
)
def test_a_defect_is_found(run: Callable[..., None], name: str, defect: str, said: str) -> None:
    """By the test that is there for it, in one sentence."""
    with pytest.raises(Broken, match=said):
        run(name, f"engine.defect={defect}")


@pytest.fixture(autouse=True)
def _cleared() -> Iterator[None]:
    """Remove what the defects leave outside every sandbox."""
    yield
    for folder in (SHARED, Path("/tmp")):  # noqa: S108 -- where they leave it
        for path in folder.glob("xinfer-defect-*"):
            path.unlink()


# What a plugin brings besides its plan


def test_rules_that_cannot_be_read_are_found(run: Callable[..., None]) -> None:
    """With the file, the rule and what is misspelt in it."""
    with pytest.raises(Broken, match=r"unruly\.yaml: rule unruly\.format: 'model\.fromat' is no fact; did you mean"):
        run(VERDICT, engine="unruly")


def test_an_engine_without_rules_is_found(run: Callable[..., None]) -> None:
    """No verdict rests on nothing."""
    with pytest.raises(Broken, match="rule pack xinference-2024-08 has no rules for lawless"):
        run(VERDICT, engine="lawless")


# What an author promises


@pytest.mark.parametrize(
    ("defect", "promises", "said"),
    [
        pytest.param("says-nothing", {"reports_cached_tokens": False}, None, id="a-server-that-does-not-count"),
        pytest.param(
            "none", {"reports_cached_tokens": False}, "cached_tokens is .* say True", id="it-counts-after-all"
        ),
        pytest.param(
            "remembers-and-says-nothing",
            {"reports_cached_tokens": False},
            "the same prompt twice: first text after .*: it is cached",
            id="silence-is-no-proof",
        ),
        pytest.param("remembers-and-says-so", {"defeats_prefix_cache": False}, None, id="it-cannot-forget-and-says-so"),
        pytest.param(
            "remembers",
            {"defeats_prefix_cache": False},
            r"defeats_prefix_cache is False, .*; cached_tokens is \[0, 0, 0\]",
            id="it-cannot-forget-and-denies-it",
        ),
    ],
)
def test_what_is_said_of_a_cache_must_be_true(
    run: Callable[..., None], defect: str, promises: dict[str, bool], said: str | None
) -> None:
    """A prefix cache is defeated, or reported as not."""
    if said is None:
        run(MEMORY, f"engine.defect={defect}", **promises)
        return
    with pytest.raises(Broken, match=said):
        run(MEMORY, f"engine.defect={defect}", **promises)


@pytest.mark.parametrize(
    ("defect", "keeps"),
    [("leaves-a-file-at-home", ("home/.cache/*",)), ("leaves-a-temporary-file", ("home/*", "tmp/xinfer-defect-*"))],
)
def test_a_cache_that_is_named_may_stay(run: Callable[..., None], defect: str, keeps: tuple[str, ...]) -> None:
    """By its place among the folders that the engine is given."""
    run(LEFT, f"engine.defect={defect}", keeps=keeps)


def test_a_model_that_is_no_word_of_the_plan_must_be_named(subject: Subject) -> None:
    """Else the plan would start, model and all."""
    planned = subject.planned()
    assert planned.launch is not None
    launch = msgspec.structs.replace(planned.launch, argv=("serve", "--port", "1"))
    with pytest.raises(Broken, match=r"no word of the plan is the model; override without_model: \('serve', '--port'"):
        Contract().without_model(launch, planned)


def test_a_model_is_found_among_the_words_of_the_plan(subject: Subject) -> None:
    """By its place among the weights, by its name on a hub, or by the end of its path; all else stays."""
    planned = subject.planned()
    assert planned.launch is not None
    words = (
        "serve",
        "/home/models/x",
        "/home/models/x/y.gguf",
        "/home/models/xy",
        "/a/capitals.txt",
        "capitals.txt",
        "1",
    )
    weights = (Artefact(path="/home/models/x", steps=()),)
    launch = msgspec.structs.replace(planned.launch, argv=words, weights=weights)
    missing = "/nowhere/no such model"
    argv = Contract().without_model(launch, planned).argv
    assert argv == ("serve", missing, missing, "/home/models/xy", missing, missing, "1")


# When there is a server


def test_a_server_is_started_once(subject: Subject) -> None:
    """However many tests ask for it."""
    first = subject.live(30)
    assert subject.live(30) is first
    assert len(list(subject.folder.glob("engine-*.log"))) == 1
    assert subject.stop([]) == []
    assert subject.live(30) is not first


def test_a_server_that_did_not_start_is_not_tried_again(tmp_path: Path) -> None:
    """A start may take a minute, and every test would wait for it."""
    subject = Subject(
        "defective", ["model=capitals", "engine.args.words=none"], directories=[MARKOV], home=tmp_path, folder=tmp_path
    )
    for _ in range(3):
        with pytest.raises(StartError, match="argument --words: invalid int value: 'none'"):
            subject.live(30)
    assert len(list(tmp_path.glob("engine-*.log"))) == 1
    subject.close()


def test_a_killed_server_must_be_noticed(run: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    """Here it was not, because it was not killed."""
    monkeypatch.setattr(os, "kill", lambda *_: None)
    with pytest.raises(Broken, match="nobody noticed that the server was killed"):
        run(KILLED, patience_s=0.1)


def test_a_taken_port_must_be_noticed(run: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    """Here it was not, because nobody had taken it."""
    monkeypatch.setattr(socket, "create_server", lambda _: contextlib.nullcontext())
    with pytest.raises(Broken, match="the server started although it must not"):
        run(PORT)


# What is left


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    """Return a sandbox, removed again."""
    made = Sandbox()
    yield made
    made.remove()
    assert not made.root.exists()


LISTEN = """
import socket, sys
server = socket.create_server(("127.0.0.1", 0))
file = sys.argv[1:] and open(sys.argv[1], "w")
print(server.getsockname()[1], flush=True)
sys.stdin.read()
"""


@contextlib.contextmanager
def listening(environ: Mapping[str, str], *words: str, cwd: Path | None = None) -> Iterator[tuple[int, int]]:
    """Run a process that listens on a port, and yield the ids of both."""
    argv = [sys.executable, "-c", LISTEN, *words]
    pipe = subprocess.PIPE
    with subprocess.Popen(argv, cwd=cwd, env=environ, stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdout is not None
        yield process.pid, int(process.stdout.readline())
        process.kill()


def test_a_process_and_its_port_are_seen(sandbox: Sandbox) -> None:
    """As long as they are there."""
    with contextlib.closing(Traces(sandbox)) as traces:
        with listening(os.environ) as (pid, port):
            assert traces.left() == []
            traces.note([pid])
            assert [line.partition(" (")[0] for line in traces.left()] == [f"process {pid}", f"port {port}"]
        assert traces.left() == []


@pytest.mark.parametrize("is_marked", [True, False], ids=["by-its-environment", "by-its-directory"])
def test_a_process_that_got_away_is_seen(sandbox: Sandbox, is_marked: bool) -> None:  # noqa: FBT001 -- a parameter
    """Nobody told which it was: it bears the sandbox's mark, or it works there."""
    environ, cwd = (sandbox.environ(), None) if is_marked else (os.environ, sandbox.work)
    with contextlib.closing(Traces(sandbox)) as traces, listening(environ, cwd=cwd) as (pid, _):
        assert [line.partition(" (")[0] for line in traces.left()] == [f"process {pid}"]


def test_two_sandboxes_are_told_apart(sandbox: Sandbox) -> None:
    """One engine's processes and files are not another's."""
    other = Sandbox()
    (other.work / "file").touch()
    with contextlib.closing(Traces(sandbox)) as traces, listening(other.environ(), cwd=other.work):
        assert traces.left() == []
        assert sandbox.left([]) == []
        assert other.left([]) == ["work/file"]
        assert other.left(["work/f*"]) == []
    other.remove()


def test_shared_memory_has_an_owner(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """What another program used is its own, even when it leaves it; what nobody was seen to use is the engine's."""
    monkeypatch.setattr(shared_memory, "PATIENCE_S", 0.5)
    ours, theirs, nobodys = (SHARED / f"xinfer-defect-{name}" for name in ("ours", "theirs", "nobodys"))
    with contextlib.closing(Traces(sandbox)) as traces:
        if not SHARED.is_dir():  # the system keeps it elsewhere, where no name of it can be seen
            assert traces.left() == []
            return
        with listening(sandbox.environ(), str(ours)), listening(os.environ, str(theirs)):
            time.sleep(5 * shared_memory.TICK_S)
        assert traces.left() == [f"shared memory {ours}"]
        nobodys.touch()
        assert traces.left() == [f"shared memory {nobodys}", f"shared memory {ours}"]
        ours.unlink()
        nobodys.unlink()
        assert traces.left() == []


# As pytest runs it

FILE = """
from xinfer.testing import EngineContract

class TestDefective(EngineContract):
    engine = "defective"
    overrides = ("model=capitals", "engine.defect={defect}")
    directories = ({directory!r},)
    families = ()
    ending = "The capital of France is Paris"
"""


def checked(directory: Path, defect: str) -> subprocess.CompletedProcess[str]:
    """Run the contract with pytest, in a process of its own."""
    file = directory / "test_defective.py"
    file.write_text(FILE.format(defect=defect, directory=str(MARKOV)))
    paths = os.pathsep.join([str(RESOURCES / "defective_plugin"), *filter(None, sys.path)])
    argv = [sys.executable, "-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider", str(file)]
    environ = {**os.environ, "PYTHONPATH": paths}
    return subprocess.run(argv, cwd=directory, env=environ, capture_output=True, text=True, check=False)


def test_an_engine_without_a_defect_keeps_the_contract(tmp_path: Path) -> None:
    """A subclass of a few lines is collected; each test can be passed."""
    done = checked(tmp_path, "none")
    assert (done.returncode, done.stderr) == (0, "")
    assert f"{len(TESTS)} passed" in done.stdout


def test_an_engine_with_a_defect_does_not(tmp_path: Path) -> None:
    """The test of the defect fails, and no other."""
    done = checked(tmp_path, "one-lump")
    assert done.returncode == 1
    assert f"1 failed, {len(TESTS) - 1} passed" in done.stdout
    assert f"FAILED test_defective.py::TestDefective::{STREAM}" in done.stdout
    assert "Broken: a stream: 24 tokens came in 1 pieces" in done.stdout


def test_the_package_itself_needs_no_pytest() -> None:
    """The servers are started where there is none."""
    code = (
        "import sys, xinfer.testing.fake_engine; print('pytest' in sys.modules); import xinfer.testing as t; t.Nothing"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == "False\n"
    assert "AttributeError: module 'xinfer.testing' has no attribute 'Nothing'" in done.stderr
