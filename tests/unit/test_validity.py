"""Validity flags: each is raised by what it names, and by nothing else."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from xinfer.measuring.metrics import flags
from xinfer.measuring.samples import Capabilities, Chunk, Run, Sample, Samples, Worker
from xinfer.measuring.usage import Resources
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


@pytest.mark.parametrize(
    ("cached", "expected"),
    [
        pytest.param(100, [], id="all-that-is-shared"),
        pytest.param(139, [], id="a-little-more"),
        pytest.param(140, [("cache_hit", 0.01, 0.01)], id="one-percent-of-what-is-not-shared"),
    ],
)
def test_what_prompts_share_may_come_from_a_cache(cached: int, expected: list[tuple[str, float, float]]) -> None:
    """Only what was remembered beyond it counts, against what no other prompt has."""
    workload = Workload(name="w", input_tokens=200, output_tokens=16, shared_prefix=0.5)
    rest = (msgspec.structs.replace(GOOD, cached_tokens=64) for _ in range(39))
    several = (msgspec.structs.replace(GOOD, cached_tokens=cached), *rest)
    assert [(flag.id, flag.value, flag.limit) for flag in flags(samples(*several), workload)] == expected


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


FREE = Resources(seconds=10.0, cpu_s=9.0, others_share=0.01, stolen_share=0.001, held_share=0.0, server_cores=(0, 1))


@pytest.mark.parametrize(
    ("changes", "workers", "expected"),
    [
        pytest.param({}, 1, {}, id="a-quiet-machine"),
        pytest.param({"others_share": 0.05}, 1, {}, id="others-at-the-limit"),
        pytest.param({"others_share": 0.051}, 1, {"noisy": (0.051, 0.05)}, id="others-worked"),
        pytest.param({"stolen_share": 0.021}, 1, {"noisy": (0.021, 0.02)}, id="the-host-took-time"),
        pytest.param(
            {"others_share": 0.06, "stolen_share": 0.1},
            1,
            {"noisy": (0.1, 0.02)},
            id="the-worse-of-two-gives-the-value",
        ),
        pytest.param({"throttles": 0, "held_share": 0.001}, 1, {}, id="a-quota-that-hardly-held"),
        pytest.param({"throttles": 2}, 1, {"throttled": (2, 0)}, id="heat"),
        pytest.param({"held_share": 0.2}, 1, {"throttled": (0.2, 0.001)}, id="a-quota"),
        pytest.param({"slowed": ("power brake",)}, 1, {"throttled": (1, 0)}, id="a-slow-gpu"),
        pytest.param({"throttles": 2, "held_share": 0.2}, 1, {"throttled": (2, 0)}, id="heat-and-a-quota"),
        pytest.param({"cpu_s": 10.9}, 1, {}, id="a-thread-that-does-not-compute"),
        pytest.param({"cpu_s": 19.0}, 1, {"shared_core": (1.9, 1.1)}, id="the-server-used-both-cores"),
        pytest.param({"cpu_s": 9.0}, 2, {"shared_core": (0.9, 0.1)}, id="two-clients-need-both"),
        pytest.param({"cpu_s": 9.0, "server_cores": (0,)}, 1, {"shared_core": (0.9, 0.1)}, id="one-core"),
        pytest.param({"cpu_s": 9.0, "server_cores": (1,)}, 1, {}, id="each-has-its-own"),
        pytest.param({"cpu_s": 19.0, "server_cores": (1, 2)}, 1, {}, id="the-server-has-two"),
        pytest.param({"cpu_s": 19.0, "server_cores": None}, 1, {}, id="cores-are-not-known"),
        pytest.param({"cpu_s": None}, 1, {}, id="work-is-not-known"),
        pytest.param({"cpu_s": 19.0, "seconds": 0.0}, 1, {}, id="no-time-passed"),
    ],
)
def test_the_machine(changes: dict[str, Any], workers: int, expected: dict[str, tuple[float, float]]) -> None:
    """What was seen of it, against limits; a client on core 0, and the next on core 1."""
    made = samples(*bad())
    crew = tuple(Worker(cpu_s=0.1, loop_lag_p99_s=None, core=core) for core in range(workers))
    made = msgspec.structs.replace(made, run=msgspec.structs.replace(made.run, workers=crew))
    workload = Workload(name="w", input_tokens=200, output_tokens=16)
    found = flags(made, workload, used=msgspec.structs.replace(FREE, **changes))
    assert {flag.id: (round(flag.value, 9), round(flag.limit, 9)) for flag in found} == expected


@pytest.mark.parametrize(
    ("own", "expected"),
    [
        pytest.param((0, 1, 2, 3), [], id="it-goes-elsewhere"),
        pytest.param((3,), ["shared_core"], id="there-is-nowhere-else"),
        pytest.param((0,), [], id="it-may-not-go-where-the-server-is"),
        pytest.param(None, ["shared_core"], id="where-it-may-go-is-not-known"),
    ],
)
def test_a_client_that_keeps_to_no_core(own: tuple[int, ...] | None, expected: list[str]) -> None:
    """It shares with the server what xinfer may run on, if that is not enough for both."""
    workload = Workload(name="w", input_tokens=200, output_tokens=16)
    used = msgspec.structs.replace(FREE, server_cores=(3,), own_cores=own)
    assert [flag.id for flag in flags(samples(*bad()), workload, used=used)] == expected


def test_the_average_before_says_less_than_what_others_did() -> None:
    """It holds our own earlier work, as in a sweep; where nothing else is known, it counts."""
    workload = Workload(name="w", input_tokens=200, output_tokens=16)
    unseen = msgspec.structs.replace(FREE, others_share=None)
    found = [flags(samples(*bad()), workload, load_per_core=0.9, used=used) for used in (FREE, unseen, None)]
    assert [[flag.id for flag in each if flag.id == "noisy"] for each in found] == [[], ["noisy"], ["noisy"]]


def test_all_that_disturbed_is_said() -> None:
    """One flag, and each reason in it."""
    workload = Workload(name="w", input_tokens=200, output_tokens=16)
    used = msgspec.structs.replace(FREE, others_share=0.25, stolen_share=0.1, throttles=3, slowed=("heat", "brake"))
    noisy, throttled = flags(samples(*bad()), workload, used=used)
    assert noisy.text == (
        "other processes used 25.0% of the machine's CPU time meanwhile; "
        "the host of this virtual machine took 10.0% of the CPU time meanwhile"
    )
    assert throttled.text == ("cores were slowed down 3 times because of heat; the GPU was slowed down: heat, brake")


def timed(tpot_s: float) -> Sample:
    """Make a request whose tokens come so far apart."""
    chunks = tuple(Chunk(t_ns=round(n * tpot_s * 1e9), characters=1, is_token=True) for n in range(16))
    return msgspec.structs.replace(GOOD, chunks=chunks)


@pytest.mark.parametrize(
    ("workers", "tpot_s", "capacity", "expected"),
    [
        pytest.param([(0.7, 0.001)], 0.01, None, None, id="at-its-limits"),
        pytest.param([(0.6, 0.0), (0.6, 0.0)], 0.01, None, None, id="two-workers-below-their-own-limits"),
        pytest.param([(0.1, 0.0), (0.75, 0.0)], 0.01, None, (0.75, 0.7, "used 75% of a core"), id="one-of-two-is-busy"),
        pytest.param([(0.1, 0.0011)], 0.01, None, (0.0011, 0.001, "looked 1.1 ms late"), id="a-tenth-of-a-gap-late"),
        pytest.param([(0.1, 0.0011)], 0.02, None, None, id="less-than-a-tenth-of-a-longer-gap"),
        pytest.param([(0.1, 0.0009)], 0.001, None, None, id="less-than-a-millisecond-is-the-systems"),
        pytest.param([(0.1, 0.5), (0.1, None)], None, None, None, id="no-gap-to-be-late-for"),
        pytest.param([(0.1, None)], 0.01, None, None, id="too-short-to-tell"),
        pytest.param([(0.1, 0.0)], 0.01, 3200.0, None, id="five-times-the-rate"),
        pytest.param([(0.1, 0.0)], 0.01, 3136.0, (4.9, 5, "takes 3136 tokens/s from a server"), id="less-than-that"),
        pytest.param([(0.1, 0.0)] * 2, 0.01, 1600.0, None, id="two-can-take-twice-as-much"),
    ],
)
def test_a_client_at_its_limit(
    workers: list[tuple[float, float | None]], tpot_s: float | None, capacity: float | None,
    expected: tuple[float, float, str] | None,
) -> None:  # fmt: skip
    """By its CPU time, by how late it looks, or by what it can take: the text says which."""
    used = tuple(Worker(cpu_s=cpu_s, loop_lag_p99_s=lag_s, core=None) for cpu_s, lag_s in workers)
    several = (GOOD if tpot_s is None else timed(tpot_s),) * 40
    made = samples(*several)
    run = msgspec.structs.replace(made.run, workers=used, capacity_tps=capacity)
    found = flags(msgspec.structs.replace(made, run=run), Workload(name="w", input_tokens=200, output_tokens=16))
    seen = [(flag.id, round(flag.value, 9), flag.limit) for flag in found]
    assert seen == ([("client_bound", *expected[:2])] if expected else [])
    assert all("\n" not in flag.text and expected is not None and expected[2] in flag.text for flag in found)


def test_a_client_with_two_reasons_has_one_flag() -> None:
    """With the value that is furthest from its limit, and both reasons in words."""
    made = samples(*[timed(0.01)] * 40)
    used = (Worker(cpu_s=0.77, loop_lag_p99_s=0.003, core=1),)
    made = msgspec.structs.replace(made, run=msgspec.structs.replace(made.run, workers=used))
    (flag,) = flags(made, Workload(name="w", input_tokens=200, output_tokens=16))
    assert (flag.value, flag.limit) == (0.003, 0.001)
    assert flag.text == (
        "its stamps may be late: the client used 77% of a core, above 70%; "
        "the client looked 3 ms late at what had come, above 1 ms"
    )


def test_a_loop_that_ran_out_of_prompts_is_short() -> None:
    """It was to go on for longer."""
    workload = Workload(name="w", input_tokens=200, output_tokens=16, seconds=1.0)
    assert flags(samples(*bad()), workload) == ()
    (flag,) = flags(samples(*bad()), msgspec.structs.replace(workload, seconds=1.5))
    assert (flag.id, flag.value, flag.limit) == ("short", 1.0, 1.5)
    assert flag.text == "all requests that were prepared had been sent after 1 of 1.5 s"


def test_an_open_loop_needs_no_more_requests_for_its_places() -> None:
    """It has none."""
    workload = Workload(name="w", input_tokens=200, output_tokens=16, concurrency=16, load="poisson", rate=1.0)
    assert flags(samples(*bad()), workload) == ()


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
