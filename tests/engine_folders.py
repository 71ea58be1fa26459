"""pytest's plugin for this repository: the engines' folders hold tests, and are packages of ``xinfer.plugins`` alone.

pytest itself would import them once more, as packages named ``plugins``, which nothing else knows by that name.
"""

from __future__ import annotations

from pathlib import Path

import pytest

PLUGINS = Path(__file__).parents[1] / "plugins"


def pytest_collect_directory(path: Path, parent: pytest.Collector) -> pytest.Dir | None:
    """Take each folder below ``plugins/`` for a folder, with or without an ``__init__.py``."""
    return pytest.Dir.from_parent(parent, path=path) if path.is_relative_to(PLUGINS) else None
