"""How near a load generator's numbers are to what the server really did, and what it costs: ours beside its peers.

``python benchmarks/fidelity.py [--rounds N] [--clients C…] [--loads L…] [--json FILE] [--markdown FILE]`` runs clients
in turns against xinfer's reference server: the server on core 0, the client on core 1, with everything that it starts.
``--engine vllm`` compares the throughput that ours and ``vllm bench serve`` see on a real server of vLLM instead.
The peers are installed below ``$XINFER_HOME``, each in an environment of its own. Linux, two cores, and nothing else.
"""

from __future__ import annotations

import argparse
import gc
import os
import statistics
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import fidelity_table
import msgspec
import plain_loop
import tree_cpu

from xinfer import engines, flow, judgement
from xinfer.config.compose import Composer
from xinfer.environments import environment
from xinfer.errors import XinferError
from xinfer.loadgens import peers, running
from xinfer.loadgens.peers import OWN, Loadgen, Place
from xinfer.measuring import corpus, load, metrics, validity
from xinfer.measuring.client import Target
from xinfer.running.runner import running as serving
from xinfer.spec import Workload
from xinfer.testing.reference_server import Behaviour, Remote, spawned

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from xinfer.flow import Planned
    from xinfer.testing.reference_server import Served

SERVER_CORE, CLIENT_CORE = 0, 1
TOKENS = 128
ANY = Workload(name="any", input_tokens=1, output_tokens=1)
PLAIN, RESTED = "plain-loop", "rested-loop"
CLIENTS = (OWN, PLAIN, "vllm-bench", "guidellm", "aiperf", "sglang-bench")
NS = 1_000_000_000


class Load(NamedTuple):
    """One load of the table: how the server behaves, and how much is sent."""

    streams: int
    requests: int
    ttft_s: float = 0.05
    gap_s: float = 0.01


LOADS = {
    "1": Load(1, 8),
    "32": Load(32, 256),
    "128": Load(128, 512),
    "512": Load(512, 1536),
    "full": Load(16, 1000, 0.0, 0.0),
}


class Seen(msgspec.Struct, frozen=True):
    """What a client reports, or what the server did: seconds, and tokens per second."""

    ttft: tuple[float, ...]
    tpot: tuple[float, ...]
    output_tps: float
    says: tuple[str, ...] = ()
    """What it said itself against its numbers."""
    prompts: tuple[str, ...] = ()
    """The fingerprints of the prompts of the measured requests that succeeded, where the client tells them."""


class Row(msgspec.Struct, frozen=True):
    """One run of one client at one load."""

    client: str
    load: str
    round: int
    source: str
    truth: Seen | None = None
    seen: Seen | None = None
    cpu_us_per_token: float | None = None
    """Of its whole tree of processes, from the first measured request's arrival to the last one's end."""
    kernel_us_per_token: float | None = None
    """What of it the system took."""
    cpu_s: float | None = None
    """The same from start to finish."""
    seconds: float = 0.0
    """From start to finish."""
    error: str | None = None


def truth(served: Sequence[Served]) -> Seen:
    """Return what the server did with the measured requests."""
    first, last = [one.sent[0][0] for one in served], [one.sent[-1][0] for one in served]
    counts = [sum(size for _, size in one.sent) for one in served]
    rows = zip(first, last, counts, strict=True)
    return Seen(
        ttft=tuple((t - one.received_ns) / NS for t, one in zip(first, served, strict=True)),
        tpot=tuple((end - begin) / (count - 1) / NS for begin, end, count in rows),
        output_tps=sum(counts) * NS / (max(last) - min(one.received_ns for one in served)),
    )


def measured(served: Sequence[Served], requests: int, prompts: Sequence[str]) -> list[Served]:
    """Return the measured ones of all requests: those with the prompts, or, where no prompts are told, the last.

    Where a warm-up flows into the measured part, the last of it may arrive after the first measured request: it goes
    out on a new connection, which the server has to accept, and the other on one that is open.
    """
    if not prompts:
        return list(served[-requests:])
    by_prompt = {corpus.fingerprint(msgspec.json.decode(one.prompt)): one for one in served}
    return [by_prompt[prompt] for prompt in prompts]


def cost(tree: tree_cpu.TreeCpu, counted: Sequence[Served], served: Sequence[Served]) -> tuple[float, ...]:
    """Return microseconds of CPU per token, all and the kernel's, between the first measured arrival and the last end.

    A warm-up that flows into the measured part has tokens in that time too, and they cost as much as the others.
    """
    begin, end = min(one.received_ns for one in counted), max(one.sent[-1][0] for one in counted)
    tokens = sum(size for one in served for t, size in one.sent if begin <= t <= end)
    return tuple((after - before) * 1e6 / tokens for before, after in zip(tree.at(begin), tree.at(end), strict=True))


def own(argument: str) -> None:
    """Be xinfer's own client, in a process of its own: send the workload and write what was seen."""
    url, workload, file = msgspec.json.decode(argument, type=tuple[str, Workload, str])
    samples = load.drive(Target(url=url, model="reference"), workload, run_id=str(time.time_ns()))
    fine = [sample for sample in samples.measured if sample.error is None]
    found = metrics.summarize(samples, workload)
    times = [_times([chunk.t_ns for chunk in one.chunks if chunk.is_token], one.t_send) for one in fine]
    says = tuple(flag.text for flag in validity.flags(samples, workload) if flag.id.startswith("client"))
    seen = Seen(
        tuple(t for t, _ in times), tuple(t for _, t in times), found.output_tps_full or 0.0, says,
        prompts=tuple(sample.prompt_hash for sample in fine),
    )  # fmt: skip
    Path(file).write_bytes(msgspec.json.encode(seen))


def plain(argument: str, *, rests: bool = False) -> None:
    """Be a loop that does nothing but stamp, in the same way."""
    url, workload, file = msgspec.json.decode(argument, type=tuple[str, Workload, str])
    gc.disable()
    recordings = plain_loop.recordings(url, workload, rests=rests)
    stamps = [plain_loop.stamps(recording) for recording in recordings]
    times = [_times(each, recording.t_send) for each, recording in zip(stamps, recordings, strict=True)]
    rate = len(recordings) * TOKENS * NS / (max(each[-1] for each in stamps) - recordings[0].t_send)
    Path(file).write_bytes(msgspec.json.encode(Seen(tuple(t for t, _ in times), tuple(t for _, t in times), rate)))


def _times(stamps: Sequence[int], t_send: int) -> tuple[float, float]:
    """Return a request's TTFT and TPOT, as xinfer.measuring.metrics defines them."""
    return (stamps[0] - t_send) / NS, (stamps[-1] - stamps[0]) / (TOKENS - 1) / NS


OURS: dict[str, Callable[[str], None]] = {OWN: own, PLAIN: plain, RESTED: partial(plain, rests=True)}


def drive(client: str, loadgen: Loadgen | None, url: str, workload: Workload, directory: Path) -> tuple[str, Seen]:
    """Run one client to its end and return its name with its version, and what it reports."""
    if loadgen is None:
        file = directory / "seen.json"
        argument = msgspec.json.encode((url, workload, str(file))).decode()
        subprocess.run([sys.executable, __file__, "--be", client, argument], check=True)
        return client, msgspec.json.decode(file.read_bytes(), type=Seen)
    target = Target(url=url, model="reference", request={"ignore_eos": True})
    found = running.run(loadgen, target, workload, run_id=f"{client}-{time.time_ns()}", directory=directory)
    assert isinstance(found.metrics, metrics.Metrics)
    says = (*([f"{found.metrics.failed} requests failed"] if found.metrics.failed else []), *found.warnings)
    rate = found.metrics.output_tps_full or 0.0
    return found.source, Seen(found.raw["ttft"], found.raw["tpot"], rate, says)


def measure(client: str, loadgen: Loadgen | None, name: str, server: Remote, turn: int) -> Row:
    """Run one client at one load, and hold its numbers against the server's log."""
    at = LOADS[name]
    server.become(Behaviour(ttft_s=at.ttft_s, gap_s=at.gap_s))
    workload = Workload(
        name="fidelity", input_tokens=32, output_tokens=TOKENS, concurrency=at.streams, requests=at.requests,
        warmup=at.streams, timeout_s=60,
    )  # fmt: skip
    begun_s = time.perf_counter()
    with tempfile.TemporaryDirectory() as directory, tree_cpu.watching(but=server.pid) as tree:
        try:
            source, seen = drive(client, loadgen, server.url, workload, Path(directory))
        except (XinferError, subprocess.CalledProcessError) as error:
            return Row(client, name, turn, client, error=str(error), seconds=time.perf_counter() - begun_s)
    served = server.log()
    counted = measured([one for one in served if one.max_tokens == TOKENS and one.sent], at.requests, seen.prompts)
    cpu_us, kernel_us = cost(tree, counted, served)
    return Row(
        client, name, turn, source, truth=truth(counted), seen=seen, cpu_us_per_token=cpu_us,
        kernel_us_per_token=kernel_us, cpu_s=tree.total_s, seconds=time.perf_counter() - begun_s,
    )  # fmt: skip


def planned(engine: str, *overrides: str) -> Planned:
    """Return the plan of an engine on this machine."""
    composer = Composer(engines.conf_directories())
    config = composer.compose([f"engine={engine}", "rules=engines-2026-11", "hw=auto", *overrides])
    return judgement.here(judgement.first(config, composer), composer, _say, port=flow.free_port())


def installed(clients: Sequence[str], cell: Planned, directory: Path) -> dict[str, Loadgen | None]:
    """Return the clients, each with its environment and the model's tokenizer made."""
    specs = (cell.decision.spec, *cell.ask.candidates, *cell.ask.family.specs())
    place = Place(
        specs=specs, hardware=cell.ask.hardware, home=str(flow.home(cell.ask.config)), python=flow.interpreter(),
        launch=cell.launch,
    )  # fmt: skip
    made: dict[str, Loadgen | None] = {}
    for client in clients:
        made[client] = loadgen = None if client in OURS else peers.plan(client, place, ANY)
        if loadgen is not None:
            environment.provision(loadgen.needs, progress=_say, log=directory / "provision.log")
    return made


def compare(clients: Sequence[str], loads: Sequence[str], rounds: int, directory: Path) -> Iterator[Row]:
    """Run every client at every load, in turns, and yield each row as it is there."""
    able = installed(clients, planned("llama_cpp"), directory)
    with spawned(Behaviour(), core=SERVER_CORE) as server:
        os.sched_setaffinity(0, {CLIENT_CORE})
        for turn in range(rounds):
            for name in loads:
                order = [clients[(turn + place) % len(clients)] for place in range(len(clients))]
                yield from (_told(measure(client, able[client], name, server, turn)) for client in order)


def _told(row: Row) -> Row:
    what = row.error or f"{row.cpu_us_per_token:.1f} us/token"
    _say(f"{row.load} {row.client}: {what}, {row.seconds:.0f} s")
    return row


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def engine_rates(engine: str, rounds: int, directory: Path) -> dict[str, Any]:
    """Return the tokens per second that ours and vLLM's client see on one real server, in turns.

    Ours is that of the steady window: its warm-up goes over into the measured part, so that the server still works on
    requests that do not count when the first one begins. Theirs is of the whole run; it begins with
    all places at once, and as all requests have one length there is no time in which fewer are in flight.
    """
    workload = Workload(name="agreement", input_tokens=64, output_tokens=64, concurrency=4, requests=40, timeout_s=300)
    cell = planned(engine, "context_length=1024", "workload.concurrency=4")
    launch = judgement.launched(cell)
    environment.provision(launch, progress=_say, log=directory / "provision.log")
    loadgen = installed(["vllm-bench"], cell, directory)["vllm-bench"]
    assert loadgen is not None
    os.sched_setaffinity(0, {SERVER_CORE})
    rates: dict[str, list[float]] = {OWN: [], "vllm-bench": []}
    with serving(launch, log=directory / "engine.log", start_timeout_s=600):
        os.sched_setaffinity(0, {CLIENT_CORE})
        target = Target(url=launch.url, model=launch.model, request=launch.request)
        for turn in range(rounds):
            for client in (OWN, "vllm-bench") if turn % 2 == 0 else ("vllm-bench", OWN):
                run_id = f"{client}-{turn}-{time.time_ns()}"
                if client == OWN:
                    samples = load.drive(target, workload, run_id=run_id)
                    rate = metrics.summarize(samples, workload).output_tps
                else:
                    found = running.run(loadgen, target, workload, run_id=run_id, directory=directory / run_id)
                    rate = getattr(found.metrics, "output_tps_full", None)
                rates[client].append(rate or 0.0)
                _say(f"{engine} {client}: {rate} tokens/s")
    ratios = [ours / theirs for ours, theirs in zip(rates[OWN], rates["vllm-bench"], strict=True)]
    middle = {client: statistics.median(each) for client, each in rates.items()}
    return {
        "engine": engine, "tokens per second": rates, "median ratio": statistics.median(ratios),
        "ratio of medians": middle[OWN] / middle["vllm-bench"],
    }  # fmt: skip


def main() -> None:
    """Run what was asked for; the table goes to standard output."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--clients", nargs="+", default=CLIENTS, choices=(*CLIENTS, RESTED))
    parser.add_argument("--loads", nargs="+", default=list(LOADS), choices=LOADS)
    parser.add_argument("--engine", help="compare with vLLM's client on this real engine instead")
    parser.add_argument("--json", type=Path, help="keep every row here")
    parser.add_argument("--markdown", type=Path, help="write the table here")
    parser.add_argument("--be", nargs=2, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.be:
        OURS[asked.be[0]](asked.be[1])
        return
    with tempfile.TemporaryDirectory() as directory:
        if asked.engine:
            print(msgspec.json.encode(engine_rates(asked.engine, asked.rounds, Path(directory))).decode())
            return
        rows = []
        for row in compare(asked.clients, asked.loads, asked.rounds, Path(directory)):
            rows.append(row)
            if asked.json:  # written each time: an hour's work is not lost by its last minute
                asked.json.write_bytes(msgspec.json.encode(rows))
    table = fidelity_table.markdown(rows)
    if asked.markdown:
        asked.markdown.write_text(table, encoding="utf-8")
    print(table)


if __name__ == "__main__":
    main()
