"""The plans of vLLM on GPUs and several machines, word for word where it matters."""

from __future__ import annotations

import re
import shlex
from typing import Any

import msgspec
import pytest
from plans import QWEN2, changed, flag, installs
from vllm_plans import ENGINE, H100, gpus, plan

from xinfer.catalog import Shape
from xinfer.errors import ConfigError
from xinfer.facts import Gpu, Hardware
from xinfer.planning import parallel

ROCM = Hardware(profile="rocm", os="linux", gpus=1, gpu=Gpu(vendor="amd"))
GPU_SHARE = "vLLM takes 0.92 of each GPU's memory; engine.gpu_memory= says otherwise"


def test_the_cuda_command_line() -> None:
    """The vllm command, an id on a hub, and vLLM's own choice of slots and memory."""
    launch = plan(H100, QWEN2)
    assert launch.environment
    assert shlex.join(launch.argv) == (
        f"{launch.environment.path}/bin/python -m vllm.entrypoints.cli.main serve Qwen/Qwen2-7B-Instruct"
        " --served-model-name qwen2-instruct --host 127.0.0.1 --port 8000 --dtype bfloat16 --max-model-len 2048"
        " --no-enable-prefix-caching --enable-prompt-tokens-details"
    )
    assert "HF_HUB_OFFLINE" not in launch.env
    assert "OMP_NUM_THREADS" not in launch.env
    assert (launch.device, launch.weights, launch.notes) == ("gpu", (), (GPU_SHARE,))


@pytest.mark.parametrize(
    ("backend", "variant", "version", "install"),
    [
        pytest.param(None, "cuda", "0.33.0", "vllm==0.33.0", id="what-pypi-has"),
        pytest.param(
            "cu130", "cuda-cu130", "0.33.0",
            "vllm==0.33.0 --extra-index-url https://download.pytorch.org/whl/cu130", id="cuda-13",
        ),
        pytest.param(
            "cu129", "cuda-cu129", "0.30.0",
            "https://github.com/vllm-project/vllm/releases/download/v0.30.0/"
            "vllm-0.30.0+cu129-cp38-abi3-manylinux_2_28_x86_64.whl"
            " --extra-index-url https://download.pytorch.org/whl/cu129",
            id="cuda-12",
        ),
    ],
)  # fmt: skip
def test_torch_backends(backend: str | None, variant: str, version: str, install: str) -> None:
    """Each is one pip, and an environment of its own."""
    launch = plan(H100, QWEN2, torch_backend=backend)
    assert (launch.variant, launch.version, installs(launch)) == (variant, version, [install])


@pytest.mark.parametrize(
    ("driver", "backend", "is_said"),
    [
        pytest.param("580.65.06", None, False, id="new-enough"),
        pytest.param("570.124.06", None, True, id="too-old"),
        pytest.param(None, None, True, id="not-known"),
        pytest.param("a", None, True, id="not-to-be-read"),
        pytest.param("535.1", "cu129", False, id="cuda-12-was-chosen"),
    ],
)
def test_the_driver(driver: str | None, backend: str | None, is_said: bool) -> None:  # noqa: FBT001
    """A plan for CUDA 13 says what it needs, unless the machine is known to have it."""
    notes = plan(gpus(1, driver=driver), QWEN2, torch_backend=backend).notes
    assert any("needs NVIDIA's driver 580 or later" in note for note in notes) == is_said


def test_rocm() -> None:
    """The last release with documented wheels; the plan says for which Python they are."""
    launch = plan(ROCM, QWEN2)
    index = "https://wheels.vllm.ai/rocm/0.18.0/rocm700"
    assert installs(launch) == [f"vllm==0.18.0+rocm700 --extra-index-url {index}"]
    assert flag(launch, "--dtype") == "bfloat16"
    only = "vLLM's wheels for ROCm are for Python 3.12, ROCm 7.0 and glibc 2.35; elsewhere pip finds none"
    assert launch.notes == (only, GPU_SHARE)


@pytest.mark.parametrize(
    ("vendor", "what"),
    [
        pytest.param("intel", "no xpu build: vLLM publishes no wheels for Intel GPUs; ", id="intel"),
        pytest.param("apple", "no apple build: vLLM publishes no build for Apple's GPUs; ", id="apple"),
    ],
)
def test_what_no_index_has(vendor: Any, what: str) -> None:
    """The message says what the documentation offers instead, and how to bring one's own."""
    with pytest.raises(ConfigError, match=f"^vllm: {re.escape(what)}its documentation .*; or engine.python=; known: "):
        plan(Hardware(profile="p", gpus=1, gpu=Gpu(vendor=vendor)), QWEN2)


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        pytest.param(1, (None, None), id="one"),
        pytest.param(4, ("4", None), id="all-share-each-layer"),
        pytest.param(8, ("4", "2"), id="two-stages-of-four"),
        pytest.param(3, (None, "3"), id="three-stages"),
    ],
)
def test_the_split(number: int, expected: tuple[str | None, str | None]) -> None:
    """As many GPUs work as the network allows."""
    launch = plan(gpus(number), QWEN2)
    assert (flag(launch, "--tensor-parallel-size"), flag(launch, "--pipeline-parallel-size")) == expected


def test_a_network_that_vllm_cannot_deal_to_stages() -> None:
    """Then fewer GPUs work."""
    launch = plan(gpus(8), changed(QWEN2, shape=changed_shape("NewForCausalLM")))
    assert (flag(launch, "--tensor-parallel-size"), flag(launch, "--pipeline-parallel-size")) == ("4", None)


def changed_shape(architecture: str) -> Shape:
    return msgspec.structs.replace(QWEN2.shape, architecture=architecture)


@pytest.mark.parametrize(
    ("settings", "name", "value", "why"),
    [
        pytest.param({"gpu_memory": 0.8}, "--gpu-memory-utilization", "0.8", "engine.gpu_memory", id="share"),
        pytest.param({"kv_gib": 2}, "--kv-cache-memory-bytes", "2147483648", "engine.kv_gib, on each GPU", id="cache"),
        pytest.param({"slots": 8}, "--max-num-seqs", "8", "engine.slots", id="slots"),
        pytest.param(
            {"concurrency": 512}, "--max-num-seqs", "512", "workload chat keeps 512 in flight", id="more-than-vllm-has"
        ),
    ],
)
def test_what_is_said_on_a_gpu_only_when_asked(settings: dict[str, Any], name: str, value: str, why: str) -> None:
    """VLLM's own figures hold otherwise."""
    launch = plan(H100, QWEN2, **settings)
    assert (flag(launch, name), launch.because[name]) == (value, why)
    assert flag(plan(H100, QWEN2), name) is None


@pytest.mark.parametrize(
    ("capability", "dtype"),
    [
        pytest.param("7.5", "float16", id="turing"),
        pytest.param("8.0", "bfloat16", id="ampere"),
        pytest.param(None, "auto", id="not-known"),
    ],
)
def test_the_dtype_on_a_gpu(capability: str | None, dtype: str) -> None:
    """By compute capability; the plan's own field is null where vLLM decides."""
    launch = plan(gpus(1, compute_capability=capability), QWEN2)
    assert (flag(launch, "--dtype"), launch.dtype) == (dtype, None if dtype == "auto" else dtype)


def test_what_starts_several_machines() -> None:
    """A setting for them does nothing on one."""
    with pytest.raises(ConfigError, match=r"^engine\.executor=ray is for several machines; say hw\.nodes=2 or more$"):
        plan(H100, QWEN2, executor="ray")


def test_ray_offers_no_more_than_is_used() -> None:
    """Else it would put the stages of both machines on one; each finds out its own address."""
    two = msgspec.structs.replace(H100, gpus=8, nodes=2, head="10.0.0.5")
    launch = plan(two, QWEN2, executor="ray", python="/mine/python")
    (start, serve), (join,) = (node.commands for node in launch.nodes)
    assert (start[:2], join[:2], serve) == (("/mine/ray", "start"), ("/mine/ray", "start"), launch.argv)
    each = str(launch.tensor * launch.stages // 2)
    assert start[-2:] == ("--num-gpus", each)
    assert join[2:] == ("--address", "10.0.0.5:6379", "--num-gpus", each, "--block")
    assert [node.env.get("VLLM_HOST_IP") for node in launch.nodes] == ["10.0.0.5", None]


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        pytest.param({}, 0.92, id="its-own"),
        pytest.param({"gpu_memory": 0.8}, 0.8, id="the-setting"),
        pytest.param({"args": {"gpu_memory_utilization": 0.7}, "gpu_memory": 0.8}, 0.7, id="the-flag"),
        pytest.param({"kv_gib": 4.0}, 1.0, id="the-cache-is-said-instead"),
    ],
)
def test_the_share_of_a_gpu(settings: dict[str, Any], expected: float) -> None:
    """A network that does not fit into it is not chosen."""
    assert parallel.declared({"vllm": ENGINE}, settings)["vllm"].share == expected
