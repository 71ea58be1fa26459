"""Who is compared: every engine that the rules allow, each with the weights that lose least."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from xinfer import engines
from xinfer.catalog import Spec
from xinfer.config.compose import Composer
from xinfer.errors import ConfigError, Refused, XinferError
from xinfer.plan import LaunchPlan
from xinfer.verbs import panel

if TYPE_CHECKING:
    from xinfer.verbs.panel import Seat

MACHINE = ("hw=cpu", "hw.os=linux", "hw.arch=x86_64", "hw.cores=2", "hw.memory_gib=16", "hw.isa=[avx2,avx512f,fma]")
MODEL = ("model=smollm2-135m-instruct", "rules=engines-2026-11", *MACHINE)


def seats(*words: str) -> dict[str, Seat]:
    composer = Composer(engines.conf_directories())
    overrides = [*MODEL, *words]
    return {seat.engine: seat for seat in panel.seats(composer.compose(overrides), overrides, composer)}


def weights(seat: Seat) -> tuple[str | None, ...]:
    assert seat.planned is not None
    assert seat.planned.launch is not None
    spec = seat.planned.decision.spec
    return spec.format, spec.quantization, panel.precision(seat.planned.launch, spec)


def spec(format: str, quantization: str) -> Spec:  # noqa: A002 -- the word of the catalogue
    return Spec(family="m", size="7", format=format, quantization=quantization, hub=None, id=None)


@pytest.mark.parametrize(
    ("word", "file", "dtype"),
    [
        pytest.param("dtype=null", "F32", "float32", id="float32-if-nothing-is-said"),
        pytest.param("dtype=float32", "F32", "float32", id="float32"),
        pytest.param("dtype=bfloat16", "BF16", "bfloat16", id="bfloat16"),
    ],
)
def test_all_compute_in_the_same_type(word: str, file: str, dtype: str) -> None:
    """Where a file's own types decide, that file is chosen; elsewhere the engine is told."""
    found = seats(word)
    assert weights(found["llama_cpp"]) == ("ggufv2", file, dtype)
    for name in ("vllm", "sglang", "transformers"):
        assert weights(found[name])[1:] == ("none", dtype)


def test_all_serve_one_request_at_a_time() -> None:
    """In the same short context, whatever the workload."""
    for seat in seats("workload=chat", "workload.timeout_s=7", "parity.tokens=5").values():
        assert seat.planned is not None
        asked = seat.planned.ask
        assert (asked.workload.concurrency, asked.workload.output_tokens, asked.workload.timeout_s) == (1, 5, 7.0)
        assert asked.config["context_length"] == panel.CONTEXT


def test_engines_can_be_named() -> None:
    """In the order of their names, and once each."""
    assert list(seats("parity.engines=[vllm,llama_cpp,vllm]")) == ["vllm", "llama_cpp"]


def test_one_that_the_rules_refuse_takes_no_part() -> None:
    """And its reason is kept."""
    found = seats("rules.engines.vllm.linux.eq=windows")["vllm"]
    assert found.planned is None
    assert str(found.refusal) == "engines-2026-11 refuses vllm: linux"


def test_one_that_may_or_may_not_takes_no_part_unless_it_is_named() -> None:
    """What is not known is no yes."""
    words = ("rules.engines.vllm.linux.eq=windows", "+rules.engines.vllm.linux.otherwise=nobody has tried")
    assert str(seats(*words)["vllm"].refusal) == "engines-2026-11 cannot decide whether vllm may serve this: linux"
    assert seats(*words, "parity.engines=[vllm,llama_cpp]")["vllm"].planned is not None


@pytest.mark.parametrize(
    ("words", "kind", "said"),
    [
        pytest.param(["engine=vllm"], ConfigError, "engine= is of one engine", id="an-engine"),
        pytest.param(["engine.version=1"], ConfigError, "engine.version= is of one engine", id="a-setting-of-one"),
        pytest.param(["parity.engines=[vllm]"], ConfigError, "must name two engines", id="one-engine"),
        pytest.param(["parity.engines=[vllm,vlm]"], ConfigError, "did you mean 'vllm'", id="a-misspelt-engine"),
        pytest.param(["parity.tokens=0"], ConfigError, "from 1 to 512", id="no-tokens"),
        pytest.param(["parity.tokens=many"], ConfigError, "parity.tokens: expected", id="tokens-that-are-no-number"),
        pytest.param(["api_key_env=KEY"], ConfigError, "leave the key out", id="a-key"),
        pytest.param(["model.quantization=Q8_0"], Refused, "llama_cpp alone", id="weights-for-one-engine"),
        pytest.param(
            ["model.format=pytorch", "parity.engines=[llama_cpp,vllm]"],
            Refused,
            "llama_cpp: ",
            id="a-named-one-is-refused",
        ),
    ],
)
def test_what_cannot_be_compared(words: list[str], kind: type[XinferError], said: str) -> None:
    """It is said before anything is started."""
    with pytest.raises(kind, match=said.replace(".", r"\.")):
        seats(*words)


def test_models_of_different_sizes_are_not_compared() -> None:
    """What fits in one engine's format may not fit in another's."""
    with pytest.raises(ConfigError, match=r"\(llama_cpp 7, transformers 1_5\); choose one with model\.size="):
        seats("model=qwen2-instruct", "hw.memory_gib=12")


@pytest.mark.parametrize(
    ("dtype", "chosen"),
    [
        pytest.param("float32", ["F32", "Int4", "none"], id="float32"),
        pytest.param("bfloat16", ["bf16", "Int4", "none"], id="bfloat16"),
        pytest.param("float16", ["F32", "Int4", "none"], id="what-is-not-there-is-no-loss"),
    ],
)
def test_the_weights_that_lose_least_are_chosen(dtype: str, chosen: list[str]) -> None:
    """Of each format by itself, since an engine may read only one."""
    specs = [spec("ggufv2", each) for each in ("Q4_0", "F32", "bf16", "Q8_0")]
    specs += [spec("gptq", "Int4"), spec("pytorch", "4-bit"), spec("pytorch", "none")]
    assert [each.quantization for each in panel.exact(specs, dtype)] == chosen


@pytest.mark.parametrize(
    ("given", "dtype", "precision"),
    [
        pytest.param(spec("ggufv2", "F32"), None, "float32", id="a-file-of-float32"),
        pytest.param(spec("ggufv2", "q4_k_m"), None, "q4_k_m", id="a-file-of-fewer-bits"),
        pytest.param(spec("pytorch", "none"), "bfloat16", "bfloat16", id="a-folder"),
        pytest.param(spec("pytorch", "none"), None, "not known", id="a-folder-that-decides-itself"),
        pytest.param(spec("gptq", "Int4"), "float16", "Int4", id="weights-of-fewer-bits"),
    ],
)
def test_a_precision_is_what_is_computed_in(given: Spec, dtype: str | None, precision: str) -> None:
    """Or the name of what is coarser than any type."""
    plan = LaunchPlan(engine="e", version=None, variant="cpu", dtype=dtype)
    assert panel.precision(plan, given) == precision
