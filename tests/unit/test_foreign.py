"""What every peer is asked by, and what is made of its numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from xinfer.errors import ConfigError, RequestError
from xinfer.loadgens import foreign
from xinfer.loadgens.foreign import Foreign, Inproc, Task
from xinfer.loadgens.peers import PEERS
from xinfer.measuring.metrics import Metrics
from xinfer.spec import Workload

if TYPE_CHECKING:
    from xinfer.spec import Shape

PEER = PEERS["vllm-bench"]


def work(**changes: Any) -> Workload:
    return Workload(**{"name": "w", "input_tokens": 32, "output_tokens": 16, **changes})


def task(**changes: Any) -> Task:
    return Task(**{"python": "/p", "workload": work(), "directory": "/d", "run_id": "run", **changes})


def test_two_runs_have_two_seeds() -> None:
    """A run is repeatable by its id, and no other sends its prompts again."""
    one, again, other = (task(run_id=name).seed for name in ("a", "a", "b"))
    assert one == again != other
    assert all(0 <= seed < 2**31 for seed in (one, other))


@pytest.mark.parametrize(
    ("tokenizer", "offline"),
    [pytest.param("/m/smol", True, id="a-folder"), pytest.param("org/smol", False, id="an-id-on-a-hub")],
)
def test_a_hub_is_asked_only_for_what_is_not_here(tokenizer: str, *, offline: bool) -> None:
    """Hugging Face's libraries are told to stay offline exactly where the tokenizer is a folder."""
    variables = foreign.offline(task(tokenizer=tokenizer))
    assert ("HF_HUB_OFFLINE" in variables) is offline
    assert variables["HF_HUB_DISABLE_TELEMETRY"] == "1"


@pytest.mark.parametrize(
    ("changes", "loads", "prefix", "message"),
    [
        pytest.param({"load": "trace"}, ("closed",), False, "sends no load=trace as xinfer does; it can: closed",
                     id="a-load-that-it-has-not"),
        pytest.param({"shared_prefix": 0.5}, ("closed",), False, "shares no prefix", id="a-prefix-that-it-has-not"),
        pytest.param({"shared_prefix": 0.5}, ("closed",), True, None, id="a-prefix-that-it-has"),
        pytest.param({}, ("closed", "poisson"), False, None, id="a-load-that-it-has"),
    ],
)  # fmt: skip
def test_what_a_peer_cannot_send_is_refused(
    changes: dict[str, Any], loads: tuple[Shape, ...], message: str | None, *, prefix: bool
) -> None:
    """A load that a peer would send otherwise is refused, and the error names the key."""
    if message is None:
        foreign.check(PEER, work(**changes), loads=loads, prefix=prefix)
        return
    with pytest.raises(ConfigError, match=message):
        foreign.check(PEER, work(**changes), loads=loads, prefix=prefix)


def test_a_time_that_no_peer_knows_is_told() -> None:
    """A closed loop for so many seconds ends after its requests in a peer, and the result says so."""
    assert foreign.differences(work()) == ()
    assert "seconds=5" in foreign.differences(work(seconds=5.0, requests=9))[0]


def test_only_finite_numbers_are_numbers() -> None:
    """Truth values, text, lists and infinite rates are none."""
    result = {"a": 1, "b": 2.5, "c": True, "d": "3", "e": [4], "f": float("inf"), "g": float("nan"), "h": None}
    assert foreign.numbers(result) == {"a": 1, "b": 2.5}


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(None, id="no-file"),
        pytest.param(b"", id="an-empty-file"),
        pytest.param(b"Traceback (most recent call last)", id="no-json"),
        pytest.param(b'{"a": "x"}', id="another-type"),
    ],
)
def test_a_result_that_cannot_be_read_is_an_error(content: bytes | None) -> None:
    """Whatever a peer left instead of its result, the error names the peer."""
    with pytest.raises(RequestError, match=r"^vllm bench serve left no result that can be read: "):
        foreign.decoded(PEER, content, dict[str, int])


def test_the_word_infinity_is_read() -> None:
    """Python's programs write rates without limit so."""
    assert foreign.decoded(PEER, b'{"rate": Infinity}', dict[str, float]) == {"rate": float("inf")}


def test_time_per_token_needs_a_second_token() -> None:
    """It is what lies between the first and the last, by the tokens after the first."""
    assert foreign.tpots([1.0, 1.0, 1.0], [3.0, 1.0, 1.5], [5, 1, 2]) == (0.5, 0.5)


def test_unknown_milliseconds_are_left_out() -> None:
    """What a peer could not measure is no zero."""
    assert foreign.seconds([1500.0, None, 0.0]) == (1.5, 0.0)


def test_a_result_has_the_scope_of_its_numbers() -> None:
    """What ran in the engine's process never stands in a column of servers."""
    http = Metrics(requests=1, failed=0, duration_s=1.0)
    assert Foreign(source="x", metrics=http, sources={}).scope == "http"
    assert Foreign(source="x", metrics=Inproc(), sources={}).scope == "inproc"
