"""What a sweep costs beside its measuring. No time is asserted; with ``-s``, the table at the end says what it was."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING, Any

import pytest
from speed_table import Result, printed

from xinfer import engines
from xinfer.config.compose import Composer
from xinfer.verbs import sweep

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from xinfer.record import Record
    from xinfer.verbs.sweep import Cell

MODELS = "model=smollm2-135m-instruct,qwen2-instruct,llama-3-instruct,Qwen3-Instruct"
AXES = (
    *(MODELS, "engine=vllm,sglang,transformers,llama_cpp,mlx", "workload=smoke,chat"),
    *("workload.concurrency=1,2,4,8,16", "workload.requests=10,20,30,40,50"),
)
REFUSED = ("model=qwen2-instruct", "engine=mlx", "hw=cuda", f"workload.requests=range(1,{1001})")
FINISHED = ("engine=llama_cpp", f"workload.requests=range(1,{1001})")

table = pytest.fixture(printed, scope="module")


class Finished:
    """Stands for the measuring: every cell ends at once, with numbers and as many findings as a real run has."""

    is_elsewhere = False

    def __init__(self) -> None:
        """Count what is asked for."""
        self.calls = 0

    def measured(self, cells: Sequence[Cell], tell: Callable[[Record], None]) -> None:
        """Close every cell."""
        for cell in cells:
            self.calls += 1
            cell.last._fields |= {"metrics": {"output_tps": 1.0}, "resources": {"seen": ["x" * 60] * 500}}
            tell(cell.last.close(None))

    def kept(self, cell: Cell, *, resume: str) -> tuple[Record, ...]:  # noqa: ARG002 -- the protocol's names
        """Return nothing: all is here."""
        return ()


@pytest.fixture
def composer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Composer:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XINFER_HOME", str(tmp_path / "home"))
    return Composer(engines.conf_directories())


def cells(composer: Composer, words: Sequence[str], benchmark: Any) -> list[list[str]]:
    """Return the cells of a sweep; a few of them where nothing is measured."""
    found = composer.expand(words)
    return found[:: len(found) // 10] if benchmark.disabled else found


def median_s(benchmark: Any) -> float:
    return 0.0 if benchmark.stats is None else float(statistics.median(benchmark.stats.stats.data))


def test_a_dry_sweep(benchmark: Any, table: list[Result], composer: Composer) -> None:
    """Composed, judged, planned and told; nothing was composed before."""
    asked = cells(composer, [*AXES, "dry=true"], benchmark)
    code = benchmark.pedantic(lambda: sweep.run(asked, composer, multirun=True), rounds=3)
    assert code == 0
    table.append(Result(f"{len(asked)} cells composed and judged", f"{median_s(benchmark):.1f} s", "below 10 s"))


def test_refused_cells(benchmark: Any, table: list[Result], composer: Composer) -> None:
    """With a record and a row of the table for each."""
    asked = cells(composer, [*REFUSED, "resume=off"], benchmark)
    code = benchmark.pedantic(lambda: sweep.run(asked, composer, multirun=True), rounds=3)
    assert code == 3
    each_ms = 1000 * median_s(benchmark) / len(asked)
    table.append(Result(f"a refused cell, one of {len(asked)}", f"{each_ms:.1f} ms", "below 15 ms"))


def test_a_finished_sweep(benchmark: Any, table: list[Result], composer: Composer, tmp_path: Path) -> None:
    """The same command once more: nothing is left to do, and the table is printed again."""
    asked, carrier = cells(composer, FINISHED, benchmark), Finished()
    assert sweep.run(asked, composer, multirun=True, carrier=carrier) == 0
    assert carrier.calls == len(asked)
    code = benchmark.pedantic(lambda: sweep.run(asked, composer, multirun=True, carrier=carrier), rounds=3)
    assert (code, carrier.calls) == (0, len(asked))
    size_kib = next(tmp_path.glob("runs/*/*/record.json")).stat().st_size / 1024
    said = f"a finished sweep of {len(asked)} cells again, records of {size_kib:.0f} KiB"
    table.append(Result(said, f"{median_s(benchmark):.1f} s", "below 5 s"))
