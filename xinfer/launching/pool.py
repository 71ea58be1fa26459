"""Jobs in processes of this machine, which joblib keeps and replaces."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from xinfer.engines import typed
from xinfer.launching.launcher import Need, Settings, at_least, extra
from xinfer.launching.work import carried_out

if TYPE_CHECKING:
    from collections.abc import Callable


class JoblibSettings(Settings, frozen=True, kw_only=True):
    """``joblib.yaml``."""

    n_jobs: int


class Joblib:
    """Processes of this machine."""

    name: ClassVar[str] = "joblib"
    is_elsewhere: ClassVar[bool] = False

    def __init__(self, node: dict[str, Any]) -> None:
        said = typed(node, JoblibSettings, "hydra.launcher")
        self.settings: Settings = said
        self.at_once = at_least(1, "n_jobs", said.n_jobs)
        with extra("joblib"):
            from joblib.externals import loky  # noqa: PLC0415
        self._pool: Callable[..., Any] = loky.get_reusable_executor

    def call(self, job: bytes, _need: Need) -> bytes:
        """Return a job's outcome; where a process was killed, the pool is made anew."""
        return bytes(self._pool(max_workers=self.at_once).submit(carried_out, job).result())

    def stop(self) -> None:
        """End what still runs."""
        self._pool(max_workers=self.at_once).shutdown(kill_workers=True)
