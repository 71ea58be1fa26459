"""Two answers are the same, part at a tie, or are different: by their tokens, and by how near their beginnings are."""

from __future__ import annotations

import math

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xinfer.parity import agreement
from xinfer.parity.answers import Answer, Step, Token

TOLERANCE = 0.01
VOCABULARY = ["a", "b", "c", "d", "e"]


def step(chosen: int, **logprobs: float) -> Step:
    """A token among others, as ``step(1, b=-0.1, a=-2)``."""
    top = tuple(Token(id=VOCABULARY.index(text), text=text, logprob=lp) for text, lp in logprobs.items())
    return Step(id=chosen, text=VOCABULARY[chosen], logprob=logprobs.get(VOCABULARY[chosen]), top=top)


def answer(*steps: Step, prompt_tokens: int | None = 5) -> Answer:
    text = "".join(each.text or "" for each in steps)
    return Answer(text=text, steps=steps, prompt_tokens=prompt_tokens, completion_tokens=len(steps))


def without_ids(given_answer: Answer) -> Answer:
    steps = [
        msgspec.structs.replace(each, id=None, top=tuple(Token(text=t.text, logprob=t.logprob) for t in each.top))
        for each in given_answer.steps
    ]
    return msgspec.structs.replace(given_answer, steps=tuple(steps))


def compare(a: Answer, b: Answer, allowed: float = TOLERANCE) -> agreement.Comparison:
    return agreement.compare("p", a, b, allowed)


FIRST = step(0, a=-0.5, b=-1.5)
CLEAR = step(1, b=-0.1, c=-4.0)
NEAR = step(1, b=-0.700, c=-0.706)
OTHER = step(2, c=-0.702, b=-0.708)
WRONG = step(2, c=-0.1, b=-4.0)
LAST = step(4, e=-0.2, d=-2.0)


@pytest.mark.parametrize(
    ("a", "b", "verdict", "agreed", "why"),
    [
        pytest.param(answer(FIRST, CLEAR), answer(FIRST, CLEAR), "same", 2, "", id="equal-tokens-are-the-same"),
        pytest.param(
            answer(FIRST, NEAR, LAST),
            answer(FIRST, OTHER, FIRST),
            "tie",
            1,
            "token 2 is 'b' or 'c', 0.012 apart; a tie is within 0.02",
            id="a-planted-tie-is-a-tie",
        ),
        pytest.param(
            answer(FIRST, CLEAR, LAST),
            answer(FIRST, WRONG, LAST),
            "different",
            1,
            "token 2 is 'b' or 'c', 7.8 apart; a tie is within 0.02",
            id="a-planted-wrong-token-is-different",
        ),
        pytest.param(
            answer(FIRST, CLEAR),
            answer(FIRST, step(2, b=-0.1, c=-4.0)),
            "different",
            1,
            "token 2 is 'b' or 'c', 7.8 apart; a tie is within 0.02",
            id="not-greedy-by-its-own-numbers-is-different",
        ),
        pytest.param(
            answer(FIRST, CLEAR),
            answer(FIRST, msgspec.structs.replace(OTHER, logprob=None, top=())),
            "different",
            1,
            "token 2 is 'b' or 'c', 3.9 apart; a tie is within 0.02",
            id="one-engine's-numbers-suffice",
        ),
        pytest.param(
            answer(FIRST, NEAR),
            answer(FIRST, msgspec.structs.replace(OTHER, logprob=None, top=())),
            "tie",
            1,
            "token 2 is 'b' or 'c', 0.006 apart; a tie is within 0.02",
            id="a-tie-by-one-engine's-numbers",
        ),
        pytest.param(
            answer(FIRST, Step(id=1)),
            answer(FIRST, Step(id=2)),
            "different",
            1,
            "token 2 is id 1 or id 2; nothing says how likely each was",
            id="nobody-tells-how-near",
        ),
        pytest.param(
            answer(FIRST, CLEAR),
            answer(FIRST, step(3, d=-0.1, e=-0.105)),
            "different",
            1,
            "token 2 is 'b' or 'd', 3.9 apart; a tie is within 0.02",
            id="a-token-that-is-not-listed-is-at-least-as-far-as-the-last",
        ),
        pytest.param(
            answer(FIRST, CLEAR),
            answer(FIRST),
            "different",
            1,
            "one answer ends after 1 tokens; nothing says how likely each was",
            id="one-goes-on",
        ),
        pytest.param(
            answer(step(0, a=-0.5, b=-1.5)),
            answer(step(0, a=-0.52, b=-1.5)),
            "different",
            1,
            "the first token's log-probabilities are 0.02 apart, of which 0.01 is allowed",
            id="another-distribution-is-different",
        ),
        pytest.param(
            answer(FIRST, prompt_tokens=5),
            answer(FIRST, prompt_tokens=6),
            "different",
            1,
            "the prompt is 5 tokens to one and 6 to the other",
            id="another-reading-of-the-prompt-is-different",
        ),
        pytest.param(
            answer(FIRST, prompt_tokens=5),
            answer(FIRST, prompt_tokens=None),
            "same",
            1,
            "",
            id="an-unknown-count-is-none",
        ),
        pytest.param(Answer(text=" ab"), answer(FIRST, CLEAR), "same", 2, "", id="a-leading-space-does-not-count"),
        pytest.param(Answer(text="ab\ufffd"), Answer(text="ab"), "same", 2, "", id="nor-does-half-a-character"),
        pytest.param(
            Answer(text="ab"),
            Answer(text="ac"),
            "different",
            1,
            "the texts differ after 1 characters; nothing says how likely each was",
            id="texts-alone",
        ),
        pytest.param(
            Answer(text="ac"),
            answer(FIRST, NEAR),
            "tie",
            1,
            "the texts differ after 1 characters, 0.006 apart; a tie is within 0.02",
            id="a-tie-against-a-text",
        ),
        pytest.param(
            Answer(text="ac"),
            answer(FIRST, CLEAR),
            "different",
            1,
            "the texts differ after 1 characters, 3.9 apart; a tie is within 0.02",
            id="a-difference-from-a-text",
        ),
        pytest.param(
            Answer(text="ac"),
            answer(FIRST, step(1, b=-0.1)),
            "different",
            1,
            "the texts differ after 1 characters; nothing says how likely each was",
            id="one-candidate-is-no-tie",
        ),
        pytest.param(
            Answer(text="座b"),
            answer(msgspec.structs.replace(FIRST, text="\ufffd"), NEAR),
            "different",
            0,
            "the texts differ after 0 characters; nothing says how likely each was",
            id="parts-of-characters-have-no-length",
        ),
        pytest.param(
            Answer(text="abc"),
            answer(FIRST, NEAR),
            "different",
            2,
            "the texts differ after 2 characters; nothing says how likely each was",
            id="a-text-that-goes-on",
        ),
    ],
)
def test_a_verdict(a: Answer, b: Answer, verdict: str, agreed: int, why: str) -> None:
    """It is the same whichever answer comes first."""
    found = compare(a, b)
    assert (found.verdict, found.agreed, found.why) == (verdict, agreed, why)
    assert compare(b, a) == found


@pytest.mark.parametrize(
    ("b", "delta", "shared"),
    [
        pytest.param(answer(step(0, a=-0.503, b=-1.498, e=-5)), 0.003, 2, id="what-both-list"),
        pytest.param(answer(step(3, d=-0.503, e=-1.498)), None, 0, id="nothing-in-common"),
        pytest.param(without_ids(answer(step(0, a=-0.503, b=-1.499))), 0.003, 2, id="by-text"),
        pytest.param(Answer(text="a"), None, 0, id="no-tokens"),
    ],
)
def test_first_tokens_are_compared_where_both_list_them(b: Answer, delta: float | None, shared: int) -> None:
    """By id, or by text where one engine tells no ids."""
    found = compare(answer(FIRST), b)
    assert (found.first_delta, found.shared) == (None if delta is None else pytest.approx(delta), shared)


def test_parts_of_characters_have_no_name() -> None:
    """Their texts all look the same, so without ids they are not compared."""
    cut = Step(text="\ufffd", logprob=-1.0, top=(Token(text="\ufffd", logprob=-1.0), Token(text="", logprob=-2.0)))
    assert compare(Answer(text="x", steps=(cut,)), Answer(text="x", steps=(cut,))).shared == 0


def test_the_path_is_measured_as_far_as_it_is_common() -> None:
    """Log-probabilities after the tokens part are of different texts."""
    later = step(1, b=-0.104, c=-4.0)
    found = compare(answer(FIRST, CLEAR, NEAR), answer(FIRST, later, WRONG))
    assert found.path_delta == pytest.approx(0.004)


@pytest.mark.parametrize(
    ("precisions", "tolerance"),
    [
        pytest.param(("float32", "float32"), 0.01, id="float32"),
        pytest.param(("float32", "bfloat16"), 0.5, id="the-coarser-counts"),
        pytest.param(("float16", "float32"), 0.06, id="float16"),
        pytest.param(("Q8_0", "float32"), 0.75, id="fewer-bits"),
    ],
)
def test_the_tolerance_is_that_of_the_coarsest(precisions: tuple[str, str], tolerance: float) -> None:
    """An engine cannot be nearer to another one than its own rounding lets it."""
    assert agreement.tolerance(precisions) == tolerance


def test_every_two_engines_are_a_pair() -> None:
    """Each with its counts and the largest differences over all prompts."""
    right, tied, wrong = answer(FIRST, NEAR), answer(FIRST, OTHER), answer(FIRST, LAST)
    said = {"x": {"p": right, "q": right}, "y": {"p": right, "q": tied}, "z": {"p": right, "q": wrong}}
    found = agreement.pairs(said, dict.fromkeys(said, "float32"))
    assert [each.engines for each in found] == [("x", "y"), ("x", "z"), ("y", "z")]
    assert [(each.same, each.tie, each.different) for each in found] == [(1, 1, 0), (1, 0, 1), (1, 0, 1)]
    assert [(each.first_delta, each.tolerance) for each in found] == [(0.0, 0.01)] * 3


# Properties

logprobs = st.floats(-20.0, -0.01)


@st.composite
def answers(draw: st.DrawFn) -> Answer:
    """An answer of a greedy engine that tells its likeliest tokens, or some of that."""
    steps = []
    for _ in range(draw(st.integers(0, 6))):
        values = draw(st.lists(logprobs, min_size=2, max_size=5, unique=True))
        numbers = draw(st.permutations(range(5)))
        top = [Token(id=n, text=VOCABULARY[n], logprob=lp) for n, lp in zip(numbers, values, strict=False)]
        best = max(top, key=lambda token: token.logprob or -math.inf)
        steps.append(Step(id=best.id, text=best.text, logprob=best.logprob, top=tuple(top)))
    made = answer(*steps, prompt_tokens=draw(st.sampled_from([5, 6, None])))
    return without_ids(made) if draw(st.booleans()) else made


@given(answers())
def test_an_answer_is_the_same_as_itself(a: Answer) -> None:
    """With no difference at all."""
    found = compare(a, a)
    assert found.verdict == "same"
    assert (found.first_delta or 0.0, found.path_delta or 0.0) == (0.0, 0.0)


@given(answers(), answers())
def test_the_order_of_two_answers_does_not_matter(a: Answer, b: Answer) -> None:
    """Neither engine is the reference."""
    assert compare(a, b) == compare(b, a)


@given(answers(), answers(), st.floats(0.001, 1.0), st.floats(1.0, 10.0))
def test_more_tolerance_never_makes_it_worse(a: Answer, b: Answer, allowed: float, factor: float) -> None:
    """What is the same or a tie stays so."""
    if compare(a, b, allowed).verdict != "different":
        assert compare(a, b, allowed * factor).verdict == compare(a, b, allowed).verdict


@given(answers(), st.integers(0, 5), st.floats(0.05, 5.0))
def test_a_wrong_token_with_a_clear_margin_is_seen(a: Answer, place: int, margin: float) -> None:
    """Wherever it stands, and however like the rest is."""
    before = a.steps[: place % (len(a.steps) + 1)]
    ours = answer(*before, step(0, a=-0.01, b=-0.01 - margin), prompt_tokens=a.prompt_tokens)
    theirs = answer(*before, step(1, b=-0.01, a=-0.01 - margin), prompt_tokens=a.prompt_tokens)
    assert compare(ours, theirs).verdict == "different"


@given(answers(), st.integers(0, 5), st.floats(0.0, 0.0099))
def test_a_tie_is_never_an_error(a: Answer, place: int, margin: float) -> None:
    """Two tokens as near as rounding may bring them may be taken in either order."""
    before = a.steps[: place % (len(a.steps) + 1)]
    ours = answer(*before, step(0, a=-0.5, b=-0.5 - margin), prompt_tokens=a.prompt_tokens)
    theirs = answer(*before, step(1, b=-0.5, a=-0.5 - margin), prompt_tokens=a.prompt_tokens)
    assert compare(ours, theirs).verdict == "tie"
