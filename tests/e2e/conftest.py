"""One cache for all tests with real engines: each environment is installed once."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return ``$XINFER_TEST_HOME``, which is kept, or a directory for this session whose name shells dislike."""
    kept = os.environ.get("XINFER_TEST_HOME")
    return Path(kept) if kept else tmp_path_factory.mktemp("a cache; ünïcode $HOME")
