"""One completion request over a plain connection, and every line of the answer as it came."""

from __future__ import annotations

import http.client
import json
import time
from contextlib import closing
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

DONE = "[DONE]"
_SILENT = (":", "event:", "id:", "retry:")
"""How the lines of an event stream begin that carry no data."""


class Event(NamedTuple):
    """One ``data:`` line."""

    t_s: float
    """When it had arrived, since the request was sent."""
    data: str

    @property
    def document(self) -> dict[str, Any] | None:
        """What it says; null for ``[DONE]`` and for what is no JSON object."""
        try:
            found = json.loads(self.data)
        except ValueError:
            return None
        return found if isinstance(found, dict) else None

    @property
    def choice(self) -> dict[str, Any]:
        """Its first choice, empty where it has none."""
        choices = (self.document or {}).get("choices")
        return choices[0] if isinstance(choices, list) and choices and isinstance(choices[0], dict) else {}

    @property
    def text(self) -> str:
        """The text that it adds, of a completion or of a chat."""
        delta = self.choice.get("delta") or {}
        return self.choice.get("text") or delta.get("content") or ""


class Answer(NamedTuple):
    """What a server sent back to one request for a stream."""

    status: int
    kind: str
    """Its content type."""
    events: tuple[Event, ...]
    strays: tuple[str, ...]
    """Lines that have no place in an event stream."""

    @property
    def text(self) -> str:
        """All of the text."""
        return "".join(event.text for event in self.events)

    @property
    def usages(self) -> tuple[dict[str, Any], ...]:
        """Every block of token counts."""
        found = ((event.document or {}).get("usage") for event in self.events)
        return tuple(usage for usage in found if isinstance(usage, dict))

    @property
    def finish_reasons(self) -> tuple[str, ...]:
        """Every reason to end that was given."""
        found = (event.choice.get("finish_reason") for event in self.events)
        return tuple(str(reason) for reason in found if reason)

    @property
    def tokens(self) -> int | None:
        """How many tokens were generated, by the server's own count."""
        return self.usages[-1].get("completion_tokens") if self.usages else None

    @property
    def cached_tokens(self) -> int | None:
        """How many tokens of the prompt the server had kept from earlier ones; null where it does not say."""
        details = self.usages[-1].get("prompt_tokens_details") if self.usages else None
        return details.get("cached_tokens") if isinstance(details, dict) else None

    @property
    def ttft_s(self) -> float | None:
        """When the first text had arrived."""
        return next((event.t_s for event in self.events if event.text), None)


def post(
    address: tuple[str, int], path: str, body: bytes, *, timeout_s: float, then: Callable[[Event], object] | None = None
) -> Answer:
    """Send a request and read the stream to its end; ``then`` is called for each event as it arrives.

    Raises OSError or http.client.HTTPException when the connection breaks off.
    """
    events: list[Event] = []
    strays: list[str] = []
    with closing(http.client.HTTPConnection(*address, timeout=timeout_s)) as connection:
        start_s = time.perf_counter()
        connection.request("POST", path, body, {"Content-Type": "application/json", "Connection": "close"})
        response = connection.getresponse()
        while line := response.readline():
            text = line.decode(errors="replace").rstrip("\r\n")
            if text.startswith("data:"):
                events.append(Event(time.perf_counter() - start_s, text[len("data:") :].strip()))
                if then is not None:
                    then(events[-1])
            elif text and not text.startswith(_SILENT):
                strays.append(text)
    kind = response.headers.get_content_type()
    return Answer(response.status, kind, tuple(events), tuple(strays))
