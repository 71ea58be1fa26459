"""What artefacts do where they run: a shell makes everything once, and becomes the server."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import deployed
import pytest

from xinfer.deploying import container, formats, once
from xinfer.deploying.deployment import Deployment
from xinfer.environments.environment import MARKER
from xinfer.facts import Hardware
from xinfer.plan import Artefact, LaunchPlan

BASH = shutil.which("bash") or "bash"
COMPOSE = Path(sys.executable).with_name("docker-compose")
SHELLCHECK = Path(sys.executable).with_name("shellcheck")
TELL = "import os, sys; print(sys.argv[1:], os.environ.get('A'), os.environ.get('B'), os.environ.get('KEY_OF_MINE'))"


def environment(home: Path, *more: tuple[str, ...]) -> Artefact:
    """Return a directory, in a place that must be quoted, that counts how often it was made."""
    path = f"{home}/it's $HOME/e"
    return Artefact(path=path, steps=(("mkdir", path), ("sh", "-c", f"echo made >> '{home}/count'"), *more))


def run(home: Path, artefact: Artefact, *argv: str, **fields: Any) -> subprocess.CompletedProcess[str]:
    """Run a batch script as Slurm would, without Slurm."""
    key = fields.pop("key", None)
    plan = LaunchPlan(engine="e", version="1", variant="v", environment=artefact, argv=argv, **fields)
    script = home / "job.sh"
    script.write_text(formats.text("slurm", Deployment(launch=plan, hardware=Hardware(profile="h"), key=key)))
    variables = {**os.environ, "B": "inherited", "SERVER_KEY": "k e y"}
    return subprocess.run([BASH, str(script)], capture_output=True, text=True, check=False, env=variables, timeout=60)


def count(home: Path) -> int:
    return len((home / "count").read_text().splitlines())


def test_a_job_becomes_its_server(tmp_path: Path) -> None:
    """With the plan's words and variables, without those that it takes away, and with the key."""
    words = ["it's $HOME", "", "%x", "a\nb"]
    done = run(
        tmp_path, environment(tmp_path), sys.executable, "-c", TELL, *words, env={"A": "it's $A"}, unset=("B",),
        key_variables={"KEY_OF_MINE": "{key},{key}"}, key="SERVER_KEY",
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"{words} it's $A None k e y,k e y\n"


def test_a_job_without_its_key_ends(tmp_path: Path) -> None:
    """Before anything listens."""
    key: dict[str, Any] = {"key_variables": {"KEY_OF_MINE": "{key}"}, "key": "ABSENT_KEY"}
    done = run(tmp_path, environment(tmp_path), sys.executable, "-c", TELL, **key)
    assert done.returncode != 0
    assert "ABSENT_KEY: the key that the server shall ask for" in done.stderr


def test_everything_is_made_once(tmp_path: Path) -> None:
    """A second job finds it, and so does one that finds what xinfer itself has made."""
    artefact = environment(tmp_path)
    for _ in range(2):
        assert run(tmp_path, artefact, "true").returncode == 0
    assert count(tmp_path) == 1
    os.remove(f"{artefact.path}/{once.OWN}")  # noqa: PTH107 -- a path as the plan has it
    with open(f"{artefact.path}/{MARKER}", "w", encoding="utf-8") as file:  # noqa: PTH123
        file.write("{}")
    assert run(tmp_path, artefact, "true").returncode == 0
    assert count(tmp_path) == 1


def test_what_was_left_half_made_is_made_again(tmp_path: Path) -> None:
    """A step that fails ends the job, and the next one begins anew."""
    assert run(tmp_path, environment(tmp_path, ("false",)), "true").returncode != 0
    assert run(tmp_path, environment(tmp_path), "true").returncode == 0
    assert count(tmp_path) == 2


def test_what_a_server_uses_stays(tmp_path: Path) -> None:
    """Nobody removes it while the server runs: its process has the lock."""
    artefact = environment(tmp_path)
    ask = 'flock --nonblock --exclusive "$1" true && echo free || echo used'
    done = run(tmp_path, artefact, "sh", "-c", ask, "sh", f"{artefact.path}.lock")
    assert (done.stdout, done.stderr, done.returncode) == ("used\n", "", 0)


@pytest.mark.parametrize("case", deployed.CASES)
@pytest.mark.parametrize("how", ["shell", "slurm"])
def test_every_script_is_valid(case: str, how: str) -> None:
    """Bash reads it without a complaint, and ShellCheck warns of nothing."""
    text = deployed.text(deployed.CASES[case], how)
    for command in ([BASH, "-n"], [str(SHELLCHECK), "--shell=bash", "--severity=warning", "-"]):
        checked = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
        assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")


@pytest.mark.parametrize("case", deployed.CASES)
def test_compose_reads_what_was_planned(case: str, tmp_path: Path) -> None:
    """Docker Compose itself checks the file, and finds the words, variables and scripts of the plan in it."""
    file = tmp_path / "compose.yaml"
    file.write_text(deployed.text(deployed.CASES[case], "compose"))
    command = [str(COMPOSE), "-f", str(file), "config", "--format", "json"]
    variables = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "SERVER_KEY": "s3cret-key"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=variables, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    found = json.loads(done.stdout)
    made = container.contained(deployed.deployment(deployed.CASES[case], "compose"), "compose")
    # What it prints is a Compose file again, and so has two dollars for one.
    said = json.loads(done.stdout.replace("$$", "$"))["services"]["server"]
    assert [*said["entrypoint"], *said["command"]] == list(made.command)
    assert said["environment"].items() >= made.variables.items()
    assert [port["host_ip"] for port in said["ports"]] == ["127.0.0.1"]
    bodies = {config["content"].replace("$$", "$") for config in found.get("configs", {}).values()}
    assert bodies == set(made.files.values())
