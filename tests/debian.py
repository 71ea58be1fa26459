"""Programs of Debian's that tests need, installed where they are not there yet."""

from __future__ import annotations

import os
import shutil
import subprocess


def installed(program: str, *packages: str) -> str:
    """Return a program of Debian's, which is installed if it is not there."""
    if shutil.which(program) is None:
        for step in (("update", "-q"), ("install", "-y", "-q", "--no-install-recommends", *packages)):
            variables = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
            subprocess.run(["apt-get", *step], check=True, env=variables, stdout=subprocess.DEVNULL)  # noqa: S607
    found = shutil.which(program)
    assert found is not None, f"{program} is in none of {packages}"
    return found
