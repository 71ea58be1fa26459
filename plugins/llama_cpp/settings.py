"""What the user may set for this engine, and what its environments are made of."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from xinfer import engines

Build = Literal["wheel", "native"]
Backend = Literal["cpu", "cuda", "metal", "hip", "vulkan"]
CacheType = Literal["f32", "f16", "bf16", "q8_0", "q4_0", "q4_1", "iq4_nl", "q5_0", "q5_1"]
Count = Annotated[int, msgspec.Meta(ge=1)]
Layers = Annotated[int, msgspec.Meta(ge=0)] | Literal["auto", "all"]


class Settings(engines.Settings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The keys of ``conf/engine/llama_cpp.yaml``, where each is explained."""

    build: Build = "wheel"
    backend: Backend | None = None
    index: str | None = None
    slots: Count | None = None
    threads: Count | None = None
    gpu_layers: Layers | None = None
    cache_type_k: CacheType | None = None
    cache_type_v: CacheType | None = None


class Wheel(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The prebuilt package and, for each backend, the index that has it; null is pip's own."""

    version: str
    package: str
    indexes: dict[Backend, str | None]


class Native(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The source package, and what it is compiled with."""

    version: str
    package: str
    cmake: tuple[str, ...]
    backends: dict[Backend, str]
    variables: dict[str, str]


class Requirements(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The content of ``requirements.yaml``."""

    wheel: Wheel
    native: Native


@cache
def requirements() -> Requirements:
    """Read what the environments are made of."""
    content = Path(__file__).with_name("requirements.yaml").read_bytes()
    return msgspec.yaml.decode(content, type=Requirements)
