"""What happened to one cell, kept as files that never change.

``runs/<cell-id>/<run-id>/`` holds ``record.json``, written last and atomically, the raw stamps of every
request and the engine's log. A killed run leaves no ``record.json``.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from xinfer import apikey

if TYPE_CHECKING:
    from xinfer.errors import XinferError

Status = Literal["ok", "refused", "failed", "skipped"]
SCHEMA = 1
PROTOCOL = 3
"""Raised whenever the same cell would be measured differently, so that old and new never compare."""


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """Why a cell has no numbers."""

    stage: str
    message: str
    exit_code: int
    details: tuple[str, ...] = ()


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """One attempt at one cell."""

    schema: int = SCHEMA
    protocol: int | None = None
    """How it was measured, see :data:`PROTOCOL`; null in records from before it was kept."""
    cell: str
    run: str
    status: Status
    overrides: tuple[str, ...] = ()
    started: str
    """UTC, ISO 8601."""
    seconds: float
    failure: Failure | None = None
    config: dict[str, Any] = {}
    model: dict[str, Any] | None = None
    hardware: dict[str, Any] | None = None
    decision: dict[str, Any] | None = None
    launch: dict[str, Any] | None = None
    advice: tuple[dict[str, Any], ...] = ()
    """Which of the plan's choices cost speed or memory (``xinfer.planning.advice.Advice``)."""
    predicted: dict[str, Any] | None = None
    """How fast it was expected to be (``xinfer.planning.prediction.Prediction``)."""
    packages: tuple[str, ...] = ()
    xinfer: str = ""
    capabilities: dict[str, Any] | None = None
    prompts_hash: str | None = None
    """Of all prompts without their nonces: equal for equal work."""
    metrics: dict[str, Any] | None = None
    machine: dict[str, Any] | None = None
    """What the machine's speed depends on, with a hash (``xinfer.machine.fingerprint.Fingerprint``)."""
    resources: dict[str, Any] | None = None
    """What was used while it was measured (``xinfer.measuring.usage.Resources``)."""
    ceilings: dict[str, Any] | None = None
    """How fast this machine is at most (``xinfer.measuring.ceilings.Ceilings``)."""
    limits: dict[str, Any] | None = None
    """How far the run is from that (``xinfer.measuring.roofline.Limits``)."""
    startup: dict[str, Any] | None = None
    """How long the server took to become useful, and whether its weights were in memory before."""
    foreign: dict[str, Any] | None = None
    """Where the numbers are those of somebody else's load generator: which, and whose definitions they have."""
    flags: tuple[dict[str, Any], ...] = ()
    answer: dict[str, Any] | None = None
    """What the engine said after it was measured, to one fixed prompt: two records of a model can be compared by it."""
    parity: dict[str, Any] | None = None
    """What a comparison of engines found (``xinfer.verbs.comparison.Parity``)."""
    launcher: str | None = None
    """Who carried the cell to where it was measured (``hydra/launcher=``); null: nobody."""
    files: tuple[str, ...] = ()
    path: str = ""
    """Where this record was written."""


def failure(error: XinferError, api_key: str | None = None) -> Failure:
    """Return an error as it is kept: without the key, whoever repeated it."""
    return Failure(
        stage=error.stage, message=apikey.hidden(str(error), api_key), exit_code=error.exit_code,
        details=tuple(apikey.hidden(line, api_key) for line in error.details),
    )  # fmt: skip


def cell_id(label: str, **defines: Any) -> str:
    """Name a cell by what defines it: a readable label and a hash of the values."""
    canonical = msgspec.json.encode({"protocol": PROTOCOL, **defines}, order="sorted")
    digest = hashlib.sha256(canonical).hexdigest()[:12]
    slug = re.sub(r"[^A-Za-z0-9._-]+", "-", label).strip("-")[:80]
    return f"{slug}-{digest}" if slug else digest


def shortened(config: dict[str, Any]) -> dict[str, Any]:
    """Return a composed configuration without the catalogue and the rules, which have names."""
    kept = dict(config)
    if "rules" in kept:
        kept["rules"] = kept["rules"].get("name")
    if "model" in kept:
        kept["model"] = {k: v for k, v in kept["model"].items() if k not in ("specs", "shapes")}
    return kept


def run_id() -> str:
    """Name a run by when it started; the suffix keeps two starts in one second apart."""
    return f"{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}-{secrets.token_hex(3)}"


def write(directory: Path, record: Record, *, place: Path | None = None) -> Record:
    """Write ``record.json``, so that it is either whole or not there, and return it with its path.

    ``place`` is where the directory is going to lie, if not where it lies now.
    """
    directory.mkdir(parents=True, exist_ok=True)
    files = sorted(p.name for p in directory.iterdir() if p.is_file())
    path, partial = directory / "record.json", directory / ".record.json.partial"
    whole = msgspec.structs.replace(record, files=tuple(files), path=str((place or directory) / path.name))
    body = msgspec.json.format(msgspec.json.encode(whole), indent=1)
    with partial.open("wb") as stream:
        stream.write(body + b"\n")
        stream.flush()
        os.fsync(stream.fileno())
    partial.replace(path)
    return whole


def read(path: Path) -> Record:
    """Read one record; raises msgspec.ValidationError for a file of another shape."""
    return msgspec.json.decode(path.read_bytes(), type=Record)
