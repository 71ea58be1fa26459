"""Run an engine's own server for the length of a ``with`` body: ready when it has answered, always ended."""

from __future__ import annotations

import errno
import http.client
import json
import os
import shutil
import signal
import socket
import time
from contextlib import closing, contextmanager, suppress
from http import HTTPStatus
from typing import TYPE_CHECKING, NoReturn

import msgspec
import psutil

from xinfer import apikey
from xinfer.environments.environment import used
from xinfer.errors import ConfigError, EngineError, RequestError, StartError
from xinfer.machine import pagecache
from xinfer.running import weights
from xinfer.running.server import Server, Startup

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping
    from pathlib import Path
    from types import FrameType

    from xinfer.plan import LaunchPlan

HEALTH_TIMEOUT_S = 2.0
NEWS_S = 0.5
"""How long the guard's report of an engine's death may lag behind its broken connection."""
BODY_LENGTH = 200
FIRST_REQUESTS: dict[str, dict[str, object]] = {
    "/v1/completions": {"prompt": "Hello"},
    "/v1/chat/completions": {"messages": [{"role": "user", "content": "Hello"}]},
}


@contextmanager
def running(
    plan: LaunchPlan,
    *,
    log: Path,
    start_timeout_s: float = 600,
    grace_s: float = 10,
    environ: Mapping[str, str] | None = None,
    api_key: str | None = None,
    cores: Collection[int] | None = None,
) -> Iterator[Server]:
    """Run the plan's server, ready for requests, for the length of the body.

    ``cores`` are those that it may run on; null is all that xinfer may. ``environ`` replaces the inherited environment;
    the plan's variables are put on top of either. The server asks for ``api_key``, or for none, whatever the
    environment says. Raises StartError when the server does not get ready, EngineError when it ends before the body.
    """
    variables = _variables(plan, os.environ if environ is None else environ, api_key)
    _check_program(plan, variables.get("PATH", os.defpath))
    check_port(plan)
    _check_log(log)
    with used(plan):
        server = Server(plan, log, grace_s, api_key)
        cached = pagecache.share(weights.files(plan))
        try:
            with confined(cores):
                server.start(variables)
            server.startup = msgspec.structs.replace(_wait_until_ready(server, start_timeout_s), weights_cached=cached)
            try:
                yield server
            except RequestError as error:
                if not server.is_alive(within_s=NEWS_S):
                    error.details += (f"{plan.engine} {server.ending}", *server.log_tail())
                raise
            if not server.is_alive():
                raise server.error(EngineError, f"{server.ending} while it was in use")
        finally:
            server.stop()
    if server.left:
        raise server.error(EngineError, f"left processes that do not obey SIGKILL: {', '.join(server.left)}")


@contextmanager
def confined(cores: Collection[int] | None) -> Iterator[None]:
    """Let what is started in the body run on these cores; it inherits them from the thread that starts it."""
    if cores is None:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _variables(plan: LaunchPlan, inherited: Mapping[str, str], api_key: str | None) -> dict[str, str]:
    if api_key and not plan.key_variables:
        raise ConfigError(f"{plan.engine} checks no API key")
    taken = {*plan.key_variables, *plan.inherits_not}
    own = {name: value for name, value in inherited.items() if name not in taken}
    key = {name: value.replace("{key}", api_key) for name, value in plan.key_variables.items() if api_key}
    return {"PYTHONUNBUFFERED": "1", **own, **plan.env, **key}


def _check_program(plan: LaunchPlan, path: str) -> None:
    program = plan.argv[0]
    if shutil.which(program, path=path) is None:
        where = "" if os.sep in program else " on PATH"
        raise StartError(f"{plan.engine} cannot be started: {program!r} is not an executable file{where}")


def check_port(plan: LaunchPlan) -> None:
    """Raise StartError if the plan's server could not listen where it shall."""
    address = (plan.host, plan.port)
    with socket.socket(socket.AF_INET6 if ":" in plan.host else socket.AF_INET) as probe:
        # As servers do; without it, connections that a former server closed would still count.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(address)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise StartError(f"{plan.host}:{plan.port} cannot be listened on: {error.strerror}") from None
            raise _port_taken(plan) from None
    # BSD lets a socket be bound beside one that listens on all addresses, so ask as a client too.
    with suppress(OSError), socket.create_connection(address, timeout=1) as probe:
        if probe.getsockname() != probe.getpeername():
            raise _port_taken(plan)


def _port_taken(plan: LaunchPlan) -> StartError:
    return StartError(f"port {plan.port} on {plan.host} is already in use; choose another with port=")


def _check_log(log: Path) -> None:
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        log.touch()
    except OSError as error:
        raise StartError(f"the log {log} cannot be written: {error.strerror}") from None


def _wait_until_ready(server: Server, timeout_s: float) -> Startup:
    _ask_until(server, _refusal_of_health, timeout_s)
    ready_s = time.perf_counter() - server.started_s
    if _is_answered_by_another(server):
        raise server.error(StartError, f"lost port {server.plan.port}: another process answers on it")
    asked_s = time.perf_counter()
    _ask_until(server, _refusal_of_completion, timeout_s)
    return Startup(ready_s=ready_s, first_request_s=time.perf_counter() - asked_s)


def _ask_until(server: Server, refusal: Callable[[Server, float], str], timeout_s: float) -> None:
    """Ask until the server no longer refuses; the pauses grow with the time that has passed."""
    while True:
        passed_s = time.perf_counter() - server.started_s
        refused = refusal(server, max(0.1, timeout_s - passed_s))
        pause_s = min(0.5, max(0.1, passed_s / 20)) if refused else 0
        if not server.is_alive(within_s=pause_s):
            raise server.error(StartError, f"{server.ending} before it was ready")
        if not refused:
            return
        if time.perf_counter() - server.started_s > timeout_s:
            raise server.error(StartError, f"was not ready after {timeout_s:g} s: {refused}")


def _refusal_of_health(server: Server, timeout_s: float) -> str:
    """Return why the health endpoint does not say yes, or an empty string."""
    path = server.plan.health
    try:
        status, _ = _send(server, "GET", path, None, min(HEALTH_TIMEOUT_S, timeout_s))
    except (OSError, http.client.HTTPException) as error:
        return f"{path}: {_reason(error)}"
    return "" if status == HTTPStatus.OK else f"{path} answered {status}"


def _refusal_of_completion(server: Server, timeout_s: float) -> str:
    """Return why there is no completion yet; raise StartError when there never will be one."""
    status, path, text = 0, "", b""
    for path, question in FIRST_REQUESTS.items():
        body = {"model": server.plan.model, "max_tokens": 1, "temperature": 0, **question}
        try:
            status, text = _send(server, "POST", path, json.dumps(body).encode(), timeout_s)
        except TimeoutError:
            return f"{path}: no answer"
        except (OSError, http.client.HTTPException) as error:
            return _broken(server, f"{path}: {_reason(error)}")
        if status != HTTPStatus.NOT_FOUND:
            break
    if status == HTTPStatus.SERVICE_UNAVAILABLE:
        return f"{path} answered {status}"
    if status != HTTPStatus.OK or not _has_choices(text):
        said = " ".join(apikey.hidden(text.decode(errors="replace"), server.api_key)[:BODY_LENGTH].split())
        return _broken(server, f"{path} answered {status}: {said}")
    server.path = path
    return ""


def _broken(server: Server, what: str) -> str:
    """Raise StartError for an engine that lives; the caller will name the end of one that died of it."""
    if server.is_alive(within_s=NEWS_S):
        raise server.error(StartError, f"failed its first completion: {what}")
    return what


def _has_choices(text: bytes) -> bool:
    try:
        answer = json.loads(text)
    except ValueError:
        return False
    return isinstance(answer, dict) and bool(answer.get("choices"))


def _send(server: Server, method: str, path: str, body: bytes | None, timeout_s: float) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(server.plan.host, server.plan.port, timeout=timeout_s)
    headers = {"Content-Type": "application/json", "Connection": "close"}
    if server.api_key:
        headers["Authorization"] = f"Bearer {server.api_key}"
    with closing(connection):
        connection.request(method, path, body, headers)
        response = connection.getresponse()
        return response.status, response.read()


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def _is_answered_by_another(server: Server) -> bool:
    """Say whether no process of the engine's tree listens on its port; when that cannot be seen, trust it."""
    for pid in server.pids():
        try:
            sockets = psutil.Process(pid).net_connections("tcp")
        except psutil.NoSuchProcess:
            continue
        except psutil.AccessDenied:
            return False
        if any(s.status == psutil.CONN_LISTEN and s.laddr.port == server.plan.port for s in sockets):
            return False
    return server.is_alive(within_s=NEWS_S)


@contextmanager
def terminating_as_exception() -> Iterator[None]:
    """Turn SIGTERM and SIGHUP into SystemExit (128 + number), so that what was started is also ended.

    Only the main thread may use it. A signal that is ignored (nohup) stays ignored.
    """
    handled = [n for n in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(n) is not signal.SIG_IGN]
    before = {number: signal.signal(number, _exit) for number in handled}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _exit(number: int, _frame: FrameType | None) -> NoReturn:
    raise SystemExit(128 + number)
