"""Jobs of submitit: in Slurm's queue, or as processes of this machine that are started as Slurm would."""

from __future__ import annotations

import math
import shutil
import subprocess
import threading
import time
from typing import TYPE_CHECKING, Any, ClassVar

from xinfer.engines import typed
from xinfer.errors import ConfigError, LaunchError
from xinfer.launching.launcher import Need, Settings, at_least, extra
from xinfer.launching.work import LAST_WORDS, carried_out

if TYPE_CHECKING:
    from collections.abc import Callable

QUEUE_S = 15.0
"""How long what Slurm says of its queue is taken for true."""
LATE_S = 5.0
"""By how much a file may be seen late through a network."""


class LocalSettings(Settings, frozen=True, kw_only=True):
    """``submitit_local.yaml``."""

    array_parallelism: int
    timeout_min: int
    gpus_per_node: int | None
    submitit_folder: str
    setup: list[str] | None


class SlurmSettings(LocalSettings, frozen=True, kw_only=True):
    """``submitit_slurm.yaml``."""

    exclusive: bool
    cpus_per_task: int | None
    mem_gb: float | None
    partition: str | None
    account: str | None
    qos: str | None
    constraint: str | None
    gres: str | None
    comment: str | None
    exclude: str | None
    additional_parameters: dict[str, Any]
    name: str


class Submitit:
    """Processes of this machine."""

    name: ClassVar[str] = "submitit_local"
    is_elsewhere: ClassVar[bool] = False
    cluster: ClassVar[str] = "local"
    kind: ClassVar[type[LocalSettings]] = LocalSettings

    def __init__(self, node: dict[str, Any]) -> None:
        self._said = typed(node, self.kind, "hydra.launcher")
        self.settings: Settings = self._said
        self.at_once = at_least(1, "array_parallelism", self._said.array_parallelism)
        with extra("submitit"):
            import submitit  # noqa: PLC0415
        self._make: Callable[..., Any] = submitit.AutoExecutor
        self._running: set[Any] = set()
        try:
            self._executor()
        except RuntimeError as error:
            raise ConfigError(f"hydra/launcher={self.name}: {error}") from error

    def _executor(self) -> Any:
        return self._make(folder=self._said.submitit_folder, cluster=self.cluster)

    def parameters(self, need: Need) -> dict[str, Any]:
        """Return what is asked of submitit for a job; null stands for its own default."""
        said = self._said
        gpus = need.gpus if said.gpus_per_node is None else said.gpus_per_node
        return {"timeout_min": said.timeout_min, "gpus_per_node": gpus, f"{self.cluster}_setup": said.setup}

    def call(self, job: bytes, need: Need) -> bytes:
        """Return a job's outcome; of one that died, what submitit has written is left."""
        executor = self._executor()
        executor.update_parameters(**{key: value for key, value in self.parameters(need).items() if value is not None})
        sent = executor.submit(carried_out, job)
        self._running.add(sent)
        try:
            found = bytes(self.result(sent))
        finally:
            self._running.discard(sent)
        if "%j" in self._said.submitit_folder:  # else it is that of all jobs
            shutil.rmtree(sent.paths.folder, ignore_errors=True)
        return found

    def result(self, sent: Any) -> Any:
        """Wait for a job's result."""
        return sent.result()

    def stop(self) -> None:
        """End what still runs."""
        for job in tuple(self._running):
            job.cancel(check=False)


class Slurm(Submitit):
    """The nodes of a Slurm cluster."""

    name = "submitit_slurm"
    is_elsewhere = True
    cluster = "slurm"
    kind = SlurmSettings

    def __init__(self, node: dict[str, Any]) -> None:
        super().__init__(node)
        self._lock = threading.Lock()
        self._asked_s, self._queued = -math.inf, frozenset[str]()

    def parameters(self, need: Need) -> dict[str, Any]:
        """Return what is asked of submitit for a job: whole nodes by default, with all their memory."""
        said = self._said
        if not isinstance(said, SlurmSettings):
            raise TypeError(said)
        whole = {"slurm_exclusive": True, "slurm_mem": "0" if said.mem_gb is None else None} if said.exclusive else {}
        named = ("partition", "account", "qos", "constraint", "gres", "comment", "exclude", "additional_parameters")
        gpus = Need() if said.gres else need
        return {
            **super().parameters(gpus), **whole, **{f"slurm_{name}": getattr(said, name) or None for name in named},
            "name": said.name, "mem_gb": said.mem_gb, "cpus_per_task": said.cpus_per_task or need.cores,
        }  # fmt: skip

    def result(self, sent: Any) -> Any:
        """Wait for a job's result; submitit itself would wait for ever where Slurm keeps no accounts."""
        sent_s, is_gone = time.monotonic(), False
        while not sent.paths.result_pickle.exists():
            if is_gone:
                words = (sent.stderr() or "").splitlines()[-LAST_WORDS:]
                raise LaunchError(f"Slurm's job {sent.job_id} ended without a result", details=tuple(words))
            is_gone = not self._is_queued(sent.job_id, sent_s)
            time.sleep(LATE_S if is_gone else 1.0)
        return sent.result()

    def _is_queued(self, job: str, sent_s: float) -> bool:
        """Say whether a job waits or runs; one question to Slurm is for all jobs."""
        with self._lock:
            if time.monotonic() > self._asked_s + QUEUE_S:
                self._asked_s = time.monotonic()
                asked = subprocess.run(
                    ["squeue", "--noheader", "--me", "--format=%i"],  # noqa: S607 -- wherever this cluster has it
                    stdout=subprocess.PIPE, text=True, check=False,
                )  # fmt: skip
                if asked.returncode == 0:
                    self._queued = frozenset(asked.stdout.split())
            return sent_s > self._asked_s or job in self._queued
