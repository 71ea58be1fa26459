"""The events of a completion stream, each with the tokens that a client can see in it."""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterator

    from xinfer.testing.reference_behaviour import Behaviour


class Asked(NamedTuple):
    """What a reply depends on, of a request."""

    prompt_tokens: int
    max_tokens: int
    wants_usage: bool
    is_stream: bool = True
    keeps: bool = True
    """Whether the client allows a further request on the connection."""
    is_chat: bool = False


class Part(NamedTuple):
    """What is written at once, not framed yet."""

    moment: int
    """0 is that of the headers, n that of the n-th write with text."""
    after_ns: int
    """How long after that it is due."""
    data: bytes
    ends: tuple[tuple[int, int], ...] = ()
    """For each event with text, the offset behind its last letter, and its tokens."""


def failure(message: str) -> dict[str, Any]:
    """Return an error as OpenAI-compatible servers write it."""
    return {"error": {"message": message, "type": "reference_server"}}


class Events:
    """Turns a behaviour and a request into the parts of a body."""

    def __init__(self, does: Behaviour, asked: Asked) -> None:
        self._does = does
        self._asked = asked
        self._stop = (does.line_end * 2).encode()
        self._field = b"data: " if does.space else b"data:"
        shape = "chat" if asked.is_chat and does.shape == "completion" else does.shape
        self._shape = shape
        wanted = asked.max_tokens + does.overrun
        self.count = wanted if does.stop_after is None else min(does.stop_after, wanted)
        self.reason = ("length" if self.count == wanted else "stop") if does.finish else None

    @property
    def reported(self) -> int | None:
        """The number of tokens that the whole reply reports; null if it does not."""
        usage = self._does.usage
        is_said = usage == "every" or (usage == "last" and self.reason is not None)
        return self.count if is_said or (usage == "separate" and self._asked.wants_usage) else None

    def opening(self) -> list[Part]:
        """Return what comes before the text."""
        if not self._does.empty_first:
            return []
        choice = self._choice("") if self._shape == "completion" else {"delta": {"role": "assistant", "content": ""}}
        return [Part(0, 0, self._event([{"index": 0, "finish_reason": None, **choice}]) + self._stop)]

    def texts(self) -> list[Part]:
        """Return every write with text, and the comments before them."""
        does, found = self._does, []
        events = list(self._texts())
        for write, start in enumerate(range(0, len(events), does.events_per_write)):
            if does.comment_every and write % does.comment_every == 0:
                found.append(Part(write + 1, 0, b": still here" + self._stop))
            group = events[start : start + does.events_per_write]
            offsets = itertools.accumulate(len(event) + len(self._stop) for event, _ in group)
            ends = ((offset - len(self._stop), size) for offset, (_, size) in zip(offsets, group, strict=True) if size)
            found.append(Part(write + 1, 0, b"".join(event + self._stop for event, _ in group), tuple(ends)))
        return found

    def closing(self, moment: int) -> list[Part]:
        """Return what comes after the text."""
        does, found = self._does, []
        if self.reason is not None and not does.finish_with_text:
            usage = self._usage(self.count) if does.usage in {"last", "every"} else None
            found.append(self._event([self._choice("", finish=self.reason)], usage))
        if does.usage == "separate" and self._asked.wants_usage:
            found.append(self._event([], self._usage(self.count)))
        if does.done:
            found.append(self._field + b"[DONE]")
        return [Part(moment, 0, event + self._stop) for event in found]

    @property
    def writes(self) -> int:
        """How many writes have text."""
        return math.ceil(self.count / (self._does.tokens_per_chunk * self._does.events_per_write))

    def another(self, moment: int, after_ns: int) -> Part:
        """Return one more event with text, in which nothing is counted."""
        event = self._event([self._choice(self._does.text)])
        return Part(moment, after_ns, event + self._stop, ((len(event), 1),))

    def document(self) -> bytes:
        """Return the answer to a request that wants no stream."""
        text = self._does.text * self.count
        said = {"message": {"role": "assistant", "content": text}} if self._asked.is_chat else {"text": text}
        choice = {"index": 0, "finish_reason": self.reason, **said}
        return msgspec.json.encode({"model": "reference", "choices": [choice], "usage": self._usage(self.count)})

    def _texts(self) -> Iterator[tuple[bytes, int]]:
        """Yield each event with text, and its tokens; none if neither its text nor its count can be seen."""
        does, step = self._does, self._does.tokens_per_chunk
        held = 0
        for number, place in enumerate(range(0, self.count, step), 1):
            size = min(step, self.count - place)
            is_last = place + size == self.count
            is_held = bool(does.hold_every) and number % does.hold_every == 0 and not is_last
            finish = self.reason if is_last and does.finish_with_text else None
            counts = does.usage == "every" or (finish is not None and does.usage == "last")
            text = "" if is_held else does.text * (held + size)
            choice = self._choice(text, finish=finish, is_thought=place < self.count / 2)
            unseen = held + size if text else 0
            yield (
                self._event([choice], self._usage(place + size) if counts else None),
                size if does.usage == "every" else unseen,
            )
            held = held + size if is_held else 0

    def _usage(self, count: int) -> dict[str, Any]:
        read, cached = self._asked.prompt_tokens + self._does.extra_prompt_tokens, self._does.cached_tokens
        details = {} if cached is None else {"prompt_tokens_details": {"cached_tokens": cached}}
        return {"prompt_tokens": read, "completion_tokens": count, "total_tokens": read + count, **details}

    def _choice(self, text: str, *, finish: str | None = None, is_thought: bool = False) -> dict[str, Any]:
        """Return the part of an event that has the text."""
        delta: dict[str, Any] = {"content": text} if text else {}
        if self._shape == "reasoning" and text and is_thought:
            delta = {"reasoning_content": text}
        elif self._shape == "tools" and text:
            delta = {"tool_calls": [{"index": 0, "function": {"arguments": text}}]}
        said = {"text": text} if self._shape == "completion" else {"delta": delta}
        return {"index": 0, "finish_reason": finish, **said}

    def _event(self, choices: list[dict[str, Any]], usage: dict[str, Any] | None = None) -> bytes:
        """Return one event without the end of its line."""
        counted = {} if usage is None else {"usage": usage}
        document = {"object": "text_completion", "model": "reference", "choices": choices, **counted}
        return self._field + msgspec.json.encode(document)
