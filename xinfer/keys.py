"""The keys that are no groups, and the workload's: what their values may be.

Raises ConfigError, one line, that names the key, its value and what would be allowed.
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any

import msgspec

from xinfer.catalog import DAYS
from xinfer.config.overrides import LABELS
from xinfer.engines import typed
from xinfer.errors import ConfigError, nearest
from xinfer.spec import Repeat, Tune, Workload

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


DTYPES = ("float32", "bfloat16", "float16")
INSTALLERS = ("pip", "uv")
OF_THE_COMMAND = ("runs", "home", "resume", "dry", "repeat", "choose", "format", "api_key_env", "port", "hydra")
"""Keys that are about one command or one machine, and not about what is served or measured."""
RESUME = ("off", "failed", "all")
"""What a sweep keeps of earlier records: none, all but failures, all. YAML reads a bare off as false."""
CHOICES = ("documented", "measured")
_MOST = 10**6
_MOST_TOKENS = 10**9


def check(config: Mapping[str, Any]) -> None:
    """Refuse a key that does not exist or is not there, and a value that means nothing."""
    known = (*LABELS, *_ALLOWED)
    for key in config:
        if key not in known:
            raise ConfigError(f"there is no key {key!r}{nearest(key, known)}")
    for key in known:
        if key not in config and key != "experiment":
            raise ConfigError(f"the configuration has no {key}; the file chosen for it puts its keys elsewhere")
        if key in LABELS and not isinstance(config.get(key, {}), dict):
            raise ConfigError(f"{key}={_said(config[key])} is not a mapping; its file must be one")
    for key, (allows, means) in _ALLOWED.items():
        if not allows(config[key]):
            hint = nearest(str(config[key]), _CHOICES.get(key, ()))
            raise ConfigError(f"{key}={_said(config[key])} is not {means}{hint}")
    engine = config["engine"]
    if engine.get("name") == "auto" and engine.get("version") is not None:
        raise ConfigError(f"engine.version={engine['version']} is of one engine; say which, as in engine=vllm")
    repeat(config["repeat"])
    tune(config["tune"])
    if config["catalog"] is not None:
        check_day(str(config["catalog"]))


def check_day(day: str) -> None:
    """Refuse a day whose catalogue is not known."""
    if day not in DAYS:
        raise ConfigError(f"catalog={day} is not a day that was kept; say {', '.join(DAYS)}")


def workload(node: Any) -> Workload:
    """Give the ``workload`` node its type."""
    asked = typed(node, Workload, "workload")
    for key, least in (("input_tokens", 1), ("output_tokens", 1), ("concurrency", 1), ("requests", 1), ("warmup", 0)):
        value = getattr(asked, key)
        if value is not None and not least <= value <= _MOST:
            raise ConfigError(f"workload.{key}={value} is not a number from {least} to a million")
    for key, (allows, means) in _WORKLOAD.items():
        if not allows(getattr(asked, key)):
            raise ConfigError(f"workload.{key}={getattr(asked, key):g} is not {means}")
    for key, shapes in (("rate", ("constant", "poisson")), ("trace", ("trace",))):
        is_given, is_needed = getattr(asked, key) is not None, asked.load in shapes
        if is_given != is_needed:
            said = (
                f"needs workload.{key}="
                if is_needed
                else f"takes no workload.{key}=; that is for {' and '.join(shapes)}"
            )
            raise ConfigError(f"workload.load={asked.load} {said}")
    return asked


def repeat(node: Any) -> Repeat:
    """Give the ``repeat`` node its type."""
    asked = typed(node, Repeat, "repeat")
    for key, count in (("least", asked.least), ("most", asked.most)):
        if count is not None and not 1 <= count <= _MOST:
            raise ConfigError(f"repeat.{key}={count} is not a number from 1 to a million")
    if asked.most is not None and asked.most < asked.least:
        raise ConfigError(f"repeat.most={asked.most} is less than repeat.least={asked.least}")
    for key, value in (("width", asked.width), ("cooldown_s", asked.cooldown_s)):
        if not (math.isfinite(value) and value >= 0):
            raise ConfigError(f"repeat.{key}={value:g} is not a number from 0")
    return asked


def tune(node: Any) -> Tune:
    """Give the ``tune`` node its type."""
    asked = typed(node, Tune, "tune")
    if not 1 <= asked.trials <= _MOST:
        raise ConfigError(f"tune.trials={asked.trials} is not a number from 1 to a million")
    if not (math.isfinite(asked.minutes) and asked.minutes > 0):
        raise ConfigError(f"tune.minutes={asked.minutes:g} is not a number of minutes above 0")
    if not 0 <= asked.repeats <= _MOST:
        raise ConfigError(f"tune.repeats={asked.repeats} is not a number from 0 to a million")
    for name in asked.slo.__struct_fields__:
        limit = getattr(asked.slo, name)
        if limit is not None and not (math.isfinite(limit) and limit > 0):
            raise ConfigError(f"tune.slo.{name}={limit:g} is not a number of milliseconds above 0")
    if asked.experiment is not None and not _NAME.fullmatch(asked.experiment):
        raise ConfigError(f"tune.experiment={asked.experiment!r} is not a name; say letters, digits, - and _")
    return asked


_NAME = re.compile(r"[A-Za-z0-9][\w-]*", re.ASCII)
_WORKLOAD: dict[str, tuple[Callable[[Any], bool], str]] = {
    "timeout_s": (lambda v: math.isfinite(v) and v > 0, "a number of seconds above 0"),
    "seconds": (lambda v: math.isfinite(v) and v >= 0, "a number of seconds"),
    "rate": (lambda v: v is None or (math.isfinite(v) and v > 0), "a number of requests per second above 0"),
    "shared_prefix": (lambda v: 0 <= v <= 1, "a part of a prompt, from 0 to 1"),
}
"""What is asked of a workload's values that are no counts."""


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _is_path(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip()) and "\0" not in value


_ALLOWED: dict[str, tuple[Callable[[Any], bool], str]] = {
    "context_length": (
        lambda v: v is None or (_is_count(v) and v <= _MOST_TOKENS),
        "a number of tokens; say null or a whole number from 1 to a billion",
    ),
    "dtype": (lambda v: v in (None, *DTYPES), f"null, {', '.join(DTYPES)}"),
    "port": (lambda v: v is None or (_is_count(v) and v < 2**16), "a port; say null or a number from 1 to 65535"),
    "catalog": (lambda _: True, ""),
    "format": (lambda _: True, ""),
    "runs": (_is_path, "a directory"),
    **dict.fromkeys(
        ("install_timeout_s", "start_timeout_s", "measure_timeout_s"),
        (lambda v: _is_count(v) or (isinstance(v, float) and 0 < v < math.inf), "a number of seconds above 0"),
    ),
    "resume": (lambda v: v in (False, *RESUME), ", ".join(RESUME)),
    "dry": (lambda v: isinstance(v, bool), "true or false"),
    "installer": (lambda v: v in INSTALLERS, " or ".join(INSTALLERS)),
    "loadgen": (lambda v: isinstance(v, str), "the name of a load generator"),
    "api_key": (lambda _: True, ""),
    "api_key_env": (lambda _: True, ""),
    "choose": (lambda v: v in CHOICES, " or ".join(CHOICES)),
    "home": (lambda v: v is None or _is_path(v), "a directory; say null or a path"),
    "prefer": (lambda _: True, ""),
    "parity": (lambda v: isinstance(v, dict), "a mapping"),
    "repeat": (lambda v: isinstance(v, dict), "a mapping"),
}
"""What a value must be, and how to say that; what is true for everything is checked where it is used."""
_CHOICES = {"dtype": DTYPES, "resume": RESUME, "installer": INSTALLERS, "choose": CHOICES}
"""The words that a key takes."""


def _said(value: Any) -> str:
    return repr(value) if isinstance(value, (str, float)) else msgspec.json.encode(value).decode()
