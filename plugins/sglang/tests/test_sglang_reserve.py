"""What SGLang leaves of a GPU, as its own rule computes it."""

from __future__ import annotations

from importlib import import_module

import pytest

from xinfer.planning.cache import Place

RESERVE = import_module("xinfer.plugins.sglang.reserve")


@pytest.mark.parametrize(
    ("gib", "place", "slots", "is_latent", "mib"),
    [
        pytest.param(15.0, Place(), None, False, 512 + 3072 + 128 + 16 + 336, id="t4"),
        pytest.param(24.0, Place(), None, False, 512 + 6144 + 128 + 96 + 400, id="rtx-4090"),
        pytest.param(24.0, Place(4, 1), None, False, 512 + 6144 + 512 + 320 + 400, id="four-of-them"),
        pytest.param(48.0, Place(), None, False, 512 + 6144 + 128 + 64 + 400, id="l40s"),
        pytest.param(80.0, Place(), None, False, 512 + 12288 + 128 + 512 + 464, id="h100"),
        pytest.param(80.0, Place(), 4, False, 512 + 12288 + 128 + 8 + 464, id="h100-for-few-slots"),
        pytest.param(80.0, Place(), None, True, 512 + 12288 + 128 + 512 + 1536, id="h100-latent-attention"),
        pytest.param(192.0, Place(8, 2), None, False, 512 + 24576 + 2048 + 1024 + 592, id="mi300x"),
    ],
)
def test_reserve(gib: float, place: Place, slots: int | None, is_latent: bool, mib: float) -> None:  # noqa: FBT001
    """Activations by the chunk, graphs by the batch, and an eighth of a gibibyte for each GPU."""
    found, formula = RESERVE.reserve_mib(gib, place, slots, is_latent=is_latent)
    assert found == mib
    assert formula.startswith("512 + 1.5 x ")
