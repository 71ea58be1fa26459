"""``python -m xinfer``."""

from __future__ import annotations

from xinfer.cli import script

if __name__ == "__main__":
    script()
