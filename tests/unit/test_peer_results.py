"""What is read of the files that each peer really left.

They come from runs against xinfer's reference server: 4 requests of 8 tokens after a warm-up of 2, the first token
after 50 ms, 10 ms between tokens. ``broken``: the last 2 of the 4 were answered with status 500.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from xinfer.errors import RequestError
from xinfer.loadgens.foreign import Foreign, Inproc, Task
from xinfer.loadgens.peers import PEERS
from xinfer.measuring.metrics import Metrics
from xinfer.spec import Workload

RESOURCES = Path(__file__).parent / "resources" / "loadgens"
HTTP = [name for name, peer in PEERS.items() if peer.scope == "http"]
TTFT_S, GAP_S, TOKENS = 0.05, 0.01, 8
OWN_MEDIAN_MS = {
    "vllm-bench": "median_ttft_ms", "sglang-bench": "median_ttft_ms", "aiperf": "time_to_first_token.p50",
}  # fmt: skip


def files(peer: str, kind: str) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (RESOURCES / f"{peer}-{kind}").iterdir()}


def read(peer: str, content: dict[str, bytes], **changes: Any) -> Foreign:
    usual: dict[str, Any] = {"name": "w", "input_tokens": 32, "output_tokens": 8, "requests": 4, "concurrency": 2}
    work = Workload(**usual | changes)
    return PEERS[peer].read(content, Task(python="/p", workload=work, directory="/d", run_id="r"))


def http(found: Foreign) -> Metrics:
    assert isinstance(found.metrics, Metrics)
    return found.metrics


@pytest.mark.parametrize("peer", HTTP)
def test_numbers_are_what_the_server_did(peer: str) -> None:
    """Counts, times and rate stand under our names in our units: seconds, and tokens per second."""
    found = http(read(peer, files(peer, "fine")))
    assert (found.requests, found.failed) == (4, 0)
    assert found.ttft is not None
    assert found.tpot is not None
    assert found.e2e is not None
    assert found.ttft.n == found.tpot.n == found.e2e.n == 4
    assert TTFT_S < found.ttft.min <= found.ttft.p50 < 2 * TTFT_S
    assert found.tpot.p50 == pytest.approx(GAP_S, rel=0.15)
    assert found.e2e.mean == pytest.approx(found.ttft.mean + (TOKENS - 1) * found.tpot.mean, rel=0.01)
    assert found.output_tps_full == pytest.approx(4 * TOKENS / found.duration_s, rel=0.01)


@pytest.mark.parametrize("peer", HTTP)
def test_failures_are_counted_and_not_timed(peer: str) -> None:
    """Two of four failed: they have no latency, and their tokens are in no rate."""
    found = http(read(peer, files(peer, "broken")))
    assert (found.requests, found.failed) == (4, 2)
    assert found.ttft is not None
    assert found.ttft.n == 2
    assert found.ttft.min > TTFT_S
    assert found.output_tps_full == pytest.approx(2 * TOKENS / found.duration_s, rel=0.01)


@pytest.mark.parametrize("peer", HTTP)
def test_what_requests_failed_with_is_said_once(peer: str) -> None:
    """In the peer's words, which have the status or its name."""
    (error,) = read(peer, files(peer, "broken")).errors
    assert "500" in error or "Internal Server Error" in error
    assert read(peer, files(peer, "fine")).errors == ()


@pytest.mark.parametrize("peer", HTTP)
def test_every_number_says_where_it_comes_from(peer: str) -> None:
    """A metric that is not null has a source, and nothing else has."""
    found = read(peer, files(peer, "fine"))
    counts = {"scope", "requests", "failed"}
    numbers = {name for name, value in msgspec.structs.asdict(http(found)).items() if value is not None} - counts
    assert numbers == set(found.sources)


@pytest.mark.parametrize("peer", HTTP)
def test_each_requests_values_are_kept(peer: str) -> None:
    """They are those that the distributions are made of."""
    found = read(peer, files(peer, "fine"))
    assert {name: len(values) for name, values in found.raw.items()} == {"ttft": 4, "e2e": 4, "tpot": 4}
    ttft = http(found).ttft
    assert ttft is not None
    assert (min(found.raw["ttft"]), max(found.raw["ttft"])) == (ttft.min, ttft.max)


@pytest.mark.parametrize("peer", OWN_MEDIAN_MS)
def test_the_peers_own_figures_are_kept_under_their_names(peer: str) -> None:
    """Its own median is the one that follows from its requests, in its own unit."""
    found = read(peer, files(peer, "fine"))
    ttft = http(found).ttft
    assert ttft is not None
    assert found.own[OWN_MEDIAN_MS[peer]] == pytest.approx(ttft.p50 * 1000)


def test_guidellms_own_figures_are_kept() -> None:
    """They are of all requests, the warm-up too, which the note says."""
    found = read("guidellm", files("guidellm", "fine"))
    assert found.own["output_token_count.p50"] == TOKENS
    assert found.own["time_to_first_token_ms.p50"] > TTFT_S * 1000
    assert any("no warm-up of its own" in note for note in found.notes)


def test_guidellms_warnings_are_its_word_against_itself() -> None:
    """What it says about its own load stands beside its numbers."""
    content = files("guidellm", "fine")
    report = msgspec.json.decode(content["guidellm.json"])
    report["benchmarks"][0]["warnings"] = [{"code": "root_late", "message": "p95 was 0.3 s"}]
    found = read("guidellm", {"guidellm.json": msgspec.json.encode(report)})
    assert found.warnings == ("root_late: p95 was 0.3 s",)


def test_aiperfs_suspicions_are_its_word_against_itself() -> None:
    """It counts replies of another length than was asked for."""
    content = files("aiperf", "fine")
    summary = msgspec.json.decode(content["profile_export_aiperf.json"])
    summary["osl_mismatch_count"]["avg"] = 3.0
    found = read("aiperf", content | {"profile_export_aiperf.json": msgspec.json.encode(summary)})
    assert found.warnings == ("osl_mismatch_count: 3 of 4 requests",)


def test_aiperfs_gaps_are_all_that_its_requests_had() -> None:
    """Between the chunks of four replies; one that came in one piece has none."""
    content = files("aiperf", "fine")
    icl = http(read("aiperf", content)).icl
    assert icl is not None
    assert icl.n == 4 * (TOKENS - 1)
    lines = [msgspec.json.decode(line) for line in content["profile_export.jsonl"].splitlines()]
    for line in lines:
        line["metrics"].pop("inter_chunk_latency")
    without = {"profile_export.jsonl": b"\n".join(map(msgspec.json.encode, lines))}
    assert http(read("aiperf", content | without)).icl is None


def test_sglangs_time_per_token_ends_with_the_last_token() -> None:
    """Its own goes on to the end of the stream, and is longer."""
    found = read("sglang-bench", files("sglang-bench", "fine"))
    tpot = http(found).tpot
    assert tpot is not None
    assert tpot.mean * 1000 <= found.own["mean_tpot_ms"]
    assert any("asks for no usage" in note for note in found.notes)


@pytest.mark.parametrize("peer", HTTP)
def test_a_run_that_failed_altogether_has_no_times(peer: str) -> None:
    """Every request failed: counts, and nulls, but no error while reading."""
    found = http(read(peer, _all_failed(peer)))
    assert found.failed == found.requests == 4
    assert (found.ttft, found.tpot, found.e2e) == (None, None, None)


def _all_failed(peer: str) -> dict[str, bytes]:
    """Return the files of a run as they are when no request succeeds."""
    content = files(peer, "broken")
    match peer:
        case "vllm-bench" | "sglang-bench":
            name = PEERS[peer].results[0]
            result = msgspec.json.decode(content[name].replace(b"Infinity", b"0"))
            result |= {"errors": ["x"] * 4, "completed": 0, "failed": 4, "output_throughput": 0.0}
            return {name: msgspec.json.encode(result)}
        case "guidellm":
            report = msgspec.json.decode(content["guidellm.json"])
            requests = report["benchmarks"][0]["requests"]
            requests["errored"] += requests.pop("successful")
            requests["successful"] = []
            return {"guidellm.json": msgspec.json.encode(report)}
        case _:
            lines = [msgspec.json.decode(line) for line in content["profile_export.jsonl"].splitlines()]
            failed = [msgspec.json.encode(line | {"error": {"message": "x"}, "metrics": {}}) for line in lines]
            return content | {"profile_export.jsonl": b"\n".join(failed)}


@pytest.mark.parametrize("peer", PEERS)
def test_nothing_left_is_an_error_that_names_the_peer(peer: str) -> None:
    """A peer that ends well and leaves nothing has measured nothing."""
    with pytest.raises(RequestError, match=f"^{PEERS[peer].title} "):
        read(peer, {})


def test_a_report_without_a_benchmark_is_an_error() -> None:
    """GuideLLM writes a report of nothing, too."""
    with pytest.raises(RequestError, match="made no benchmark"):
        read("guidellm", {"guidellm.json": b'{"benchmarks": []}'})


def test_what_llama_bench_found_is_of_a_scope_of_its_own() -> None:
    """Reading the prompt, and writing after it: the tokens per second of each repetition."""
    found = read("llama-bench", files("llama-bench", "fine"), concurrency=2)
    assert found.scope == "inproc"
    assert isinstance(found.metrics, Inproc)
    assert found.metrics.prefill_tps is not None
    assert found.metrics.decode_tps is not None
    assert (found.metrics.prefill_tps.n, found.metrics.decode_tps.n) == (2, 2)
    assert found.own["pp32 @ d0: avg_ts"] == pytest.approx(found.metrics.prefill_tps.mean, rel=1e-4)
    assert found.own["tg128 @ d32: avg_ts"] == pytest.approx(found.metrics.decode_tps.mean, rel=1e-4)
    assert any("one sequence at a time" in note for note in found.notes)
    alone = read("llama-bench", files("llama-bench", "fine"), concurrency=1)
    assert not any("one sequence at a time" in note for note in alone.notes)


def test_half_of_llama_benchs_tests_are_no_result() -> None:
    """A log that ends early has no generation in it."""
    log = files("llama-bench", "fine")["log"].splitlines()
    with pytest.raises(RequestError, match="left 1 results, and not those of prompt and generation"):
        read("llama-bench", {"log": next(line for line in log if line.startswith(b"{"))})
