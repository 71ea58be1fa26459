"""What xinfer tells a worker of the load, and what that reports: frames of MessagePack on the worker's pipes.

The order of talk: an :class:`Order` down; for each phase ``ready`` up and the common :class:`Start` down; at the end
batches of samples up, and a :class:`Report`. A worker whose pipe ends has lost its xinfer, and ends too.
"""

from __future__ import annotations

import os
import struct

import msgspec

from xinfer.measuring.client import Target
from xinfer.measuring.samples import Sample, Worker
from xinfer.measuring.schedule import Phase

LENGTH = struct.Struct(">Q")
PIECE = 2**20


class Order(msgspec.Struct, frozen=True):
    """Everything that one worker has to do."""

    number: int
    """Which worker it is, counted from 0."""
    target: Target
    path: str
    phases: tuple[Phase, ...]
    bodies: dict[int, bytes]
    """The request of each index, written out."""
    hashes: dict[int, str]
    """Of each index's prompt."""
    seconds: float
    """How long a closed loop goes on at least."""
    timeout_s: float
    patience: int
    """After so many time-outs in a row the rest is not sent."""
    core: int | None
    """Which core it keeps to; null is where the system puts it."""


class Ready(msgspec.Struct, frozen=True, tag="ready"):
    """It waits for the start of a phase."""


class Start(msgspec.Struct, frozen=True):
    """When a phase begins, for all workers at once."""

    at_ns: int


class Batch(msgspec.Struct, frozen=True, tag="batch"):
    """Some requests, and what became of them."""

    samples: tuple[Sample, ...]


class Report(msgspec.Struct, frozen=True, tag="report"):
    """The last word of a worker."""

    worker: Worker
    started_ns: int | None
    """When its first measured request's turn came; null if it had none."""
    ended_ns: int


Word = Ready | Batch | Report
_word: msgspec.msgpack.Decoder[Word] = msgspec.msgpack.Decoder(Word)


def read_word(frame: bytes) -> Word:
    """Read what a worker said; raise ValueError for anything else."""
    return _word.decode(frame)


def framed(value: object) -> bytes:
    """Return a message with its length in front."""
    body = msgspec.msgpack.encode(value)
    return LENGTH.pack(len(body)) + body


def write(descriptor: int, value: object) -> None:
    """Write a message; raise OSError if nobody reads."""
    with memoryview(framed(value)) as rest:
        done = 0
        while done < len(rest):
            done += os.write(descriptor, rest[done:])


def receive(descriptor: int) -> bytes:
    """Wait for a message and return it; raise EOFError if none comes any more."""
    return _exactly(descriptor, LENGTH.unpack(_exactly(descriptor, LENGTH.size))[0])


def _exactly(descriptor: int, size: int) -> bytes:
    got = bytearray()
    while len(got) < size:
        piece = os.read(descriptor, min(PIECE, size - len(got)))
        if not piece:
            raise EOFError
        got += piece
    return bytes(got)
