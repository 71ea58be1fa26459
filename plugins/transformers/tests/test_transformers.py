"""The plans of Transformers for GPUs, models and flags, word for word where it matters."""

from __future__ import annotations

import json
import re
from typing import Any

import msgspec
import pytest
from plans import flag, installs
from transformers_plans import CPU, H100, QWEN2, SAMPLING, WORDS, machine, plan

from xinfer.catalog import Spec
from xinfer.errors import ConfigError
from xinfer.facts import Gpu, Hardware
from xinfer.measuring import capabilities
from xinfer.measuring.client import Target

MACHINES = {
    "cpu": CPU,
    "cuda": H100,
    "rocm": Hardware(profile="rocm", os="linux", gpus=1, gpu=Gpu(vendor="amd")),
    "xpu": Hardware(profile="xpu", os="linux", gpus=1, gpu=Gpu(vendor="intel")),
    "apple": Hardware(profile="apple", os="darwin", gpus=1, gpu=Gpu(vendor="apple")),
}
GPU_SHARE = "it takes 0.9 of a GPU's free memory for its cache; engine.gpu_memory= says otherwise"
SHARED = (
    "prompts that begin with the same 256 tokens share their cache, and no answer says so; engine.slots= gives each a "
    "block of its own"
)
DRIVER = "PyTorch 2.13.0 of PyPI is built for CUDA 13.0, which needs NVIDIA's driver 580 or later"


def changed(spec: Spec, **fields: Any) -> Spec:
    return msgspec.structs.replace(spec, **fields)


# --- on each kind of machine ---


@pytest.mark.parametrize(
    ("name", "device", "torch"),
    [
        pytest.param(
            "cpu", "cpu", "--no-deps torch==2.13.0 --extra-index-url https://download.pytorch.org/whl/cpu", id="cpu"
        ),
        pytest.param("cuda", "cuda", "torch==2.13.0", id="cuda"),
        pytest.param(
            "rocm", "cuda", "'torch>=2.6' --index-url https://download.pytorch.org/whl/rocm7.2",
            id="rocm-is-called-cuda-by-torch",
        ),
        pytest.param("xpu", "xpu", "'torch>=2.6' --index-url https://download.pytorch.org/whl/xpu", id="xpu"),
        pytest.param("apple", "mps", "torch==2.13.0", id="apple"),
    ],
)  # fmt: skip
def test_each_kind_of_machine(name: str, device: str, torch: str) -> None:
    """PyTorch comes from where it is built for the machine, and is told what the machine has in its own words."""
    launch = plan(MACHINES[name], QWEN2)
    assert installs(launch) == [torch, "'transformers[serving]==5.23.0' requests==2.34.2"]
    assert (launch.variant, flag(launch, "--device")) == (name, device)
    assert launch.device == ("cpu" if name == "cpu" else "gpu")
    is_bounded = flag(launch, "--cb-num-blocks") is not None
    assert is_bounded == (name == "cpu")
    assert ("OMP_NUM_THREADS" in launch.env) == (name == "cpu")
    assert flag(launch, "--continuous-batching") is not None


@pytest.mark.parametrize(
    ("capability", "dtype"),
    [
        pytest.param("7.5", "float16", id="turing"),
        pytest.param("8.0", "bfloat16", id="ampere"),
        pytest.param("12.0", "bfloat16", id="two-digits"),
        pytest.param(None, "auto", id="not-known"),
    ],
)
def test_what_a_gpu_computes_in(capability: str | None, dtype: str) -> None:
    """In half precision before compute capability 8.0, then in bfloat16; where nobody knows, as the weights are."""
    gpu = Gpu(vendor="nvidia", compute_capability=capability, driver="580.1")
    launch = plan(msgspec.structs.replace(H100, gpu=gpu), QWEN2)
    assert flag(launch, "--dtype") == dtype
    assert launch.dtype == (None if dtype == "auto" else dtype)


@pytest.mark.parametrize(
    ("on", "settings", "notes"),
    [
        pytest.param(H100, {}, (GPU_SHARE, SHARED), id="a-gpu"),
        pytest.param(H100, {"gpu_memory": 0.5}, (SHARED,), id="a-share"),
        pytest.param(H100, {"slots": 8}, (), id="slots"),
        pytest.param(
            msgspec.structs.replace(H100, gpus=4), {"slots": 8},
            ("one of the 4 GPUs is used: transformers serve does not split a network",), id="four-gpus",
        ),
        pytest.param(
            msgspec.structs.replace(H100, gpu=Gpu(vendor="nvidia", driver="550.54")), {"slots": 8}, (DRIVER,), id="old"
        ),
        pytest.param(
            msgspec.structs.replace(H100, gpu=Gpu(vendor="nvidia")), {"slots": 8}, (DRIVER,), id="a-driver-not-known"
        ),
        pytest.param(
            msgspec.structs.replace(H100, gpu=Gpu(vendor="nvidia")), {"slots": 8, "python": "/p"}, (),
            id="the-users-own-torch",
        ),
        pytest.param(MACHINES["apple"], {}, (SHARED,), id="apple"),
        pytest.param(
            machine(os="windows"), {}, ("these commands are for Linux and macOS",), id="windows"
        ),
    ],
)  # fmt: skip
def test_notes(on: Hardware, settings: dict[str, Any], notes: tuple[str, ...]) -> None:
    """A person is told what the plan cannot change, and what to set for what it can."""
    assert plan(on, QWEN2, **settings).notes == (SAMPLING, WORDS, *notes)


def test_the_cache_on_a_gpu() -> None:
    """The engine sizes it to the GPU, unless the user says how many sequences or how much."""
    assert flag(plan(H100, QWEN2, gpu_memory=0.5), "--cb-max-memory-percent") == "0.5"
    launch = plan(H100, QWEN2, slots=8)
    assert (flag(launch, "--cb-block-size"), flag(launch, "--cb-num-blocks")) == ("2048", "10")
    assert flag(launch, "--cb-max-batch-tokens") is None


@pytest.mark.parametrize("name", [*MACHINES])
@pytest.mark.parametrize(("quantization", "flagged"), [("4-bit", "bnb-4bit"), ("8-bit", "bnb-8bit")], ids=str)
def test_quantized_while_loading(name: str, quantization: str, flagged: str) -> None:
    """The published quantizations of PyTorch artefacts are made by bitsandbytes, which is then installed."""
    launch = plan(MACHINES[name], changed(QWEN2, quantization=quantization))
    assert flag(launch, "--quantization") == flagged
    assert launch.because["--quantization"] == f"the {quantization} that was chosen"
    assert installs(launch)[1] == "'transformers[serving]==5.23.0' requests==2.34.2 bitsandbytes==0.50.2"
    assert (launch.variant, flag(plan(MACHINES[name], QWEN2), "--quantization")) == (f"{name}-bnb", None)


# --- the model ---


@pytest.mark.parametrize(
    ("spec", "model"),
    [
        pytest.param(QWEN2, "Qwen/Qwen2-7B-Instruct", id="an-id"),
        pytest.param(changed(QWEN2, revision="1f2e"), "Qwen/Qwen2-7B-Instruct@1f2e", id="a-published-revision"),
        pytest.param(changed(QWEN2, hub="local", id="/my models/a"), "/my models/a", id="a-folder"),
        pytest.param(changed(QWEN2, hub="local", id="/a", revision="1f2e"), "/a", id="a-folder-has-no-revision"),
    ],
)
def test_the_model_and_its_name(spec: Spec, model: str) -> None:
    """Requests name the model as the command does, or are refused."""
    launch = plan(spec=spec)
    assert (launch.argv[4], launch.model) == (model, model)
    assert ("HF_HUB_OFFLINE" in launch.env) == (spec.hub == "local")


def test_a_folder_with_an_at_sign() -> None:
    """What follows it would be taken for a revision."""
    message = "/a@b: transformers takes what follows an @ for a revision; rename it"
    with pytest.raises(ConfigError, match=f"^{message}$"):
        plan(spec=changed(QWEN2, hub="local", id="/a@b"))


def test_the_models_own_code() -> None:
    """It runs only where it was allowed."""
    assert flag(plan(spec=QWEN2), "--trust-remote-code") is None
    assert flag(plan(spec=changed(QWEN2, remote_code=True)), "--trust-remote-code") is not None


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        pytest.param(
            changed(QWEN2, hub="csghub"),
            "transformers loads from huggingface or modelscope, not csghub; say model.hub=huggingface",
            id="another-hub",
        ),
        pytest.param(
            changed(QWEN2, format="ggufv2"),
            "transformers does not load ggufv2; say model.format=pytorch or mxfp4 or gptq or awq or fp8 or "
            "compressed-tensors", id="gguf",
        ),
        pytest.param(
            changed(QWEN2, format="gptq"),
            "transformers reads gptq through optimum and gptqmodel, which this plugin does not install; say "
            "engine.python= for an interpreter that has it all, or model.format=pytorch", id="gptq",
        ),
    ],
)  # fmt: skip
def test_what_it_does_not_load(spec: Spec, message: str) -> None:
    """The message says what to choose instead."""
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        plan(spec=spec)


def test_what_the_users_interpreter_may_load() -> None:
    """It may have the packages that this plugin does not install; the weights' own type is kept."""
    launch = plan(H100, changed(QWEN2, format="awq"), python="/p/bin/python")
    assert (launch.argv[0], launch.environment, flag(launch, "--dtype")) == ("/p/bin/python", None, "auto")


# --- requests and flags ---


def test_an_output_of_any_length_can_be_asked_for() -> None:
    """No vocabulary has the token that would end it; the length is that of each request."""
    launch = plan()
    target = Target(url=launch.url, model=launch.model, request=launch.request)
    body = json.loads(capabilities.completion(target, "x", 8, extras=True, stream_options=True))
    assert (json.loads(body["generation_config"]), body["max_tokens"]) == ({"eos_token_id": -1}, 8)


@pytest.mark.parametrize(("name", "instead"), [("dtype", "dtype="), ("quantization", "model.quantization=")])
def test_flags_that_the_plan_depends_on(name: str, instead: str) -> None:
    """The message says what to set, however the flag is spelt."""
    with pytest.raises(ConfigError, match=f"^engine.args.{name}: the plan sets this flag; say {instead} instead$"):
        plan(args={name: "x"})


def test_flags_are_spelt_with_either_line() -> None:
    """An underscore is a hyphen."""
    assert flag(plan(args={"cb_num_blocks": 9}), "--cb-num-blocks") == "9"


def test_another_version() -> None:
    """Any can be had: only what belongs to PyTorch is pinned."""
    assert installs(plan(version="5.19.0"))[1] == "'transformers[serving]==5.19.0' requests==2.34.2"
