"""A network is split over as many GPUs as its heads allow, and no more."""

from __future__ import annotations

import pytest

from xinfer import catalog
from xinfer.catalog import Shape
from xinfer.config.compose import conf_dir
from xinfer.facts import Hardware
from xinfer.planning import parallel
from xinfer.planning.parallel import Split

QWEN2_7B = Shape(heads=28, kv_heads=4)


def test_qwen2_7b_splits_four_ways_and_no_others() -> None:
    """28 heads divide by 1, 2, 4, 7, 14 and 28; 4 key-value heads are divided or copied evenly over 1, 2, 4 and 28."""
    legal = [split for split in range(1, 29) if parallel.is_legal(QWEN2_7B, split)]
    assert legal == [1, 2, 4, 28]


@pytest.mark.parametrize(
    ("heads", "kv_heads", "split", "expected"),
    [
        pytest.param(32, 8, 8, True, id="one-kv-head-each"),
        pytest.param(32, 8, 16, True, id="each-kv-head-twice"),
        pytest.param(32, 8, 2, True, id="four-kv-heads-each"),
        pytest.param(32, 1, 8, True, id="one-kv-head-is-copied-to-all"),
        pytest.param(12, 2, 3, False, id="kv-heads-that-cannot-be-copied-evenly"),
        pytest.param(24, 8, 6, False, id="kv-heads-that-cannot-be-divided"),
        pytest.param(28, 4, 8, False, id="heads-that-cannot-be-divided"),
        pytest.param(52, None, 8, False, id="heads-decide-alone"),
        pytest.param(40, None, 8, None, id="kv-heads-are-not-known"),
        pytest.param(None, 8, 8, None, id="heads-are-not-known"),
        pytest.param(None, None, 1, True, id="one-gpu-always-will-do"),
    ],
)
def test_is_legal(heads: int | None, kv_heads: int | None, split: int, expected: bool | None) -> None:  # noqa: FBT001
    """Heads must divide evenly, key-value heads divide or be copied evenly; unknown heads are undecided."""
    assert parallel.is_legal(Shape(heads=heads, kv_heads=kv_heads), split) is expected


@pytest.mark.parametrize(
    ("shape", "gpus", "split", "why"),
    [
        pytest.param(QWEN2_7B, 1, 1, "one GPU", id="one-gpu"),
        pytest.param(QWEN2_7B, 4, 4, "all 4 GPUs; 28 heads and 4 kv heads split evenly", id="all-gpus"),
        pytest.param(
            QWEN2_7B, 8, 4,
            "28 heads and 4 kv heads do not split over 8 GPUs; 4 is the largest number that is known to be legal",
            id="four-of-eight",
        ),
        pytest.param(
            QWEN2_7B, 3, 2,
            "28 heads and 4 kv heads do not split over 3 GPUs; 2 is the largest number that is known to be legal",
            id="two-of-three",
        ),
        pytest.param(
            Shape(heads=9, kv_heads=3), 2, 1,
            "9 heads and 3 kv heads do not split over 2 GPUs; 1 is the largest number that is known to be legal",
            id="one-of-two",
        ),
        pytest.param(
            Shape(heads=52), 8, 1,
            "52 heads and unknown kv heads do not split over 8 GPUs; 1 is the largest number that is known to be legal",
            id="what-is-known-refuses",
        ),
        pytest.param(
            Shape(), 4, 1, "head counts not known; 1 is the largest number that is known to be legal",
            id="nothing-is-known",
        ),
        pytest.param(Shape(), 1, 1, "one GPU", id="nothing-needs-to-be-known-of-one"),
    ],
)  # fmt: skip
def test_tensor_parallel(shape: Shape, gpus: int, split: int, why: str) -> None:
    """The largest split that is known to be legal is chosen, with the reason in words."""
    assert parallel.tensor_parallel(shape, gpus) == (split, why)


WHOLE = Shape(heads=28, kv_heads=4, layers=28)
EVENLY = "28 heads and 4 kv heads split evenly over"
ODD = Shape(heads=9, kv_heads=3, layers=30)


@pytest.mark.parametrize(
    ("shape", "gpus", "expected"),
    [
        pytest.param(WHOLE, 1, Split(1, "one GPU"), id="one-gpu"),
        pytest.param(WHOLE, 4, Split(4, "all 4 GPUs; 28 heads and 4 kv heads split evenly"), id="no-stages-needed"),
        pytest.param(
            WHOLE, 8,
            Split(4, f"{EVENLY} 4", 2, "2 stages of 4 use 8 of 8 GPUs: one stage cannot"),
            id="two-stages-of-four",
        ),
        pytest.param(
            WHOLE, 6,
            Split(2, f"{EVENLY} 2", 3, "3 stages of 2 use 6 of 6 GPUs: one stage cannot"),
            id="rather-all-six-than-four",
        ),
        pytest.param(
            WHOLE, 7,
            Split(1, f"{EVENLY} 1", 7, "7 stages of 1 use 7 of 7 GPUs: one stage cannot"),
            id="a-stage-each",
        ),
        pytest.param(
            ODD, 4,
            Split(
                1, "9 heads and 3 kv heads split evenly over 1", 4, "4 stages of 1 use 4 of 4 GPUs: one stage cannot"
            ),
            id="three-would-leave-one-idle",
        ),
        pytest.param(
            Shape(heads=28, kv_heads=4, layers=1), 8,
            Split(4, parallel.tensor_parallel(QWEN2_7B, 8)[1]),
            id="too-few-layers",
        ),
        pytest.param(QWEN2_7B, 8, Split(4, parallel.tensor_parallel(QWEN2_7B, 8)[1]), id="layers-not-known"),
        pytest.param(Shape(layers=28), 4, Split(1, parallel.tensor_parallel(Shape(), 4)[1]), id="heads-not-known"),
    ],
)  # fmt: skip
def test_split(shape: Shape, gpus: int, expected: Split) -> None:
    """As many GPUs as can work do, with as few stages as that takes."""
    assert parallel.split(shape, gpus, in_stages=True) == expected


def test_a_network_that_cannot_be_dealt() -> None:
    """Where an engine cannot deal its layers, some GPUs stay idle."""
    assert parallel.split(WHOLE, 8, in_stages=False) == Split(4, parallel.tensor_parallel(WHOLE, 8)[1])


@pytest.mark.parametrize(
    ("cores", "asked", "expected"),
    [
        pytest.param(16, None, (15, "16 cores, of which the load client keeps one"), id="all-but-one"),
        pytest.param(1, None, (1, "one core, which the load client shares"), id="never-none"),
        pytest.param(None, None, (None, "the number of cores is not known"), id="not-known"),
        pytest.param(16, 16, (16, "engine.threads"), id="the-users-word"),
    ],
)
def test_free_threads(cores: int | None, asked: int | None, expected: tuple[int | None, str]) -> None:
    """A thread for each core but the client's, unless the user says otherwise."""
    assert parallel.free_threads(Hardware(profile="p", cores=cores), asked) == expected


def test_what_eight_gpus_refuse() -> None:
    """Of the catalogue's networks whose heads are known, these cannot be split over eight GPUs, and no others."""
    refused = {
        (family.family, size, shape.heads)
        for family in catalog.load(conf_dir() / "model").values()
        for size, shape in family.shapes.items()
        if parallel.is_legal(shape, 8) is False
    }
    assert refused == {
        ("vicuna-v1.3", "33", 52),
        ("qwen1.5-chat", "4", 20),
        ("qwen2-instruct", "0_5", 14),
        ("qwen2-instruct", "1_5", 12),
        ("qwen2-instruct", "7", 28),
        ("qwen2-moe-instruct", "14", 28),
        ("smollm2-135m-instruct", "0_135", 9),
    }
