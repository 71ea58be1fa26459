"""YAML that programs of every dialect read alike: texts that another one may take for a number stand in quotes."""

from __future__ import annotations

import re
from typing import Any

import msgspec
import yaml

_PLAIN = re.compile(r"-{0,2}[A-Za-z][A-Za-z0-9_./-]+")
"""Texts that are texts in YAML 1.1 and 1.2, unless PyYAML knows better: yes, null, .inf."""


_BREAKS = re.compile("[\\r\\x85\\u2028\\u2029]")
"""What else ends a line in YAML, and would come back as a new line where it is not written as an escape."""


class _Dumper(yaml.SafeDumper):
    """Writes texts of several lines as such, and quotes what could be anything else than a text."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:  # noqa: ARG002, FBT001, FBT002
        """Indent lists below their key, as people write them."""
        super().increase_indent(flow, indentless=False)


def _text(dumper: _Dumper, text: str) -> yaml.ScalarNode:
    has_lines = "\n" in text and not _BREAKS.search(text)
    style = "|" if has_lines else None if _PLAIN.fullmatch(text) else '"'
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _text)
_Dumper.ignore_aliases = lambda *_: True  # type: ignore[method-assign]


def dump(*documents: Any) -> str:
    """Return documents as YAML, in the order of their keys, and a line for each text that is one."""
    written: str = yaml.dump_all(
        map(msgspec.to_builtins, documents), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=2**20,
        explicit_start=len(documents) > 1,
    )  # fmt: skip
    return written
