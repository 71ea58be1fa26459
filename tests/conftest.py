"""What many tests need: the command line, in this process and as one of its own, and a fake engine."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest
from background import Background
from package_index import Index, settings

from xinfer import cli, engines

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Ask = Callable[..., subprocess.CompletedProcess[str]]

pytest_plugins = "pytester"
RESOURCES = Path(__file__).parent / "resources"
collect_ignore = ["resources"]
"""The tests in there are those of a plugin, and run where it is installed."""
PATIENCE_S = 60.0
"""How long a command may take; only a failing test waits that long."""
MARK = "XINFER_TEST_MARK"

# A shell's background job ignores Ctrl-C, nohup ignores a terminal that closes, and so would all that the tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the cache of all real engines, as the contract does: ``$XINFER_TEST_HOME``, or one for this session."""
    return _home(tmp_path_factory)


def _home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(os.environ.get("XINFER_TEST_HOME") or tmp_path_factory.getbasetemp() / "xinfer-home").absolute()


@pytest.fixture(scope="session")
def background(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Background]:
    """Return the commands that take minutes; they use the cache of all real engines, whatever a file's own one is."""
    begun = Background(_home(tmp_path_factory), tmp_path_factory.mktemp("background"))
    yield begun
    begun.close()


@pytest.fixture
def ask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], mark: str) -> Ask:
    """Return the command line, run in this process, away from the user's own files."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(MARK, mark)
    monkeypatch.setenv("XINFER_HOME", str(tmp_path / "home"))

    def run(*argv: str) -> subprocess.CompletedProcess[str]:
        code = cli.main(list(argv))
        return subprocess.CompletedProcess(argv, code, *capsys.readouterr())

    return run


@pytest.fixture
def fake_plugin(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Install the fake engine's plugin into this process, and return the user's directory that goes with it."""
    monkeypatch.syspath_prepend(str(RESOURCES / "fake_plugin"))
    forget_plugins()
    yield RESOURCES / "conf"
    monkeypatch.undo()
    forget_plugins()


@pytest.fixture
def visible_engines(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Return how to set ``XINFER_ENGINES``, which is read once."""

    def see(names: str) -> None:
        monkeypatch.setenv("XINFER_ENGINES", names)
        forget_plugins()

    yield see
    monkeypatch.undo()
    forget_plugins()


@pytest.fixture
def index(ask_port: Callable[[int], None]) -> Iterator[Index]:
    """Return an empty index, which is the only one that pip and uv know."""
    empty = Index()
    with empty.served() as port:
        ask_port(port)
        yield empty


@pytest.fixture
def ask_port(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[int], None]:
    """Return how to let pip and uv ask a port of this machine, and nothing else."""

    def use(port: int) -> None:
        for name in [name for name in os.environ if name.startswith(("PIP_", "UV_"))]:
            monkeypatch.delenv(name)
        for name, value in settings(port, tmp_path / "uv").items():
            monkeypatch.setenv(name, value)

    return use


def forget_plugins() -> None:
    """Let the plugins be looked for again."""
    engines.registered.cache_clear()
    engines.get.cache_clear()


@pytest.fixture(scope="session")
def mark() -> str:
    """Return what the environment of every process of these tests bears."""
    return uuid.uuid4().hex


@pytest.fixture(scope="session")
def start(mark: str) -> Callable[..., subprocess.Popen[str]]:
    """Return how to start xinfer in a directory, where the fake engine's plugin and the user's files are found."""
    paths = [str(RESOURCES / "fake_plugin"), *filter(None, [os.environ.get("PYTHONPATH")])]

    def popen(directory: Path, *argv: str, **more: str) -> subprocess.Popen[str]:
        own = {"XINFER_HOME": str(directory / "home"), "PYTHONPATH": os.pathsep.join(paths), MARK: mark}
        words = [sys.executable, "-m", "xinfer", "--config-dir", str(RESOURCES / "conf"), *argv]
        output, environ = subprocess.PIPE, {**os.environ, **own, **more}
        return subprocess.Popen(words, cwd=directory, env=environ, stdout=output, stderr=output, text=True)

    return popen


@pytest.fixture
def command(tmp_path: Path, start: Callable[..., subprocess.Popen[str]]) -> Ask:
    """Return the command line as a process of its own, run to its end."""

    def run(*argv: str, **more: str) -> subprocess.CompletedProcess[str]:
        with start(tmp_path, *argv, **more) as process:
            output = process.communicate(timeout=PATIENCE_S)
        return subprocess.CompletedProcess(argv, process.returncode, *output)

    return run


@pytest.fixture
def survivors(mark: str) -> Callable[[], list[psutil.Process]]:
    """Return how to find what these tests have started and what still runs."""

    def find() -> list[psutil.Process]:
        return [process for process in psutil.process_iter() if _environ(process).get(MARK) == mark]

    return find


def _environ(process: psutil.Process) -> dict[str, str]:
    try:
        return {} if process.status() == psutil.STATUS_ZOMBIE else process.environ()
    except (psutil.Error, OSError):
        return {}
