"""The parts of ``fidelity.py`` that compute: what it prints is only as true as they are."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import fidelity_table
import plain_loop
import pytest
import tree_cpu
from fidelity import Row, Seen, cost, measured, truth
from tree_cpu import Used

from xinfer.measuring.corpus import fingerprint
from xinfer.spec import Workload
from xinfer.testing.reference_server import Behaviour, Served, serving

MS = 1_000_000


def served(received_ms: float, *sent_ms: float) -> Served:
    sent = [(int(t * MS), 1) for t in sent_ms]
    return Served(received_ns=int(received_ms * MS), sent=sent, max_tokens=len(sent))


def test_the_truth_is_what_the_server_logged() -> None:
    """TTFT from a request's arrival, TPOT over the tokens after the first, the rate from first arrival to the end."""
    true = truth([served(0, 50, 60, 70), served(100, 155, 175, 195)])
    assert true.ttft == (0.05, 0.055)
    assert true.tpot == (0.01, 0.02)
    assert true.output_tps == pytest.approx(6 / 0.195)


def test_the_measured_requests_are_known_by_their_prompts() -> None:
    """A request of the warm-up that arrives late is none of them; a client that tells no prompts gets the last."""
    first, warm, last = served(0, 50), served(1, 60), served(2, 70)
    first.prompt, warm.prompt, last.prompt = "[1,2]", "[3,4]", "[5,6]"
    assert measured([first, warm, last], 2, [fingerprint([1, 2]), fingerprint([5, 6])]) == [first, last]
    assert measured([first, warm, last], 2, []) == [warm, last]


def test_the_cost_is_taken_between_the_first_arrival_and_the_last_token() -> None:
    """CPU before and after is not counted, and all tokens in between are, those of the warm-up too."""
    tree = tree_cpu.TreeCpu(None)
    tree.instants = [0, 100 * MS, 200 * MS, 300 * MS]
    tree.sums = [Used(5.0, 2.0), Used(5.0, 2.0), Used(5.1, 2.04), Used(9.0, 3.0)]
    warm, counted = served(0, 50, 99, 110, 120), served(100, 150, 200)
    assert cost(tree, [counted], [warm, counted]) == pytest.approx((0.1 / 4 * 1e6, 0.04 / 4 * 1e6))


def test_use_is_interpolated_between_two_readings() -> None:
    """Before the first reading and after the last, it is what was read there."""
    tree = tree_cpu.TreeCpu(None)
    tree.instants, tree.sums = [100, 200, 400], [Used(1.0, 0.0), Used(2.0, 1.0), Used(2.5, 1.0)]
    found = [tree.at(t) for t in (0, 100, 150, 200, 300, 400, 999)]
    assert [one.total for one in found] == [1.0, 1.0, 1.5, 2.0, 2.25, 2.5, 2.5]
    assert [one.kernel for one in found] == [0.0, 0.0, 0.5, 1.0, 1.0, 1.0, 1.0]
    assert tree.total_s == 2.5


def test_the_whole_tree_is_watched_except_the_server() -> None:
    """A grandchild's CPU is found, another process's is not, and what ends keeps what it used; on Linux alone."""
    if sys.platform != "linux":
        assert list(tree_cpu.descendants(os.getpid(), None)) == []
        return
    burn = "import time\nwhile time.process_time() < 0.3: pass\ninput()"
    inner = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {burn!r}])"
    other = subprocess.Popen([sys.executable, "-c", burn], stdin=subprocess.PIPE)
    with tree_cpu.watching(but=other.pid) as tree:
        child = subprocess.Popen([sys.executable, "-c", inner], stdin=subprocess.PIPE)
        while not tree.sums or tree.sums[-1].total < 0.3:
            assert child.poll() is None
            time.sleep(0.05)
        assert other.pid not in tree_cpu.descendants(os.getpid(), other.pid)
        assert child.pid in tree_cpu.descendants(os.getpid(), other.pid)
        assert other.pid not in tree.used
        child.communicate(b"\n")
    other.communicate(b"\n")
    assert tree.total_s >= 0.3


@pytest.mark.parametrize(
    ("work", "is_kernels"),
    [pytest.param("zero.read(2**24)", True, id="a-call"), pytest.param("sum(range(10**6))", False, id="arithmetic")],
)
def test_what_the_kernel_does_is_told_apart(work: str, is_kernels: bool) -> None:  # noqa: FBT001 -- a table's column
    """Nearly all of what a program takes that only calls it, and little of another's; on Linux alone."""
    if sys.platform != "linux":
        return
    program = f"import time\nzero = open('/dev/zero', 'rb', buffering=0)\nwhile time.process_time() < 0.3: {work}"
    with tree_cpu.watching() as tree:
        subprocess.run([sys.executable, "-c", program], check=True)
    assert (tree.sums[-1].kernel > 0.5 * tree.total_s) == is_kernels


@pytest.mark.parametrize("rests", [False, True])
def test_the_plain_loop_sends_and_keeps_what_a_client_would(*, rests: bool) -> None:
    """The measured requests alone, each whole, with a stamp for every delivery; on Linux alone."""
    if sys.platform != "linux":
        assert not hasattr(plain_loop.select, "epoll")
        return
    workload = Workload(name="any", input_tokens=8, output_tokens=5, concurrency=2, requests=3, warmup=2)
    with serving(Behaviour()) as server:
        found = plain_loop.recordings(server.url, workload, rests=rests)
        assert [one.prompt_tokens for one in server.log] == [8] * 6
    assert len(found) == 3
    for recording in found:
        assert len(recording.stamps) == len(recording.counts)
        assert recording.t_send <= min(recording.stamps)
        assert recording.raw.endswith(plain_loop.LAST)
        assert len(plain_loop.stamps(recording)) == 5


def row(load: str, client: str, seen: Seen | None, error: str | None = None) -> Row:
    true = Seen((0.05, 0.05), (0.01, 0.01), 1000.0)
    return Row(
        client, load, 0, f"{client} 1.0", truth=true, seen=seen, cpu_us_per_token=7.0, kernel_us_per_token=4.0,
        error=error,
    )  # fmt: skip


def test_a_line_tells_how_far_a_client_is_off() -> None:
    """Milliseconds of TTFT, percent of the rest, and nothing about warnings where there is no need of one."""
    seen = Seen((0.0501, 0.0503), (0.0101, 0.0101), 990.0)
    line = fidelity_table.cells("32", "a", [row("32", "a", seen)])
    assert line == ("32", "a 1.0", "+0.20", "+0.30", "+1.00 %", "-1.00 %", "7.0 (4.0) us", "")


@pytest.mark.parametrize(
    ("seen", "verdict"),
    [
        pytest.param(Seen((0.06,), (0.01,), 1000.0), "no", id="late-and-silent"),
        pytest.param(Seen((0.06,), (0.01,), 1000.0, ("client-bound",)), "yes", id="late-and-open-about-it"),
        pytest.param(Seen((0.05,), (0.0104,), 1000.0), "no", id="slow"),
        pytest.param(Seen((0.05,), (0.01,), 1040.0), "no", id="a-rate-that-is-too-high"),
        pytest.param(Seen((0.05,), (0.01,), 1000.0, ("client-bound",)), "yes", id="a-warning-without-need"),
        pytest.param(Seen((0.05,), (0.01,), 1000.0), "", id="right"),
    ],
)
def test_who_is_off_has_to_say_so(seen: Seen, verdict: str) -> None:
    """More than 5 ms or 3 % is more than a client can carry; a warning without need is shown as well."""
    assert fidelity_table.cells("1", "a", [row("1", "a", seen)])[-1] == verdict


def test_rounds_are_one_line() -> None:
    """It has their medians, and counts how often the client warned."""
    rows = [
        row("1", "a", Seen((0.05 + late,), (0.01,), 1000.0, says))
        for late, says in ((0.006, ("x",)), (0.007, ()), (0.03, ("x",)))
    ]
    line = fidelity_table.cells("1", "a", rows)
    assert (line[2], line[-1]) == ("+7.00", "yes, 2 of 3")


def test_at_full_speed_only_rate_and_cost_are_of_interest() -> None:
    """The server does not wait, so that there is no time to the first token to be wrong about."""
    line = fidelity_table.cells("full", "a", [row("full", "a", Seen((0.2,), (0.02,), 1000.0))])
    assert line == ("full", "a 1.0", "-", "-", "-", "+0.00 %", "7.0 (4.0) us", "")


def test_a_client_that_failed_is_shown() -> None:
    """With its error, beside the others, in the order of the run."""
    rows = [row("1", "b", None, error="it died"), row("1", "a", Seen((0.05,), (0.01,), 1000.0))]
    lines = fidelity_table.markdown(rows).splitlines()
    assert lines[2] == "| 1 | b | - | - | - | - | - | failed: it died |"
    assert lines[3].startswith("| 1 | a 1.0 | +0.00 |")
