"""Files are listed, read and told apart whatever they are called, and what is wrong with them is one line."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

import pytest

from xinfer.errors import ConfigError
from xinfer.sources import files
from xinfer.testing.model_files import folder, gguf

if TYPE_CHECKING:
    from pathlib import Path

NAME = "a b; ünï$(x)'\"`id`\n"
"""What a file may be called where nobody forbids it."""


def refused(error: pytest.ExceptionInfo[ConfigError]) -> str:
    return str(error.value)


def test_a_folder_lists_its_own_files(tmp_path: Path) -> None:
    """By size; no folders, no links to nothing, and nothing below it."""
    (tmp_path / NAME).write_bytes(b"123")
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / "deep").write_bytes(b"12345")
    (tmp_path / "broken").symlink_to(tmp_path / "nothing")
    (tmp_path / "linked").symlink_to(tmp_path / NAME)
    found = files.folder(tmp_path)
    assert found.sizes == {NAME: 3, "linked": 3}
    assert (found.hub, found.revision, found.place, found.is_near) == ("local", None, str(tmp_path), True)


def test_a_copy_of_a_repository_is_listed_to_its_depths(tmp_path: Path) -> None:
    """With forward slashes, as the repository names its files."""
    (tmp_path / "Q4").mkdir()
    (tmp_path / "Q4" / "m.gguf").write_bytes(gguf())
    found = files.folder(tmp_path, hub="huggingface", name="o/m", revision="c0")
    assert list(found.sizes) == ["Q4/m.gguf"]
    assert found.address("Q4/m.gguf") == ("o/m", "Q4/m.gguf")
    assert (found.revision, found.place) == ("c0", f"o/m in {tmp_path}")
    assert files.fingerprint(found, list(found.sizes)) is None


def test_a_path_is_what_engines_get(tmp_path: Path) -> None:
    """Of a file, or of the folder."""
    found = files.folder(tmp_path)
    assert found.address(NAME) == (str(tmp_path / NAME), None)
    assert found.address(None) == (str(tmp_path), None)


def test_a_folder_that_cannot_be_listed_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It says why; and one with endlessly many files is no model's."""
    with pytest.raises(ConfigError) as error:
        files.folder(tmp_path / "absent")
    assert refused(error) == f"{tmp_path / 'absent'}: cannot be read: No such file or directory"
    monkeypatch.setattr(files, "_MOST_FILES", 1)
    (tmp_path / "a").touch()
    assert list(files.folder(tmp_path).sizes) == ["a"]
    (tmp_path / "b").touch()
    with pytest.raises(ConfigError, match="more than 1 files"):
        files.folder(tmp_path)


def test_named_files_need_no_list(tmp_path: Path) -> None:
    """Those that are missing are named, the first few of them."""
    (tmp_path / "a").write_bytes(b"1")
    assert files.named(tmp_path, ["a"]).sizes == {"a": 1}
    with pytest.raises(ConfigError) as error:
        files.named(tmp_path, ["a", "b", "c", "d", "e", "f"])
    assert refused(error) == (
        f"{tmp_path}: is not whole: there is no b, c, d and 2 more; download the missing files"
    )  # fmt: skip


def test_exactly_what_was_asked_for_is_read(tmp_path: Path) -> None:
    """A file that is shorter by now is being written; one that is gone is said to be."""
    (tmp_path / NAME).write_bytes(b"0123456789")
    found = files.folder(tmp_path)
    assert found.read(NAME, 2, 3) == b"234"
    with pytest.raises(ConfigError, match="changed while it was read"):
        found.read(NAME, 8, 3)
    (tmp_path / NAME).unlink()
    with pytest.raises(ConfigError, match="cannot be read: No such file or directory"):
        found.read(NAME, 0, 1)


def test_a_gguf_is_read_where_it_lies(tmp_path: Path) -> None:
    """Its metadata, parameters and quantization."""
    (tmp_path / NAME).write_bytes(gguf())
    metadata, parameters, quantization = files.folder(tmp_path).gguf(NAME)
    assert (metadata["general.name"], parameters, quantization) == ("Tiny Llama", 256, "Q8_0")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        pytest.param(b"{", "is no JSON mapping: Input data was truncated", id="not-whole"),
        pytest.param(b"[1]", "is no JSON mapping: Expected `object`, got `array`", id="a-list"),
        pytest.param(b'{"a": "\xff"}', "is no JSON mapping: it is not text", id="no-text"),
        pytest.param(b'{"a": ' + b"[" * 100_000, "is no JSON mapping: it is not text, or nested", id="nested"),
        pytest.param(b"", "is no JSON mapping", id="empty"),
    ],
)
def test_a_configuration_is_a_mapping_or_refused(tmp_path: Path, content: bytes, said: str) -> None:
    """In one line that names the file."""
    (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(ConfigError) as error:
        files.mapping(files.folder(tmp_path), "config.json")
    assert said in refused(error)
    assert refused(error).startswith(f"{tmp_path}: config.json ")


def test_a_configuration_that_is_not_there_says_nothing(tmp_path: Path) -> None:
    """And one beyond reason is not read."""
    assert files.mapping(files.folder(tmp_path), "config.json") == {}
    (tmp_path / "config.json").write_bytes(b'{"a": 1}')
    assert files.mapping(files.folder(tmp_path), "config.json") == {"a": 1}
    os.truncate(tmp_path / "config.json", files.MOST_JSON_BYTES + 1)
    with pytest.raises(ConfigError, match=r"config\.json has 8388609 bytes and is longer than 8 MiB"):
        files.mapping(files.folder(tmp_path), "config.json")
    os.truncate(tmp_path / "config.json", files.MOST_INDEX_BYTES + 1)
    with pytest.raises(ConfigError, match="longer than 48 MiB"):
        files.mapping(files.folder(tmp_path), "config.json", most_bytes=files.MOST_INDEX_BYTES)


def test_a_configuration_of_endlessly_many_values_is_not_read(tmp_path: Path) -> None:
    """Each takes memory many times its length."""
    (tmp_path / "config.json").write_bytes(b'{"a": [' + b"[]," * 2**19 + b"[]]}")
    with pytest.raises(ConfigError, match=r"config\.json has 1048580 values; no such file has more than 524288"):
        files.mapping(files.folder(tmp_path), "config.json")


def test_a_fingerprint_is_the_contents_and_nothing_else(tmp_path: Path) -> None:
    """A copy of another age has the same; a fine-tuning with the same names, shapes and sizes has another."""
    model, copy = folder(tmp_path / "model"), tmp_path / "copy"
    shutil.copytree(model, copy)
    os.utime(copy / "model.safetensors", (0, 0))
    names = ["config.json", "model.safetensors"]
    first = files.fingerprint(files.folder(model), names)
    assert first is not None
    assert first.startswith("sampled-sha256:")
    assert files.fingerprint(files.folder(copy), names) == first
    weights = bytearray((copy / "model.safetensors").read_bytes())
    weights[-1] = 1
    (copy / "model.safetensors").write_bytes(weights)
    assert files.fingerprint(files.folder(copy), names) != first


def test_a_fingerprint_of_a_large_file_reads_little_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight blocks from its beginning to its end."""
    (tmp_path / "w").touch()
    os.truncate(tmp_path / "w", 10**9)
    found, asked = files.folder(tmp_path), list[tuple[int, int]]()

    def read(_name: str, start: int, length: int) -> bytes:
        asked.append((start, length))
        return bytes(length)

    monkeypatch.setattr(found, "read", read)
    assert files.fingerprint(found, ["w"]) is not None
    assert asked[0] == (0, 4096)
    assert asked[-1] == (10**9 - 4096, 4096)
    assert sum(length for _, length in asked) == 8 * 4096
