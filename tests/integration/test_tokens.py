"""Tokenizers of servers and of programs, and runs whose prompts are counted by them."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from xinfer import convert
from xinfer.errors import RequestError
from xinfer.measuring import tokens
from xinfer.measuring.client import Client, Target
from xinfer.measuring.load import drive
from xinfer.measuring.metrics import flags
from xinfer.measuring.samples import Samples
from xinfer.spec import Workload
from xinfer.testing.reference_server import Behaviour, serving
from xinfer.testing.reference_server import tokens as reference_tokens

FAST = Behaviour(ttft_s=0.002, gap_s=0.0)
SCRIPT = Path(convert.__file__).parent / "text_to_ids.py"
PACKAGES = {
    "tokenizers": """
import pathlib
class Tokenizer:
    @classmethod
    def from_file(cls, path):
        made = cls()
        made.base = int(pathlib.Path(path).read_text())
        made.steps = []
        return made
    def no_truncation(self): self.steps.append("whole")
    def no_padding(self): self.steps.append("bare")
    def encode(self, text, add_special_tokens):
        assert self.steps == ["whole", "bare"]
        made = type("Encoding", (), {})()
        made.ids = [1] * add_special_tokens + [self.base + len(word) for word in text.split()]
        return made
""",
    "transformers": """
class AutoTokenizer:
    @classmethod
    def from_pretrained(cls, place, revision="main"):
        made = cls()
        made.name = f"{place}@{revision}"
        return made
    def encode(self, text, add_special_tokens):
        return [len(self.name), int(add_special_tokens), len(text)]
""",
    "huggingface_hub": """
import os
def try_to_load_from_cache(place, name, revision=None):
    path = f"{os.environ['HUB']}/{place}/{revision or 'main'}/{name}"
    return path if os.path.exists(path) else object()
""",
}
"""Just enough of the packages of an engine's environment."""


def workload(**changes: Any) -> Workload:
    plain = Workload(name="w", input_tokens=40, output_tokens=4, concurrency=2, requests=4, warmup=2, timeout_s=5)
    return msgspec.structs.replace(plain, **changes)


def run(behaviour: Behaviour, *, argv: tuple[str, ...] = (), **changes: Any) -> tuple[Samples, list[str]]:
    """Drive a workload; return its samples, and the prompts of its requests."""
    with serving(behaviour) as server:
        target = Target(url=server.url, model="reference", request={"ignore_eos": True}, tokenizer=argv)
        samples = drive(target, workload(**changes), run_id="run")
        return samples, [served.prompt for served in server.log][-6:]


def flag_ids(samples: Samples, **changes: Any) -> set[str]:
    """Return the flags on prompts."""
    return {flag.id for flag in flags(samples, workload(**changes))} & {"isl_mismatch", "cache_hit"}


REFERENCE = """
import json, sys
from xinfer.testing.reference_server import tokens
for line in sys.stdin:
    asked = json.loads(line)
    print(json.dumps([tokens(text) for text in asked["texts"]]), flush=True)
"""
BESIDE = (sys.executable, "-c", REFERENCE)
"""A program that tokenizes as the reference server does."""


@pytest.mark.parametrize("field", ["content", "prompt"])
def test_a_servers_tokenizer_is_found(field: str) -> None:
    """Whatever the field is called: each text has the server's own ids."""

    async def found(url: str) -> list[list[int]]:
        async with Client(Target(url=url, model="reference")) as client:
            opens = await tokens.endpoint(client)
            assert opens is not None
            return await opens(client).encode(["Down the Rabbit-Hole", "", "beginning"] * 10)

    with serving(msgspec.structs.replace(FAST, tokenizer=field)) as server:
        assert (
            asyncio.run(found(server.url)) == [*map(reference_tokens, ["Down the Rabbit-Hole", "", "beginning"])] * 10
        )


def test_a_server_without_a_tokenizer_has_none() -> None:
    """It is asked wherever servers have one, and then the program is asked, if there is one."""

    async def found(url: str) -> object:
        async with Client(Target(url=url, model="reference")) as client:
            return await tokens.endpoint(client)

    with serving(msgspec.structs.replace(FAST, tokenizer=None)) as server:
        assert asyncio.run(found(server.url)) is None


def test_a_tokenizer_that_stops_answering_is_an_error() -> None:
    """The address and what became of the request are in it."""

    async def asked(url: str) -> None:
        async with Client(Target(url=url, model="reference")) as client:
            await tokens.Endpoint(client, "sglang").encode(["a"])

    with serving(FAST) as server, pytest.raises(RequestError, match=r"^http://127.+/v1/tokenize: no tokens: http 404$"):
        asyncio.run(asked(server.url))


def test_text_is_as_exact_as_ids() -> None:
    """A server that takes text alone gets prompts of the very tokens, and the hash is the same."""
    by_ids, _ = run(FAST)
    as_text, sent = run(msgspec.structs.replace(FAST, token_ids=False))
    beside, also_sent = run(msgspec.structs.replace(FAST, tokenizer=None), argv=BESIDE)
    assert {samples.run.prompts for samples in (as_text, beside)} == {"text"}
    assert {sample.prompt_tokens for samples in (by_ids, as_text, beside) for sample in samples.samples} == {40}
    assert by_ids.run.prompts_hash == as_text.run.prompts_hash == beside.run.prompts_hash
    assert sorted(sent) == sorted(also_sent)
    assert {flag_ids(samples) == set() for samples in (by_ids, as_text, beside)} == {True}


def test_tokens_that_a_server_adds_are_counted_in() -> None:
    """One that puts two tokens before every prompt gets texts that are shorter by two, and it is noted."""
    samples, _ = run(msgspec.structs.replace(FAST, tokenizer=None, extra_prompt_tokens=2), argv=BESIDE)
    assert {sample.prompt_tokens for sample in samples.samples} == {40}
    assert samples.run.capabilities.prompt_offset == 2


def test_without_any_tokenizer_the_difference_is_recorded_and_flagged() -> None:
    """Words are an estimate: what the server counted is in each sample."""
    samples, _ = run(msgspec.structs.replace(FAST, tokenizer=None), input_tokens=200)
    assert len({sample.prompt_tokens for sample in samples.samples}) > 1
    assert flag_ids(samples, input_tokens=200) == {"isl_mismatch"}


def test_prompts_share_what_the_workload_says() -> None:
    """Half of each is the same text, and a cache that knows it is no reason for doubt; one that knows more is."""
    behaviour = msgspec.structs.replace(FAST, token_ids=False, cached_tokens=20)
    samples, sent = run(behaviour, shared_prefix=0.5)
    ids = [reference_tokens(text) for text in sent]
    assert [len({tuple(each[:size]) for each in ids}) for size in (19, 21)] == [1, 6]
    assert flag_ids(samples, shared_prefix=0.5) == set()
    more, _ = run(msgspec.structs.replace(behaviour, cached_tokens=22), shared_prefix=0.5)
    assert flag_ids(more, shared_prefix=0.5) == {"cache_hit"}


@pytest.fixture(name="environ")
def _environ(tmp_path: Path) -> dict[str, str]:
    """Return the variables of a process that finds the packages above."""
    for name, source in PACKAGES.items():
        (tmp_path / f"{name}.py").write_text(source, encoding="utf-8")
    return {**os.environ, "PYTHONPATH": str(tmp_path), "HUB": str(tmp_path / "hub")}


def answers(model: str, environ: dict[str, str]) -> list[list[list[int]]]:
    """Return what the shipped program says to two questions."""
    asked = [{"texts": ["a bc", "def"], "special": False}, {"texts": ["a bc"], "special": True}]
    lines = "".join(json.dumps(one) + "\n" for one in asked)
    done = subprocess.run(
        [sys.executable, str(SCRIPT), model], input=lines, capture_output=True, text=True, check=True, env=environ
    )
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_the_program_reads_a_folders_tokenizer(tmp_path: Path, environ: dict[str, str]) -> None:
    """The file alone is enough, which is read without what else the model's makers say of it."""
    (tmp_path / "tokenizer.json").write_text("100", encoding="utf-8")
    assert answers(str(tmp_path), environ) == [[[101, 102], [103]], [[1, 101, 102]]]


@pytest.mark.parametrize(("model", "base"), [("org/model", 100), ("org/model@abc", 200)])
def test_the_program_reads_what_was_fetched_from_a_hub(
    tmp_path: Path, environ: dict[str, str], model: str, base: int
) -> None:
    """The engine has put it into the hub's cache: in the revision that was asked for."""
    for revision, number in (("main", 100), ("abc", 200)):
        folder = tmp_path / "hub" / "org/model" / revision
        folder.mkdir(parents=True)
        (folder / "tokenizer.json").write_text(str(number), encoding="utf-8")
    assert answers(model, environ)[0] == [[base + 1, base + 2], [base + 3]]


@pytest.mark.parametrize(("model", "name"), [("org/model", "org/model@main"), ("org/model@abc", "org/model@abc")])
def test_a_model_without_that_file_is_left_to_transformers(environ: dict[str, str], model: str, name: str) -> None:
    """It takes longer, and knows every tokenizer that the engine does."""
    assert answers(model, environ) == [[[len(name), 0, 4], [len(name), 0, 3]], [[len(name), 1, 4]]]
