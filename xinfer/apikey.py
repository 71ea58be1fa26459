"""The API key: it reaches the server through its environment and the client in a header, and is written nowhere.

Of a typed key the configuration, and so every plan, record and message, says only that there is one.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from xinfer.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

HIDDEN = "***"
"""What stands for a key wherever anything is shown or kept."""
SHELL_NAME = "API_KEY"
"""The shell's variable in an example, where the key was typed and so has no variable of its own."""
_TYPED = re.compile(r"(\+{0,2}api_key=)(.*)", re.DOTALL)
_ELSEWHERE = re.compile(r"[+~]*(engine\.(?:args|env))\b.*api[-_]?key", re.DOTALL | re.IGNORECASE)
_MEANT = re.compile(r"api[-_]?key", re.IGNORECASE)
_NAME = re.compile(r"[A-Za-z_]\w*", re.ASCII)
_UNSENDABLE = re.compile(r"""[^!-~]|[,"'`\\]|\$\{""")
"""What a header cannot carry, or an engine or a shell takes apart."""


def take(word: str) -> tuple[str, str | None]:
    """Return an override as it may be kept, and the key that was in it; ConfigError never repeats a key."""
    if elsewhere := _ELSEWHERE.match(word):
        raise misplaced(elsewhere[1])
    typed = _TYPED.fullmatch(word)
    if typed is None or typed[2] == "null":
        return word, None
    if typed[2] == HIDDEN:
        raise _not_kept()
    return f"{typed[1]}{HIDDEN}", _usable(typed[2], "api_key=")


def check(config: Mapping[str, Any]) -> None:
    """Refuse a key that was not taken out, what cannot be a variable's name, and two answers to one question."""
    if config.get("api_key") not in (None, HIDDEN):
        raise ConfigError("api_key: a configuration is no place for a key; say api_key_env=NAME, or type api_key=KEY")
    name = config.get("api_key_env")
    if name is not None and not _NAME.fullmatch(str(name)):
        raise ConfigError("api_key_env: takes the name of an environment variable that holds the key, not the key")
    if name is not None and config.get("api_key") is not None:
        raise ConfigError("api_key= and api_key_env= both give a key; leave one of them out")


def variable(config: Mapping[str, Any]) -> str | None:
    """Name the shell's variable that an example takes the key from; null if no key is asked for."""
    name: str | None = config["api_key_env"]
    return name if config["api_key"] is None else SHELL_NAME


def find(config: Mapping[str, Any], typed: str | None, environ: Mapping[str, str]) -> str | None:
    """Return the key, or null if none is asked for; ConfigError if it is not where it was said to be."""
    if config["api_key"] is not None:
        if typed is None:
            raise _not_kept()
        return typed
    name = config["api_key_env"]
    return None if name is None else _read(environ, name, "api_key_env")


def of_another(name: str | None, key: str | None, environ: Mapping[str, str]) -> str | None:
    """Return the key of somebody else's server: from the variable that is named for it, else the ``key`` of all."""
    if not name:
        return key
    if key is not None:
        raise ConfigError("engine.api_key_env= and api_key= or api_key_env= both give a key; leave one of them out")
    return _read(environ, name, "engine.api_key_env")


def hidden(text: str, key: str | None) -> str:
    """Return a text without the key, whoever repeated it."""
    return text.replace(key, HIDDEN) if key else text


def is_meant(name: str) -> bool:
    """Say whether a flag or a variable of an engine's own is for a key."""
    return bool(_MEANT.search(name))


def misplaced(where: str) -> ConfigError:
    """Return the error for a key among an engine's own settings."""
    return ConfigError(f"{where}: a key would be printed and recorded with the plan; say api_key_env=NAME")


def _not_kept() -> ConfigError:
    return ConfigError(f"api_key={HIDDEN} stands for a key that was not kept; say api_key_env=NAME, or the key")


def _read(environ: Mapping[str, str], name: str, where: str) -> str:
    if name not in environ:
        raise ConfigError(f"{where}={name}: there is no such environment variable")
    return _usable(environ[name].strip(), f"{where}={name}:")


def _usable(key: str, where: str) -> str:
    if not key:
        raise ConfigError(f"{where} is empty; leave it out for a server that asks for no key")
    if _UNSENDABLE.search(key):
        allowed = "letters, digits and signs, without spaces, commas, quotes, backslashes and ${"
        raise ConfigError(f"{where} has characters that a key cannot have; allowed: ASCII {allowed}")
    return key
