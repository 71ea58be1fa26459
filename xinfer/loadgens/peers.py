"""Which load generators there are, and what each needs before it runs: its package, and the model's tokenizer."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from xinfer import engines
from xinfer.catalog import Spec
from xinfer.errors import ConfigError, nearest
from xinfer.facts import Hardware
from xinfer.loadgens.aiperf import AiPerf
from xinfer.loadgens.foreign import Task
from xinfer.loadgens.guidellm import GuideLlm
from xinfer.loadgens.llama_bench import LlamaBench
from xinfer.loadgens.sglang_bench import SglangBench
from xinfer.loadgens.vllm_bench import VllmBench
from xinfer.plan import Argv, Artefact, LaunchPlan
from xinfer.planning import artefacts, requirement

if TYPE_CHECKING:
    from collections.abc import Sequence

    from xinfer.loadgens.foreign import Peer
    from xinfer.spec import Workload

OWN = "xinfer"
"""The load generator that is none of somebody else's."""
PEERS: dict[str, Peer] = {peer.name: peer for peer in (VllmBench(), GuideLlm(), AiPerf(), SglangBench(), LlamaBench())}
FOLDERS = ("pytorch", "gptq", "awq", "fp8", "mlx")
"""The formats that come as a folder with a tokenizer in it."""


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """Where a load generator is put: what the planner knows of the cell."""

    specs: tuple[Spec, ...]
    """The cell's own artefact first, then whatever else is published of its model."""
    hardware: Hardware
    home: str
    """xinfer's cache directory."""
    python: str
    """The interpreter that creates environments."""
    installer: str = "pip"
    launch: LaunchPlan | None = None
    """The engine that will run; null for one that xinfer does not start."""


class Loadgen(msgspec.Struct, frozen=True, kw_only=True):
    """A peer that is about to be used, and what must be complete before."""

    name: str
    needs: LaunchPlan
    """For ``environment.provision`` and ``environment.used``: directories alone, nothing that is launched."""
    python: str
    """The interpreter that has the peer; empty for a program of the user's own."""
    tokenizer: str = ""
    """A folder, or an id on a hub."""
    trusted: bool = False
    """Whether Python that comes with the tokenizer may be executed: that was allowed, or there is none."""
    launched: Argv = ()
    """The engine's command line, for a peer that loads the model itself."""

    @property
    def peer(self) -> Peer:
        """How it is asked and read."""
        return PEERS[self.name]

    def task(self, workload: Workload, *, run_id: str, directory: str) -> Task:
        """Return what it is to do, still without a server."""
        return Task(
            python=self.python, workload=workload, directory=directory, run_id=run_id,
            tokenizer=self.tokenizer, trusted=self.trusted, launched=self.launched,
        )  # fmt: skip


def check(name: str) -> None:
    """Raise ConfigError for a load generator that there is not."""
    known = (OWN, *PEERS)
    if name not in known:
        raise ConfigError(f"loadgen={name}: there are {', '.join(known)}{nearest(name, known)}")


def plan(name: str, place: Place, workload: Workload) -> Loadgen:
    """Return what a peer needs; ConfigError where it cannot be had or cannot send the workload, or has no tokenizer."""
    peer = PEERS[name]
    made = _beside(peer, place.launch) if peer.scope == "inproc" else _apart(peer, place)
    peer.argv(made.task(workload, run_id="", directory=""))
    return made


def _apart(peer: Peer, place: Place) -> Loadgen:
    """Return what a program with a package of its own, or of an engine's, needs."""
    name = peer.name
    spec = _folder(name, place.specs)
    weights = artefacts.folder(spec, home=place.home, python=place.python, dtype="bfloat16")
    made, python = _environment(peer, place)
    needs = LaunchPlan(
        engine=name, version=None, variant="loadgen", environment=made, weights=weights.needs, argv=(python,)
    )
    trusted = spec.derived or spec.remote_code
    return Loadgen(name=name, needs=needs, python=python, tokenizer=weights.place, trusted=trusted)


def _beside(peer: Peer, launch: LaunchPlan | None) -> Loadgen:
    """Return what a program of the engine's own needs: what the engine does."""
    if launch is None or launch.engine != peer.engine:
        raise ConfigError(f"loadgen={peer.name} is a program of {peer.engine}; say engine={peer.engine}")
    python = artefacts.interpreter(launch.environment.path) if launch.environment else ""
    return Loadgen(name=peer.name, needs=launch, python=python, launched=launch.argv)


def _folder(name: str, specs: Sequence[Spec]) -> Spec:
    """Return the same model in whatever format comes as a folder, for the tokenizer in it."""
    size = specs[0].size
    found = (spec for spec in specs if spec.format in FOLDERS and spec.size == size and spec.id)
    for spec in found:
        return spec
    model = f"{specs[0].family} {size}"
    raise ConfigError(f"loadgen={name} needs the tokenizer of {model} in a folder, and no format of it comes as one")


def _environment(peer: Peer, place: Place) -> tuple[Artefact | None, str]:
    """Return the environment that has a peer, and its interpreter: the running engine's, if that has it."""
    launch = place.launch
    if launch is not None and launch.engine == peer.engine and launch.variant not in peer.additions:
        made = launch.environment
        return made, artefacts.interpreter(made.path) if made else launch.argv[0]
    made = _of_engine(peer, peer.engine, place) if peer.engine else _own(peer, place)
    return made, artefacts.interpreter(made.path)


def _of_engine(peer: Peer, engine: str, place: Place) -> Artefact:
    """Return the environment that the engine would have on this machine, so that the two share it if they can."""
    variant = requirement.variant_of(place.hardware)
    needs = requirement.read(engines.get(engine).conf.parent / "requirements.yaml", engine, variant)
    added = peer.additions.get(variant, ())
    name = f"loadgen-{peer.name}-{needs.version}" if added else f"{engine}-{variant}-{needs.version}"
    return artefacts.environment(
        name, (*needs.filled(needs.version), *added), home=place.home, python=place.python, installer=place.installer
    )


def _own(peer: Peer, place: Place) -> Artefact:
    return artefacts.environment(
        f"loadgen-{peer.name}", peer.installs, home=place.home, python=place.python, installer=place.installer
    )
