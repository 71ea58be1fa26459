"""The commands of several machines that serve one model together: alike but for the rank, or by way of Ray."""

from __future__ import annotations

from typing import TYPE_CHECKING

from xinfer.plan import HEAD, Node

if TYPE_CHECKING:
    from collections.abc import Mapping

    from xinfer.facts import Hardware
    from xinfer.plan import Argv

TRUSTED = (
    "the machines talk to each other unencrypted, and whoever reaches their ports can give them orders: keep them on a "
    "network of their own; engine.env.NCCL_SOCKET_IFNAME= and engine.env.GLOO_SOCKET_IFNAME= name it where there are "
    "several"
)
SHARED = "every machine needs environment and model at the same paths: a home= that they share, or an install on each"
UNSAID = f"{HEAD} is the address of machine 0 as the others reach it: hw.head= writes it out"


def head(hardware: Hardware) -> str:
    """Return the address of the first machine, or what stands for it."""
    return hardware.head or HEAD


def notes(hardware: Hardware) -> tuple[str, ...]:
    """Return what a person should know before starting several machines."""
    if hardware.nodes == 1:
        return ()
    return (SHARED, TRUSTED, *(() if hardware.head else (UNSAID,)))


def ranked(
    argv: Argv, env: Mapping[str, str], count: int, *, joining: Argv = (), private: str = ""
) -> tuple[Node, ...]:
    """Return the command of each machine: the first one's, with another ``--node-rank``.

    ``joining`` are flags of all but the first, and ``private`` is a variable of the first alone.
    """
    place = argv.index("--node-rank") + 1
    shared = {name: value for name, value in env.items() if name != private}
    others = (
        Node(rank=rank, commands=((*argv[:place], str(rank), *argv[place + 1 :], *joining),), env=shared)
        for rank in range(1, count)
    )
    return (Node(rank=0, commands=(argv,), env=dict(env)), *others)
