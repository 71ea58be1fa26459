"""The load's processes: where they run, what they may know, and that none outlives xinfer."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress

import msgspec
import psutil
import pytest

from xinfer.errors import RequestError
from xinfer.measuring import capacity, crew, load, placing
from xinfer.measuring.capabilities import COMPLETIONS, completion
from xinfer.measuring.load import Target, drive
from xinfer.measuring.orders import Order
from xinfer.measuring.schedule import Due, Phase
from xinfer.spec import Workload
from xinfer.testing.reference_server import Behaviour, Remote, spawned

PROBES = 2
WORK = Workload(name="w", input_tokens=16, output_tokens=4, concurrency=2, requests=4, warmup=2, timeout_s=60)
FAST = Behaviour(ttft_s=0.004, gap_s=0.001)
SILENT = Behaviour(ttft_s=0.004, gap_s=0.001, healthy=PROBES, fail="silence")
KEY = "s3cret-k3y"


@pytest.fixture(scope="module")
def remote() -> Iterator[Remote]:
    with spawned(FAST) as process:
        yield process


def workers(of: int) -> list[psutil.Process]:
    """Return a process's workers."""
    found = []
    for child in psutil.Process(of).children(recursive=True):
        with suppress(psutil.Error):
            if crew.MODULE in child.cmdline():
                found.append(child)
    return found


def wait_for_load(remote: Remote, of: int, count: int = 1) -> list[psutil.Process]:
    """Wait until so many workers have sent something, and return them."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        if len(remote.log()) > PROBES and len(found := workers(of)) == count:
            return found
        time.sleep(0.01)
    raise TimeoutError("no load has begun")


class Driving(threading.Thread):
    """A load in a thread, and the error it ends with."""

    def __init__(self, target: Target, workload: Workload = WORK) -> None:
        super().__init__(daemon=True)
        self._target, self._workload = target, workload
        self.error: BaseException | None = None
        self.start()

    def run(self) -> None:
        try:
            drive(self._target, self._workload, run_id="run")
        except BaseException as error:  # noqa: BLE001 -- the test looks at it
            self.error = error


@pytest.fixture
def many_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pretend that there are many, and that one worker carries one stream."""
    monkeypatch.setattr(crew, "STREAMS", 1)
    monkeypatch.setattr(load, "usable_cores", lambda: (None,) * 16)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
@pytest.mark.usefixtures("many_cores")
def test_a_dead_worker_is_a_clear_error(remote: Remote, number: signal.Signals) -> None:
    """And the others end with it."""
    remote.become(SILENT)
    driving = Driving(Target(url=remote.url, model="m"))
    first, second = wait_for_load(remote, os.getpid(), 2)
    first.send_signal(number)
    driving.join(20)
    assert isinstance(driving.error, RequestError)
    assert str(driving.error) == f"the load generator was killed by {number.name} while it worked"
    assert not second.is_running()
    assert workers(os.getpid()) == []


def test_a_worker_that_hangs_is_a_clear_error(remote: Remote, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is ended once no request could be under way any more."""
    monkeypatch.setattr(crew, "READY_S", 3.0)
    remote.become(SILENT)
    driving = Driving(Target(url=remote.url, model="m"), msgspec.structs.replace(WORK, timeout_s=0.3))
    (worker,) = wait_for_load(remote, os.getpid())
    worker.suspend()
    driving.join(30)
    assert isinstance(driving.error, RequestError)
    assert re.fullmatch(r"the load generator did not answer within \d.* s, and was ended", str(driving.error))
    assert workers(os.getpid()) == []


def test_a_worker_that_cannot_start_is_a_clear_error(remote: Remote, monkeypatch: pytest.MonkeyPatch) -> None:
    """With what it said."""
    remote.become(FAST)
    monkeypatch.setattr(crew, "MODULE", "xinfer.no_such_module")
    with pytest.raises(RequestError, match="the load generator ended with exit code 1 while it worked") as no:
        drive(Target(url=remote.url, model="m"), WORK, run_id="run")
    assert "No module named xinfer.no_such_module" in no.value.details[-1]


XINFER = "import sys; from xinfer.measuring.load import *; from xinfer.spec import Workload; import msgspec; drive("
XINFER += "Target(url=sys.argv[1], model='m'), msgspec.json.decode(sys.argv[2], type=Workload), run_id='run')"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_no_worker_outlives_xinfer(remote: Remote, number: signal.Signals) -> None:
    """Interrupted, terminated or killed."""
    remote.become(SILENT)
    argv = [sys.executable, "-c", XINFER, remote.url, msgspec.json.encode(WORK).decode()]
    with subprocess.Popen(argv, stderr=subprocess.DEVNULL) as process:
        (worker,) = wait_for_load(remote, process.pid)
        process.send_signal(number)
        assert process.wait(20) != 0
    worker.wait(20)


SPAWN = "import sys; from xinfer.testing.reference_server import *; import time\nwith spawned(Behaviour()) as it: "
SPAWN += "print(it.pid, flush=True); time.sleep(60)"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_no_reference_server_outlives_a_benchmark(number: signal.Signals) -> None:
    """However that ends."""
    with subprocess.Popen([sys.executable, "-c", SPAWN], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        server = psutil.Process(int(process.stdout.readline()))
        process.send_signal(number)
    server.wait(20)


def test_a_key_is_told_to_the_server_alone(remote: Remote) -> None:
    """No list of processes shows it."""
    remote.become(msgspec.structs.replace(SILENT, api_key=KEY))
    driving = Driving(Target(url=remote.url, model="m", api_key=KEY))
    (worker,) = wait_for_load(remote, os.getpid())
    shown = [*worker.cmdline(), *worker.environ().items()]
    worker.kill()
    driving.join(20)
    assert KEY not in str(shown)


def test_the_load_keeps_to_the_last_core(remote: Remote) -> None:
    """Where there are several and a process can choose; the record says which."""
    usable = placing.usable_cores()
    expected = usable[-1] if len(usable) > 1 else None
    remote.become(SILENT)
    driving = Driving(Target(url=remote.url, model="m"))
    (worker,) = wait_for_load(remote, os.getpid())
    affinity = worker.cpu_affinity() if hasattr(worker, "cpu_affinity") else [None]
    worker.kill()
    driving.join(20)
    assert affinity == ([expected] if len(usable) > 1 else list(usable))
    remote.become(FAST)
    samples = drive(Target(url=remote.url, model="m"), WORK, run_id="run")
    assert [worker.core for worker in samples.run.workers] == [expected]


@pytest.mark.usefixtures("many_cores")
def test_workers_share_the_load(remote: Remote) -> None:
    """Every request is sent once, by one of them, and the stamps are of one clock."""
    remote.become(FAST)
    work = msgspec.structs.replace(WORK, concurrency=3, requests=30)
    samples = drive(Target(url=remote.url, model="m"), work, run_id="run")
    assert [sample.index for sample in samples.samples] == list(range(32))
    assert {sample.error for sample in samples.samples} == {None}
    assert [sample.worker for sample in samples.samples] == [n % 3 for n in range(32)]
    received = {served.prompt: served.received_ns for served in remote.log()[PROBES:]}
    assert len(received) == 32
    assert len(samples.run.workers) == 3
    assert samples.run.client_cpu_s == sum(worker.cpu_s for worker in samples.run.workers)
    starts = [min(s.t_send for s in samples.samples if s.worker == n) for n in range(3)]
    assert max(starts) - min(starts) < 5e9


def test_no_place_waits_once_a_request_has_ended(remote: Remote) -> None:
    """Requests that were thought to take a minute, and take none, leave nobody out."""
    remote.become(FAST)
    minute = 60 * 10**9
    due = tuple(Due(n, False, None, 1, 4) for n in range(9))  # noqa: FBT003 -- as it is written
    body = completion(Target(url=remote.url, model="m"), "word", 4, extras=False, stream_options=True)
    order = Order(
        number=0, target=Target(url=remote.url), path=COMPLETIONS, phases=(Phase((0, minute, minute), due),),
        bodies=dict.fromkeys(range(9), body), hashes=dict.fromkeys(range(9), ""), seconds=0.0, timeout_s=5.0,
        patience=3, core=None,
    )  # fmt: skip
    with crew.Crew([order]) as working:
        working.run()
    starts = sorted(sample.t_sched for sample in working.samples)
    assert {sample.error for sample in working.samples} == {None}
    assert starts[-1] - starts[0] < minute
    assert min(sample.t_end for sample in working.samples) <= starts[1]


def test_a_self_test_tells_what_the_client_can_take() -> None:
    """More than any engine on one machine sends; where it cannot be made, it says nothing."""
    found = capacity.measured(None)
    assert found is not None
    assert found > 10_000
    assert capacity.measured(None) == found


def test_a_self_test_that_fails_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """And breaks no run."""
    monkeypatch.setattr(capacity, "SERVER", ("xinfer.no_such_module",))
    assert capacity.measured.__wrapped__(None) is None
    monkeypatch.undo()
    monkeypatch.setattr(crew, "MODULE", "xinfer.no_such_module")
    assert capacity.measured.__wrapped__(None) is None


def test_a_busy_client_tests_itself(remote: Remote, monkeypatch: pytest.MonkeyPatch) -> None:
    """One with nothing to do does not, as it would learn nothing."""
    remote.become(FAST)
    monkeypatch.setattr(capacity, "measured", lambda _: 123.0)
    for spare, expected in ((1.0, None), (0.0, 123.0)):
        monkeypatch.setattr(load, "SPARE", spare)
        assert drive(Target(url=remote.url, model="m"), WORK, run_id="run").run.capacity_tps == expected
