"""What runs on a machine: one row for each family, the best first, and every other family counted."""

from __future__ import annotations

import json
import subprocess
from functools import cache
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from xinfer import engines
from xinfer.catalog import DAYS, Shape, Spec
from xinfer.config.compose import Composer
from xinfer.errors import ConfigError
from xinfer.plan import Memory
from xinfer.verbs import candidates, choose
from xinfer.verbs.candidates import Able
from xinfer.verbs.choose import Choice

if TYPE_CHECKING:
    from collections.abc import Callable

    Ask = Callable[..., subprocess.CompletedProcess[str]]


@cache
def composer() -> Composer:
    return Composer(engines.conf_directories())


@cache
def chosen(*typed: str) -> Choice:
    return choose.run(composer().compose(typed), composer())


def able(**parts: Any) -> Able:
    spec = {"size": "7", "format": "gptq", "quantization": "Int4", "abilities": ("chat",), **parts.pop("spec", {})}
    made = Spec(family="f", hub="h", id="a/b", listed=(DAYS[-1],), **spec)
    return Able(
        **{"spec": made, "engine": "vllm", "verdict": "yes", "bits": 4.2, "is_too_large": False, "place": 0, **parts}
    )


GOOD = able()


# --- the ranking ---


@pytest.mark.parametrize(
    ("better", "worse", "says"),
    [
        pytest.param(GOOD, able(verdict="unknown", spec={"size": "70"}), "its rules leave it open", id="a-yes"),
        pytest.param(GOOD, able(bits=3.9, spec={"size": "70"}), "fewer than 4 bits per weight", id="four-bits"),
        pytest.param(GOOD, able(bits=None, spec={"size": "70"}), "fewer than 4 bits per weight", id="known-bits"),
        pytest.param(able(spec={"size": "70"}), able(bits=16.0), "fewer parameters", id="a-larger-model"),
        pytest.param(able(bits=8.5, place=1), GOOD, "fewer than 8 bits per weight", id="eight-bits"),
        pytest.param(GOOD, able(bits=5.0, place=1), "a later engine in the order of the rules", id="the-engine"),
        pytest.param(able(bits=16.0), able(bits=8.5), "fewer bits per weight", id="more-bits"),
        pytest.param(GOOD, able(spec={"abilities": ("generate",)}), "not made for chat", id="for-chat"),
        pytest.param(
            GOOD, able(spec={})._replace(spec=msgspec.structs.replace(GOOD.spec, listed=("2024-08",))),
            "in the newest catalogue no more",
            id="still-there",
        ),
    ],
)  # fmt: skip
def test_the_order(better: Able, worse: Able, says: str) -> None:
    """What is said of the worse one is the first thing by which it is worse."""
    first, second = candidates.rank(better, fit=0), candidates.rank(worse, fit=0)
    assert first < second
    assert candidates.below(first, second) == says


def test_what_fits_comes_before_what_is_larger() -> None:
    """And equals are sorted by name."""
    fits, may = candidates.rank(GOOD, fit=0), candidates.rank(able(spec={"size": "70"}), fit=1)
    assert fits < may
    assert candidates.below(fits, may) == "not known to fit"
    assert candidates.below(fits, fits) == "equal, by name"


@pytest.mark.parametrize(
    ("need", "fit"),
    [
        pytest.param(Memory(fits=True), 0, id="known-to-fit"),
        pytest.param(Memory(weights_gib=10.0, kv_gib=7.0, available_gib=20.0), 0, id="a-tenth-to-spare"),
        pytest.param(Memory(weights_gib=10.0, kv_gib=9.0, available_gib=20.0), 1, id="less-than-that"),
        pytest.param(Memory(weights_gib=1.0, available_gib=20.0), 1, id="a-cache-of-unknown-size"),
        pytest.param(Memory(weights_gib=1.0, kv_gib=1.0), 1, id="a-machine-of-unknown-memory"),
    ],
)
def test_whether_it_fits(need: Memory, fit: int) -> None:
    """Known to, or all but the engine's own need is known and leaves room for it."""
    assert candidates.fit_of(need) == fit


def test_bits() -> None:
    """Of the format, unless a file of known size says better; none where nobody knows."""
    spec = GOOD.spec
    assert candidates.bits_of(spec) == 4.16
    assert candidates.bits_of(msgspec.structs.replace(spec, bytes=7 * 10**9)) == 8.0
    assert candidates.bits_of(msgspec.structs.replace(spec, bytes=7 * 10**9, size=None, shape=Shape())) == 4.16
    assert candidates.bits_of(msgspec.structs.replace(spec, quantization="strange")) is None


def test_one_hub_of_each_artefact() -> None:
    """The preferred one."""
    hubs = [msgspec.structs.replace(GOOD.spec, hub=hub) for hub in ("modelscope", "huggingface")]
    assert [spec.hub for spec in candidates.distinct(hubs, ["huggingface"])] == ["huggingface"]


# --- the catalogue ---

CHAT = ("hw=rtx4090", "workload=chat")


def test_every_family_is_there_once() -> None:
    """In the table, or counted with the reason why it is not."""
    choice = chosen(*CHAT)
    names = [row.family for row in choice.rows] + [name for each in choice.left_out for name in each.families]
    families = [name for name in composer().options("model") if name not in ("hf", "local")]
    assert sorted(names) == sorted(families)
    assert (choice.rules, choice.catalog) == ("xinference-2024-08", "2024-08")
    reasons = {each.reason: each.families for each in choice.left_out}
    assert {"internlm-16k", "internlm-chat-8k"} <= set(reasons["not in the catalogue of 2024-08"])
    large = {"c4ai-command-r-v01", "internlm-chat-20b", "mistral-large-instruct", "mixtral-8x22B-instruct-v0.1"}
    assert large == set(reasons["too large"])


def test_rows_are_planned_and_in_order() -> None:
    """None is known to be too large, and each has a plan's memory; what fits comes first."""
    rows = chosen(*CHAT).rows
    assert all(row.memory.fits is not False and row.verdict == "yes" for row in rows)
    assert rows[0].why.startswith("the first of all")
    fits = [candidates.fit_of(row.memory) for row in rows]
    assert fits == sorted(fits)
    sizes = [row.spec.weights_b or 0.0 for row in rows if candidates.fit_of(row.memory) == 0 and (row.bits or 0) >= 4]
    assert sizes == sorted(sizes, reverse=True)
    (qwen,) = (row for row in rows if row.family == "qwen2-instruct")
    assert (qwen.spec.size, qwen.engine) == ("7", "vllm")
    assert qwen.why.endswith("; 72B too large")


def test_one_engine() -> None:
    """Only what that one serves; a family of which it serves nothing is counted."""
    choice = chosen("hw=m3-max", "hw.memory_gib=64", "engine=mlx")
    assert {row.engine for row in choice.rows} == {"mlx"}
    assert "refused by every engine's rules" in {each.reason for each in choice.left_out}


def test_a_long_context_leaves_short_models_out() -> None:
    """They were made for shorter texts than the workload has."""
    choice = chosen("hw=h100", "context_length=100000")
    reasons = {each.reason: each.families for each in choice.left_out}
    assert "llama-2-chat" in reasons["made for shorter texts"]
    assert "llama-3.1-instruct" in {row.family for row in choice.rows}


def test_an_unknown_memory_is_said() -> None:
    """Then nothing is known to fit, and the head says what to type."""
    choice = chosen("hw=cuda")
    assert choice.notes == (
        "nobody knows what fits: the memory of this machine is not known; say it with hw.gpu.memory_gib=…",
    )
    assert chosen(*CHAT).notes == ()


def test_an_engine_without_rules() -> None:
    """It is no error of the catalogue's."""
    config = composer().compose(["hw=cuda", "engine=vllm", "~rules.engines.vllm", "rules.preference=[mlx]"])
    with pytest.raises(ConfigError, match="rule pack xinference-2024-08 has no rules for engine 'vllm'"):
        choose.run(config, composer())


def test_text_and_json(ask: Ask) -> None:
    """The head says how it is ranked, the last line what is missing."""
    done = ask("choose", *CHAT)
    lines = done.stdout.splitlines()
    assert done.returncode == 0
    assert lines[0].startswith(
        "rtx4090: linux, 1 x NVIDIA GeForce RTX 4090; workload chat: 4 at once, 4096 tokens each; "
    )
    assert lines[1].startswith("best first: a yes of the rules, fits, at least 4 bits per weight, more parameters, ")
    assert lines[4].split() == [
        *("#", "model", "size", "format", "quantization", "bits", "engine", "needs", "of", "GiB", "fits", "for", "why"),
    ]
    count = len(json.loads(ask("choose", *CHAT, "format=json").stdout)["rows"])
    assert lines[-1].startswith(f"{count} families run, ")


def test_nothing_runs(ask: Ask) -> None:
    """The exit code is that of a refusal."""
    done = ask("choose", "hw=cuda", "hw.os=windows", "engine=vllm")
    assert done.returncode == 3
    assert "nothing runs, " in done.stdout
    assert done.stderr.startswith("xinfer: nothing in the catalogue of 2024-08 runs on cuda: windows")
