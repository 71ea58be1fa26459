"""Which version of each engine is judged: the chosen one, else the one that would be installed, else the pack's.

A pack that is about a day judges the versions of that day, whatever would be installed now.
"""

from __future__ import annotations

import platform
from typing import TYPE_CHECKING, Any

import msgspec

from xinfer import engines

if TYPE_CHECKING:
    from collections.abc import Mapping

    from xinfer.engines import Engine
    from xinfer.facts import Hardware
    from xinfer.judging.rules import Pack


def settled(pack: Pack, hardware: Hardware, node: Mapping[str, Any], *, is_here: bool = False) -> Pack:
    """Return the pack with the version that each engine would have on a machine; ``node`` is the ``engine`` node.

    The version of what the user's own interpreter has is not known unless it is said. ``is_here`` says that the machine
    is this one, where environments are made with the Python that runs xinfer; no other machine's is known.
    """
    if not pack.is_versioned:
        return pack
    usable, _ = engines.load(())
    versions = {name: _version(pack, name, hardware, node, usable.get(name)) for name in pack.engines}
    interpreter = platform.python_version() if is_here and node.get("python") is None else None
    return msgspec.structs.replace(pack, versions=versions, interpreter=interpreter)


def _version(pack: Pack, name: str, hardware: Hardware, node: Mapping[str, Any], engine: Engine | None) -> str | None:
    mine = node if node.get("name") in (name, "auto") else {}
    if mine.get("version") is not None:
        return str(mine["version"])
    if mine.get("python") is not None:
        return None
    own = pack.versions.get(name)
    if engine is None or (own is not None and pack.catalog is not None):
        return own
    return engines.pinned(engine, hardware, mine) or own
