"""Records: a cell's name depends on what defines it and on nothing else; a file is whole or not there."""

from __future__ import annotations

import os
import re
from pathlib import Path

import msgspec
import pytest

from xinfer import record
from xinfer.record import Failure, Record

DEFINES = {"spec": {"size": "7", "format": "gptq"}, "hardware": {"gpus": 1}, "engine": "vllm"}


def test_a_cells_name_is_what_defines_it() -> None:
    """The order of keys does not matter, every value does, and the label is for people only."""
    name = record.cell_id("qwen2-instruct-vllm-smoke", **DEFINES)
    assert re.fullmatch(r"qwen2-instruct-vllm-smoke-[0-9a-f]{12}", name)
    assert record.cell_id("qwen2-instruct-vllm-smoke", **dict(reversed(DEFINES.items()))) == name
    assert record.cell_id("other", **DEFINES)[-12:] == name[-12:]
    for key in DEFINES:
        assert record.cell_id("qwen2-instruct-vllm-smoke", **{**DEFINES, key: None}) != name


def test_a_cells_name_has_not_changed() -> None:
    """Records of former versions are found under it: change PROTOCOL on purpose, or not at all."""
    assert record.cell_id("cell", **DEFINES) == "cell-87510afe1b1a"


def test_a_change_of_protocol_is_another_cell(monkeypatch: pytest.MonkeyPatch) -> None:
    """Numbers that were measured differently must never be compared."""
    before = record.cell_id("cell", **DEFINES)
    monkeypatch.setattr(record, "PROTOCOL", record.PROTOCOL + 1)
    assert record.cell_id("cell", **DEFINES) != before


@pytest.mark.parametrize(
    ("label", "begins"),
    [
        pytest.param("../../etc/passwd", "..-..-etc-passwd-", id="no-way-up"),
        pytest.param("a b\n/c", "a-b-c-", id="no-separators"),
        pytest.param("x" * 200, "x" * 80 + "-", id="not-too-long"),
        pytest.param("日本語", "", id="nothing-left"),
    ],
)
def test_a_label_is_safe_as_a_directory(label: str, begins: str) -> None:
    """It is one part of a path, and never a way out of it."""
    name = record.cell_id(label)
    assert name.startswith(begins)
    assert len(name) == len(begins) + 12
    assert Path("runs", name).resolve().parent == Path("runs").resolve()


def test_two_runs_in_one_second_have_two_names() -> None:
    """Names sort by time."""
    names = [record.run_id() for _ in range(50)]
    assert len(set(names)) == 50
    assert all(re.fullmatch(r"\d{8}T\d{6}Z-[0-9a-f]{6}", name) for name in names)
    assert [name[:16] for name in names] == sorted(name[:16] for name in names)


def example(**fields: object) -> Record:
    base = Record(cell="c", run="r", status="ok", started="2026-11-22T00:00:00Z", seconds=1.5)
    return msgspec.structs.replace(base, **fields)


def test_what_is_written_can_be_read(tmp_path: Path) -> None:
    """With its path and the files that lie beside it."""
    directory = tmp_path / "c" / "r"
    directory.mkdir(parents=True)
    directory.joinpath("samples.jsonl").write_text("", encoding="utf-8")
    failure = Failure(stage="start", message="ü", exit_code=4, details=("a", "b"))
    written = record.write(directory, example(status="failed", failure=failure, overrides=("hw=cuda",)))
    assert written.path == str(directory / "record.json")
    assert written.files == ("samples.jsonl",)
    assert record.read(Path(written.path)) == written
    assert sorted(path.name for path in directory.iterdir()) == ["record.json", "samples.jsonl"]


def test_a_record_appears_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is on the disk under another name before it gets its own."""
    seen: list[tuple[bool, str]] = []
    replace = Path.replace

    def watch(source: Path, target: Path) -> Path:
        seen.append((target.exists(), source.read_text(encoding="utf-8")))
        return replace(source, target)

    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", synced.append)
    monkeypatch.setattr(Path, "replace", watch)
    written = record.write(tmp_path, example())
    assert [exists for exists, _ in seen] == [False]
    assert msgspec.json.decode(seen[0][1], type=Record) == written
    assert len(synced) == 1


def test_a_write_that_fails_leaves_nothing_that_looks_finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As when the disk is full."""

    def fail(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="No space left"):
        record.write(tmp_path, example())
    assert not tmp_path.joinpath("record.json").exists()


def test_a_file_of_another_shape_is_refused(tmp_path: Path) -> None:
    """A record of tomorrow is not misread today."""
    path = tmp_path / "record.json"
    path.write_text('{"cell": "c", "status": "splendid"}', encoding="utf-8")
    with pytest.raises(msgspec.ValidationError):
        record.read(path)
