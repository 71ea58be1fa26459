"""Starts SGLang's server with an API key that neither the process table nor the log shows.

SGLang takes a key as a flag alone, and writes all its flags into its log. Runs in SGLang's own environment, and so
imports nothing of xinfer. Each process of the server imports this file anew.
"""

from __future__ import annotations

import logging
import os
import runpy
import sys

KEY = os.environ.get("SGLANG_API_KEY", "")
"""A variable of this file's, which SGLang itself does not know."""


def hide(key: str) -> None:
    """Let no line of any log show the key."""
    make = logging.getLogRecordFactory()

    def record(*args: object, **kwargs: object) -> logging.LogRecord:
        made = make(*args, **kwargs)
        if key in (text := made.getMessage()):
            made.msg, made.args = text.replace(key, "***"), ()
        return made

    logging.setLogRecordFactory(record)


if KEY:
    hide(KEY)

if __name__ == "__main__":
    if KEY:
        sys.argv.append(f"--api-key={KEY}")  # one word: a key may begin with a dash
    runpy.run_module("sglang.launch_server", run_name="__main__")
