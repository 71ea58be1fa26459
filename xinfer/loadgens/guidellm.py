"""``guidellm run``, from a package of its own.

It is told everything in a scenario file: in the syntax of its flags, a path with a comma is two words.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from xinfer.errors import RequestError
from xinfer.loadgens import foreign
from xinfer.loadgens.foreign import Foreign, Peer, Task

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from xinfer.plan import Argv
    from xinfer.spec import Workload

SCENARIO = "guidellm-scenario.json"
RESULT = "guidellm.json"
SOURCES = {
    "ttft": "time_to_first_token_ms: from before the connection is made, by the clock on the wall",
    "e2e": "time_per_output_token_ms * output_tokens; its own request_latency goes on to the end of the stream",
    "tpot": "inter_token_latency_ms; its own time per output token includes the TTFT",
    "duration_s": "from the first request_start_time to the last request_end_time",
    "output_tps_full": "all output_tokens / duration_s; its own output tokens per second are weighted by time",
}


NOTES = (
    "its prompts have about the asked length",
    "it has no warm-up of its own by requests: the first are left out here, and are in its own figures",
)


class _Info(msgspec.Struct, frozen=True):
    error: str | None = None


class _Request(msgspec.Struct, frozen=True):
    info: _Info = _Info()
    request_start_time: float | None = None
    request_end_time: float | None = None
    output_tokens: int | None = None
    time_to_first_token_ms: float | None = None
    time_per_output_token_ms: float | None = None
    inter_token_latency_ms: float | None = None

    @property
    def e2e_ms(self) -> float | None:
        """From its start to its last token."""
        each = self.time_per_output_token_ms
        return each * self.output_tokens if each is not None and self.output_tokens else None


class _Requests(msgspec.Struct, frozen=True):
    successful: list[_Request]
    errored: list[_Request]
    incomplete: list[_Request]

    def measured(self, warmups: int) -> tuple[list[_Request], int]:
        """Return the requests that succeeded and how many did not, without those that were sent first."""
        fine = [(one, True) for one in self.successful]
        rows = fine + [(one, False) for one in (*self.errored, *self.incomplete)]
        rows.sort(key=lambda row: row[0].request_start_time or 0.0)
        kept = rows[warmups:]
        return [one for one, is_fine in kept if is_fine], sum(not is_fine for _, is_fine in kept)


class _Warning(msgspec.Struct, frozen=True):
    code: str
    message: str


class _Benchmark(msgspec.Struct, frozen=True):
    requests: _Requests
    metrics: dict[str, Any]
    warnings: list[_Warning]


class _Result(msgspec.Struct, frozen=True):
    benchmarks: list[_Benchmark]


class GuideLlm(Peer):
    """GuideLLM's client: up to ten processes, httpx."""

    name = "guidellm"
    title = "guidellm run"
    packages = ("guidellm",)
    # Of PyTorch it needs the loader of data alone; the build for CPUs is a fifth of PyPI's, which is for CUDA.
    installs = (
        ("--no-deps", "torch==2.13.0", "--extra-index-url", "https://download.pytorch.org/whl/cpu"),
        ("guidellm==0.8.1",),
    )
    results = (RESULT,)
    key_variable = "GUIDELLM__SPEC__BACKEND__API_KEY"

    def argv(self, task: Task) -> Argv:
        """Return the command line, which names the scenario."""
        foreign.check(self, task.workload, loads=("closed", "constant", "poisson", "offline"), prefix=True)
        scenario = f"{task.directory}/{SCENARIO}"
        return (task.python, "-m", "guidellm", "run", "--config", scenario, "--disable-console-interactive")

    def inputs(self, task: Task) -> dict[str, bytes]:
        """Return the scenario: synthetic text of about the asked length, no two alike."""
        work = task.workload
        shared = foreign.shared_tokens(work)
        prefix = {"prefix_tokens": shared, "prefix_count": 1} if shared else {}
        options = {"trust_remote_code": True} if task.trusted else {}
        spec = {
            "backend": {
                "kind": "openai_http", "target": task.url, "model": task.model, "request_format": "/v1/completions",
                "timeout": work.timeout_s, "extras": {"body": {"temperature": 0, **task.request}},
            },
            "profile": _profile(work),
            "constraints": [{"kind": "max_requests", "count": work.warmups + work.requests}],
            "tokenizer": {"kind": "huggingface_auto", "model": task.tokenizer, "load_kwargs": options},
            "data": [
                {
                    "kind": "synthetic_text", "prompt_tokens": work.input_tokens - shared,
                    "output_tokens": work.output_tokens, **prefix,
                }
            ],
            "seed": {"kind": "static", "value": task.seed},
            "metrics": {"kind": "generative", "sample_size": 0},
            "outputs": [{"kind": "json", "path": f"{task.directory}/{RESULT}"}],
        }  # fmt: skip
        return {SCENARIO: msgspec.json.format(msgspec.json.encode({"spec": spec}))}

    def variables(self, task: Task) -> dict[str, str]:
        """Return what keeps it offline."""
        return foreign.offline(task)

    def read(self, files: Mapping[str, bytes], task: Task) -> Foreign:
        """Return what it found, from its report with every request's times."""
        report = foreign.decoded(self, files.get(RESULT), _Result)
        if not report.benchmarks:
            raise RequestError(f"{self.title} made no benchmark")
        found, work = report.benchmarks[0], task.workload
        fine, failed = found.requests.measured(work.warmups)
        duration_s = _duration_s(fine)
        tokens = sum(one.output_tokens or 0 for one in fine)
        raw = {
            "ttft": foreign.seconds(one.time_to_first_token_ms for one in fine),
            "e2e": foreign.seconds(one.e2e_ms for one in fine),
            "tpot": foreign.seconds(one.inter_token_latency_ms for one in fine),
        }
        metrics = foreign.timed(
            raw, requests=len(fine) + failed, failed=failed, duration_s=duration_s,
            output_tps_full=tokens / duration_s if duration_s else None,
        )  # fmt: skip
        return Foreign(
            source=self.title, metrics=metrics, raw=raw, sources=SOURCES, own=dict(_own(found.metrics)),
            warnings=tuple(f"{warning.code}: {warning.message}" for warning in found.warnings),
            errors=foreign.kinds(one.info.error or "" for one in found.requests.errored),
            notes=(*NOTES, *foreign.differences(work)),
        )  # fmt: skip


def _duration_s(fine: list[_Request]) -> float:
    starts = [one.request_start_time for one in fine if one.request_start_time is not None]
    ends = [one.request_end_time for one in fine if one.request_end_time is not None]
    return max(ends) - min(starts) if starts and ends else 0.0


def _profile(work: Workload) -> dict[str, Any]:
    match work.load:
        case "constant" | "poisson":
            return {"kind": work.load, "rate": [work.rate]}
        case "offline":
            return {"kind": "throughput", "max_concurrency": None}
        case _:
            return {"kind": "concurrent", "streams": [work.concurrency]}


def _own(metrics: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """Yield its own statistics of the requests that succeeded, named ``name.mean``, ``name.p50`` and so on."""
    for name, group in metrics.items():
        found = group.get("successful") if isinstance(group, dict) else None
        if isinstance(found, dict) and "percentiles" in found:
            yield f"{name}.mean", found["mean"]
            yield from ((f"{name}.{p}", found["percentiles"][p]) for p in ("p50", "p95", "p99"))
