"""Plans of the real engines, as the formats of ``xinfer plan`` get them."""

from __future__ import annotations

from functools import cache

from xinfer import engines
from xinfer.config.compose import Composer
from xinfer.deploying import formats
from xinfer.deploying.deployment import Deployment
from xinfer.verbs import artefact

CASES = {
    "vllm-cuda": "model=qwen2-instruct hw=cuda",
    "vllm-cuda-4": "model=qwen2-instruct hw=h100 hw.gpus=4 engine=vllm engine.args.tensor-parallel-size=4",
    "vllm-cuda-12": "model=qwen2-instruct hw=cuda engine=vllm engine.torch_backend=cu129",
    "vllm-rocm": "model=qwen2-instruct hw=rocm engine=vllm rules=engines-2026-11",
    "vllm-cpu": "hw=cpu hw.cores=8 hw.arch=x86_64 engine=vllm rules=engines-2026-11",
    "vllm-cpu-of-any-kind": "hw=cpu hw.cores=8 engine=vllm rules=engines-2026-11",
    "vllm-modelscope": "model=qwen2-instruct hw=cuda model.hub=modelscope engine=vllm",
    "vllm-key": "model=qwen2-instruct hw=cuda engine=vllm api_key_env=SERVER_KEY",
    "sglang-cuda-8": "model=qwen2-instruct model.size=7 hw=h100 hw.gpus=8 engine=sglang",
    "sglang-cpu": "hw=cpu hw.cores=2 engine=sglang rules=engines-2026-11",
    "llama_cpp-cpu": "hw=cpu hw.cores=8",
    "llama_cpp-cuda-key": "model=qwen2-instruct hw=cuda engine=llama_cpp api_key_env=SERVER_KEY",
    "llama_cpp-native": "hw=cpu hw.cores=8 engine=llama_cpp engine.build=native",
    "transformers-cuda": "model=qwen2-instruct hw=h100 hw.gpus=4 engine=transformers",
    "mlx-cpu": "hw=cpu hw.cores=2 engine=mlx rules=engines-2026-11",
    "a-quoted-home": "hw=cpu home=/srv/its'_$HOME_%h engine=llama_cpp",
}
"""One plan for each way in which the artefacts differ."""


@cache
def composer() -> Composer:
    return Composer(engines.conf_directories())


@cache
def deployment(typed: str, how: str = "slurm") -> Deployment:
    """Return what a command line's artefact is made from."""
    words = ["home=/home/me/.cache/xinfer", *typed.split()]
    planned = artefact.plan(how, composer().compose(words), composer(), python="python3")
    assert planned.launch is not None, planned.decision.because
    return artefact.deployment(planned, planned.launch, typed.split())


def text(typed: str, how: str) -> str:
    """Return the artefact of a command line."""
    return formats.text(how, deployment(typed, how))
