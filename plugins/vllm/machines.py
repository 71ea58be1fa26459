"""vLLM over several machines: by processes of its own, or by Ray."""

from __future__ import annotations

from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from xinfer.errors import ConfigError
from xinfer.plan import Node
from xinfer.planning import nodes

if TYPE_CHECKING:
    from xinfer.facts import Hardware
    from xinfer.plan import Command
    from xinfer.planning.parallel import Split

    from .settings import Settings

RAY = (("ray==2.60.0",),)
"""What pip installs beside vLLM, which does not ask for it."""
RAY_PORT = 6379
"""Ray's own."""
HEAD, JOINS = "the first machine, where the others find it", "the others wait for the first one's orders"


def check(settings: Settings, hardware: Hardware) -> None:
    """Refuse a setting that does nothing on one machine."""
    if settings.executor is not None and hardware.nodes == 1:
        raise ConfigError(f"engine.executor={settings.executor} is for several machines; say hw.nodes=2 or more")


def add(command: Command, settings: Settings, hardware: Hardware) -> None:
    """Say how the machines find each other."""
    address, count = nodes.head(hardware), hardware.nodes
    if settings.executor == "ray":
        command.add("--distributed-executor-backend", "ray", because="engine.executor: Ray starts what computes")
    else:
        command.add("--nnodes", count, because="hw.nodes=")
        command.add("--node-rank", 0, because="its own for each machine; 0 answers requests")
        command.add("--master-addr", address, because=HEAD)
    why = "the first machine's own address, by which the others reach it; they find out their own"
    command.set("VLLM_HOST_IP", address, because=why)


def started(parts: dict[str, Any], python: str, settings: Settings, hardware: Hardware, split: Split) -> dict[str, Any]:
    """Return a command line's parts with what each machine starts, and the reasons."""
    argv, env, count = parts["argv"], parts["env"], hardware.nodes
    if settings.executor != "ray":
        found = nodes.ranked(argv, env, count, joining=("--headless",), private="VLLM_HOST_IP")
        return {**parts, "nodes": found, "because": {**parts["because"], "--headless": JOINS}}
    address, each = nodes.head(hardware), ("--num-gpus", str(split.gpus // count))
    ray = (str(PurePath(python).with_name("ray")), "start")
    first = (*ray, "--head", "--node-ip-address", address, "--port", str(RAY_PORT), *each)
    other = (*ray, "--address", f"{address}:{RAY_PORT}", *each, "--block")
    quiet = {"RAY_USAGE_STATS_ENABLED": "0"}
    reasons = {
        "ray --head": "the first machine, whose Ray knows all others", "ray --node-ip-address": HEAD,
        "ray --port": "Ray's own", "ray --address": HEAD,
        "ray --num-gpus": f"{split.tensor} that share each layer are on one machine: none offers more than its part",
        "ray --block": "it stays until it is stopped; on the first machine, ray stop ends it",
        "RAY_USAGE_STATS_ENABLED": "nothing is reported to anybody",
    }  # fmt: skip
    shared = {**quiet, **{name: value for name, value in env.items() if name != "VLLM_HOST_IP"}}
    found = (
        Node(rank=0, commands=(first, argv), env={**quiet, **env}),
        *(Node(rank=rank, commands=(other,), env=shared) for rank in range(1, count)),
    )
    return {**parts, "env": {**quiet, **env}, "nodes": found, "because": {**parts["because"], **reasons}}
