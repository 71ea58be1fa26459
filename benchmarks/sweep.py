"""What one sweep saves: the same cells once as a sweep and once as one process each, and how much of it is measuring.

``python benchmarks/sweep.py [ENGINE…] [KEY=VALUE…]`` runs each engine with three workloads and three concurrencies on
this machine and prints a table. Environments and weights are made before, so that neither way pays for them.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from xinfer import engines, record
from xinfer.config.compose import Composer
from xinfer.measuring import load

if TYPE_CHECKING:
    from collections.abc import Sequence

    from xinfer.record import Record

ENGINES = ("llama_cpp", "transformers", "mlx", "vllm", "sglang")
AXES = ("workload=smoke,short,chat", "workload.concurrency=1,2,4")
SERVED = ("rules=engines-2026-11", "context_length=2048")
SHORT = ("workload.output_tokens=16", "workload.requests=4", "workload.seconds=9")
"""The workloads differ in what they read; what they write is cut, or the chat alone takes most of the time."""


class Way(NamedTuple):
    """What became of the cells, and how long that took."""

    name: str
    wall_s: float
    starts: int
    records: list[Record]

    @property
    def row(self) -> tuple[str, ...]:
        """How much of the time was spent measuring, also with each cell's warm-up, and the rest of the table's line."""
        able = [each for each in self.records if each.metrics is not None]
        measuring_s = sum(float((each.metrics or {})["duration_s"]) for each in able)
        shares = (f"{seconds / self.wall_s:.0%}" for seconds in (measuring_s, sum(map(loading_s, able))))
        return self.name, f"{len(able)}/{len(self.records)}", str(self.starts), f"{self.wall_s:.0f}", *shares


def loading_s(made: Record) -> float:
    """Return the seconds from a run's first request to the end of its last, warm-up included."""
    samples = load.read(Path(made.path).with_name("samples.jsonl"))
    return (samples.run.ended_ns - min(each.t_sched for each in samples.samples)) / 1e9


def way(name: str, commands: Sequence[Sequence[str]], place: Path) -> Way:
    """Run commands one after another, and return what they have left below a directory."""
    starts, began_s = 0, time.perf_counter()
    for words in commands:
        argv = [sys.executable, "-m", "xinfer", *words, f"runs={place}"]
        done = subprocess.run(argv, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=False)
        starts += done.stderr.count("\nstarting ") + done.stderr.startswith("starting ")
        sys.stderr.write(f"{name}: {' '.join(words)}: exit code {done.returncode}\n")
    wall_s = time.perf_counter() - began_s
    return Way(name, wall_s, starts, [record.read(path) for path in place.glob("*/*/record.json")])


def main(words: Sequence[str]) -> None:
    """Measure both ways and print the table."""
    named = [word for word in words if "=" not in word] or list(ENGINES)
    own = [word for word in words if "=" in word]
    keys = {word.partition("=")[0] for word in own}
    usual = (word for word in (*AXES, *SERVED, *SHORT) if word.partition("=")[0] not in keys)
    asked = [f"engine={','.join(named)}", *usual, *own]
    cells = Composer(engines.conf_directories()).expand(asked)
    for name in named:
        subprocess.run([sys.executable, "-m", "xinfer", "provision", f"engine={name}", *SERVED], check=True)
    with tempfile.TemporaryDirectory(prefix="xinfer-sweep-") as directory:
        os.chdir(directory)
        ways = [
            way("one sweep", [["-m", *asked]], Path(directory, "sweep")),
            way("one process each", cells, Path(directory, "each")),
        ]
        rows = [("way", "measured", "starts", "wall s", "measuring", "with warm-up"), *(each.row for each in ways)]
    for row in rows:
        print("  ".join(cell.ljust(16) for cell in row).rstrip())
    print(f"one sweep takes {ways[0].wall_s / ways[1].wall_s:.2f} of the time of one process each")


if __name__ == "__main__":
    main(sys.argv[1:])
