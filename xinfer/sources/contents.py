"""What some files are: the artefacts of a folder or a repository, with every fact that their own headers tell."""

from __future__ import annotations

import re
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from xinfer.catalog import Spec
from xinfer.errors import ConfigError
from xinfer.sources import naming, network, packing, safetensors
from xinfer.sources.files import MOST_INDEX_BYTES, fingerprint, mapping, require

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from xinfer.sources.files import Files
    from xinfer.sources.packing import Packing
    from xinfer.sources.safetensors import Header

_WHOLE = "model.safetensors"
_INDEX = f"{_WHOLE}.index.json"
_PICKLE_INDEX = "pytorch_model.bin.index.json"
_MOST_TENSORS = 300_000
"""Half again as many as the largest mixtures of experts have; they take 200 MB."""
_MOST_WEIGHTS = 1000
"""Of files: four times as many as the largest model has."""
_MOST_HEADERS = 64
"""How many shards' headers are read where the files are far away."""
_PARTIAL = re.compile(r"adapter|consolidated|optimizer|training_args|scheduler|rng_state")
"""Weights of something else than the whole network, or in a layout that no engine here is started with."""
_PICKLE = re.compile(r"[^/]+\.(?:bin|pt|pth|ckpt|pkl)")
_TOKENIZERS = frozenset(
    {
        *("tokenizer.json", "tokenizer.model", "tokenizer.model.v3", "tekken.json", "vocab.json", "vocab.txt"),
        *("spiece.model", "sentencepiece.bpe.model"),
    }
)
_TEMPLATES = ("chat_template.jinja", "chat_template.json")


class Allowed(NamedTuple):
    """What the user lets an engine execute."""

    remote_code: bool = False
    pickle: bool = False


class _NotAllowedError(ConfigError):
    """An artefact is what it should be, and needs an allowance that was not given."""


def artefacts(files: Files, name: str | None, allowed: Allowed) -> tuple[Spec, ...]:
    """Return the artefacts among some files, those in Hugging Face's layout first.

    ``name`` is what the model is called; null lets the files say it. Raises ConfigError for files that are
    damaged or missing, for what needs an allowance that was not given, and where there is no model at all.
    """
    ggufs = [spec for group in _groups(files) for spec in gguf(files, group, name)]
    try:
        found = [*_network(files, name, allowed), *ggufs]
    except _NotAllowedError:
        if not ggufs:
            raise
        found = ggufs
    if not found:
        raise ConfigError(f"{files.place}: has no weights that an engine here could load: {_instead(files)}")
    return tuple(found)


def _groups(files: Files) -> Iterator[tuple[str, ...]]:
    """Yield the files of each GGUF: one, or all pieces of a split one."""
    seen: set[str] = set()
    names = [name for name in sorted(files.sizes) if naming.is_model(name)]
    if len(names) > _MOST_WEIGHTS:
        raise ConfigError(f"{files.place}: has {len(names)} GGUF files, more than {_MOST_WEIGHTS}; name one of them")
    for name in names:
        if name not in seen:
            piece = naming.part(name)
            group = piece.siblings if piece else (name,)
            require(group, files.sizes, files.place)
            seen |= set(group)
            yield group


def gguf(files: Files, group: tuple[str, ...], name: str | None) -> Iterator[Spec]:
    """Yield the artefact of a GGUF, which may be several pieces; none for one that is an adapter or only helps one."""
    first = files.gguf(group[0])
    counts = [first.parameters, *(files.gguf(file).parameters for file in group[1:] if files.is_near)]
    metadata = first.metadata
    if metadata.get("general.type", "model") != "model":
        return
    parameters = None if None in counts else sum(count for count in counts if count is not None)
    if parameters == 0:
        raise ConfigError(f"{files.place}: {group[0]} holds a vocabulary and no weights")
    with _placed(f"{files.place}: {group[0]}"):
        described = network.of_gguf(metadata, is_chat="tokenizer.chat_template" in metadata)
    address, file = files.address(group[0])
    stem = naming.part(group[0])
    quantization = first.quantization or naming.quantization(group[0])
    unknown = () if quantization else ("neither its header nor its name says one quantization",)
    title = str(metadata.get("general.name", ""))
    yield Spec(
        family=name or naming.family(title, stem.stem if stem else group[0].rpartition(".")[0]),
        size=naming.size(parameters) if parameters else None, format="ggufv2", quantization=quantization,
        hub=files.hub, id=address, revision=files.revision, file=file, parts=group[1:] if file else (),
        bytes=sum(files.sizes[file] for file in group), fingerprint=fingerprint(files, group),
        context_length=described.context_length, abilities=described.abilities, shape=described.shape,
        note=_note(*described.notes, *unknown),
    )  # fmt: skip


def _network(files: Files, name: str | None, allowed: Allowed) -> Iterator[Spec]:
    """Yield the artefact in Hugging Face's layout, if there is one."""
    tensors = _safetensors(files)
    weights = tensors or _pickles(files)
    if not weights:
        return
    if "config.json" not in files.sizes:
        raise ConfigError(f"{files.place}: has {weights[0]}, but no config.json; download the whole model")
    config, tokenizer = mapping(files, "config.json"), mapping(files, "tokenizer_config.json")
    code = network.remote_code(config, tokenizer)
    _check(files, weights[0], allowed, code=code, is_pickled=not tensors)
    is_chat = "chat_template" in tokenizer or any(file in files.sizes for file in _TEMPLATES)
    generation = mapping(files, "generation_config.json")
    with _placed(f"{files.place}: config.json"):
        described = network.of_config(config, generation, is_chat=is_chat)
    packed, parameters, uncounted = _counted(files, tensors, config)
    yield Spec(
        family=name or naming.family(files.place.rpartition("/")[2]),
        size=naming.size(parameters) if parameters else None, format=packed.format, quantization=packed.quantization,
        hub=files.hub, id=files.address(None)[0], revision=files.revision,
        bytes=sum(files.sizes[file] for file in weights), fingerprint=fingerprint(files, ("config.json", *weights)),
        context_length=described.context_length, abilities=described.abilities, shape=described.shape,
        remote_code=code is not None, pickled=not tensors, note=_note(*described.notes, packed.note, uncounted),
    )  # fmt: skip


def _check(files: Files, first: str, allowed: Allowed, *, code: str | None, is_pickled: bool) -> None:
    """Refuse what is not whole, and what would be executed without having been allowed."""
    if code is None and not _TOKENIZERS & set(files.sizes):  # a tokenizer of its own code has files of its own
        raise ConfigError(f"{files.place}: has no tokenizer, such as tokenizer.json; download the whole model")
    if is_pickled and not allowed.pickle:
        danger = f"has only pickled weights, as {first}, which execute what is in them"
        remedy = "convert them to safetensors, or trust them with model.allow_pickle=true"
        raise _NotAllowedError(f"{files.place}: {danger}; {remedy}")
    if code and not allowed.remote_code:
        remedy = "read it, and trust it with model.allow_remote_code=true"
        raise _NotAllowedError(f"{files.place}: is loaded by executing the Python that it names, {code}; {remedy}")


def _counted(
    files: Files, weights: tuple[str, ...], config: Mapping[str, Any]
) -> tuple[Packing, int | None, str | None]:
    """Return how weights are packed, how many there are, and why that is not known."""
    beside = packing.sidecar(files.sizes)
    said = (beside, mapping(files, beside)) if beside else None
    if not weights:
        return packing.of(config, framework=None, beside=said), None, "pickled weights are not opened to count them"
    first = _header(files, weights[0])
    packed = packing.of(config, framework=first.framework, beside=said)
    if packed.is_plain and files.parameters is not None:
        return packed, files.parameters, None
    if not files.is_near and len(weights) > _MOST_HEADERS:
        return packed, None, f"the headers of its {len(weights)} files are not read from afar to count its weights"
    claimed, tensors = {} if weights == (_WHOLE,) else _claims(files), dict(first.tensors)
    for shard in weights:
        header = first if shard == weights[0] else _header(files, shard)
        lacking = claimed.get(shard, set()) - header.tensors.keys()
        if lacking:
            lie = f"{_INDEX} says that {min(lacking)[:80]!r} is in {shard}, which does not have it"
            raise ConfigError(f"{files.place}: {lie}; download both again")
        tensors |= header.tensors
        if len(tensors) > _MOST_TENSORS:
            raise ConfigError(f"{files.place}: has more than {_MOST_TENSORS} tensors; that is no model")
    return packed, packing.parameters(tensors, packed), None


def _claims(files: Files) -> dict[str, set[str]]:
    """Return which tensors each file has, as the index says."""
    found: dict[str, set[str]] = {}
    for tensor, shard in mapping(files, _INDEX, most_bytes=MOST_INDEX_BYTES).get("weight_map", {}).items():
        found.setdefault(str(shard), set()).add(tensor)
    return found


@contextmanager
def _placed(place: str) -> Iterator[None]:
    """Say in front of an error which file it is about."""
    try:
        yield
    except ConfigError as error:
        raise ConfigError(f"{place}: {error}") from error


def _header(files: Files, name: str) -> Header:
    def fetch(start: int, length: int) -> bytes:
        return files.read(name, start, length)

    return safetensors.read(fetch, files.sizes[name], f"{files.place}: {name}")


def _safetensors(files: Files) -> tuple[str, ...]:
    """Return the safetensors that an engine loads, all of which are there."""
    if _WHOLE in files.sizes:
        return (_WHOLE,)
    if _INDEX in files.sizes:
        return _indexed(files, _INDEX)
    loose = sorted(
        name for name in files.sizes
        if name.endswith(".safetensors") and "/" not in name and not _PARTIAL.search(name)
    )  # fmt: skip
    for name in loose:
        piece = naming.part(name)
        require(piece.siblings if piece else (), files.sizes, files.place)
    return _few(files, loose)


def _pickles(files: Files) -> tuple[str, ...]:
    if _PICKLE_INDEX in files.sizes:
        return _indexed(files, _PICKLE_INDEX)
    found = sorted(name for name in files.sizes if _PICKLE.fullmatch(name) and not _PARTIAL.search(name))
    usual = [name for name in found if name.startswith("pytorch_model")]
    return tuple(usual or found)


def _indexed(files: Files, index: str) -> tuple[str, ...]:
    """Return the files that an index names; ConfigError if one of them is missing, or none of the folder's own."""
    named = mapping(files, index, most_bytes=MOST_INDEX_BYTES).get("weight_map")
    shards = {name for name in named.values() if isinstance(name, str)} if isinstance(named, dict) else set()
    if not shards or any("/" in name or "\\" in name for name in shards):
        raise ConfigError(f"{files.place}: {index} does not name the files of this folder; download it again")
    require(sorted(shards), files.sizes, files.place)
    return _few(files, sorted(shards))


def _few(files: Files, weights: list[str]) -> tuple[str, ...]:
    """Return the names of files whose headers will all be read."""
    if len(weights) > _MOST_WEIGHTS:
        raise ConfigError(f"{files.place}: has {len(weights)} files of weights; no model has more than {_MOST_WEIGHTS}")
    return tuple(weights)


def _instead(files: Files) -> str:
    """Say what is there where no weights are."""
    if "adapter_config.json" in files.sizes:
        return "it is an adapter; name the model that it was trained on"
    large = sorted(files.sizes, key=lambda name: (-files.sizes[name], name))[:3]
    return f"no GGUF, no safetensors; only {', '.join(large)}" if large else "it is empty"


def _note(*reasons: str | None) -> str | None:
    return "; ".join(reason for reason in reasons if reason) or None
