"""The chosen engine in the foreground: one OpenAI endpoint on this machine, until somebody or something ends it."""

from __future__ import annotations

import json
import os
import shlex
import signal
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from xinfer import apikey, flow, judgement
from xinfer.environments import environment
from xinfer.errors import ConfigError
from xinfer.running.runner import check_port, running, terminating_as_exception
from xinfer.verbs import report

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from xinfer.config.compose import Composer
    from xinfer.plan import LaunchPlan
    from xinfer.running.server import Server

LISTENING_S = 3600.0
"""How long to wait for news of the engine before waiting again."""
TERMINATED = 128 + signal.SIGTERM
QUESTIONS: dict[str, dict[str, object]] = {
    "/v1/completions": {"prompt": "The capital of France is"},
    "/v1/chat/completions": {"messages": [{"role": "user", "content": "What is the capital of France?"}]},
}
TOKENS = 16


def run(overrides: Sequence[str], composer: Composer, *, api_key: str | None) -> int:
    """Judge, install, start, and serve until an interrupt, which is how a server ends well: return 0.

    Before the server is ready an interrupt passes through, because what was asked for was not done. No record is
    written: nothing is measured. Raises EngineError when the engine ends by itself.
    """
    with terminating_as_exception():
        config = composer.compose(overrides)
        if config["engine"]["name"] == "external":
            raise ConfigError("engine=external runs already; there is nothing to start")
        planned = judgement.first(config, composer)
        key = apikey.find(config, api_key, os.environ)
        planned = judgement.here(planned, composer, _say, port=None)
        launch = judgement.launched(planned)
        check_port(launch)  # an installation takes minutes, and would be for nothing
        _say(report.summary(planned))
        logs = environment.logs(flow.home(config), "serve") / f"{launch.engine}-{launch.port}"
        environment.provision(launch, progress=_say, log=logs / "provision.log")
        _say(f"starting {launch.engine} on {launch.url}")
        log, timeout_s = logs / "engine.log", float(config["start_timeout_s"])
        with running(launch, log=log, start_timeout_s=timeout_s, api_key=key) as server:
            _stay(server, ready(launch, server.path, log, apikey.variable(config)))
        _say("stopped; nothing is left running")
    return 0


def _stay(server: Server, block: str) -> None:
    """Print the block and return when the engine has ended or an interrupt arrives; a second one passes through."""
    try:
        _say(f"ready after {server.startup.ready_s:.1f} s")
        sys.stdout.write(block)
        sys.stdout.flush()
        while server.is_alive(within_s=LISTENING_S):
            pass
    except KeyboardInterrupt:
        _say(f"\nstopping {server.plan.engine}; Ctrl-C once more kills it")
    except SystemExit as told:
        if told.code != TERMINATED:
            raise
        _say(f"stopping {server.plan.engine}")


def ready(launch: LaunchPlan, path: str, log: Path, variable: str | None) -> str:
    """Say where the server is, how to ask it, and how to stop it; of the key only where it is."""
    words = [("url", f"{launch.url}/v1"), ("model", launch.model)]
    if variable:
        words += [("key", f"as a bearer token; the example takes it from ${variable}")]
    words += [("log", str(log)), ("stop", "Ctrl-C")]
    table = "".join(f"{name:<8}{value}\n" for name, value in words)
    return f"\n{table}\n{_example(launch, path, variable)}\n\n"


def _example(launch: LaunchPlan, path: str, variable: str | None) -> str:
    """Return a request that can be pasted into a shell."""
    body: dict[str, Any] = {"model": launch.model, **QUESTIONS[path], "max_tokens": TOKENS}
    headers = ["-H 'Content-Type: application/json'"]
    if variable:
        headers += [f'-H "Authorization: Bearer ${variable}"']
    return f"curl {launch.url}{path} {' '.join(headers)} -d {shlex.quote(json.dumps(body))}"


def _say(line: str) -> None:
    """Tell what goes on, beside the ready block on standard output; nobody may be listening."""
    with suppress(OSError):
        sys.stderr.write(f"{line}\n")
        sys.stderr.flush()
