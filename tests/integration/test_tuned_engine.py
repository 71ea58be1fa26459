"""A tuning through the command line: it finds the setting that really is faster, and keeps what it has measured."""

from __future__ import annotations

from typing import TYPE_CHECKING

from xinfer import record

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable
    from pathlib import Path

    Ask = Callable[..., subprocess.CompletedProcess[str]]

WORDS = (
    "-m", "tune=throughput", "tune.repeats=0", "tune.space.engine.args.threads=[8]", "engine.args.work-s=0.02",
    "engine=fake", "model=fake-model", "rules=fake", "workload=tiny",
)  # fmt: skip


def test_the_faster_setting_is_found_and_nothing_is_measured_twice(command: Ask, tmp_path: Path) -> None:
    """A setting that ends the server is a trial without a value; the same command goes on from the records."""
    done = command(*WORDS)
    assert done.returncode == 0, done.stderr
    assert "best       engine.args.threads=8\n" in done.stdout
    found = [record.read(path) for path in tmp_path.glob("runs/*/*/record.json")]
    assert sorted(each.status for each in found) == ["failed", "failed", "ok", "ok"]
    again = command(*WORDS)
    assert "starting fake" not in again.stderr
    assert [line for line in again.stdout.splitlines() if "settings in" not in line] == [
        line for line in done.stdout.splitlines() if "settings in" not in line
    ]
