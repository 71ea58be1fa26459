"""The pack of today's engines beside the registries of the installed ones: neither has what the other denies."""

from __future__ import annotations

import json
import subprocess
from functools import cache
from typing import TYPE_CHECKING

import msgspec
import pytest

from xinfer import engines, flow
from xinfer.config.compose import Composer, conf_dir, read
from xinfer.environments.environment import provision
from xinfer.judging import packs
from xinfer.judging.disagreement import TODAY
from xinfer.planning import artefacts
from xinfer.versions import Bounds

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from background import Background

    from xinfer.judging.rules import Condition

pytestmark = pytest.mark.e2e
COMPOSER = Composer(engines.conf_directories())

READING = """
import ast, importlib.util, json, pathlib, sys

def folder(package):
    return pathlib.Path(importlib.util.find_spec(package).origin).parent

def tree(path):
    return ast.parse(path.read_text(encoding="utf-8"))

def assigned(body):
    for node in body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            yield node.targets[0].id, node.value
        elif isinstance(node, ast.AnnAssign) and node.value is not None:
            yield node.target.id, node.value

def words(node):
    return [part.value for part in ast.walk(node) if isinstance(part, ast.Constant) and isinstance(part.value, str)]

def keys(node):
    return [key.value for key in getattr(node, "keys", ()) if isinstance(key, ast.Constant)]
"""
"""How a registry is read without importing the engine, which would take half a minute."""
VLLM = """
registry = dict(assigned(tree(folder("vllm") / "model_executor" / "models" / "registry.py").body))
gone = set(keys(registry["_PREVIOUSLY_SUPPORTED_MODELS"]))
found = {key for name, node in registry.items() if name.endswith("_MODELS") for key in keys(node)}
print(json.dumps(sorted(found - gone)))
"""
SGLANG = """
found = []
for path in (folder("sglang") / "srt" / "models").glob("*.py"):
    body = tree(path).body
    for name, node in assigned(body):
        if name == "EntryClass":
            found += [part.id for part in ast.walk(node) if isinstance(part, ast.Name)]
print(json.dumps(sorted(found)))
"""
TRANSFORMERS = """
mappings = assigned(tree(folder("transformers") / "models" / "auto" / "modeling_auto.py").body)
print(json.dumps(sorted({word for name, node in mappings if name.endswith("_MAPPING_NAMES") for word in words(node)})))
"""
MLX = """
mappings = assigned(tree(folder("transformers") / "models" / "auto" / "modeling_auto.py").body)
types = json.loads(sys.argv[1])
for name, node in mappings:
    if name in ("MODEL_FOR_CAUSAL_LM_MAPPING_NAMES", "MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES"):
        for pair in ast.walk(node):
            if isinstance(pair, ast.Tuple) and len(names := words(pair)) >= 2:
                for architecture in names[1:]:
                    types.setdefault(architecture, []).append(names[0])
home = folder("mlx_lm")
modules = {path.stem for path in (home / "models").glob("*.py")}
remapped = {}
for name, node in assigned(tree(home / "utils.py").body):
    if name == "MODEL_REMAPPING":
        remapped = ast.literal_eval(node)
found = [each for each, of in types.items() if any(remapped.get(one, one) in modules for one in of)]
print(json.dumps(sorted(found)))
"""
LLAMA_CPP = """
names = json.loads(sys.argv[1])
spec = importlib.util.find_spec("xllamacpp")
programs = [path for path in pathlib.Path(spec.origin).parent.rglob("*.so")] if spec else []
programs += pathlib.Path(sys.prefix, "lib").glob("libllama*")
parts = [path.read_bytes() for path in programs]
found = [each for each, own in names.items() if any(own.encode() + bytes(1) in part for part in parts)]
print(json.dumps(sorted(found)))
"""
"""llama.cpp's own names of networks stand in its program, each ended by a zero."""
TYPES = {
    "QWenLMHeadModel": ["qwen"], "InternLM2ForCausalLM": ["internlm2"], "InternLMForCausalLM": ["internlm"],
    "InternLM3ForCausalLM": ["internlm3"],
    "MiniCPMForCausalLM": ["minicpm"], "DeepseekForCausalLM": ["deepseek"], "ChatGLMModel": ["chatglm"],
    "OrionForCausalLM": ["orion"], "BaiChuanForCausalLM": ["baichuan"], "BaichuanForCausalLM": ["baichuan"],
}  # fmt: skip
"""``model_type`` in the config.json of those networks that transformers has no class for."""
NAMES = {
    "MistralForCausalLM": "llama", "MixtralForCausalLM": "llama", "Gemma3ForConditionalGeneration": "gemma3",
    "Gemma4ForCausalLM": "gemma4", "Gemma4ForConditionalGeneration": "gemma4", "DeepseekV2ForCausalLM": "deepseek2",
    "DeepseekV3ForCausalLM": "deepseek2", "Glm4MoeForCausalLM": "glm4moe", "Glm4MoeLiteForCausalLM": "deepseek2",
    "Olmo2ForCausalLM": "olmo2", "Olmo3ForCausalLM": "olmo2", "GraniteMoeForCausalLM": "granitemoe",
    "GraniteMoeHybridForCausalLM": "granitehybrid", "ChatGLMModel": "chatglm", "InternLM3ForCausalLM": "llama",
    "BaichuanForCausalLM": "baichuan", "BaiChuanForCausalLM": "baichuan", "GlmForCausalLM": "chatglm",
    "Llama4ForConditionalGeneration": "llama4", "Mistral3ForConditionalGeneration": "mistral3",
    "Ministral3ForCausalLM": "mistral3", "Qwen3_5ForCausalLM": "qwen35", "Qwen3_5ForConditionalGeneration": "qwen35",
    "Qwen3_5MoeForConditionalGeneration": "qwen35moe", "Gemma3nForConditionalGeneration": "gemma3n",
    "Ernie4_5_MoeForCausalLM": "ernie4_5-moe", "MiniMaxM2ForCausalLM": "minimax-m2", "Lfm2MoeForCausalLM": "lfm2moe",
    "MiMoV2FlashForCausalLM": "mimo2",
}  # fmt: skip
"""The same for what ``conf/architectures.yaml`` leaves out, as several networks share a name."""


@pytest.fixture(scope="module", autouse=True)
def _compiling(request: pytest.FixtureRequest, background: Background) -> Iterator[None]:
    """Compile llama.cpp beside: that takes all that installing the others leaves of the cores, and would all of them.

    Whether it succeeds is for its own tests to say.
    """
    is_begun = background.begin("test_llama_cpp_native", request.session)
    yield
    if is_begun:
        background.end("test_llama_cpp_native")


@cache
def conditions(engine: str) -> dict[str, Condition]:
    return {condition.id: condition for condition in packs.named(TODAY, COMPOSER).engines[engine]}


def rule(engine: str, name: str, operator: str) -> set[str]:
    """Return what a condition lists, spliced as the pack does it."""
    body = COMPOSER.rules(TODAY)["engines"][engine][name][operator]
    return {each for part in body for each in (part if isinstance(part, list) else [part])}


def is_in_force(engine: str, name: str, version: str | None) -> bool:
    bounds: Bounds | None = conditions(engine)[name].bounds
    return bounds is None or bounds.outside(version) is False


def gguf_names() -> dict[str, str]:
    own = read(conf_dir() / "architectures.yaml")["gguf"]
    return {architecture: name for name, architecture in own.items()} | NAMES


ENGINES = {
    "vllm": (VLLM, "null"),
    "sglang": (SGLANG, "null"),
    "transformers": (TRANSFORMERS, "null"),
    "mlx": (MLX, json.dumps(TYPES)),
    "llama_cpp": (LLAMA_CPP, json.dumps(gguf_names())),
}


@pytest.mark.parametrize("engine", ENGINES)
def test_what_the_pack_lists_is_what_the_engine_has(engine: str, home: Path) -> None:
    """Every network that the pack lists is in the installed engine's registry, and none that it says is missing."""
    config = COMPOSER.compose([f"engine={engine}", f"rules={TODAY}", f"home={home}"])
    launch = flow.plan(flow.ask(config, COMPOSER), COMPOSER).launch
    assert launch is not None
    assert launch.environment is not None
    provision(msgspec.structs.replace(launch, weights=()), progress=lambda _: None, log=home / "log")
    program, argument = ENGINES[engine]
    python = artefacts.interpreter(launch.environment.path)
    argv = [python, "-I", "-c", READING + program, argument]
    known = set(json.loads(subprocess.run(argv, capture_output=True, text=True, check=True, timeout=60).stdout))

    gone = {
        each
        for name, condition in conditions(engine).items()
        if name.startswith(("removed-", "missing-")) and is_in_force(engine, name, launch.version)
        for each in rule(engine, condition.id, "not_in")
    }
    listed = rule(engine, "architecture", "in")
    assert listed - gone - known == set(), f"{engine} {launch.version} has none of these"
    assert gone & known == set(), f"{engine} {launch.version} has these"
