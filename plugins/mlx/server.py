"""Starts mlx_lm's own server, in its environment and without anything of xinfer.

Before: the BLAS that shall compute on a CPU, a folder for compiled kernels, a pinned revision of the model. After: a
server whose model cannot be loaded, which would go on answering that it is not well, ends.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import re
import sys
import threading
import time
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

PLAIN = re.compile(r"[\w@%+=:,./-]+", re.ASCII)
"""A path that a shell takes for what it is."""
LOOK_S = 0.1
"""How often the thread that generates is looked for, until it is there."""


def parser() -> argparse.ArgumentParser:
    """Return the parser of the flags that are read here; all others are mlx_lm's."""
    made = argparse.ArgumentParser(prog="mlx_lm server", allow_abbrev=False, add_help=False)
    made.add_argument("--blas", metavar="FILE")
    made.add_argument("--model", required=True)
    made.add_argument("--revision")
    return made


def say(line: str) -> None:
    """Write a line to the log at once."""
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


def interpose(library: str) -> None:
    """Load a BLAS ahead of the one that MLX brings: what is loaded first and globally answers its calls."""
    try:
        blas = ctypes.CDLL(library, mode=ctypes.RTLD_GLOBAL)
    except OSError as error:
        sys.exit(f"--blas: {error}")
    described = getattr(blas, "openblas_get_config", None)
    if described is not None:
        described.restype = ctypes.c_char_p
        say(f"BLAS: {described().decode(errors='replace').strip()}")


def keep_kernels() -> None:
    """Let MLX compile into a folder of its environment: its own choice is one under /tmp that anybody may fill.

    It compiles through a shell, which takes some paths apart.
    """
    kernels = Path(sys.prefix, "kernels")
    if not PLAIN.fullmatch(str(kernels)):
        return
    with suppress(OSError):
        kernels.mkdir(mode=0o700, exist_ok=True)
        os.environ["TMPDIR"] = str(kernels)


def fetched(model: str, revision: str | None) -> str:
    """Return where the model is: a folder, or an id that mlx_lm fetches for itself unless a revision is asked for."""
    if Path(model).is_absolute() and not Path(model, "config.json").is_file():
        sys.exit(f"{model}: no folder with a config.json")
    # The list of models is read from there, and fails where nothing was ever fetched.
    with suppress(OSError):
        Path(import_module("huggingface_hub.constants").HF_HUB_CACHE).mkdir(parents=True, exist_ok=True)
    if revision is None:
        return model
    wanted = getattr(import_module("mlx_lm.utils"), "DEFAULT_ALLOW_PATTERNS", None)
    return str(import_module("huggingface_hub").snapshot_download(model, revision=revision, allow_patterns=wanted))


def generating() -> threading.Thread | None:
    """Return the thread that loads the model and generates: the only one that the process would wait for."""
    others = (thread for thread in threading.enumerate() if thread is not threading.main_thread())
    return next((thread for thread in others if not thread.daemon), None)


def end_together() -> None:
    """End the process as soon as the thread that generates has ended."""
    while (thread := generating()) is None:
        time.sleep(LOOK_S)
    thread.join()
    say("mlx_lm generates no more; it says why above")
    os._exit(1)


def main(argv: Sequence[str]) -> None:
    """Serve until a signal ends the process."""
    own, theirs = parser().parse_known_args(argv)
    if own.blas:
        interpose(own.blas)
    keep_kernels()
    sys.argv = ["mlx_lm server", "--model", fetched(own.model, own.revision), *theirs]
    threading.Thread(target=end_together, daemon=True).start()
    import_module("mlx_lm.server").main()


if __name__ == "__main__":
    main(sys.argv[1:])
