"""What is known to exceed a machine's memory is told from what may fit, for each engine's way to split it."""

from __future__ import annotations

import pytest

from xinfer.catalog import Shape, Spec
from xinfer.facts import Gpu, Hardware
from xinfer.planning.parallel import Splits
from xinfer.planning.room import Room

NETWORK = Shape(layers=32, heads=32, kv_heads=8, head_dim=128)
TENSORS, LAYERS, NOTHING = Splits(tensor=True), Splits(staged=None), Splits()
SPLITS = {"tensors": TENSORS, "layers": LAYERS, "one": NOTHING}


def spec(size: str = "13", shape: Shape = NETWORK) -> Spec:
    return Spec(family="f", size=size, format="pytorch", quantization="none", hub=None, id=None, shape=shape)


def room(gpus: int | None, gib: float | None = 16.0, vendor: str = "nvidia", tokens: int = 0) -> Room:
    gpu = {"vendor": vendor, "memory_gib": gib}
    hardware = Hardware(profile="p", gpus=gpus, gpu=Gpu(**gpu), memory_gib=20.0)  # type: ignore[arg-type]
    return Room(hardware, tokens=tokens, splits=SPLITS)


@pytest.mark.parametrize(
    ("gpus", "engine", "size", "exceeded"),
    [
        pytest.param(1, "tensors", "7", False, id="13-gib-in-16"),
        pytest.param(1, "tensors", "13", True, id="24-gib-in-16"),
        pytest.param(2, "tensors", "13", False, id="12-gib-in-each"),
        pytest.param(2, "layers", "13", False, id="half-the-layers-in-each"),
        pytest.param(2, "one", "13", True, id="one-gpu-of-two"),
        pytest.param(2, "unknown", "13", False, id="an-engine-that-does-not-say-how-may-use-both"),
        pytest.param(2, "unknown", "20", True, id="which-are-not-enough"),
        pytest.param(3, "tensors", "20", True, id="heads-do-not-split-three-ways"),
        pytest.param(3, "layers", "20", False, id="layers-do"),
        pytest.param(0, "tensors", "7", False, id="main-memory"),
        pytest.param(0, "tensors", "13", True, id="too-little-main-memory"),
    ],
)
def test_is_exceeded(gpus: int, engine: str, size: str, exceeded: bool) -> None:  # noqa: FBT001
    """Only what no split of that engine can hold is too much."""
    assert room(gpus).is_exceeded(spec(size), engine) is exceeded


def test_without_an_engine_all_memory_counts() -> None:
    """What exceeds it all exceeds it for everybody."""
    assert [room(2).is_exceeded(spec(size)) for size in ("13", "20")] == [False, True]


def test_the_cache_counts() -> None:
    """At 131,072 bytes for each token, 49,152 tokens are six gibibytes."""
    assert [room(1, tokens=tokens).is_exceeded(spec("7"), "one") for tokens in (0, 49_152)] == [False, True]


@pytest.mark.parametrize(
    ("gpus", "gib"), [pytest.param(1, None, id="its-size"), pytest.param(None, 16.0, id="how-many")]
)
def test_memory_that_is_not_known(gpus: int | None, gib: float | None) -> None:
    """Nothing is known to exceed it."""
    hardware = Hardware(profile="p", gpus=gpus, gpu=Gpu(vendor="nvidia", memory_gib=gib))
    assert Room(hardware, tokens=0).is_exceeded(spec("405")) is False


def test_heads_that_are_not_known() -> None:
    """They may split."""
    assert room(4).is_exceeded(spec("20", Shape()), "tensors") is False
    assert room(4).is_exceeded(spec("20", Shape()), "layers") is False


@pytest.mark.parametrize(
    ("gpus", "engine", "size", "exceeded"),
    [
        pytest.param(2, "tensors", "20", True, id="one-that-serves-from-one-machine"),
        pytest.param(2, "several", "20", False, id="one-that-serves-from-both"),
        pytest.param(1, "several", "13", False, id="a-gpu-of-each"),
        pytest.param(1, "tensors", "13", True, id="a-gpu-of-one"),
        pytest.param(2, None, "20", False, id="any"),
        pytest.param(2, None, "40", True, id="all-are-too-few"),
    ],
)
def test_several_machines(gpus: int, engine: str | None, size: str, exceeded: bool) -> None:  # noqa: FBT001
    """Their memory counts together for engines that can use it."""
    hardware = Hardware(profile="p", gpus=gpus, nodes=2, gpu=Gpu(vendor="nvidia", memory_gib=16.0))
    able = Splits(tensor=True, staged=None, nodes=True)
    found = Room(hardware, tokens=0, splits={**SPLITS, "several": able})
    assert found.is_exceeded(spec(size), engine) is exceeded
    assert str(found) == ("2 x 2 x 16 GiB" if gpus == 2 else "2 x 16 GiB")


@pytest.mark.parametrize(
    ("found", "text"),
    [
        (room(4), "4 x 16 GiB"),
        (room(1), "16 GiB"),
        (room(0), "20 GiB"),
        (room(1, None, "apple"), "20 GiB"),
    ],
)
def test_what_it_is_called(found: Room, text: str) -> None:
    """GPUs by number and size; memory that all share by its size."""
    assert str(found) == text


@pytest.mark.parametrize(
    ("gpus", "share", "vendor", "exceeded"),
    [
        pytest.param(1, 1.0, "nvidia", False, id="all-of-it-holds-14-gib"),
        pytest.param(1, 0.8, "nvidia", True, id="less-does-not"),
        pytest.param(2, 0.8, "nvidia", False, id="of-two-it-does"),
        pytest.param(2, 0.3, "nvidia", True, id="too-little-of-two"),
        pytest.param(1, 0.5, "apple", False, id="a-gpu-without-memory-of-its-own-has-no-share"),
    ],
)
def test_the_share_that_an_engine_takes(gpus: int, share: float, vendor: str, exceeded: bool) -> None:  # noqa: FBT001
    """Of a GPU's own memory, not more counts."""
    hardware = Hardware(profile="p", gpus=gpus, gpu=Gpu(vendor=vendor, memory_gib=16.0), memory_gib=20.0)  # type: ignore[arg-type]
    found = Room(hardware, tokens=0, splits={"e": Splits(tensor=True, share=share)})
    assert found.is_exceeded(spec("7.4"), "e") is exceeded


def test_main_memory_has_no_shares() -> None:
    """What an engine takes of a GPU says nothing about it."""
    hardware = Hardware(profile="p", gpus=0, memory_gib=16.0)
    assert Room(hardware, tokens=0, splits={"e": Splits(share=0.5)}).is_exceeded(spec("7.4"), "e") is False
