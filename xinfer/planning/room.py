"""The memory of a machine, as far as it decides a choice: what is known to exceed it cannot run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from xinfer.planning import memory, parallel
from xinfer.planning.cache import WHOLE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from xinfer.catalog import Spec
    from xinfer.facts import Hardware
    from xinfer.planning.cache import Place
    from xinfer.planning.parallel import Splits


class Room:
    """What some sequences and a network must fit into.

    ``tokens`` are those of all ``sequences`` together; ``splits`` say over how many GPUs each engine spreads a network,
    and one that it leaves out is taken to use all of them together.
    """

    def __init__(
        self, hardware: Hardware, *, tokens: int, sequences: int = 1, splits: Mapping[str, Splits] | None = None
    ) -> None:
        device = memory.device_of(hardware)
        self.each_gib, self.all_gib = memory.available(hardware, device), memory.together(hardware, device)
        self.gpus = 1 if self.each_gib == self.all_gib else hardware.gpus or 1
        self.nodes, self._has_own = hardware.nodes, device == "gpu" and hardware.gpu.vendor != "apple"
        self._length, self._sequences, self._splits = tokens // max(sequences, 1), sequences, splits or {}

    def __str__(self) -> str:
        each = f"{self.gpus} x {self.each_gib:g} GiB" if self.gpus > 1 else f"{self.each_gib:g} GiB"
        return each if self.nodes == 1 else f"{self.nodes} x {each}"

    def is_exceeded(self, spec: Spec, engine: str | None = None) -> bool:
        """Tell whether what is known of an artefact is too much, however the engine may split it; without one, any."""
        if self.each_gib is None or self.all_gib is None:
            return False
        splits = self._splits.get(engine or "")
        nodes = self.nodes if splits is None or splits.nodes else 1
        share = splits.share if splits and self._has_own else 1.0
        if splits is None or self.gpus * nodes == 1:
            return self._known_gib(spec, WHOLE) > self.all_gib * nodes * share
        places = parallel.ways(spec.shape, self.gpus * nodes, splits, is_open=True)
        return all(self._known_gib(spec, place) > self.each_gib * share for place in reversed(places))

    def _known_gib(self, spec: Spec, place: Place) -> float:
        return memory.known_gib(spec, memory.Demand(self._length, self._sequences, place=place))
