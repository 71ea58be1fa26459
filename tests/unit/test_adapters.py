"""The plans of the engines' adapters: flags with reasons, the user's changes, and whole plans kept as files.

``XINFER_UPDATE_GOLDEN=1`` writes the files under ``tests/golden/plans`` anew.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from xinfer import engines, flow
from xinfer.catalog import Shape, Spec
from xinfer.config.compose import Composer, conf_dir
from xinfer.config.document import read
from xinfer.engines import Job
from xinfer.errors import ConfigError
from xinfer.facts import Hardware
from xinfer.plan import LaunchPlan
from xinfer.planning import artefacts
from xinfer.spec import Workload

if TYPE_CHECKING:
    from xinfer.flow import Planned

GOLDEN = Path(__file__).parent.parent / "golden" / "plans"
NAMES = ("vllm", "sglang", "transformers", "mlx")
"""The adapters that this file tests one by one; llama.cpp has a file of its own."""
each_adapter = pytest.mark.parametrize("name", NAMES)
RESERVED = {"--host", "--port", "--model", "--model-path", "--served-model-name", "--dtype"}
"""Flags that a plan may keep to itself."""


def machine(vendor: str | None = "nvidia", gpus: int | None = 1, **more: Any) -> Hardware:
    gpu = {key.removeprefix("gpu_"): more.pop(key) for key in [*more] if key.startswith("gpu_")}
    return msgspec.convert({"profile": "p", "gpus": gpus, "gpu": {"vendor": vendor, **gpu}, **more}, Hardware)


SPEC = Spec(
    family="qwen2-instruct", size="7", format="pytorch", quantization="none", hub="huggingface",
    id="Qwen/Qwen2-7B-Instruct", shape=Shape(heads=28, kv_heads=4),
)  # fmt: skip
CUDA, CPU, MAC, ROCM = machine(), machine(None, 0), machine("apple"), machine("amd")
HOME = {"vllm": CUDA, "sglang": CUDA, "transformers": CPU, "mlx": MAC}
"""A machine that each engine has a build for."""


SGLANG, MLX = (engines.get(name).conf.parent for name in ("sglang", "mlx"))


def plan(name: str, on: Hardware | None = None, *, spec: Spec = SPEC, **settings: Any) -> LaunchPlan:
    """Plan one artefact with an engine on its own kind of machine, or another."""
    job = Job(
        spec=spec, hardware=on or HOME[name], settings={"name": name, **settings},
        workload=Workload(name="w", input_tokens=32, output_tokens=64), context_length=4096,
        home="/xinfer", python="python3", port=8123,
    )  # fmt: skip
    return engines.get(name).plan(job)


def sharing(name: str, share: float) -> LaunchPlan:
    """Plan for prompts of which a part is the same."""
    spec = changed(format="ggufv2", file="f.gguf") if name == "llama_cpp" else SPEC
    job = Job(
        spec=spec, hardware=HOME.get(name, CPU), settings={"name": name},
        workload=Workload(name="w", input_tokens=32, output_tokens=64, shared_prefix=share), context_length=4096,
        home="/xinfer", python="python3", port=8123,
    )  # fmt: skip
    return engines.get(name).plan(job)


def changed(**fields: Any) -> Spec:
    return msgspec.structs.replace(SPEC, **fields)


def flag(launch: LaunchPlan, name: str) -> str | None:
    """Return the word that follows a flag, empty where none does; null where the flag is not there."""
    words = [*launch.argv, ""]
    return words[words.index(name) + 1] if name in words else None


# --- what every adapter does ---


@pytest.mark.parametrize(
    ("name", "never", "shared"),
    [
        pytest.param("vllm", "--no-enable-prefix-caching", "--enable-prefix-caching", id="vllm"),
        pytest.param("sglang", "--disable-radix-cache", None, id="sglang"),
        pytest.param("mlx", "--prompt-cache-size 0", None, id="mlx"),
        pytest.param("transformers", "--cb-block-size 4096 --cb-num-blocks 2", "--cb-block-size 256 --cb-num-blocks 19",
                     id="transformers"),
    ],
)  # fmt: skip
def test_what_prompts_share_is_remembered_only_where_the_workload_says_so(
    name: str, never: str, shared: str | None
) -> None:
    """Else each prompt is computed whole, so that none is faster than another."""
    apart, together = (f"{shlex.join(sharing(name, share).argv)} " for share in (0.0, 0.25))
    assert f" {never} " in apart
    assert f" {never} " not in together
    assert shared is None or f" {shared} " in together


def test_llama_cpp_is_told_with_each_request_whether_it_may_remember() -> None:
    """Its server has no flag for that."""
    assert [sharing("llama_cpp", share).request["cache_prompt"] for share in (0.0, 0.25)] == [False, True]


@pytest.mark.parametrize("name", [*NAMES, "llama_cpp"])
def test_an_adapter_is_what_it_is_registered_as(name: str) -> None:
    """Its name is that of its entry point and of its configuration, whose keys are those of its settings."""
    adapter = engines.get(name)
    assert adapter.name == name
    assert (adapter.conf / "engine" / f"{name}.yaml").is_file()
    config = Composer([adapter.conf]).compose([f"engine={name}"])["engine"]
    assert config["name"] == name
    assert set(config) == set(settings_of(name).__struct_fields__)


def settings_of(name: str) -> type[engines.Settings]:
    """Return the settings of a plugin: those of every engine where it has none of its own."""
    package = f"xinfer.plugins.{name}"
    if find_spec(f"{package}.settings") is None:
        return engines.Settings
    kind: type[engines.Settings] = import_module(f"{package}.settings").Settings
    return kind


@each_adapter
def test_a_plan_is_pure(name: str) -> None:
    """The same job gives the same plan, on the port and under the directories it was told."""
    launch = plan(name)
    assert launch == plan(name)
    assert (launch.engine, launch.port, launch.host) == (name, 8123, "127.0.0.1")
    assert launch.environment is not None
    assert launch.environment.path.startswith(f"/xinfer/environments/{name}-{launch.variant}-{launch.version}-")
    assert launch.environment.steps[0] == ("python3", "-m", "venv", launch.environment.path)
    assert launch.argv[0] == f"{launch.environment.path}/bin/python"
    assert (launch.weights, launch.base_url) == ((), None)


@each_adapter
def test_nothing_listens_but_on_loopback(name: str) -> None:
    """Every server is told which address to take."""
    launch = plan(name)
    assert (flag(launch, "--host"), flag(launch, "--port")) == ("127.0.0.1", "8123")


@each_adapter
def test_a_key_that_an_engine_has_not(name: str) -> None:
    """The message names the nearest key."""
    with pytest.raises(ConfigError, match=r"^engine has no key 'pyhton'; did you mean 'python'\?$"):
        plan(name, pyhton="/usr/bin/python3")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        pytest.param({"python": 3}, "engine.python: expected text or null, got a whole number", id="a-number-for-text"),
        pytest.param({"args": 3}, "engine.args: expected a mapping, got a whole number", id="a-number-for-flags"),
        pytest.param({"env": ["A=1"]}, "engine.env: expected a mapping, got a list", id="a-list-for-variables"),
        pytest.param(
            {"quant": "x"}, "engine has no key 'quant'; its keys are name, version, python, args, env", id="key"
        ),
    ],
)
@each_adapter
def test_settings_of_the_wrong_type(name: str, settings: dict[str, Any], message: str) -> None:
    """Each message names the key and what it takes; an engine may have more keys than all engines have."""
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}(, |$)"):
        plan(name, **settings)


@each_adapter
def test_the_users_flags_and_variables(name: str) -> None:
    """They replace, remove and add, and the plan says that they are the user's."""
    before = plan(name)
    planned = next(key for key in before.because if key.startswith("--") and key not in RESERVED)
    known = planned.removeprefix("--")
    launch = plan(name, args={known: 9, "seed": 0, "verbose": True}, env={"OMP_NUM_THREADS": 4, "X": "y z"})
    assert [flag(launch, key) for key in (planned, "--seed", "--verbose")] == ["9", "0", ""]
    assert launch.argv.index(planned) == before.argv.index(planned)
    assert (launch.env["OMP_NUM_THREADS"], launch.env["X"]) == ("4", "y z")
    reasons = [launch.because.get(key) for key in (planned, "--seed", "X")]
    assert reasons == [f"engine.args.{known}", "engine.args.seed", "engine.env.X"]
    assert flag(plan(name, args={known: None}), planned) is None


@each_adapter
@pytest.mark.parametrize("reserved", ["host", "port"])
def test_the_users_flags_never_move_the_server(name: str, reserved: str) -> None:
    """The runner looks for it where the plan says it is."""
    with pytest.raises(ConfigError, match=f"^engine.args.{reserved}: the plan sets this flag; say "):
        plan(name, args={reserved: 1})


@each_adapter
def test_the_users_interpreter(name: str) -> None:
    """An interpreter that has the engine needs no environment, on whatever machine."""
    launch = plan(name, machine("intel"), python="/mine/bin/python", version="9.9")
    assert (launch.argv[0], launch.install, launch.environment) == ("/mine/bin/python", (), None)
    assert (launch.version, launch.variant) == ("9.9", "xpu")


@each_adapter
def test_the_users_version(name: str) -> None:
    """Another version is what pip installs, in another environment."""
    launch, other = plan(name), plan(name, version="0.1.2")
    assert other.version == "0.1.2"
    assert any(word.endswith("==0.1.2") for word in other.install[-1])
    assert not any(word.endswith(f"=={launch.version}") for step in other.install for word in step)
    assert launch.environment != other.environment


@pytest.mark.parametrize(
    ("name", "on", "message"),
    [
        pytest.param(
            "mlx", ROCM, "mlx: no rocm build is known to its plugin; known: apple, cuda13, cuda12, cpu", id="mlx-on-amd"
        ),
    ],
)
def test_a_machine_that_an_engine_has_no_build_for(name: str, on: Hardware, message: str) -> None:
    """Where the rules were switched off, the plugin still knows what it can install."""
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        plan(name, on)


# --- where the artefact comes from ---


@pytest.mark.parametrize(
    ("name", "argv"),
    [
        pytest.param("vllm", ("-m", "vllm.entrypoints.cli.main", "serve", "a/b-Int4"), id="vllm"),
        pytest.param("sglang", ("-P", f"{SGLANG}/server.py", "--model-path", "a/b-Int4"), id="sglang"),
        pytest.param("transformers", ("-m", "transformers.cli.transformers", "serve", "a/b-Int4"), id="transformers"),
        pytest.param("mlx", ("-I", f"{MLX}/server.py", "--model", "a/b-Int4"), id="mlx"),
    ],
)
def test_the_artefacts_id(name: str, argv: tuple[str, ...]) -> None:
    """The engine is told the hub's id, with the quantization filled in."""
    launch = plan(name, spec=changed(id="a/b-{quantization}", quantization="Int4"))
    assert launch.argv[1 : len(argv) + 1] == argv


@pytest.mark.parametrize("name", ["vllm", "sglang"])
def test_a_published_revision_is_pinned(name: str) -> None:
    """Where the catalogue publishes a revision the engine is told, and only there."""
    assert flag(plan(name, spec=changed(revision="1f2e")), "--revision") == "1f2e"
    assert flag(plan(name), "--revision") is None


@pytest.mark.parametrize("name", NAMES)
def test_modelscope(name: str) -> None:
    """A folder of ModelScope is fetched by its own client, and the engine is started with where it lies, offline."""
    launch = plan(name, spec=changed(hub="modelscope", id="a/b", revision="1f2e"))
    tool, fetched = launch.weights
    assert fetched.path in launch.argv
    assert fetched.is_model
    assert all(step[:3] == (f"{tool.path}/bin/modelscope", "download", "a/b") for step in fetched.steps)
    assert launch.env["HF_HUB_OFFLINE"] == "1"
    assert "--revision" not in launch.argv
    assert not [variable for variable in launch.env if "MODELSCOPE" in variable]


@pytest.mark.parametrize(
    ("name", "hub", "message"),
    [
        pytest.param("vllm", "csghub", "vllm loads from huggingface or modelscope, not csghub", id="vllm"),
        pytest.param(
            "sglang", "openmind_hub", "sglang loads from huggingface or modelscope, not openmind_hub", id="sglang"
        ),
    ],
)
def test_a_hub_that_an_engine_cannot_load_from(name: str, hub: str, message: str) -> None:
    """The same id on another hub may be another artefact; the message says which hub to choose."""
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}; say model.hub=huggingface$"):
        plan(name, spec=changed(hub=hub))


# --- what each engine is told ---


@pytest.mark.parametrize(("name", "flag_name"), [("vllm", "--tensor-parallel-size"), ("sglang", "--tp-size")])
@pytest.mark.parametrize(
    ("gpus", "split", "why"),
    [
        pytest.param(1, None, None, id="one-gpu-needs-no-flag"),
        pytest.param(None, None, None, id="an-unknown-number-is-taken-as-one"),
        pytest.param(4, "4", "all 4 GPUs; 28 heads and 4 kv heads split evenly", id="all-gpus"),
        pytest.param(
            8, "4",
            "28 heads and 4 kv heads do not split over 8 GPUs; 4 is the largest number that is known to be legal",
            id="as-many-as-the-heads-allow",
        ),
    ],
)  # fmt: skip
def test_tensor_parallel(name: str, flag_name: str, gpus: int | None, split: str | None, why: str | None) -> None:
    """A network is split over as many GPUs as its heads allow, with the reason."""
    launch = plan(name, machine(gpus=gpus))
    assert (flag(launch, flag_name), launch.because.get(flag_name)) == (split, why)


@pytest.mark.parametrize(
    ("name", "request_body"),
    [
        pytest.param("vllm", {"ignore_eos": True}, id="vllm"),
        pytest.param("sglang", {"ignore_eos": True}, id="sglang"),
        pytest.param("transformers", {"generation_config": '{"eos_token_id": -1}'}, id="transformers"),
        pytest.param("mlx", {}, id="mlx-where-the-end-tokens-are-not-known"),
    ],
)
def test_a_fixed_output_length(name: str, request_body: dict[str, Any]) -> None:
    """Requests say that generation goes on to the last token asked for, where the server can."""
    assert plan(name).request == request_body


# --- whole plans ---

MACHINES = {
    "cpu": ("hw=cpu", "hw.cores=8"),
    "cuda": ("hw=cuda",),
    "rocm": ("hw=rocm",),
    "apple": ("hw=apple",),
    "h100": ("hw=h100",),
    "h100-4": ("hw=h100", "hw.gpus=4"),
    "rtx4090": ("hw=rtx4090",),
    "t4": ("hw=t4",),
    "m3-max": ("hw=m3-max", "hw.memory_gib=64"),
    "arc-b580": ("hw=arc-b580",),
}
CASES = {
    f"{engine}--{on}": ("model=qwen2-instruct", f"engine={engine}", *overrides)
    for engine in (*NAMES, "llama_cpp")
    for on, overrides in MACHINES.items()
} | {
    "llama_cpp--cpu-default": ("hw=cpu", "hw.cores=2"),
    "llama_cpp--cpu-native": ("hw=cpu", "hw.cores=2", "engine=llama_cpp", "engine.build=native"),
    "llama_cpp--cuda-native-july": (
        "model=qwen2-instruct", "hw=cuda", "engine=llama_cpp", "engine.build=native", "rules=xinference-2024-07",
    ),
    "vllm--cuda-awq": ("model=qwen2-instruct", "hw=cuda", "model.format=awq"),
    "vllm--cuda-modelscope": ("model=qwen2-instruct", "hw=cuda", "model.hub=modelscope"),
    "vllm--h100-8": ("model=qwen2-instruct", "model.size=7", "hw=h100", "hw.gpus=8"),
    "vllm--cuda-12": ("model=qwen2-instruct", "hw=cuda", "engine=vllm", "engine.torch_backend=cu129"),
    "vllm--cpu-november": ("hw=cpu", "hw.cores=2", "engine=vllm", "rules=engines-2026-11"),
    "vllm--cpu-float32": ("hw=cpu", "hw.cores=2", "engine=vllm", "dtype=float32", "rules=engines-2026-11"),
    "vllm--rocm-november": ("model=qwen2-instruct", "hw=rocm", "engine=vllm", "rules=engines-2026-11"),
    "vllm--h100-2x8": ("model=llama-3.1-instruct", "model.size=405", "hw=h100", "hw.gpus=8", "hw.nodes=2"),
    "vllm--h100-2x8-ray": (
        *("model=llama-3.1-instruct", "model.size=405", "hw=h100", "hw.gpus=8", "hw.nodes=2", "hw.head=10.0.0.5"),
        *("engine=vllm", "engine.executor=ray"),
    ),
    "sglang--h100-2x8": (
        *("model=qwen2-instruct", "model.size=72", "model.format=pytorch", "hw=h100", "hw.gpus=8", "hw.nodes=2"),
        "engine=sglang",
    ),
    "sglang--h100-8": ("model=qwen2-instruct", "model.size=7", "hw=h100", "hw.gpus=8", "engine=sglang"),
    "sglang--cpu-november": ("hw=cpu", "hw.cores=2", "engine=sglang", "rules=engines-2026-11"),
    "transformers--cpu-november": ("hw=cpu", "hw.cores=2", "engine=transformers", "rules=engines-2026-11"),
    "transformers--cpu-float32": (
        "hw=cpu", "hw.cores=2", "engine=transformers", "dtype=float32", "rules=engines-2026-11",
    ),
    "mlx--cpu-november": ("hw=cpu", "hw.cores=2", "engine=mlx", "rules=engines-2026-11"),
    "mlx--cuda-november": ("model=qwen2-instruct", "hw=h100", "engine=mlx", "rules=engines-2026-11"),
    "mlx--apple-november": ("hw=apple", "engine=mlx", "rules=engines-2026-11"),
    "transformers--cpu-4bit": ("model=qwen2-instruct", "hw=cpu", "model.size=0.5", "model.quantization=4-bit"),
}  # fmt: skip
REFUSED = {
    *(f"{engine}--{on}" for engine in ("vllm", "sglang") for on in ("cpu", "rocm", "apple", "m3-max", "arc-b580")),
    *(f"mlx--{on}" for on in MACHINES if on not in {"apple", "m3-max"}),
}
"""What the pack of August says no to."""


@cache
def composer() -> Composer:
    return Composer(engines.conf_directories())


def never() -> Hardware:
    pytest.fail("a declared machine must not be read")


@cache
def planned(name: str) -> Planned:
    config = composer().compose([*CASES[name], "home=/xinfer"])
    return flow.plan(flow.ask(config, composer(), detect=never), composer(), python="python3")


def text(name: str, launch: LaunchPlan) -> str:
    """Write a plan down: what was asked, what is installed and started, and why."""
    spec = planned(name).decision.spec
    plugins, core = engines.get("llama_cpp").conf.parent.parent, Path(artefacts.__file__).parents[1]
    lines = [
        f"# {' '.join(CASES[name])}",
        f"# {spec.family} {spec.size} {spec.format} {spec.quantization} on {spec.hub}",
        *(line.replace(str(plugins), "{plugins}").replace(str(core), "{xinfer}") for line in launch.shell()),
        *(f"# {key}: {reason}" for key, reason in launch.because.items()),
        *(f"# note: {note}" for note in launch.notes),
    ]
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize("name", sorted(set(CASES) - REFUSED))
def test_a_plan_is_as_it_was(name: str) -> None:
    """What would be installed and started, and why, changes only on purpose."""
    launch = planned(name).launch
    assert launch is not None, planned(name).decision.because
    assert launch.engine == name.partition("--")[0]
    path = GOLDEN / f"{name}.txt"
    if os.environ.get("XINFER_UPDATE_GOLDEN"):
        path.write_text(text(name, launch), encoding="utf-8")
    assert text(name, launch) == path.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_what_the_pack_refuses_has_no_plan(name: str) -> None:
    """A forced engine that the rules refuse is not planned, and the reason names it."""
    made = planned(name)
    assert made.launch is None
    assert made.decision.because[0].startswith(f"xinference-2024-08 refuses {name.partition('--')[0]}: ")


def test_there_is_a_file_for_every_plan() -> None:
    """None is missing and none is left over."""
    assert {path.stem for path in GOLDEN.iterdir()} == set(CASES) - REFUSED


@pytest.mark.parametrize("name", sorted(set(CASES) - REFUSED))
def test_every_flag_has_its_reason(name: str) -> None:
    """Whatever stands on the command line or in the environment is explained, and nothing else is."""
    launch = planned(name).launch
    assert launch is not None
    commands = [command for node in launch.nodes for command in node.commands] or [launch.argv]
    flags = {
        f"ray {word}" if command[1] == "start" else word
        for command in commands
        for word in command
        if word.startswith("--")
    }
    assert set(launch.because) == flags | set(launch.env)
    assert all(launch.because.values())


def test_every_plan_can_be_pasted() -> None:
    """A shell reads each line, and the words are those of the plan."""
    launches = [launch for name in sorted(set(CASES) - REFUSED) if (launch := planned(name).launch)]
    lines = [line for launch in launches for line in launch.shell()]
    subprocess.run(["bash", "-n", "-c", "\n".join(lines)], check=True)  # noqa: S607
    for launch in [launch for launch in launches if not launch.nodes]:
        *install, command = launch.shell()
        assert [tuple(shlex.split(line)) for line in install] == list(launch.install)
        assert shlex.split(command)[len(launch.without) + len(launch.env) :] == list(launch.argv)


def test_every_profile_is_planned_for() -> None:
    """A new kind of machine needs its plans: another system, instruction set, vendor of GPUs, or none."""

    def kind(profile: str) -> tuple[Any, ...]:
        found = read(conf_dir() / "hw" / f"{profile}.yaml")
        return (found["os"], found["gpu"]["vendor"], bool(found["gpus"]))

    profiles = {path.stem for path in (conf_dir() / "hw").glob("*.yaml")} - {"auto"}
    planned = {words[0].partition("=")[2] for words in MACHINES.values()}
    assert {kind(each) for each in profiles} == {kind(each) for each in planned}


# --- memory and GPUs ---

LLAMA_75B = changed(
    size="75", shape=Shape(architecture="LlamaForCausalLM", layers=80, heads=64, kv_heads=8, head_dim=128),
)  # fmt: skip
LLAMA_7B = changed(shape=Shape(architecture="LlamaForCausalLM", layers=32, heads=32, kv_heads=8, head_dim=128))
TENSOR_FLAG = {"vllm": "--tensor-parallel-size", "sglang": "--tp-size"}
STAGE_FLAG = {"vllm": "--pipeline-parallel-size", "sglang": "--pp-size"}


@pytest.mark.parametrize("name", ["vllm", "sglang"])
def test_as_few_gpus_as_hold_it(name: str) -> None:
    """Seven billion weights need one of eight GPUs, 75 billion need four that share each layer."""
    on = machine(gpus=8, gpu_memory_gib=80)
    small, large = plan(name, on, spec=LLAMA_7B), plan(name, on, spec=LLAMA_75B)
    assert (flag(small, TENSOR_FLAG[name]), small.tensor, small.stages) == (None, 1, 1)
    assert (flag(large, TENSOR_FLAG[name]), large.tensor, large.stages) == ("4", 4, 1)
    assert (small.memory.least_gpus, large.memory.least_gpus) == (1, 3)


@pytest.mark.parametrize("name", ["vllm", "sglang"])
def test_stages_where_the_heads_do_not_split(name: str) -> None:
    """Three GPUs take the layers in three stages."""
    found = plan(name, machine(gpus=3, gpu_memory_gib=80), spec=LLAMA_75B)
    assert (flag(found, STAGE_FLAG[name]), flag(found, TENSOR_FLAG[name]), found.stages) == ("3", None, 3)


@pytest.mark.parametrize("name", ["vllm", "sglang"])
def test_the_users_own_split(name: str) -> None:
    """It is the plan's, once, however it is spelt."""
    found = plan(name, machine(gpus=8, gpu_memory_gib=80), spec=LLAMA_7B, args={"tp": 2, "pp": 2})
    assert (found.tensor, found.stages) == (2, 2)
    assert (flag(found, "--tp"), flag(found, TENSOR_FLAG[name]), flag(found, STAGE_FLAG[name])) == ("2", None, None)


def test_what_vllm_takes_of_a_gpu() -> None:
    """Its share, by default, by the setting or by its flag; the cache, where it is told how much."""
    on = machine(gpus=2, gpu_memory_gib=80, gpu_name="A")
    found = plan("vllm", on, spec=LLAMA_7B).memory
    assert (found.available_gib, found.formula["available_gib"]) == (80 * 0.92, "0.92 of one of 2 x A")
    assert plan("vllm", on, gpu_memory=0.5).memory.available_gib == 40
    assert plan("vllm", on, args={"gpu_memory_utilization": 0.75}).memory.available_gib == 60
    told = plan("vllm", on, kv_gib=3).memory
    assert (told.kv_gib, told.formula["kv_gib"]) == (3, "engine.kv_gib, on each GPU")
    assert (plan("vllm").memory.available_gib, found.overhead_gib) == (None, None)
    assert "no bound is known" in found.formula["overhead_gib"]


def test_what_sglang_leaves_of_a_gpu() -> None:
    """By its own rule, or what the share that it is told leaves."""
    on = machine(gpus=1, gpu_memory_gib=80)
    found = plan("sglang", on).memory
    assert found.overhead_gib == pytest.approx(13904 / 1024)
    assert found.formula["overhead_gib"] == "SGLang's own reserve: 512 + 1.5 x 8192 + 1024 x 1 / 8 + 976 of graphs MiB"
    assert plan("sglang", on, gpu_memory=0.75).memory.overhead_gib == 20
    assert plan("sglang").memory.overhead_gib is None


def test_what_servers_on_a_cpu_set_aside() -> None:
    """As many bytes as their own flags say."""
    spec = changed(shape=Shape(layers=30, heads=9, kv_heads=3, head_dim=64))
    assert plan("vllm", CPU, spec=spec).memory.kv_gib == 2 * 64 * 2**20 / 2**30
    assert plan("vllm", CPU).memory.kv_gib == 4
    found = plan("sglang", CPU, spec=spec).memory
    assert found.kv_gib == 4162 * 23040 / 2**30
    assert found.formula["kv_gib"] == "1 x (4098 + 64) tokens, 23040 bytes each"
    assert plan("sglang", CPU, spec=spec, kv_tokens=100).memory.kv_gib == 100 * 23040 / 2**30
    assert plan("sglang", CPU).memory.kv_gib is None
