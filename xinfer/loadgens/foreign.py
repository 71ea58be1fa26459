"""What another load generator is asked to do, and what it found: its numbers, and whose definition each has.

A number stands under a name of ``xinfer.measuring.metrics`` only where it is defined as there; everything else keeps
the peer's own name and unit. What runs in the engine's process, without HTTP, has a scope of its own.
"""

from __future__ import annotations

import hashlib
import json
import math
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeVar

import msgspec

from xinfer.errors import ConfigError, RequestError
from xinfer.measuring.distribution import Distribution, describe
from xinfer.measuring.metrics import Metrics
from xinfer.plan import Argv
from xinfer.spec import Shape, Workload

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

Scope = Literal["http", "inproc"]
Struct = TypeVar("Struct")
MS = 1000
LOG = "log"
"""The name in a peer's results of all that it printed."""
SEEDS = 2**31
WORDS_LENGTH = 200
TIMELESS = "a request may take as long as it wants: timeout_s is not known to it"


class Task(msgspec.Struct, frozen=True, kw_only=True):
    """One run of a peer, fully said: from it alone follow the command line and the variables."""

    python: str
    """The interpreter that has the peer."""
    workload: Workload
    directory: str
    """An empty directory for what the peer writes."""
    run_id: str
    url: str = ""
    """The server's base address, without ``/v1``."""
    model: str = ""
    """The name that requests use."""
    request: dict[str, Any] = {}
    """Body fields that the engine needs for a fixed output length."""
    tokenizer: str = ""
    """A folder with the model's tokenizer, or the model's id on a hub."""
    trusted: bool = False
    """Whether Python that comes with the tokenizer may be executed: that was allowed, or there is none."""
    launched: Argv = ()
    """The engine's own command line, for a peer that loads the model itself."""

    @property
    def seed(self) -> int:
        """A number of this run's own: two runs with one seed would send one prompt twice, and measure a cache."""
        return int.from_bytes(hashlib.sha256(self.run_id.encode()).digest()[:8]) % SEEDS

    @property
    def is_local(self) -> bool:
        """Whether the tokenizer lies on this machine, so that no hub need be asked."""
        return self.tokenizer.startswith("/")


class Inproc(msgspec.Struct, frozen=True, kw_only=True):
    """Numbers of a model run without a server: no HTTP, no tokenizing, no sampling."""

    scope: Literal["inproc"] = "inproc"
    prefill_tps: Distribution | None = None
    """Prompt tokens per second, of each repetition."""
    decode_tps: Distribution | None = None
    """Generated tokens per second of one sequence, of each repetition."""


class Foreign(msgspec.Struct, frozen=True, kw_only=True):
    """What a peer found."""

    source: str
    """The program and its version: ``vllm bench serve 0.33.0``."""
    metrics: Metrics | Inproc
    """Only what is defined as here; null otherwise."""
    sources: dict[str, str]
    """For every metric that is not null, the peer's own name of it, or how it follows from what the peer keeps."""
    raw: dict[str, tuple[float, ...]] = {}
    """For each metric of single requests, their values in seconds."""
    own: dict[str, float] = {}
    """Everything else that it counted, under its own names and in its own units."""
    errors: tuple[str, ...] = ()
    """What requests failed with, each once."""
    warnings: tuple[str, ...] = ()
    """What it said itself against its numbers."""
    notes: tuple[str, ...] = ()
    """What it did otherwise than the workload says."""

    @property
    def scope(self) -> Scope:
        """Whose column the numbers may stand in."""
        return self.metrics.scope


class Peer(ABC):
    """A load generator of somebody else's."""

    name: ClassVar[str]
    """As ``loadgen=`` says it."""
    title: ClassVar[str]
    """As its authors write it."""
    scope: ClassVar[Scope] = "http"
    engine: ClassVar[str | None] = None
    """The engine whose package has it; null for one with a package of its own."""
    packages: ClassVar[tuple[str, ...]]
    """The names that its package may have."""
    installs: ClassVar[tuple[Argv, ...]] = ()
    """What pip installs for it, where it has a package of its own."""
    additions: ClassVar[Mapping[str, tuple[Argv, ...]]] = {}
    """What pip installs for it beside the engine, on the kinds of machine where the engine needs less than it does."""
    results: ClassVar[tuple[str, ...]]
    """The files that it leaves in the task's directory or below, by name; or ``LOG``."""
    key_variable: ClassVar[str | None] = None
    """The variable that it takes an API key from."""

    @abstractmethod
    def argv(self, task: Task) -> Argv:
        """Return the command line; raise ConfigError for a workload that the peer cannot send."""

    def inputs(self, task: Task) -> dict[str, bytes]:  # noqa: ARG002 -- most need none
        """Return files to put into the task's directory before it starts, by name."""
        return {}

    @abstractmethod
    def variables(self, task: Task) -> dict[str, str]:
        """Return the environment variables to set."""

    @abstractmethod
    def read(self, files: Mapping[str, bytes], task: Task) -> Foreign:
        """Return what it found; raise RequestError for files that are not its own."""


def offline(task: Task) -> dict[str, str]:
    """Return the variables that keep Hugging Face's libraries from asking a hub for what lies here."""
    silent = {"HF_HUB_DISABLE_TELEMETRY": "1", "DO_NOT_TRACK": "1", "TOKENIZERS_PARALLELISM": "false"}
    return {**silent, **({"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"} if task.is_local else {})}


def check(peer: Peer, workload: Workload, *, loads: Collection[Shape], prefix: bool = False) -> None:
    """Raise ConfigError for a load that a peer does not send as xinfer does."""
    if workload.load not in loads:
        can = ", ".join(loads)
        raise ConfigError(f"loadgen={peer.name} sends no load={workload.load} as xinfer does; it can: {can}")
    if workload.shared_prefix and not prefix:
        raise ConfigError(f"loadgen={peer.name} shares no prefix of this kind; say workload.shared_prefix=0")


def differences(workload: Workload) -> tuple[str, ...]:
    """Return what of a workload no peer knows."""
    remarks = {
        f"seconds={workload.seconds:g} is not known to it: it ends after {workload.requests} requests": (
            workload.seconds > 0
        ),
    }
    return tuple(remark for remark, applies in remarks.items() if applies)


def decoded(peer: Peer, content: bytes | None, kind: type[Struct]) -> Struct:
    """Give a result file its type; RequestError says what is wrong with it.

    Python's programs write infinite rates as the word Infinity, which is no JSON.
    """
    try:
        return msgspec.convert(json.loads(content or b""), kind)
    except ValueError as error:  # of JSON, and of what is in it
        raise RequestError(f"{peer.title} left no result that can be read: {error}") from error


def numbers(result: Mapping[str, Any]) -> dict[str, float]:
    """Return the entries that are plain numbers, and finite."""
    plain = ((key, value) for key, value in result.items() if isinstance(value, (int, float)))
    return {key: value for key, value in plain if not isinstance(value, bool) and math.isfinite(value)}


def kinds(errors: Iterable[str]) -> tuple[str, ...]:
    """Return each error once, on one line, without what is longer than a person reads; no text is no error."""
    short = (" ".join(error.split())[:WORDS_LENGTH] for error in errors)
    return tuple(dict.fromkeys(error for error in short if error))


def timed(raw: Mapping[str, Sequence[float]], **counted: Any) -> Metrics:
    """Return metrics with the distribution of each that single requests have values of, and what else is known."""
    described: dict[str, Any] = {name: describe(values) for name, values in raw.items()}
    return Metrics(**described, **counted)


def shared_tokens(workload: Workload) -> int:
    """Return how many tokens of each prompt all share."""
    return round(workload.input_tokens * workload.shared_prefix)


def seconds(milliseconds: Iterable[float | None]) -> tuple[float, ...]:
    """Return what is known, in seconds."""
    return tuple(value / MS for value in milliseconds if value is not None)


def tpots(first_s: Iterable[float], last_s: Iterable[float], tokens: Iterable[int]) -> tuple[float, ...]:
    """Return seconds per token after the first, of each request with more than one."""
    rows = zip(first_s, last_s, tokens, strict=True)
    return tuple((last - first) / (count - 1) for first, last, count in rows if count > 1)
