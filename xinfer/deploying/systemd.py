"""A plan as a user unit of systemd: ``systemctl --user start`` starts it, and it comes back when it fails."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from xinfer.deploying import deployment as common
from xinfer.environments.environment import MARKER, roots

if TYPE_CHECKING:
    from collections.abc import Iterator

    from xinfer.deploying.deployment import Deployment
    from xinfer.plan import LaunchPlan

ESCAPES = {"\\": "\\\\", '"': '\\"', "%": "%%", "\n": "\\n", "\t": "\\t", "\r": "\\r"}
UNSAFE = frozenset("\"'\\")
"""Letters that no name of an executable may have in a unit, however they are written."""
SHELL = ("/bin/sh", "-c", 'exec "$0" "$@"')
"""A program that starts any other."""
HARDENING = (
    "NoNewPrivileges=yes",
    "LockPersonality=yes",
    "RestrictSUIDSGID=yes",
    "RestrictRealtime=yes",
    "SystemCallArchitectures=native",
    "RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK",
    "UMask=0077",
)
"""What a user's own systemd can enforce without namespaces, and no engine needs: they compile code, so memory may be
written and executed, and they open the GPU's devices."""


def text(deployment: Deployment) -> str:
    """Return the unit file; ConfigError for a plan that is not for Linux."""
    common.check_linux(deployment, "systemd")
    return "\n".join([*common.comments(deployment, dict(_notes(deployment)), {}), "", *_unit(deployment)]) + "\n"


def quoted(word: str) -> str:
    """Return one word of a line, as systemd reads it: in quotes, with nothing that it would expand."""
    letters = (ESCAPES.get(letter, letter if ord(letter) >= ord(" ") else f"\\x{ord(letter):02x}") for letter in word)
    return f'"{"".join(letters)}"'


def _notes(deployment: Deployment) -> Iterator[tuple[str, str]]:
    unit = f"{common.name(deployment)}.service"
    typed = shlex.join(word for word in deployment.typed if not word.startswith("format="))
    yield "Install", f"into ~/.config/systemd/user/{unit}, then: systemctl --user daemon-reload"
    yield "Start", f"systemctl --user enable --now {unit}; loginctl enable-linger keeps it without a session"
    yield "Assert", f"what the server needs is made once, by: xinfer provision {typed}".rstrip()
    yield "ExecStart", "the colon keeps $ as it is; %% is one %"
    yield "Port", f"the server listens on {deployment.launch.host} alone: put a proxy before it for others"
    if deployment.key:
        names = ", ".join(f"{name}={value}" for name, value in deployment.launch.key_variables.items())
        yield "EnvironmentFile", f"holds {names.replace('{key}', 'KEY')}, for you alone to read (mode 600)"


def _unit(deployment: Deployment) -> Iterator[str]:
    launch = deployment.launch
    yield "[Unit]"
    yield f"Description={_description(launch)}"
    for artefact in roots(launch):
        yield f"AssertPathExists={_path(artefact.path)}/{MARKER}"
    yield "StartLimitIntervalSec=600"
    yield "StartLimitBurst=5"
    yield ""
    yield "[Service]"
    yield "Type=exec"
    yield from (f"Environment={quoted(f'{name}={value}')}" for name, value in launch.env.items())
    if launch.inherits_not:
        yield f"UnsetEnvironment={' '.join(launch.inherits_not)}"
    if deployment.key:
        yield f"EnvironmentFile=%h/.config/xinfer/{common.name(deployment)}.env"
    yield "ExecStart=:" + " \\\n  ".join(_lines(launch))
    yield "Restart=on-failure"
    yield "RestartSec=5"
    yield "KillMode=mixed"
    yield "TimeoutStopSec=30"
    yield from HARDENING
    yield ""
    yield "[Install]"
    yield "WantedBy=default.target"


def _lines(launch: LaunchPlan) -> Iterator[str]:
    """Yield the command, a line for each flag with its values."""
    line: list[str] = []
    is_safe = UNSAFE.isdisjoint(launch.argv[0]) and launch.argv[0].isprintable()
    for word in launch.argv if is_safe else (*SHELL, *launch.argv):
        if word.startswith("--") and line:
            yield " ".join(line)
            line = []
        line.append(quoted(word))
    yield " ".join(line)


def _description(launch: LaunchPlan) -> str:
    words = f"{launch.model} by {launch.engine} {launch.version or ''}, as xinfer planned it"
    return "".join(letter if letter.isprintable() else " " for letter in words).replace("%", "%%").replace("\\", "/")


def _path(path: str) -> str:
    """Return a path as a setting that takes one: it knows no quotes, and a backslash is itself."""
    return path.replace("%", "%%")
