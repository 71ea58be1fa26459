"""``aiperf profile``, from a package of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from xinfer.loadgens import foreign
from xinfer.loadgens.foreign import MS, Foreign, Peer, Task
from xinfer.measuring.distribution import describe_groups

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from xinfer.plan import Argv
    from xinfer.spec import Workload

SUMMARY, REQUESTS = "profile_export_aiperf.json", "profile_export.jsonl"
SOURCES = {
    "ttft": "time_to_first_token: from before the connection is made",
    "e2e": "request_latency: to the last content",
    "tpot": "inter_token_latency, with the server's count of tokens",
    "icl": "inter_chunk_latency",
    "duration_s": "from the first request_start_ns to the last request_end_ns",
    "output_tps_full": "all output_sequence_length / duration_s; its own throughput is over the whole phase",
}
NAMES = {"ttft": "time_to_first_token", "e2e": "request_latency", "tpot": "inter_token_latency"}
SUSPICIONS = ("osl_mismatch_count", "usage_discrepancy_count", "credit_drop_count")
"""What it counts where its numbers may be wrong."""
NS = 1_000_000_000
STATISTICS = ("avg", "p50", "p95", "p99")


class _Value(msgspec.Struct, frozen=True):
    value: float | list[float]


class _About(msgspec.Struct, frozen=True):
    benchmark_phase: str
    request_start_ns: int
    request_end_ns: int


class _Error(msgspec.Struct, frozen=True):
    message: str
    code: int | None = None


class _Request(msgspec.Struct, frozen=True):
    metadata: _About
    metrics: dict[str, _Value] = {}
    error: _Error | None = None

    def plain(self, name: str) -> float | None:
        """Return one of its plain values; null where it has none."""
        found = self.metrics.get(name)
        return None if found is None or isinstance(found.value, list) else found.value

    def gaps(self) -> Iterator[float]:
        """Yield the milliseconds between its chunks of text."""
        found = self.metrics.get("inter_chunk_latency")
        yield from found.value if found and isinstance(found.value, list) else ()


class AiPerf(Peer):
    """AIPerf's client: several processes, aiohttp."""

    name = "aiperf"
    title = "aiperf profile"
    packages = ("aiperf",)
    installs = (("aiperf==0.13.0",),)
    results = (SUMMARY, REQUESTS)

    def argv(self, task: Task) -> Argv:
        """Return the command line: synthetic text of about the asked length, no two alike."""
        work = task.workload
        foreign.check(self, work, loads=("closed", "constant", "poisson", "offline"), prefix=True)
        shared = foreign.shared_tokens(work)
        prefix = ("--prompt-prefix-pool-size", "1", "--prompt-prefix-length", str(shared)) if shared else ()
        body = msgspec.json.encode({"temperature": 0, **task.request}).decode()
        return (
            *(task.python, "-m", "aiperf", "profile", "--url", task.url, "--model", task.model),
            *("--endpoint-type", "completions", "--streaming", "--use-legacy-max-tokens", "--extra-inputs", body),
            *("--tokenizer", task.tokenizer, "--use-server-token-count"),
            *(("--tokenizer-trust-remote-code",) if task.trusted else ()),
            *("--prompt-input-tokens-mean", str(work.input_tokens - shared), "--prompt-input-tokens-stddev", "0"),
            *("--prompt-output-tokens-mean", str(work.output_tokens), "--prompt-output-tokens-stddev", "0", *prefix),
            *("--request-count", str(work.requests), "--warmup-request-count", str(work.warmups), *_arrivals(work)),
            *("--request-timeout-seconds", f"{work.timeout_s:g}", "--random-seed", str(task.seed)),
            *("--ui-type", "none", "--no-gpu-telemetry", "--no-server-metrics"),
            *("--output-artifact-dir", task.directory),
        )

    def variables(self, task: Task) -> dict[str, str]:
        """Return what keeps it silent; told to be offline, 0.13 takes a tokenizer's folder for an id and fails."""
        offline = {"HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"}
        return {name: value for name, value in foreign.offline(task).items() if name not in offline}

    def read(self, files: Mapping[str, bytes], task: Task) -> Foreign:
        """Return what it found, from its summary and its file with every request's values."""
        summary = foreign.decoded(self, files.get(SUMMARY), dict)
        own, sent = dict(_own(summary)), self._requests(files)
        fine = [one for one in sent if one.error is None]
        duration_s = _duration_s([one.metadata for one in sent])
        tokens = sum(one.plain("output_sequence_length") or 0.0 for one in fine)
        raw = {name: foreign.seconds(one.plain(theirs) for one in fine) for name, theirs in NAMES.items()}
        metrics = foreign.timed(
            raw, requests=len(sent), failed=len(sent) - len(fine), duration_s=duration_s,
            icl=describe_groups([gap / MS for gap in one.gaps()] for one in fine),
            output_tps_full=tokens / duration_s if duration_s else None,
        )  # fmt: skip
        counts = {name: round(own.get(f"{name}.avg", 0)) for name in SUSPICIONS}
        return Foreign(
            source=self.title, metrics=metrics, raw=raw, sources=SOURCES, own=own,
            warnings=tuple(f"{name}: {count} of {len(sent)} requests" for name, count in counts.items() if count),
            errors=foreign.kinds(f"{e.code or ''} {e.message}" for one in sent if (e := one.error)),
            notes=("its prompts have about the asked length", *foreign.differences(task.workload)),
        )  # fmt: skip

    def _requests(self, files: Mapping[str, bytes]) -> list[_Request]:
        """Return the measured requests: its file has those of the warm-up too."""
        lines = files.get(REQUESTS, b"").splitlines()
        found = [foreign.decoded(self, line, _Request) for line in lines]
        return [one for one in found if one.metadata.benchmark_phase == "profiling"]


def _duration_s(about: list[_About]) -> float:
    start_ns = min((one.request_start_ns for one in about), default=0)
    return (max((one.request_end_ns for one in about), default=0) - start_ns) / NS


def _arrivals(work: Workload) -> tuple[str, ...]:
    match work.load:
        case "constant" | "poisson":
            return ("--request-rate", f"{work.rate}", "--arrival-pattern", work.load)
        case "offline":
            return ("--concurrency", str(work.requests))
        case _:
            return ("--concurrency", str(work.concurrency))


def _own(summary: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """Yield its own statistics, named ``name.avg``, ``name.p50`` and so on."""
    for name, group in summary.items():
        if isinstance(group, dict) and "unit" in group:
            yield from ((f"{name}.{part}", group[part]) for part in STATISTICS if group.get(part) is not None)
