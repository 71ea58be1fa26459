"""The installed engines take the command lines of a plan for several machines."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING

import pytest

from xinfer import engines, flow
from xinfer.config.compose import Composer
from xinfer.environments.environment import provision
from xinfer.planning import artefacts

if TYPE_CHECKING:
    from pathlib import Path

    from xinfer.plan import LaunchPlan

pytestmark = pytest.mark.e2e

VLLM = """
import json, sys
from vllm.entrypoints.cli.serve import ServeSubcommand
from vllm.utils.argparse_utils import FlexibleArgumentParser

parser = FlexibleArgumentParser()
ServeSubcommand().subparser_init(parser.add_subparsers())
for line in json.loads(sys.argv[1]):
    found = parser.parse_args(line[line.index("serve"):])
    print(json.dumps([found.nnodes, found.node_rank, found.master_addr, found.headless,
                      found.tensor_parallel_size, found.pipeline_parallel_size, found.distributed_executor_backend]))
"""
SGLANG = """
import argparse, json, sys
from sglang.srt.server_args import ServerArgs

parser = argparse.ArgumentParser()
ServerArgs.add_cli_args(parser)
for line in json.loads(sys.argv[1]):
    found = parser.parse_args(line[line.index("--model-path"):])
    print(json.dumps([found.nnodes, found.node_rank, found.dist_init_addr, found.tp_size, found.pp_size]))
"""
TWO = ("model=qwen2-instruct", "model.size=72", "model.format=pytorch", "hw=h100", "hw.gpus=8", "hw.nodes=2")


def planned(*words: str, home: Path) -> LaunchPlan:
    composer = Composer(engines.conf_directories())
    asked = flow.ask(composer.compose([*words, f"home={home}"]), composer)
    launch = flow.plan(asked, composer, compares=False).launch
    assert launch is not None
    return launch


@pytest.mark.parametrize(
    ("engine", "program", "ways", "expected"),
    [
        pytest.param(
            "vllm", VLLM, ("engine.executor=mp", "engine.executor=ray"),
            [
                [2, 0, "10.0.0.5", False, 2, 2, None], [2, 1, "10.0.0.5", True, 2, 2, None],
                [1, 0, "127.0.0.1", False, 2, 2, "ray"],
            ],
            id="vllm",
        ),
        pytest.param(
            "sglang", SGLANG, ("engine=sglang",), [[2, 0, "10.0.0.5:20000", 2, 2], [2, 1, "10.0.0.5:20000", 2, 2]],
            id="sglang",
        ),
    ],
)  # fmt: skip
def test_the_engines_own_parser(
    home: Path, tmp_path: Path, engine: str, program: str, ways: tuple[str, ...], expected: list[list[object]]
) -> None:
    """Every flag is one of its own and has the value that was meant."""
    spread = [planned(*TWO, f"engine={engine}", "hw.head=10.0.0.5", way, home=home) for way in ways]
    here = planned("hw=cpu", "hw.cores=2", f"engine={engine}", "rules=engines-2026-11", home=home)
    assert here.environment is not None
    provision(here, progress=lambda _: None, log=tmp_path / "log")
    nodes = [node for launch in spread for node in launch.nodes]
    lines = [command for node in nodes for command in node.commands if command[1] != "start"]
    argv = [artefacts.interpreter(here.environment.path), "-c", program, json.dumps(lines)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert [json.loads(line) for line in done.stdout.splitlines() if line.startswith("[")][-len(expected) :] == expected
