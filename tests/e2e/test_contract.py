"""The five engines keep the contract, with the real model."""

from __future__ import annotations

import pytest

from xinfer.testing import EngineContract

pytestmark = pytest.mark.e2e

RULES = "rules=engines-2026-11"
SHORTER = 192
"""Words of a prompt that even an engine without fast kernels for this CPU reads in two seconds, and none in 0.05."""


class TestLlamaCpp(EngineContract):
    engine = "llama_cpp"
    overrides = (RULES,)
    prompt_words = SHORTER


class TestTransformers(EngineContract):
    engine = "transformers"
    overrides = (RULES,)
    prompt_words = SHORTER
    reports_cached_tokens = False


class TestVllm(EngineContract):
    engine = "vllm"
    overrides = (RULES,)


class TestSglang(EngineContract):
    engine = "sglang"
    overrides = (RULES,)


class TestMlx(EngineContract):
    engine = "mlx"
    overrides = (RULES,)
    prompt_words = SHORTER
