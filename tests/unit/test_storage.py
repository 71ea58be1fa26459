"""What lies below a home, read from names, markers and locks."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from xinfer.environments import locks, storage
from xinfer.environments.environment import MARKER, Marker
from xinfer.environments.storage import Command

ENVIRONMENT = "llama_cpp-wheel-cpu-2026.10.11549-0a1b2c3d"
FOUND = Marker(steps=(("x",),), resolved=("a==1", "b==2"), made="2026-11-22T05:43:37+00:00", seconds=7.6)


def complete(path: Path, found: Marker = FOUND) -> Path:
    """Make a directory that counts as complete, last used at a known time."""
    path.mkdir(parents=True)
    locks.of(path).touch()
    (path / MARKER).write_bytes(msgspec.json.encode(found))
    os.utime(path / MARKER, (1_800_000_000, 1_800_000_000))
    return path


@pytest.mark.parametrize(
    ("place", "name", "expected"),
    [
        pytest.param("environments", ENVIRONMENT, ("environment", "llama_cpp", "2026.10.11549", "wheel-cpu"), id="two"),
        pytest.param(
            "environments", "vllm-cuda-0.33.0rc1-0a1b2c3d", ("environment", "vllm", "0.33.0rc1", "cuda"), id="e"
        ),
        pytest.param("environments", "tool-gguf-0a1b2c3d", ("tool", None, None, None), id="a-tool"),
        pytest.param("environments", "loadgen-guidellm-0a1b2c3d", ("tool", None, None, None), id="a-load-generator"),
        pytest.param("environments", "mine", ("environment", None, None, None), id="another-name"),
        pytest.param("models", "m-cpu-1-0a1b2c3d", ("weights", None, None, None), id="a-model-named-like-one"),
    ],
)
def test_parts(place: str, name: str, expected: tuple[str | None, ...]) -> None:
    """The path of a directory says what it is."""
    parts = storage.parts(Path("/h") / place / name)
    assert tuple(parts.get(key) for key in ("kind", "engine", "version", "variant")) == expected


def test_a_complete_environment(tmp_path: Path) -> None:
    """Its marker says when it was made, its marker's time when it was used."""
    path = complete(tmp_path / "environments" / ENVIRONMENT)
    (row,) = storage.stored(tmp_path)
    assert (row.name, row.path, row.engine) == (ENVIRONMENT, str(path), "llama_cpp")
    assert (row.made, row.used) == ("2026-11-22T05:43:37+00:00", "2027-01-15T08:00:00+00:00")
    assert (row.seconds, row.packages) == (7.6, 2)
    assert (row.complete, row.in_use) == (True, False)


def test_a_model_has_no_packages(tmp_path: Path) -> None:
    """Not even none."""
    complete(tmp_path / "models" / "m", msgspec.structs.replace(FOUND, resolved=()))
    (row,) = storage.stored(tmp_path)
    assert (row.kind, row.packages) == ("weights", None)


def test_what_was_left_is_incomplete(tmp_path: Path) -> None:
    """A killed installation has no marker; a removal that was killed has one, and another name."""
    (tmp_path / "environments" / ENVIRONMENT).mkdir(parents=True)
    locks.of(tmp_path / "environments" / ENVIRONMENT).touch()
    aside = complete(tmp_path / "models" / f"m{storage.ASIDE}0a1b2c3d")
    locks.of(aside).unlink()
    rows = storage.stored(tmp_path)
    assert [(row.name, row.complete, row.made, row.packages) for row in rows] == [
        (ENVIRONMENT, False, None, None),
        (aside.name, False, None, None),
    ]


def test_what_is_not_ours_is_not_listed(tmp_path: Path) -> None:
    """A home may be a directory in which others keep models, too."""
    complete(tmp_path / "models" / "ours")
    (tmp_path / "models" / "theirs").mkdir()
    (tmp_path / "models" / "file.gguf").touch()
    (tmp_path / "models" / f"theirs{storage.ASIDE}soon").mkdir()
    (tmp_path / "models" / "gone.lock").touch()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "environments").touch()
    assert [row.name for row in storage.stored(tmp_path)] == ["ours"]
    assert storage.stored(tmp_path / "nothing") == ()


def test_rows_are_sorted(tmp_path: Path) -> None:
    """By kind, then by name."""
    for name in ("environments/vllm-cpu-1-0a1b2c3d", "environments/tool-pip-0a1b2c3d", "models/b", "models/a"):
        complete(tmp_path / name)
    complete(tmp_path / "environments" / ENVIRONMENT)
    names = [row.name for row in storage.stored(tmp_path)]
    assert names == [ENVIRONMENT, "vllm-cpu-1-0a1b2c3d", "tool-pip-0a1b2c3d", "a", "b"]


def test_caches_are_listed_too(tmp_path: Path) -> None:
    """Engines fill them, so that they need no marker; whoever has one in a variable uses it."""
    cache = tmp_path / "caches" / "torch"
    (cache / "sub").mkdir(parents=True)
    (cache / "sub" / "kernel.so").write_bytes(os.urandom(50_000))
    (tmp_path / "caches" / "torch.lock").touch()
    for path, seconds in ((cache / "sub" / "kernel.so", 1_800_000_000), (cache / "sub", 1.0), (cache, 1.0)):
        os.utime(path, (seconds, seconds))
    complete(tmp_path / "models" / "m")
    _, row = storage.stored(tmp_path)
    assert (row.kind, row.name, row.path) == ("cache", "caches/torch", str(cache))
    assert row.size_bytes >= 50_000
    assert (row.used, row.made) == ("2027-01-15T08:00:00+00:00", None)
    assert (row.complete, row.in_use) == (True, False)
    user = Command(process="serve (process 7)", words=(), values=(str(cache),))
    assert storage.entry(cache, [user]).in_use
    assert not storage.entry(tmp_path / "models" / "m", [user]).in_use


def test_a_process_shows_its_variables() -> None:
    """As far as this user may see them."""
    argv = [sys.executable, "-c", "print('up', flush=True); input()"]
    environ = {**os.environ, "SOME_CACHE": "/h/caches/torch"}
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environ) as process:
        assert process.stdout
        assert process.stdin
        process.stdout.readline()
        found = storage.users(Path("/h/caches/torch"), storage.commands())
        process.stdin.write(b"\n")
        process.stdin.flush()
    assert [name.partition("process ")[2] for name in found] == [f"{process.pid})"]


def test_in_use_is_what_is_locked_or_named_by_a_process(tmp_path: Path) -> None:
    """An installation or a server of xinfer's, or one that was pasted into a shell."""
    path = complete(tmp_path / "models" / "m")
    with locks.held(path, is_shared=True):
        assert storage.entry(path).in_use
    assert not storage.entry(path).in_use
    serving = Command(process="serve (process 7)", words=("serve", f"--model={path}/m.gguf"))
    assert storage.entry(path, [serving]).in_use


@pytest.mark.parametrize(
    ("words", "uses"),
    [
        pytest.param(["/h/e/bin/python", "-m", "x"], True, id="its-interpreter"),
        pytest.param(["serve", "/h/e"], True, id="the-directory-itself"),
        pytest.param(["serve", "--model=/h/e/m.gguf"], True, id="a-file-in-a-flag"),
        pytest.param(["serve", "/h/e2/m.gguf"], False, id="a-longer-name"),
        pytest.param(["serve", "/h"], False, id="the-home"),
        pytest.param([], False, id="a-process-that-says-nothing"),
    ],
)
def test_users(words: list[str], *, uses: bool) -> None:
    """A process uses a directory that it names, or in which it names something."""
    running = [Command(process="p (process 7)", words=tuple(words))]
    assert storage.users(Path("/h/e"), running) == (["p (process 7)"] if uses else [])


def test_this_process_does_not_count() -> None:
    """Neither do those that have started it: they name what they ask about."""
    said = [each.process for each in storage.commands()]
    assert not any(f"(process {pid})" in line for line in said for pid in (os.getpid(), os.getppid()))


def test_disk_usage_is_what_the_disk_holds(tmp_path: Path) -> None:
    """Blocks rather than lengths; a file that is linked twice counts once, one behind a symbolic link not at all."""
    (tmp_path / "d" / "sub").mkdir(parents=True)
    empty = storage.disk_usage(tmp_path / "d")
    (tmp_path / "d" / "sub" / "file").write_bytes(os.urandom(100_000))
    (tmp_path / "elsewhere").write_bytes(os.urandom(100_000))
    blocks = (tmp_path / "elsewhere").stat().st_blocks * 512
    one = storage.disk_usage(tmp_path / "d")
    assert one >= empty + blocks >= 100_000
    (tmp_path / "d" / "again").hardlink_to(tmp_path / "d" / "sub" / "file")
    (tmp_path / "d" / "link").symlink_to(tmp_path)
    assert storage.disk_usage(tmp_path / "d") < one + blocks
    assert storage.disk_usage(tmp_path / "elsewhere") == blocks
    assert storage.disk_usage(tmp_path / "nothing") == 0


def test_what_vanishes_meanwhile_is_no_error(tmp_path: Path) -> None:
    """Another process may remove what is being listed."""
    row = storage.entry(tmp_path / "models" / "gone")
    assert (row.size_bytes, row.complete, row.used) == (0, False, "1970-01-01T00:00:00+00:00")


def test_a_process_is_seen_with_its_words() -> None:
    """Command lines can be read on this machine at all; our own and our parents' are no one else's."""
    argv = [sys.executable, "-c", "import sys; sys.stdin.read()", "/some/where"]
    with subprocess.Popen(argv, stdin=subprocess.PIPE) as process:
        seen = [each.words for each in storage.commands() if each.process.endswith(f"(process {process.pid})")]
        assert seen == [tuple(argv)]
        assert not any(each.process.endswith(f"(process {os.getpid()})") for each in storage.commands())
