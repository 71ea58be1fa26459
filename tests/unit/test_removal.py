"""Which directories are meant by names and by days, and how they go."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from xinfer.environments import environment, locks, removal, storage
from xinfer.environments.storage import Stored
from xinfer.errors import ConfigError, ProvisionError, Refused

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)


def row(name: str, **changes: Any) -> Stored:
    usual = {
        "kind": "weights", "name": name, "path": f"/h/models/{name}", "size_bytes": 1, "complete": True,
        "in_use": False, "used": NOW.isoformat(),
    }  # fmt: skip
    return Stored(**{**usual, **changes})


ROWS = [row("vllm-cpu-1-00000000"), row("vllm-cuda-1-00000000"), row("tool-pip-00000000"), row("pypi--llm-0.1")]


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        pytest.param(["home=/h", "format=json"], (["home=/h", "format=json"], None, None), id="nothing-of-it"),
        pytest.param(["remove=a", "home=/h"], (["home=/h"], ("a",), None), id="a-name"),
        pytest.param(["remove=a, b*,c"], ([], ("a", "b*", "c"), None), id="names-and-a-pattern"),
        pytest.param(["unused_days=30"], ([], None, 30.0), id="days"),
        pytest.param(["unused_days=0.5", "remove=*"], ([], ("*",), 0.5), id="both"),
        pytest.param(["unused_days=1", "unused_days=2"], ([], None, 2.0), id="the-last-one-counts"),
        pytest.param(["removed=a", "~remove"], (["removed=a", "~remove"], None, None), id="other-words"),
    ],
)
def test_asked(typed: list[str], expected: tuple[list[str], tuple[str, ...] | None, float | None]) -> None:
    """Two keys are the verb's own; all others are for the configuration."""
    assert removal.asked(typed) == expected


@pytest.mark.parametrize("value", ["", "abc", "-1", "nan", "inf", "1e99"])
def test_days_that_are_none(value: str) -> None:
    """A number from 0 on that a date can be reckoned with."""
    with pytest.raises(ConfigError, match=f"^unused_days='{value}' is not a number of days$"):
        removal.asked([f"unused_days={value}"])


@pytest.mark.parametrize("value", ["", ",", "a,", " "])
def test_names_that_are_none(value: str) -> None:
    """Nothing is not everything."""
    with pytest.raises(ConfigError, match=f"^'remove={value}' names nothing; say "):
        removal.asked([f"remove={value}"])


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        pytest.param(["tool-pip-00000000"], [2], id="one"),
        pytest.param(["vllm-*"], [0, 1], id="a-pattern"),
        pytest.param(["pypi*", "vllm-cp?-*", "vllm-cpu-*"], [0, 3], id="several-that-overlap"),
        pytest.param(["*"], [0, 1, 2, 3], id="all"),
    ],
)
def test_named(names: list[str], expected: list[int]) -> None:
    """Each row once, in its order."""
    assert removal.named(ROWS, names) == [ROWS[number] for number in expected]


@pytest.mark.parametrize(
    ("name", "rows", "hint"),
    [
        pytest.param("vlm-cpu-1-00000000", ROWS, "; did you mean 'vllm-cpu-1-00000000'?", id="a-slip"),
        pytest.param("llm", ROWS, "; did you mean 'vllm-cpu-1-00000000'?", id="a-part"),
        pytest.param("*cuda", ROWS, "; did you mean 'vllm-cuda-1-00000000'?", id="half-a-pattern"),
        pytest.param("zzz", ROWS, "; xinfer environments lists all", id="nothing-like-it"),
        pytest.param("?", ROWS, "; xinfer environments lists all", id="a-pattern-without-letters"),
        pytest.param("*", [], "; there is none at all", id="nothing-there"),
    ],
)
def test_a_name_that_stands_for_nothing(name: str, rows: list[Stored], hint: str) -> None:
    """One that may have been meant is named; nothing is removed by the other names either."""
    with pytest.raises(ConfigError) as caught:
        removal.named(rows, ["*", name] if rows else [name])
    assert str(caught.value) == f"remove={name}: there is no environment or model of this name{hint}"


def test_idle() -> None:
    """Those last used so long ago, unless they are in use since then."""
    rows = [
        row("old", used=(NOW - timedelta(days=30)).isoformat()),
        row("serving", used=(NOW - timedelta(days=31)).isoformat(), in_use=True),
        row("young", used=(NOW - timedelta(days=29, hours=23)).isoformat()),
    ]
    assert [each.name for each in removal.idle(rows, 30, NOW)] == ["old"]
    assert [each.name for each in removal.idle(rows, 0, NOW)] == ["old", "young"]


def directory(path: Path) -> Path:
    """Make a directory that has a lock and something in it."""
    (path / "sub").mkdir(parents=True)
    (path / "sub" / "file").touch()
    (path / environment.MARKER).touch()
    locks.of(path).touch()
    return path


def test_remove(tmp_path: Path) -> None:
    """The directory and its lock are gone, and nothing else is."""
    path = directory(tmp_path / "models" / "m")
    directory(tmp_path / "models" / "m2")
    removal.remove(path)
    assert sorted(each.name for each in path.parent.iterdir()) == ["m2", "m2.lock"]


@pytest.mark.parametrize("is_shared", [False, True])
def test_what_is_locked_stays(tmp_path: Path, *, is_shared: bool) -> None:
    """It is being made, or used."""
    path = directory(tmp_path / "models" / "m")
    with locks.held(path, is_shared=is_shared), pytest.raises(Refused) as caught:
        removal.remove(path)
    assert str(caught.value) == "m is being made or used by another xinfer; end that first"
    assert (path / "sub" / "file").is_file()


def test_what_a_process_uses_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also one that xinfer did not start."""
    path = directory(tmp_path / "models" / "m")
    serving = storage.Command(process="serve (process 7)", words=("serve", str(path)))
    monkeypatch.setattr(storage, "commands", lambda: (serving,))
    with pytest.raises(Refused) as caught:
        removal.remove(path)
    assert str(caught.value) == "m is in use by serve (process 7); end that first"
    assert (path / "sub" / "file").is_file()
    assert locks.of(path).exists()


def test_a_removal_that_is_interrupted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is left has another name, does not count as complete, and can be removed."""
    path = directory(tmp_path / "models" / "m")
    rmtree = shutil.rmtree

    def interrupt(_: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(shutil, "rmtree", interrupt)
    with pytest.raises(KeyboardInterrupt):
        removal.remove(path)
    assert not path.exists()
    (left,) = storage.stored(tmp_path)
    assert left.name.startswith(f"m{storage.ASIDE}")
    assert not left.complete
    monkeypatch.setattr(shutil, "rmtree", rmtree)
    removal.remove(Path(left.path))
    assert list(path.parent.iterdir()) == []


def test_what_another_one_removes_at_the_same_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever comes second finds nothing to do, before or in the middle of it."""
    path = directory(tmp_path / "models" / "m")
    rmtree = shutil.rmtree

    def vanish(there: Path) -> None:
        rmtree(there)
        raise FileNotFoundError

    monkeypatch.setattr(shutil, "rmtree", vanish)
    removal.remove(path)
    removal.remove(path)
    assert list(path.parent.iterdir()) == []


def test_a_file_in_its_place(tmp_path: Path) -> None:
    """A killed download may have left one."""
    (tmp_path / "m").touch()
    (tmp_path / "l").symlink_to(tmp_path / "m")
    removal.remove(tmp_path / "l")
    assert (tmp_path / "m").exists()
    removal.remove(tmp_path / "m")
    assert list(tmp_path.iterdir()) == []


def test_what_the_system_refuses_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The path and the reason; the others are removed all the same."""
    paths = [directory(tmp_path / "models" / name) for name in ("a", "b")]
    rename = Path.rename

    def refuse(path: Path, target: Path) -> Path:
        if path.name == "a":
            raise PermissionError(13, "Permission denied", str(path))
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", refuse)
    removed, (error,) = removal.remove_all([row(path.name, path=str(path)) for path in paths])
    assert [each.name for each in removed] == ["b"]
    assert isinstance(error, ProvisionError)
    assert str(error) == f"{paths[0]}: cannot be removed: Permission denied"
    assert paths[0].exists()
    assert not paths[1].exists()
