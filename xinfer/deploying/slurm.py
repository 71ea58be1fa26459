"""A plan as a batch script of Slurm: it asks for what the plan uses, installs once, and becomes the server."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from xinfer.deploying import deployment as common
from xinfer.deploying import once
from xinfer.plan import HEAD

if TYPE_CHECKING:
    from collections.abc import Iterator

    from xinfer.deploying.deployment import Deployment
    from xinfer.plan import LaunchPlan

INSTALLING_GIB = 4
"""What pip may need while it installs an engine; a job's memory is a hard limit from its first line on."""


def text(deployment: Deployment) -> str:
    """Return the script; ConfigError for a plan that is not for Linux."""
    common.check_linux(deployment, "slurm")
    head = common.comments(deployment, dict(_notes(deployment)), {})
    lines = ["#!/bin/bash", *head, *_directives(deployment), "", *_commands(deployment)]
    return "\n".join(lines) + "\n"


def _notes(deployment: Deployment) -> Iterator[tuple[str, str]]:
    port = deployment.launch.port
    yield "--time", "is not set, so the partition's own limit holds; sbatch --time= sets one"
    yield (
        "--mem",
        (
            f"the estimate of the plan and a quarter more, at least {INSTALLING_GIB} GiB to install in"
            if common.memory_gib(deployment)
            else "is not set: main memory is not estimated for this plan; sbatch --mem= sets it"
        ),
    )
    yield "install", "needs the network once; where nodes have none, run it first where there is one: same home="
    if deployment.launch.nodes:
        yield "home", "lies where all nodes see it: the first installs for all"
        yield "reach it", f"the first node's loopback has the server: ssh -N -L {port}:127.0.0.1:{port} NODE"
    else:
        yield "reach it", f"the server listens on the node's loopback alone: ssh -N -L {port}:127.0.0.1:{port} NODE"
    if deployment.key:
        yield "key", f"sbatch passes ${deployment.key} on to the job, unless it is told otherwise (--export)"


def _directives(deployment: Deployment) -> Iterator[str]:
    yield f"#SBATCH --job-name={common.name(deployment)}"
    count = len(deployment.launch.nodes) or 1
    yield f"#SBATCH --nodes={count}"
    yield f"#SBATCH --ntasks={count}"
    if count > 1:
        yield "#SBATCH --ntasks-per-node=1"
    if deployment.hardware.cores:
        yield f"#SBATCH --cpus-per-task={deployment.hardware.cores}"
    if used := common.gpus(deployment):
        yield f"#SBATCH --gpus-per-node={used // count}" if count > 1 else f"#SBATCH --gpus={used}"
    if memory := common.memory_gib(deployment):
        yield f"#SBATCH --mem={max(memory[1], INSTALLING_GIB)}G"
    yield "#SBATCH --output=%x-%j.log"


def _commands(deployment: Deployment) -> Iterator[str]:
    launch = deployment.launch
    artefacts = [artefact for artefact in (launch.environment, *launch.weights) if artefact]
    yield "set -euo pipefail"
    yield ""
    yield "# what the server needs, each part made once, whoever comes first"
    yield from once.made(artefacts)
    yield ""
    yield "# and kept while it runs"
    yield from once.kept(artefacts)
    yield ""
    yield from (f"unset {name}" for name in launch.inherits_not)
    if deployment.key:
        yield from _keys(launch, deployment.key)
    if launch.nodes:
        yield from _spread(launch)
        return
    yield from (f"export {name}={shlex.quote(value)}" for name, value in launch.env.items())
    yield "exec " + " \\\n  ".join(_lines(launch))


def _spread(launch: LaunchPlan) -> Iterator[str]:
    """Yield what starts each node's command, and ends all of them with the first that ends."""
    yield "# what each node starts; the first is the one that the others look for"
    if any(HEAD in word for node in launch.nodes for command in node.commands for word in command):
        yield f'export {HEAD[1:]}="$(hostname -I | cut -d " " -f 1)"  # this script runs on the first node'
    yield "read -r -d '' NODE <<'END' || true"
    yield "set -euo pipefail"
    yield 'case "$SLURM_NODEID" in'
    for node in launch.nodes:
        yield from (f"{node.rank})", f"  {node.line()}", "  ;;")
    yield "esac"
    yield "END"
    yield f'exec srun --nodes={len(launch.nodes)} --ntasks-per-node=1 --kill-on-bad-exit=1 bash -c "$NODE"'


def _keys(launch: LaunchPlan, key: str) -> Iterator[str]:
    yield f': "${{{key}:?the key that the server shall ask for}}"'
    for name, value in launch.key_variables.items():
        parts = (shlex.quote(part) if part else "" for part in value.split("{key}"))
        joined = f'"${key}"'.join(parts)
        yield f"export {name}={joined}"


def _lines(launch: LaunchPlan) -> Iterator[str]:
    """Yield the command, a line for each flag with its values."""
    line: list[str] = []
    for word in launch.argv:
        if word.startswith("--") and line:
            yield shlex.join(line)
            line = []
        line.append(word)
    yield shlex.join(line)
