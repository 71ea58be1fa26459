"""Sweeps on a real Ray cluster of several nodes, one of which dies, and through a real Slurm; all on loopback."""

from __future__ import annotations

import os
import secrets
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest
from debian import installed

from xinfer import record

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from xinfer.record import Record

    Ask = Callable[..., subprocess.CompletedProcess[str]]
    Start = Callable[..., subprocess.Popen[str]]

pytestmark = pytest.mark.e2e

TINY = ("rules=fake", "workload=tiny", "engine=fake")
LADDER = ("-m", "model=fake-model", "workload.concurrency=1,2", *TINY)
PATIENCE_S = 180.0
RESOURCES = Path(__file__).parents[1] / "resources"
NODES = """
import sys
from ray.cluster_utils import Cluster
common = {"object_store_memory": 80_000_000, "include_dashboard": False}
quick = {"health_check_initial_delay_ms": 0, "health_check_period_ms": 500, "health_check_failure_threshold": 4}
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "_system_config": quick, **common})
nodes = [cluster.add_node(num_cpus=1, **common) for _ in range(3)]
print(cluster.address, *(node.all_processes["raylet"][0].process.pid for node in nodes), flush=True)
sys.stdin.read()
cluster.shutdown()
"""
"""A head that measures nothing, and three nodes; their raylets' process numbers."""
SLURM = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/none
CredType=cred/none
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
StateSaveLocation={home}/state
SlurmdSpoolDir={home}/spool
SlurmctldPidFile={home}/slurmctld.pid
SlurmdPidFile={home}/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
NodeName=node NodeAddr=127.0.0.1 NodeHostname={host} CPUs=2 RealMemory=2000 State=UNKNOWN
PartitionName=all Nodes=ALL Default=YES State=UP
"""


def records(directory: Path) -> list[Record]:
    return [record.read(path) for path in directory.glob("runs/*/*/record.json")]


def measuring() -> psutil.Process | None:
    """Return the process of a job that has started an engine; the others wait for their turn on this machine."""
    for each in psutil.process_iter():
        try:
            if "xinfer.launching.errand" in each.cmdline() and each.children():
                return each
        except psutil.Error:  # it has ended
            continue
    return None


def until(condition: Callable[[], object]) -> None:
    end_s = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end_s
        time.sleep(0.05)


def swept(start: Start, directory: Path, *words: str, **more: str) -> subprocess.CompletedProcess[str]:
    with start(directory, *words, **more) as process:
        output = process.communicate(timeout=PATIENCE_S)
    return subprocess.CompletedProcess(words, process.returncode, *output)


@contextmanager
def running(directory: Path, argv: list[str], **variables: str) -> Iterator[subprocess.Popen[str]]:
    """Run a program until the body has ended, and return it; its last words are in ``log``."""
    pipe = subprocess.PIPE
    with (directory / "log").open("ab") as log:
        process = subprocess.Popen(
            argv, env={**os.environ, **variables}, stdin=pipe, stdout=pipe, stderr=log, text=True
        )
    with process:
        try:
            yield process
        finally:
            process.terminate()


# Ray


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[list[str], dict[str, str]]]:
    """Start three nodes and a head; return its address and the nodes' process numbers, and who uses it sets what."""
    home = tmp_path_factory.mktemp("ray")
    ours = {
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # else it looks for an address that others can reach
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(16),
    }
    found = {"PYTHONPATH": str(RESOURCES / "fake_plugin"), "XINFER_HOME": str(home)}
    with running(home, [sys.executable, "-c", NODES], **ours, **found) as process:
        assert process.stdout is not None
        told = process.stdout.readline().split()
        assert told, (home / "log").read_text()
        assert told[0].startswith("127.0.0.1:")
        yield told, ours
        process.communicate(timeout=PATIENCE_S)


def test_a_node_that_dies_takes_no_cell_along(
    cluster: tuple[list[str], dict[str, str]], start: Start, tmp_path: Path
) -> None:
    """Its job is sent to another one; every cell has one record, whichever node it was measured on."""
    (address, *raylets), variables = cluster
    words = (*LADDER, "engine.args.gap-s=0.1,0.11,0.12", "hydra/launcher=ray")
    with start(tmp_path, *words, f"hydra.launcher.ray.init.address={address}", **variables) as process:
        until(measuring)
        job = measuring()
        assert job is not None
        (node,) = [each for each in job.parents() if str(each.pid) in raylets]
        for each in (node, *node.children(recursive=True)):
            each.kill()
        _, said = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, said
    assert said.count("; it is sent again\n") == 1
    assert said.count(" came home from ") == 6
    made = records(tmp_path)
    assert [each.status for each in made] == ["ok"] * 6
    assert len({each.cell for each in made}) == 6
    assert {each.launcher for each in made} == {"ray"}


def test_a_job_that_no_node_can_have_fails(
    cluster: tuple[list[str], dict[str, str]], start: Start, tmp_path: Path
) -> None:
    """Ray would wait for a node that never comes."""
    (address, *_), variables = cluster
    launcher = (f"ray.init.address={address}", "ray.remote.num_gpus=1", "patience_s=0", "retries=0")
    words = (*LADDER, "hydra/launcher=ray", *(f"hydra.launcher.{word}" for word in launcher))
    done = swept(start, tmp_path, *words, **variables)
    assert done.returncode == 4, done.stderr
    failures = {each.failure.message for each in records(tmp_path) if each.failure}
    assert failures == {"no node of the Ray cluster has 1 CPUs, 1 GPUs"}


# Slurm


@pytest.fixture(scope="module")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Start a controller and one node, and return the variables by which sbatch finds them."""
    home = tmp_path_factory.mktemp("slurm")
    controller = installed("slurmctld", "slurmctld", "slurm-client")
    daemon = installed("slurmd", "slurmd", "slurm-client")
    for name in ("state", "spool"):
        (home / name).mkdir()
    with socket.socket() as one, socket.socket() as other:
        for each in (one, other):
            each.bind(("127.0.0.1", 0))
        ports = [each.getsockname()[1] for each in (one, other)]
    host, user = socket.gethostname().partition(".")[0], os.environ.get("USER") or "root"
    file = home / "slurm.conf"
    file.write_text(SLURM.format(host=host, user=user, home=home, ports=ports))
    variables = {"SLURM_CONF": str(file)}
    with (
        running(home, [controller, "-D", "-f", str(file)]),
        running(home, [daemon, "-D", "-N", "node", "-f", str(file)]),
    ):
        until(lambda: _said("sinfo", "--noheader", "--format=%T", **variables) == "idle")
        yield variables


def _said(*argv: str, **variables: str) -> str:
    environ = {**os.environ, **variables}
    return subprocess.run(argv, env=environ, capture_output=True, text=True, check=False).stdout.strip()


def test_slurm_runs_the_sweep(slurm: dict[str, str], start: Start, tmp_path: Path) -> None:
    """Each job has the cores that were declared, and a node to itself."""
    words = (*LADDER, "hw=cpu", "hw.cores=2", "hydra/launcher=submitit_slurm")
    with start(tmp_path, *words, **slurm) as process:
        until(measuring)
        assert _said("squeue", "--noheader", "--format=%C %h", **slurm) == "2 NO"
        _, said = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, said
    made = records(tmp_path)
    assert [each.status for each in made] == ["ok", "ok"]
    assert {each.launcher for each in made} == {"submitit_slurm"}
