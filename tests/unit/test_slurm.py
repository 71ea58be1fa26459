"""A plan as a batch script: what it asks the cluster for, and what becomes of the job."""

from __future__ import annotations

import shlex
import subprocess

import deployed
import pytest

DIRECTIVES = {
    "vllm-cuda": {"job-name": "xinfer-qwen2-instruct", "gpus": "1"},
    "vllm-cuda-4": {"job-name": "xinfer-qwen2-instruct", "gpus": "4"},
    "transformers-cuda": {"job-name": "xinfer-qwen2-instruct", "gpus": "1"},
    "llama_cpp-cpu": {"job-name": "xinfer-smollm2-135m-instruct", "cpus-per-task": "8", "mem": "4G"},
}


def directives(script: str) -> dict[str, str]:
    lines = [line.removeprefix("#SBATCH --") for line in script.splitlines() if line.startswith("#SBATCH")]
    return dict(line.split("=", 1) for line in lines)


@pytest.mark.parametrize("case", DIRECTIVES)
def test_what_is_asked_for(case: str) -> None:
    """The GPUs that the server uses, the cores and the memory where they are known, one task on one node."""
    asked = directives(deployed.text(deployed.CASES[case], "slurm"))
    assert asked == {"nodes": "1", "ntasks": "1", "output": "%x-%j.log", **DIRECTIVES[case]}


@pytest.mark.parametrize("case", deployed.CASES)
def test_the_job_becomes_the_server(case: str) -> None:
    """The last command is the plan's, word by word, in place of the script's own process."""
    deployment = deployed.deployment(deployed.CASES[case])
    script = deployed.text(deployed.CASES[case], "slurm")
    last = script[script.rindex("\nexec ") + 1 :].replace("\\\n", "")
    assert shlex.split(last) == ["exec", *deployment.launch.argv]
    assert script.startswith("#!/bin/bash\n# made by: ")


@pytest.mark.parametrize("case", deployed.CASES)
def test_every_directive_comes_before_the_first_command(case: str) -> None:
    """Slurm reads none behind it."""
    lines = deployed.text(deployed.CASES[case], "slurm").splitlines()
    first = next(at for at, line in enumerate(lines) if line and not line.startswith("#"))
    assert not any(line.startswith("#SBATCH") for line in lines[first:])


@pytest.mark.parametrize(
    ("case", "lines"),
    [
        pytest.param("vllm-key", ['export VLLM_API_KEY="$SERVER_KEY"'], id="as-it-is"),
        pytest.param("llama_cpp-cuda-key", ['export LLAMA_API_KEY="$SERVER_KEY","$SERVER_KEY"'], id="twice"),
        pytest.param("vllm-cuda", [], id="nobody-asked-for-one"),
    ],
)
def test_the_key_comes_from_whoever_submits(case: str, lines: list[str]) -> None:
    """By the variable that was named; a job without it ends at once."""
    script = deployed.text(deployed.CASES[case], "slurm").splitlines()
    assert [line for line in script if "_API_KEY=" in line and not line.startswith("#")] == lines
    assert any(line.startswith(': "${SERVER_KEY:?') for line in script) is bool(lines)


def test_what_the_server_must_not_inherit() -> None:
    """Slurm hands the submitter's whole environment on."""
    assert "\nunset VLLM_CPU_KVCACHE_SPACE\n" in deployed.text(deployed.CASES["vllm-cpu"], "slurm")


@pytest.mark.parametrize("head", ["", " hw.head=10.0.0.5"])
def test_several_nodes(head: str) -> None:
    """One task on each starts what that one has to, and the first one's address is found out unless it is said."""
    typed = f"model=qwen2-instruct model.size=72 hw=h100 hw.gpus=4 hw.nodes=2 engine=vllm{head}"
    script = deployed.text(typed, "slurm")
    asked = directives(script)
    assert {name: asked[name] for name in ("nodes", "ntasks", "ntasks-per-node", "gpus-per-node")} == {
        "nodes": "2", "ntasks": "2", "ntasks-per-node": "1", "gpus-per-node": "2",
    }  # fmt: skip
    assert ("export XINFER_HEAD=" in script) == (not head)
    body = script.partition("<<'END' || true\n")[2].partition("\nEND\n")[0]
    for text in (script, body):
        subprocess.run(["bash", "-n", "-c", text], check=True)  # noqa: S607
    lines = [line.strip() for line in body.splitlines()]
    assert lines[:3] == ["set -euo pipefail", 'case "$SLURM_NODEID" in', "0)"]
    nodes = deployed.deployment(typed).launch.nodes
    assert [lines[3], lines[6]] == [node.line() for node in nodes]
    assert script.endswith('\nexec srun --nodes=2 --ntasks-per-node=1 --kill-on-bad-exit=1 bash -c "$NODE"\n')
