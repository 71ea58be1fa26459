"""llama.cpp: its own HTTP server, from a prebuilt wheel or compiled for the machine."""

from __future__ import annotations

from .adapter import LlamaCpp

__all__ = ["LlamaCpp"]
