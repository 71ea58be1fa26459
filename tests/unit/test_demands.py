"""What the contract demands of verdicts, plans, streams and errors, where no engine can be made to fail it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from xinfer.errors import ConfigError, EngineError, StartError, XinferError
from xinfer.judging.rules import Answer as Said
from xinfer.judging.rules import Finding, Result, Source, Verdict
from xinfer.plan import Artefact, LaunchPlan
from xinfer.testing import demands
from xinfer.testing.demands import Broken
from xinfer.testing.wire import Answer, Event

SOURCE = Source(kind="page", title="A page", date="2026-11-22", where="there")
PLAN = LaunchPlan(
    engine="e", version=None, variant="cpu", argv=("python3", "-I", "-m", "e", "--port", "1", "-ngl", "2"),
    env={"A": "1"}, because={"--port": "port=", "-ngl": "all layers", "A": "it must be"},
)  # fmt: skip


def finding(result: Result = "met", **more: Any) -> Finding:
    fields = {"id": "f", "result": result, "fact": "hw.os", "observed": "linux", "expected": "linux", "source": SOURCE}
    return Finding(**{**fields, **more})


def plan(**more: Any) -> LaunchPlan:
    return msgspec.structs.replace(PLAN, **more)


# Verdicts


@pytest.mark.parametrize(
    ("answer", "findings"),
    [("yes", [finding()]), ("no", [finding(), finding("failed")]), ("unknown", [finding(), finding("unknown")])],
)
def test_a_verdict_that_is_the_sum_of_its_findings_will_do(answer: Said, findings: list[Finding]) -> None:
    """All three of them."""
    demands.verdict_is_sourced(Verdict(engine="e", verdict=answer, findings=tuple(findings)), "here")


@pytest.mark.parametrize(
    ("answer", "findings", "said"),
    [
        pytest.param("unknown", [], "rests on no condition", id="no-condition"),
        pytest.param("no", [finding("unknown")], "is 'no', and its findings make 'unknown'", id="unknown-is-not-no"),
        pytest.param("yes", [finding("failed")], "is 'yes', and its findings make 'no'", id="a-failure-is-not-yes"),
        pytest.param(
            "yes",
            [finding(source=msgspec.structs.replace(SOURCE, title=" ", where=""))],
            "the source of f has no title, where",
            id="an-empty-source",
        ),
        pytest.param(
            "unknown", [finding("unknown", fact="engine.plugin", observed="it broke")], "it broke", id="a-broken-plugin"
        ),
    ],
)
def test_a_verdict_that_will_not_do(answer: Said, findings: list[Finding], said: str) -> None:
    """Each with the machine and the engine."""
    with pytest.raises(Broken, match=f"^here: the verdict on e.*{said}"):
        demands.verdict_is_sourced(Verdict(engine="e", verdict=answer, findings=tuple(findings)), "here")


# Plans


@pytest.mark.parametrize(
    "argv",
    [
        pytest.param(PLAN.argv, id="pythons-own-options-are-no-flags"),
        pytest.param(("/x/bin/python3.11", "/y/server.py", "--port", "-1", "-ngl", "2"), id="a-script"),
        pytest.param(("/x/bin/llama-server", "--port=1", "-ngl", "2"), id="a-program"),
    ],
)
def test_flags_with_reasons_will_do(argv: tuple[str, ...]) -> None:
    """However the engine is started."""
    demands.flags_have_reasons(plan(argv=argv), "here")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        pytest.param({"because": {"--port": "x", "-ngl": "y"}}, "A has no reason", id="a-variable"),
        pytest.param({"argv": (*PLAN.argv, "--seed", "1")}, "--seed has no reason", id="a-flag"),
        pytest.param({"argv": (*PLAN.argv, "-s", "1")}, "-s has no reason", id="a-short-flag"),
        pytest.param({"argv": ("serve", "-m", "x")}, "-m has no reason", id="an-option-that-is-not-pythons"),
        pytest.param({"env": {}}, "because explains A, which is not in the plan", id="a-variable-that-is-gone"),
        pytest.param({"argv": PLAN.argv[:-2]}, "because explains -ngl, which is not", id="a-flag-that-is-gone"),
    ],
)
def test_flags_without_reasons(changes: dict[str, Any], said: str) -> None:
    """Each is named."""
    with pytest.raises(Broken, match=f"^here: {said}"):
        demands.flags_have_reasons(plan(**changes), "here")


class Careless(LaunchPlan, frozen=True, kw_only=True):
    """Prints its lines without quotes."""

    def shell(self) -> Any:
        """Yield what a shell takes apart."""
        yield from (" ".join(step) for step in self.install)
        yield " ".join([*(f"{name}={value}" for name, value in self.env.items()), *self.argv])


def careless(*argv: str, env: dict[str, str] | None = None) -> LaunchPlan:
    return Careless(engine="e", version=None, variant="cpu", argv=argv, env=env or {})


@pytest.mark.parametrize(
    ("launch", "said"),
    [
        pytest.param(careless("serve", "a b"), "here: a shell would take this line apart: serve a b$", id="a-space"),
        pytest.param(careless("serve", "it's"), "here: a shell would take this line apart: serve it's", id="a-quote"),
        pytest.param(careless("serve", "a(x)"), "would take this line apart: ", id="a-bracket"),
        pytest.param(careless("if", "serve"), "/bin/bash cannot read the plans: ", id="what-a-shell-cannot-read"),
        pytest.param(careless("serve", "$HOME/x"), "would take this line apart: ", id="a-variable"),
        pytest.param(
            careless("serve", env={"A": "$(printf x)"}), "would take this line apart: ", id="a-command-in-a-variable"
        ),
        pytest.param(careless("serve", "x;touch", "y"), "would take this line apart: ", id="a-second-command"),
        pytest.param(careless("serve", "~/x"), r"takes this line for \['serve', '/", id="a-home"),
        pytest.param(
            plan(environment=Artefact(path="/e", steps=((),))), "a line of the plan is empty", id="a-step-of-no-words"
        ),
    ],
)
def test_a_plan_that_cannot_be_pasted(launch: LaunchPlan, said: str) -> None:
    """What a shell would make of it is said."""
    with pytest.raises(Broken, match=said):
        demands.can_be_pasted([("here", launch)])


def test_a_plan_that_can_be_pasted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is in it; nothing of it is run."""
    monkeypatch.chdir(tmp_path)
    odd = "a höme; with $signs `touch x` & 'quotes' \\ * ~ ! #"
    step = ("python3", "-m", "venv", odd)
    launch = plan(argv=(f"/{odd}", "--port", "1"), env={"A": odd}, environment=Artefact(path=odd, steps=(step, step)))
    demands.can_be_pasted([("here", launch), ("there", launch)])
    assert list(tmp_path.iterdir()) == []


# Answers


def answer(*texts: str, cached: int | None = None, ttft_s: float = 0.1, tokens: int = 4) -> Answer:
    """Return the stream of an answer, a piece for each text."""
    usage: dict[str, Any] = {"completion_tokens": tokens}
    if cached is not None:
        usage["prompt_tokens_details"] = {"cached_tokens": cached}
    documents: list[dict[str, Any]] = [{"choices": [{"text": text}]} for text in texts or (" a", " b", " c", " d")]
    documents += [{"choices": [{"text": "", "finish_reason": "length"}]}, {"choices": [], "usage": usage}]
    events = tuple(Event(ttft_s, msgspec.json.encode(document).decode()) for document in documents)
    return Answer(200, "text/event-stream", events, ())


@pytest.mark.parametrize("end", [(), (Event(1.0, "[DONE]"),)], ids=["without-done", "with-done"])
def test_a_whole_stream(end: tuple[Event, ...]) -> None:
    """With [DONE] or without, of a completion or of a chat."""
    whole = answer()
    demands.stream_is_whole(whole._replace(events=(*whole.events, *end)), "here")
    chat = Event(0.1, '{"choices": [{"delta": {"role": "assistant", "content": null}}], "usage": null}')
    text = Event(0.1, '{"choices": [{"delta": {"content": "a"}}]}')
    demands.stream_is_whole(whole._replace(events=(chat, text, *whole.events[-2:], *end)), "here")


def test_an_error_instead_of_a_stream() -> None:
    """What the server said is in the message."""
    refused = Answer(400, "application/json", (), ('{"error": "unknown field"}',))
    with pytest.raises(Broken, match=r'^here: status 400: {"error": "unknown field"}$'):
        demands.stream_is_whole(refused, "here")


@pytest.mark.parametrize(("pieces", "is_enough"), [(4, True), (1, True), (0, False)])
def test_a_piece_for_four_tokens(pieces: int, *, is_enough: bool) -> None:
    """Fewer are not a stream; a token without text of its own is none to complain of."""
    given = answer(*(["a"] * pieces or [""]))
    if is_enough:
        demands.chunks_carry_text(given, "here")
    else:
        with pytest.raises(Broken, match=r"^here: 4 tokens came in 0 pieces"):
            demands.chunks_carry_text(given, "here")


@pytest.mark.parametrize(
    ("first_s", "again_s", "is_cached"),
    [
        pytest.param(0.30, 0.30, False, id="alike"),
        pytest.param(0.30, 0.12, False, id="not-three-times"),
        pytest.param(0.30, 0.09, True, id="more-than-three-times"),
        pytest.param(0.04, 0.001, False, id="too-little-to-tell"),
        pytest.param(0.10, 0.40, False, id="slower"),
    ],
)
def test_a_prompt_that_comes_back_too_soon(first_s: float, again_s: float, is_cached: bool) -> None:  # noqa: FBT001
    """Medians are compared, so that one hiccup says nothing."""
    pairs = [(answer(ttft_s=first_s), answer(ttft_s=again_s))] * 2 + [(answer(ttft_s=9.0), answer(ttft_s=0.001))]
    if is_cached:
        with pytest.raises(Broken, match=r"it is cached$"):
            demands.nothing_is_remembered(pairs, reports=False)
    else:
        demands.nothing_is_remembered(pairs, reports=False)


# Errors


def clear(error: XinferError, *, seconds: float = 1, names: tuple[str, ...] = ("x y",)) -> None:
    demands.error_is_clear(error, names=names, seconds=seconds, within_s=5, where="here")


class Nowhere(XinferError):  # noqa: N818 -- named after its stage
    stage = "nowhere"


@pytest.mark.parametrize(
    "error",
    [
        StartError("e ended: x y is not there"),
        ConfigError("engine has no key 'x y'"),
        EngineError("e ended", details=("a line", "x y: no such file")),
    ],
    ids=["in-the-message", "of-the-plan", "in-the-log"],
)
def test_a_clear_error(error: XinferError) -> None:
    """It names what is wrong in its line, or in the log's that it carries."""
    clear(error)


@pytest.mark.parametrize(
    ("error", "seconds", "said"),
    [
        pytest.param(XinferError("x y"), 1, "the stage is 'xinfer'", id="no-stage"),
        pytest.param(Nowhere("x y"), 1, "the stage is 'nowhere'", id="a-stage-that-is-none"),
        pytest.param(StartError(" "), 1, "the message is not one line: ' '", id="no-message"),
        pytest.param(StartError("x y\nx"), 1, "the message is not one line: ", id="two-lines"),
        pytest.param(StartError("x y Traceback (most"), 1, "the message is a traceback: ", id="a-traceback"),
        pytest.param(StartError("it ended"), 1, "nothing names x y: it ended", id="nothing-named"),
        pytest.param(StartError("x y"), 5.0, "it took 5 s; the engine must end by itself within 5 s: x y", id="late"),
    ],
)
def test_an_error_that_is_not_clear(error: XinferError, seconds: float, said: str) -> None:
    """Each says what is missing."""
    with pytest.raises(Broken, match=f"^here: {said}"):
        clear(error, seconds=seconds)
