"""What a reply consists of, byte by byte and instant by instant, before any of it is written."""

from __future__ import annotations

import itertools
import random
from functools import lru_cache
from typing import TYPE_CHECKING, Literal, NamedTuple

import msgspec

from xinfer.testing.reference_events import Asked, Events, Part, failure

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from xinfer.testing.reference_behaviour import Behaviour

NS = 1_000_000_000
CRLF = b"\r\n"
WITHOUT_END = 2**40
"""The length that is announced for what never ends."""
End = Literal["keep", "close", "reset", "stall", "repeat"]
"""What happens after the last step: await the next request, end the connection in one of two ways, leave it open and
say no more, or write the last step again and again."""
CLOSED: dict[str | None, End] = {"reset": "reset", "stall": "stall"}
"""How a reply that breaks off leaves the connection; else it is closed."""
PATTERNS = {
    "endless_headers": b"X-Filler: " + b"x" * 8182 + CRLF,
    "slow_headers": b"x",
    "endless_line": b"x" * 8192,
    "endless_comments": b": still here\n\n",
}
"""What is repeated without end."""
ANSWERS = {
    "silence": b"",
    "slam": b"",
    "no_http": b"\x00\x01 this is no HTTP\r\n\r\n",
    "endless_headers": b"HTTP/1.1 200 OK\r\n",
    "slow_headers": b"HTTP/1.1 200 OK\r\nX-Slow: ",
}
"""What stands in the place of an answer."""
TAILS = {
    "cut": b"4000\r\ndata: {",
    "bad_chunk": b"size\r\ndata: {}\r\n",
    "huge_chunk": b"f" * 17 + b"\r\ndata: ",
}
"""What breaks a chunked body."""
GARBAGE = b'data: {"choices": [{"text": \xff\xfe}\n\nneither a field nor a comment\n\n'
PAGE = b"<html><body>502 from a proxy that says 200</body></html>\n"


class Step(NamedTuple):
    """One write."""

    moment: int
    """Which of :func:`moments` it belongs to."""
    after_ns: int
    """How long after that it is due."""
    data: bytes
    sizes: tuple[int, ...] = ()
    """The tokens of each event with text that this write completes."""


class Script(NamedTuple):
    """A whole reply; ``steps`` are in the order of writing."""

    steps: tuple[Step, ...]
    end: End
    writes: int = 0
    """How many writes with text it has or would have had."""
    said: int = 0
    """After how many steps all has been said, and only the body's end is still to be marked."""
    completion_tokens: int | None = None
    """As the reply reports it."""
    finish_reason: str | None = None

    def due_ns(self, moments: tuple[int, ...]) -> tuple[int, ...]:
        """Return when each step is due, after the request."""
        return tuple([moments[step.moment] + step.after_ns for step in self.steps])


@lru_cache(maxsize=64)
def _regular(does: Behaviour, writes: int) -> tuple[int, ...]:
    return _moments(does, writes, 0)


def moments(does: Behaviour, writes: int, number: int) -> tuple[int, ...]:
    """Return when the headers, and then each write with text, are due in the n-th reply, in ns after the request."""
    return _moments(does, writes, number) if does.jitter else _regular(does, writes)


def _moments(does: Behaviour, writes: int, number: int) -> tuple[int, ...]:
    dice = random.Random(f"{does.seed}-{number}")  # noqa: S311 -- a schedule is no secret
    per_write = does.tokens_per_chunk * does.events_per_write
    late_s = does.stall_s if does.fail == "late" else 0.0
    due_s, found = max(does.headers_s, does.ttft_s) + late_s, [round((does.headers_s + late_s) * NS)]
    for write in range(writes):
        if does.stall_after is not None and (write - 1) * per_write < does.stall_after <= write * per_write:
            due_s += does.stall_s
        found.append(round(due_s * NS))
        due_s += does.gap_s * (1 + does.jitter * dice.uniform(-1, 1))
    return tuple(found)


@lru_cache(maxsize=64)
def script(does: Behaviour, asked: Asked) -> Script:
    """Return the reply to a request that is not refused."""
    if does.raw is not None:
        return Script((Step(0, 0, does.raw),), CLOSED.get(does.fail, "close"))
    if does.fail in ANSWERS:
        return _unanswered(does)
    events = Events(does, asked)
    if not asked.is_stream:
        return _whole(does, asked, events)
    parts, rest, tail, end = _body(does, asked, events)
    pieces = [piece for part in parts for piece in _pieces(part, does)]
    if does.framing == "chunked":
        length, framed = None, [_chunk(piece, extended=does.extensions) for piece in pieces]
    else:
        length, framed = sum(len(part.data) for part in [*pieces, *rest]), pieces
    if end == "repeat":
        length = WITHOUT_END
    moment = parts[-1].moment if parts else 0
    steps = tuple(_steps([Part(0, 0, _head(does, asked, length)), *framed], does))
    closing = tuple(_steps([Part(moment, 0, tail)], does))
    return Script((*steps, *closing), end, events.writes, len(steps), events.reported, events.reason)


def _unanswered(does: Behaviour) -> Script:
    """Return what is no answer at all."""
    name = does.fail or ""
    steps = [Step(0, 0, ANSWERS[name])] if ANSWERS[name] else []
    if name in PATTERNS:
        pause_ns = round(does.gap_s * NS) if name == "slow_headers" else 0
        return Script((*steps, Step(0, pause_ns, PATTERNS[name])), "repeat")
    return Script(tuple(steps), "stall" if name == "silence" else "close")


def _whole(does: Behaviour, asked: Asked, events: Events) -> Script:
    """Return an answer in one piece, when the last text would be due."""
    body = events.document()
    head = _head(msgspec.structs.replace(does, framing="length"), asked, len(body), "application/json")
    step = Step(events.writes, 0, head + body, (events.count,))
    end: End = "keep" if _keeps(does, asked) else "close"
    return Script((step,), end, events.writes, 1, events.count, events.reason)


def _body(does: Behaviour, asked: Asked, events: Events) -> tuple[list[Part], list[Part], bytes, End]:
    """Return the parts of a body, those that are announced but do not come, and how it ends."""
    texts = events.texts()
    closing = events.closing(texts[-1].moment if texts else 0)
    if does.fail == "html":
        return ([Part(0, 0, PAGE)], [], *_ending(does, asked))
    if does.fail == "empty":
        return ([], [], *_ending(does, asked))
    if does.fail in {None, "late", "garbage"}:
        spoilt = _spoilt(texts, does) if does.fail == "garbage" else texts
        return ([*events.opening(), *spoilt, *closing], [], *_ending(does, asked))
    kept = texts if does.fail == "endless_tokens" else _kept(texts, does)
    parts = [*events.opening(), *kept, *_instead(does, texts[len(kept) :] or texts[-1:], events)]
    if does.fail == "error":
        return (parts, [], *_ending(does, asked))
    if does.fail in PATTERNS or does.fail == "endless_tokens":
        return parts, [], b"", "repeat"
    tail = TAILS.get(does.fail, b"") if does.framing == "chunked" else b""
    end = "stall" if does.fail == "huge_chunk" else CLOSED.get(does.fail, "close")
    return parts, [*texts[len(kept) :], *closing], tail, end


def _instead(does: Behaviour, rest: list[Part], events: Events) -> list[Part]:
    """Return what comes in the place of the rest of the text."""
    moment, gap_ns = rest[0].moment if rest else 0, round(does.gap_s * NS)
    match does.fail:
        case "error":
            return [Part(moment, 0, b"data: " + msgspec.json.encode(failure("out of memory")) + b"\n\n")]
        case "endless_tokens":
            return [events.another(moment, gap_ns)]
        case "endless_comments":
            return [Part(moment, gap_ns, PATTERNS[does.fail])]
        case "endless_line":
            return [Part(moment, 0, b"data: "), Part(moment, 0, PATTERNS[does.fail])]
    return []


def _kept(texts: list[Part], does: Behaviour) -> list[Part]:
    """Return what is written before the failure."""
    before = itertools.accumulate((sum(size for _, size in part.ends) for part in texts), initial=0)
    return [part for part, tokens in zip(texts, before, strict=False) if tokens < does.fail_after]


def _spoilt(texts: list[Part], does: Behaviour) -> Iterator[Part]:
    """Put garbage before each write that follows ``fail_after`` tokens."""
    healthy = len(_kept(texts, does))
    for number, part in enumerate(texts):
        if number >= healthy:
            yield Part(part.moment, 0, GARBAGE)
        yield part


def _ending(does: Behaviour, asked: Asked) -> tuple[bytes, End]:
    """Return what marks the end of a body, and what happens then."""
    if not does.hang_up:
        return b"", "stall"
    trailer = b"X-Took: 1\r\n" if does.extensions else b""
    tail = b"0\r\n%s\r\n" % trailer if does.framing == "chunked" else b""
    return tail, "keep" if _keeps(does, asked) else "close"


def _keeps(does: Behaviour, asked: Asked) -> bool:
    return does.keep_alive and asked.keeps and does.framing != "close"


def _head(does: Behaviour, asked: Asked, length: int | None, kind: str = "text/event-stream") -> bytes:
    kind = "text/html" if does.fail == "html" else kind
    framing = {"chunked": "Transfer-Encoding: chunked\r\n", "length": f"Content-Length: {length}\r\n"}
    interim = "HTTP/1.1 103 Early Hints\r\nLink: </style.css>\r\n\r\n" if does.extensions else ""
    stays = "keep-alive" if _keeps(does, asked) else "close"
    body = framing.get(does.framing, "")
    return f"{interim}HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\n{body}Connection: {stays}\r\n\r\n".encode()


def _chunk(part: Part, *, extended: bool) -> Part:
    """Make an HTTP chunk of a part."""
    head = b"%x%s\r\n" % (len(part.data), b";kind=event" if extended else b"")
    ends = tuple((offset + len(head), size) for offset, size in part.ends)
    return part._replace(data=head + part.data + CRLF, ends=ends)


def _cut(part: Part, places: Iterable[int], gap_ns: int = 0) -> Iterator[Part]:
    """Cut a part at offsets; each piece is due so much later than the one before."""
    for number, (start, stop) in enumerate(itertools.pairwise((0, *places, len(part.data)))):
        ends = tuple((offset - start, size) for offset, size in part.ends if start < offset <= stop)
        yield Part(part.moment, part.after_ns + number * gap_ns, part.data[start:stop], ends)


def _pieces(part: Part, does: Behaviour) -> Iterator[Part]:
    """Cut a part with text into about equal pieces."""
    count = min(does.pieces, len(part.data)) if part.ends else 1
    return _cut(part, (len(part.data) * piece // count for piece in range(1, count)), round(does.piece_gap_s * NS))


def _steps(parts: list[Part], does: Behaviour) -> Iterator[Step]:
    """Turn parts into writes."""
    for part in (part for part in parts if part.data):
        size = does.write_bytes or len(part.data)
        for piece in _cut(part, range(size, len(part.data), size)):
            yield Step(piece.moment, piece.after_ns, piece.data, tuple(size for _, size in piece.ends))
