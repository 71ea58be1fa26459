"""Tokenizes for a load generator whose server does it for nobody, with the model's own tokenizer.

``text_to_ids.py MODEL``: a folder, or an id on Hugging Face's hub that is in its cache, with a revision after an @.
Reads a line of JSON, ``{"texts": [...], "special": false}``, and writes one with the ids of each text, until its input
ends. One file that imports the standard library and what every engine on Hugging Face's stack has: it runs in the
engine's environment.
"""

from __future__ import annotations

import json
import sys
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    Encode = Callable[[str, bool], list[int]]

FILE = "tokenizer.json"


def found(place: str, revision: str | None) -> str | None:
    """Return where a model's ``tokenizer.json`` lies on this machine; null where it has none, or is not there."""
    if Path(place).is_absolute():
        path = Path(place, FILE)
        return str(path) if path.is_file() else None
    cached = import_module("huggingface_hub").try_to_load_from_cache(place, FILE, revision=revision)
    return cached if isinstance(cached, str) else None


def loaded(model: str) -> Encode:
    """Return a function that tokenizes a text, with the tokens that the model puts around it or without.

    The file alone is read in milliseconds; Transformers, which takes many seconds, is for models without such a file.
    """
    place, _, revision = model.partition("@")
    path = found(place, revision or None)
    if path is None:
        options = {"revision": revision} if revision else {}
        slow = import_module("transformers").AutoTokenizer.from_pretrained(place, **options)
        return lambda text, special: list(slow.encode(text, add_special_tokens=special))
    fast = import_module("tokenizers").Tokenizer.from_file(path)
    fast.no_truncation()
    fast.no_padding()
    return lambda text, special: list(fast.encode(text, add_special_tokens=special).ids)


def main(model: str) -> None:
    """Answer line by line."""
    encode = loaded(model)
    for line in sys.stdin:
        asked = json.loads(line)
        sys.stdout.write(json.dumps([encode(text, asked["special"]) for text in asked["texts"]]) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1])
