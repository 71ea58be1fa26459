"""The lines that make directories complete: which they are; what they do is tested with a shell."""

from __future__ import annotations

from xinfer.deploying.once import kept, made
from xinfer.plan import Artefact

PARTS = (
    Artefact(path="/h/environments/e", steps=(("python3", "-m", "venv", "/h/environments/e"), ("pip", "it's"))),
    Artefact(path="/my m", steps=()),
)


def test_each_directory_is_made_under_its_own_lock() -> None:
    """The markers and the lock are those of xinfer, so that both know of each other."""
    assert list(made(PARTS)) == [
        "d=/h/environments/e",
        'mkdir -p "${d%/*}"',
        "(",
        "  flock 9",
        '  if [ ! -s "$d/.complete.json" ] && [ ! -e "$d/.complete-by-script" ]; then',
        '    rm -rf "$d"',
        "    python3 -m venv /h/environments/e",
        "    pip 'it'\"'\"'s'",
        '    touch "$d/.complete-by-script"',
        "  fi",
        ') 9>>"$d.lock"',
        "d='/my m'",
        'mkdir -p "${d%/*}"',
        "(",
        "  flock 9",
        '  if [ ! -s "$d/.complete.json" ] && [ ! -e "$d/.complete-by-script" ]; then',
        '    rm -rf "$d"',
        '    touch "$d/.complete-by-script"',
        "  fi",
        ') 9>>"$d.lock"',
    ]


def test_each_directory_is_kept_by_its_lock() -> None:
    """Any number of servers hold it, and whoever would remove it waits."""
    assert list(kept(PARTS[1:])) == ["exec {lock}<'/my m.lock'", 'flock --shared "$lock"']
