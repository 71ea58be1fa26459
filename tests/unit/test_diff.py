"""``xinfer diff``: two packs typed, every disagreement printed with its reason, in three formats."""

from __future__ import annotations

import csv
import io
import json
import re
from typing import TYPE_CHECKING

import pytest

from xinfer.errors import ConfigError
from xinfer.verbs import diff

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable

    Ask = Callable[..., subprocess.CompletedProcess[str]]

PAGE, CODE, TODAY = "rules=xinference-2024-08", "rules=xinference-2024-08-code", "rules=engines-2026-11"
OLD = ("engine=vllm", "engine.version=0.5.4")


def test_in_print(ask: Ask) -> None:
    """The packs, the machine, how much was judged; then each reason with its condition and what it is about."""
    out = ask("diff", PAGE, CODE, "hw=h100", *OLD).stdout.splitlines()
    assert out[0].startswith("xinference-2024-08 and xinference-2024-08-code on h100: ")
    assert out[1] == "catalogue of 2024-08: 1332 artefacts, 1 engines; 1 of 1332 verdicts differ"
    assert out[3] == "vllm: xinference-2024-08 says no, xinference-2024-08-code says yes; 1 artefact"
    assert out[4].startswith(
        "  FAILED  gptq-quantization: model.quantization is 8bits; expected one of Int3, Int4, Int8"
    )
    assert out[5:] == ["    Yi-chat gptq 8bits: 34"]


def test_as_a_table(ask: Ask) -> None:
    """One line for each artefact and engine, with both answers and the conditions behind them."""
    rows = list(csv.DictReader(io.StringIO(ask("diff", PAGE, CODE, "hw=h100", "format=csv", *OLD).stdout)))
    assert rows == [
        {
            "family": "Yi-chat", "size": "34", "format": "gptq", "quantization": "8bits", "engine": "vllm",
            "first": "no", "second": "yes", "first_against": "gptq-quantization", "second_against": "",
        }
    ]  # fmt: skip


def test_as_a_document(ask: Ask) -> None:
    """The same for programs, the conditions with their sources."""
    found = json.loads(ask("diff", PAGE, CODE, "hw=h100", "format=json", *OLD).stdout)
    assert [found[key] for key in ("schema", "first", "second", "catalog")] == [
        1, "xinference-2024-08", "xinference-2024-08-code", "2024-08",
    ]  # fmt: skip
    assert [found[key] for key in ("engines", "artefacts", "verdicts", "differing")] == [["vllm"], 1332, 1332, 1]
    (group,) = found["groups"]
    (condition,) = group["first_against"]
    assert (condition["id"], condition["observed"], condition["source"]["at"]) == (
        "gptq-quantization", ["8bits"], "vLLM, condition 4",
    )  # fmt: skip
    assert group["artefacts"] == [{"family": "Yi-chat", "size": "34", "format": "gptq", "quantization": "8bits"}]


def test_of_one_model(ask: Ask) -> None:
    """What is typed of a model limits it to that; each artefact counts once, however many hubs have it."""
    found = json.loads(
        ask("diff", PAGE, TODAY, "hw=h100", "model=qwen-chat", "model.format=pytorch", "format=json").stdout
    )
    assert found["artefacts"] == 12
    removed = [group for group in found["groups"] if group["engine"] == "vllm" and group["first"] == "yes"]
    assert [[each["id"] for each in group["second_against"]] for group in removed] == [["removed-in-0.24"]]
    assert {each["size"] for each in removed[0]["artefacts"]} == {"1_8", "7", "14", "72"}


def test_the_version_that_was_typed_is_judged(ask: Ask) -> None:
    """As of 0.23.0 vLLM still has what the page names."""
    typed = ("hw=h100", "engine=vllm", "model=qwen-chat", "model.format=pytorch", "model.quantization=none")
    assert "removed-in-0.24" in ask("diff", PAGE, TODAY, *typed).stdout
    assert "0 of 4 verdicts differ" in ask("diff", PAGE, TODAY, *typed, "engine.version=0.23.0").stdout


def test_long_lists_are_cut_in_print(ask: Ask) -> None:
    """A group shows a dozen lines, and says how many there are more."""
    out = ask("diff", PAGE, CODE, "hw=h100", "engine=transformers").stdout.splitlines()
    assert out[1].endswith("92 of 1332 verdicts differ")
    assert out[-1] == "    … and 25 lines more; format=csv has them all"
    assert len([line for line in out if line.startswith("    ")]) == 13


def test_a_condition_that_a_version_does_not_have(ask: Ask) -> None:
    """A plan says of a condition that is not in force whether it is still to come or gone, and for which version."""
    typed = ("hw=h100", TODAY, "engine=vllm", "model=qwen-chat", "model.format=pytorch")
    plan = ask("plan", *typed, "engine.version=0.23.0").stdout
    assert re.search(r"^  not yet removed-in-0.24: .* since version 0.24.0, judged for 0.23.0  \[", plan, re.MULTILINE)
    assert re.search(r"^  no more new-in-0.19: .* before version 0.19.0, judged for 0.23.0  \[", plan, re.MULTILINE)
    refused = ask("plan", *typed)
    assert refused.returncode == 3
    assert "            another model, or another engine, or engine.version=0.23.0\n" in refused.stdout


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        pytest.param([], "there is none", id="none"),
        pytest.param([PAGE], f"there is 1 of them: {PAGE}", id="one"),
        pytest.param([PAGE, CODE, TODAY], f"there are 3 of them: {PAGE} {CODE} {TODAY}", id="three"),
    ],
)
def test_two_packs_are_compared(typed: list[str], said: str) -> None:
    """No more, no fewer, and the message shows how."""
    with pytest.raises(ConfigError) as error:
        diff.words([*typed, "hw=cpu"])
    assert str(error.value) == (
        f"diff compares two rule packs, as in rules=xinference-2024-08 rules=engines-2026-11; {said}"
    )


def test_an_engine_that_a_pack_does_not_know(ask: Ask) -> None:
    """Nothing can be compared."""
    answer = ask("diff", PAGE, TODAY, "hw=cpu", "engine=external")
    assert (answer.returncode, answer.stderr) == (
        2,
        "xinfer: rule pack xinference-2024-08 has no rules for engine 'external'\n",
    )
