"""Name a model and a machine; get the engine that serves it, the reasons, the plan, and measured numbers."""

from __future__ import annotations

__version__ = "0.1.0"
