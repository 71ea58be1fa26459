"""What goes over a worker's pipes."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator

import msgspec
import pytest

from xinfer.measuring import orders
from xinfer.measuring.client import Target
from xinfer.measuring.orders import Batch, Order, Ready, Report, read_word, receive, write
from xinfer.measuring.samples import Chunk, Sample, Worker
from xinfer.measuring.schedule import Due, Phase

ORDER = Order(
    number=1, target=Target(url="http://h", model="m", request={"a": [1, None]}, api_key="k"), path="/p",
    phases=(Phase((0, 5), (Due(0, True, None, 3, 4), Due(7, False, 9, 3, 4, is_extra=True))),),  # noqa: FBT003
    bodies={0: b"\xff", 7: b""}, hashes={0: "a", 7: "b"}, seconds=1.5, timeout_s=2.0, patience=3, core=None,
)  # fmt: skip
SAMPLE = Sample(
    index=0, warmup=True, t_sched=1, t_send=2, t_headers=None, t_end=9,
    chunks=(Chunk(t_ns=5, characters=3, is_token=True),), prompt_tokens_asked=32, prompt_tokens=None,
    completion_asked=1, completion_tokens=None, cached_tokens=None, finish_reason=None, status=None,
    error="refused", detail="…", prompt_hash="ab", worker=3,
)  # fmt: skip
WORDS = [Ready(), Batch((SAMPLE,)), Report(Worker(cpu_s=0.5, loop_lag_p99_s=None, core=3), None, 4)]


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reading, writing = os.pipe()
    yield reading, writing
    for descriptor in (reading, writing):
        try:
            os.close(descriptor)
        except OSError:
            assert descriptor == writing  # a test has closed it


def test_an_order_arrives_as_it_was_given(pipe: tuple[int, int]) -> None:
    """Also one that does not fit into a pipe at once."""
    long = msgspec.structs.replace(ORDER, bodies={0: bytes(300_000)})
    for order in (ORDER, long):
        writer = threading.Thread(target=write, args=(pipe[1], order))
        writer.start()
        assert msgspec.msgpack.decode(receive(pipe[0]), type=Order) == order
        writer.join()


@pytest.mark.parametrize("word", WORDS, ids=lambda word: type(word).__name__)
def test_a_word_arrives_as_it_was_said(pipe: tuple[int, int], word: orders.Word) -> None:
    """Each kind is told from the others."""
    write(pipe[1], word)
    assert read_word(receive(pipe[0])) == word


@pytest.mark.parametrize("sent", [b"", b"\0\0", b"\0\0\0\0\0\0\0\x05half"])
def test_a_broken_pipe_is_no_message(pipe: tuple[int, int], sent: bytes) -> None:
    """Wherever it broke."""
    os.write(pipe[1], sent)
    os.close(pipe[1])
    with pytest.raises(EOFError):
        receive(pipe[0])
