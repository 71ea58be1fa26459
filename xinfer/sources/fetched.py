"""Whether a model's folder from a hub is loaded without executing anything that somebody has put into it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from xinfer.errors import ConfigError, ProvisionError
from xinfer.sources import contents, files, network
from xinfer.sources.contents import Allowed

if TYPE_CHECKING:
    from pathlib import Path

_NEITHER = "neither Python nor pickles are fetched; for a copy of your own, say model=local model.path="


def check(directory: Path, *, is_whole: bool) -> None:
    """Refuse a folder that needs its own Python or pickles, or is damaged; ProvisionError says which.

    Before it is whole only its description is looked at, so that no weights are fetched in vain.
    """
    try:
        folder = files.folder(directory)
        described = [files.mapping(folder, name) for name in ("config.json", "tokenizer_config.json")]
        code = network.remote_code(*described)
        if code is None and is_whole:
            contents.artefacts(folder, None, Allowed())
    except ConfigError as error:
        raise ProvisionError(f"{error}; {_NEITHER}") from error
    if code:
        raise ProvisionError(f"{directory}: is loaded by executing the Python that it names, {code}; {_NEITHER}")
