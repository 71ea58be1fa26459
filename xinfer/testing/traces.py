"""What a running engine has of a machine, noted while it runs, so that it can be looked for when it is gone."""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
import time
import uuid
from contextlib import suppress
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from xinfer.testing.shared_memory import SharedMemory

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

MARK = "XINFER_CONTRACT"
"""A variable that every process of the engine inherits."""
_FOLDERS = {
    "TMPDIR": "tmp", "TMP": "tmp", "TEMP": "tmp", "HOME": "home", "XDG_CACHE_HOME": "home/.cache",
    "XDG_CONFIG_HOME": "home/.config", "XDG_DATA_HOME": "home/.local/share", "XDG_STATE_HOME": "home/.local/state",
}  # fmt: skip
"""The variables that say where a program may write, and the folder of the sandbox that each names."""


class Sandbox:
    """Folders of an engine's own, to be thrown away: its temporary files, its home, its working directory."""

    def __init__(self) -> None:
        """Make them, under a short name: the path of a socket has room for about a hundred characters."""
        self.root = Path(tempfile.mkdtemp(prefix="xinfer-")).resolve()
        self.work = self.root / "work"
        for name in ("work", *_FOLDERS.values()):
            (self.root / name).mkdir(parents=True, exist_ok=True)
        self._before = set(self._entries())
        self._mark = uuid.uuid4().hex

    def environ(self) -> dict[str, str]:
        """Return this process's environment with these folders; the user's cache of models stays where it is."""
        hub = os.environ.get("HF_HOME") or str(Path.home() / ".cache" / "huggingface")
        folders = {variable: str(self.root / name) for variable, name in _FOLDERS.items()}
        return {**os.environ, "HF_HOME": hub, **folders, MARK: self._mark}

    def left(self, keeps: Collection[str]) -> list[str]:
        """Return what was put there and is not among ``keeps``: patterns such as ``home/.cache/engine/*``."""
        found = (str(path.relative_to(self.root)) for path in self._entries() if path not in self._before)
        return sorted(name for name in found if not any(fnmatchcase(name, pattern) for pattern in keeps))

    def has(self, process: psutil.Process) -> bool:
        """Say whether a process was started here; a program may overwrite its environment, but hardly all else."""
        with suppress(psutil.Error, OSError):
            if process.environ().get(MARK) == self._mark:
                return True
        with suppress(psutil.Error, OSError):
            return Path(process.cwd()).is_relative_to(self.root)
        return False

    def remove(self) -> None:
        """Throw everything away."""
        shutil.rmtree(self.root, ignore_errors=True)

    def _entries(self) -> Iterator[Path]:
        """Yield every file, and every folder without one."""
        for folder, folders, files in os.walk(self.root):
            yield from (Path(folder, name) for name in files)
            if not folders and not files:
                yield Path(folder)


class Traces:
    """The processes, ports, shared memory and files outside its sandbox that an engine was seen to have."""

    def __init__(self, sandbox: Sandbox, known: Iterable[Path] = ()) -> None:
        """Begin before the engine starts; files below ``known`` are none of its own."""
        self._sandbox = sandbox
        self._known = (sandbox.root, *known)
        self._began_s = time.time()
        self._processes: set[psutil.Process] = set()
        self._ports: set[int] = set()
        self._paths: set[Path] = set()
        self._shared = SharedMemory(self._has)

    def note(self, pids: Iterable[int]) -> None:
        """Look at the engine's processes as they are now."""
        for pid in pids:
            with suppress(psutil.Error, OSError):
                process = psutil.Process(pid)
                self._processes.add(process)
                self._ports |= {s.laddr.port for s in process.net_connections("tcp") if s.status == "LISTEN"}
                self._paths |= set(_open_paths(process))

    def left(self) -> list[str]:
        """Say what is still there, a phrase each; call it when the engine has been stopped."""
        shared = (f"shared memory {path}" for path in self._shared.left())
        return [*self._left_processes(), *self._left_ports(), *shared, *self._left_files()]

    def close(self) -> None:
        """Look no longer."""
        self._shared.close()

    def _has(self, pid: int) -> bool:
        """Say whether a process is one of the engine's; one that has just ended may have been."""
        with suppress(psutil.Error, OSError):
            process = psutil.Process(pid)
            is_ours = process in self._processes or self._sandbox.has(process)
            return is_ours or process.status() == psutil.STATUS_ZOMBIE
        return True

    def _left_processes(self) -> Iterator[str]:
        others = {process for process in psutil.process_iter() if self._sandbox.has(process)}
        for process in sorted(self._processes | others, key=lambda process: process.pid):
            with suppress(psutil.Error):
                if process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
                    yield f"process {process.pid} ({process.name()})"

    def _left_ports(self) -> Iterator[str]:
        for port in sorted(self._ports):
            with socket.socket() as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    probe.bind(("127.0.0.1", port))
                except OSError as error:
                    yield f"port {port} ({error.strerror})"

    def _left_files(self) -> Iterator[str]:
        for path in sorted(self._paths):
            with suppress(OSError):
                is_known = any(path.is_relative_to(folder) for folder in self._known)
                if not is_known and path.lstat().st_ctime >= self._began_s:
                    yield f"file {path}"


def _open_paths(process: psutil.Process) -> Iterator[Path]:
    """Yield the files and sockets that a process has open in a folder for temporary files."""
    temporary = {Path(folder).resolve() for folder in ("/tmp", "/var/tmp", tempfile.gettempdir())}  # noqa: S108
    named = [file.path for file in process.open_files()]
    named += [str(s.laddr) for s in process.net_connections("unix")]
    for name in named:
        path = Path(name)
        if path.is_absolute() and any(path.is_relative_to(folder) for folder in temporary):
            yield path
