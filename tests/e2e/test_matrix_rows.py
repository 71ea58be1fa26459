"""The rows of a matrix with a real engine: those that are expected to run do, and the others are not started."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.e2e

CPU = Path(__file__).parents[2] / "matrix" / "cpu.yaml"


def test_the_rows_of_one_engine_come_out_as_expected(tmp_path: Path, home: Path) -> None:
    """The canary is one of them; each that ran has its numbers, and what its engine cannot read has none."""
    words = ("matrix", str(CPU), "filter=engine=llama_cpp", "measure=true", "format=json")
    done = subprocess.run(
        [sys.executable, "-m", "xinfer", *words],
        cwd=tmp_path, env={**os.environ, "XINFER_HOME": str(home)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)["rows"]
    assert rows[0]["is_canary"]
    ran = [row for row in rows if row["expect"] == "runs"]
    assert (len(rows), len(ran)) == (7, 3)
    assert all(not row["records"] for row in rows if row not in ran)
    for row in ran:
        (path,) = row["records"]
        record = json.loads(tmp_path.joinpath(path).read_bytes())
        assert (record["status"], record["metrics"]["failed"]) == ("ok", 0)
