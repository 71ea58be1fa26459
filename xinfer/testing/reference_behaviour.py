"""What a reference server can be told to do with a completion request, and its account of what it did."""

from __future__ import annotations

import time
from typing import Literal

import msgspec

Failure = Literal[
    "reset", "close", "cut", "slam", "leave", "late", "stall", "silence", "garbage", "html", "error", "empty",
    "no_http", "bad_chunk", "huge_chunk", "endless_headers", "slow_headers", "endless_line", "endless_comments",
    "endless_tokens",
]  # fmt: skip
"""Ways to break a reply.

Its connection: reset, close (between two events), cut (closed within an HTTP chunk), slam (closed without a byte),
leave (the whole server stops). Its time: late (all of it comes ``stall_s`` later), stall (open and silent for good),
silence (not even headers). Its words: garbage (lines that are no events, between good ones), html (a page instead of a
stream), error (an error as an event), empty (nothing, and that in good order), no_http (another protocol), bad_chunk (a
size that is no number), huge_chunk (a size above 2**64). Its length, for as long as the client reads: endless_headers,
slow_headers (a byte every ``gap_s``), endless_line (an event that never ends), endless_comments, endless_tokens.
"""


class Behaviour(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the server does with a completion request; the defaults are those of a well-behaved server."""

    # When
    headers_s: float = 0.0
    """From the request's arrival to the answer's headers."""
    ttft_s: float = 0.02
    """From the request's arrival to the first text."""
    gap_s: float = 0.005
    """Between writes with text."""
    jitter: float = 0.0
    """Each gap is longer or shorter by up to this part of it."""
    seed: int = 0
    """Of the jitter, together with the request's number since the behaviour was set."""
    stall_after: int | None = None
    """Before the write that follows so many tokens, wait ``stall_s`` more."""
    stall_s: float = 0.0

    # What
    tokens_per_chunk: int = 1
    """Tokens in one event."""
    text: str = " token"
    """What each token reads."""
    hold_every: int = 0
    """Each so many-th event has no text: its characters come with the next, as of a letter cut in two; 0 is never."""
    empty_first: bool = False
    """Start the stream with an event that has no text, as chat servers send a role."""
    shape: Literal["completion", "chat", "reasoning", "tools"] = "completion"
    """Where an event has its text; reasoning turns to content after half of the tokens."""
    comment_every: int = 0
    """Put a comment, as servers keep a connection alive with, before every so many writes; 0 is never."""
    done: bool = True
    """End the stream with ``[DONE]``."""
    finish: bool = True
    """Name a ``finish_reason``."""
    finish_with_text: bool = False
    """Name it in the event with the last text, and not in one of its own."""
    usage: Literal["separate", "last", "every", "none"] = "separate"
    """Count in an event of its own (if the request asks for it), in the finishing one, in every one, or not."""
    cached_tokens: int | None = None
    """How many tokens of the prompt are reported as known from before."""
    extra_prompt_tokens: int = 0
    """How many more prompt tokens are counted than came, as by a server that puts one in front."""
    stop_after: int | None = None
    """Stop after so many tokens, and call it ``stop``."""
    overrun: int = 0
    """Generate so many tokens more than were asked for."""

    # How it is written
    events_per_write: int = 1
    """Events with text that leave at once."""
    pieces: int = 1
    """Cut each write with text into so many, each an HTTP chunk of its own, ``piece_gap_s`` apart."""
    piece_gap_s: float = 0.0
    write_bytes: int | None = None
    """Hand everything, headers too, to the system in writes of so many bytes."""
    line_end: Literal["\n", "\r\n"] = "\n"
    space: bool = True
    """Put a space after ``data:``."""
    framing: Literal["chunked", "close", "length"] = "chunked"
    """How the end of the body is marked."""
    extensions: bool = False
    """Use the rarer parts of the protocol: an interim answer first, chunk extensions, trailers."""
    keep_alive: bool = True
    """Serve further requests on a connection, if the client has nothing against it and the body's end is marked."""
    idle_s: float | None = None
    """Close a kept connection after so long without a request; null is never."""
    drops_reused: bool = False
    """Close a kept connection when a second request arrives on it, without a word, as if it had just become idle."""
    hang_up: bool = True
    """End the reply when the stream is over; else leave the client waiting for the end of the body."""

    # What it refuses
    status: int = 200
    """Answer completion requests with this status and an error."""
    location: str = "/elsewhere"
    """Where a status of 300 to 399 points."""
    refuses: tuple[str, ...] | None = None
    """Answer 400 to these fields, or, if empty, to every field that is not among the common ones."""
    token_ids: bool = True
    tokenizer: str | None = "content"
    """The field that ``POST /tokenize`` takes the text in; null is no tokenizer."""
    api_key: str | None = None
    """The only key that is let in; a wrong one is repeated in the error, as careless servers do."""

    # How it breaks
    fail: Failure | None = None
    fail_after: int = 0
    """How many tokens of a reply come before it fails; some failures come before any."""
    raw: bytes | None = None
    """Write these bytes for an answer, base64 in JSON; then close, unless ``fail`` is reset, stall or endless_line."""
    healthy: int = 0
    """How many completion requests are served well before any of ``status``, ``raw`` and ``fail`` begins."""
    fail_every: int = 1
    """After the healthy ones, break each so many-th."""

    def breaks(self, number: int) -> bool:
        """Say whether it breaks the completion request of a number, counted from 0."""
        return number >= self.healthy and (number - self.healthy) % self.fail_every == 0

    def well(self) -> Behaviour:
        """Return the same without what breaks."""
        return msgspec.structs.replace(self, fail=None, status=200, raw=None)


class Served(msgspec.Struct, kw_only=True):
    """What the server did with one completion request; stamps are ``time.perf_counter_ns``."""

    received_ns: int
    """When the whole request had been read."""
    connection: int = 0
    """The number of its connection since the server started, and ``place`` its own number on that; both from 0."""
    place: int = 0
    headers_ns: int | None = None
    sent: list[tuple[int, int]] = []
    """For each event with text, just before the write that completed it: the instant and its tokens."""
    planned_ns: list[int] = []
    """For each event with text, when its write was due, counted from ``received_ns``; of all that were planned."""
    ended_ns: int | None = None
    """After the last write, before a refusal, or when the client had left."""
    outcome: str = "open"
    """whole, refused, a failure's name, or left: the client closed before everything had been said."""
    status: int | None = None
    prompt: str = ""
    """Text, or the ids as JSON."""
    prompt_tokens: int = 0
    max_tokens: int = 0
    completion_tokens: int | None = None
    """As reported; null if it was not."""
    cached_tokens: int | None = None
    finish_reason: str | None = None
    fields: list[str] = []
    wants_usage: bool = False

    @property
    def late_ns(self) -> list[int]:
        """How long after it was due each write with text was made."""
        pairs = zip(self.sent, self.planned_ns, strict=False)
        return [t_ns - self.received_ns - due for (t_ns, _), due in pairs]

    def end(self, outcome: str) -> None:
        """Note that it is over, and how, unless a failure's name says that already."""
        self.ended_ns = time.perf_counter_ns()
        self.outcome = outcome if self.outcome == "open" else self.outcome
