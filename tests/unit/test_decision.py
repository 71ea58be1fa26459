"""Which engine and which artefact are chosen, and the reasons given for it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from xinfer import catalog
from xinfer.catalog import Shape, Spec
from xinfer.config.compose import Composer, conf_dir, read
from xinfer.errors import ConfigError
from xinfer.facts import Gpu, Hardware
from xinfer.judging import decision, packs
from xinfer.judging.decision import Decision, Prefer
from xinfer.planning.parallel import Splits

if TYPE_CHECKING:
    from collections.abc import Sequence

SOURCES = {"page": {"kind": "page", "title": "A guide", "date": "2024-08-14", "where": "example.org/guide"}}


def needs(fact: str, *values: str) -> dict[str, Any]:
    return {"fact": fact, "in": list(values), "source": "page"}


PACK = packs.load(
    {
        "name": "mine",
        "sources": SOURCES,
        "preference": ["gpu", "mac"],
        "engines": {
            "any": {"format": needs("model.format", "pytorch", "ggufv2")},
            "mac": {"format": needs("model.format", "mlx", "pytorch"), "os": needs("hw.os", "darwin")},
            "gpu": {"format": needs("model.format", "pytorch", "gptq"), "os": needs("hw.os", "linux")},
        },
    },
    "mine.yaml",
)
"""Engines in another order than that of preference, which leaves one of them out."""
PREFER = Prefer(
    formats=("pytorch", "gptq", "ggufv2"), quantizations=("none", "Int4"), hubs=("huggingface", "pypi"), size_b=7.0
)


def spec(
    size: str | None = "7", form: str | None = "pytorch", quantization: str | None = "none", hub: str = "huggingface"
) -> Spec:
    return Spec(family="f", size=size, format=form, quantization=quantization, hub=hub, id="a/b")


def machine(**facts: Any) -> Hardware:
    return Hardware(profile="p", **facts)


def decide(
    *candidates: Spec, on: Hardware, engine: str | None = None, broken: dict[str, str] | None = None, tokens: int = 0
) -> Decision:
    return decision.decide(PACK, candidates, on, PREFER, engine=engine, broken=broken or {}, tokens=tokens)


LINUX, MAC, WINDOWS, SOMETHING = machine(os="linux"), machine(os="darwin"), machine(os="windows"), machine()


# --- the engine ---

FIRST = "is the first in the order of mine that may serve it"
HOLDS, OPEN = "all its conditions hold", "none of its conditions fails, some are unknown"


@pytest.mark.parametrize(
    ("form", "on", "expected", "because"),
    [
        pytest.param(
            "pytorch", LINUX, "gpu", f"gpu {FIRST}; {HOLDS}",
            id="the-first-preferred",
        ),
        pytest.param(
            "pytorch", MAC, "mac", f"mac {FIRST}; {HOLDS}",
            id="the-second-preferred",
        ),
        pytest.param(
            "pytorch", WINDOWS, "any", f"any {FIRST}; {HOLDS}",
            id="one-without-preference-comes-last",
        ),
        pytest.param(
            "pytorch", SOMETHING, "any", f"any {FIRST}; {HOLDS}",
            id="a-yes-comes-before-an-unknown",
        ),
        pytest.param(
            "gptq", SOMETHING, "gpu",
            f"gpu {FIRST}; {OPEN}",
            id="an-unknown-where-there-is-no-yes",
        ),
        pytest.param(
            "mlx", WINDOWS, None, "mine refuses every engine: any (format), mac (os), gpu (format, os)",
            id="none-where-all-refuse",
        ),
    ],
)  # fmt: skip
def test_the_order_of_preference(form: str, on: Hardware, expected: str | None, because: str) -> None:
    """The first engine whose conditions hold is chosen; failing that, the first that nothing refuses."""
    made = decide(spec(form=form), on=on)
    assert (made.engine, made.because[0], made.rules) == (expected, because, "mine")


def test_the_order_of_a_device() -> None:
    """A pack may prefer another engine on a machine with another device, and the reason says which."""
    pack = msgspec.structs.replace(PACK, preferences={"cpu": ("any",)})
    for on, expected in ((machine(os="linux", gpus=0), "any"), (LINUX, "gpu")):
        made = decision.decide(pack, [spec()], on, PREFER, engine=None, broken={}, tokens=0)
        device = " for cpu" if expected == "any" else ""
        assert made.engine == expected
        assert made.because[0] == f"{expected} is the first in the order of mine{device} that may serve it; {HOLDS}"


def fastest(engine: str | None, *seen: object) -> decision.Fastest:
    """Return who says that an engine is the fastest, and keeps what was asked."""

    def told(options: Sequence[tuple[str, Spec]]) -> tuple[str | None, tuple[str, ...]]:
        assert [(name, each.format) for name, each in options] == list(seen)
        return engine, ("that is what was measured",)

    return told


BOTH = (("gpu", "pytorch"), ("any", "pytorch"))


@pytest.mark.parametrize(
    ("told", "expected", "because"),
    [
        pytest.param(
            fastest("any", *BOTH), "any",
            f"any was measured to be the fastest on this machine of those that may serve it; {HOLDS}",
            id="the-fastest",
        ),
        pytest.param(
            fastest("gpu", *BOTH), "gpu",
            f"gpu was measured to be the fastest on this machine of those that may serve it; {HOLDS}",
            id="the-first-if-it-is-the-fastest",
        ),
        pytest.param(fastest(None, *BOTH), "gpu", f"gpu {FIRST}; {HOLDS}", id="the-first-where-nobody-knows"),
    ],
)  # fmt: skip
def test_a_choice_by_measurement(told: decision.Fastest, expected: str, because: str) -> None:
    """Whoever knows is asked for the engines that may serve, the documented choice first, and is quoted."""
    made = decision.decide(PACK, [spec()], LINUX, PREFER, engine=None, broken={}, tokens=0, fastest=told)
    assert (made.engine, *made.because) == (expected, because, "that is what was measured")


def test_a_choice_by_measurement_is_between_artefacts_too() -> None:
    """Each engine with what it would serve; what is not sure to be served is no option."""
    candidates = [spec(form="gptq", quantization="Int4"), derived("ggufv2", "Q4_0")]
    told = fastest("any", ("gpu", "gptq"), ("any", "ggufv2"))
    made = decision.decide(PACK, candidates, LINUX, PREFER, engine=None, broken={}, tokens=0, fastest=told)
    assert (made.engine, made.spec.format) == ("any", "ggufv2")
    assert f"{MADE_HERE} any" in made.because
    unsure = fastest(None, ("any", "pytorch"))
    decision.decide(PACK, [spec()], SOMETHING, PREFER, engine=None, broken={}, tokens=0, fastest=unsure)


def test_an_engine_that_was_asked_for_is_not_measured_against_others() -> None:
    """There is nothing to choose; nor where nothing may serve."""
    made = decision.decide(PACK, [spec()], LINUX, PREFER, engine="any", broken={}, tokens=0, fastest=fastest("gpu"))
    assert made.because == (f"any was asked for; {HOLDS}",)
    mlx = [spec(form="mlx")]
    made = decision.decide(PACK, mlx, LINUX, PREFER, engine=None, broken={}, tokens=0, fastest=fastest("gpu"))
    assert made.engine is None


def test_every_engine_is_judged_on_the_chosen_artefact() -> None:
    """Whatever is chosen, the verdict of every engine is there, in the pack's order."""
    made = decide(spec("70"), spec("7", "gptq", "Int4"), on=LINUX)
    assert made.spec.format == "pytorch"
    assert [(v.engine, v.verdict) for v in made.verdicts] == [("any", "yes"), ("mac", "no"), ("gpu", "yes")]
    assert {f.observed for v in made.verdicts for f in v.findings if f.id == "format"} == {"pytorch"}


@pytest.mark.parametrize(
    ("engine", "on", "expected", "because"),
    [
        pytest.param("any", LINUX, "any", f"any was asked for; {HOLDS}", id="yes-though-not-preferred"),
        pytest.param("mac", WINDOWS, None, "mine refuses mac: os", id="refused"),
        pytest.param(
            "mac", SOMETHING, "mac", f"mac was asked for; {OPEN}", id="unknown-is-tried"
        ),
    ],
)  # fmt: skip
def test_a_forced_engine(engine: str, on: Hardware, expected: str | None, because: str) -> None:
    """The engine that was asked for is chosen unless it is refused; no other takes its place."""
    made = decide(spec(), on=on, engine=engine)
    assert (made.engine, made.because[0]) == (expected, because)
    assert [v.engine for v in made.verdicts] == ["any", "mac", "gpu"]


def test_a_forced_engine_takes_the_first_artefact_it_may_serve() -> None:
    """The artefact is chosen for the engine, not the engine for the artefact."""
    made = decide(spec(), spec(form="mlx", quantization="4-bit"), spec(form="ggufv2", quantization="Q4_0"), on=LINUX)
    assert (made.engine, made.spec.format) == ("gpu", "pytorch")
    forced = decide(spec(form="gptq"), spec(form="ggufv2", quantization="Q4_0"), on=LINUX, engine="any")
    assert (forced.engine, forced.spec.format) == ("any", "ggufv2")


@pytest.mark.parametrize(
    ("engine", "message"),
    [
        pytest.param("gpuu", "rule pack mine has no rules for engine 'gpuu'; did you mean 'gpu'?", id="misspelt"),
        pytest.param("tensorrt", "rule pack mine has no rules for engine 'tensorrt'", id="not-in-the-pack"),
    ],
)
def test_an_engine_that_the_pack_does_not_know(engine: str, message: str) -> None:
    """A pack without rules for the engine that was asked for can say nothing of it."""
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        decide(spec(), on=LINUX, engine=engine)


# --- plugins that do not work ---

BROKEN = {"gpu": "ImportError: no module named gpu"}


def test_a_broken_plugin_is_never_chosen() -> None:
    """The next engine is; the broken one is judged all the same, and says what is wrong with it."""
    made = decide(spec(), on=LINUX, broken=BROKEN)
    (verdict,) = [v for v in made.verdicts if v.engine == "gpu"]
    assert (made.engine, verdict.verdict) == ("any", "unknown")
    assert [(f.id, f.result) for f in verdict.findings] == [("format", "met"), ("os", "met"), ("plugin", "unknown")]
    plugin = verdict.findings[-1]
    assert (plugin.fact, plugin.observed) == ("engine.plugin", "ImportError: no module named gpu")
    assert (plugin.expected, plugin.source.kind) == ("an adapter that imports", "xinfer")
    assert plugin.fix == "mend, install or remove the plugin of gpu"


def test_a_broken_plugin_can_be_refused() -> None:
    """A failed condition counts whether the plugin works or not."""
    made = decide(spec(), on=MAC, broken=BROKEN)
    assert {v.engine: v.verdict for v in made.verdicts} == {"any": "yes", "mac": "yes", "gpu": "no"}


@pytest.mark.parametrize(
    ("engine", "broken", "because"),
    [
        pytest.param(
            "gpu", BROKEN, "mine cannot decide whether gpu may serve f: plugin: ImportError: no module named gpu",
            id="forced",
        ),
        pytest.param(
            "own", {"own": "no plugin"}, "mine cannot decide whether own may serve f: plugin: no plugin",
            id="not-in-the-pack",
        ),
        pytest.param(
            None, dict.fromkeys(PACK.engines, "gone"),
            "mine knows no engine for f: any (plugin: gone), mac (os), gpu (plugin: gone)", id="all-of-them",
        ),
    ],
)  # fmt: skip
def test_nothing_but_broken_plugins(engine: str | None, broken: dict[str, str], because: str) -> None:
    """Where only broken plugins are left nothing is chosen, and the reason names the error."""
    made = decide(spec(), on=LINUX, engine=engine, broken=broken)
    assert (made.engine, made.because) == (None, (because,))


def test_a_plugin_that_the_pack_does_not_know_is_a_verdict() -> None:
    """It comes after the pack's own engines, and is unknown."""
    made = decide(spec(), on=LINUX, broken={"own": "no plugin"})
    assert [(v.engine, v.verdict) for v in made.verdicts][-1] == ("own", "unknown")
    assert made.engine == "gpu"


# --- a family without a record ---


@pytest.mark.parametrize("engine", [None, "gpu"])
def test_nothing_published_is_nothing_to_start(engine: str | None) -> None:
    """A family of which nothing is published is unknown everywhere, never chosen, and the catalogue's note says why."""
    missing = msgspec.structs.replace(spec(None, None, None), note="dropped on 2023-09-22")
    made = decide(missing, on=LINUX, engine=engine)
    assert (made.engine, made.spec, made.because[1]) == (None, missing, "dropped on 2023-09-22")
    assert {v.engine: v.verdict for v in made.verdicts} == {"any": "unknown", "mac": "no", "gpu": "unknown"}


def test_an_engine_without_rules_decides_nothing() -> None:
    """It may still be asked for, as nothing speaks against it."""
    silent = packs.load({"name": "silent", "engines": {"any": {}}}, "silent.yaml")
    asked: dict[str, Any] = {"engine": "any", "broken": {}, "tokens": 0}
    assert decision.decide(silent, [spec()], LINUX, PREFER, **asked).engine == "any"
    missing = decision.decide(silent, [spec(None, None, None)], LINUX, PREFER, **asked)
    assert missing.because == ("silent cannot decide whether any may serve f: no conditions",)


# --- the artefact ---

MAY_FIT = "gpu may serve and that may fit"
NOTHING_FITS = "nothing that may be served is known to fit: all of it exceeds 15 GiB"
WITH_15_GIB = machine(os="linux", gpus=1, gpu=Gpu(vendor="nvidia", memory_gib=15.0))


def chosen(made: Decision) -> tuple[str | None, ...]:
    return made.spec.size, made.spec.format, made.spec.quantization, made.spec.hub


@pytest.mark.parametrize(
    ("candidates", "on", "expected"),
    [
        pytest.param(
            [spec(form="ggufv2", quantization="Q4_0"), spec(form="gptq", quantization="Int4"), spec()], LINUX,
            ("7", "pytorch", "none", "huggingface"), id="formats-in-order",
        ),
        pytest.param(
            [spec(form="gptq", quantization="Int8"), spec(form="gptq", quantization="int4")], LINUX,
            ("7", "gptq", "int4", "huggingface"), id="quantizations-in-order-whatever-their-case",
        ),
        pytest.param(
            [spec(hub="modelscope"), spec(hub="pypi"), spec()], LINUX, ("7", "pytorch", "none", "huggingface"),
            id="hubs-in-order",
        ),
        pytest.param(
            [spec("0_5"), spec("13"), spec("8"), spec("72")], LINUX, ("8", "pytorch", "none", "huggingface"),
            id="memory-not-known-means-the-size-nearest-to-7",
        ),
        pytest.param(
            [spec("0_5"), spec("13"), spec("3"), spec("7"), spec("72")], WITH_15_GIB,
            ("7", "pytorch", "none", "huggingface"), id="memory-known-means-the-largest-that-may-fit",
        ),
        pytest.param(
            [spec("72"), spec("13")], WITH_15_GIB, ("13", "pytorch", "none", "huggingface"),
            id="the-smallest-where-all-are-too-large",
        ),
        pytest.param(
            [spec("13"), spec("13", "gptq", "Int4")], WITH_15_GIB, ("13", "gptq", "Int4", "huggingface"),
            id="what-may-fit-comes-before-the-preferred-format",
        ),
        pytest.param(
            [spec("13", "gptq", "Int4"), spec("7")], WITH_15_GIB, ("7", "pytorch", "none", "huggingface"),
            id="a-preferred-format-comes-before-a-larger-size",
        ),
        pytest.param(
            [spec("13", "gptq", "Int4"), spec("7", "gptq", "Int8")], WITH_15_GIB, ("13", "gptq", "Int4", "huggingface"),
            id="a-preferred-quantization-comes-before-a-size",
        ),
    ],
)  # fmt: skip
def test_what_is_left_open(candidates: list[Spec], on: Hardware, expected: tuple[str, ...]) -> None:
    """Formats, quantizations and hubs are taken as preferred, sizes by memory, in whatever order they come."""
    assert chosen(decide(*candidates, on=on)) == expected
    assert chosen(decide(*reversed(candidates), on=on)) == expected


def test_where_nothing_is_preferred_the_first_published_is_taken() -> None:
    """What prefer does not name keeps the catalogue's order."""
    eight, four = spec(quantization="8-bit"), spec(quantization="4-bit")
    assert decide(eight, four, on=LINUX).spec == eight
    assert decide(four, eight, on=LINUX).spec == four


def test_an_unknown_size_is_kept() -> None:
    """A mixture named after its active parameters has no known size, and still can be chosen."""
    mixture = msgspec.structs.replace(spec("14"), size_counts="active")
    assert chosen(decide(mixture, on=WITH_15_GIB))[0] == "14"


def test_the_cache_counts_too() -> None:
    """An artefact whose weights fit is too large where the tokens asked for do not."""
    shape = Shape(layers=32, kv_heads=32, head_dim=128)
    large = msgspec.structs.replace(spec("7"), shape=shape)
    small = msgspec.structs.replace(spec("3"), shape=shape)
    assert chosen(decide(small, large, on=WITH_15_GIB, tokens=1024))[0] == "7"
    assert chosen(decide(small, large, on=WITH_15_GIB, tokens=8192))[0] == "3"


@pytest.mark.parametrize(
    ("candidates", "on", "because"),
    [
        pytest.param([spec()], LINUX, (), id="nothing-was-open"),
        pytest.param(
            [spec(), spec("72", "gptq", "Int4", "modelscope")], LINUX,
            (
                "format pytorch: the first of prefer.formats that gpu may serve",
                "quantization none: the first of prefer.quantizations in this format that gpu may serve",
                "size 7: nearest to prefer.size_b; memory is not known",
                "hub huggingface: the first of prefer.hubs that has it",
            ),
            id="all-was-open",
        ),
        pytest.param(
            [spec("13"), spec("13", "gptq", "Int4"), spec("7", "gptq", "Int4")], WITH_15_GIB,
            (
                f"format gptq: the first of prefer.formats that {MAY_FIT}",
                f"quantization Int4: the first of prefer.quantizations in this format that {MAY_FIT}",
                "size 13: the largest in this format that is not known to exceed 15 GiB",
            ),
            id="memory-decided",
        ),
        pytest.param(
            [spec("13"), spec("72")], WITH_15_GIB,
            ("size 13: the smallest in this format; known to exceed 15 GiB", NOTHING_FITS),
            id="all-are-too-large",
        ),
        pytest.param(
            [spec("70", "gptq", "Int4"), spec("13")], WITH_15_GIB,
            (
                "format pytorch: the first of prefer.formats that gpu may serve",
                "quantization none: the first of prefer.quantizations in this format that gpu may serve",
                "size 13: the smallest in this format; known to exceed 15 GiB",
                NOTHING_FITS,
            ),
            id="all-are-too-large-in-every-format",
        ),
        pytest.param(
            [spec(quantization="8-bit"), spec(quantization="4-bit")], LINUX,
            ("quantization 8-bit: prefer.quantizations names none that gpu may serve",),
            id="none-is-preferred",
        ),
    ],
)  # fmt: skip
def test_because(candidates: list[Spec], on: Hardware, because: tuple[str, ...]) -> None:
    """For each part that the user left open there is a reason, and it is true."""
    assert decide(*candidates, on=on).because[1:] == because


# --- memory before the order of engines ---


def test_what_fits_comes_before_the_order_of_engines() -> None:
    """The preferred engine serves only what cannot fit; the next one serves what may, and the reason says so."""
    made = decide(spec("13"), spec("13", "ggufv2", "Q4_0"), on=WITH_15_GIB)
    assert (made.engine, made.spec.format) == ("any", "ggufv2")
    assert made.because[:2] == (
        f"any is the first in the order of mine that may serve it in 15 GiB; {HOLDS}",
        "gpu comes before it in that order, but what it would serve is known to exceed 15 GiB",
    )


def test_what_may_fit_comes_before_a_better_verdict() -> None:
    """What cannot run is no better for meeting every condition."""
    on = machine(gpus=1, gpu=Gpu(vendor="nvidia", memory_gib=15.0))
    made = decide(spec("13", "ggufv2", "Q8_0"), spec("13", "gptq", "Int4"), on=on, engine=None)
    assert (made.engine, made.spec.format) == ("any", "ggufv2")
    tight = machine(gpus=1, gpu=Gpu(vendor="nvidia", memory_gib=10.0))
    made = decide(spec("13", "ggufv2", "Q8_0"), spec("13", "gptq", "Int4"), on=tight)
    assert (made.engine, made.spec.format) == ("gpu", "gptq")
    assert made.because[0] == f"gpu is the first in the order of mine that may serve it in 10 GiB; {OPEN}"


def test_an_engine_of_one_gpu() -> None:
    """It is no use to it that two GPUs together would hold the network."""
    two = machine(os="linux", gpus=2, gpu=Gpu(vendor="nvidia", memory_gib=15.0))
    asked: dict[str, Any] = {"engine": None, "broken": {}, "tokens": 0}
    for splits, engine in (({}, "gpu"), ({"gpu": Splits()}, "any"), ({"gpu": Splits(), "any": Splits()}, "gpu")):
        made = decision.decide(PACK, [spec("13")], two, PREFER, **asked, splits=splits)
        assert made.engine == engine
    assert made.because[-1] == "nothing that may be served is known to fit: all of it exceeds 2 x 15 GiB"


# --- what is made here ---


def derived(form: str, quantization: str = "none") -> Spec:
    return msgspec.structs.replace(spec(form=form, quantization=quantization), derived=True)


IN_THIS_FORMAT = "the first of prefer.quantizations in this format that"
MADE_HERE = "this artefact is made on this machine: no published one got as good a verdict for"


@pytest.mark.parametrize(
    ("candidates", "on", "engine", "expected", "because"),
    [
        pytest.param(
            [derived("pytorch"), spec(form="ggufv2", quantization="Q4_0")], LINUX, None, ("any", "ggufv2", False),
            ("format ggufv2: the first of prefer.formats that any may serve and that is published",
             "quantization Q4_0: prefer.quantizations names none that any may serve and that is published"),
            id="what-is-published-comes-first-whatever-the-order-of-engines-and-formats",
        ),
        pytest.param(
            [derived("pytorch"), spec(form="ggufv2", quantization="Q4_0")], LINUX, "gpu", ("gpu", "pytorch", True),
            (f"{MADE_HERE} gpu", "format pytorch: the first of prefer.formats that gpu may serve and that is made here",
             f"quantization none: {IN_THIS_FORMAT} gpu may serve and that is made here"),
            id="what-is-made-here-where-nothing-published-will-do",
        ),
        pytest.param(
            [derived("pytorch"), spec(form="gptq", quantization="Int4")], SOMETHING, None, ("any", "pytorch", True),
            (f"{MADE_HERE} any", "format pytorch: the first of prefer.formats that any may serve and that is made here",
             f"quantization none: {IN_THIS_FORMAT} any may serve and that is made here"),
            id="a-yes-for-what-is-made-here-comes-before-an-unknown",
        ),
        pytest.param(
            [derived("pytorch"), spec(form="gptq", quantization="Int4")], SOMETHING, "gpu", ("gpu", "gptq", False),
            ("format gptq: the first of prefer.formats that gpu may serve and that is published",
             f"quantization Int4: {IN_THIS_FORMAT} gpu may serve and that is published"),
            id="among-the-unknown-what-is-published-comes-first-too",
        ),
        pytest.param(
            [derived("gptq", "Int4")], SOMETHING, "gpu", ("gpu", "gptq", True), (f"{MADE_HERE} gpu",),
            id="the-only-one-is-made-here",
        ),
    ],
)  # fmt: skip
def test_what_is_made_here(
    candidates: list[Spec], on: Hardware, engine: str | None, expected: tuple[str, str, bool], because: tuple[str, ...]
) -> None:
    """It is chosen, and said to be made here, only where no published artefact is judged as well."""
    made = decide(*candidates, on=on, engine=engine)
    assert (made.engine, made.spec.format, made.spec.derived) == expected
    assert made.because[1:] == because


# --- the documented packs ---


def test_the_example_of_the_readme() -> None:
    """On CUDA the default pack chooses vLLM for qwen2-instruct, the common size, unquantized, from Hugging Face."""
    config = Composer().compose(["model=qwen2-instruct"])
    pack = packs.load(read(conf_dir() / "rules" / "xinference-2024-08.yaml"), "pack")
    family = catalog.parse(config["model"], "model")
    prefer = msgspec.convert(config["prefer"], Prefer)
    cuda = machine(os="linux", gpus=1, gpu=Gpu(vendor="nvidia"))
    made = decision.decide(
        pack, catalog.select(family, day="2024-08"), cuda, prefer, engine=None, broken={}, tokens=4096
    )
    assert (made.engine, *chosen(made)) == ("vllm", "7", "pytorch", "none", "huggingface")
    expected = {"vllm": "yes", "sglang": "yes", "transformers": "yes", "llama_cpp": "no", "mlx": "no"}
    assert {v.engine: v.verdict for v in made.verdicts} == expected
