"""What the user may say to vLLM's plans, and what is refused."""

from __future__ import annotations

import re
from typing import Any

import msgspec
import pytest
from plans import QWEN2, SMOLLM2, changed, flag
from vllm_plans import CPU, ENGINE, H100, plan

from xinfer import engines
from xinfer.errors import ConfigError
from xinfer.facts import Hardware


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        pytest.param({"args": {"model": "x"}}, "engine.args.model: the plan sets this flag; say model= ", id="model"),
        pytest.param(
            {"args": {"served_model_name": "x"}},
            "engine.args.served-model-name: the plan sets this flag; say model= instead", id="underscores",
        ),
        pytest.param({"args": {"dtype": "half"}}, "engine.args.dtype: the plan sets this flag; say dtype=", id="dtype"),
        pytest.param({"slots": 0}, "engine.slots: expected a whole number >= 1", id="no-slots"),
        pytest.param({"kv_gib": 0}, "engine.kv_gib: expected a number > 0.0", id="no-cache"),
        pytest.param({"gpu_memory": 80}, "engine.gpu_memory: expected a number <= 1.0", id="a-percentage"),
        pytest.param({"torch_backend": "cu118"}, "engine.torch_backend: invalid enum value 'cu118'; it ", id="backend"),
    ],
)  # fmt: skip
def test_settings_that_mean_nothing(settings: dict[str, Any], message: str) -> None:
    """Each message names the key and what it takes, or what to say instead."""
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}"):
        plan(**settings)


def test_flags_with_underscores_are_the_same_flags() -> None:
    """VLLM takes both spellings; the plan has one, so that nothing stands twice."""
    launch = plan(args={"max_num_seqs": 9})
    assert (flag(launch, "--max-num-seqs"), flag(launch, "--max_num_seqs")) == ("9", None)


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


def test_formats() -> None:
    """A GGUF file is refused, with what to choose."""
    others = "gptq or awq or fp8 or compressed-tensors or mxfp4 or modelopt"
    message = f"vllm does not load ggufv2; say model.format=pytorch or {others}"
    with pytest.raises(ConfigError, match=f"^{message}$"):
        plan(spec=changed(SMOLLM2, format="ggufv2", quantization="Q4_1"))


def test_other_systems() -> None:
    """The commands are written out, with a word of warning."""
    assert "these commands are for Linux" in plan(msgspec.structs.replace(CPU, os="darwin")).notes


def test_the_key() -> None:
    """VLLM reads it from its environment: no process shows it."""
    assert engines.key_variables(ENGINE) == {"VLLM_API_KEY": "{key}"}
