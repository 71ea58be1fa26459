"""Composing from parts: whatever is typed, the outcome is Hydra's own, and it is there at once."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from xinfer import engines, judgement
from xinfer.config.compose import Composer
from xinfer.config.pieces import Pieces
from xinfer.errors import ConfigError, XinferError

GROUPS = {
    "model": ["smollm2-135m-instruct", "qwen2-instruct", "local", "nope"],
    "hw": ["cuda", "apple"],
    "engine": ["vllm", "llama_cpp", "auto"],
    "workload": ["smoke", "chat", "_load"],
    "rules": ["xinference-2024-07", "engines-2026-11"],
}
PLAIN = [
    *("model.size=1_5", "model.size=7", "model.quantization=Int4", "model.quantization=null", "model.path=/a,b"),
    *("hw.gpus=2", "hw.memory_gib=64", "hw.gpu.memory_gib=24.5", "hw.gpu={memory_gib: 3}", "hw.nope=1"),
    *("engine.version=3.10", "engine.args.max-model-len=8192", "engine.args.a={b: [1, 2]}", "engine.build=native"),
    *("+engine.args.b=1", "++engine.env.HOME=/x", "engine.args.c=${hw.gpus}", "engine.slots=4", "engine=null"),
    *("workload.concurrency=4", "workload.requests=7", "workload.concurrency=1,2", "+workload.concurrency=3"),
    *("~rules.engines.vllm.family", "~workload.rate", "rules.engines.vllm.linux.eq=linux", "rules.engines.vllm=null"),
    *("context_length=4096", "dtype=float32", "nope=1", "+nope=1", "prefer.formats=[gptq]", "repeat.least=3"),
    *("prefer.quantizations=[a,b,c,d,e,f,g,h,i,j]", "api_key_env=A_B", "api_key_env=a b", "runs=a/b", "resume=off"),
    *("hydra.job.name=x", "model.family=x", "workload.seconds=1e3", "catalog=2024-08", "home=???", "x y=1"),
]
TYPED = st.tuples(
    st.fixed_dictionaries({}, optional={group: st.sampled_from(names) for group, names in GROUPS.items()}),
    st.lists(st.sampled_from(PLAIN), max_size=4),
).map(lambda parts: [*(f"{group}={name}" for group, name in parts[0].items()), *parts[1]])


@pytest.fixture(scope="module")
def both() -> tuple[Composer, Pieces]:
    directories = engines.conf_directories()
    return Composer(directories), Pieces(directories)


def outcome(composer: Composer, overrides: list[str]) -> Any:
    """Return the configuration with the order of its keys, or the error's one line."""
    try:
        return msgspec.json.encode(composer.compose(overrides))
    except ConfigError as error:
        return str(error)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(typed=TYPED)
def test_the_outcome_is_hydras_own(both: tuple[Composer, Pieces], typed: list[str]) -> None:
    """A configuration or an error, the first time and from what is remembered."""
    hydra, pieces = both
    assert outcome(pieces, typed) == outcome(pieces, typed) == outcome(hydra, typed)


@pytest.mark.parametrize(
    "typed",
    [
        pytest.param(["workload=smoke", "workload.requests=3", "workload=chat"], id="a-group-that-is-chosen-twice"),
        pytest.param(
            ["engine=vllm", "engine.nope=1", "workload.nope=2"], id="two-nodes-are-wrong-and-the-first-is-told"
        ),
        pytest.param(["workload.nope=2", "engine=vllm", "engine.nope=1"], id="and-so-in-the-other-order"),
        pytest.param(["engine.args.a=${workload.name}"], id="a-value-that-refers-to-another-node"),
        pytest.param(["model=nope"], id="a-name-that-does-not-exist"),
        pytest.param(["workload.concurrency=1,2"], id="several-values"),
        pytest.param(["model=qwen2-instruct", "model.size=1_5", "model.size=7"], id="a-value-that-is-given-twice"),
    ],
)
def test_what_is_easily_got_wrong(both: tuple[Composer, Pieces], typed: list[str]) -> None:
    """Also here the outcome is the same."""
    hydra, pieces = both
    assert outcome(pieces, typed) == outcome(pieces, typed) == outcome(hydra, typed)


@pytest.mark.parametrize(
    ("files", "typed"),
    [
        pytest.param(
            {"workload/mine.yaml": "# @package _global_\ncontext_length: 5\n"}, ["workload=mine"], id="package"
        ),
        pytest.param(
            {"workload/mine.yaml": "defaults: [chat, _self_]\nname: mine\nrequests: 3\n"},
            ["workload=mine", "workload.rate=2"],
            id="a-file-made-of-another",
        ),
        pytest.param(
            {"workload/mine.yaml": "defaults: [chat, /hw@_here_: cpu]\nname: mine\n"},
            ["workload=mine"],
            id="of-another-group",
        ),
        pytest.param(
            {"engine/mine.yaml": "name: mine\nargs: {a: '${hw.gpus}'}\n"},
            ["engine=mine", "hw.gpus=3"],
            id="a-reference",
        ),
        pytest.param({"engine/mine.yaml": "name: mine\nargs: {a: '???'}\n"}, ["engine=mine"], id="a-gap"),
        pytest.param(
            {"experiment/mine.yaml": "# @package _global_\ndefaults: [{override /engine: vllm}]\ncontext_length: 77\n"},
            ["experiment=mine", "engine.slots=3"],
            id="an-experiment",
        ),
        pytest.param({"workload/mine.yaml": "name: other\n"}, ["workload=mine"], id="a-file-of-another-name"),
        pytest.param({"workload/mine.yaml": "a: [1\n"}, ["workload=mine"], id="a-file-that-is-no-yaml"),
        pytest.param(
            {"rules/mine.yaml": "parts: [engines-2026-11]\nname: mine\n"}, ["rules=mine"], id="a-rule-pack-of-parts"
        ),
    ],
)
def test_files_of_every_kind_are_hydras_to_compose(tmp_path: Path, files: dict[str, str], typed: list[str]) -> None:
    """Only what surely stands for itself is put together from parts."""
    for name, body in files.items():
        path = tmp_path / name
        path.parent.mkdir()
        path.write_text(body)
    hydra, pieces = Composer([tmp_path]), Pieces([tmp_path])
    assert outcome(pieces, typed) == outcome(pieces, typed) == outcome(hydra, typed)


def test_each_part_is_composed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hydra is asked for the defaults and for a file that is made of others, and not again for other overrides."""
    asked: list[list[str]] = []
    compose = Composer.compose

    def count(self: Composer, overrides: list[str]) -> dict[str, Any]:
        asked.append(list(overrides))
        return compose(self, overrides)

    monkeypatch.setattr(Composer, "compose", count)
    pieces = Pieces(engines.conf_directories())
    for number in range(1, 9):
        for wrong in ("engine.nope=1", f"engine.args.a={number}"):
            with pytest.raises(ConfigError) if "nope" in wrong else nullcontext():
                pieces.compose(["workload=chat", "engine=vllm", f"workload.concurrency={number}", wrong])
    assert asked[:2] == [["workload=chat"], []]
    assert [each[-1] for each in asked[2:]] == ["engine.nope=1"]


def test_what_cells_share_stays_as_it_is() -> None:
    """Judging changes no configuration."""
    pieces = Pieces(engines.conf_directories())
    for typed in (["hw=cuda"], ["model=qwen2-instruct", "hw=cpu", "engine=mlx"], ["engine=llama_cpp", "hw=cpu"]):
        config = pieces.compose(typed)
        before = msgspec.json.encode(config)
        try:
            judgement.first(config, pieces)
        except XinferError:
            pytest.fail("it can be judged")
        assert msgspec.json.encode(pieces.compose(typed)) == before == msgspec.json.encode(config)
