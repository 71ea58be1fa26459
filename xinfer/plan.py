"""The launch plan: everything needed to put an engine on a machine, and the reason for each part."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from xinfer import apikey
from xinfer.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

Argv = tuple[str, ...]


class Memory(msgspec.Struct, frozen=True, kw_only=True):
    """What the engine will need and what the machine has, in GiB on one device; null where it is not known.

    An adapter gives the parts that its engine fixes itself: ``overhead_gib``, the ``kv_gib`` that it sets aside, the
    ``available_gib`` that it takes of a GPU; each with its formula. All else is computed from the network.
    """

    weights_gib: float | None = None
    kv_gib: float | None = None
    overhead_gib: float | None = None
    """Where it is not known exactly, the most that it may be."""
    least_overhead_gib: float | None = None
    """Then the least that it may be."""
    total_gib: float | None = None
    available_gib: float | None = None
    largest_context: int | None = None
    """How many tokens each sequence could have."""
    least_gpus: int | None = None
    """The smallest number of such GPUs that would hold it, split as this engine can."""
    fits: bool | None = None
    formula: dict[str, str] = {}
    """For each line, how the figure came about."""

    @property
    def known_gib(self) -> float | None:
        """The sum of the parts that are known; null where none is."""
        parts = [part for part in (self.weights_gib, self.kv_gib, self.overhead_gib) if part is not None]
        return sum(parts) if parts else None


class Artefact(msgspec.Struct, frozen=True, kw_only=True):
    """A directory that must be complete before the engine starts, and the commands that fill it."""

    path: str
    steps: tuple[Argv, ...]
    is_model: bool = False
    """Whether it is a model's folder from elsewhere, which is refused where it needs what was not fetched with it."""


HEAD = "$XINFER_HEAD"
"""Stands for the address of the first of several machines where nobody has said it."""


class Node(msgspec.Struct, frozen=True, kw_only=True):
    """What one of several machines that serve together starts."""

    rank: int
    commands: tuple[Argv, ...]
    """In order; the last stays, and is the server on the first machine."""
    env: dict[str, str]

    def line(self) -> str:
        """Return it as one line to paste, which fails where the first machine's address is needed and not set."""
        variables = [f"{name}={_pasted(value)}" for name, value in self.env.items()]
        return " && ".join(" ".join([*variables, *map(_pasted, command)]) for command in self.commands)


def _pasted(word: str) -> str:
    """Quote a word for a shell, but for the place of the first machine's address."""
    return f'"${{{HEAD[1:]}:?}}"'.join(shlex.quote(part) if part else "" for part in word.split(HEAD)) or "''"


class LaunchPlan(msgspec.Struct, frozen=True, kw_only=True):
    """How one engine serves one artefact on one machine."""

    engine: str
    version: str | None
    variant: str
    """Which build of the engine: ``wheel-cpu``, ``native-cuda``, ``cuda``…"""
    environment: Artefact | None = None
    weights: tuple[Artefact, ...] = ()
    """Tools, fetched files and what is made of them, in order; engines share them."""
    argv: Argv = ()
    env: dict[str, str] = {}
    unset: tuple[str, ...] = ()
    """Variables that the server does not inherit: set elsewhere on the machine, they would overrule the flags."""
    because: dict[str, str] = {}
    """For every flag and environment variable, the rule or fact that put it there."""
    host: str = "127.0.0.1"
    port: int = 0
    base_url: str | None = None
    """Where a server that xinfer does not start listens; null for one that it starts."""
    dtype: str | None = None
    """What the network is computed in; null where the file's own types decide."""
    device: Literal["cpu", "gpu"] = "cpu"
    """Whose memory holds the weights."""
    tensor: int = 1
    """The GPUs that share each layer."""
    stages: int = 1
    """The groups of such GPUs that the layers are dealt to."""
    nodes: tuple[Node, ...] = ()
    """What each of several machines starts, the first first; none where one machine serves alone."""
    health: str = "/health"
    model: str = ""
    """The name that requests use for the model."""
    key_variables: dict[str, str] = {}
    """Variables that make the server ask for a key; ``{key}`` in a value stands for it. None: it checks none."""
    request: dict[str, Any] = {}
    """Body fields this engine needs for a fixed output length and a defeated prompt cache."""
    scorer: Argv = ()
    """A program that finds log-probabilities where the engine's server tells none: see ``xinfer.parity.scoring``."""
    tokenizer: Argv = ()
    """A program that tokenizes as the model does, where the engine's server does it for nobody."""
    memory: Memory = Memory()
    notes: tuple[str, ...] = ()

    def outside(self, program: Argv) -> Argv:
        """Return a program of the engine's environment as it is run beside the server, with the plan's variables."""
        variables = ("env", *(f"{name}={value}" for name, value in self.env.items())) if self.env else ()
        return (*variables, *program) if program else ()

    @property
    def inherits_not(self) -> tuple[str, ...]:
        """Return the variables that are taken away; what the user has set for this engine stays."""
        return tuple(name for name in self.unset if name not in self.env)

    @property
    def without(self) -> Argv:
        """The words that stand before a command to take them away."""
        return ("env", *(word for name in self.inherits_not for word in ("-u", name))) if self.inherits_not else ()

    @property
    def url(self) -> str:
        """The server's base address, without ``/v1``."""
        return self.base_url or f"http://{self.host}:{self.port}"

    @property
    def install(self) -> tuple[Argv, ...]:
        """Every command that must have run once before ``argv`` works, in order."""
        artefacts = (self.environment, *self.weights)
        return tuple(step for artefact in artefacts if artefact for step in artefact.steps)

    def shell(self) -> Iterator[str]:
        """Yield the lines a person can paste: install commands, then the launch command, or one for each machine."""
        yield from (shlex.join(step) for step in self.install)
        if self.nodes:
            yield from (f": machine {node.rank} of {len(self.nodes)}; {node.line()}" for node in self.nodes)
            return
        variables = [*self.without, *(f"{k}={shlex.quote(v)}" for k, v in self.env.items())]
        yield " ".join([*variables, shlex.join(self.argv)])


RESERVED = {"host": "engine=external", "port": "port="}
"""Flags that xinfer itself must know the value of, and what to set instead."""


class Command:
    """Collects a command line in which every flag carries its reason."""

    def __init__(self, *argv: str) -> None:
        self._argv = argv
        self._flags: dict[str, tuple[str, ...]] = {}
        self._env: dict[str, str] = {}
        self._because: dict[str, str] = {}

    def add(self, flag: str, *values: object, because: str) -> None:
        """Set a flag and its values; a flag that is there already is replaced where it stands."""
        self._flags[flag] = tuple(map(str, values))
        self._because[flag] = because

    def set(self, variable: str, value: object, because: str) -> None:
        """Set an environment variable."""
        self._env[variable] = str(value)
        self._because[variable] = because

    def override(
        self, args: Mapping[str, object], env: Mapping[str, object], reserved: Mapping[str, str] | None = None
    ) -> None:
        """Apply the user's own flags, as ``{max-model-len: 8192}``.

        True is a bare flag, null and false remove one, a list is several words, a mapping is JSON. Raises
        ConfigError for a flag that the rest of the plan depends on, here or as an adapter's ``reserved`` say, and
        for an API key.
        """
        instead = RESERVED | dict(reserved or {})
        for name in (*args, *env):
            if apikey.is_meant(name):
                raise apikey.misplaced("engine.args" if name in args else "engine.env")
        for name, value in args.items():
            if name in instead:
                raise ConfigError(f"engine.args.{name}: the plan sets this flag; say {instead[name]} instead")
            flag = f"--{name}"
            if value is None or value is False:
                self._flags.pop(flag, None)
                self._because.pop(flag, None)
            else:
                self.add(flag, *_words(value), because=f"engine.args.{name}")
        for variable, value in env.items():
            self.set(variable, value, because=f"engine.env.{variable}")

    @property
    def parts(self) -> dict[str, Any]:
        """The fields of a :class:`LaunchPlan` that this command line fills."""
        flags = (word for flag, values in self._flags.items() for word in (flag, *values))
        return {"argv": (*self._argv, *flags), "env": self._env, "because": self._because}


def _words(value: object) -> tuple[object, ...]:
    """Return the words that follow a flag on a command line."""
    if value is True:
        return ()
    if isinstance(value, (list, tuple)):
        return tuple(value)
    return (msgspec.json.encode(value).decode() if isinstance(value, dict) else value,)
