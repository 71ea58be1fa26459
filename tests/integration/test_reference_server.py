"""The reference server does what it is told, and says what it did: held against Python's own client."""

from __future__ import annotations

import http.client
import json
import socket
import time
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import msgspec
import pytest

from xinfer.testing.reference_ports import refusing, unaccepting, unanswering
from xinfer.testing.reference_server import Behaviour, ReferenceServer, Remote, Served, serving, spawned

FAST = Behaviour(ttft_s=0.004, gap_s=0.001)
ASKED = {"prompt": "a b c", "max_tokens": 8, "stream": True, "stream_options": {"include_usage": True}}
PATIENCE_S = 30.0


@pytest.fixture
def server() -> Iterator[ReferenceServer]:
    with serving(FAST) as one:
        yield one


@pytest.fixture
def connection(server: ReferenceServer) -> Iterator[http.client.HTTPConnection]:
    with closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE_S)) as one:
        yield one


def ask(connection: http.client.HTTPConnection, path: str = "/v1/completions", **changes: Any) -> tuple[int, bytes]:
    """Ask and read everything."""
    connection.request("POST", path, json.dumps(ASKED | changes))
    response = connection.getresponse()
    return response.status, response.read()


def done(server: ReferenceServer, number: int = 0) -> Served:
    """Return what was done with a request, when it is over."""
    deadline_s = time.monotonic() + PATIENCE_S
    while len(server.log) <= number or server.log[number].ended_ns is None:
        assert time.monotonic() < deadline_s, "waited in vain"
        time.sleep(0.005)
    return server.log[number]


# What it says of itself


def test_it_logs_what_it_did(server: ReferenceServer, connection: http.client.HTTPConnection) -> None:
    """Stamps in their order around those of the client, tokens, counts, and that all of it was written."""
    before_ns = time.perf_counter_ns()
    status, body = ask(connection)
    after_ns = time.perf_counter_ns()
    served = done(server)
    assert (status, served.outcome, served.status) == (200, "whole", 200)
    assert (served.prompt, served.prompt_tokens, served.max_tokens) == ("a b c", 3, 8)
    assert (served.completion_tokens, served.finish_reason, served.cached_tokens) == (8, "length", None)
    assert [size for _, size in served.sent] == [1] * 8
    assert served.fields == sorted(ASKED)
    stamps = [before_ns, served.received_ns, served.headers_ns or 0, *(t for t, _ in served.sent), after_ns]
    assert stamps == sorted(stamps)
    assert body.count(b'"text":" token"') == 8


def test_it_is_never_early(server: ReferenceServer, connection: http.client.HTTPConnection) -> None:
    """A write may be late where the machine is busy; before it is due, it never is."""
    server.become(Behaviour(ttft_s=0.01, gap_s=0.0007, jitter=0.9))
    for _ in range(5):
        ask(connection, max_tokens=40)
    late_ns = [late for served in server.log for late in served.late_ns]
    assert len(late_ns) == 200
    assert min(late_ns) >= 0


def test_its_schedule_does_not_drift(server: ReferenceServer, connection: http.client.HTTPConnection) -> None:
    """Each write is due at an instant that was fixed before, however late those before it were."""
    server.become(Behaviour(ttft_s=0.01, gap_s=0.002))
    ask(connection, max_tokens=40)
    assert server.log[0].planned_ns == [10_000_000 + 2_000_000 * number for number in range(40)]


def test_jitter_repeats(server: ReferenceServer, connection: http.client.HTTPConnection) -> None:
    """The same seed is the same schedule for the same number of a request."""
    does = Behaviour(ttft_s=0.001, gap_s=0.001, jitter=0.9, seed=5)
    plans = []
    for _ in range(2):
        server.become(does)
        ask(connection)
        ask(connection)
        plans.append([served.planned_ns for served in server.log])
    assert plans[0] == plans[1]
    assert plans[0][0] != plans[0][1]


def test_it_runs_in_a_process_of_its_own() -> None:
    """Behaviour and log travel over its own port, and it can say what it cost."""
    with spawned(FAST) as remote:
        _ask_remote(remote)
        (served,) = remote.log()
        assert served.outcome == "whole"
        remote.become(msgspec.structs.replace(FAST, stop_after=3))
        assert remote.log() == []
        _ask_remote(remote)
        assert remote.log()[0].completion_tokens == 3
        assert 0 < remote.cpu_s() < PATIENCE_S


def _ask_remote(remote: Remote) -> None:
    with closing(http.client.HTTPConnection(remote.url.removeprefix("http://"), timeout=PATIENCE_S)) as connection:
        ask(connection)


# Its connections


def test_a_connection_serves_many(server: ReferenceServer, connection: http.client.HTTPConnection) -> None:
    """Streams, refusals and questions, one after the other; each has its place in the log."""
    server.become(msgspec.structs.replace(FAST, status=429, healthy=1, fail_every=2))
    assert [ask(connection)[0] for _ in range(4)] == [200, 429, 200, 429]
    connection.request("GET", "/health")
    assert json.loads(connection.getresponse().read()) == {"status": "ok"}
    assert [(served.connection, served.place) for served in server.log] == [(0, place) for place in range(4)]


def test_requests_may_come_in_one_go_and_in_pieces(server: ReferenceServer) -> None:
    """Each is answered when it has come as a whole and the one before has been answered."""
    body = json.dumps(ASKED | {"max_tokens": 2}).encode()
    request = b"POST /v1/completions HTTP/1.1\r\ncontent-LENGTH:%d\r\n\r\n%s" % (len(body), body)
    with socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE_S) as raw:
        raw.sendall(request + request[:7])
        found = b""
        while b"0\r\n\r\n" not in found:
            found += raw.recv(65536)
        raw.sendall(request[7:30])
        raw.sendall(request[30:])
        while found.count(b"0\r\n\r\n") < 2:
            found += raw.recv(65536)
    assert [done(server, number).outcome for number in range(2)] == ["whole", "whole"]
    assert server.log[0].ended_ns is not None
    assert server.log[0].ended_ns <= server.log[1].received_ns


@pytest.mark.parametrize(
    ("changes", "header"),
    [
        pytest.param({"keep_alive": False}, {}, id="the-server-wants-no-more"),
        pytest.param({}, {"Connection": "close"}, id="the-client-wants-no-more"),
        pytest.param({"framing": "close"}, {}, id="the-end-of-the-body-is-that-of-the-connection"),
        pytest.param({"idle_s": 0.0}, {}, id="the-server-does-not-wait"),
    ],
)
def test_a_connection_is_closed(server: ReferenceServer, changes: dict[str, Any], header: dict[str, str]) -> None:
    """After the whole answer."""
    server.become(msgspec.structs.replace(FAST, **changes))
    body = json.dumps(ASKED)
    head = "".join(f"{name}: {value}\r\n" for name, value in {"Content-Length": len(body), **header}.items())
    with socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE_S) as raw:
        raw.sendall(f"POST /v1/completions HTTP/1.1\r\n{head}\r\n{body}".encode())
        found = b""
        while piece := raw.recv(65536):
            found += piece
    assert b"[DONE]" in found
    assert done(server).outcome == "whole"


def test_a_kept_connection_can_be_dropped(server: ReferenceServer, connection: http.client.HTTPConnection) -> None:
    """The second request on it is not answered, and not logged either."""
    server.become(msgspec.structs.replace(FAST, drops_reused=True))
    assert ask(connection)[0] == 200
    with pytest.raises((http.client.RemoteDisconnected, ConnectionError)):
        ask(connection)
    assert len(server.log) == 1


# What it refuses


@pytest.mark.parametrize(
    ("changes", "request_changes", "status"),
    [
        pytest.param({"status": 307}, {}, 307, id="a-redirect"),
        pytest.param({"status": 503}, {}, 503, id="unavailable"),
        pytest.param({"refuses": ("seed",)}, {"seed": 1}, 400, id="a-field"),
        pytest.param({"refuses": ()}, {"seed": 1}, 400, id="any-field"),
        pytest.param({"token_ids": False}, {"prompt": [1, 2]}, 422, id="ids"),
        pytest.param({"api_key": "k"}, {}, 401, id="a-stranger"),
        pytest.param({}, {"max_tokens": "many"}, 400, id="what-is-no-number"),
    ],
)
def test_refusals(
    server: ReferenceServer, connection: http.client.HTTPConnection, changes: dict[str, Any],
    request_changes: dict[str, Any], status: int,
) -> None:  # fmt: skip
    """With an error that says why."""
    server.become(msgspec.structs.replace(FAST, **changes))
    found, body = ask(connection, **request_changes)
    assert found == status
    assert json.loads(body)["error"]["message"]
    assert [served.outcome for served in server.log] in ([], ["refused"])


def test_what_is_no_http_is_refused(server: ReferenceServer) -> None:
    """At once, as a client that speaks TLS to it would wait for ever."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE_S) as raw:
        raw.sendall(bytes.fromhex("16030100c8010000c40303"))
        assert raw.recv(65536).startswith(b"HTTP/1.1 400 ")
        assert raw.recv(1) == b""


# Other questions


def test_a_chat(server: ReferenceServer, connection: http.client.HTTPConnection) -> None:
    """Is answered in its own form, by the same schedule."""
    messages = [{"role": "user", "content": "a b c d"}]
    _, body = ask(connection, "/v1/chat/completions", messages=messages)
    assert body.count(b'"delta":{"content":" token"}') == 8
    assert server.log[0].prompt_tokens == 4


def test_an_answer_in_one_piece(server: ReferenceServer, connection: http.client.HTTPConnection) -> None:
    """For a request that wants no stream."""
    _, body = ask(connection, stream=False)
    assert json.loads(body)["choices"][0]["text"] == " token" * 8
    assert json.loads(body)["usage"]["completion_tokens"] == 8
    assert server.log[0].sent[0][1] == 8


def test_ids_are_counted_as_they_are(server: ReferenceServer, connection: http.client.HTTPConnection) -> None:
    """Each is a token."""
    ask(connection, prompt=[1, 2, 3, 4, 5])
    assert (server.log[0].prompt, server.log[0].prompt_tokens) == ("[1, 2, 3, 4, 5]", 5)


# Failures


@pytest.mark.parametrize("fail", ["close", "cut", "reset", "slam", "no_http", "bad_chunk"])
def test_a_failure_has_its_name(server: ReferenceServer, connection: http.client.HTTPConnection, fail: str) -> None:
    """The client sees an error, and the log says which."""
    server.become(msgspec.structs.replace(FAST, fail=fail, fail_after=2))
    with pytest.raises((http.client.HTTPException, ConnectionError)):
        ask(connection)
    served = done(server)
    assert served.outcome == fail
    assert sum(size for _, size in served.sent) == (0 if fail in {"slam", "no_http"} else 2)


@pytest.mark.parametrize(
    "fail",
    ["stall", "silence", "endless_headers", "slow_headers", "endless_line", "endless_comments", "endless_tokens"],
)
def test_a_failure_without_end_ends_with_the_client(server: ReferenceServer, fail: str) -> None:
    """However much it had to say, or nothing; others are served meanwhile."""
    server.become(msgspec.structs.replace(FAST, fail=fail, healthy=1))
    ports = ("127.0.0.1", server.port)
    with closing(http.client.HTTPConnection(*ports, timeout=PATIENCE_S)) as other:
        ask(other)
        with socket.create_connection(ports, timeout=PATIENCE_S) as raw:
            body = json.dumps(ASKED)
            raw.sendall(f"POST /v1/completions HTTP/1.1\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode())
            if fail not in {"stall", "silence"}:
                assert len(raw.recv(10)) > 0
            other.request("GET", "/health")
            assert other.getresponse().read()
    assert done(server, 1).outcome == fail


def test_a_client_that_leaves_is_noted(server: ReferenceServer) -> None:
    """With what it got until then."""
    server.become(msgspec.structs.replace(FAST, gap_s=60))
    with socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE_S) as raw:
        body = json.dumps(ASKED)
        raw.sendall(f"POST /v1/completions HTTP/1.1\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode())
        while b" token" not in raw.recv(65536):
            pass
    served = done(server)
    assert (served.outcome, len(served.sent)) == ("left", 1)


def test_a_client_that_leaves_after_the_last_word_has_got_all(server: ReferenceServer) -> None:
    """The end of the body is HTTP's matter, and a client may have seen enough."""
    server.become(msgspec.structs.replace(FAST, hang_up=False))
    with socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE_S) as raw:
        body = json.dumps(ASKED)
        raw.sendall(f"POST /v1/completions HTTP/1.1\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode())
        while b"[DONE]" not in raw.recv(65536):
            pass
    assert done(server).outcome == "whole"


def test_a_client_that_reads_slowly_gets_everything(server: ReferenceServer) -> None:
    """What the system does not take waits for it, in its order."""
    server.become(msgspec.structs.replace(FAST, text="0123456789" * 500_000, gap_s=0.0, framing="close"))
    with socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE_S) as raw:
        body = json.dumps(ASKED | {"max_tokens": 3})
        raw.sendall(f"POST /v1/completions HTTP/1.1\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode())
        time.sleep(0.2)
        found = b""
        while piece := raw.recv(2**20):
            found += piece
    assert found.count(b"0123456789") == 1_500_000
    assert found.rstrip().endswith(b"data: [DONE]")
    assert done(server).outcome == "whole"


# Ports


def test_ports_without_a_server() -> None:
    """One refuses, one takes a connection and says nothing, one does not even take it."""
    with refusing() as port, pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S)
    with unanswering() as port, socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S) as raw:
        raw.settimeout(0.1)
        raw.sendall(b"GET / HTTP/1.1\r\n\r\n")
        with pytest.raises(TimeoutError):
            raw.recv(1)
    with unaccepting() as port, pytest.raises(TimeoutError):
        socket.create_connection(("127.0.0.1", port), timeout=0.3)
