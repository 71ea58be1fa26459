"""Over how many GPUs a network is split, by the checks that vLLM and SGLang make, and over how many CPU threads."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from xinfer.errors import ConfigError
from xinfer.planning.cache import WHOLE, Place

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from xinfer.catalog import Shape
    from xinfer.facts import Hardware

    Holds = Callable[[Place], bool | None]

MOST = 64
"""Up to so many GPUs are tried to find out how many hold a network."""
RULE = "attention heads must divide evenly, and kv heads divide or be copied evenly"


class Splits(NamedTuple):
    """How an engine can spread a network over GPUs."""

    tensor: bool = False
    """By the heads of each layer."""
    staged: frozenset[str] | None = frozenset()
    """The classes of networks whose layers it deals to stages; null: those of all."""
    nodes: bool = False
    """Over several machines as well."""
    share: float = 1.0
    """The part of each GPU's memory that it takes at most."""

    def deals(self, shape: Shape) -> bool:
        """Tell whether the layers of a network can be dealt."""
        return self.staged is None or shape.architecture in self.staged


class Split(NamedTuple):
    """How a network lies on GPUs."""

    tensor: int
    """The GPUs that share each layer."""
    tensor_why: str
    stages: int = 1
    """The groups of such GPUs that the layers are dealt to."""
    stages_why: str = ""
    least: int | None = None
    """The smallest number of such GPUs that holds it; null where that is not known."""
    nodes: int = 1
    """The machines that have these GPUs, each as many."""

    @property
    def place(self) -> Place:
        """What part of the network one GPU has."""
        return Place(self.tensor, self.stages)

    @property
    def gpus(self) -> int:
        """How many GPUs are used."""
        return self.tensor * self.stages


def declared(adapters: Mapping[str, object], settings: Mapping[str, Any]) -> dict[str, Splits]:
    """Return how each engine splits, as far as its adapter says so with a ``splits`` of its own.

    A method ``share`` of an adapter tells by the user's settings what part of each GPU's memory the engine takes.
    """
    found = {}
    for name, adapter in adapters.items():
        splits, share = getattr(adapter, "splits", None), getattr(adapter, "share", None)
        if isinstance(splits, Splits):
            found[name] = splits if share is None else splits._replace(share=share(settings))
    return found


def is_legal(shape: Shape, tensor_parallel: int) -> bool | None:
    """Say whether a network may be split this way; null when its head counts are not known.

    Attention heads must divide evenly; key-value heads must divide evenly too, or be copied evenly
    (vLLM ``config/model.py`` and ``models/llama.py``, SGLang ``srt/models/llama.py``). A latent vector for all heads
    is copied to all GPUs.
    """
    if tensor_parallel == 1:
        return True
    if shape.heads is None:
        return None
    if shape.heads % tensor_parallel:
        return False
    if shape.kv_lora_rank is not None:
        return True
    if shape.kv_heads is None:
        return None
    larger, smaller = max(shape.kv_heads, tensor_parallel), min(shape.kv_heads, tensor_parallel)
    return larger % smaller == 0


def ways(shape: Shape, gpus: int, splits: Splits, *, is_open: bool = False) -> list[Place]:
    """Return the splits over so many GPUs that are known to be legal: fewest GPUs first, then fewest stages.

    ``is_open`` adds those of which it is not known.
    """
    lawful = (True, None) if is_open else (True,)
    tensors = [width for width in range(1, (gpus if splits.tensor else 1) + 1) if is_legal(shape, width) in lawful]
    layers = (shape.layers or (gpus if is_open else 1)) if splits.deals(shape) else 1
    found = [Place(tensor, stages) for tensor in tensors for stages in range(1, min(gpus // tensor, layers) + 1)]
    return sorted(found, key=lambda place: (place.tensor * place.stages, place.stages))


def choose(shape: Shape, gpus: int, splits: Splits, holds: Holds) -> Split:
    """Return the split over the fewest GPUs that hold the network; over all of them where that is not known.

    GPUs that share each layer come before stages: within one machine they can tell each other enough, and all of them
    work for every token, where of stages one works while the others wait.
    """
    if holds(WHOLE) is None:
        return everything(shape, gpus, splits)
    lawful = ways(shape, max(gpus, MOST), splits)
    here = [place for place in lawful if place.tensor * place.stages <= gpus and holds(place)]
    if not here:  # of those that are more, the first that holds it has the fewest
        more = (place.tensor * place.stages for place in lawful if place.tensor * place.stages > gpus and holds(place))
        return everything(shape, gpus, splits)._replace(least=next(more, None))
    least = here[0].tensor * here[0].stages
    found = next((place for place in here if place.stages == 1), here[0])
    used = found.tensor * found.stages
    if used == 1:
        return Split(1, "one GPU" if gpus == 1 else f"one of {gpus} GPUs holds it", least=1)
    few = f"all {gpus} GPUs are needed to hold it" if used == gpus else f"the fewest of {gpus} GPUs that hold it"
    if least != used:
        few = f"{used} of {gpus} GPUs: {least} would hold it in stages, of which one works while the others wait"
    tensor_why = f"{few}; {_heads(shape)} split evenly over {found.tensor}"
    return Split(found.tensor, tensor_why, found.stages, f"{few}; {found.stages} stages of {found.tensor}", least)


def check_nodes(engine: str, hardware: Hardware, splits: Mapping[str, Splits]) -> None:
    """Refuse several machines for an engine that serves from one; ConfigError names those that can."""
    own = splits.get(engine)
    if hardware.nodes > 1 and not (own and own.nodes):
        able = " or ".join(name for name, each in splits.items() if each.nodes) or "none that is installed"
        raise ConfigError(f"{engine} serves from one machine; hw.nodes={hardware.nodes} is for engine={able}")


def across(shape: Shape, gpus: int, nodes: int, splits: Splits) -> list[Place]:
    """Return the legal splits over several machines of so many GPUs: fewest stages first, then fewest GPUs.

    Each machine has stages of its own, so that GPUs which share a layer are in one. Where the layers cannot be dealt,
    all machines share each.
    """
    if splits.deals(shape) and shape.layers is not None and shape.layers >= nodes:
        each = [(stages, width) for stages in range(1, gpus + 1) for width in range(1, gpus // stages + 1)]
        legal = [(stages, width) for stages, width in each if is_legal(shape, width) and stages * nodes <= shape.layers]
        return [Place(width, stages * nodes) for stages, width in legal]
    return [Place(width * nodes, 1) for width in range(1, gpus + 1) if is_legal(shape, width * nodes)]


def choose_across(shape: Shape, gpus: int, nodes: int, splits: Splits, holds: Holds) -> Split:
    """Return the split over several machines with the fewest stages and GPUs that hold a network; else over all GPUs.

    ConfigError where none is legal.
    """
    lawful = across(shape, gpus, nodes, splits)
    if not lawful:
        raise ConfigError(f"hw.nodes={nodes}: {_heads(shape)} do not split over them, and the layers cannot be dealt")
    able = [place for place in lawful if holds(place)]
    most = max(lawful, key=lambda place: (place.tensor * place.stages, -place.stages))
    place = able[0] if able else most
    used, total = place.tensor * place.stages, gpus * nodes
    least = next((each.tensor * each.stages for each in ways(shape, max(total, MOST), splits) if holds(each)), None)
    few = f"{used} of {total} GPUs on {nodes} machines" if used < total else f"all {total} GPUs of {nodes} machines"
    if place.stages > 1:
        tensor_why = f"{few}; {_heads(shape)} split evenly over {place.tensor} of one machine"
        dealt = f"{place.stages // nodes} on each machine" if place.stages > nodes else "one on each machine"
        stages_why = f"{few}; {place.stages} stages, {dealt}: between stages little passes, within a layer much"
        return Split(place.tensor, tensor_why, place.stages, stages_why, least, nodes)
    why = f"{few}; the layers cannot be dealt, so that all machines share each; {_heads(shape)} split evenly"
    return Split(place.tensor, why, least=least, nodes=nodes)


def everything(shape: Shape, gpus: int, splits: Splits) -> Split:
    """Return the split over as many GPUs as the engine can use."""
    if splits.tensor:
        return split(shape, gpus, in_stages=splits.deals(shape))
    stages = gpus if splits.deals(shape) else 1
    return Split(1, "one GPU", stages, f"the layers are dealt to all {gpus} GPUs" if stages > 1 else "")


def asked(
    shape: Shape,
    gpus: int | None,
    splits: Splits,
    args: Mapping[str, Any],
    names: tuple[tuple[str, ...], ...],
    nodes: int = 1,
) -> Split | None:
    """Return the split that the user's own flags say; null where they say none.

    ``names`` are an engine's flags for GPUs that share a layer, and those for stages; ``gpus`` those of all ``nodes``.
    Raises ConfigError for a number that no engine would start with; it names the rule and the numbers that are legal.
    """
    (tensor_flag, tensor), (stage_flag, stages) = (_given(args, flags) for flags in names)
    if tensor_flag is None and stage_flag is None:
        return None
    most = gpus if gpus is not None else MOST
    legal = [width for width in range(1, most + 1) if is_legal(shape, width) is not False]
    if is_legal(shape, tensor) is False:
        cannot = f"{_heads(shape)} do not split over {tensor} GPUs: {RULE}"
        raise ConfigError(f"engine.args.{tensor_flag}={tensor}: {cannot}; legal here: {_listed(legal)}")
    if tensor * stages > most:
        flag, value = (tensor_flag, tensor) if stages == 1 else (stage_flag, stages)
        needs = f"needs {tensor * stages} GPUs, and there are {most}"
        can = legal if stages == 1 else range(1, max(1, most // tensor) + 1)
        raise ConfigError(f"engine.args.{flag}={value}: {needs}; legal here: {_listed(can)}")
    if stages > 1 and not splits.deals(shape):
        network = shape.architecture or "this network"
        raise ConfigError(f"engine.args.{stage_flag}={stages}: the layers of {network} cannot be dealt; legal: 1")
    if shape.layers is not None and stages > shape.layers:
        raise ConfigError(f"engine.args.{stage_flag}={stages}: {shape.layers} layers make no more stages than that")
    if stages % nodes and (nodes % stages or tensor % (nodes // stages)):
        said = f"{tensor} x {stages} GPUs cannot be dealt to {nodes} machines alike"
        raise ConfigError(f"engine.args.{stage_flag or tensor_flag}: {said}; say engine.args.{names[1][0]}={nodes}")
    return Split(tensor, f"engine.args.{tensor_flag}", stages, f"engine.args.{stage_flag}", nodes=nodes)


def tensor_parallel(shape: Shape, gpus: int) -> tuple[int, str]:
    """Return the largest legal split over at most ``gpus``, and the reason in words."""
    heads = _heads(shape)
    if is_legal(shape, gpus):
        return gpus, f"all {gpus} GPUs; {heads} split evenly" if gpus > 1 else "one GPU"
    split = next(fewer for fewer in range(gpus - 1, 0, -1) if is_legal(shape, fewer))
    why = f"{heads} do not split over {gpus} GPUs" if is_legal(shape, gpus) is False else "head counts not known"
    return split, f"{why}; {split} is the largest number that is known to be legal"


def split(shape: Shape, gpus: int, *, in_stages: bool) -> Split:
    """Return the split that uses most GPUs, and among those the one with fewest stages: a token passes one by one.

    ``in_stages`` says whether the engine can deal this network's layers to several groups of GPUs.
    """
    tensor, why = tensor_parallel(shape, gpus)
    legal = [width for width in range(1, gpus + 1) if is_legal(shape, width)]
    width = max(legal, key=lambda width: (width * (gpus // width), width))
    stages = gpus // width
    if not in_stages or stages == 1 or is_legal(shape, gpus) is None or (shape.layers or 0) < stages:
        return Split(tensor, why)
    dealt = f"{stages} stages of {width} use {stages * width} of {gpus} GPUs: one stage cannot"
    return Split(width, f"{_heads(shape)} split evenly over {width}", stages, dealt)


def free_threads(hardware: Hardware, asked: int | None) -> tuple[int | None, str]:
    """Return how many threads compute on a CPU, and the reason: one for each core but the load client's.

    More than that collapse: OpenMP's threads spin at barriers, and so stop the one that they wait for.
    """
    if asked:
        return asked, "engine.threads"
    if hardware.cores is None:
        return None, "the number of cores is not known"
    if hardware.cores == 1:
        return 1, "one core, which the load client shares"
    return hardware.cores - 1, f"{hardware.cores} cores, of which the load client keeps one"


def _heads(shape: Shape) -> str:
    kv = "unknown" if shape.kv_heads is None else shape.kv_heads
    return f"{shape.heads} heads and {kv} kv heads" if shape.kv_lora_rank is None else f"{shape.heads} heads"


def _given(args: Mapping[str, Any], flags: tuple[str, ...]) -> tuple[str | None, int]:
    """Return which flag the user has set, and its number of GPUs; one that is taken out leaves one."""
    flag = next((flag for flag in flags if flag in args), None)
    value = 1 if flag is None or args[flag] is None or args[flag] is False else args[flag]
    number = int(value) if isinstance(value, (int, str)) and not isinstance(value, bool) and _is_whole(value) else 0
    if number < 1:
        raise ConfigError(f"engine.args.{flag}={value}: must be a whole number of GPUs, 1 at least")
    return flag, number


def _is_whole(value: int | str) -> bool:
    return isinstance(value, int) or value.isdecimal()


def _listed(numbers: Any) -> str:
    return ", ".join(map(str, numbers))
