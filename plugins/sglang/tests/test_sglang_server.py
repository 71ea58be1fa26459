"""The script that starts SGLang's server."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

import pytest
from sglang_plans import ENGINE, SERVER

from xinfer import engines

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

KEY = "sk-secret"
STAND_IN = """
import logging, multiprocessing, sys

def tell():
    logging.basicConfig(level=logging.INFO, force=True)
    logging.info("server_args=%s", {"api_key": "sk-secret"})
    logging.info("sk-secret as it is")

if __name__ == "__main__":
    print(sys.argv[1:], flush=True)
    child = multiprocessing.get_context("spawn").Process(target=logging.getLogger().warning, args=("child sk-secret",))
    child.start()
    child.join()
    tell()
"""


@pytest.fixture
def packages(tmp_path: Path) -> Path:
    """Return a directory with a stand-in for SGLang."""
    package = tmp_path / "packages" / "sglang"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "launch_server.py").write_text(STAND_IN, encoding="utf-8")
    return package.parent


def started(packages: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-P", str(SERVER), "--port", "1"]
    environ = {**os.environ, "PYTHONPATH": str(packages), **variables}
    return subprocess.run(argv, env=environ, capture_output=True, text=True, check=True)


def test_the_key_is_a_flag_that_no_log_shows(packages: Path) -> None:
    """SGLang gets it as a flag, inside its own process; each line of a log, in whatever process, has stars instead."""
    done = started(packages, SGLANG_API_KEY=KEY)
    assert done.stdout.splitlines()[0] == f"['--port', '1', '--api-key={KEY}']"
    assert KEY not in done.stderr
    assert "server_args={'api_key': '***'}" in done.stderr
    assert "*** as it is" in done.stderr
    assert "child ***" in done.stderr


def test_no_key_no_flag(packages: Path) -> None:
    """Without one, SGLang is started as it is."""
    assert started(packages).stdout.splitlines()[0] == "['--port', '1']"


@pytest.fixture
def records() -> Iterator[None]:
    """Put the making of log records back as it was."""
    before = logging.getLogRecordFactory()
    yield
    logging.setLogRecordFactory(before)


@pytest.mark.usefixtures("records")
def test_other_lines_are_left_alone(caplog: pytest.LogCaptureFixture) -> None:
    """A line without the key keeps its text and its arguments."""
    script: Any = import_module("xinfer.plugins.sglang.server")
    script.hide(KEY)
    logging.getLogger("any").warning("%s and %d", "this", 2)
    logging.getLogger("any").warning("%s", KEY)
    made = [(record.args, record.getMessage()) for record in caplog.records]
    assert made == [(("this", 2), "this and 2"), ((), "***")]


def test_the_key_goes_by_the_scripts_variable() -> None:
    """The runner sets it where a key is asked for."""
    assert engines.key_variables(ENGINE) == {"SGLANG_API_KEY": "{key}"}
