"""Name a model and a machine; get the engine that serves it, the reasons, the plan, and measured numbers."""

from __future__ import annotations

from pathlib import Path

__version__ = "0.1.0"

_HERE = Path(__file__).resolve().parent
if not (_HERE / "plugins").is_dir():
    # In a checkout, conf/ and plugins/ lie beside the package; a build puts them inside. `python -m xinfer` in the
    # checkout's root imports this package rather than the installed one, and must find them all the same.
    __path__.append(str(_HERE.parent))
