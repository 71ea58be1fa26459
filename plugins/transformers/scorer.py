"""The log-probabilities of texts that ``transformers serve`` has generated, which itself tells none.

``scorer.py MODEL DTYPE DEVICE TEXTS SCORES``. One file that imports the standard library, torch and transformers
alone: it runs in the engine's environment. The model goes along each text again, token by token.
"""

from __future__ import annotations

import codecs
import json
import re
import sys
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

CUT = "\N{REPLACEMENT CHARACTER}"
"""What a character whose last bytes are not there yet is decoded to."""
CANDIDATES = 50
"""How many of the likeliest tokens are tried as the next one of a text."""
FOLLOWING = bytes(range(0x80, 0xC0))
"""The bytes of UTF-8 that begin no character."""
LONGEST = 4
"""How many bytes, and so tokens, a character may have."""


class Scored(NamedTuple):
    """A token with its log-probability."""

    id: int
    logprob: float


Split = tuple[str, bytes]
"""The text of some tokens, and the bytes of the character that they have begun and not ended."""


def align(
    text: str, count: int, likely: Callable[[list[int]], list[Scored]], split: Callable[[list[int]], Split]
) -> list[tuple[Scored, list[Scored]]]:
    """Return the tokens of a text, each with the likeliest at its place; fewer where the text cannot be followed.

    At each place it is the likeliest token with which the text can go on: what a greedy server has taken. The last
    of ``count`` may add nothing, as the token that ends an answer does; every other adds a character or a part of one.
    """
    ids: list[int] = []
    found: list[tuple[Scored, list[Scored]]] = []
    while len(ids) < count:
        candidates = likely(ids)
        taken = next((each for each in candidates if _fits(text, ids, each.id, count, split)), None)
        if taken is None:
            break
        ids.append(taken.id)
        found.append((taken, candidates))
    return found


def _fits(text: str, before: list[int], new: int, count: int, split: Callable[[list[int]], Split]) -> bool:
    """Say whether a text can go on with a token."""
    said, begun = split([*before, new])
    asked = text.rstrip(CUT)
    if not asked.startswith(said):
        return False
    rest = asked[len(said) :]
    if len(before) + 1 == count:
        return not rest
    may_begin = rest.encode().startswith(begun) if rest else not begun or text != asked
    return may_begin and (said, begun) != split(before)


def byte(token: str) -> bytes:
    """Return the bytes that a token of a vocabulary's file stands for."""
    if number := re.fullmatch(r"<0x([0-9A-F]{2})>", token):
        return bytes.fromhex(number[1])
    return bytes(LETTERS[letter] for letter in token) if LETTERS.keys() >= set(token) else token.encode()


def unfinished(data: bytes) -> bytes:
    """Return what follows the last whole character; a part of one at the beginning does not count."""
    rest = data.lstrip(FOLLOWING)
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        decoder.decode(rest)
    except UnicodeDecodeError as error:
        return rest[error.start :]
    return decoder.getstate()[0]


def _letters() -> dict[str, int]:
    """Return the byte for which each letter stands in vocabularies of bytes: itself where it is printed."""
    shown = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = [value for value in range(0x100) if value not in shown]
    return {chr(value): value for value in shown} | {chr(0x100 + n): value for n, value in enumerate(hidden)}


LETTERS = _letters()


def main(argv: Sequence[str]) -> None:
    """Read the texts, and write the scores whole or not at all."""
    model, dtype, device, texts, scores = argv
    asked = json.loads(Path(texts).read_text(encoding="utf-8"))
    network = Network(model, dtype, device)
    found = {name: score(network, said, asked["top"]) for name, said in asked["questions"].items()}
    partial = Path(f"{scores}.partial")
    partial.write_text(json.dumps(found), encoding="utf-8")
    partial.replace(scores)


def score(network: Network, said: dict[str, Any], top: int) -> dict[str, Any]:
    """Return one text's tokens as JSON has them."""
    network.begin(said["prompt"])
    path = align(said["text"], said["tokens"], network.likely, network.split)
    return {
        "steps": [
            {**network.told(taken), "top": [network.told(each) for each in candidates[:top]]}
            for taken, candidates in path
        ]
    }


class Network:
    """The model, on its way along one text."""

    def __init__(self, model: str, dtype: str, device: str) -> None:
        """Load it as the server does: the same folder, type and device."""
        self._torch = import_module("torch")
        transformers = import_module("transformers")
        place, _, revision = model.partition("@")
        options = {"revision": revision} if revision else {}
        self._tokenizer = transformers.AutoTokenizer.from_pretrained(place, **options)
        kind = dtype if dtype == "auto" else getattr(self._torch, dtype)
        loaded = transformers.AutoModelForCausalLM.from_pretrained(place, dtype=kind, **options)
        self._model = loaded.to(device).eval()
        self._device = device

    def begin(self, prompt: str) -> None:
        """Start a new text; its prompt is read when its first token is asked for."""
        self._next = list(self._tokenizer(prompt)["input_ids"])
        self._read = 0
        self._cache: Any = None

    def likely(self, ids: list[int]) -> list[Scored]:
        """Return the likeliest tokens after the prompt and these, the likeliest first."""
        new = self._next + ids[self._read :]
        self._next, self._read = [], len(ids)
        with self._torch.inference_mode():
            said = self._model(
                self._torch.tensor([new], device=self._device), past_key_values=self._cache, use_cache=True
            )
            self._cache = said.past_key_values
            logprobs = self._torch.log_softmax(said.logits[0, -1].float(), dim=-1)
            values, numbers = logprobs.topk(CANDIDATES)
        return [Scored(number, value) for number, value in zip(numbers.tolist(), values.tolist(), strict=True)]

    def split(self, ids: list[int]) -> Split:
        """Return the text of tokens as the server writes it, and what it leaves out at the end."""
        text: str = self._tokenizer.decode(ids, skip_special_tokens=True)
        said = text.rstrip(CUT)
        tokens = self._tokenizer.convert_ids_to_tokens(ids[-LONGEST:]) if said != text else []
        return said, unfinished(b"".join(map(byte, tokens)))

    def told(self, token: Scored) -> dict[str, Any]:
        """Return a token as JSON has it."""
        return {"id": token.id, "text": self._tokenizer.decode([token.id]), "logprob": token.logprob}


if __name__ == "__main__":
    main(sys.argv[1:])
