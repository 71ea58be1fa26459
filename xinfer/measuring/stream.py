"""Reads a completion stream after it has ended: stamped pieces of bytes in, stamped events out.

One ``data:`` line is one event, as every OpenAI-compatible server writes it. Comments and lines that
server-sent events do not define are passed over, as their standard asks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from xinfer.measuring.samples import Chunk

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from xinfer.measuring.framing import Piece


class _Delta(msgspec.Struct):
    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    tool_calls: list[Any] | None = None


class _Choice(msgspec.Struct):
    text: str | None = None
    delta: _Delta | None = None
    finish_reason: str | None = None


class _Details(msgspec.Struct):
    cached_tokens: int | None = None


class _Usage(msgspec.Struct):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    prompt_tokens_details: _Details | None = None


class _Event(msgspec.Struct):
    choices: list[_Choice] | None = None
    usage: _Usage | None = None
    error: Any = None


_decode = msgspec.json.Decoder(_Event).decode


class Reply(msgspec.Struct, kw_only=True):
    """What a server said in one stream."""

    chunks: list[Chunk] = []
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cached_tokens: int | None = None
    finish_reason: str | None = None
    done: bool = False
    """Whether the closing ``[DONE]`` came."""
    garbage: int = 0
    """How many complete ``data:`` lines were not what a completion stream consists of."""
    error: str | None = None
    """What the server said went wrong, after it had answered 200."""

    @property
    def is_finished(self) -> bool:
        """Whether the server said that this was all; some never send ``[DONE]``."""
        return self.done or self.finish_reason is not None

    @property
    def has_tokens(self) -> bool:
        """Whether any generated token arrived."""
        return any(chunk.is_token for chunk in self.chunks)


class _Line(NamedTuple):
    t_ns: int
    data: bytes
    is_whole: bool
    """Whether its end arrived; the last line of a broken stream may be cut."""


def _lines(pieces: Iterable[Piece]) -> Iterator[_Line]:
    """Yield lines, each with the instant at which its last byte arrived."""
    rest: list[bytes] = []
    t_ns = 0
    for t_ns, piece in pieces:
        first, *more = piece.split(b"\n")
        rest.append(first)
        for line in more:
            yield _Line(t_ns, b"".join(rest), is_whole=True)
            rest = [line]
    if last := b"".join(rest):
        yield _Line(t_ns, last, is_whole=False)


def _written(choice: _Choice) -> tuple[int, bool]:
    """Return how many characters an event adds and whether they make it a token event."""
    delta = choice.delta or _Delta()
    texts = (choice.text, delta.content, delta.reasoning_content, delta.reasoning)
    count = sum(len(text) for text in texts if text)
    return count, count > 0 or bool(delta.tool_calls)


def _take(reply: Reply, t_ns: int, event: _Event) -> None:
    """Add one event to a reply."""
    usage = event.usage or _Usage()
    before = reply.completion_tokens
    if event.usage is not None:
        reply.prompt_tokens = reply.prompt_tokens if usage.prompt_tokens is None else usage.prompt_tokens
        reply.completion_tokens = before if usage.completion_tokens is None else usage.completion_tokens
        if usage.prompt_tokens_details is not None:
            reply.cached_tokens = usage.prompt_tokens_details.cached_tokens
    if event.error is not None:
        reply.error = reply.error or msgspec.json.encode(event.error).decode()
    choice = event.choices[0] if event.choices else None
    characters, is_token = _written(choice) if choice else (0, False)
    if choice and choice.finish_reason:
        reply.finish_reason = choice.finish_reason
    elif choice and usage.completion_tokens is not None:
        # A running count that grew is a token whose characters are still held back.
        is_token = is_token or usage.completion_tokens > (before or 0)
    reply.chunks.append(
        Chunk(t_ns=t_ns, characters=characters, is_token=is_token, completion_tokens=usage.completion_tokens)
    )


def read(pieces: Iterable[Piece]) -> Reply:
    """Read a whole stream; never raises, whatever the bytes are."""
    reply = Reply()
    for line in _lines(pieces):
        if not line.data.startswith(b"data:"):
            continue
        payload = line.data[len(b"data:") :].strip()
        if payload == b"[DONE]":
            reply.done = True
            continue
        try:
            event = _decode(payload)
        except (ValueError, RecursionError):
            reply.garbage += line.is_whole
        else:
            _take(reply, line.t_ns, event)
    return reply
