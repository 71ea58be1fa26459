"""What a worker makes of what it has recorded, and of its own lateness."""

from __future__ import annotations

import pytest

from xinfer.measuring import worker
from xinfer.measuring.client import Target
from xinfer.measuring.orders import Order
from xinfer.measuring.schedule import Due
from xinfer.measuring.wire import Recording

ORDER = Order(
    number=3, target=Target(url="http://h", api_key="s3cret"), path="/p", phases=(), bodies={}, hashes={0: "a", 1: "b"},
    seconds=0.0, timeout_s=1.0, patience=3, core=None,
)  # fmt: skip
BODY = (
    b'data: {"choices":[{"text":"a","finish_reason":"length"}],"usage":{"prompt_tokens":5,"completion_tokens":1}}\n\n'
)


def recorded(raw: bytes, *, failure: str | None = None) -> Recording:
    recording = Recording(1)
    recording.raw += raw
    recording.stamps.append(7)
    recording.counts.append(len(raw))
    recording.failure = failure
    return recording


def test_recordings_become_samples() -> None:
    """With what was asked for and what came; and are let go of."""
    good = recorded(b"HTTP/1.1 200 OK\r\n\r\n" + BODY)
    bad = recorded(b"HTTP/1.1 401 No\r\nContent-Length: 10\r\n\r\nkey s3cret")
    recordings = [(Due(0, True, None, 5, 1), good), (Due(1, False, None, 6, 2), bad)]  # noqa: FBT003 -- as written
    failed, fine = worker.samples(ORDER, recordings)
    assert recordings == []
    assert (fine.index, fine.warmup, fine.worker, fine.prompt_hash, fine.error, fine.detail) == (
        0,
        True,
        3,
        "a",
        None,
        None,
    )
    assert (fine.prompt_tokens, fine.completion_tokens, fine.finish_reason) == (5, 1, "length")
    assert [(chunk.t_ns, chunk.characters) for chunk in fine.chunks] == [(7, 1)]
    assert (failed.index, failed.prompt_tokens_asked, failed.completion_asked) == (1, 6, 2)
    assert (failed.status, failed.error, failed.detail) == (401, "http 401", "key ***")


@pytest.mark.parametrize(
    ("lags", "expected"),
    [
        pytest.param([], None, id="none"),
        pytest.param([10**9] * 99, None, id="too-few"),
        pytest.param([*[1000] * 99, 10**9], 1e-6, id="one-of-a-hundred-is-forgiven"),
        pytest.param([10**9, *[1000] * 98, 10**9], 1.0, id="two-are-not"),
    ],
)
def test_a_loops_lag(lags: list[int], expected: float | None) -> None:
    """Is what 99 of 100 looks did not exceed."""
    assert worker.p99_s(lags) == expected
