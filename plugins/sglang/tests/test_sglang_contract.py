"""SGLang keeps the contract, with the real model."""

from __future__ import annotations

import pytest

from xinfer.testing import EngineContract

pytestmark = pytest.mark.e2e


class TestSglang(EngineContract):
    engine = "sglang"
    overrides = ("rules=engines-2026-11",)
