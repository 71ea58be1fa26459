"""A hub is asked for little, told no more than it must know, and believed nothing."""

from __future__ import annotations

import json
import socket
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

import local_server
import pytest

from xinfer.errors import ConfigError, ProvisionError
from xinfer.sources import contents, hub, web
from xinfer.sources.contents import Allowed
from xinfer.sources.hub import Access
from xinfer.sources.web import Server
from xinfer.testing.model_files import CONFIG, LLAMA, folder, gguf, safetensors

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from local_server import Handler

    from xinfer.catalog import Spec

COMMIT = "0123456789abcdef0123456789abcdef01234567"
TOKEN = "hf_secret"  # noqa: S105 -- of nobody
CONFIGURED = {
    "config.json": json.dumps(CONFIG).encode(), "tokenizer.json": b"{}",
    "tokenizer_config.json": b'{"chat_template": "x"}',
}  # fmt: skip


class FakeHub:
    """One repository, ``org/Tiny``, and a note of every request."""

    def __init__(self, files: dict[str, bytes], **listed: Any) -> None:
        self.files, self.listed = files, listed
        self.asked: list[tuple[str, str | None, str | None]] = []
        """Path, token and range of each request."""
        self.storage: str | None = None
        """Where files are redirected to; null where they come from here."""
        self.has_ranges = True
        self.answers: dict[str, Callable[[Handler], None]] = {}
        """What is answered instead, by the beginning of the path."""

    def answer(self, handler: Handler) -> None:
        path = urlsplit(handler.path).path
        self.asked.append((handler.path, handler.headers["Authorization"], handler.headers["Range"]))
        special = next((self.answers[begin] for begin in self.answers if path.startswith(begin)), None)
        if special:
            special(handler)
        elif path.startswith("/api/models/org/Tiny/revision/"):
            siblings = [{"rfilename": name, "size": len(data)} for name, data in self.files.items()]
            handler.reply(200, json.dumps({"sha": COMMIT, "siblings": siblings, **self.listed}).encode())
        elif path.startswith(f"/org/Tiny/resolve/{COMMIT}/") and self.storage:
            handler.reply(302, b"", Location=self.storage + handler.path)
        elif path.startswith(f"/org/Tiny/resolve/{COMMIT}/"):
            self.send(handler, self.files[unquote(path.removeprefix(f"/org/Tiny/resolve/{COMMIT}/"))])
        else:
            handler.reply(404, b"", **{"X-Error-Code": "RepoNotFound"})

    def send(self, handler: Handler, data: bytes) -> None:
        if self.has_ranges and handler.headers["Range"]:
            begin, end = map(int, handler.headers["Range"].removeprefix("bytes=").split("-"))
            handler.reply(206, data[begin : end + 1])
        else:
            handler.reply(200, data)


@contextmanager
def serving(served: FakeHub) -> Iterator[str]:
    """Serve on a free loopback port, and yield the address."""

    def answer(handler: Handler) -> None:
        try:
            served.answer(handler)
        except ConnectionError:  # who asked has heard enough
            handler.close_connection = True

    with local_server.served(GET=answer) as port:
        yield f"http://127.0.0.1:{port}"


@pytest.fixture
def by(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Access]:
    """Return how an address is asked: with a token, an empty cache and no proxy."""
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    return lambda url: Access(Server(url, TOKEN), tmp_path / "cache", offline=False)


def found(by: Access, revision: str | None = None) -> tuple[Spec, ...]:
    return contents.artefacts(hub.repository("org/Tiny", revision, by), "Tiny", Allowed())


def test_a_repository_is_described_by_a_few_small_requests(by: Callable[[str], Access]) -> None:
    """The listing, two configurations, and the beginning of the weights; the commit fixes them all."""
    files = {**CONFIGURED, "model.safetensors": safetensors(metadata={"format": "pt"}) + b""}
    served = FakeHub(files, safetensors={"parameters": {"BF16": 7_615_616_512}, "total": 7_615_616_512})
    with serving(served) as url:
        (spec,) = found(by(url), "v1.0/x")
    assert (spec.hub, spec.id, spec.revision, spec.size) == ("huggingface", "org/Tiny", COMMIT, "7_62")
    assert (spec.format, spec.quantization, spec.abilities) == ("pytorch", "none", ("chat",))
    assert spec.bytes == len(files["model.safetensors"])
    assert spec.shape.kv_heads == 2
    assert [path for path, _, _ in served.asked] == [
        "/api/models/org/Tiny/revision/v1.0%2Fx?blobs=true",
        *(
            f"/org/Tiny/resolve/{COMMIT}/{name}"
            for name in ("config.json", "tokenizer_config.json", "model.safetensors")
        ),
    ]
    assert {token for _, token, _ in served.asked} == {f"Bearer {TOKEN}"}


@pytest.mark.parametrize("has_ranges", [True, False])
def test_what_the_hub_has_not_counted_is_counted_here(by: Callable[[str], Access], *, has_ranges: bool) -> None:
    """By the headers of the weights, of which no more is read; also where a server knows no ranges."""
    many = {f"layer.{number}.weight": ("BF16", (2,)) for number in range(2000)}
    served = FakeHub({**CONFIGURED, "model.safetensors": safetensors(many)})
    served.has_ranges = has_ranges
    with serving(served) as url:
        (spec,) = found(by(url))
    assert spec.size == "0_000004"
    assert next(part for path, _, part in served.asked if path.endswith(".safetensors")) == "bytes=0-65535"


def test_a_token_goes_nowhere_else(by: Callable[[str], Access]) -> None:
    """Files lie in a storage that signs its addresses; it gets to know nothing."""
    files = {**CONFIGURED, "model.safetensors": safetensors()}
    storage, served = FakeHub(files), FakeHub(files)
    with serving(storage) as other, serving(served) as url:
        served.storage = other
        (spec,) = found(by(url))
    assert spec.size == "0_000000256"
    assert len(storage.asked) == 3
    assert {token for _, token, _ in storage.asked} == {None}


def test_a_model_that_moved_is_followed(by: Callable[[str], Access]) -> None:
    """On the same hub, with the token."""
    served = FakeHub({**CONFIGURED, "model.safetensors": safetensors()})
    served.answers["/api/models/Tiny/"] = lambda handler: handler.reply(
        307, b"", Location=handler.path.replace("/Tiny/", "/org/Tiny/")
    )
    served.answers["/Tiny/resolve/"] = lambda handler: handler.reply(307, b"", Location=f"/org{handler.path}")
    with serving(served) as url:
        (spec,) = contents.artefacts(hub.repository("Tiny", None, by(url)), "Tiny", Allowed())
    assert spec.id == "Tiny"
    assert {token for _, token, _ in served.asked} == {f"Bearer {TOKEN}"}


def test_ggufs_are_candidates_with_what_their_beginnings_say(by: Callable[[str], Access]) -> None:
    """Quantization by name, size as the hub counted it, and the network; nothing of the weights is read."""
    files = {f"tiny-{kind}.gguf": gguf({**LLAMA, "general.file_type": 0}) for kind in ("q8_0", "q4_k_m")}
    files |= {"mmproj-tiny.gguf": b"x", "--token.gguf": b"x", "../x.gguf": b"x"}
    served = FakeHub(files, gguf={"total": 494_032_768, "chat_template": "x"})
    with serving(served) as url:
        specs = found(by(url))
    assert [(spec.file, spec.quantization, spec.size) for spec in specs] == [
        ("tiny-q4_k_m.gguf", "Q4_K_M", "0_494"), ("tiny-q8_0.gguf", "Q8_0", "0_494"),
    ]  # fmt: skip
    assert {(spec.context_length, spec.shape.kv_heads, spec.abilities) for spec in specs} == {(512, 2, ("chat",))}
    assert {spec.family for spec in specs} == {"Tiny"}
    assert len(served.asked) == 3


def test_ggufs_of_several_networks_are_not_counted_as_one(by: Callable[[str], Access]) -> None:
    """The hub counts one file; whose weights they are is not said."""
    files = {"a-q8_0.gguf": gguf(), "b-q4_0.gguf": gguf({**LLAMA, "llama.block_count": 99})}
    with serving(FakeHub(files, gguf={"total": 7_000_000_000})) as url:
        specs = found(by(url))
    assert [(spec.size, spec.shape.layers) for spec in specs] == [(None, 2), (None, 99)]


def test_a_split_gguf_is_looked_into_once(by: Callable[[str], Access]) -> None:
    """Its other pieces say nothing, and all of them must be fetched."""
    names = [f"Q8_0/tiny-0000{number}-of-00002.gguf" for number in (1, 2)]
    served = FakeHub({names[0]: gguf(), names[1]: gguf({"split.no": 1})}, gguf={"total": 256})
    with serving(served) as url:
        (spec,) = found(by(url))
    assert (spec.file, spec.parts, spec.size) == (names[0], (names[1],), "0_000000256")
    assert len(served.asked) == 2


@pytest.mark.parametrize(
    ("status", "headers", "said"),
    [
        pytest.param(404, {"X-Error-Code": "RepoNotFound"}, "there is no model 'org/Tiny' on HOST", id="no-model"),
        pytest.param(
            404,
            {"X-Error-Code": "RevisionNotFound"},
            "org/Tiny has no branch, tag or commit 'main' on HOST",
            id="no-branch",
        ),
        pytest.param(
            403,
            {"X-Error-Code": "GatedRepo"},
            "HOST does not show org/Tiny: it does not exist, is private or is gated; "
            "the token in HF_TOKEN may not read it; accept its conditions at HOST/org/Tiny first",
            id="gated",
        ),
    ],
)  # fmt: skip
def test_what_the_hub_refuses_is_the_users_to_mend(
    by: Callable[[str], Access], status: int, headers: dict[str, str], said: str
) -> None:
    """In one line that says how, without the token."""
    served = FakeHub({})
    served.answers["/"] = lambda handler: handler.reply(status, b"<html>", **headers)
    with serving(served) as url, pytest.raises(ConfigError) as caught:
        found(by(url))
    assert str(caught.value) == said.replace("HOST", url.removeprefix("http://"))
    assert TOKEN not in str(caught.value)


def test_without_a_token_a_refusal_asks_for_one(tmp_path: Path) -> None:
    """A hub does not tell strangers whether a model exists."""
    served = FakeHub({})
    served.answers["/"] = lambda handler: handler.reply(401, b"")
    with serving(served) as url, pytest.raises(ConfigError, match="set HF_TOKEN to a token that may read it"):
        found(Access(Server(url), tmp_path, offline=False))
    assert served.asked[0][1] is None


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        pytest.param(lambda handler: handler.reply(200, b"<html>"), "not as a hub of models does", id="a-web-page"),
        pytest.param(lambda handler: handler.reply(200, b'{"sha": "../../x"}'), "not as a hub", id="no-commit"),
        pytest.param(lambda handler: handler.reply(200, b"[" * 100_000), "not as a hub", id="nested-without-end"),
        pytest.param(lambda handler: handler.reply(418, b""), "refuses to show org/Tiny: HTTP 418", id="a-teapot"),
        pytest.param(lambda handler: handler.reply(503, b""), "does not answer (HTTP 503)", id="overloaded"),
        pytest.param(lambda handler: handler.reply(429, b""), "does not answer (HTTP 429)", id="asked-too-often"),
        pytest.param(
            lambda handler: handler.reply(302, b"", Location=handler.path), "does not answer (The HTTP", id="a-circle"
        ),
        pytest.param(
            lambda handler: handler.reply(302, b"", Location="http://hub.example/x"),
            "redirects to an address without https",
            id="an-open-redirect",
        ),
        pytest.param(
            lambda handler: handler.reply(302, b"", Location="file:///etc/passwd"), "is not allowed", id="a-file"
        ),
        pytest.param(lambda handler: handler.connection.close(), "does not answer", id="it-hangs-up"),
    ],
)
def test_what_the_hub_breaks_is_no_fault_of_the_user(
    by: Callable[[str], Access], answer: Callable[[Handler], None], said: str
) -> None:
    """It is a failure to provide, in one line without the token."""
    served = FakeHub({})
    served.answers["/"] = answer
    with serving(served) as url, pytest.raises(ProvisionError) as caught:
        found(by(url))
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    assert TOKEN not in str(caught.value)


def test_an_answer_without_end_is_not_read(by: Callable[[str], Access], monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor one that comes drop by drop."""
    served = FakeHub({})
    served.answers["/"] = lambda handler: handler.reply(200, bytes(5000))
    monkeypatch.setattr(hub, "_MOST_LISTING_BYTES", 1000)
    with serving(served) as url:
        with pytest.raises(ConfigError, match="is longer than 1000 bytes"):
            found(by(url))
        monkeypatch.setattr(web, "PATIENCE_S", -1.0)
        with pytest.raises(ProvisionError, match="no whole answer after -1 s"):
            found(by(url))


def test_where_the_hub_does_not_answer_its_cache_does(by: Callable[[str], Access]) -> None:
    """With the commit that it had when it last did."""
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        access = by(f"http://127.0.0.1:{nobody.getsockname()[1]}")
        with pytest.raises(ProvisionError, match=r"org/Tiny at main is not in .*, and 127.* does not answer \(Conn"):
            found(access)
        folder(access.cache / "models--org--Tiny" / "snapshots" / COMMIT)
        (spec,) = found(access, COMMIT)
    assert (spec.revision, spec.hub) == (COMMIT, "huggingface")


def test_a_hub_that_is_silent_is_given_up(by: Callable[[str], Access], monkeypatch: pytest.MonkeyPatch) -> None:
    """After some seconds; here sooner."""
    monkeypatch.setattr(web, "WAIT_S", 0.2)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        with pytest.raises(ProvisionError, match=r"does not answer \(silent for 0\.2 s\)"):
            found(by(f"http://127.0.0.1:{silent.getsockname()[1]}"))


@pytest.mark.parametrize(
    ("answer", "error", "said"),
    [
        pytest.param(lambda handler: handler.reply(500, b""), ProvisionError, "no answer (HTTP 500); try", id="500"),
        pytest.param(lambda handler: handler.reply(206, b"{"), ProvisionError, "is not whole; try again", id="short"),
        pytest.param(lambda handler: handler.reply(404, b""), ConfigError, "there is no model", id="gone"),
    ],
)  # fmt: skip
def test_a_file_that_breaks_off_is_said_to(
    by: Callable[[str], Access],
    answer: Callable[[Handler], None],
    error: type[Exception],
    said: str,
) -> None:
    """It was listed, and then did not come."""
    served = FakeHub({**CONFIGURED, "model.safetensors": safetensors()})
    served.answers["/org/"] = answer
    with serving(served) as url, pytest.raises(error) as caught:
        found(by(url))
    assert said in str(caught.value)


def test_an_empty_file_is_not_asked_for(by: Callable[[str], Access]) -> None:
    """There is no range of nothing."""
    served = FakeHub({**CONFIGURED, "config.json": b"", "model.safetensors": safetensors()})
    with serving(served) as url, pytest.raises(ConfigError, match=r"config\.json is no JSON mapping"):
        found(by(url))
