"""Commands of xinfer that take minutes, begun before they are asked for, beside tests that leave a core idle."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

COMMANDS = {
    "test_llama_cpp_native": ("provision", "engine=llama_cpp", "engine.build=native", "hw=auto"),
    "test_same_answers": ("parity", "model=smollm2-135m-instruct", "rules=engines-2026-11", "hw=auto", "format=json"),
}
"""What the tests of a file wait for."""


class Background:
    """Runs each command once, and for those files alone that are tested in this session."""

    def __init__(self, home: Path, folder: Path) -> None:
        """Take the engines' cache, and the directory where the commands run."""
        self._environ = {**os.environ, "XINFER_HOME": str(home)}
        self._folder = folder
        self._begun: dict[str, subprocess.Popen[bytes]] = {}
        self._open = ExitStack()

    def begin(self, name: str, session: pytest.Session) -> bool:
        """Run the command of a file from now on, if that file is tested too; say whether it is."""
        is_tested = name in {item.path.stem for item in session.items}
        if is_tested:
            self._process(name)
        return is_tested

    def end(self, name: str) -> subprocess.CompletedProcess[str]:
        """Wait for the command of a file, and return what it said."""
        process = self._process(name)
        code = process.wait()
        return subprocess.CompletedProcess(process.args, code, *(path.read_text() for path in self._files(name)))

    def close(self) -> None:
        """Stop what still runs."""
        with self._open:
            for process in self._begun.values():
                process.terminate()

    def _process(self, name: str) -> subprocess.Popen[bytes]:
        if name not in self._begun:
            out, err = (self._open.enter_context(path.open("wb")) for path in self._files(name))
            argv = [sys.executable, "-m", "xinfer", *COMMANDS[name]]
            process = subprocess.Popen(argv, cwd=self._folder, env=self._environ, stdout=out, stderr=err)
            self._begun[name] = self._open.enter_context(process)
        return self._begun[name]

    def _files(self, name: str) -> tuple[Path, Path]:
        return self._folder / f"{name}.out", self._folder / f"{name}.err"
