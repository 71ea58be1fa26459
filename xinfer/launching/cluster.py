"""Jobs on the nodes of a Ray cluster."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any, ClassVar

import msgspec

from xinfer.engines import typed
from xinfer.errors import ConfigError, LaunchError
from xinfer.launching.launcher import Need, Settings, extra
from xinfer.launching.work import carried_out

if TYPE_CHECKING:
    from collections.abc import Mapping

MOST = 256
"""Jobs that are given to Ray at once; a thread of this process waits for each."""
POLL_S = 5.0


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """What is passed on as it is."""

    init: dict[str, Any]
    remote: dict[str, Any]


class RaySettings(Settings, frozen=True, kw_only=True):
    """``ray.yaml``."""

    ray: Options
    patience_s: float


class Ray:
    """The nodes of a Ray cluster: a job takes all cores of one, and the GPUs that it uses."""

    name: ClassVar[str] = "ray"
    is_elsewhere: ClassVar[bool] = True
    kind: ClassVar[type[RaySettings]] = RaySettings
    at_once = MOST

    def __init__(self, node: dict[str, Any]) -> None:
        self._said = typed(node, self.kind, "hydra.launcher")
        self.settings: Settings = self._said
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # it would tell its makers
        with extra("ray"):
            import ray  # noqa: PLC0415
        self._ray: Any = ray
        self._start()
        self._work: Any = ray.remote(carried_out)
        self._running: set[Any] = set()

    def _start(self) -> None:
        try:
            self._ray.init(**{"log_to_driver": False, "configure_logging": False, **self._said.ray.init})
        except ConnectionError as error:
            what = "no Ray cluster is found; ray start --head makes one, hydra.launcher.ray.init.address=local one of"
            raise ConfigError(f"{what} this machine for this sweep") from error
        except (RuntimeError, TypeError, ValueError) as error:
            raise ConfigError(f"hydra/launcher=ray: {str(error).strip().splitlines()[0]}") from error

    def call(self, job: bytes, need: Need) -> bytes:
        """Return a job's outcome; Ray itself sends none again, as the caller does."""
        asked = {"num_gpus": need.gpus or 0, "scheduling_strategy": "SPREAD", **self._said.ray.remote}
        asked.setdefault("num_cpus", min((each["CPU"] for each in self._nodes(asked)), default=1))
        sent = self._work.options(**asked, max_retries=0).remote(job)
        self._running.add(sent)
        try:
            return bytes(self._answer(sent, asked))
        finally:
            self._running.discard(sent)

    def _answer(self, sent: Any, asked: Mapping[str, Any]) -> Any:
        """Wait for as long as there is a node that the job can have; Ray itself would wait for ever."""
        able_s = time.monotonic()
        while not self._ray.wait([sent], timeout=POLL_S)[0]:
            now_s = time.monotonic()
            able_s = now_s if self._nodes(asked) else able_s
            if now_s - able_s > self._said.patience_s:
                self._ray.cancel(sent, force=True)
                raise LaunchError(f"no node of the Ray cluster has {self._wanted(asked)}")
        return self._ray.get(sent)

    def _nodes(self, asked: Mapping[str, Any]) -> list[Mapping[str, float]]:
        """Return what each node has that could ever take a job."""
        least = {"CPU": asked.get("num_cpus") or 1, "GPU": asked["num_gpus"], **asked.get("resources", {})}
        alive = (each["Resources"] for each in self._ray.nodes() if each["Alive"])
        return [has for has in alive if all(has.get(key, 0) >= wanted for key, wanted in least.items())]

    @staticmethod
    def _wanted(asked: Mapping[str, Any]) -> str:
        wanted = {"CPUs": asked["num_cpus"], "GPUs": asked["num_gpus"], **asked.get("resources", {})}
        return ", ".join(f"{amount:g} {name}" for name, amount in wanted.items() if amount)

    def stop(self) -> None:
        """End what still runs, and leave the cluster."""
        for job in tuple(self._running):
            self._ray.cancel(job, force=True)
        self._ray.shutdown()
