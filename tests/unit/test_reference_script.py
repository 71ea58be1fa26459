"""What the reference server is about to write, before it writes it: read by other means than its own."""

from __future__ import annotations

import http.client
import io
import itertools
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xinfer.testing.reference_behaviour import Behaviour
from xinfer.testing.reference_events import Asked
from xinfer.testing.reference_script import Script, moments, script

ASKED = Asked(prompt_tokens=5, max_tokens=12, wants_usage=True)


class Socket(io.BytesIO):
    """Bytes that a response can be read from."""

    def makefile(self, *_: object) -> Socket:
        return self


def body(plan: Script) -> bytes:
    """Read a script's body as Python's own client does, which knows no interim answer but one."""
    whole = b"".join(step.data for step in plan.steps).replace(b"HTTP/1.1 103 Early Hints", b"HTTP/1.1 100 Continue")
    response = http.client.HTTPResponse(Socket(whole))  # type: ignore[arg-type]
    response.begin()
    assert response.status == 200
    return response.read()


def events(plan: Script) -> list[dict[str, Any]]:
    """Return the documents of a script's stream, and hold its form against the standard."""
    found = []
    for block in body(plan).replace(b"\r\n", b"\n").split(b"\n\n"):
        if block and not block.startswith(b":"):
            field, _, value = block.partition(b":")
            assert field == b"data"
            assert b"\n" not in value
            found.append(value.strip())
    return [json.loads(value) for value in found if value != b"[DONE]"]


def text(event: dict[str, Any]) -> str:
    (choice,) = event["choices"] or [{}]
    delta = choice.get("delta") or {}
    calls = [call["function"]["arguments"] for call in delta.get("tool_calls", [])]
    found = choice.get("text") or delta.get("content") or delta.get("reasoning_content") or "".join(calls)
    assert isinstance(found, str)
    return found


behaviours = st.builds(
    Behaviour,
    tokens_per_chunk=st.integers(1, 5),
    hold_every=st.integers(0, 3),
    empty_first=st.booleans(),
    shape=st.sampled_from(["completion", "chat", "reasoning", "tools"]),
    comment_every=st.integers(0, 2),
    done=st.booleans(),
    finish=st.booleans(),
    finish_with_text=st.booleans(),
    usage=st.sampled_from(["separate", "last", "every", "none"]),
    cached_tokens=st.sampled_from([None, 0, 3]),
    stop_after=st.sampled_from([None, 1, 5, 99]),
    overrun=st.integers(0, 2),
    events_per_write=st.integers(1, 4),
    pieces=st.integers(1, 3),
    write_bytes=st.sampled_from([None, 1, 7, 100]),
    line_end=st.sampled_from(["\n", "\r\n"]),
    space=st.booleans(),
    framing=st.sampled_from(["chunked", "close", "length"]),
    extensions=st.booleans(),
)


@given(behaviours)
def test_every_token_is_said_once(does: Behaviour) -> None:
    """Whatever the form, the text is that of all tokens, and the counts are those of what was written."""
    plan = script(does, ASKED)
    found = events(plan)
    wanted = 12 + does.overrun
    count = min(wanted, does.stop_after or wanted)
    assert "".join(map(text, found)) == " token" * count
    sizes = [size for step in plan.steps for size in step.sizes]
    assert sum(sizes) == count
    usages = [event["usage"] for event in found if "usage" in event]
    told = usages[-1]["completion_tokens"] if usages else None
    assert told == plan.completion_tokens
    assert told in {None, count}
    assert all(usage["prompt_tokens"] == 5 for usage in usages)
    reasons = {choice["finish_reason"] for event in found for choice in event["choices"]} - {None}
    assert reasons == ({"length" if count == wanted else "stop"} if does.finish else set())
    assert (b"[DONE]" in body(plan)) == does.done


@given(behaviours)
def test_a_stamp_belongs_to_the_write_that_completes_an_event(does: Behaviour) -> None:
    """Before it the event's document cannot be read, with it it can: not earlier, and not at the blank line either."""
    plan = script(does, ASKED)
    ends = [event for event in (json.dumps(e, separators=(",", ":")) for e in events(plan)) if _is_seen(event, does)]
    place = written = 0
    whole = b"".join(step.data for step in plan.steps)
    for step in plan.steps:
        written += len(step.data)
        for _ in step.sizes:
            place = _end(whole, ends.pop(0).encode(), place)
            assert written - len(step.data) < place <= written
    assert ends == []


def _is_seen(event: str, does: Behaviour) -> bool:
    found = json.loads(event)
    is_final = any(choice["finish_reason"] for choice in found["choices"]) and not does.finish_with_text
    counts = does.usage == "every" and bool(found["choices"]) and "usage" in found and not is_final
    return bool(text(found)) or counts


def _end(whole: bytes, event: bytes, start: int) -> int:
    """Return the offset behind an event, whose bytes may have the marks of HTTP's chunks between them."""
    place = start
    for letter in event:
        place = whole.index(letter, place) + 1
    return place


@pytest.mark.parametrize(
    ("changes", "due_ms"),
    [
        pytest.param({}, [0, 20, 25, 30, 35], id="a-gap-after-each"),
        pytest.param({"headers_s": 0.01}, [10, 20, 25, 30, 35], id="headers-in-between"),
        pytest.param({"headers_s": 0.1}, [100, 100, 105, 110, 115], id="headers-hold-up-the-text"),
        pytest.param({"stall_after": 2, "stall_s": 1.0}, [0, 20, 25, 1030, 1035], id="a-pause"),
        pytest.param({"stall_after": 0, "stall_s": 1.0}, [0, 1020, 1025, 1030, 1035], id="a-pause-before-all"),
        pytest.param({"stall_after": 3, "stall_s": 1.0, "tokens_per_chunk": 2}, [0, 20, 25, 1030, 1035], id="within"),
        pytest.param({"fail": "late", "stall_s": 1.0}, [1000, 1020, 1025, 1030, 1035], id="all-of-it-late"),
    ],
)
def test_instants(changes: dict[str, Any], due_ms: list[int]) -> None:
    """The headers, then each write with text, by the behaviour's own arithmetic."""
    assert moments(Behaviour(**changes), 4, 0) == tuple(ms * 1_000_000 for ms in due_ms)


def test_jitter_repeats() -> None:
    """The same seed and number give the same gaps, all within their bounds; others give others."""
    does = Behaviour(gap_s=0.01, jitter=0.5, seed=3)
    found = moments(does, 50, 7)
    assert moments(does, 50, 7) == found
    assert moments(does, 50, 8) != found
    assert moments(Behaviour(gap_s=0.01, jitter=0.5, seed=4), 50, 7) != found
    gaps = [after - before for before, after in itertools.pairwise(found[1:])]
    assert all(5_000_000 - 1 <= gap <= 15_000_001 for gap in gaps)
    assert max(gaps) - min(gaps) > 5_000_000


def test_pieces_are_apart() -> None:
    """Only the last of them completes the event, and that later by the pause between them."""
    plan = script(Behaviour(pieces=3, piece_gap_s=0.001), ASKED._replace(max_tokens=1))
    pieces = [step for step in plan.steps if step.moment == 1][:3]
    assert [step.after_ns for step in pieces] == [0, 1_000_000, 2_000_000]
    assert [step.sizes for step in pieces] == [(), (), (1,)]


@pytest.mark.parametrize(
    ("changes", "end", "tokens"),
    [
        pytest.param({"fail": "close", "fail_after": 3}, "close", 3, id="close"),
        pytest.param({"fail": "reset", "fail_after": 3}, "reset", 3, id="reset"),
        pytest.param({"fail": "stall", "fail_after": 3}, "stall", 3, id="stall"),
        pytest.param({"fail": "stall", "fail_after": 99}, "stall", 12, id="stall-at-the-end"),
        pytest.param({"fail": "cut", "fail_after": 3}, "close", 3, id="cut"),
        pytest.param({"fail": "error", "fail_after": 3}, "keep", 3, id="error"),
        pytest.param({"fail": "garbage", "fail_after": 3}, "keep", 12, id="garbage"),
        pytest.param({"fail": "endless_comments", "fail_after": 3}, "repeat", 3, id="comments"),
        pytest.param({"fail": "endless_line", "fail_after": 3}, "repeat", 3, id="line"),
        pytest.param({"fail": "endless_tokens"}, "repeat", 13, id="tokens"),
        pytest.param({"fail": "html"}, "keep", 0, id="html"),
        pytest.param({"fail": "empty"}, "keep", 0, id="empty"),
        pytest.param({"fail": "silence"}, "stall", 0, id="silence"),
        pytest.param({"fail": "slam"}, "close", 0, id="slam"),
        pytest.param({"raw": b"x"}, "close", 0, id="raw"),
        pytest.param({"raw": b"x", "fail": "stall"}, "stall", 0, id="raw-and-stall"),
        pytest.param({"hang_up": False}, "stall", 12, id="left-open"),
        pytest.param({"keep_alive": False}, "close", 12, id="not-kept"),
        pytest.param({"framing": "close"}, "close", 12, id="ended-by-closing"),
    ],
)
def test_failures(changes: dict[str, Any], end: str, tokens: int) -> None:
    """So many tokens are written, and then this happens."""
    plan = script(Behaviour(**changes), ASKED)
    assert (plan.end, sum(size for step in plan.steps for size in step.sizes)) == (end, tokens)


def test_a_length_is_that_of_the_whole_reply() -> None:
    """Also where not all of it comes, so that the client can tell."""
    whole = script(Behaviour(framing="length"), ASKED)
    broken = script(Behaviour(framing="length", fail="close", fail_after=3), ASKED)
    assert whole.steps[0].data == broken.steps[0].data
    with pytest.raises(http.client.IncompleteRead):
        body(broken)


def test_a_reply_that_is_no_stream() -> None:
    """One document, when the last text would be due."""
    plan = script(Behaviour(), ASKED._replace(is_stream=False))
    assert json.loads(body(plan))["choices"][0]["text"] == " token" * 12
    assert plan.due_ns(moments(Behaviour(), plan.writes, 0)) == (20_000_000 + 11 * 5_000_000,)
