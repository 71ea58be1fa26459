"""What two packs disagree on, and why: one difference for each verdict that differs, put together by reason."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from xinfer.catalog import Shape, Spec
from xinfer.facts import Hardware
from xinfer.judging import differences, packs

if TYPE_CHECKING:
    from xinfer.judging.rules import Pack

MACHINE = Hardware(profile="server", os="linux")
GPTQ = {"fact": "model.format", "in": ["pytorch", "gptq"], "source": "page"}
PYTORCH = {"fact": "model.format", "eq": "pytorch", "source": "page"}
KNOWN = {"fact": "model.architecture", "in": ["A"], "otherwise": "it may know it", "source": "page"}


def pack(name: str, engines: dict[str, Any]) -> Pack:
    sources = {"page": {"kind": "page", "title": name, "date": "2026-11-22", "where": "example.org"}}
    return packs.load({"name": name, "sources": sources, "engines": engines}, name)


def spec(form: str, quantization: str = "none", architecture: str = "A") -> Spec:
    return Spec(
        family="f",
        size="7",
        format=form,
        quantization=quantization,
        hub="h",
        id="i",
        shape=Shape(architecture=architecture),
    )


ONE = pack("one", {"vllm": {"format": GPTQ}, "mlx": {"format": PYTORCH}, "mine": {}})
OTHER = pack("other", {"mlx": {"format": PYTORCH}, "vllm": {"format": PYTORCH, "architecture": KNOWN}})


def test_what_differs() -> None:
    """Of the engines that both know, each verdict that is not the same, with what each pack holds against it."""
    found = list(differences.between(ONE, OTHER, [spec("gptq"), spec("pytorch"), spec("mlx")], MACHINE))
    (only,) = found
    assert (only.spec.format, only.engine, only.first, only.second) == ("gptq", "vllm", "yes", "no")
    assert only.first_against == ()
    assert [(f.id, f.result, f.observed, f.source.title) for f in only.second_against] == [
        ("format", "failed", "gptq", "other")
    ]


def test_two_refusals_are_no_difference() -> None:
    """Neither are two reasons for the same answer."""
    assert list(differences.between(ONE, OTHER, [spec("mlx")], MACHINE)) == []


def test_an_open_verdict_differs_too() -> None:
    """A yes and an unknown are two answers; what is unknown is the reason."""
    (only,) = differences.between(ONE, OTHER, [spec("pytorch", architecture="B")], MACHINE)
    assert (only.first, only.second, [f.id for f in only.second_against]) == ("yes", "unknown", ["architecture"])


def test_the_other_way_round() -> None:
    """The first pack is the one that comes first."""
    (only,) = differences.between(OTHER, ONE, [spec("gptq")], MACHINE)
    assert (only.first, only.second, [f.id for f in only.first_against], only.second_against) == (
        "no", "yes", ["format"], (),
    )  # fmt: skip
    assert differences.shared(OTHER, ONE) == ("mlx", "vllm")


def test_groups() -> None:
    """One for each reason, that behind the most first; a condition stands once, with all that was observed."""
    specs = [spec("pytorch", architecture="B"), spec("gptq", "Int4"), spec("gptq", "Int8"), spec("gptq", "Int8", "B")]
    groups = differences.grouped(differences.between(ONE, OTHER, specs, MACHINE))
    assert [(group.reason, len(group.differences)) for group in groups] == [
        (("vllm", "yes", "no", (), ("format",)), 3),
        (("vllm", "yes", "unknown", (), ("architecture",)), 1),
    ]
    ((finding, observed),) = groups[0].findings(1)
    assert (finding.id, observed, groups[0].findings(0)) == ("format", ("gptq",), ())
