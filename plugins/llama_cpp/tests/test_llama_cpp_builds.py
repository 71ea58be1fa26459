"""How llama.cpp comes to a machine: its builds, their versions, and the weights."""

from __future__ import annotations

import re
import shlex
from typing import Any

import pytest
from llama_cpp_plans import HERE, INDEXES, plan, short
from plans import QWEN2_FILE as QWEN2

PIP = "-m pip install --disable-pip-version-check"
NATIVE = f"{PIP} -v --no-cache-dir --no-binary llama-cpp-python llama-cpp-python==0.3.36"
TOOLS = (
    "-DLLAMA_BUILD_TOOLS=ON -DLLAMA_BUILD_SERVER=ON -DLLAMA_TOOLS_INSTALL=ON -DLLAVA_BUILD=OFF -DLLAMA_BUILD_UI=OFF"
    " -DLLAMA_USE_PREBUILT_UI=OFF -DLLAMA_OPENSSL=OFF -DCMAKE_INSTALL_LIBDIR=lib"
)
INTO_ENVIRONMENT = "SKBUILD_EXPERIMENTAL=1 SKBUILD_WHEEL_INSTALL_DIR=/data"


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
