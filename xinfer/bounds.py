"""What numbers a model's description may have: those that no model has are mistakes, and would be planned with."""

from __future__ import annotations

from typing import TYPE_CHECKING

from xinfer.errors import ConfigError

if TYPE_CHECKING:
    import msgspec

_MOST = 10**9
"""Of tokens, words and dimensions: a hundred times what any model has."""
_PARTS, _BILLIONS = 2**16, 10**5
_MOST_OF: dict[str, float] = {
    **dict.fromkeys(("layers", "sliding_layers", "caching_layers", "heads", "kv_heads"), _PARTS),
    **dict.fromkeys(("experts", "experts_per_token"), _PARTS),
    **dict.fromkeys(("size", "total_b", "active_b"), _BILLIONS),
    "bytes": 2**50,
}
"""By the name of a field; sizes are in billions of parameters."""


def check(described: msgspec.Struct, place: str) -> None:
    """Raise ConfigError that names a field and its value, for the first number that no model has."""
    for name in described.__struct_fields__:
        value = getattr(described, name)
        number = float(value.replace("_", ".")) if name == "size" else value
        if isinstance(number, bool) or not isinstance(number, (int, float)):
            continue
        most = _MOST_OF.get(name, _MOST)
        if not 0 < number <= most:
            raise ConfigError(f"{place}{name}={value} is not a number above 0 and at most {most}")
