"""The tensors of files on the disk."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from xinfer.measuring import tensors
from xinfer.measuring.work import Tensor
from xinfer.testing import model_files

if TYPE_CHECKING:
    from pathlib import Path

PACKED = {"model.layers.0.q_proj.qweight": ("I32", (8, 4)), "model.layers.0.q_proj.scales": ("F16", (2, 4))}


def test_a_gguf(tmp_path: Path) -> None:
    """Each tensor with its elements and the bytes that its type packs them into."""
    path = tmp_path / "m.gguf"
    path.write_bytes(model_files.gguf())
    assert tensors.read([path]) == (
        Tensor("token_embd.weight", 192, 6 * 34, is_packed=False),
        Tensor("output_norm.weight", 64, 256, is_packed=False),
    )


def test_a_folder(tmp_path: Path) -> None:
    """All its files together; words that hold several weights are told from weights."""
    one, other = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    one.write_bytes(model_files.safetensors())
    other.write_bytes(model_files.safetensors(PACKED))
    found = tensors.read([one, other])
    assert found is not None
    assert {each.name: tuple(each)[1:] for each in found} == {
        "model.embed_tokens.weight": (192, 384, False),
        "model.norm.weight": (64, 128, False),
        "model.layers.0.q_proj.qweight": (32, 128, True),
        "model.layers.0.q_proj.scales": (8, 16, False),
    }


@pytest.mark.parametrize("names", [[], ["absent.gguf"], ["damaged.gguf"], ["pickle.bin"], ["m.gguf", "pickle.bin"]])
def test_what_has_no_header_tells_nothing(tmp_path: Path, names: list[str]) -> None:
    """A part of the tensors would be a wrong sum."""
    (tmp_path / "m.gguf").write_bytes(model_files.gguf())
    (tmp_path / "damaged.gguf").write_bytes(b"GGUF")
    (tmp_path / "pickle.bin").write_bytes(b"\x80")
    assert tensors.read(tmp_path / name for name in names) is None
