"""The log-probabilities of texts that ``transformers serve`` has generated, which itself tells none.

``scorer.py MODEL DTYPE DEVICE TEXTS SCORES``. One file that imports the standard library, torch and transformers
alone: it runs in the engine's environment. The model goes along each text again, token by token.
"""

from __future__ import annotations

import json
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


class Scored(NamedTuple):
    """A token with its log-probability."""

    id: int
    logprob: float


def align(
    text: str, count: int, likely: Callable[[list[int]], list[Scored]], decode: Callable[[list[int]], str]
) -> list[tuple[Scored, list[Scored]]]:
    """Return the tokens of a text, each with the likeliest at its place; fewer where the text cannot be followed.

    At each place it is the likeliest token with which the text can go on: what a greedy server has taken. The last
    of ``count`` may add nothing, as the token that ends an answer does; every other adds a character or a part of one.
    """
    ids: list[int] = []
    found: list[tuple[Scored, list[Scored]]] = []
    while len(ids) < count:
        candidates = likely(ids)
        taken = next((each for each in candidates if _fits(text, [*ids, each.id], ids, count, decode)), None)
        if taken is None:
            break
        ids.append(taken.id)
        found.append((taken, candidates))
    return found


def _fits(text: str, ids: list[int], before: list[int], count: int, decode: Callable[[list[int]], str]) -> bool:
    """Say whether a text begins with these tokens, the last of which is new."""
    said, so_far = decode(ids), decode(before)
    if len(ids) == count:
        return said.rstrip(CUT) == text.rstrip(CUT)
    return text.startswith(said.rstrip(CUT)) and (said != so_far or said.endswith(CUT))


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
    path = align(said["text"], said["tokens"], network.likely, network.decode)
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

    def decode(self, ids: list[int]) -> str:
        """Return the text of tokens as the server writes it."""
        text: str = self._tokenizer.decode(ids, skip_special_tokens=True)
        return text

    def told(self, token: Scored) -> dict[str, Any]:
        """Return a token as JSON has it."""
        return {"id": token.id, "text": self._tokenizer.decode([token.id]), "logprob": token.logprob}


if __name__ == "__main__":
    main(sys.argv[1:])
