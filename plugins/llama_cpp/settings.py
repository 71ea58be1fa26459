"""What the user may set for this engine, and what its environments are made of."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from xinfer.errors import ConfigError, nearest

Build = Literal["wheel", "native"]
Backend = Literal["cpu", "cuda", "metal", "hip", "vulkan"]
CacheType = Literal["f32", "f16", "bf16", "q8_0", "q4_0", "q4_1", "iq4_nl", "q5_0", "q5_1"]
Positive = Annotated[int, msgspec.Meta(ge=1)]
Layers = Annotated[int, msgspec.Meta(ge=0)] | Literal["auto", "all"]


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The keys of ``conf/engine/llama_cpp.yaml``, where each is explained."""

    name: str = "llama_cpp"
    build: Build = "wheel"
    version: str | None = None
    backend: Backend | None = None
    index: str | None = None
    python: str | None = None
    slots: Positive | None = None
    threads: Positive | None = None
    gpu_layers: Layers | None = None
    cache_type_k: CacheType | None = None
    cache_type_v: CacheType | None = None
    args: dict[str, Any] = {}
    env: dict[str, str | int | float | None] = {}


class Wheel(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The prebuilt package and, for each backend, the index that has it; null is pip's own."""

    version: str
    package: str
    source: str
    indexes: dict[Backend, str | None]


class Native(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The source package, and the flags it is compiled with."""

    version: str
    package: str
    source: str
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


def read(given: dict[str, Any]) -> Settings:
    """Check the user's settings; raise ConfigError that names the key and what would be allowed."""
    if unknown := [key for key in given if key not in Settings.__struct_fields__]:
        known = ", ".join(Settings.__struct_fields__)
        message = f"engine.{unknown[0]}: llama.cpp has no such setting{nearest(unknown[0], Settings.__struct_fields__)}"
        raise ConfigError(f"{message}; it has {known}")
    try:
        return msgspec.convert(given, Settings)
    except msgspec.ValidationError as error:
        what, _, where = str(error).partition(" - at `$")
        key = where.rstrip("`").strip(".[]")
        message = f"engine.{key}: {given.get(key)!r}: {what[:1].lower()}{what[1:]}{_allowed(key)}"
        raise ConfigError(message) from error


def _allowed(key: str) -> str:
    """Return the words that a setting may be, where it is a choice."""
    choices = {"build": Build, "backend": Backend, "cache_type_k": CacheType, "cache_type_v": CacheType}
    return f"; allowed: {', '.join(choices[key].__args__)}" if key in choices else ""
