"""What plans are handed to: Slurm and systemd themselves read what is written for them."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

import deployed
import msgspec
import pytest
from debian import installed

from xinfer.deploying import formats
from xinfer.environments import locks
from xinfer.verbs import artefact

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.e2e

SLURM = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
CommunicationParameters=NoCtldInAddrAny
SlurmUser={user}
AuthType=auth/none
CredType=cred/none
SlurmctldPort={port}
StateSaveLocation={home}/state
SlurmctldPidFile={home}/slurmctld.pid
ProctrackType=proctrack/linuxproc
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
GresTypes=gpu
NodeName=node NodeAddr=127.0.0.1 CPUs=64 RealMemory=512000 Gres=gpu:8 State=CLOUD
PartitionName=all Nodes=ALL Default=YES State=UP
SuspendProgram=/bin/true
ResumeProgram=/bin/true
SuspendTime=60
"""
"""A cluster of one node that is switched off: whether a job could run on it is all that is asked."""
PATIENCE_S = 60
START_S = 300
"""How long an installation and a start may take."""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Run Slurm's controller on loopback, and return the variables by which sbatch finds it."""
    home = tmp_path_factory.mktemp("slurm")
    controller = installed("slurmctld", "slurmctld", "slurm-client")
    (home / "state").mkdir()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    host, user = socket.gethostname().partition(".")[0], os.environ.get("USER") or "root"
    (home / "slurm.conf").write_text(SLURM.format(host=host, user=user, home=home, port=port))
    (home / "gres.conf").write_text("NodeName=node Name=gpu Count=8\n")
    with (
        (home / "log").open("wb") as log,
        subprocess.Popen([controller, "-D", "-f", str(home / "slurm.conf")], stdout=log, stderr=log) as process,
    ):
        try:
            _until_it_listens(process, port, home / "log")
            yield {"SLURM_CONF": str(home / "slurm.conf"), "PATH": os.environ["PATH"]}
        finally:
            process.terminate()


def _until_it_listens(process: subprocess.Popen[bytes], port: int, log: Path, patience_s: float = PATIENCE_S) -> None:
    end = time.monotonic() + patience_s
    while time.monotonic() < end and process.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    pytest.fail(log.read_text(errors="replace"))


def submit(cluster: dict[str, str], script: Path) -> subprocess.CompletedProcess[str]:
    sbatch = installed("sbatch", "slurm-client")
    command = [sbatch, "--test-only", str(script)]
    return subprocess.run(command, env=cluster, capture_output=True, text=True, check=False, timeout=PATIENCE_S)


@pytest.mark.parametrize("case", deployed.CASES)
def test_slurm_would_run_it(case: str, cluster: dict[str, str], tmp_path: Path) -> None:
    """It knows every directive, and has a node for what is asked of it."""
    script = tmp_path / "job.sh"
    script.write_text(deployed.text(deployed.CASES[case], "slurm"))
    done = submit(cluster, script)
    assert (done.returncode, done.stdout) == (0, "")
    assert " on nodes node in partition all" in done.stderr


def test_slurm_reads_what_is_asked_for(cluster: dict[str, str], tmp_path: Path) -> None:
    """A ninth GPU is not there: the directive was read."""
    script = tmp_path / "job.sh"
    script.write_text(deployed.text(deployed.CASES["vllm-cuda"], "slurm").replace("--gpus=1", "--gpus=9"))
    assert "Requested node configuration is not available" in submit(cluster, script).stderr


def test_a_job_serves(home: Path, tmp_path: Path) -> None:
    """What Slurm would run installs what is missing, becomes the real server, and ends when it is told to."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    composer = deployed.composer()
    words = ["hw=cpu", "hw.cores=2", "engine=llama_cpp", f"port={port}", f"home={home}"]
    planned = artefact.plan("slurm", composer.compose(words), composer)
    script = tmp_path / "job.sh"
    script.write_text(artefact.text("slurm", planned, words))
    with (
        (tmp_path / "log").open("wb") as log,
        subprocess.Popen([installed("bash", "bash"), str(script)], stdout=log, stderr=log) as process,
    ):
        try:
            _until_it_listens(process, port, tmp_path / "log", START_S)
            assert planned.launch is not None
            assert locks.is_held(Path(planned.launch.weights[-1].path))
        finally:
            process.terminate()


def verify(path: Path) -> subprocess.CompletedProcess[str]:
    command = [installed("systemd-analyze", "systemd"), "--user", "verify", str(path)]
    variables = {"PATH": os.environ["PATH"], "HOME": str(path.parent), "XDG_RUNTIME_DIR": str(path.parent)}
    return subprocess.run(command, env=variables, capture_output=True, text=True, check=False, timeout=PATIENCE_S)


@pytest.mark.parametrize("folder", ["home", "it's $HOME 100%", 'a"b\\c'])
@pytest.mark.parametrize("case", deployed.CASES)
def test_systemd_has_nothing_to_say(case: str, folder: str, tmp_path: Path) -> None:
    """It knows every setting and finds the program, in whatever folder that lies."""
    deployment = deployed.deployment(deployed.CASES[case], "systemd")
    program = tmp_path / folder / "python"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\n")
    program.chmod(0o700)
    launch = msgspec.structs.replace(deployment.launch, argv=(str(program), *deployment.launch.argv[1:]))
    unit = tmp_path / "xinfer.service"
    unit.write_text(formats.text("systemd", msgspec.structs.replace(deployment, launch=launch)))
    done = verify(unit)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_systemd_finds_what_is_wrong(tmp_path: Path) -> None:
    """A setting that it does not know, and a program that is not there."""
    unit = tmp_path / "xinfer.service"
    unit.write_text(deployed.text(deployed.CASES["vllm-cuda"], "systemd").replace("Restart=", "Restrat="))
    done = verify(unit)
    assert done.returncode != 0
    assert "Unknown key 'Restrat'" in done.stderr
    assert "is not executable: No such file or directory" in done.stderr
