"""A rule pack that is made of others: the same whether Hydra reads it or a plan reads it beside its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from xinfer import engines, flow
from xinfer.config.compose import Composer, read
from xinfer.config.parts import whole
from xinfer.errors import ConfigError
from xinfer.judging import packs, supplement
from xinfer.judging.disagreement import TODAY

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

FIVE = ("vllm", "sglang", "transformers", "llama_cpp", "mlx")
LINUX = {"fact": "hw.os", "eq": "linux", "source": "a"}
CORES = {"fact": "hw.cores", "ge": 2, "source": "a"}
SOURCE = {"kind": "page", "title": "A", "date": "2026-11-22", "where": "here"}
FILES: dict[str, dict[str, Any]] = {
    "one": {"title": "One", "preference": ["e"], "sources": {"a": SOURCE}, "engines": {"e": {"x": LINUX, "y": CORES}}},
    "two": {"sources": {"a": SOURCE}, "engines": {"f": {"x": LINUX}}, "versions": {"f": "1.0"}},
    "other": {"sources": {"a": {**SOURCE, "title": "B"}}},
}


def composer(*directories: Path) -> Composer:
    return Composer([*directories, *engines.conf_directories()])


@pytest.fixture
def own(tmp_path: Path) -> Callable[..., Path]:
    """Write rule packs into a folder of the user's."""

    def write(**texts: str) -> Path:
        (tmp_path / "rules").mkdir()
        for name, text in texts.items():
            (tmp_path / "rules" / f"{name}.yaml").write_text(text)
        return tmp_path

    return write


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        pytest.param({"title": "T", "engines": {}}, {"title": "T", "engines": {}}, id="no-parts"),
        pytest.param(
            {"parts": ["one", "two"]},
            {
                "parts": ["one", "two"], "sources": {"a": SOURCE}, "versions": {"f": "1.0"},
                "engines": {"e": {"x": LINUX, "y": CORES}, "f": {"x": LINUX}},
            },
            id="mappings-and-nothing-else",
        ),
        pytest.param(
            {"parts": ["two"], "versions": {"f": "2.0"}, "engines": {"f": {"x": {"eq": "darwin"}, "z": CORES}}},
            {
                "parts": ["two"], "sources": {"a": SOURCE}, "versions": {"f": "2.0"},
                "engines": {"f": {"x": {**LINUX, "eq": "darwin"}, "z": CORES}},
            },
            id="its-own-values-lie-over-them",
        ),
    ],
)  # fmt: skip
def test_a_file_over_its_parts(body: dict[str, Any], expected: dict[str, Any]) -> None:
    """Mappings are laid over each other at every depth; a part's title and lists are its own."""
    assert whole(body, "mine.yaml", FILES.__getitem__) == expected


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        pytest.param("one", "parts must be a list of names, not 'one'", id="a-text"),
        pytest.param([1], r"parts must be a list of names, not \[1\]", id="a-number"),
        pytest.param(
            ["one", "other"], "part other: its source 'a' is another than that of a part before it", id="two-sources"
        ),
    ],
)
def test_parts_that_cannot_be_put_together(parts: Any, said: str) -> None:
    """The file is named, and what is wrong."""
    with pytest.raises(ConfigError, match=rf"^mine.yaml: {said}$"):
        whole({"parts": parts}, "mine.yaml", FILES.__getitem__)


def test_todays_pack_is_its_five_parts() -> None:
    """Every condition, version and release of it stands in the folder of one engine's plugin, and nowhere else."""
    mine = composer()
    pack = packs.named(TODAY, mine)
    assert tuple(pack.engines) == FIVE
    assert set(read(mine.file("rules", TODAY))) == {"name", "title", "date", "parts", "preference"}
    for engine in FIVE:
        file = mine.file("rules", engine)
        assert file.parents[2].name == engine
        assert [c.id for c in packs.named(engine, mine).engines[engine]] == [c.id for c in pack.engines[engine]]
        assert (read(file)["engines"].keys(), pack.versions[engine]) == ({engine}, read(file)["versions"][engine])


@pytest.mark.parametrize("words", [[], ["rules.engines.vllm.linux.eq=linux"]], ids=["sealed", "overridden"])
def test_hydra_reads_the_same(words: list[str]) -> None:
    """Whether a pack goes through it as one text, or value by value as something is overridden."""
    mine = composer()
    assert mine.compose([f"rules={TODAY}", *words])["rules"] == mine.rules(TODAY)


def test_a_rule_of_a_part_can_be_overridden_and_removed() -> None:
    """As one that stands in the pack itself."""
    mine = composer()
    config = mine.compose([f"rules={TODAY}", "rules.engines.vllm.linux.eq=darwin", "~rules.engines.sglang.linux"])
    pack = supplement.chosen(config["rules"], mine)
    (linux,) = (each for each in pack.engines["vllm"] if each.id == "linux")
    assert linux.expected == "darwin"
    assert "linux" not in {each.id for each in pack.engines["sglang"]}


@pytest.mark.parametrize("engine", FIVE)
def test_an_engines_own_pack_judges_it_alone(engine: str) -> None:
    """Whoever chooses it means that engine."""
    mine = composer()
    pack = supplement.chosen(mine.compose([f"rules={engine}"])["rules"], mine)
    assert (pack.name, tuple(pack.engines), pack.preference) == (engine, (engine,), (engine,))


def test_a_users_pack_of_parts(own: Callable[..., Path]) -> None:
    """It adds a rule to one of today's engines, and is composed as any other, by Hydra's own list as well."""
    rule = "engines: {mlx: {mine: {fact: hw.cores, ge: 2, source: mlx}}}\npreference: {default: [mlx, vllm]}\n"
    mine = composer(own(mine=f"parts: [{TODAY}]\n{rule}", theirs=f"defaults: [{TODAY}, _self_]\n{rule}"))
    assert [each.id for each in packs.named("mine", mine).engines["mlx"]][-1] == "mine"
    for name in ("mine", "theirs"):
        pack = supplement.chosen(mine.compose([f"rules={name}"])["rules"], mine)
        assert (pack.name, set(pack.engines), pack.preference) == (name, set(FIVE), ("mlx", "vllm"))
        assert [each.id for each in pack.engines["mlx"]][-1] == "mine"


def test_a_users_file_takes_the_place_of_a_part(own: Callable[..., Path]) -> None:
    """As of every other file of a group."""
    source = "sources: {a: {kind: page, title: A, date: x, where: y}}\n"
    pack = packs.named(TODAY, composer(own(mlx=source + "engines: {mlx: {it: {fact: hw.cores, ge: 2, source: a}}}\n")))
    assert [each.id for each in pack.engines["mlx"]] == ["it"]


def test_a_pack_that_is_a_part_of_itself(own: Callable[..., Path]) -> None:
    """It is refused by the name of its file."""
    folder = own(one="parts: [two]", two="parts: [one]")
    with pytest.raises(ConfigError, match=r"one\.yaml: is a part of itself$"):
        packs.named("one", composer(folder))


def test_an_engine_without_its_plugin_cannot_be_judged(visible_engines: Callable[[str], None]) -> None:
    """It stays in the pack and in its order, and its verdict says what is missing."""
    visible_engines("llama_cpp")
    mine = composer()
    config = mine.compose([f"rules={TODAY}", "hw=cpu"])
    made = flow.plan(flow.ask(config, mine), mine).decision
    verdicts = {each.engine: each for each in made.verdicts}
    assert made.engine == "llama_cpp"
    assert verdicts["vllm"].verdict == "unknown"
    assert [each.observed for each in verdicts["vllm"].findings] == [
        "no plugin is installed (XINFER_ENGINES leaves it out)"
    ]
