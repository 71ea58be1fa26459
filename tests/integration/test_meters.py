"""The real meters, on this machine: what they measure is possible, and grows with what is done."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import xinfer
from xinfer.machine import fingerprint, hardware
from xinfer.measuring import ceilings

PROCESSOR = Path(xinfer.__file__).parent / "meters" / "processor.py"
ACCELERATOR = PROCESSOR.with_name("accelerator.py")
ONE_EACH = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}


def ask(program: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-I", str(program), *words], capture_output=True, text=True, check=False, timeout=60,
        env={**os.environ, **ONE_EACH},
    )  # fmt: skip


def told(*words: str) -> dict[str, Any]:
    done = ask(PROCESSOR, *words)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("threads", ["1", "2"])
def test_the_processor(threads: str) -> None:
    """Its best is no less than its median, and between what no computer is as slow and none as fast as."""
    found = told(threads, "128", "0.05")
    for rate, least, most in (
        (found["bandwidth"], 1e8, 1e14),
        (found["flops"]["float32"], 1e8, 1e15),
    ):
        assert least < rate["median"] <= rate["best"] < most
        assert rate["rounds"] >= 5
        assert rate["kernel"]
    assert set(found["notes"]) == {"bfloat16", "int8"}


def test_this_machine_has_ceilings(tmp_path: Path) -> None:
    """Whether or not others work beside it; only undisturbed figures are kept."""
    here = hardware.detect()
    said: list[str] = []
    found = ceilings.measured(here, tmp_path, progress=said.append)
    assert found.bandwidth is not None
    assert found.flops["float32"] > 0
    assert found.fingerprint == fingerprint.take(here).id
    assert len(said) == 1
    assert len(list((tmp_path / "ceilings").glob("*.json"))) == (0 if found.busy else 1)


def test_without_pytorch_the_other_meter_says_so() -> None:
    """This environment has none: the meter is for an engine's."""
    done = ask(ACCELERATOR, "cpu", "bfloat16", "1", "0.1")
    assert done.returncode == 1
    assert done.stderr.strip().splitlines()[-1] == "ModuleNotFoundError: No module named 'torch'"
