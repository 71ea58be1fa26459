"""``python -m sglang.benchmark.serving``, from the package of SGLang; ``sglang.bench_serving`` is its former name."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import msgspec

from xinfer.errors import ConfigError
from xinfer.loadgens import foreign
from xinfer.loadgens.foreign import Foreign, Peer, Task
from xinfer.measuring.distribution import describe_groups

if TYPE_CHECKING:
    from collections.abc import Mapping

    from xinfer.plan import Argv
    from xinfer.spec import Workload

RESULT = "sglang-bench.jsonl"
SOURCES = {
    "ttft": "ttfts: from before the connection is made, a new one for each request",
    "e2e": "ttfts + sum(itls); its own e2e_latency goes on to [DONE]",
    "tpot": "sum(itls) / (output_lens - 1); its own tpot goes on to [DONE]",
    "icl": "itls",
    "duration_s": "duration",
    "output_tps_full": "output_throughput",
}


class _Result(msgspec.Struct, frozen=True):
    """What is read of its file; each list has an entry for every request, in the order of sending."""

    completed: int
    duration: float
    output_throughput: float
    ttfts: list[float]
    itls: list[list[float]]
    output_lens: list[int]
    errors: list[str]


class SglangBench(Peer):
    """SGLang's benchmark client: one process, aiohttp, a session for each request."""

    name = "sglang-bench"
    title = "sglang.benchmark.serving"
    engine = "sglang"
    packages = ("sglang",)
    additions: ClassVar = {"cpu": (("datasets==5.2.0",),)}
    results = (RESULT,)
    key_variable = "OPENAI_API_KEY"

    def argv(self, task: Task) -> Argv:
        """Return the command line: prompts of successive token ids, of an exact length."""
        work = task.workload
        foreign.check(self, work, loads=("closed", "poisson", "offline"))
        if not task.trusted:
            runs = "executes whatever code comes with a tokenizer, which was not allowed for this one"
            raise ConfigError(f"loadgen={self.name}: it {runs}; say another loadgen=")
        return (
            *(task.python, "-m", "sglang.benchmark.serving"),
            # Its backend for any server with /v1/completions; the one named sglang wants SGLang's own path.
            *("--backend", "vllm", "--base-url", task.url),
            # It looks for a chat template at the place that --model names.
            *("--model", task.tokenizer, "--served-model-name", task.model, "--tokenizer", task.tokenizer),
            *("--dataset-name", "random-ids", "--random-range-ratio", "1.0", "--seed", str(task.seed)),
            *("--random-input-len", str(work.input_tokens), "--random-output-len", str(work.output_tokens)),
            *("--num-prompts", str(work.requests), "--warmup-requests", str(work.warmups), *_arrivals(work)),
            *(("--extra-request-body", msgspec.json.encode(task.request).decode()) if task.request else ()),
            *("--disable-tqdm", "--output-details", "--output-file", f"{task.directory}/{RESULT}"),
        )

    def variables(self, task: Task) -> dict[str, str]:
        """Return what keeps it offline."""
        return foreign.offline(task)

    def read(self, files: Mapping[str, bytes], task: Task) -> Foreign:
        """Return what it found, from its file with every request's values."""
        found = foreign.decoded(self, files.get(RESULT), _Result)
        own = foreign.numbers(foreign.decoded(self, files.get(RESULT), dict))
        rows = zip(found.ttfts, found.itls, found.output_lens, found.errors, strict=True)
        fine = [(ttft, gaps, tokens) for ttft, gaps, tokens, error in rows if not error]
        first, tokens = [ttft for ttft, _, _ in fine], [tokens for _, _, tokens in fine]
        last = [ttft + sum(gaps) for ttft, gaps, _ in fine]
        raw = {"ttft": tuple(first), "e2e": tuple(last), "tpot": foreign.tpots(first, last, tokens)}
        metrics = foreign.timed(
            raw, requests=len(found.errors), failed=len(found.errors) - found.completed, duration_s=found.duration,
            icl=describe_groups(gaps for _, gaps, _ in fine), output_tps_full=found.output_throughput,
        )  # fmt: skip
        notes = (
            "it asks for no usage: where chunks of text have none, the length that was asked for counts as generated",
            "its warm-up sends the first prompt again and again",
            foreign.TIMELESS,
            *foreign.differences(task.workload),
        )
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
    """Return the flags that say when requests are sent; it waits after each, so that its rate falls short a little."""
    match work.load:
        case "poisson":
            return ("--request-rate", f"{work.rate}")
        case "offline":
            return ()
        case _:
            return ("--max-concurrency", str(work.concurrency))
