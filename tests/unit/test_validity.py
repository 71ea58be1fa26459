"""Validity flags: each is raised by what it names, and by nothing else."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from xinfer.measuring.metrics import flags
from xinfer.measuring.samples import Capabilities, Run, Sample, Samples
from xinfer.spec import Workload

GOOD = Sample(
    index=0, warmup=False, t_sched=0, t_send=0, t_headers=0, t_end=1, chunks=(), prompt_tokens_asked=200,
    prompt_tokens=200, completion_asked=16, completion_tokens=16, cached_tokens=0, finish_reason="length",
    status=200, error=None, detail=None, prompt_hash="",
)  # fmt: skip


def samples(*several: Sample, cpu_s: float = 0.1) -> Samples:
    able = Capabilities(
        model="m", extras=True, stream_options=True, usage=True, fixed_length=True, cached_tokens=True,
        tokenizer=None, token_ids=False,
    )  # fmt: skip
    run = Run(
        capabilities=able, prompts="ids", prompts_hash="", client_cpu_s=cpu_s, started_ns=0, ended_ns=10**9
    )  # fmt: skip
    return Samples(run=run, samples=several)


def bad(**changes: Any) -> tuple[Sample, ...]:
    """Return a good run of 40 requests in which one differs."""
    return (msgspec.structs.replace(GOOD, **changes), *(GOOD for _ in range(39)))


@pytest.mark.parametrize(
    ("several", "expected"),
    [
        pytest.param(bad(), [], id="a-good-run"),
        pytest.param(bad(error="http 500"), [("failed", 1, 0)], id="one-failed"),
        pytest.param(bad(completion_tokens=15), [("osl_mismatch", 1, 0)], id="one-token-short"),
        pytest.param(bad(finish_reason="stop"), [("osl_mismatch", 1, 0)], id="stopped-of-itself"),
        pytest.param(bad(prompt_tokens=202), [], id="one-percent-more-prompt"),
        pytest.param(bad(prompt_tokens=203), [("isl_mismatch", 0.015, 0.01)], id="more-than-one-percent"),
        pytest.param(bad(prompt_tokens=190), [("isl_mismatch", 0.05, 0.01)], id="a-shorter-prompt"),
        pytest.param(bad(cached_tokens=79), [], id="less-than-one-percent-cached"),
        pytest.param(bad(cached_tokens=80), [("cache_hit", 0.01, 0.01)], id="one-percent-cached"),
        pytest.param(bad(completion_tokens=None, prompt_tokens=None), [("no_usage", 1, 0)], id="not-counted"),
        pytest.param(bad(warmup=True, error="timeout"), [], id="a-bad-warm-up"),
        pytest.param(bad(error="timeout", completion_tokens=0, cached_tokens=200), [("failed", 1, 0)],
                     id="what-a-failed-request-reports-is-no-evidence"),
        pytest.param(bad()[:29], [("short", 29, 30)], id="too-few"),
        pytest.param(bad(error="refused")[:30], [("failed", 1, 0), ("short", 29, 30)], id="too-few-succeeded"),
    ],
)  # fmt: skip
def test_flags(several: tuple[Sample, ...], expected: list[tuple[str, float, float]]) -> None:
    """Each flag has its id, the value found and the limit."""
    workload = Workload(name="w", input_tokens=200, output_tokens=16)
    found = [(flag.id, round(flag.value, 9), flag.limit) for flag in flags(samples(*several), workload)]
    assert found == expected


def test_the_number_of_requests_grows_with_the_concurrency() -> None:
    """Sixteen places need 64 requests."""
    workload = Workload(name="w", input_tokens=200, output_tokens=16, concurrency=16)
    assert [(flag.id, flag.limit) for flag in flags(samples(*bad()), workload)] == [("short", 64)]


@pytest.mark.parametrize(
    ("cpu_s", "load", "expected"),
    [
        pytest.param(0.7, None, [], id="seven-tenths-of-a-core"),
        pytest.param(0.71, None, ["client_bound"], id="more-than-that"),
        pytest.param(0.1, 0.3, [], id="a-quiet-machine"),
        pytest.param(0.1, 0.31, ["noisy"], id="a-busy-machine"),
    ],
)
def test_client_and_machine(cpu_s: float, load: float | None, expected: list[str]) -> None:
    """A client near its limit and a machine that was busy before the start are reasons for doubt."""
    workload = Workload(name="w", input_tokens=200, output_tokens=16)
    found = flags(samples(*bad(), cpu_s=cpu_s), workload, load_per_core=load)
    assert [flag.id for flag in found] == expected


def test_texts_say_what_was_found() -> None:
    """A reader learns what happened without opening the raw stamps."""
    workload = Workload(name="w", input_tokens=200, output_tokens=16)
    several = (*bad(error="http 500"), msgspec.structs.replace(GOOD, error="stalled"), *bad(error="http 500"))
    failed, *_ = flags(samples(*several), workload)
    assert failed.text == "3 of 81 requests failed: http 500 (2), stalled (1)"
    early, *_ = flags(samples(*bad(completion_tokens=3, finish_reason="stop")), workload)
    assert early.text == (
        "1 of 40 replies are not of the length that was asked for: request 0 has 3 of 16 tokens, finish_reason stop"
    )
