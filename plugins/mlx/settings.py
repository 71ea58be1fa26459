"""What the user may set for MLX."""

from __future__ import annotations

from typing import Annotated

import msgspec

from xinfer import engines

Count = Annotated[int, msgspec.Meta(ge=1)]


class Settings(engines.Settings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The keys of ``conf/engine/mlx.yaml``, where each is explained."""

    slots: Count | None = None
    threads: Count | None = None
