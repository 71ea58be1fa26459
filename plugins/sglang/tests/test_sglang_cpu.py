"""The plans of SGLang on a CPU, word for word where it matters."""

from __future__ import annotations

import re
import shlex
from typing import Any

import msgspec
import pytest
from plans import SMOLLM2, changed, flag, installs
from sglang_plans import CPU, SERVER, plan

PACKAGE = (
    "SGLang's packages for CPUs are in its container images alone; this is its CUDA package, whose PyTorch code runs"
    " on any CPU, slowly"
)


def test_the_cpu_command_line() -> None:
    """The paths that need none of SGLang's kernels, a pool for the slots, and nothing that spins."""
    launch = plan()
    assert launch.environment
    place = launch.weights[-1].path
    assert shlex.join(launch.argv) == (
        f"{launch.environment.path}/bin/python -P {SERVER} --model-path {place}"
        " --served-model-name smollm2-135m-instruct --host 127.0.0.1 --port 30000 --dtype bfloat16"
        " --context-length 2050 --disable-radix-cache --enable-cache-report --enable-metrics --device cpu"
        " --attention-backend torch_native --model-impl transformers --max-running-requests 4 --max-total-tokens 8456"
        " --sleep-on-idle"
    )
    assert launch.env == {
        "OMP_NUM_THREADS": "1", "SGLANG_USE_CPU_ENGINE": "0", "SGLANG_CACHE_DIR": "/h/caches/sglang",
        "HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1",
    }  # fmt: skip
    assert launch.because.keys() == {word for word in launch.argv if word.startswith("--")} | {*launch.env}
    assert (launch.dtype, launch.device, launch.variant) == ("bfloat16", "cpu", "cpu")
    assert (launch.model, launch.request) == ("smollm2-135m-instruct", {"ignore_eos": True})
    assert launch.notes == (PACKAGE,)


def test_the_cpu_packages() -> None:
    """PyTorch's CPU build first, then what a text model needs, then SGLang alone; no kernels, nothing for CUDA."""
    torch, needs, sglang = installs(plan())
    assert torch.startswith("--no-deps torch==2.13.0 ")
    assert torch.endswith(" --extra-index-url https://download.pytorch.org/whl/cpu")
    assert sglang.startswith("--no-deps sglang==0.5.23 ")
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+", package) for package in needs.split())
    assert not re.search(r"nvidia|cuda|flashinfer|sgl-kernel|sglang-kernel", needs)


@pytest.mark.parametrize(
    ("changes", "tokens", "why"),
    [
        pytest.param({}, "8456", "4 x (2050 + 64) tokens", id="for-every-slot"),
        pytest.param({"slots": 2}, "4228", "2 x (2050 + 64) tokens", id="slots"),
        pytest.param({"kv_tokens": 5000}, "5000", "engine.kv_tokens", id="the-users-word"),
    ],
)
def test_the_pool_is_never_left_to_sglang(changes: dict[str, Any], tokens: str, why: str) -> None:
    """Unset, it takes most of the memory."""
    launch = plan(**changes)
    assert flag(launch, "--max-total-tokens") == tokens
    assert launch.because["--max-total-tokens"] == f"{why}; left alone, SGLang takes most of the memory"


@pytest.mark.parametrize(
    ("length", "most", "told", "is_short"),
    [
        pytest.param(128, 8192, "130", False, id="two-more-than-asked"),
        pytest.param(8190, 8192, "8192", False, id="just-enough"),
        pytest.param(8192, 8192, "8192", False, id="a-context-that-is-not-used-up"),
        pytest.param(128, 128, "128", True, id="a-context-that-is-used-up"),
        pytest.param(128, None, "130", False, id="a-model-of-unknown-length"),
    ],
)
def test_the_context_is_what_a_sequence_may_use(length: int, most: int | None, told: str, is_short: bool) -> None:  # noqa: FBT001
    """SGLang keeps two tokens of it; where the model has no more, a note says what that costs."""
    launch = plan(spec=changed(SMOLLM2, context_length=most), context_length=length)
    assert flag(launch, "--context-length") == told
    note = "the workload uses the whole context, of which SGLang keeps 2 tokens: outputs end early"
    assert (note in launch.notes) == is_short


@pytest.mark.parametrize(
    ("cores", "settings", "expected"),
    [
        pytest.param(2, {}, "1", id="one-core-is-left-to-the-client"),
        pytest.param(None, {}, None, id="not-known"),
        pytest.param(None, {"threads": 3}, "3", id="the-users-word"),
    ],
)
def test_threads(cores: int | None, settings: dict[str, Any], expected: str | None) -> None:
    """One thread for each free core; where the cores are not known, PyTorch decides and a note says so."""
    launch = plan(msgspec.structs.replace(CPU, cores=cores), **settings)
    assert launch.env.get("OMP_NUM_THREADS") == expected
    unknown = "the number of cores is not known: PyTorch chooses the threads; engine.threads= says otherwise"
    assert (unknown in launch.notes) == (expected is None)


def test_a_folder_of_the_users() -> None:
    """Nothing is fetched, and no hub is asked."""
    launch = plan(spec=changed(SMOLLM2, hub="local", id="/my models/one", derived=False), dtype="float32")
    assert (launch.weights, flag(launch, "--model-path"), launch.dtype) == ((), "/my models/one", "float32")
    assert launch.env["HF_HUB_OFFLINE"] == "1"
