"""What the user may set for Transformers."""

from __future__ import annotations

from typing import Annotated

import msgspec

from xinfer import engines

Count = Annotated[int, msgspec.Meta(ge=1)]
Share = Annotated[float, msgspec.Meta(gt=0, le=1)]


class Settings(engines.Settings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The keys of ``conf/engine/transformers.yaml``, where each is explained."""

    slots: Count | None = None
    threads: Count | None = None
    gpu_memory: Share | None = None
