"""A model's repository on the Hugging Face hub; the copy of it in the cache here where the hub does not answer."""

from __future__ import annotations

import os
import re
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote, urlsplit

import msgspec

from xinfer.errors import ConfigError, ProvisionError
from xinfer.sources import files, gguf, limits, naming
from xinfer.sources.files import Weights
from xinfer.sources.web import DenialError, Server, SilentError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from xinfer.sources.files import Files

_ENDPOINT = "https://huggingface.co"
_MAIN = "main"
_YES = frozenset({"1", "on", "yes", "true"})
_NAME = r"(?![-.])(?!.*(?:--|\.\.))[A-Za-z0-9_.-]{1,96}(?<![-.])"
_ID = re.compile(rf"(?:{_NAME}/)?{_NAME}(?<!\.git)")
_REVISION = re.compile(r"(?![-/.])(?!.*\.\.)[\w./+-]{1,200}", re.ASCII)
_COMMIT = re.compile(r"[0-9a-f]{40,64}")
_FILE = re.compile(r"(?!-)(?!.*(?:^|/)\.\.(?:/|$))[^/\\\0-\x1f][^\\\0-\x1f]*")
"""A file whose name is neither a flag nor a way out of its folder."""
_MOST_LISTING_BYTES = 32 * 2**20
_MOST_LISTED = 2**20
"""Values in a listing: of a hundred thousand files, with all that is said of each."""
_BEGINNING_BYTES = 2**16
"""Of a GGUF file: what is said of the network comes before the vocabulary."""
_MOST_GGUFS, _AT_ONCE = 64, 8
_WHOLE = naming.Part("", 1, 1, "")
_NETWORK = ("block_count", "embedding_length", "feed_forward_length")


class Access(NamedTuple):
    """How the hub and its cache are reached, as Hugging Face's own environment variables say."""

    server: Server
    cache: Path
    offline: bool


class _File(msgspec.Struct):
    rfilename: str
    size: int | None = None


class _Listing(msgspec.Struct):
    """What the hub answers for ``/api/models/ID/revision/REVISION?blobs=true``."""

    sha: str
    siblings: list[_File] = []
    safetensors: dict[str, Any] | None = None
    gguf: dict[str, Any] | None = None

    @property
    def sizes(self) -> dict[str, int]:
        """The files that can be asked for by their names."""
        return {
            file.rfilename: file.size
            for file in self.siblings
            if file.size is not None and _FILE.fullmatch(file.rfilename)
        }


def access(environ: Mapping[str, str]) -> Access:
    """Read the environment; ConfigError names the variable that means nothing."""
    url = (environ.get("HF_ENDPOINT") or _ENDPOINT).rstrip("/")
    if urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).hostname:
        raise ConfigError("HF_ENDPOINT is not the address of a hub, such as https://huggingface.co")
    token = (environ.get("HF_TOKEN") or "").strip()
    if not token.isascii() or not token.isprintable() or " " in token:
        raise ConfigError("HF_TOKEN is no token: it holds spaces, line breaks or letters that no token has")
    home = environ.get("HF_HOME") or f"{environ.get('XDG_CACHE_HOME') or '~/.cache'}/huggingface"
    cache = environ.get("HF_HUB_CACHE") or environ.get("HUGGINGFACE_HUB_CACHE") or f"{home}/hub"
    offline = (environ.get("HF_HUB_OFFLINE") or environ.get("TRANSFORMERS_OFFLINE") or "").lower() in _YES
    return Access(Server(url, token or None), Path(os.path.expandvars(cache)).expanduser(), offline)


def repository(identity: str, revision: str | None, by: Access) -> Files:
    """Return a repository's files at a branch, tag or commit; without one at ``main``.

    Raises ConfigError for what does not exist or may not be read, ProvisionError where neither the hub
    answers nor the cache has it.
    """
    wanted = revision or _MAIN
    if not _ID.fullmatch(identity):
        raise ConfigError(f"model.id={identity!r} is no id of a model; one is owner/name, as Qwen/Qwen2-0.5B-Instruct")
    if not _REVISION.fullmatch(wanted):
        raise ConfigError(f"model.revision={wanted!r} is not a branch, a tag or a commit")
    why = "HF_HUB_OFFLINE is set"
    if not by.offline:
        try:
            return _Repository(identity, _listing(identity, wanted, by.server), by.server)
        except SilentError as silent:
            why = f"{by.server.host} does not answer ({silent})"
    copy = _copy(identity, wanted, by.cache)
    if copy is None:
        raise ProvisionError(f"{identity} at {wanted} is not in {by.cache}, and {why}")
    return copy


class _Repository:
    """Files on the hub, read in small parts."""

    hub = "huggingface"
    is_near = False

    def __init__(self, identity: str, listing: _Listing, server: Server) -> None:
        self.revision: str | None = listing.sha
        self.place = f"{identity} on {server.host}"
        self.sizes: Mapping[str, int] = listing.sizes
        self.parameters = _total(listing.safetensors)
        self._identity, self._server = identity, server
        self._listed = listing.gguf or {}
        self._beginnings: dict[str, dict[str, Any]] | None = None

    def read(self, name: str, start: int, length: int) -> bytes:
        """Return exactly these bytes of a file; ProvisionError where the hub stops answering."""
        path = f"/{self._identity}/resolve/{self.revision}/{quote(name)}"
        try:
            found = self._server.part(path, start, length) if length else b""
        except SilentError as silent:
            raise ProvisionError(f"{self.place}: {name}: no answer ({silent}); try again") from silent
        except DenialError as denial:
            raise _explained(denial, self._identity, str(self.revision), self._server) from denial
        if len(found) != length:
            raise ProvisionError(f"{self.place}: {name}: the answer is not whole; try again")
        return found

    def gguf(self, name: str) -> Weights:
        """Return what the beginning of a GGUF file says, and what the hub has counted where that must be this one's."""
        if self._beginnings is None:
            self._beginnings = self._read_beginnings()
        metadata = dict(self._beginnings.get(name, {}))
        networks = {_network(found) for found in self._beginnings.values()}
        if len(networks) != 1 or name not in self._beginnings:
            return Weights(metadata, None, None)
        if self._listed.get("chat_template"):
            metadata["tokenizer.chat_template"] = ""
        return Weights(metadata, _total(self._listed), None)

    def _read_beginnings(self) -> dict[str, dict[str, Any]]:
        names = [name for name in sorted(self.sizes) if naming.is_model(name)]
        firsts = [name for name in names if (naming.part(name) or _WHOLE).number == 1][:_MOST_GGUFS]

        def begin(name: str) -> dict[str, Any]:
            data = self.read(name, 0, min(self.sizes[name], _BEGINNING_BYTES))
            return gguf.beginning(data, self.sizes[name], f"{self.place}: {name}")

        with ThreadPoolExecutor(_AT_ONCE) as threads:
            return dict(zip(firsts, threads.map(begin, firsts), strict=True))

    def address(self, name: str | None) -> tuple[str, str | None]:
        """Return the repository's id and the file in it."""
        return self._identity, name


def _listing(identity: str, wanted: str, server: Server) -> _Listing:
    path = f"/api/models/{identity}/revision/{quote(wanted, safe='')}?blobs=true"
    try:
        listed = server.get(path, most=_MOST_LISTING_BYTES)
        if limits.values(listed) > _MOST_LISTED:
            raise ConfigError(f"{server.host}{path}: lists more than {_MOST_LISTED} values; that is no model")
        listing = msgspec.json.decode(listed, type=_Listing)
    except DenialError as denial:
        raise _explained(denial, identity, wanted, server) from denial
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        listing = _Listing(sha="")
    if not _COMMIT.fullmatch(listing.sha):
        raise ProvisionError(f"{server.host} answers, but not as a hub of models does; is HF_ENDPOINT right?")
    return listing


def _explained(denial: DenialError, identity: str, wanted: str, server: Server) -> ConfigError | ProvisionError:
    """Say what a refusal means; a hub does not tell strangers whether a model is private or does not exist."""
    if denial.status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        remedy = "set HF_TOKEN to a token that may read it"
        if server.token:
            remedy = f"the token in HF_TOKEN may not read it; accept its conditions at {server.host}/{identity} first"
        return ConfigError(
            f"{server.host} does not show {identity}: it does not exist, is private or is gated; {remedy}"
        )
    if denial.status != HTTPStatus.NOT_FOUND:
        return ProvisionError(f"{server.host} refuses to show {identity}: HTTP {denial.status}")
    if denial.reason == "RevisionNotFound":
        return ConfigError(f"{identity} has no branch, tag or commit {wanted!r} on {server.host}")
    return ConfigError(f"there is no model {identity!r} on {server.host}")


def _copy(identity: str, wanted: str, cache: Path) -> Files | None:
    """Return the copy in the cache of what a branch, tag or commit was when it was last downloaded."""
    root = cache / f"models--{identity.replace('/', '--')}"
    try:
        with (root / "refs" / wanted).open("rb") as stream:
            commit = stream.read(100).decode(errors="replace").strip()
    except OSError:
        commit = wanted
    snapshot = root / "snapshots" / commit
    if not _COMMIT.fullmatch(commit) or not snapshot.is_dir():
        return None
    return files.folder(snapshot, hub="huggingface", name=identity, revision=commit)


def _total(said: Mapping[str, Any] | None) -> int | None:
    """Return a number of elements that the hub has counted."""
    total = (said or {}).get("total")
    return total if isinstance(total, int) and total > 0 else None


def _network(metadata: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return what files of one network share, and files of others hardly ever do."""
    name = metadata.get("general.architecture")
    return name, *(metadata.get(f"{name}.{key}") for key in _NETWORK)
