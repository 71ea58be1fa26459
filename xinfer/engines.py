"""Engines are plugins: what an adapter must offer, and how adapters are found by name.

An adapter is registered in the entry-point group ``xinfer.engines``; the five that ship with xinfer
use the same door. Loading an adapter never imports the engine itself.
"""

from __future__ import annotations

import os
import re
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar, get_args, get_origin, get_type_hints

import msgspec

from xinfer.catalog import Spec
from xinfer.errors import ConfigError, nearest
from xinfer.facts import Hardware
from xinfer.spec import Workload

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from importlib.metadata import EntryPoint

    from xinfer.plan import LaunchPlan

GROUP = "xinfer.engines"


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """Everything an adapter may use to make a plan: data only, so that a plan is a pure function."""

    spec: Spec
    hardware: Hardware
    settings: dict[str, Any]
    """The ``engine`` node of the configuration: the adapter's own YAML with the user's changes."""
    workload: Workload
    context_length: int
    """Tokens that one sequence may use, prompt and output together."""
    home: str
    """xinfer's cache directory; environments and weights live below it."""
    python: str
    """The interpreter that creates environments."""
    port: int
    dtype: str | None = None
    """What the network shall be computed in; null leaves it to the adapter."""
    installer: str = "pip"
    """What fills environments: pip or uv."""


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What every engine's configuration has; an adapter adds its own fields."""

    name: str
    version: str | None = None
    """Null: the version that the plugin was tested with."""
    python: str | None = None
    """An interpreter that has the engine, instead of an environment of xinfer's own."""
    args: dict[str, Any] = {}
    """The engine's own flags in its own spelling; null leaves a flag out, true makes it a bare one."""
    env: dict[str, str | int | float] = {}


T = TypeVar("T")
S = TypeVar("S", bound=Settings)


def settings(job: Job, kind: type[S]) -> S:
    """Give the ``engine`` node its type; ConfigError names the key and what it takes."""
    return typed(job.settings, kind, "engine")


def typed(node: Any, kind: type[T], where: str, *, strict: bool = True) -> T:
    """Give a node of the configuration its type; ConfigError names the key, what it takes and what is nearest.

    What is not ``strict`` may have its numbers as text.
    """
    known: tuple[str, ...] = getattr(kind, "__struct_fields__", ())
    for name in node if isinstance(node, dict) else ():
        if name not in known:
            hint = nearest(str(name), known) or f"; its keys are {', '.join(known)}"
            raise ConfigError(f"{where} has no key {name!r}{hint}")
    try:
        return msgspec.convert(node, kind, strict=strict)
    except msgspec.ValidationError as error:
        text, _, path = str(error).replace("`", "").partition(" - at ")
        for theirs, ours in _KINDS.items():
            text = re.sub(rf"\b{theirs}\b", ours, text)
        text, key = text.replace(" | ", " or "), path.replace("$", where, 1) or where
        raise ConfigError(f"{key}: {text[:1].lower()}{text[1:]}{_choices(kind, key, node)}") from error


_KINDS = {
    "object": "a mapping", "array": "a list", "str": "text", "int": "a whole number", "float": "a number",
    "bool": "true or false",
}  # fmt: skip
"""What msgspec calls a kind of value, and what a person does."""


def _choices(kind: type, key: str, node: Any) -> str:
    """List what a key takes that takes only certain words."""
    name = key.rpartition(".")[2]
    hint = get_type_hints(kind).get(name)
    words = [w for part in (hint, *get_args(hint)) if get_origin(part) is Literal for w in get_args(part)]
    return f"; it takes {', '.join(words)}{nearest(str(node.get(name)), words)}" if words else ""


class Engine(Protocol):
    """One engine, as xinfer sees it."""

    name: str
    """The name used on the command line, in rule packs and in records."""
    title: str
    """The engine's name as its authors write it."""
    port: int
    """The port its own documentation uses."""
    conf: Path
    """The directory of the plugin's configuration; ``engine/<name>.yaml`` lies in it."""

    def plan(self, job: Job) -> LaunchPlan:
        """Return the launch plan; raise ConfigError for settings the engine does not have."""
        ...


@cache
def registered() -> dict[str, EntryPoint]:
    """Return every registered engine by name; ``XINFER_ENGINES=a,b`` limits which are seen."""
    allowed = os.environ.get("XINFER_ENGINES")
    names = None if allowed is None else {name.strip() for name in allowed.split(",")}
    found = entry_points(group=GROUP)
    return {e.name: e for e in sorted(found, key=lambda e: e.name) if names is None or e.name in names}


@cache
def get(name: str) -> Engine:
    """Import and return the adapter of an engine; whatever its import raises passes through."""
    if name not in registered():
        known = ", ".join(registered())
        message = f"engine {name!r} is not registered; registered: {known}{nearest(name, registered())}"
        raise ConfigError(message)
    adapter: Engine = registered()[name].load()()
    lacks = [part for part in ("name", "title", "port", "conf", "plan") if not hasattr(adapter, part)]
    if lacks:
        raise TypeError(f"the adapter has no {', '.join(lacks)}")
    return adapter


def key_variables(engine: Engine) -> dict[str, str]:
    """Return the environment variables by which an engine gets an API key; none where it checks none.

    An adapter says so with a ``key_variables`` of its own, as in ``{"VLLM_API_KEY": "{key}"}``.
    """
    return dict(getattr(engine, "key_variables", {}))


def pinned(engine: Engine, hardware: Hardware, settings: Mapping[str, Any]) -> str | None:
    """Return the version of an engine that would be installed on a machine; null where its adapter does not say.

    An adapter says so with a method ``pinned`` of its own; ``settings`` is what the user set for it, unchecked. What
    the method raises, planning raises as well, and says what is wrong.
    """
    method = getattr(engine, "pinned", None)
    try:
        found = None if method is None else method(hardware, settings)
    except Exception:  # noqa: BLE001 -- a plugin may raise anything; its plan shows it
        return None
    return found if isinstance(found, str) else None


def load(named: Iterable[str]) -> tuple[dict[str, Engine], dict[str, str]]:
    """Import every registered adapter: those that work, and the error of those that do not.

    ``named`` are the engines that a rule pack knows; one of them without a plugin counts as broken.
    """
    usable: dict[str, Engine] = {}
    broken: dict[str, str] = {}
    for name in registered():
        try:
            usable[name] = get(name)
        except Exception as error:  # noqa: BLE001 -- a plugin may raise anything; it becomes a verdict
            broken[name] = f"{type(error).__name__}: {error}"
    limited = " (XINFER_ENGINES leaves it out)" if "XINFER_ENGINES" in os.environ else ""
    broken |= {name: f"no plugin is installed{limited}" for name in named if name not in registered()}
    return usable, broken


def conf_directories() -> list[Path]:
    """Return the configuration folders of every plugin that imports; one without a folder has nothing to ask for."""
    return [engine.conf for engine in load(())[0].values() if engine.conf.is_dir()]
