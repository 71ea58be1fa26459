"""The client's self-test: how many tokens per second it could take, from a server that does nothing but send them."""

from __future__ import annotations

import functools
import selectors
import subprocess
import sys
from typing import IO

from xinfer.errors import RequestError
from xinfer.measuring import schedule
from xinfer.measuring.capabilities import COMPLETIONS, completion
from xinfer.measuring.client import Target
from xinfer.measuring.crew import Crew, environment
from xinfer.measuring.orders import Order
from xinfer.spec import Workload

SERVER = ("xinfer.testing.reference_server", "--guarded", "--behaviour", '{"ttft_s": 0.0, "gap_s": 0.0}')
"""It is started by name: what measures imports nothing that is measured."""
LOAD = Workload(name="null", input_tokens=8, output_tokens=128, concurrency=16, requests=384, warmup=16, timeout_s=30.0)
"""A second's work, for a server on a core of its own."""
START_S = 30.0


@functools.cache
def measured(core: int | None) -> float | None:
    """Return the tokens that one worker takes in a second of its core's time; null if the test itself fails.

    It is the worker's time that counts and not the clock's, which would tell the speed of the server. Once per process
    is enough: what is tested is this machine and this client.
    """
    argv = [sys.executable, "-P", "-m", *SERVER]
    pipe, null = subprocess.PIPE, subprocess.DEVNULL
    with subprocess.Popen(argv, stdin=pipe, stdout=pipe, stderr=null, env=environment()) as server:
        try:
            port = _port(server.stdout) if server.stdout else None
            return _rate(f"http://127.0.0.1:{port}", core) if port else None
        except RequestError:
            return None
        finally:
            server.kill()


def _port(stdout: IO[bytes]) -> int | None:
    """Return what the server prints first, if it does in time."""
    with selectors.DefaultSelector() as selector:
        selector.register(stdout, selectors.EVENT_READ)
        line = stdout.readline().strip() if selector.select(START_S) else b""
    return int(line) if line.isdigit() else None


def _rate(url: str, core: int | None) -> float | None:
    target = Target(url=url, model="null")
    body = completion(target, "null", LOAD.output_tokens, extras=False, stream_options=True)
    phases = schedule.phases(LOAD, "null")
    indices = [due.index for phase in phases for due in phase.due]
    order = Order(
        number=0, target=target, path=COMPLETIONS, phases=phases, bodies=dict.fromkeys(indices, body),
        hashes=dict.fromkeys(indices, ""), seconds=0.0, timeout_s=LOAD.timeout_s, patience=3, core=core,
    )  # fmt: skip
    with Crew([order]) as crew:
        crew.run()
    tokens = sum(sample.completion_tokens or 0 for sample in crew.samples if not sample.warmup)
    cpu_s = sum(report.worker.cpu_s for report in crew.reports)
    return tokens / cpu_s if tokens and cpu_s else None
