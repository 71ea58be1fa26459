"""Directories are made by real commands: once, whole or not at all, whoever interrupts."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import psutil
import pytest
from privileges import unprivileged

from xinfer.environments import environment, locks, news, removal, steps
from xinfer.environments.environment import MARKER, Marker, provision
from xinfer.errors import ProvisionError, Refused
from xinfer.plan import Artefact, LaunchPlan

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PATIENCE_S = 30.0
"""How long a test waits for what must happen; only a failing test waits that long."""
WRITE = (
    "import sys; from pathlib import Path; d = Path(sys.argv[1]); d.mkdir(exist_ok=True); (d / 'one').write_text('1')"
)
COUNT = "import sys; open(sys.argv[1] + '.count', 'a').write('x')"
COUNT_TOO = "; open(sys.argv[1] + '.count', 'a').write('x')"
STUBBORN = """
import os, signal, subprocess, sys, time
from pathlib import Path
directory = Path(sys.argv[1])
signal.signal(signal.SIGTERM, signal.SIG_IGN)
directory.mkdir()
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
partial = directory / "partial"
partial.write_text(f"{os.getpid()} {child.pid}")
partial.rename(directory / "pids")
time.sleep(600)
"""
DRIVER = """
import sys
from pathlib import Path
import msgspec
from xinfer.environments import steps
from xinfer.environments.environment import provision
from xinfer.plan import LaunchPlan
from xinfer.running.runner import terminating_as_exception

steps.GRACE_S = 0.5
plan = msgspec.json.decode(sys.argv[1], type=LaunchPlan)
with terminating_as_exception():
    provision(plan, progress=lambda line: print(line, flush=True), log=Path(sys.argv[2]))
"""


def plan(directory: Path, *codes: str, argv: tuple[str, ...] = ()) -> LaunchPlan:
    """Return a plan whose weights are made by Python commands, each given the directory."""
    steps = tuple((sys.executable, "-c", code, str(directory)) for code in codes)
    weights = Artefact(path=str(directory), steps=steps)
    return LaunchPlan(engine="fake", version=None, variant="test", weights=(weights,), argv=argv)


def make(launch: LaunchPlan, directory: Path) -> list[str]:
    """Provision a plan in this process and return the progress lines."""
    lines: list[str] = []
    provision(launch, progress=lines.append, log=directory.with_name("log"))
    return lines


def start(launch: LaunchPlan, directory: Path) -> subprocess.Popen[str]:
    """Provision a plan in a process of its own."""
    argv = [sys.executable, "-c", DRIVER, msgspec.json.encode(launch).decode(), str(directory.with_name("log"))]
    return subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True)


def until(condition: Callable[[], object]) -> None:
    """Wait until the condition holds."""
    deadline_s = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline_s, "waited in vain"
        time.sleep(0.02)


def waiting_for(gate: Path) -> str:
    """Return Python that waits until a file is there."""
    return f"import os, time\nwhile not os.path.exists({str(gate)!r}): time.sleep(0.02)"


def is_gone(pid: int) -> bool:
    """Say whether a process has ended, be it reaped or not."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Return a directory that is to be made; its name needs quoting and its parent is not there yet."""
    return tmp_path / "höme with 'spaces' & $signs" / "models" / "m"


def test_steps_fill_the_directory_and_the_marker_says_so(directory: Path) -> None:
    """The steps run in their order, each with a progress line, and the marker records them."""
    launch = plan(directory, WRITE, "import sys; print(open(sys.argv[1] + '/one').read())")
    assert make(launch, directory) == [f"running {Path(sys.executable).name}"] * 2
    found = msgspec.json.decode((directory / MARKER).read_bytes(), type=Marker)
    assert found.steps == launch.weights[0].steps
    assert found.resolved == ()
    log = directory.with_name("log").read_text()
    assert log.startswith(f"$ {sys.executable} -c ")
    assert log.endswith("\n1\n")


def test_a_complete_directory_is_left_alone(directory: Path) -> None:
    """The second time nothing runs, nothing is said, and the marker's time tells the last use."""
    launch = plan(directory, WRITE, COUNT)
    make(launch, directory)
    os.utime(directory / MARKER, (0, 0))
    assert make(launch, directory) == []
    assert Path(f"{directory}.count").read_text() == "x"
    assert (directory / MARKER).stat().st_mtime > 0


def test_changed_steps_make_it_anew(directory: Path) -> None:
    """What other steps have left is removed first."""
    make(plan(directory, WRITE), directory)
    make(plan(directory, WRITE.replace("'one'", "'two'")), directory)
    assert sorted(path.name for path in directory.iterdir()) == [MARKER, "two"]


@pytest.mark.parametrize("is_file", [pytest.param(False, id="a-directory"), pytest.param(True, id="a-file")])
def test_what_has_no_marker_is_made_anew(directory: Path, *, is_file: bool) -> None:
    """Whatever a killed installation has left is not built upon."""
    directory.parent.mkdir(parents=True)
    if is_file:
        directory.write_text("left")
    else:
        directory.mkdir()
        (directory / "left").write_text("left")
    make(plan(directory, WRITE), directory)
    assert sorted(path.name for path in directory.iterdir()) == [MARKER, "one"]


def test_a_file_that_the_launch_needs_and_that_vanished_is_fetched_again(directory: Path) -> None:
    """A marker does not outweigh a missing model file, or an environment whose Python was removed."""
    launch = plan(directory, WRITE, COUNT, argv=("serve", "--model", f"{directory}/one"))
    make(launch, directory)
    (directory / "one").unlink()
    make(launch, directory)
    assert Path(f"{directory}.count").read_text() == "xx"


def test_a_failing_step_leaves_nothing(directory: Path) -> None:
    """The error is one line with the step, its status, its last words and a remedy; the next try starts afresh."""
    fail = "import sys; print('a'); print('ERROR: No matching distribution found for b'); sys.exit(3)"
    with pytest.raises(ProvisionError) as caught:
        make(plan(directory, WRITE, fail, COUNT), directory)
    python = Path(sys.executable).name
    assert str(caught.value) == (
        f"running {python}: {python} exited with 3: No matching distribution found for b; "
        "choose a version that exists for this Python and this machine"
    )
    assert caught.value.details == ("a", "ERROR: No matching distribution found for b")
    assert not directory.exists()
    assert not Path(f"{directory}.count").exists()
    make(plan(directory, WRITE), directory)


def test_a_program_that_is_not_there_is_named(directory: Path) -> None:
    """The interpreter that should create the environment may not exist."""
    artefact = Artefact(path=str(directory), steps=(("/no/such/python", "-m", "venv", str(directory)),))
    launch = msgspec.structs.replace(plan(directory), weights=(artefact,))
    with pytest.raises(ProvisionError) as caught:
        make(launch, directory)
    expected = "creating a virtual environment: /no/such/python cannot be run: No such file or directory"
    assert str(caught.value) == expected


def test_steps_that_do_not_bring_what_the_launch_needs_fail(directory: Path) -> None:
    """A package may have changed its content under the same name."""
    with pytest.raises(ProvisionError) as caught:
        make(plan(directory, WRITE, argv=("serve", f"{directory}/two")), directory)
    assert str(caught.value) == (
        f"{directory}/two is not there, though every step succeeded: not what was planned has been fetched"
    )
    assert not directory.exists()


def test_a_home_that_is_no_directory_is_one_line(tmp_path: Path) -> None:
    """What the file system refuses is named with its path."""
    (tmp_path / "home").write_text("a file")
    with pytest.raises(ProvisionError) as caught:
        provision(plan(tmp_path / "home" / "m", WRITE), progress=lambda _: None, log=tmp_path / "log")
    assert str(caught.value) == f"{tmp_path}/home: File exists; free or unlock it, or choose another home="


def test_a_home_that_is_read_only_is_one_line(public: Path) -> None:
    """Nothing is begun; what the system refuses is named with its path."""
    home, log = public / "home", public / "log"
    home.mkdir()
    log.touch()
    log.chmod(0o666)
    home.chmod(0o555)
    with unprivileged(), pytest.raises(ProvisionError) as caught:
        provision(plan(home / "models" / "m", COUNT), progress=lambda _: None, log=log)
    assert str(caught.value) == (
        f"{home}/models: Permission denied; not all that the plan needs is in this home, and you cannot write there; "
        "unlock it, or choose another home="
    )
    assert list(home.iterdir()) == []
    assert log.read_text() == ""


def test_a_read_only_home_that_is_complete_can_be_used(public: Path) -> None:
    """Somebody else has filled it, and keeps it."""
    directory, log = public / "home" / "models" / "m", public / "log"
    launch = plan(directory, WRITE, argv=("serve", f"{directory}/one"))
    make(launch, directory)
    log.touch()
    log.chmod(0o666)
    for path in (directory.parent, directory):
        path.chmod(0o555)
    with unprivileged():
        provision(launch, progress=pytest.fail, log=log)
        with environment.used(launch):
            assert locks.is_held(directory)
    for path in (directory.parent, directory):
        path.chmod(0o755)


@pytest.fixture
def public() -> Iterator[Path]:
    """Return a directory that everybody can reach, unlike pytest's own."""
    with tempfile.TemporaryDirectory(prefix="xinfer-test-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


def test_a_compilation_tells_each_tenth(directory: Path) -> None:
    """Minutes of compiling are not silent, and not a line for each file either."""
    count = "print(*(f'[{i}/40] g++' for i in range(1, 41)), sep='\\n')"
    python = Path(sys.executable).name
    lines = make(plan(directory, WRITE, count), directory)
    assert lines[2:] == [f"running {python}: {done} of 40 files" for done in range(4, 41, 4)]


def test_a_long_step_tells_what_it_is_doing(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While it is doing it, not when it is done."""
    monkeypatch.setattr(news, "PAUSE_S", 0.0)
    monkeypatch.setattr(steps, "TICK_MS", 20)
    gate = directory.with_name("gate")
    wait = f"print('  Downloading a-1.whl (190.2 MB)', flush=True)\n{waiting_for(gate)}"
    lines: list[str] = []

    def hear(line: str) -> None:
        lines.append(line)
        if "downloading" in line:
            gate.touch()

    provision(plan(directory, WRITE, wait), progress=hear, log=directory.with_name("log"))
    python = Path(sys.executable).name
    assert f"running {python}: downloading a-1.whl (190.2 MB), 0 s so far" in [
        re.sub(r"\d+ s", "0 s", line) for line in lines
    ]


def test_an_environment_lists_what_was_installed(tmp_path: Path) -> None:
    """The packages are listed once, when the environment is made, and returned each time."""
    path = tmp_path / "e"
    steps = ((sys.executable, "-m", "venv", str(path)),)
    launch = msgspec.structs.replace(
        plan(path), weights=(), environment=Artefact(path=str(path), steps=steps), argv=(f"{path}/bin/python", "-V")
    )
    packages = provision(launch, progress=lambda _: None, log=tmp_path / "log")
    assert any(package.startswith("pip==") for package in packages)
    assert all("==" in package for package in packages)
    (path / "bin" / "pip").unlink()
    assert provision(launch, progress=lambda _: None, log=tmp_path / "log") == packages


def test_the_users_own_interpreter_is_listed(tmp_path: Path) -> None:
    """Without an environment the packages are those of the interpreter that runs the engine, or beside it."""
    (tmp_path / "python").symlink_to(sys.executable)
    for program, known in ((sys.executable, True), (str(tmp_path / "no" / "llama-server"), False)):
        launch = msgspec.structs.replace(plan(tmp_path), weights=(), argv=(program, "x"))
        packages = provision(launch, progress=lambda _: None, log=tmp_path / "log")
        assert any(package.startswith("pytest==") for package in packages) == known


@pytest.mark.parametrize(
    ("number", "status"),
    [
        pytest.param(signal.SIGTERM, 128 + signal.SIGTERM, id="SIGTERM"),
        pytest.param(signal.SIGINT, -signal.SIGINT, id="Ctrl-C"),
        pytest.param(signal.SIGKILL, -signal.SIGKILL, id="SIGKILL"),
    ],
)
def test_an_interrupted_step_leaves_no_process(directory: Path, number: signal.Signals, status: int) -> None:
    """The step and what it started are ended; what it made is gone, or made anew by the next."""
    process = start(plan(directory, STUBBORN), directory)
    until((directory / "pids").exists)
    pids = [int(pid) for pid in (directory / "pids").read_text().split()]
    process.send_signal(number)
    process.communicate(timeout=PATIENCE_S)
    assert process.returncode == status
    if number != signal.SIGKILL:
        assert not directory.exists()
        assert all(map(is_gone, pids))
    make(plan(directory, WRITE), directory)
    assert all(map(is_gone, pids)), "the lock was given away while the step was running"
    assert sorted(path.name for path in directory.iterdir()) == [MARKER, "one"]


def chain(home: Path) -> tuple[LaunchPlan, Artefact, Artefact]:
    """Return a plan whose model is made by a tool from a fetched file, each of which counts how often it is made."""
    tool = Artefact(path=f"{home}/tool", steps=((sys.executable, "-c", WRITE + COUNT_TOO, f"{home}/tool"),))
    file = Artefact(path=f"{home}/file", steps=((sys.executable, "-c", WRITE + COUNT_TOO, f"{home}/file"),))
    check = f"import os; assert all(map(os.path.exists, ({tool.path + '/one'!r}, {file.path + '/one'!r})))"
    convert = (
        sys.executable,
        "-c",
        f"{check}; {WRITE + COUNT_TOO}",
        f"{home}/m",
        f"{tool.path}/one",
        f"{file.path}/one",
    )
    made = Artefact(path=f"{home}/m", steps=(convert,))
    launch = LaunchPlan(
        engine="fake", version=None, variant="test", weights=(tool, file, made), argv=(f"{home}/m/one",)
    )
    return launch, tool, file


def counts(home: Path) -> dict[str, str]:
    return {path.stem: path.read_text() for path in sorted(home.glob("*.count"))}


def test_what_a_model_is_made_from_is_made_first(tmp_path: Path) -> None:
    """Each once, in their order; what exists already is used."""
    launch, tool, _ = chain(tmp_path / "h")
    make(msgspec.structs.replace(launch, weights=(tool,), argv=()), tmp_path / "h")
    make(launch, tmp_path / "h")
    make(launch, tmp_path / "h")
    assert counts(tmp_path / "h") == {"file": "x", "m": "x", "tool": "x"}


def test_sources_that_were_removed_are_not_missed(tmp_path: Path) -> None:
    """Until something must be made of them again."""
    launch, tool, file = chain(tmp_path / "h")
    make(launch, tmp_path / "h")
    removal.remove(Path(tool.path))
    removal.remove(Path(file.path))
    assert make(launch, tmp_path / "h") == []
    assert counts(tmp_path / "h") == {"file": "x", "m": "x", "tool": "x"}
    removal.remove(tmp_path / "h" / "m")
    make(launch, tmp_path / "h")
    assert counts(tmp_path / "h") == {"file": "xx", "m": "xx", "tool": "xx"}


def test_a_tool_that_broke_is_made_anew(tmp_path: Path) -> None:
    """As when the Python that it was made from is gone."""
    launch, tool, _ = chain(tmp_path / "h")
    make(launch, tmp_path / "h")
    Path(tool.path, "one").unlink()
    removal.remove(tmp_path / "h" / "m")
    make(launch, tmp_path / "h")
    assert counts(tmp_path / "h") == {"file": "x", "m": "xx", "tool": "xx"}


def test_a_source_stays_while_something_is_made_of_it(tmp_path: Path) -> None:
    """It cannot be removed from under the tool that reads it."""
    launch, tool, file = chain(tmp_path / "h")
    *sources, made = launch.weights
    gate = tmp_path / "gate"
    wait = f"open({str(tmp_path / 'begun')!r}, 'w')\n{waiting_for(gate)}"
    slow = msgspec.structs.replace(made, steps=((sys.executable, "-c", wait), *made.steps))
    process = start(msgspec.structs.replace(launch, weights=(*sources, slow)), tmp_path / "h")
    try:
        until((tmp_path / "begun").exists)
        for source in (tool, file):
            with pytest.raises(Refused, match="is being made or used by another xinfer"):
                removal.remove(Path(source.path))
    finally:
        gate.touch()
    output, _ = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, output
    removal.remove(Path(file.path))


def test_two_at_once_install_once(directory: Path) -> None:
    """The second waits, says so, and finds the directory complete."""
    gate = directory.with_name("gate")
    wait = waiting_for(gate)
    launch = plan(directory, WRITE, COUNT, wait)
    first = start(launch, directory)
    until(Path(f"{directory}.count").exists)
    second = start(launch, directory)
    assert second.stdout
    said = second.stdout.readline()
    gate.touch()
    for process in (first, second):
        output, _ = process.communicate(timeout=PATIENCE_S)
        assert process.returncode == 0, output
    assert said == f"waiting for another xinfer that is making {directory}\n"
    assert Path(f"{directory}.count").read_text() == "x"
