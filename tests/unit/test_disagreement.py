"""Where two packs say different things of one engine, and which findings make the difference."""

from __future__ import annotations

import pytest

from xinfer.judging import disagreement, rules
from xinfer.judging.rules import Finding, Result, Source, Verdict

SOURCE = Source(kind="page", title="t", date="d", where="w")


def verdict(engine: str, **results: Result) -> Verdict:
    """Build a verdict from its findings, by id."""
    findings = tuple(
        Finding(id=name, result=result, fact="hw.os", observed=None, expected="", source=SOURCE)
        for name, result in results.items()
    )
    return Verdict(engine=engine, verdict=rules.answer(findings), findings=findings)


YES = verdict("a", old="met", same="met")
NO = verdict("a", old="failed", other="failed", open="unknown", same="met")
OPEN = verdict("a", old="unknown", same="met")
NOW_YES = verdict("a", new="met", same="met")
NOW_NO = verdict("a", new="failed", newer="unknown", same="met")
NOW_OPEN = verdict("a", new="unknown", same="met")


@pytest.mark.parametrize(
    ("then", "now", "findings"),
    [
        pytest.param(YES, NOW_YES, None, id="both-say-yes"),
        pytest.param(NO, NOW_NO, None, id="both-say-no-whatever-their-reasons"),
        pytest.param(OPEN, NOW_OPEN, None, id="both-leave-it-open"),
        pytest.param(YES, NOW_NO, "new", id="a-new-refusal-with-what-fails"),
        pytest.param(YES, NOW_OPEN, "new", id="a-new-doubt-with-what-is-unknown"),
        pytest.param(NO, NOW_YES, "old other", id="a-refusal-that-is-gone-with-what-failed"),
        pytest.param(OPEN, NOW_YES, "old", id="a-doubt-that-is-gone-with-what-was-unknown"),
        pytest.param(NO, NOW_OPEN, "old other new", id="what-failed-and-what-is-open-now"),
        pytest.param(OPEN, NOW_NO, "old new", id="what-was-open-and-what-fails-now"),
    ],
)
def test_a_disagreement(then: Verdict, now: Verdict, findings: str | None) -> None:
    """Only other verdicts count, and each comes with what either pack holds against the engine."""
    found = disagreement.between([then], [now])
    if findings is None:
        assert found == ()
        return
    (only,) = found
    assert (only.engine, only.verdict, only.today) == ("a", then.verdict, now.verdict)
    assert [finding.id for finding in only.findings] == findings.split()


def test_engines_are_compared_by_name() -> None:
    """In the order of the first pack; one that only one of them knows is no disagreement."""
    then = [verdict("a", x="met"), verdict("b", x="failed"), verdict("c", x="met")]
    now = [verdict("d", x="failed"), verdict("c", x="failed"), verdict("b", x="met")]
    assert [found.engine for found in disagreement.between(then, now)] == ["b", "c"]
