"""What is typed becomes one plain mapping: text stays text, files come from where they should, keys are closed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from xinfer import engines, flow
from xinfer.config.compose import Composer, conf_dir, read
from xinfer.config.overrides import LABELS, NAMES
from xinfer.config.overrides import read as read_override
from xinfer.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable

_NAME = {group: key.partition(".")[2] for key, group in NAMES.items()}
PLUGIN_FILES = {"llama_cpp", "mlx", "sglang", "transformers", "vllm"}


@pytest.fixture
def composer() -> Composer:
    return Composer(engines.conf_directories())


@pytest.fixture
def own(tmp_path: Path) -> Callable[[str, str], Composer]:
    """Return how to write a file of the user's and compose with it."""

    def write(name: str, text: str) -> Composer:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return Composer([tmp_path, *engines.conf_directories()])

    return write


def at(config: Any, path: str) -> Any:
    for part in path.split("."):
        config = config[part]
    return config


# Text


@pytest.mark.parametrize(
    ("typed", "key", "value"),
    [
        pytest.param("model.size=1_5", "model.size", "1_5", id="an-underscore-is-no-thousands-separator"),
        pytest.param("model.size=0_5", "model.size", "0_5", id="a-leading-zero"),
        pytest.param("model.size=1.8", "model.size", "1.8", id="a-fraction"),
        pytest.param("model.size=7", "model.size", "7", id="a-whole-number"),
        pytest.param("model.size='1_5'", "model.size", "1_5", id="quoted-by-the-user"),
        pytest.param('model.size="1_5"', "model.size", "1_5", id="quoted-twice-by-the-user"),
        pytest.param("model.size=null", "model.size", None, id="null-stays-null"),
        pytest.param("model.quantization=none", "model.quantization", "none", id="none-is-a-word"),
        pytest.param("model.quantization=4-bit", "model.quantization", "4-bit", id="a-quantization"),
        pytest.param("model.format=1e5", "model.format", "1e5", id="an-exponent"),
        pytest.param("catalog=2024-07", "catalog", "2024-07", id="a-month"),
        pytest.param("engine.version=0.10", "engine.version", "0.10", id="a-version-that-looks-like-a-number"),
        pytest.param("engine.version=3", "engine.version", "3", id="a-version-of-one-digit"),
        pytest.param("engine.python=/opt/a b/bin/python", "engine.python", "/opt/a b/bin/python", id="a-space"),
        pytest.param("home=~/x", "home", "~/x", id="a-tilde"),
        pytest.param("home=it's", "home", "it's", id="a-quote"),
        pytest.param("home=a\\", "home", "a\\", id="a-backslash-at-the-end"),
        pytest.param("home=a\\'b", "home", "a\\'b", id="a-backslash-before-a-quote"),
        pytest.param("runs=2024", "runs", "2024", id="a-directory-that-looks-like-a-number"),
        pytest.param("hw.gpu.compute_capability=9.0", "hw.gpu.compute_capability", "9.0", id="a-capability"),
        pytest.param("hw.cpu=Intel(R) Xeon(R) Gold", "hw.cpu", "Intel(R) Xeon(R) Gold", id="parentheses"),
        pytest.param("hw.os_version=14.10", "hw.os_version", "14.10", id="a-system-version"),
        pytest.param("hw.gpus=4", "hw.gpus", 4, id="a-number-is-a-number-elsewhere"),
        pytest.param("hw.isa=[avx2,fma]", "hw.isa", ["avx2", "fma"], id="a-list"),
        pytest.param("port=null", "port", None, id="null"),
        pytest.param("hw.gpus=${workload.concurrency}", "hw.gpus", 1, id="an-interpolation"),
        pytest.param("engine.args.max-model-len=8", "engine.args", {"max-model-len": 8}, id="an-engines-own-flag"),
        pytest.param("engine.env.OMP_NUM_THREADS=4", "engine.env", {"OMP_NUM_THREADS": 4}, id="a-variable"),
        pytest.param("+engine.args.x=true", "engine.args", {"x": True}, id="a-flag-with-a-plus"),
    ],
)
def test_a_value_is_what_was_typed(composer: Composer, typed: str, key: str, value: object) -> None:
    """Hydra would read 1_5 as 15 and 0.10 as 0.1, and refuse a key that is not there yet."""
    assert at(composer.compose([typed]), key) == value


def test_an_address_is_a_text_with_anything_in_it(composer: Composer) -> None:
    """An equals sign or an ampersand needs no quotes."""
    url = "http://127.0.0.1:8000/v1?a=b&c=(d)"
    assert composer.compose(["engine=external", f"engine.url={url}"])["engine"]["url"] == url


def test_the_environment_can_be_asked(composer: Composer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Interpolations are OmegaConf's."""
    monkeypatch.setenv("XINFER_TEST_DIRECTORY", "/from/outside")
    assert composer.compose(["home=${oc.env:XINFER_TEST_DIRECTORY}"])["home"] == "/from/outside"


def test_the_last_of_two_counts(composer: Composer) -> None:
    """So that an alias can be completed on the command line."""
    config = composer.compose(["hw=cuda", "hw=cpu", "hw.gpus=1", "hw.gpus=2"])
    assert (config["hw"]["profile"], config["hw"]["gpus"]) == ("cpu", 2)


# Files


def test_every_option_of_every_group_composes(composer: Composer) -> None:
    """Each file is a mapping that bears its own name."""
    names = {group: composer.options(group) for group in ("hw", "engine", "workload", "rules")}
    for number in range(max(map(len, names.values()))):
        chosen = {group: options[number % len(options)] for group, options in names.items()}
        config = composer.compose([f"{group}={name}" for group, name in chosen.items()])
        assert {group: config[group][_NAME[group]] for group in chosen} == chosen


def test_plugins_bring_their_own_files(composer: Composer) -> None:
    """Without them there are only the two that need no plugin."""
    assert set(composer.options("engine")) == {"auto", "external"} | PLUGIN_FILES
    assert set(Composer().options("engine")) == {"auto", "external"}
    assert composer.file("engine", "vllm").is_relative_to(engines.get("vllm").conf)


def test_a_users_file_comes_first(own: Callable[[str, str], Composer]) -> None:
    """It takes the place of one of the same name; the others are still there."""
    composer = own("hw/cuda.yaml", "profile: cuda\nos: linux\ngpus: 8\ngpu: {vendor: nvidia}\n")
    assert composer.compose(["hw=cuda"])["hw"]["gpus"] == 8
    assert composer.compose(["hw=h100"])["hw"]["gpu"]["memory_gib"] == 80
    assert composer.file("hw", "cuda").parent.parent != conf_dir()


def test_a_users_primary_file_is_not_ours(own: Callable[[str, str], Composer]) -> None:
    """A directory may hold other things; only files of groups are taken from it."""
    assert own("config.yaml", "port: 5\n").compose([])["port"] is None


def test_a_users_model_can_be_planned(own: Callable[[str, str], Composer]) -> None:
    """A family and its artefacts are all that must be in the file; size and format can be chosen all the same."""
    row = '{size: "7", format: pytorch, quantizations: [none, Int4], hubs: {huggingface: me/mine}}'
    composer = own("model/mine.yaml", f"family: mine\nspecs: [{row}]\n")
    config = composer.compose(["model=mine", "model.quantization=int4", "hw=cuda", "engine=transformers"])
    spec = flow.plan(flow.ask(config, composer), composer).decision.spec
    assert (spec.family, spec.size, spec.quantization) == ("mine", "7", "Int4")


def test_a_users_profile_extends_another(own: Callable[[str, str], Composer]) -> None:
    """Hydra's defaults work in the user's files; the name is the file's, whether it says so or not."""
    hw = own("hw/big.yaml", "defaults: [h100, _self_]\ngpus: 8\n").compose(["hw=big"])["hw"]
    assert (hw["profile"], hw["gpus"], hw["gpu"]["memory_gib"]) == ("big", 8, 80)


def test_a_users_pack_decides(own: Callable[[str, str], Composer]) -> None:
    """A pack is a file like others; dates in it may stand without quotes."""
    composer = own(
        "rules/mine.yaml",
        "date: 2026-11-22\nsources: {s: {kind: page, title: T, date: 2026-11-22, where: here}}\n"
        "preference: [sglang]\nengines: {sglang: {os: {fact: hw.os, eq: linux, source: s}}}\n",
    )
    config = composer.compose(["rules=mine", "hw=cuda", "model=qwen2-instruct"])
    decision = flow.plan(flow.ask(config, composer), composer).decision
    assert (decision.engine, decision.rules) == ("sglang", "mine")
    assert decision.verdicts[0].findings[0].source.date == "2026-11-22"


def test_a_users_experiment_sets_several_things(own: Callable[[str, str], Composer]) -> None:
    """It may choose files and change keys; the command line comes after it."""
    text = "# @package _global_\ndefaults: [{override /hw: cuda}]\nport: 5\nworkload: {concurrency: 4}\n"
    composer = own("experiment/mine.yaml", text)
    config = composer.compose(["experiment=mine", "port=6"])
    assert (config["hw"]["profile"], config["port"], config["workload"]["concurrency"]) == ("cuda", 6, 4)
    flow.ask(config, composer)


def test_an_experiment_that_overwrites_a_group_is_refused(own: Callable[[str, str], Composer]) -> None:
    """A group is a mapping, whatever a file says."""
    composer = own("experiment/mine.yaml", "# @package _global_\nworkload: 3\n")
    with pytest.raises(ConfigError, match=r"^workload=3 is not a mapping; its file must be one$"):
        flow.ask(composer.compose(["experiment=mine"]), composer)


def test_numbers_in_files_are_omegaconfs(tmp_path: Path) -> None:
    """1e3 is a number, unlike in YAML 1.1; a day is a text, unlike there too."""
    path = tmp_path / "a.yaml"
    path.write_text("a: [1e3, 1.5, .5, -2, 0x10, 2024-08-14, 12:30:45, on, ~, .inf]\n", encoding="utf-8")
    assert read(path) == {"a": [1000.0, 1.5, 0.5, -2, 16, "2024-08-14", 45045, True, None, float("inf")]}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        pytest.param(
            "profile: x\nos: linux\nos: darwin\n", "{path}:3: not valid YAML: found duplicate key 'os'", id="twice"
        ),
        pytest.param("gpu: {a: 1, a: 2}\n", "{path}:1: not valid YAML: found duplicate key 'a'", id="twice-in-a-flow"),
        pytest.param("os: [linux\n", "{path}:2: not valid YAML: did not find expected ',' or ']'", id="not-closed"),
        pytest.param("[a]: b\n", "{path}:1: not valid YAML: found unhashable key", id="a-list-as-a-key"),
        pytest.param(
            "os: !!python/name:os.system x\n",
            "{path}:1: not valid YAML: could not determine a constructor for the tag"
            " 'tag:yaml.org,2002:python/name:os.system'",
            id="python-is-not-run",
        ),
        pytest.param("- a\n", "{path}: must be a mapping of keys to values, not ['a']", id="a-list"),
        pytest.param("just words\n", "{path}: must be a mapping of keys to values, not 'just words'", id="a-text"),
        pytest.param(
            "os: !!timestamp 2024-08-14\n", "{path}: os: Value 'date' is not a supported primitive type", id="a-date"
        ),
        pytest.param("profile: other\n", "{path}: profile must be the file's name, 'mine', not 'other'", id="a-name"),
        pytest.param("os: ${nope}\n", "hw.os: interpolation key 'nope' not found", id="an-interpolation"),
        pytest.param("defaults: [nope]\n", "In 'hw/mine': Could not load 'hw/nope'", id="a-default-that-is-not-there"),
        pytest.param("# @package elsewhere\nos: linux\n", "there is no key 'elsewhere'", id="a-package"),
        pytest.param(
            "# @package model\nos: linux\n",
            "the configuration has no hw; the file chosen for it puts its keys elsewhere",
            id="the-package-of-another-group",
        ),
    ],
)
def test_a_file_that_cannot_be_used_is_named(
    own: Callable[[str, str], Composer], tmp_path: Path, text: str, said: str
) -> None:
    """With the line where there is one."""
    composer = own("hw/mine.yaml", text)
    with pytest.raises(ConfigError) as caught:
        flow.ask(composer.compose(["hw=mine"]), composer)
    assert str(caught.value) == said.replace("{path}", str(tmp_path / "hw" / "mine.yaml"))


def test_a_file_that_is_no_text_is_named(own: Callable[[str, str], Composer], tmp_path: Path) -> None:
    """UTF-8 is what YAML files are in."""
    composer = own("hw/mine.yaml", "")
    path = tmp_path / "hw" / "mine.yaml"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match=f"^{path}: not valid YAML: 'utf-8' codec can't decode byte 0xff"):
        composer.compose(["hw=mine"])
    path.unlink()
    path.symlink_to(tmp_path / "nowhere")
    with pytest.raises(ConfigError, match=f"^{path}: cannot be read: No such file or directory$"):
        read(path)


@pytest.mark.parametrize(
    ("rule", "begins", "ends"),
    [
        pytest.param("fact: hw.oss, eq: linux, source: s", "'hw.oss' is no fact", "did you mean 'hw.os'?", id="a-fact"),
        pytest.param("fact: hw.os, equ: x, source: s", "unknown key 'equ'", "did you mean 'eq'?", id="an-operator"),
        pytest.param("fact: hw.os, eq: x, fixx: y", "unknown key 'fixx'", "did you mean 'fix'?", id="a-key"),
        pytest.param("fact: hw.os, eq: x, source: t", "source 't' is not one", "it has s", id="a-source"),
        pytest.param("fact: hw.os, source: s", "needs exactly one operator", "has none", id="no-operator"),
    ],
)
def test_a_rule_that_is_misspelt_is_named_with_its_file(
    own: Callable[[str, str], Composer], tmp_path: Path, rule: str, begins: str, ends: str
) -> None:
    """When the pack is loaded, not when the rule would first matter."""
    source = "{kind: page, title: T, date: D, where: W}"
    composer = own("rules/mine.yaml", f"sources: {{s: {source}}}\nengines: {{vllm: {{my-rule: {{{rule}}}}}}}\n")
    with pytest.raises(ConfigError) as caught:
        flow.ask(composer.compose(["rules=mine"]), composer)
    assert str(caught.value).startswith(f"{tmp_path / 'rules' / 'mine.yaml'}: rule vllm.my-rule: {begins}")
    assert str(caught.value).endswith(ends)


def test_a_pack_without_engines_is_refused(own: Callable[[str, str], Composer], tmp_path: Path) -> None:
    """It could choose nothing, and say nothing about it."""
    composer = own("rules/mine.yaml", "title: nothing\n")
    with pytest.raises(ConfigError, match=f"^{tmp_path / 'rules' / 'mine.yaml'}: has no engines$"):
        flow.ask(composer.compose(["rules=mine"]), composer)


def test_names_and_groups_agree() -> None:
    """Every group but the experiments bears its name in itself."""
    assert set(NAMES.values()) == set(LABELS) - {"experiment"}


# Lists


def test_published_artefacts_go_through_hydra_unharmed(composer: Composer) -> None:
    """They are packed on the way, and unpacked before anybody sees them."""
    for name in composer.options("model")[::8]:
        assert composer.compose([f"model={name}"])["model"]["specs"] == read(composer.file("model", name)).get(
            "specs", []
        )


def test_a_list_with_an_interpolation_is_not_packed(own: Callable[[str, str], Composer]) -> None:
    """It must be resolved."""
    items = ", ".join(f"f{number}" for number in range(20))
    composer = own(
        "workload/mine.yaml", f"input_tokens: 7\noutput_tokens: 1\nlist: [{items}, '${{workload.input_tokens}}']\n"
    )
    assert composer.compose(["workload=mine"])["workload"]["list"][-2:] == ["f19", 7]


def test_a_rules_list_is_replaced_as_a_whole(composer: Composer) -> None:
    """Overriding it changes the verdict."""
    words = ["model=qwen2-instruct", "hw=cuda", "model.format=awq", "model.size=7"]
    assert verdict(composer, words) == ("yes", set())
    assert verdict(composer, [*words, "rules.engines.vllm.format.in=[gptq]"]) == ("no", {"format"})


def test_a_long_list_of_a_rule_is_replaced_too(composer: Composer) -> None:
    """The families of the page are one of the lists that are packed."""
    words = ["model=qwen2-instruct", "hw=cuda"]
    assert verdict(composer, words) == ("yes", set())
    assert verdict(composer, [*words, "rules.engines.vllm.family.in=[llama-3]"]) == ("no", {"family"})


def test_a_rule_is_switched_off(composer: Composer) -> None:
    """Its finding is gone, and with it what it refused."""
    words = ["hw=cuda", "engine=llama_cpp", "rules.engines.vllm.format.in=[ggufv2]"]
    assert verdict(composer, words) == ("no", {"family"})
    planned = decide(composer, [*words, "~rules.engines.vllm.family"])
    findings = {finding.id for finding in planned.decision.verdicts[0].findings}
    assert planned.decision.verdicts[0].verdict == "yes"
    assert findings == {"format", "pytorch-quantization", "awq-quantization", "gptq-quantization", "linux", "cuda"}


def test_a_rules_value_is_changed_by_its_path(composer: Composer) -> None:
    """The README's example."""
    words = ["model=qwen2-instruct", "hw=cuda", "hw.os=darwin"]
    assert verdict(composer, words) == ("no", {"linux"})
    assert verdict(composer, [*words, "rules.engines.vllm.linux.eq=darwin"]) == ("yes", set())


def test_a_preference_is_changed(composer: Composer) -> None:
    """The order in which engines are chosen is data."""
    words = ["model=qwen2-instruct", "hw=cuda"]
    assert decide(composer, words).decision.engine == "vllm"
    assert decide(composer, [*words, "rules.preference=[sglang,vllm]"]).decision.engine == "sglang"
    assert decide(composer, [*words, "prefer.formats=[awq]"]).decision.spec.format == "awq"


def decide(composer: Composer, words: list[str]) -> flow.Planned:
    return flow.plan(flow.ask(composer.compose(words), composer), composer)


def verdict(composer: Composer, words: list[str]) -> tuple[str, set[str]]:
    """Return vLLM's verdict and the conditions that failed."""
    found = next(v for v in decide(composer, words).decision.verdicts if v.engine == "vllm")
    return found.verdict, {finding.id for finding in found.of("failed")}


# Sweeps


@pytest.mark.parametrize(
    ("typed", "cells"),
    [
        pytest.param(["hw=cuda"], [["hw=cuda"]], id="one"),
        pytest.param([], [[]], id="nothing"),
        pytest.param(["hw=cuda,cpu"], [["hw=cuda"], ["hw=cpu"]], id="two"),
        pytest.param(
            ["hw=cuda,cpu", "port=1,2"],
            [["hw=cuda", "port=1"], ["hw=cuda", "port=2"], ["hw=cpu", "port=1"], ["hw=cpu", "port=2"]],
            id="a-product-whose-last-axis-is-the-fastest",
        ),
        pytest.param(["model.size=1_5,0_5"], [["model.size=1_5"], ["model.size=0_5"]], id="texts-stay-texts"),
        pytest.param(["model.size='1_5','7'"], [["model.size='1_5'"], ["model.size='7'"]], id="quoted-texts"),
        pytest.param(["engine.version=0.10,0.9"], [["engine.version=0.10"], ["engine.version=0.9"]], id="versions"),
        pytest.param(["catalog=2024-07,null"], [["catalog=2024-07"], ["catalog=null"]], id="null-among-texts"),
        pytest.param(["port=range(1,4)"], [["port=1"], ["port=2"], ["port=3"]], id="a-range"),
        pytest.param(["port=choice(5,3)"], [["port=5"], ["port=3"]], id="a-choice"),
        pytest.param(["hw=choice(cuda,cpu)"], [["hw=cuda"], ["hw=cpu"]], id="a-choice-of-files"),
        pytest.param(
            ["rules=glob(xinference-2024-0?)"],
            [["rules=xinference-2024-07"], ["rules=xinference-2024-08"]],
            id="a-glob",
        ),
        pytest.param(["hw=glob(t*,exclude=[tpu*])"], [["hw=t4"]], id="a-glob-with-exceptions"),
        pytest.param(["hw.isa=[avx,fma],[avx]"], [["hw.isa=[avx,fma]"], ["hw.isa=[avx]"]], id="lists"),
        pytest.param(["hw.isa=[avx,fma]"], [["hw.isa=[avx,fma]"]], id="a-list-is-one-value"),
        pytest.param(
            ["engine.args.x=1,2", "~rules.engines.vllm.family"],
            [
                ["engine.args.x=1", "~rules.engines.vllm.family"],
                ["engine.args.x=2", "~rules.engines.vllm.family"],
            ],
            id="open-keys-and-removals",
        ),
        pytest.param(["model=nope,llama-3"], [["model=nope"], ["model=llama-3"]], id="a-bad-value-is-a-cell-too"),
    ],
)
def test_a_sweep_is_every_combination(composer: Composer, typed: list[str], cells: list[list[str]]) -> None:
    """In the order in which they were typed."""
    assert composer.expand(typed) == cells


def test_what_a_sweep_makes_can_be_composed(composer: Composer) -> None:
    """Each cell's overrides are as if they had been typed."""
    cells = composer.expand(["model=qwen2-instruct", "model.size=1_5,0_5", "home=it's,~/x y", "engine.args.a=1,2"])
    configs = [composer.compose(cell) for cell in cells]
    seen = [(c["model"]["size"], c["home"], c["engine"]["args"]["a"]) for c in configs]
    assert seen == [(s, h, a) for s in ("1_5", "0_5") for h in ("it's", "~/x y") for a in (1, 2)]


def test_an_override_is_taken_apart() -> None:
    """The first equals sign is the one that counts."""
    assert read_override("a.b=c=d")[1:] == ("", "a.b", "c=d")
    assert read_override("++a=")[1:] == ("++", "a", "")
    assert read_override("~a")[1:] == ("~", "a", None)


def test_composing_leaves_no_trace(composer: Composer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither Hydra's output folder nor a changed result when asked again."""
    monkeypatch.chdir(tmp_path)
    first = msgspec.json.encode(composer.compose(["hw=cuda"]))
    Composer([]).compose(["hw=cpu"])
    assert msgspec.json.encode(composer.compose(["hw=cuda"])) == first
    assert list(tmp_path.iterdir()) == []
