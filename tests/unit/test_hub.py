"""The hub's cache is found and read as Hugging Face's own tools leave it, and no name leads out of it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from xinfer.errors import ConfigError, ProvisionError
from xinfer.sources import contents, hub
from xinfer.sources.contents import Allowed
from xinfer.sources.hub import Access
from xinfer.sources.web import Server
from xinfer.testing.model_files import folder, gguf

if TYPE_CHECKING:
    from collections.abc import Mapping

COMMIT = "0123456789abcdef0123456789abcdef01234567"
OFFLINE = {"HF_HUB_OFFLINE": "1"}


def copied(root: Path, commit: str = COMMIT) -> Path:
    return root / "models--org--Tiny" / "snapshots" / commit


@pytest.mark.parametrize(
    ("environ", "cache"),
    [
        pytest.param({}, "~/.cache/huggingface/hub", id="usual"),
        pytest.param({"XDG_CACHE_HOME": "/c"}, "/c/huggingface/hub", id="the-desktop's-cache"),
        pytest.param({"HF_HOME": "/h"}, "/h/hub", id="a-home"),
        pytest.param({"HF_HOME": "/h", "HUGGINGFACE_HUB_CACHE": "/old"}, "/old", id="an-older-name"),
        pytest.param({"HF_HUB_CACHE": "/new", "HUGGINGFACE_HUB_CACHE": "/old"}, "/new", id="a-cache"),
        pytest.param({"HF_HOME": ""}, "~/.cache/huggingface/hub", id="an-empty-variable-is-none"),
    ],
)
def test_the_cache_is_where_hugging_faces_tools_have_it(environ: dict[str, str], cache: str) -> None:
    """So that what was downloaded for another program is found."""
    assert hub.access(environ).cache == Path(cache).expanduser()


@pytest.mark.parametrize(
    ("environ", "offline"),
    [
        pytest.param({}, False, id="usual"),
        pytest.param({"HF_HUB_OFFLINE": "1"}, True, id="1"),
        pytest.param({"HF_HUB_OFFLINE": "TRUE"}, True, id="true"),
        pytest.param({"HF_HUB_OFFLINE": "0"}, False, id="0"),
        pytest.param({"TRANSFORMERS_OFFLINE": "yes"}, True, id="an-older-name"),
    ],
)
def test_offline_is_what_they_mean_by_it(environ: dict[str, str], *, offline: bool) -> None:
    """The hub is then not asked at all."""
    assert hub.access(environ).offline is offline


def test_a_token_is_kept_out_of_every_text() -> None:
    """It is stripped of what a file puts around it, and shown to nobody."""
    by = hub.access({"HF_TOKEN": " hf_secret\n", "HF_ENDPOINT": "https://hub.example/"})
    assert by.server == Server("https://hub.example", "hf_secret")
    assert "hf_secret" not in f"{by!r} {by} {by.server!r} {by.server}"


@pytest.mark.parametrize(
    ("environ", "variable"),
    [
        pytest.param({"HF_TOKEN": "a b"}, "HF_TOKEN", id="a-token-with-a-space"),
        pytest.param({"HF_TOKEN": "a\nHost: b"}, "HF_TOKEN", id="a-token-with-a-header-behind-it"),
        pytest.param({"HF_TOKEN": "schlüssel"}, "HF_TOKEN", id="a-token-with-an-umlaut"),
        pytest.param({"HF_ENDPOINT": "hub.example"}, "HF_ENDPOINT", id="an-address-without-a-scheme"),
        pytest.param({"HF_ENDPOINT": "file:///etc"}, "HF_ENDPOINT", id="an-address-of-a-file"),
        pytest.param({"HF_ENDPOINT": "https://:443"}, "HF_ENDPOINT", id="an-address-of-nothing"),
    ],
)
def test_a_variable_that_means_nothing_is_named(environ: Mapping[str, str], variable: str) -> None:
    """But not repeated: it may hold a secret."""
    with pytest.raises(ConfigError) as caught:
        hub.access(environ)
    assert str(caught.value).startswith(variable)
    assert environ[variable] not in str(caught.value)


@pytest.mark.parametrize(
    "identity",
    [
        *("a/b/c", "../x", "a/..", "a/b..c", "-a/b", "a/-b", "a/b-", "a/.b", "a--b/c", "a/b.git", "a b/c", "a/ü", "/a"),
        *("a/", "https://huggingface.co/a/b", f"a/{'x' * 97}", "a/b?c", "a\n/b", "a/b\n"),
    ],
)
def test_an_id_that_is_none_is_refused(identity: str, tmp_path: Path) -> None:
    """Before anybody is asked for it."""
    with pytest.raises(ConfigError, match=r"is no id of a model; one is owner/name"):
        hub.repository(identity, None, Access(Server("http://127.0.0.1:1"), tmp_path, offline=False))


@pytest.mark.parametrize("revision", ["../x", "a..b", "-x", "/x", "a b", "x\n", ".hidden", "ü", "x" * 201])
def test_a_revision_that_is_none_is_refused(revision: str, tmp_path: Path) -> None:
    """It becomes a part of a path and of an address."""
    with pytest.raises(ConfigError, match="is not a branch, a tag or a commit"):
        hub.repository("a/b", revision, Access(Server("http://127.0.0.1:1"), tmp_path, offline=False))


def test_a_copy_is_found_by_branch_and_by_commit(tmp_path: Path) -> None:
    """Also by the reference of a pull request, which is a path."""
    folder(copied(tmp_path))
    refs = tmp_path / "models--org--Tiny" / "refs"
    (refs / "pr").mkdir(parents=True)
    for name in ("main", "pr/1"):
        (refs / name).write_text(f"{COMMIT}\n")
    by = Access(Server("https://hub.example"), tmp_path, offline=True)
    for revision in (None, "main", "pr/1", COMMIT):
        found = hub.repository("org/Tiny", revision, by)
        assert (found.revision, found.hub, found.address(None)) == (COMMIT, "huggingface", ("org/Tiny", None))
        (spec,) = contents.artefacts(found, "Tiny", Allowed())
        assert (spec.revision, spec.size) == (COMMIT, "0_000000256")


def test_a_copy_is_made_of_links(tmp_path: Path) -> None:
    """To files that are named after their contents."""
    snapshot, blobs = copied(tmp_path), tmp_path / "models--org--Tiny" / "blobs"
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    (blobs / "abc").write_bytes(gguf())
    (snapshot / "tiny-q8_0.gguf").symlink_to(blobs / "abc")
    found = hub.repository("org/Tiny", COMMIT, Access(Server("https://hub.example"), tmp_path, offline=True))
    (spec,) = contents.artefacts(found, "Tiny", Allowed())
    assert (spec.file, spec.bytes) == ("tiny-q8_0.gguf", len(gguf()))
    (blobs / "abc").unlink()
    with pytest.raises(ConfigError, match="it is empty"):
        contents.artefacts(
            hub.repository("org/Tiny", COMMIT, Access(Server("https://hub.example"), tmp_path, offline=True)),
            "Tiny",
            Allowed(),
        )


@pytest.mark.parametrize(
    ("reference", "commit"),
    [
        pytest.param(None, COMMIT, id="no-reference"),
        pytest.param("../../..", COMMIT, id="a-reference-that-is-a-way-out"),
        pytest.param("f" * 40, COMMIT, id="a-reference-to-what-is-not-there"),
        pytest.param("\xff", COMMIT, id="a-reference-that-is-no-text"),
    ],
)
def test_a_cache_that_has_it_not_is_said_to(tmp_path: Path, reference: str | None, commit: str) -> None:
    """With the place where it was looked for, and why nobody else was asked."""
    folder(copied(tmp_path, commit))
    if reference is not None:
        (tmp_path / "models--org--Tiny" / "refs").mkdir()
        (tmp_path / "models--org--Tiny" / "refs" / "main").write_bytes(reference.encode("latin-1"))
    with pytest.raises(ProvisionError) as caught:
        hub.repository("org/Tiny", None, Access(Server("https://hub.example"), tmp_path, offline=True))
    assert str(caught.value) == f"org/Tiny at main is not in {tmp_path}, and HF_HUB_OFFLINE is set"
