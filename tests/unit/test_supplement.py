"""A pack is completed with the conditions of engines that it does not know, and of no others."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import pytest

from xinfer import engines, flow
from xinfer.config.compose import Composer, conf_dir, read
from xinfer.errors import ConfigError
from xinfer.judging import packs, rules, supplement

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from xinfer.judging.rules import Pack

PLUGIN = Path(__file__).parents[1] / "resources" / "defective_plugin"
NAME = "xinference-2024-08"
FILE = """
sources: {mine: {kind: page, title: Mine, date: 2026-11-22, where: here}}
engines: {defective: {mine: {fact: hw.cores, ge: 2, source: mine}}}
"""


def pack() -> Pack:
    return packs.load(read(conf_dir() / "rules" / f"{NAME}.yaml"), NAME)


@pytest.fixture
def plugin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Install three engines that no pack knows: one with rules, one with rules that cannot be read, one without."""
    monkeypatch.syspath_prepend(str(PLUGIN))
    for cached in (engines.registered, engines.get):
        cached.cache_clear()
    yield
    monkeypatch.undo()
    for cached in (engines.registered, engines.get):
        cached.cache_clear()


def completed(*directories: Path) -> Pack:
    return supplement.completed(pack(), Composer([*directories, *engines.conf_directories()]))


def test_a_pack_that_knows_every_engine_stays_as_it_is() -> None:
    """It is the same object, so that nothing is paid for what nobody needs."""
    known = pack()
    assert supplement.completed(known, Composer(engines.conf_directories())) is known


@pytest.mark.usefixtures("plugin")
def test_a_plugins_conditions_come_last() -> None:
    """The pack's own engines, their conditions and their order stay."""
    found, known = completed(), pack()
    assert list(found.engines) == [*known.engines, "defective", "unruly"]
    assert found.preference == known.preference
    assert {name: found.engines[name] for name in known.engines}.keys() == known.engines.keys()
    (condition,) = found.engines["defective"]
    assert (condition.id, condition.source.title) == ("format", "xinfer's tests")


@pytest.mark.usefixtures("plugin")
@pytest.mark.parametrize("system", ["linux", "windows", None])
def test_conditions_that_cannot_be_read_are_unknown(system: str | None) -> None:
    """Whatever the facts are, with the error and what to do."""
    verdict = completed().judge("unruly", {"hw.os": system})
    (finding,) = verdict.findings
    assert (verdict.verdict, finding.id, finding.result, finding.fact) == (
        "unknown",
        "rules",
        "unknown",
        "engine.rules",
    )
    assert (
        "unruly.yaml: rule unruly.format: 'model.fromat' is no fact; did you mean 'model.format'?" in finding.observed
    )
    assert finding.fix == "mend the rules of unruly's plugin, or choose a pack that knows it"
    assert rules.answer(verdict.findings) == "unknown"


@pytest.mark.usefixtures("plugin")
@pytest.mark.parametrize(
    ("text", "result", "said"),
    [
        pytest.param(FILE, "met", 4, id="the-users-file-comes-first"),
        pytest.param("engines: {}", "unknown", "{}: has no conditions of defective", id="a-file-about-nobody"),
        pytest.param("engines: {defective: {}}", "unknown", "{}: has no conditions of defective", id="no-conditions"),
        pytest.param("engines: {defective: [", "unknown", "{}:2: not valid YAML: ", id="no-yaml"),
    ],
)
def test_a_users_file_takes_the_place_of_the_plugins(tmp_path: Path, text: str, result: str, said: object) -> None:
    """As every other file of a group does."""
    (tmp_path / "rules").mkdir()
    file = tmp_path / "rules" / "defective.yaml"
    file.write_text(text)
    (finding,) = completed(tmp_path).judge("defective", {"hw.cores": 4}).findings
    assert finding.result == result
    if isinstance(said, str):
        assert finding.observed.startswith(said.format(file))
    else:
        assert finding.observed == said


@pytest.mark.usefixtures("plugin")
def test_an_engine_that_nobody_has_conditions_of_cannot_be_judged() -> None:
    """The pack says so, as it does of an engine that does not exist."""
    composer = Composer(engines.conf_directories())
    asked = flow.ask(composer.compose(["engine=lawless", "hw=cpu"]), composer)
    with pytest.raises(ConfigError, match=r"^rule pack .* has no rules for engine 'lawless'$"):
        flow.plan(asked, composer)


@pytest.mark.usefixtures("plugin")
def test_an_engine_that_is_left_out_is_not_added(visible_engines: Callable[[str], None]) -> None:
    """XINFER_ENGINES hides its conditions too."""
    visible_engines("llama_cpp,unruly")
    assert list(completed().engines) == [*pack().engines, "unruly"]


def test_what_a_pack_leaves_out_of_xinfers_own_engines_stays_out() -> None:
    """Whoever wrote it knew them; their plugins' conditions are for the packs that name them as parts."""
    mine = msgspec.structs.replace(pack(), engines={"mlx": pack().engines["mlx"]})
    assert supplement.completed(mine, Composer(engines.conf_directories())) is mine
