"""Servers with a known behaviour, and the contract that every engine keeps: for the tests of xinfer and of plugins."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from xinfer.testing.contract import EngineContract

__all__ = ["EngineContract"]


def __getattr__(name: str) -> type[EngineContract]:
    """Import the contract when it is asked for: it needs pytest, and the servers must not."""
    if name != "EngineContract":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from xinfer.testing.contract import EngineContract  # noqa: PLC0415

    return EngineContract
