"""``llama-bench``, which llama.cpp's compilation leaves beside llama-server: the model in a process of its own."""

from __future__ import annotations

from itertools import pairwise
from pathlib import PurePath
from typing import TYPE_CHECKING

import msgspec

from xinfer.errors import ConfigError, RequestError
from xinfer.loadgens import foreign
from xinfer.loadgens.foreign import LOG, Foreign, Inproc, Peer, Task
from xinfer.measuring.distribution import Distribution, describe

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from xinfer.plan import Argv

SHARED = {
    "--model": "-m",
    "--threads": "-t",
    "--n-gpu-layers": "-ngl",
    "--cache-type-k": "-ctk",
    "--cache-type-v": "-ctv",
    "--flash-attn": "-fa",
}
"""The flags of llama-server that it has too, and how it spells them."""
ALL_LAYERS = "999"
SOURCES = {
    "prefill_tps": "samples_ts of the prompt alone",
    "decode_tps": "samples_ts of generation after as many tokens as the prompt has (-d)",
}


class _Test(msgspec.Struct, frozen=True):
    """One line of its output: some tokens read or written, after some others, again and again."""

    n_prompt: int
    n_gen: int
    n_depth: int
    avg_ts: float
    stddev_ts: float
    samples_ts: list[float]

    @property
    def name(self) -> str:
        """As its own table says it."""
        what = f"pp{self.n_prompt}" if self.n_prompt else f"tg{self.n_gen}"
        return f"{what} @ d{self.n_depth}"


class LlamaBench(Peer):
    """llama.cpp's own measurement: no HTTP, no tokenizing, no sampling; random tokens."""

    name = "llama-bench"
    title = "llama-bench"
    scope = "inproc"
    engine = "llama_cpp"
    packages = ("llama-cpp-python", "llama_cpp_python")
    results = (LOG,)

    def argv(self, task: Task) -> Argv:
        """Return the command line, with the flags of the server's own that it has too."""
        program = PurePath(task.launched[0])
        if program.name != "llama-server":
            how = "say engine.build=native, which compiles it beside llama-server"
            raise ConfigError(f"loadgen={self.name}: the wheel of llama.cpp comes without llama-bench; {how}")
        work = task.workload
        return (
            *(str(program.with_name("llama-bench")), *_shared(task.launched), "--offline", "-o", "jsonl"),
            *("-p", str(work.input_tokens), "-n", str(work.output_tokens), "-d", f"0,{work.input_tokens}"),
            *("-r", str(work.requests)),
        )

    def variables(self, task: Task) -> dict[str, str]:  # noqa: ARG002 -- it asks for none
        """Return nothing: it has all by its flags."""
        return {}

    def read(self, files: Mapping[str, bytes], task: Task) -> Foreign:
        """Return what it found, from the lines of JSON among what it wrote."""
        lines = [line for line in files.get(LOG, b"").splitlines() if line.startswith(b"{")]
        tests = [foreign.decoded(self, line, _Test) for line in lines]
        work = task.workload
        prefill = [test for test in tests if test.n_prompt and not test.n_depth]
        decode = [test for test in tests if test.n_gen and test.n_depth]
        if not prefill or not decode:
            raise RequestError(f"{self.title} left {len(tests)} results, and not those of prompt and generation")
        notes = (
            "random tokens, without tokenizing, sampling or HTTP: no figure of a server's is comparable",
            *(
                (f"one sequence at a time, though the workload keeps {work.concurrency}",)
                if work.concurrency > 1
                else ()
            ),
        )
        metrics = Inproc(prefill_tps=_rates(prefill), decode_tps=_rates(decode))
        return Foreign(source=self.title, metrics=metrics, sources=SOURCES, own=dict(_own(tests)), notes=notes)


def _shared(launched: Argv) -> Iterator[str]:
    for flag, value in pairwise(launched):
        if flag in SHARED:
            yield from (SHARED[flag], ALL_LAYERS if (flag, value) == ("--n-gpu-layers", "all") else value)


def _rates(tests: list[_Test]) -> Distribution | None:
    return describe(rate for test in tests for rate in test.samples_ts)


def _own(tests: list[_Test]) -> Iterator[tuple[str, float]]:
    for test in tests:
        yield f"{test.name}: avg_ts", test.avg_ts
        yield f"{test.name}: stddev_ts", test.stddev_ts
