"""The guard's reading of process tables."""

from __future__ import annotations

import pytest

from xinfer.guard import Process, parse_maps, parse_ps, parse_stat, tree


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("7 (python) S 3 5 5 0 -1", Process(3, 5, is_zombie=False), id="a-plain-name"),
        pytest.param("7 (a) Z 9 (b) S 3 5 5 0 -1", Process(3, 5, is_zombie=False), id="a-name-with-brackets"),
        pytest.param("7 (tmux: server) Z 1 7 7 0 -1", Process(1, 7, is_zombie=True), id="a-zombie"),
    ],
)
def test_stat_line(text: str, expected: Process) -> None:
    """A line of /proc/PID/stat gives parent, group and state, whatever the command is called."""
    assert parse_stat(text) == expected


def test_ps_output() -> None:
    """The portable process list gives the same facts."""
    text = "    1     0     1 Ss\n  501   1   501 S+\n  777   501   777 Z\n"
    assert parse_ps(text) == {
        1: Process(0, 1, is_zombie=False),
        501: Process(1, 501, is_zombie=False),
        777: Process(501, 777, is_zombie=True),
    }


def row(parent: int, group: int) -> Process:
    """Return a live process."""
    return Process(parent, group, is_zombie=False)


@pytest.mark.parametrize(
    ("table", "group", "expected"),
    [
        pytest.param({}, 20, set(), id="nothing-is-left"),
        pytest.param({10: row(1, 10), 20: row(10, 20), 21: row(20, 20)}, 20, {20, 21}, id="grandchildren-belong"),
        pytest.param({20: row(10, 20), 30: row(20, 30)}, 20, {20, 30}, id="a-session-of-its-own-belongs"),
        pytest.param({21: row(1, 20), 22: row(21, 22)}, 20, {21, 22}, id="an-orphan-of-the-group-belongs"),
        pytest.param({40: row(1, 40), 41: row(40, 40)}, 20, set(), id="strangers-do-not"),
        pytest.param({10: row(1, 20), 20: row(10, 20)}, 20, {20}, id="the-root-itself-does-not"),
        pytest.param({0: row(0, 0), 20: row(10, 20)}, 0, {20}, id="no-group-adds-nothing"),
    ],
)
def test_tree(table: dict[int, Process], group: int, expected: set[int]) -> None:
    """The tree of process 10 is its descendants and the members of its engine's group."""
    assert tree(table, 10, group) == expected


MAPS = """\
55d0c6a00000-55d0c6a01000 r--p 00000000 fe:00 131 /usr/bin/python3.11
7f0000000000-7f0000001000 rw-s 00000000 00:1a 42 /dev/shm/sem.mp-x1
7f0000001000-7f0000002000 rw-s 00000000 00:1a 42 /dev/shm/sem.mp-x1
7f0000002000-7f0000003000 rw-s 00000000 00:1a 43 /dev/shm/with a space
7f0000003000-7f0000004000 rw-s 00000000 00:1a 44 /dev/shm/sem.made (deleted)
7f0000004000-7f0000005000 rw-p 00000000 00:00 0
7f0000005000-7f0000006000 r--p 00000000 fe:00 132 /tmp/dev/shm/file
7f0000006000-7f0000007000 r-xp 00000000 00:00 0 [vdso]
"""


def test_maps() -> None:
    """A process's shared-memory files are known by their inodes, whatever their names have become."""
    assert parse_maps(MAPS) == {42, 43, 44}
