"""The plans of SGLang on GPUs, word for word where it matters, and what the user may say."""

from __future__ import annotations

import re
import shlex
from typing import Any

import msgspec
import pytest
from plans import QWEN2, changed, flag, installs
from sglang_plans import CPU, H100, SERVER, plan

from xinfer.errors import ConfigError
from xinfer.facts import Gpu, Hardware


def gpus(number: int, **gpu: Any) -> Hardware:
    """Return a machine with some of NVIDIA's GPUs."""
    facts = {"vendor": "nvidia", "compute_capability": "9.0", **gpu}
    return msgspec.structs.replace(H100, gpus=number, gpu=msgspec.convert(facts, Gpu))


def another(vendor: str) -> Hardware:
    """Return a machine with a GPU of somebody else's."""
    return gpus(1, vendor=vendor, compute_capability=None)


# --- on GPUs ---


def test_the_cuda_command_line() -> None:
    """An id on a hub, and SGLang's own choice of slots and memory."""
    launch = plan(H100, QWEN2)
    assert launch.environment
    assert shlex.join(launch.argv) == (
        f"{launch.environment.path}/bin/python -P {SERVER} --model-path Qwen/Qwen2-7B-Instruct"
        " --served-model-name qwen2-instruct --host 127.0.0.1 --port 30000 --dtype bfloat16 --context-length 2050"
        " --disable-radix-cache --enable-cache-report --enable-metrics"
    )
    assert launch.env == {"SGLANG_CACHE_DIR": "/h/caches/sglang"}
    share = "SGLang computes the share of each GPU's memory that it takes; engine.gpu_memory= says otherwise"
    assert (launch.device, launch.weights, launch.notes) == ("gpu", (), (share,))


@pytest.mark.parametrize(
    ("backend", "variant", "install"),
    [
        pytest.param(None, "cuda", "sglang==0.5.23", id="what-pypi-has"),
        pytest.param(
            "cu130", "cuda-cu130", "sglang==0.5.23 --extra-index-url https://download.pytorch.org/whl/cu130",
            id="cuda-13",
        ),
    ],
)  # fmt: skip
def test_torch_backends(backend: str | None, variant: str, install: str) -> None:
    """Each is one pip, and an environment of its own."""
    launch = plan(H100, QWEN2, torch_backend=backend)
    assert (launch.variant, installs(launch)) == (variant, [install])


@pytest.mark.parametrize(
    ("on", "settings", "what"),
    [
        pytest.param(H100, {"torch_backend": "cu129"}, "no cuda-cu129 build: SGLang needs CUDA 13; ", id="cuda-12"),
        pytest.param(another("amd"), {}, "no rocm build: SGLang publishes no wheels for AMD GPUs; ", id="rocm"),
        pytest.param(another("intel"), {}, "no xpu build: SGLang publishes no wheels for Intel GPUs; ", id="intel"),
        pytest.param(another("apple"), {}, "no apple build: SGLang publishes no wheels for Apple's GPUs; ", id="apple"),
    ],
)  # fmt: skip
def test_what_no_index_has(on: Hardware, settings: dict[str, Any], what: str) -> None:
    """The message says what the documentation offers instead, and how to bring one's own."""
    with pytest.raises(ConfigError, match=f"^sglang: {re.escape(what)}.*; or engine.python=; known: "):
        plan(on, QWEN2, **settings)


@pytest.mark.parametrize(
    ("number", "architecture", "expected"),
    [
        pytest.param(1, "Qwen2ForCausalLM", (None, None), id="one"),
        pytest.param(4, "Qwen2ForCausalLM", ("4", None), id="all-share-each-layer"),
        pytest.param(8, "Qwen2ForCausalLM", ("4", "2"), id="two-stages-of-four"),
        pytest.param(8, "Gemma2ForCausalLM", ("4", None), id="a-network-that-sglang-cannot-deal-to-stages"),
    ],
)
def test_the_split(number: int, architecture: str, expected: tuple[str | None, str | None]) -> None:
    """As many GPUs work as the network and SGLang's code for it allow."""
    shape = msgspec.structs.replace(QWEN2.shape, architecture=architecture)
    launch = plan(gpus(number), changed(QWEN2, shape=shape))
    assert (flag(launch, "--tp-size"), flag(launch, "--pp-size")) == expected


@pytest.mark.parametrize(
    ("settings", "name", "value", "why"),
    [
        pytest.param({"gpu_memory": 0.8}, "--mem-fraction-static", "0.8", "engine.gpu_memory", id="share"),
        pytest.param({"kv_tokens": 4096}, "--max-total-tokens", "4096", "engine.kv_tokens", id="cache"),
        pytest.param({"slots": 8}, "--max-running-requests", "8", "engine.slots", id="slots"),
    ],
)
def test_what_is_said_on_a_gpu_only_when_asked(settings: dict[str, Any], name: str, value: str, why: str) -> None:
    """SGLang's own figures hold otherwise."""
    launch = plan(H100, QWEN2, **settings)
    assert (flag(launch, name), launch.because[name]) == (value, why)
    assert flag(plan(H100, QWEN2), name) is None


# --- what the user may say ---


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        pytest.param({"args": {"model_path": "x"}}, "engine.args.model-path: the plan sets this flag; ", id="model"),
        pytest.param({"args": {"dtype": "half"}}, "engine.args.dtype: the plan sets this flag; say dtype=", id="dtype"),
        pytest.param({"slots": 0}, "engine.slots: expected a whole number >= 1", id="no-slots"),
        pytest.param({"gpu_memory": 1}, "engine.gpu_memory: expected a number < 1.0", id="all-of-a-gpu"),
        pytest.param({"version": "0.5.22"}, "engine.version=0.5.22: sglang is known for cpu in 0.5.23, ", id="version"),
    ],
)  # fmt: skip
def test_settings_that_mean_nothing(settings: dict[str, Any], message: str) -> None:
    """Each message names the key and what it takes, or what to say instead."""
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}"):
        plan(**settings)


@pytest.mark.parametrize(
    ("on", "settings", "message"),
    [
        pytest.param(H100, {"threads": 4}, "engine.threads does nothing in a cuda build; it is for cpu", id="threads"),
        pytest.param(
            CPU,
            {"gpu_memory": 0.5},
            "engine.gpu_memory does nothing in a cpu build; it is for cuda and rocm",
            id="share",
        ),
        pytest.param(
            CPU,
            {"torch_backend": "cu130"},
            "engine.torch_backend does nothing in a cpu build; it is for cuda",
            id="cuda",
        ),
    ],
)
def test_settings_that_do_nothing(on: Hardware, settings: dict[str, Any], message: str) -> None:
    """They are refused rather than ignored."""
    with pytest.raises(ConfigError, match=f"^{message}$"):
        plan(on, QWEN2, **settings)


def test_remote_code_runs_only_when_allowed() -> None:
    """The flag is there where the model says that it was."""
    assert flag(plan(H100, changed(QWEN2, remote_code=True)), "--trust-remote-code") is not None
    assert flag(plan(H100, QWEN2), "--trust-remote-code") is None


def test_the_users_interpreter() -> None:
    """No environment, no word about packages."""
    launch = plan(python="/mine/python")
    assert (launch.argv[0], launch.environment, launch.notes) == ("/mine/python", None, ())


def test_other_systems() -> None:
    """The commands are written out, with a word of warning."""
    assert "these commands are for Linux" in plan(msgspec.structs.replace(CPU, os="darwin")).notes
