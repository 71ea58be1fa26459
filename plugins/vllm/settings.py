"""What the user may set for vLLM."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from xinfer import engines

Backend = Literal["cu129", "cu130"]
Count = Annotated[int, msgspec.Meta(ge=1)]
Size = Annotated[float, msgspec.Meta(gt=0)]
Share = Annotated[float, msgspec.Meta(gt=0, le=1)]


class Settings(engines.Settings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The keys of ``conf/engine/vllm.yaml``, where each is explained."""

    torch_backend: Backend | None = None
    slots: Count | None = None
    threads: Count | None = None
    kv_gib: Size | None = None
    gpu_memory: Share | None = None
    executor: Literal["mp", "ray"] | None = None
