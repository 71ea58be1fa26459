"""Which version of each engine is judged: the chosen one, else the one that would be installed, else the pack's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from xinfer import engines

if TYPE_CHECKING:
    from collections.abc import Mapping

    from xinfer.engines import Engine
    from xinfer.facts import Hardware
    from xinfer.judging.rules import Pack


def settled(pack: Pack, hardware: Hardware, node: Mapping[str, Any]) -> Pack:
    """Return the pack with the version that each engine would have on a machine; ``node`` is the ``engine`` node.

    The version of the user's own interpreter is not known unless it is said.
    """
    if not pack.is_versioned:
        return pack
    usable, _ = engines.load(())
    versions = {name: _version(pack, name, hardware, node, usable.get(name)) for name in pack.engines}
    return msgspec.structs.replace(pack, versions=versions)


def _version(pack: Pack, name: str, hardware: Hardware, node: Mapping[str, Any], engine: Engine | None) -> str | None:
    mine = node if node.get("name") in (name, "auto") else {}
    if mine.get("version") is not None:
        return str(mine["version"])
    if mine.get("python") is not None:
        return None
    pinned = None if engine is None else engines.pinned(engine, hardware, mine)
    return pinned or pack.versions.get(name)
