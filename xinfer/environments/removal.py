"""Rids the home of environments and models: those that are named, or that nobody has used for long."""

from __future__ import annotations

import fnmatch
import secrets
import shutil
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from xinfer.environments import locks, storage
from xinfer.errors import ConfigError, ProvisionError, Refused, XinferError, nearest

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from xinfer.environments.storage import Stored


def asked(overrides: Sequence[str]) -> tuple[list[str], tuple[str, ...] | None, float | None]:
    """Take ``remove=NAME,…`` and ``unused_days=N`` out of what was typed; the rest is for the configuration."""
    rest: list[str] = []
    names, days = None, None
    for typed in overrides:
        key, _, value = typed.partition("=")
        if key == "remove":
            names = tuple(name.strip() for name in value.split(","))
            if not all(names):
                raise ConfigError(
                    f"{typed!r} names nothing; say remove=NAME, with commas between several, or remove='*'"
                )
        elif key == "unused_days":
            days = _days(value)
        else:
            rest.append(typed)
    return rest, names, days


def _days(value: str) -> float:
    try:
        days = float(value)
    except ValueError:
        days = -1
    if not 0 <= days <= timedelta.max.days:
        raise ConfigError(f"unused_days={value!r} is not a number of days")
    return days


def idle(rows: Iterable[Stored], days: float, now: datetime) -> list[Stored]:
    """Return the rows that nobody has asked for since so many days, and nobody uses."""
    before = now - timedelta(days=days)
    return [row for row in rows if not row.in_use and datetime.fromisoformat(row.used) <= before]


def named(rows: Sequence[Stored], names: Iterable[str]) -> list[Stored]:
    """Return the rows that names and globs stand for; ConfigError for one that stands for nothing."""
    meant: set[str] = set()
    for name in names:
        matching = {row.path for row in rows if fnmatch.fnmatchcase(row.name, name)}
        if not matching:
            raise ConfigError(f"remove={name}: there is no environment or model of this name{_hint(name, rows)}")
        meant |= matching
    return [row for row in rows if row.path in meant]


def _hint(name: str, rows: Iterable[Stored]) -> str:
    known = [row.name for row in rows]
    part = name.strip("*?")
    similar = next((other for other in known if part and part in other), None)
    if similar is not None:
        return f"; did you mean {similar!r}?"
    return nearest(name, known) or ("; xinfer environments lists all" if known else "; there is none at all")


def remove_all(rows: Iterable[Stored]) -> tuple[list[Stored], list[XinferError]]:
    """Remove what can be; return what was, and why the rest was not."""
    removed: list[Stored] = []
    errors: list[XinferError] = []
    for row in rows:
        try:
            remove(Path(row.path))
        except XinferError as error:
            errors.append(error)
        else:
            removed.append(row)
    return removed, errors


def remove(path: Path) -> None:
    """Remove a directory; Refused while it is in use.

    It is renamed first: whatever interrupts this, what is left has a name that no plan uses.
    """
    try:
        _delete(path if storage.is_aside(path) else _put_aside(path))
    except BlockingIOError:
        raise Refused(f"{path.name} is being made or used by another xinfer; end that first") from None
    except OSError as error:
        raise ProvisionError(f"{error.filename or path}: cannot be removed: {error.strerror}") from error


def _put_aside(path: Path) -> Path:
    """Give a directory another name while nobody else has its lock, and take the lock away with it."""
    with locks.held(path):
        if using := storage.users(path, storage.commands()):
            raise Refused(f"{path.name} is in use by {', '.join(using)}; end that first")
        aside = path.with_name(f"{path.name}{storage.ASIDE}{secrets.token_hex(4)}")
        with suppress(FileNotFoundError):  # another one has removed it already
            path.rename(aside)
        locks.of(path).unlink(missing_ok=True)
    return aside


def _delete(path: Path) -> None:
    """Delete a tree, or a file or link; another process may be doing the same."""
    if path.is_symlink() or path.is_file():
        path.unlink(missing_ok=True)
    while path.exists():
        with suppress(FileNotFoundError):
            shutil.rmtree(path)
