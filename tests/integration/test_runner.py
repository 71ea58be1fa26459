"""The runner against real processes: nothing of an engine may be left, whatever ends."""

from __future__ import annotations

import http.client
import itertools
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import msgspec
import psutil
import pytest

from xinfer.errors import ConfigError, EngineError, RequestError, StartError
from xinfer.machine import probes
from xinfer.measuring import crew, placing
from xinfer.plan import LaunchPlan
from xinfer.running.runner import running, terminating_as_exception
from xinfer.testing import fake_engine

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from xinfer.running.server import Server

PATIENCE_S = 30.0
"""How long a test waits for what must happen; only a failing test waits that long."""

DRIVER = """
import json, os, signal, sys
from pathlib import Path
import msgspec
from xinfer.plan import LaunchPlan
from xinfer.running.runner import running, terminating_as_exception

plan, log, grace_s, forks = sys.argv[1:]
plan = msgspec.json.decode(plan, type=LaunchPlan)
with terminating_as_exception(), running(plan, log=Path(log), grace_s=float(grace_s)) as server:
    fork = os.fork() if forks == "fork" else None
    if fork != 0:
        print(json.dumps({"pids": server.pids(), "fork": fork}), flush=True)
    signal.pause()
"""


@pytest.fixture
def port() -> int:
    """Return a port of the loopback interface that is free."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """Return where the engine's log goes; the folder does not exist yet."""
    return tmp_path / "run" / "engine.log"


def plan(port: int, behaviour: str = "serve", *options: object) -> LaunchPlan:
    """Return the plan of a fake engine."""
    argv = (sys.executable, fake_engine.__file__, "--port", port, "--behaviour", behaviour, *options)
    return plan_of(port, *map(str, argv))


def plan_of(port: int, *argv: str) -> LaunchPlan:
    """Return the plan of any command line."""
    return LaunchPlan(engine="fake", version=None, variant="test", argv=argv, port=port, model="fake")


def until(condition: Callable[[], object]) -> None:
    """Wait until the condition holds."""
    deadline_s = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline_s, "waited in vain"
        time.sleep(0.02)


def is_gone(process: psutil.Process) -> bool:
    """Say whether the process has ended, be it reaped or not."""
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def is_free(port: int) -> bool:
    """Say whether a server could listen on the port."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def everything(server: Server) -> list[psutil.Process]:
    """Return the engine, all it started, and, last, its guard."""
    engine = psutil.Process(server.pid)
    others = (psutil.Process(pid) for pid in server.pids() if pid != server.pid)
    return [engine, *others, engine.parents()[0]]


def assert_nothing_left(processes: list[psutil.Process], port: int) -> None:
    """Check at once: whoever leaves the body may rely on it."""
    assert [process for process in processes if not is_gone(process)] == []
    assert is_free(port)


def completion(server: Server, **body: object) -> bytes:
    """Ask for a completion; return the whole body of the answer."""
    connection = http.client.HTTPConnection("127.0.0.1", server.plan.port, timeout=PATIENCE_S)
    try:
        connection.request("POST", "/v1/completions", json.dumps(body))
        return connection.getresponse().read()
    finally:
        connection.close()


# Ready


def test_a_ready_server_answers(port: int, log: Path) -> None:
    """The body gets a server that answers, its process id, its log and how long it took."""
    with running(plan(port, "serve", "--health-delay-s", 0.3, "--ttft-s", 0.2), log=log) as server:
        answer = json.loads(completion(server, prompt="one two", max_tokens=2))
        assert answer["usage"] == {"prompt_tokens": 2, "completion_tokens": 2, "total_tokens": 4}
        assert server.is_alive()
        assert server.pids() == (server.pid,)
        assert server.log_tail() == (f"fake engine: serve as process {server.pid}",)
        assert server.startup.ready_s >= 0.3
        assert server.startup.first_request_s >= 0.2
        processes = everything(server)
    assert_nothing_left(processes, port)
    assert not server.is_alive()
    assert server.pids() == ()
    assert server.exit_status == -signal.SIGTERM


def test_a_server_without_completions_is_asked_to_chat(port: int, log: Path) -> None:
    """A server that knows only /v1/chat/completions gets ready too."""
    with running(plan(port, "chat-only"), log=log) as server:
        assert server.is_alive()


def test_the_engine_is_apart_from_xinfer(port: int, log: Path) -> None:
    """The engine has a process group of its own, in another session, and reads no terminal."""
    with running(plan(port), log=log) as server:
        assert os.getpgid(server.pid) == server.pid
        assert os.getsid(server.pid) != os.getsid(0)


def test_the_engine_keeps_to_the_cores_it_is_given(port: int, log: Path) -> None:
    """All that it starts does, and xinfer has its own again; where cores cannot be chosen, none are given."""
    if not hasattr(os, "sched_getaffinity"):
        assert placing.left_to_the_server() is None
        return
    before = os.sched_getaffinity(0)
    with running(plan(port), log=log, start_timeout_s=PATIENCE_S, cores={min(before)}) as server:
        assert {frozenset(each.cpu_affinity()) for each in everything(server)} == {frozenset({min(before)})}
        assert os.sched_getaffinity(0) == before
    assert set(placing.left_to_the_server() or before) | set(crew.cores(1, 1.0, sorted(before))) in (
        before,
        {None, *before},
    )


def test_the_environment_is_the_plans(port: int, log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The engine inherits xinfer's variables but those that the plan takes away; the plan's own win, in every case."""
    monkeypatch.setenv("XINFER_TEST_A", "inherited")
    monkeypatch.setenv("XINFER_TEST_B", "inherited")
    script = "import os, sys; sys.exit(' '.join(os.environ.get(f'XINFER_TEST_{x}', 'none') for x in 'ABC'))"
    argv = (sys.executable, "-c", script)
    launch = msgspec.structs.replace(plan_of(port, *argv), env={"XINFER_TEST_B": "planned"})
    with (
        pytest.raises(StartError, match="its last words: inherited planned none; "),
        running(launch, log=log),
    ):
        pass
    given = {"XINFER_TEST_C": "given"}
    with (
        pytest.raises(StartError, match="its last words: none planned given; "),
        running(launch, log=log, environ=given),
    ):
        pass
    without = msgspec.structs.replace(launch, unset=("XINFER_TEST_A", "XINFER_TEST_B"))
    with (
        pytest.raises(StartError, match="its last words: none planned none; "),
        running(without, log=log),
    ):
        pass


@pytest.mark.parametrize("api_key", [None, "sk-1"])
def test_the_key_is_what_the_caller_says(
    port: int, log: Path, monkeypatch: pytest.MonkeyPatch, api_key: str | None
) -> None:
    """The server asks for that one, or for none, whatever else the environment has."""
    monkeypatch.setenv(fake_engine.KEY_VARIABLE, "sk-inherited")
    launch = msgspec.structs.replace(plan(port), key_variables={fake_engine.KEY_VARIABLE: "{key}"})
    with running(launch, log=log, api_key=api_key) as server:
        assert psutil.Process(server.pid).environ().get(fake_engine.KEY_VARIABLE) == api_key
        assert (b"no such key" in completion(server, prompt="one", max_tokens=1)) is (api_key is not None)


def test_an_engine_without_a_lock_gets_no_key(port: int, log: Path) -> None:
    """Rather than a server that everybody can use."""
    with pytest.raises(ConfigError, match=r"^fake checks no API key$"), running(plan(port), log=log, api_key="sk-1"):
        pytest.fail("the body must not run")


# Not ready


@pytest.mark.parametrize(
    ("behaviour", "options", "expected"),
    [
        pytest.param(
            "die-at-start",
            [],
            r"ended with exit code 3 before it was ready; "
            r"its last words: fake engine: die-at-start as process \d+ \| fake engine: cannot load the model",
            id="it-dies-at-start",
        ),
        pytest.param(
            "die-after-health",
            [],
            r"ended with exit code 3 before it was ready; "
            r"its last words: .* \| fake engine: the first request was too much",
            id="it-dies-of-the-first-request",
        ),
        pytest.param(
            "refuse-completion",
            [],
            r"failed its first completion: /v1/completions answered 500: "
            r'\{"error": "no completion today"\}; its last words: .*',
            id="it-refuses-the-first-request",
        ),
        pytest.param(
            "hang-at-start",
            [],
            r"was not ready after 3 s: /health: Connection refused; its last words: .*",
            id="it-hangs-at-start",
        ),
        pytest.param(
            "ignore-sigterm",
            ["--health-delay-s", "600"],
            r"was not ready after 3 s: /health answered 503; its last words: .*",
            id="it-loads-for-ever-and-does-not-listen",
        ),
        pytest.param(
            "serve",
            ["--ttft-s", "600"],
            r"was not ready after 3 s: /v1/completions: no answer; its last words: .*",
            id="it-never-completes",
        ),
    ],
)
def test_a_server_that_does_not_get_ready(
    port: int, log: Path, behaviour: str, options: list[str], expected: str
) -> None:
    """One line says what happened, with the log's last words; the details are its end; nothing is left."""
    # On a slow machine a death must not look like a delay, so only what hangs gets a short time.
    timeout_s = 3 if "not ready after" in expected else PATIENCE_S
    launch = plan(port, behaviour, *options)
    with (
        pytest.raises(StartError) as caught,
        running(launch, log=log, grace_s=0.2, start_timeout_s=timeout_s),
    ):
        pytest.fail("the body must not run")
    assert re.fullmatch(f"fake {expected}; log: {re.escape(str(log))}", str(caught.value))
    assert caught.value.details
    assert log.read_text().startswith("\n".join(caught.value.details))
    engine = int(re.findall(r"as process (\d+)", log.read_text())[0])
    assert not psutil.pid_exists(engine)
    assert is_free(port)


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        pytest.param(["a", "b", "c"], "b | c", id="the-last-two"),
        pytest.param(["Error: no flag -x", "usage:", "-h", "see --help"], "Error: no flag -x | see --help", id="above"),
        pytest.param(["KeyError: 1", "x", "y", "ValueError: 2"], "y | ValueError: 2", id="an-error-in-them"),
        pytest.param(["KeyError: 1", "ValueError: 2", "x", "y"], "ValueError: 2 | y", id="the-last-error"),
        pytest.param(["no Error: at the start", "x", "y"], "x | y", id="a-word-within-a-line"),
        pytest.param(["Error: x"], "Error: x", id="one-line"),
    ],
)
def test_the_last_words_are_those_that_tell(port: int, log: Path, lines: list[str], expected: str) -> None:
    """Some engines say what is wrong, and then how they are used."""
    launch = plan_of(port, sys.executable, "-c", f"raise SystemExit({chr(10).join(lines)!r})")
    with pytest.raises(StartError, match=re.escape(f"its last words: {expected}; log: ")), running(launch, log=log):
        pass


def test_a_silent_death_is_said_to_be_silent(port: int, log: Path) -> None:
    """A server that a signal ends without a word: the signal is named."""
    script = "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)"
    expected = rf"^fake was ended by SIGSEGV before it was ready; it wrote nothing; log: {re.escape(str(log))}$"
    launch = plan_of(port, sys.executable, "-c", script)
    with pytest.raises(StartError, match=expected), running(launch, log=log, environ={}):
        pass


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_a_taken_port(port: int, log: Path, host: str) -> None:
    """A port that anything listens on is refused before a start, and its owner is left alone."""
    with socket.create_server((host, port)):
        with pytest.raises(StartError) as caught, running(plan(port), log=log):
            pass
        with socket.create_connection(("127.0.0.1", port)):
            pass
    assert str(caught.value) == f"port {port} on 127.0.0.1 is already in use; choose another with port="
    assert not log.exists()


@contextmanager
def stranger(port: int, log: Path, words: str) -> Iterator[None]:
    """Let another server take the port as soon as the engine's log has the words."""
    servers: list[fake_engine.Engine] = []

    def serve() -> None:
        until(lambda: log.exists() and words in log.read_text())
        servers.append(fake_engine.Engine(fake_engine.read_options(["--port", str(port)])))
        servers[0].serve_forever(poll_interval=0.05)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield
    finally:
        servers[0].shutdown()
        thread.join()
        servers[0].server_close()


def test_another_server_is_not_taken_for_the_engine(port: int, log: Path) -> None:
    """A server that takes the port while the engine loads, and answers everything, does not make it ready."""
    expected = f"^fake lost port {port}: another process answers on it; its last words: "
    with (
        stranger(port, log, "hang-at-start"),
        pytest.raises(StartError, match=expected),
        running(plan(port, "hang-at-start"), log=log),
    ):
        pytest.fail("the body must not run")


@pytest.mark.parametrize(
    ("program", "expected"),
    [
        pytest.param("no-such-engine", "'no-such-engine' is not an executable file on PATH", id="a-name"),
        pytest.param("/no/such/engine", "'/no/such/engine' is not an executable file", id="a-path"),
        pytest.param(__file__, f"'{__file__}' is not an executable file", id="a-file-that-is-no-program"),
    ],
)
def test_a_wrong_program(port: int, log: Path, program: str, expected: str) -> None:
    """A command that is not there is named in one line."""
    with pytest.raises(StartError) as caught, running(plan_of(port, program), log=log):
        pass
    assert str(caught.value) == f"fake cannot be started: {expected}"


def test_a_program_that_the_system_refuses(port: int, log: Path, tmp_path: Path) -> None:
    """What looks like a program and is none is refused in the system's words."""
    program = tmp_path / "engine"
    program.write_bytes(b"\x00\x01\x02")
    program.chmod(0o755)
    with pytest.raises(StartError) as caught, running(plan_of(port, str(program)), log=log):
        pass
    assert str(caught.value) == f"fake could not be started: Exec format error; it wrote nothing; log: {log}"


def test_a_log_that_cannot_be_written(port: int, tmp_path: Path) -> None:
    """A log in a place that is no folder is named in one line."""
    (tmp_path / "file").touch()
    log = tmp_path / "file" / "engine.log"
    expected = rf"^the log {re.escape(str(log))} cannot be written: "
    with pytest.raises(StartError, match=expected), running(plan(port), log=log):
        pass


# Ended in the body


def test_an_exception_in_the_body(port: int, log: Path) -> None:
    """An exception leaves the body as it is, and nothing of the engine, however far it tried to get away."""
    processes: list[psutil.Process] = []

    def fail(server: Server) -> None:
        processes.extend(everything(server))
        assert set(json.loads(pids_file(log).read_text())) < set(server.pids())
        raise ZeroDivisionError

    launch = forking_plan(port, log)
    with pytest.raises(ZeroDivisionError), running(launch, log=log, grace_s=0.3) as server:
        fail(server)
    assert len(processes) == 4
    assert_nothing_left(processes, port)


def test_a_server_that_ignores_sigterm_is_killed(port: int, log: Path) -> None:
    """An engine that does not obey SIGTERM is killed when its time is up."""
    with running(plan(port, "ignore-sigterm"), log=log, grace_s=0.3) as server:
        processes = everything(server)
    assert_nothing_left(processes, port)
    assert server.exit_status == -signal.SIGKILL
    assert server.log_tail(1) == ("fake engine: no",), "it was asked once, and first"


def test_a_death_in_use(port: int, log: Path) -> None:
    """A body that ends well although its engine is dead ends in an error; the engine's children are gone."""
    processes: list[psutil.Process] = []
    expected = r"^fake was ended by SIGKILL while it was in use; its last words: fake engine: fork-children"
    launch = forking_plan(port, log)
    with pytest.raises(EngineError, match=expected), running(launch, log=log, grace_s=0.3) as server:
        processes.extend(lose(server, everything(server)[0], signal.SIGKILL))
    assert len(processes) == 4
    assert_nothing_left(processes, port)


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        pytest.param(signal.SIGKILL, "was ended by SIGKILL by the kernel, as memory ran out", id="the-engine"),
        pytest.param(signal.SIGTERM, "was ended by SIGTERM", id="another-process"),
    ],
)
def test_a_death_for_want_of_memory(
    port: int, log: Path, monkeypatch: pytest.MonkeyPatch, number: int, expected: str
) -> None:
    """The kernel counts whom it ends so; nobody can tell a machine's memory to run out for a test."""
    kills = itertools.chain([7], itertools.repeat(8))
    monkeypatch.setattr(probes, "oom_kills", lambda _: next(kills))
    with (
        pytest.raises(EngineError, match=f"^fake {expected} while it was in use; "),
        running(plan(port), log=log) as server,
    ):
        lose(server, everything(server)[0], number)


def lose(server: Server, process: psutil.Process, number: int) -> list[psutil.Process]:
    """Signal one process of a server and wait until this has cost the engine its life; return them all."""
    processes = everything(server)
    process.send_signal(number)
    until(lambda: not server.is_alive())
    if sys.platform == "linux":  # where a dead guard takes the engine with it, before xinfer does anything
        until(lambda: is_gone(processes[0]))
    return processes


def test_a_death_in_a_request(port: int, log: Path) -> None:
    """A broken request is the error that counts; how the engine ended is among its details."""
    message = "the stream broke"

    def ask(server: Server) -> None:
        try:
            completion(server, prompt="x", max_tokens=9, stream=True)
        except http.client.HTTPException as error:
            raise RequestError(message) from error

    with (
        pytest.raises(RequestError, match=f"^{message}$") as caught,
        running(plan(port, "die-mid-stream", "--gap-s", 0.01), log=log) as server,
    ):
        ask(server)
    assert caught.value.details[0] == "fake ended with exit code 3"
    assert caught.value.details[-1] == "fake engine: the stream was too long"


def test_a_broken_request_of_a_live_server(port: int, log: Path) -> None:
    """A broken request of an engine that lives has nothing to add."""
    with pytest.raises(RequestError) as caught, running(plan(port), log=log):
        raise RequestError
    assert caught.value.details == ()


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        pytest.param(signal.SIGTERM, "was ended by SIGTERM while it was in use", id="told-to-end"),
        pytest.param(signal.SIGKILL, "lost its guard process and was ended while it was in use", id="killed"),
    ],
)
def test_the_guard_is_ended(port: int, log: Path, number: int, expected: str) -> None:
    """Without its guard the engine does not live on, nor do its temporary files."""
    processes: list[psutil.Process] = []
    temporary: list[str] = []

    def lose_guard(server: Server) -> None:
        temporary.append(psutil.Process(server.pid).environ()["TMPDIR"])
        processes.extend(lose(server, everything(server)[-1], number))

    with pytest.raises(EngineError, match=f"^fake {expected}; "), running(plan(port), log=log) as server:
        lose_guard(server)
    assert not any(map(os.path.exists, temporary))
    assert len(processes) == 2
    until(lambda: all(map(is_gone, processes)))


# Ended together with xinfer


def pids_file(log: Path) -> Path:
    """Return where a forking engine leaves the process ids of its children."""
    return log.parent.with_suffix(".pids")


def forking_plan(port: int, log: Path) -> LaunchPlan:
    """Return the plan of an engine with a plain child, and a daemon outside its group and session."""
    return plan(port, "fork-children", "--pids-file", pids_file(log))


@contextmanager
def driver(
    launch: LaunchPlan, log: Path, grace_s: float = 0.3, *, forks: bool = False
) -> Iterator[subprocess.Popen[str]]:
    """Run the plan in another interpreter, in a session of its own, and wait there for a signal."""
    arguments = [msgspec.json.encode(launch).decode(), str(log), str(grace_s), "fork" if forks else "alone"]
    with subprocess.Popen(
        [sys.executable, "-c", DRIVER, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def started(process: subprocess.Popen[str]) -> tuple[list[psutil.Process], int | None]:
    """Return the driver's engine, all that this started, and its guard; and the driver's own fork."""
    assert process.stdout is not None
    news = json.loads(process.stdout.readline())
    engines = [psutil.Process(pid) for pid in news["pids"]]
    guards = {engine.ppid() for engine in engines} - {*news["pids"]}
    return [*engines, *map(psutil.Process, guards)], news["fork"]


@pytest.mark.parametrize(
    ("number", "exit_status"),
    [
        pytest.param(signal.SIGINT, -signal.SIGINT, id="ctrl-c"),
        pytest.param(signal.SIGTERM, 143, id="sigterm"),
        pytest.param(signal.SIGHUP, 129, id="the-terminal-closes"),
    ],
)
def test_xinfer_is_told_to_end(port: int, log: Path, number: int, exit_status: int) -> None:
    """When xinfer has ended on a signal, everything else has ended too."""
    with driver(forking_plan(port, log), log) as process:
        processes, _ = started(process)
        assert len(processes) == 4
        process.send_signal(number)
        assert process.wait(PATIENCE_S) == exit_status
        assert_nothing_left(processes, port)


@pytest.mark.parametrize("kill", [os.kill, os.killpg], ids=["the-process", "its-whole-group"])
def test_xinfer_is_killed(port: int, log: Path, kill: Callable[[int, int], None]) -> None:
    """When xinfer is killed and can do nothing any more, everything else ends by itself."""
    with driver(forking_plan(port, log), log) as process:
        processes, _ = started(process)
        kill(process.pid, signal.SIGKILL)
        assert process.wait(PATIENCE_S) == -signal.SIGKILL
        until(lambda: all(map(is_gone, processes)))
        assert is_free(port)


def test_xinfer_is_killed_and_a_fork_of_it_lives(port: int, log: Path) -> None:
    """A forked worker of xinfer that holds all its files open does not keep the engine alive."""
    with driver(forking_plan(port, log), log, forks=True) as process:
        processes, fork = started(process)
        assert fork is not None
        try:
            process.kill()
            until(lambda: all(map(is_gone, processes)))
            assert not is_gone(psutil.Process(fork))
        finally:
            os.kill(fork, signal.SIGKILL)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_xinfer_ends_while_the_engine_starts(port: int, log: Path, number: int) -> None:
    """An engine that is not ready yet is ended like any other."""
    with driver(plan(port, "hang-at-start"), log) as process:
        until(lambda: log.exists() and log.read_text().endswith("\n"))
        engine = psutil.Process(int(log.read_text().split()[-1]))
        processes = [engine, engine.parents()[0]]
        process.send_signal(number)
        process.wait(PATIENCE_S)
        until(lambda: all(map(is_gone, processes)))


def test_an_obedient_engine_is_not_waited_for(port: int, log: Path) -> None:
    """The grace is an upper bound: who obeys ends xinfer at once."""
    with driver(plan(port), log, grace_s=600) as process:
        processes, _ = started(process)
        process.terminate()
        assert process.wait(PATIENCE_S) == 143
        assert_nothing_left(processes, port)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_asking_twice_ends_the_patience(port: int, log: Path, number: int) -> None:
    """A second Ctrl-C does not abandon a stubborn engine, it kills it."""
    with driver(plan(port, "ignore-sigterm"), log, grace_s=600) as process:
        processes, _ = started(process)
        process.send_signal(number)
        until(lambda: log.read_text().endswith("fake engine: no\n"))
        process.send_signal(number)
        process.wait(PATIENCE_S)
        assert_nothing_left(processes, port)


# Signals as exceptions


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_becomes_an_exception(number: int, code: int) -> None:
    """A signal that would end the process unwinds it instead, and the handlers are as before afterwards."""
    before = signal.getsignal(number)
    with pytest.raises(SystemExit) as caught, terminating_as_exception():
        os.kill(os.getpid(), number)
    assert caught.value.code == code
    assert signal.getsignal(number) is before


def test_an_ignored_signal_stays_ignored() -> None:
    """Under nohup, a closed terminal does not end xinfer."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with terminating_as_exception():
            os.kill(os.getpid(), signal.SIGHUP)
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)
