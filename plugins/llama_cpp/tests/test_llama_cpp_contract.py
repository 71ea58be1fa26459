"""llama.cpp keeps the contract, with the real model."""

from __future__ import annotations

import pytest

from xinfer.testing import EngineContract

pytestmark = pytest.mark.e2e


class TestLlamaCpp(EngineContract):
    engine = "llama_cpp"
    overrides = ("rules=engines-2026-11",)
    prompt_words = 192  # it reads so many in two seconds here, and none in 0.05
