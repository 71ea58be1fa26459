"""``xinfer serve`` with real engines, asked by OpenAI's own client: completions and chat, streamed and not, with a key.

The engines and the model are installed; ``XINFER_TEST_HOME`` names a cache directory that is kept for the next time.
"""

from __future__ import annotations

import json
import os
import random
import re
import secrets
import signal
import socket
import subprocess
import sys
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import psutil
import pytest
from openai import AuthenticationError, OpenAI

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.e2e

PATIENCE_S = 120.0
"""How long a test waits for what must happen; only a failing test waits that long."""
PROMPT = "The capital of France is"
QUESTION: Any = [{"role": "user", "content": "Name three primary colors."}]
GREEDY: dict[str, Any] = {"temperature": 0, "max_tokens": 12}


class Case(NamedTuple):
    """What is served, and whether the engine can ask for a key."""

    words: tuple[str, ...]
    is_keyed: bool = True


TODAY = "rules=engines-2026-11"
CASES = [
    pytest.param(Case(("engine=llama_cpp",)), id="llama_cpp-wheel"),
    pytest.param(Case(("engine=transformers", TODAY), is_keyed=False), id="transformers"),
    pytest.param(Case(("engine=vllm", TODAY)), id="vllm"),
    pytest.param(Case(("engine=sglang", TODAY)), id="sglang"),
    pytest.param(Case(("engine=mlx", TODAY), is_keyed=False), id="mlx"),
]


class Served(NamedTuple):
    """A running server, as its ready block describes it."""

    block: str
    key: str | None
    directory: Path
    process: subprocess.Popen[str]

    def value(self, name: str) -> str:
        """Return what a line of the ready block says."""
        (found,) = re.findall(rf"^{name} +(.*)$", self.block, re.MULTILINE)
        return str(found)

    def client(self, key: str | None = None) -> OpenAI:
        """Return OpenAI's client, made as its users make it; it wants a key even where the server does not."""
        key = key or self.key or "none"
        return OpenAI(base_url=self.value("url"), api_key=key, max_retries=0, timeout=PATIENCE_S)

    def started(self) -> list[psutil.Process]:
        """Return every process that was started for this server."""
        return psutil.Process(self.process.pid).children(recursive=True)


@contextmanager
def serving(case: Case, directory: Path, home: Path) -> Iterator[Callable[[], Served]]:
    """Start to serve, with a key if the engine can ask for one; yield how to wait until it is ready."""
    key = f"sk-{secrets.token_hex(16)}" if case.is_keyed else None
    words = ["model=smollm2-135m-instruct", f"port={free_port()}", *(["api_key_env=E2E_KEY"] if key else [])]
    environ = {**os.environ, "XINFER_HOME": str(home), **({"E2E_KEY": key} if key else {})}
    with (
        (directory / "stderr").open("w+", encoding="utf-8") as err,
        subprocess.Popen(
            [sys.executable, "-m", "xinfer", "serve", *words, *case.words],
            cwd=directory, env=environ, stdout=subprocess.PIPE, stderr=err, text=True,
        ) as process,
    ):  # fmt: skip
        try:
            yield lambda: Served(_block(process, err.name), key, directory, process)
        finally:
            process.kill()


def stop(served: Served) -> None:
    """Press Ctrl-C: that must end it well, and with it all that it started."""
    started = served.started()
    served.process.send_signal(signal.SIGINT)
    assert served.process.wait(PATIENCE_S) == 0
    assert [each for each in started if each.is_running()] == []


def _block(process: subprocess.Popen[str], err: str) -> str:
    assert process.stdout is not None
    lines = ""
    while not re.search(r"^curl .*\n\n", lines, re.MULTILINE):
        line = process.stdout.readline()
        assert line, Path(err).read_text(encoding="utf-8")
        lines += line
    return lines


def free_port() -> int:
    """Return a free port, and none that the system gives to others while the engine gets ready."""
    while True:
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", random.randrange(20_000, 30_000)))  # noqa: S311 -- any will do
            return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def begun(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, home: Path
) -> Iterator[dict[Case, Callable[[], Served]]]:
    """Start each server that is asked for: until it is ready it keeps one core busy, for half a minute."""
    items = (item for item in request.session.items if isinstance(item, pytest.Function) and item.path == request.path)
    cases: dict[Any, None] = dict.fromkeys(item.callspec.params["served"] for item in items)
    with ExitStack() as stack:
        yield {case: stack.enter_context(serving(case, tmp_path_factory.mktemp("served"), home)) for case in cases}


@pytest.fixture(scope="module", params=CASES)
def served(request: pytest.FixtureRequest, begun: dict[Case, Callable[[], Served]]) -> Iterator[Served]:
    """Return a server of each engine, one after the other; all tests ask the same."""
    found = begun[request.param]()
    yield found
    stop(found)


def test_a_completion(served: Served) -> None:
    """Greedy, it makes sense, and is counted."""
    with served.client() as client:
        answer = client.completions.create(model=served.value("model"), prompt=PROMPT, **GREEDY)
    assert "Paris" in answer.choices[0].text
    assert answer.usage is not None
    assert 0 < answer.usage.completion_tokens <= GREEDY["max_tokens"]


def test_a_streamed_completion(served: Served) -> None:
    """It comes in several pieces that make the same sense, and the stream ends."""
    with served.client() as client:
        stream = client.completions.create(model=served.value("model"), prompt=PROMPT, stream=True, **GREEDY)
        pieces = [choice.text for chunk in stream for choice in chunk.choices if choice.text]
    assert len(pieces) > 1
    assert "Paris" in "".join(pieces)


def test_a_chat(served: Served) -> None:
    """The model's own template is applied."""
    with served.client() as client:
        answer = client.chat.completions.create(model=served.value("model"), messages=QUESTION, **GREEDY)
    assert "primary colors are" in (answer.choices[0].message.content or "")
    assert answer.choices[0].message.role == "assistant"


def test_a_streamed_chat(served: Served) -> None:
    """Likewise in pieces, of which one says why it ended."""
    with served.client() as client:
        stream = client.chat.completions.create(model=served.value("model"), messages=QUESTION, stream=True, **GREEDY)
        choices = [choice for chunk in stream for choice in chunk.choices]
    pieces = [choice.delta.content for choice in choices if choice.delta.content]
    assert len(pieces) > 1
    assert "primary colors are" in "".join(pieces)
    assert [choice.finish_reason for choice in choices if choice.finish_reason] in (["length"], ["stop"])


def test_the_example_answers(served: Served) -> None:
    """Pasted as it stands, by somebody who has the key in the same variable."""
    example = served.block.strip().splitlines()[-1]
    environ = {"PATH": os.environ["PATH"], **({"E2E_KEY": served.key} if served.key else {})}
    done = subprocess.run(["/bin/sh", "-c", example], env=environ, capture_output=True, check=True)
    assert json.loads(done.stdout)["choices"]


def test_a_wrong_key_is_refused(served: Served) -> None:
    """Where one is asked for; where none is, any will do."""
    expected = pytest.raises(AuthenticationError) if served.key else nullcontext()
    with served.client("sk-wrong") as client, expected:
        client.completions.create(model=served.value("model"), prompt=PROMPT, **GREEDY)


def test_the_key_is_nowhere(served: Served) -> None:
    """Neither in a log nor in a command line."""
    assert not served.key or served.key not in str([process.cmdline() for process in served.started()])
    logs = Path(served.value("log")).parent
    files = [path for folder in (logs, served.directory) for path in folder.rglob("*") if path.is_file()]
    assert {path.name for path in files} >= {"engine.log", "provision.log", "stderr"}
    for part in [served.key, served.key[-4:]] if served.key else []:
        assert [path for path in files if part in path.read_text(encoding="utf-8", errors="replace")] == []
