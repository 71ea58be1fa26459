"""What was measured before: found from a file, a run, a cell or many, or one line says why not."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from recorded import BASE, changed, repeats, write

from xinfer import history
from xinfer.errors import ConfigError

ONE = repeats([100, 101, 102])
OTHER = repeats([90, 91], cell="cell-b")


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """Return a directory with two cells, of three runs and two."""
    write(tmp_path / "runs", (*ONE, *OTHER))
    return tmp_path / "runs"


@pytest.mark.parametrize(
    ("place", "found"),
    [
        pytest.param(f"cell-a/{ONE[1].run}/record.json", {"cell-a": [101]}, id="a-record"),
        pytest.param(f"cell-a/{ONE[1].run}", {"cell-a": [101]}, id="a-runs-directory"),
        pytest.param("cell-a", {"cell-a": [100, 101, 102]}, id="a-cells-directory"),
        pytest.param(".", {"cell-a": [100, 101, 102], "cell-b": [90, 91]}, id="all-of-them"),
    ],
)
def test_records_are_found(runs: Path, place: str, found: dict[str, list[float]]) -> None:
    """By cell, the oldest run first."""
    cells = history.cells(runs / place)
    assert {cell.id: [(run.metrics or {})["output_tps"] for run in cell.runs] for cell in cells} == found


def test_a_records_path_is_where_it_lies(runs: Path) -> None:
    """It may have been copied from another machine."""
    moved = runs.rename(runs.with_name("copy"))
    (cell, _) = history.cells(moved)
    assert [run.path for run in cell.runs] == [str(moved / "cell-a" / run.run / "record.json") for run in ONE]


def test_runs_of_one_cell_are_found_wherever_they_were_put(tmp_path: Path) -> None:
    """What a run is of stands in its record, not in the names of directories."""
    for name, made in zip(("x", "y"), ONE, strict=False):
        write(tmp_path / "mine" / name, [made]).joinpath(made.run).rename(tmp_path / name)
    (tmp_path / "other").mkdir()
    assert [cell.id for cell in history.cells(tmp_path)] == ["cell-a"]
    assert len(history.cells(tmp_path)[0].runs) == 2


@pytest.mark.parametrize(
    ("content", "said"),
    [
        pytest.param(b"", "not a record: Input data was truncated", id="an-empty-file"),
        pytest.param(b'{"schema": 1, "cell', "not a record: Input data was truncated", id="half-a-file"),
        pytest.param(b"\xff\xfe", "not a record: ", id="no-text"),
        pytest.param(b"[]", "not a record: Expected `object`, got `array`", id="another-shape"),
        pytest.param(b"{}", "not a record: Object missing required field `schema`", id="something-else"),
        pytest.param(b'{"schema": "1"}', "not a record: Expected `int`, got `str`", id="a-schema-that-is-none"),
        pytest.param(b'{"schema": 2}', "a record of schema 2; this xinfer reads schema 1", id="a-newer-one"),
        pytest.param(b'{"schema": 1}', "not a record: Object missing required field `cell`", id="not-all-of-it"),
        pytest.param(
            msgspec.json.encode({**msgspec.to_builtins(BASE), "metrics": 3}),
            "not a record: Expected `object | null`, got `int` - at `$.metrics`",
            id="a-field-of-another-type",
        ),
    ],
)
def test_what_is_no_record_is_one_line(runs: Path, content: bytes, said: str) -> None:
    """It names the file, also where a whole directory was asked for."""
    file = runs / "cell-b" / OTHER[0].run / "record.json"
    file.write_bytes(content)
    for asked in (file, runs):
        with pytest.raises(ConfigError) as caught:
            history.cells(asked)
        assert str(caught.value).startswith(f"{file}: {said}")


def test_a_run_that_was_killed_has_no_record(tmp_path: Path) -> None:
    """Its directory has a log and no more."""
    directory = tmp_path / "runs" / "cell" / "run"
    directory.mkdir(parents=True)
    directory.joinpath("engine.log").write_text("…", encoding="utf-8")
    for asked in (directory, directory.parent, tmp_path / "runs"):
        with pytest.raises(ConfigError) as caught:
            history.cells(asked)
        assert str(caught.value).startswith(f"{asked}: there are no records; say a record.json, or ")


def test_nothing_is_there(tmp_path: Path) -> None:
    """Not even a directory."""
    with pytest.raises(ConfigError, match="nowhere: there is no such file or directory"):
        history.cells(tmp_path / "nowhere")


def test_what_a_newer_xinfer_adds_is_no_trouble(tmp_path: Path) -> None:
    """As long as the schema is the same."""
    file = tmp_path / "record.json"
    file.write_bytes(msgspec.json.encode({**msgspec.to_builtins(changed(seconds=7.0)), "mood": "good"}))
    assert history.read(file).seconds == 7.0


def test_a_file_that_may_not_be_read_is_one_line(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It names the file and what the system said."""

    def forbidden(path: Path) -> bytes:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "read_bytes", forbidden)
    with pytest.raises(ConfigError) as caught:
        history.cells(runs / "cell-a")
    assert str(caught.value) == f"{runs / 'cell-a' / ONE[0].run / 'record.json'}: cannot be read: Permission denied"
