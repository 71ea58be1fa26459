"""Several machines start the same but for their rank, and none is told an address that nobody has said."""

from __future__ import annotations

import subprocess

import msgspec
import pytest

from xinfer.facts import Hardware
from xinfer.plan import HEAD, LaunchPlan, Node
from xinfer.planning import nodes

TWO = Hardware(profile="p", nodes=2)
ARGV = ("serve", "a b", "--node-rank", "0", "--at", f"{HEAD}:1")


def test_the_rank_differs() -> None:
    """The others join, and do not get what is the first one's own."""
    first, second, third = nodes.ranked(ARGV, {"A": "1", "IP": HEAD}, 3, joining=("--headless",), private="IP")
    assert first == Node(rank=0, commands=(ARGV,), env={"A": "1", "IP": HEAD})
    assert second.commands == (("serve", "a b", "--node-rank", "1", "--at", f"{HEAD}:1", "--headless"),)
    assert (third.rank, third.commands[0][3], third.env) == (2, "2", {"A": "1"})


def test_the_address_of_the_first() -> None:
    """Loopback is never meant: it is said, or stays open and is noted."""
    said = msgspec.structs.replace(TWO, head="10.0.0.5")
    assert (nodes.head(said), nodes.head(TWO)) == ("10.0.0.5", HEAD)
    assert nodes.notes(TWO)[:-1] == nodes.notes(said)
    assert HEAD in nodes.notes(TWO)[-1]
    assert nodes.notes(Hardware(profile="p")) == ()


@pytest.mark.parametrize(
    ("head", "code", "said"),
    [
        pytest.param("10.0.0.5", 0, "1 a b --at 10.0.0.5:1\n", id="set"),
        pytest.param("", 127, "", id="not-set"),
    ],
)
def test_a_line_can_be_pasted(head: str, code: int, said: str) -> None:
    """Nothing starts before the address is set, and the rest is quoted."""
    node = Node(rank=0, commands=(("printf", "%s ", "1"), ("echo", "a b", "--at", f"{HEAD}:1")), env={"E": "x y"})
    launch = LaunchPlan(engine="e", version=None, variant="v", argv=node.commands[-1], nodes=(node,))
    (line,) = launch.shell()
    assert line.startswith(": machine 0 of 1; E='x y' printf ")
    done = subprocess.run(
        ["/bin/bash", "-c", line], env={"PATH": "/usr/bin:/bin", "XINFER_HEAD": head}, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout if code == 0 else "") == (code, said)


def test_an_empty_word_stays_one() -> None:
    """A shell would drop it."""
    assert Node(rank=0, commands=(("echo", ""),), env={}).line() == "echo ''"
