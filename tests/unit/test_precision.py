"""A network is computed in what the user says, else in what its files and the machine are made for."""

from __future__ import annotations

from typing import Any

import pytest

from xinfer.catalog import Spec
from xinfer.errors import ConfigError
from xinfer.facts import Gpu, Hardware
from xinfer.planning.precision import Precision, choose


def spec(form: str | None = "pytorch") -> Spec:
    return Spec(family="f", size="7", format=form, quantization="none", hub="huggingface", id="a/b")


def machine(vendor: Any = None, capability: str | None = None, gpus: int | None = 1) -> Hardware:
    return Hardware(profile="p", gpus=gpus, gpu=Gpu(vendor=vendor, compute_capability=capability))


CPU = machine(gpus=0)
HALF = "half the memory of float32, which is what decoding waits for"
OLD = "bfloat16 needs compute capability 8.0; this GPU has 7.5"


@pytest.mark.parametrize(
    ("form", "hardware", "expected"),
    [
        pytest.param("pytorch", CPU, Precision("bfloat16", HALF), id="a-cpu"),
        pytest.param("pytorch", machine("nvidia", "8.0"), Precision("bfloat16", HALF), id="ampere"),
        pytest.param("pytorch", machine("nvidia", "12.0"), Precision("bfloat16", HALF), id="two-digits"),
        pytest.param("pytorch", machine("nvidia", "7.5"), Precision("float16", OLD), id="turing-has-none"),
        pytest.param("gptq", machine("nvidia", "7.5"), Precision("float16", OLD), id="nor-for-quantized-weights"),
        pytest.param("pytorch", machine("nvidia", "7.5", 0), Precision("bfloat16", HALF), id="a-gpu-that-is-not-used"),
        pytest.param("pytorch", machine("amd"), Precision("bfloat16", HALF), id="amd"),
        pytest.param(
            "pytorch", machine("nvidia"),
            Precision(None, "whether the GPU has bfloat16 is not known: the weights' own type, if it can"),
            id="a-gpu-of-which-nothing-is-known",
        ),
        pytest.param(
            "awq", machine("nvidia", "8.0"), Precision(None, "the awq files say what goes with their weights"),
            id="quantized-weights",
        ),
        pytest.param(
            None, CPU, Precision(None, "the unpublished files say what goes with their weights"), id="not-published"
        ),
    ],
)  # fmt: skip
def test_the_choice(form: str | None, hardware: Hardware, expected: Precision) -> None:
    """Bfloat16 wherever it is known to be there, half precision where it is not, and the reason."""
    assert choose(None, spec(form), hardware) == expected


@pytest.mark.parametrize("asked", ["float32", "float16", "bfloat16"])
def test_the_users_word(asked: str) -> None:
    """It holds for every kind of files."""
    assert choose(asked, spec("gptq"), CPU) == Precision(asked, f"dtype={asked}")


def test_what_a_gpu_does_not_have() -> None:
    """The message says what it has instead."""
    with pytest.raises(ConfigError, match=f"^dtype=bfloat16: {OLD}; say dtype=float16$"):
        choose("bfloat16", spec(), machine("nvidia", "7.5"))
