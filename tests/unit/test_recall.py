"""What is remembered is exactly what would be found again, and there is never more of it than fits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xinfer import engines
from xinfer.config.compose import Composer, conf_dir
from xinfer.facts import FACTS
from xinfer.judging import packs, recall
from xinfer.judging.recall import remembered

if TYPE_CHECKING:
    from collections.abc import Mapping

    from xinfer.judging.rules import Pack

COMPOSER = Composer(engines.conf_directories())
PACKS = {path.stem: packs.named(path.stem, COMPOSER) for path in sorted((conf_dir() / "rules").glob("*.yaml"))}
ordinary = settings(derandomize=True, database=None, deadline=None, max_examples=200)


class Counted:
    """A judge that says what it saw, and counts how often it was asked."""

    def __init__(self) -> None:
        self.asked = 0

    def __call__(self, facts: Mapping[str, Any]) -> str:
        self.asked += 1
        return repr({name: facts.get(name) for name in ("hw.cores", "hw.isa", "?model")})


def test_the_same_facts_are_judged_once() -> None:
    """Whatever else is said of the cell."""
    judge = Counted()
    ask = remembered(judge, ["hw.cores", "hw.isa"])
    said = {ask({"hw.cores": 1, "hw.isa": ("avx2",), "hw.os": system}) for system in ("linux", "darwin")}
    assert said == {"{'hw.cores': 1, 'hw.isa': ('avx2',), '?model': None}"}
    assert judge.asked == 1
    ask({"hw.cores": 2, "hw.isa": ("avx2",)})
    assert judge.asked == 2


def test_equal_values_that_are_not_said_alike_are_judged_apart() -> None:
    """1, 1.0 and true are one key of a dictionary, and three observations."""
    values: tuple[Any, ...] = (1, 1.0, True, 1)
    for names in (["hw.cores"], ["hw.cores", "hw.memory_gib"]):
        ask = remembered(Counted(), names)
        said = [ask({"hw.cores": value, "hw.memory_gib": 2.0}) for value in values]
        assert said == [repr({"hw.cores": value, "hw.isa": None, "?model": None}) for value in values]


@pytest.mark.parametrize(
    ("names", "facts"),
    [
        pytest.param(["hw.cores"], {"hw.cores": 1, "?model": "dropped"}, id="facts-with-a-reason-of-their-own"),
        pytest.param(["hw.cores", "hw.isa"], {"hw.cores": 1}, id="a-fact-left-out"),
        pytest.param(["hw.isa"], {"hw.isa": ["avx2"]}, id="a-value-that-cannot-be-looked-up"),
        pytest.param([], {"hw.cores": 1}, id="a-judge-that-reads-nothing"),
    ],
)
def test_what_cannot_be_remembered_is_judged_each_time(names: list[str], facts: dict[str, Any]) -> None:
    """And rightly."""
    judge = Counted()
    ask = remembered(judge, names)
    assert ask(facts) == ask(facts) == Counted()(facts)
    assert judge.asked == 2


def test_there_is_an_end_to_what_is_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Then all is forgotten, and found again."""
    monkeypatch.setattr(recall, "MOST", 2)
    judge = Counted()
    ask = remembered(judge, ["hw.cores"])
    for value in (1, 2, 1, 2):
        ask({"hw.cores": value})
    assert judge.asked == 2
    for value in (3, 1):
        ask({"hw.cores": value})
    assert judge.asked == 4


def named(pack: Pack) -> dict[str, list[Any]]:
    """Return values of every fact: those that a pack's own conditions compare with, and some of their neighbours."""
    usual: dict[str, list[Any]] = {
        "text": ["linux", "cuda", "other"], "number": [0, 1, 1.0, 7.5, 80.0], "flag": [True, False],
        "list": [("avx2",), ("avx2", "avx512f"), ()], "version": ["0.1.0", "0.33.0", "main", "99"],
    }  # fmt: skip
    found: dict[str, list[Any]] = {name: [None, *usual[fact.kind]] for name, fact in FACTS.items()}
    for conditions in pack.engines.values():
        for condition in conditions:
            for name, value in (*condition.predicate.named, *(condition.when.named if condition.when else ())):
                found[name].append((value,) if FACTS[name].kind == "list" else value)
    return found


@pytest.mark.parametrize("name", PACKS)
@ordinary
@given(data=st.data())
def test_a_remembered_verdict_is_the_plain_one(name: str, data: st.DataObject) -> None:
    """Of every pack, for any facts, in any order of asking: the same findings, spelled the same."""
    pack = PACKS[name]
    facts = data.draw(st.fixed_dictionaries({fact: st.sampled_from(values) for fact, values in named(pack).items()}))
    if data.draw(st.booleans()):
        facts["?model"] = data.draw(st.sampled_from(["dropped", "not listed"]))
    for engine, conditions in pack.engines.items():
        plain = pack._evaluate(engine, [each.evaluate for each in conditions], facts)
        assert len(plain.findings) == len(conditions)
        assert repr(pack.judge(engine, facts)) == repr(plain)
        assert pack.judge(engine, dict(facts)) == plain
