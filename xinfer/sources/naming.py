"""Names and figures of models that no catalogue lists, spelled as the catalogue spells its own."""

from __future__ import annotations

import re
import unicodedata
from decimal import Decimal
from typing import NamedTuple

_DIGITS = 3
"""Of a counted size: 134,515,008 parameters are ``0_135`` and 7,615,616,512 are ``7_62``."""
_LONGEST = 80
_QUANTIZATION = re.compile(
    r"(?:^|[-._])((?:UD-)?(?:I?Q\d(?:_[A-Z0-9]+)*|TQ\d_\d|MXFP4(?:_MOE)?|NVFP4|BF16|FP?16|FP?32))(?=$|[-.])",
    re.IGNORECASE,
)
_BESIDE = re.compile("mmproj|imatrix", re.IGNORECASE)
_PLAIN = {"F16": "FP16", "FP32": "F32"}
_PART = re.compile(r"(?P<stem>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})(?P<suffix>\.(?:gguf|safetensors))", re.DOTALL)


class Part(NamedTuple):
    """What the name of a piece of split weights says: llama.cpp and Hugging Face's tools count alike."""

    stem: str
    number: int
    of: int
    suffix: str

    @property
    def siblings(self) -> tuple[str, ...]:
        """All pieces, in order; the first is the one by which an engine finds the others."""
        return tuple(f"{self.stem}-{n:05}-of-{self.of:05}{self.suffix}" for n in range(1, self.of + 1))


def family(*texts: str) -> str:
    """Return the first of some texts that can be made a name for requests, flags and directories.

    What is left of it are the ASCII letters, digits, dots, hyphens and underscores.
    """
    for text in texts:
        plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
        name = re.sub(r"[^A-Za-z0-9._-]+", "-", plain).strip("-._")[:_LONGEST].rstrip("-._")
        if name:
            return name
    return "model"


def size(parameters: int) -> str:
    """Return a counted number of parameters in billions: ``0_135``, ``7_62``, ``406``."""
    billions = Decimal(parameters).scaleb(-9)
    rounded = round(billions, _DIGITS - 1 - billions.adjusted())
    return format(rounded.normalize(), "f").replace(".", "_")


def quantization(file: str) -> str | None:
    """Return the quantization that a GGUF file's name tells, as in ``model-q4_k_m.gguf``; null where it tells none."""
    piece = part(file)
    stem = piece.stem if piece else re.sub(r"\.gguf$", "", file, flags=re.IGNORECASE)
    found = [match.upper() for match in _QUANTIZATION.findall(stem.rpartition("/")[2])]
    return _PLAIN.get(found[-1], found[-1]) if found else None


def is_model(file: str) -> bool:
    """Tell whether a file's name is that of a GGUF with a network, and not with what belongs to one."""
    return file.lower().endswith(".gguf") and not _BESIDE.search(file)


def part(file: str) -> Part | None:
    """Take the name of a piece of split weights apart; null for the name of what is whole."""
    match = _PART.fullmatch(file)
    if match is None or not 1 <= int(match["number"]) <= int(match["count"]):
        return None
    return Part(match["stem"], int(match["number"]), int(match["count"]), match["suffix"])
