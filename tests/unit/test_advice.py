"""What a plan says against itself: only where it is true, with evidence, and with words that mend it."""

from __future__ import annotations

import copy
import re
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import msgspec
import pytest
import yaml

from xinfer import engines, flow
from xinfer.catalog import Family, Shape, Spec
from xinfer.config import overrides
from xinfer.config.compose import Composer
from xinfer.engines import Job
from xinfer.errors import ConfigError, EngineError
from xinfer.facts import Gpu, Hardware
from xinfer.plan import LaunchPlan, Memory
from xinfer.planning import advice
from xinfer.planning.advice import Advice, Case
from xinfer.spec import Workload

if TYPE_CHECKING:
    from collections.abc import Iterator

    from xinfer.engines import Engine

PLUGINS = engines.get("vllm").conf.parent.parent
TODAY = "rules=engines-2026-11"
QWEN = "model=qwen2-instruct model.size=7"
MAC = "model=llama-3-instruct hw=m3-max model.format=mlx engine=mlx"
LONG = "context_length=32768 workload.concurrency=48"
"""More keys and values than fit into an H100 beside the weights, and less than twice as many."""


@cache
def composer() -> Composer:
    return Composer(engines.conf_directories())


@cache
def chosen(groups: tuple[str, ...]) -> dict[str, Any]:
    """Compose the files that are chosen: what takes time."""
    return composer().compose([*groups, "home=/xinfer"])


def composed(typed: str) -> dict[str, Any]:
    """Compose what is typed, quickly: values are put where their keys lead."""
    words = [overrides.read(word) for word in typed.split()]
    config = copy.deepcopy(chosen(tuple(word.text for word in words if word.key in overrides.LABELS)))
    for word in words:
        *way, last = word.key.split(".")
        node = config
        for part in way:
            node = node[part]
        if word.key not in overrides.LABELS:
            node[last] = yaml.safe_load(word.value or "")
    return config


@cache
def given(typed: str, *, by_hydra: bool = False) -> dict[str, Advice]:
    """Return the advice of a plan, by its id."""
    config = composer().compose([*typed.split(), "home=/xinfer"]) if by_hydra else composed(typed)
    planned = flow.plan(flow.ask(config, composer()), composer(), python="python3")
    assert planned.launch is not None, planned.decision.because
    found = {each.id: each for each in planned.advice}
    assert len(found) == len(planned.advice)
    return found


def applied(typed: str, override: str) -> str:
    """Type the words of an advice in place of those with the same keys."""
    words = override.split()
    keys = {overrides.read(word).key for word in words}
    kept = [word for word in typed.split() if overrides.read(word).key not in keys]
    return " ".join([*kept, *words])


CASES = {
    "slow-quantization": ("engine=llama_cpp hw=cpu hw.isa=[avx2]", "model.quantization=Q4_0"),
    "prebuilt-wheel": ("engine=llama_cpp hw=cpu hw.isa=[avx2,avx512f]", "engine.build=native"),
    "threads-over-cores": ("engine=llama_cpp hw=cpu hw.cores=4 engine.threads=4", "engine.threads=3"),
    "too-few-slots": ("engine=llama_cpp hw=cpu engine.slots=1 workload.concurrency=4", "engine.slots=null"),
    "context-unused": ("engine=llama_cpp hw=cpu context_length=8192 hw.memory_gib=0.6", "context_length=256"),
    "idle-gpus": (f"{QWEN} engine=transformers hw=h100 hw.gpus=4", "hw.gpus=1"),
    "idle-gpus of three machines": (
        "model=llama-3.1-instruct model.size=405 engine=vllm hw=h100 hw.gpus=5 hw.nodes=3", "hw.gpus=4",
    ),
    "one-machine": (f"{QWEN} engine=vllm hw=h100 hw.gpus=4 hw.nodes=2", "hw.nodes=1"),
    "old-engine": (f"engine=vllm hw=cpu engine.version=0.31.0 {TODAY} hw.isa=[avx2]", "engine.version=null"),
    "layers-on-cpu": (f"{QWEN} engine=llama_cpp hw=rtx4090 engine.gpu_layers=20", "engine.gpu_layers=null"),
    "narrow-cache": (
        "engine=llama_cpp hw=cpu context_length=8192 hw.memory_gib=0.3",
        "engine.cache_type_k=q8_0 engine.cache_type_v=q8_0",
    ),
    "narrow-cache of vLLM": (f"{QWEN} engine=vllm hw=h100 {LONG}", "engine.args.kv-cache-dtype=fp8"),
    "narrow-cache of SGLang": (f"{QWEN} engine=sglang hw=h100 {LONG}", "engine.args.kv-cache-dtype=fp8_e4m3"),
    "eager": (f"engine=vllm hw=cpu hw.isa=[avx2] {TODAY}", "engine.args.enforce-eager=false"),
    "wide-numbers": (f"engine=vllm hw=cpu hw.isa=[avx2,avx512_bf16] dtype=float32 {TODAY}", "dtype=null"),
    "wide-numbers of SGLang": (f"engine=sglang hw=cpu hw.isa=[avx2,avx512_bf16] dtype=float32 {TODAY}", "dtype=null"),
    "wide-numbers of transformers": (
        f"engine=transformers hw=cpu hw.isa=[avx512_bf16] dtype=float32 {TODAY}", "dtype=null",
    ),
    "wide-numbers on a GPU": (f"{QWEN} engine=vllm hw=h100 dtype=float32", "dtype=null"),
    "prompts-forgotten": (
        f"{QWEN} engine=vllm hw=h100 engine.args.no-enable-prefix-caching=true workload.shared_prefix=0.5",
        "engine.args.no-enable-prefix-caching=false",
    ),
    "prompts-forgotten of SGLang": (
        f"{QWEN} engine=sglang hw=h100 engine.args.disable-radix-cache=true workload.shared_prefix=0.5",
        "engine.args.disable-radix-cache=false",
    ),
    "prompts-forgotten of MLX": (
        f"{MAC} engine.args.prompt-cache-size=0 workload.shared_prefix=0.5",
        "engine.args.prompt-cache-size=null",
    ),
    "one-at-a-time": (
        f"engine=transformers hw=cpu {TODAY} engine.args.continuous-batching=false workload.concurrency=4",
        "engine.args.continuous-batching=true",
    ),
    "emulated-bfloat16": (f"engine=transformers hw=cpu hw.isa=[avx2] dtype=bfloat16 {TODAY}", "dtype=null"),
    "reference-blas": (f"engine=mlx hw=cpu engine.python=/usr/bin/python3 {TODAY}", "engine.python=null"),
    "slow-engine": (
        f"engine=transformers hw=cpu {TODAY}",
        f"engine=llama_cpp model.format=ggufv2 model.quantization=null {TODAY}",
    ),
    "slow-engine with many at once": (
        f"engine=mlx hw=cpu hw.isa=[avx2,avx512_bf16] workload.concurrency=16 {TODAY}",
        f"engine=vllm model.format=pytorch model.quantization=null {TODAY}",
    ),
    "slow-engine of SGLang": (
        f"engine=sglang hw=cpu hw.isa=[avx2,avx512_bf16] workload.concurrency=4 {TODAY}",
        f"engine=vllm model.format=pytorch model.quantization=null {TODAY}",
    ),
    "slow-numbers": (f"engine=mlx hw=cpu dtype=bfloat16 {TODAY}", "dtype=null"),
}  # fmt: skip
"""A plan that each advice is for, and what the advice says to type."""
OTHERWISE = {
    "slow-quantization": [
        "engine=llama_cpp hw=cpu",
        "engine=llama_cpp hw=cpu hw.isa=[sse4_2]",
        "engine=llama_cpp hw=cpu hw.isa=[avx2] model.quantization=Q8_0",
        "engine=llama_cpp hw=h100",
    ],
    "prebuilt-wheel": [
        "engine=llama_cpp hw=cpu",
        "engine=llama_cpp hw=cpu hw.isa=[avx2]",
        "engine=llama_cpp hw=cpu hw.isa=[avx2,avx512f] engine.python=/usr/bin/python3",
        "engine=llama_cpp hw=h100 hw.isa=[avx2,avx512f]",
    ],
    "threads-over-cores": [
        "engine=llama_cpp hw=cpu hw.cores=4 engine.threads=3",
        "engine=llama_cpp hw=cpu hw.cores=1 engine.threads=1",
        "engine=llama_cpp hw=cpu engine.threads=64",
        "engine=llama_cpp hw=h100 hw.cores=4 engine.threads=4",
    ],
    "too-few-slots": ["engine=llama_cpp hw=cpu engine.slots=4 workload.concurrency=4"],
    "context-unused": [
        "engine=llama_cpp hw=cpu context_length=8192",
        "engine=llama_cpp hw=cpu context_length=8192 hw.memory_gib=1",
        "engine=llama_cpp hw=cpu context_length=1024 hw.memory_gib=0.1",
        "engine=llama_cpp hw=cpu context_length=8192 workload.input_tokens=4000",
    ],
    "idle-gpus": [f"{QWEN} engine=transformers hw=h100", "engine=llama_cpp hw=cpu"],
    "one-machine": [f"{QWEN} engine=vllm hw=h100 hw.gpus=4", f"{QWEN} model.size=72 engine=vllm hw=h100 hw.nodes=4"],
    "old-engine": [
        f"engine=vllm hw=cpu engine.version=0.32.0 {TODAY} hw.isa=[avx2]",
        "engine=llama_cpp hw=cpu engine.version=2099.1.1",
        "engine=llama_cpp hw=cpu engine.version=main",
        f"{QWEN} engine=vllm hw=h100 engine.python=/usr/bin/python3 engine.version=0.1.0",
    ],
    "layers-on-cpu": [
        f"{QWEN} engine=llama_cpp hw=rtx4090 engine.gpu_layers=29",
        f"{QWEN} engine=llama_cpp hw=rtx4090 engine.gpu_layers=all",
        "model=qwen2-instruct model.size=72 engine=llama_cpp hw=t4 engine.gpu_layers=20",
    ],
    "narrow-cache": [
        "engine=llama_cpp hw=cpu context_length=8192",
        "engine=llama_cpp hw=cpu context_length=8192 hw.memory_gib=16",
        "engine=llama_cpp hw=cpu context_length=8192 hw.memory_gib=0.1",
        f"{QWEN} engine=vllm hw=h100 hw.gpu.compute_capability=8.0 {LONG}",
    ],
    "eager": [f"{QWEN} engine=vllm hw=h100"],
    "wide-numbers": [
        f"engine=vllm hw=cpu hw.isa=[avx2] dtype=float32 {TODAY}",
        f"engine=vllm hw=cpu hw.isa=[avx2,avx512_bf16] {TODAY}",
        f"engine=transformers hw=cpu hw.isa=[avx2] {TODAY}",
    ],
    "prompts-forgotten": [
        f"{QWEN} engine=vllm hw=h100",
        f"{QWEN} engine=vllm hw=h100 workload.shared_prefix=0.5",
        f"{QWEN} engine=sglang hw=h100",
    ],
    "one-at-a-time": [
        f"engine=transformers hw=cpu {TODAY} engine.args.continuous-batching=false",
        f"engine=transformers hw=cpu {TODAY} workload.concurrency=4",
    ],
    "emulated-bfloat16": [
        f"engine=transformers hw=cpu {TODAY}",
        f"engine=transformers hw=cpu hw.isa=[avx512_bf16] dtype=bfloat16 {TODAY}",
        f"{QWEN} engine=transformers hw=h100 hw.isa=[avx2] dtype=bfloat16",
    ],
    "reference-blas": [
        f"engine=mlx hw=cpu {TODAY}",
        f"engine=mlx hw=cpu engine.python=/usr/bin/python3 engine.args.blas=/b.so {TODAY}",
    ],
    "slow-engine": [
        f"engine=vllm hw=cpu hw.isa=[avx2] {TODAY}",
        f"engine=transformers hw=cpu hw.isa=[avx2] workload.concurrency=4 {TODAY}",
        f"engine=transformers hw=cpu engine.args.x=1 {TODAY}",
        f"engine=transformers hw=cpu engine.python=/usr/bin/python3 {TODAY}",
        f"{QWEN} engine=transformers hw=cpu {TODAY}",
        "model=qwen2-instruct model.size=0.5 engine=transformers hw=h100",
    ],
    "slow-numbers": [f"engine=mlx hw=cpu {TODAY}", f"engine=mlx hw=cpu dtype=float32 {TODAY}"],
}
"""Plans of which each is not true."""


def name(case: str) -> str:
    return case.partition(" ")[0]


@pytest.mark.parametrize("case", CASES)
def test_an_advice_is_given_and_what_it_says_mends_it(case: str) -> None:
    """Its words can be typed as they are; the plan that they make is free of it."""
    typed, override = CASES[case]
    found = given(typed)
    assert found[name(case)].override == override
    assert name(case) not in given(applied(typed, override), by_hydra=True)


@pytest.mark.parametrize(("case", "typed"), [(case, typed) for case, those in OTHERWISE.items() for typed in those])
def test_an_advice_is_not_given_otherwise(case: str, typed: str) -> None:
    """Where a fact is not known, or the choice costs nothing, nothing is said."""
    assert case not in given(typed)


def modules() -> Iterator[Path]:
    yield Path(advice.__file__)
    yield from PLUGINS.glob("*/advice.py")


def test_every_advice_has_its_cases() -> None:
    """Where it is given, and where it is not."""
    written = {found for path in modules() for found in re.findall(r'\bid="([\w-]+)"', path.read_text("utf-8"))}
    assert written == set(map(name, CASES)) == set(OTHERWISE)


@pytest.mark.parametrize("case", CASES)
def test_every_advice_has_its_evidence(case: str) -> None:
    """A page, a program's source, or figures of ours: with a date, and a place where they can be found."""
    each = given(CASES[case][0])[name(case)]
    assert "\n" not in each.text
    assert each.source.title
    assert re.fullmatch(r"\d{4}-\d{2}(-\d{2})?", each.source.date)
    assert each.source.where
    if each.source.kind == "xinfer":
        assert (Path(advice.__file__).parents[2] / each.source.where).is_file()


@pytest.mark.parametrize("case", CASES)
def test_whatever_a_plan_advises_mends_what_it_is_about(case: str) -> None:
    """All of it, not only what the case is for."""
    typed = CASES[case][0]
    for each in given(typed).values():
        assert each.id not in given(applied(typed, each.override))


def test_a_plan_that_follows_all_advice_has_none() -> None:
    """One after the other; none brings another back."""
    typed = "engine=llama_cpp hw=cpu hw.cores=4 hw.isa=[avx2,avx512f] engine.threads=4 engine.slots=1"
    typed = f"{typed} workload.concurrency=2"
    for _ in range(9):
        found = given(typed)
        if not found:
            return
        typed = applied(typed, next(iter(found.values())).override)
    pytest.fail(f"there is no end of it: {typed}")


# --- what a plan alone does not show ---

SPEC = Spec(family="f", size="7", format="ggufv2", quantization="Q4_1", hub="huggingface", id="a/b", shape=Shape())
HARDWARE = Hardware(profile="p", gpus=1, gpu=Gpu(vendor="nvidia"))


def case(launch: LaunchPlan, *, spec: Spec = SPEC, family: Family | None = None, **settings: object) -> Case:
    job = Job(
        spec=spec, hardware=HARDWARE, settings={"name": "llama_cpp", **settings},
        workload=Workload(name="w", input_tokens=32, output_tokens=64), context_length=4096, home="/x", python="p",
        port=1,
    )  # fmt: skip
    return Case(job, launch, family or Family(family="f", rows=()))


ON_GPU = LaunchPlan(engine="llama_cpp", version=None, variant="wheel-cuda", device="gpu")


def test_where_the_layers_are_not_known_only_none_at_all_is_too_few() -> None:
    """Twenty may be all that there are."""
    own = engines.get("llama_cpp")
    assert [each.id for each in advice.given(own, case(ON_GPU, gpu_layers=0))] == ["layers-on-cpu"]
    assert advice.given(own, case(ON_GPU, gpu_layers=20)) == ()


def test_another_artefact_is_of_the_same_size_and_hub() -> None:
    """What cannot be had by changing one word is no advice."""
    published = ("7", "Q4_1", "huggingface"), ("7", "Q4_0", "modelscope"), ("14", "Q4_0", "huggingface")
    rows = [
        {"size": size, "format": "ggufv2", "quantizations": [quantization], "hubs": {hub: "a/b"}}
        for size, quantization, hub in published
    ]  # fmt: skip
    family = msgspec.convert({"family": "f", "specs": rows}, Family)
    made = case(ON_GPU, family=family)
    assert made.published(format="ggufv2", quantization="Q4_0") is None
    found = made.published(format="ggufv2")
    assert found is not None
    assert found.quantization == "Q4_1"
    assert made.published(format="mlx") is None


def test_a_cache_that_nobody_knows_the_size_of_is_not_narrowed() -> None:
    """Nor one on a machine whose memory is not known."""
    launch = msgspec.structs.replace(ON_GPU, memory=Memory(fits=False, weights_gib=9, available_gib=8))
    assert advice.given(engines.get("llama_cpp"), case(launch)) == ()
    launch = msgspec.structs.replace(ON_GPU, memory=Memory(fits=False, kv_gib=9))
    assert "narrow-cache" not in {each.id for each in advice.given(engines.get("llama_cpp"), case(launch))}


def test_an_adapter_that_breaks_while_it_advises_is_said_to_have(monkeypatch: pytest.MonkeyPatch) -> None:
    """One line, no traceback: the plugin's fault is not xinfer's."""

    def broken(_: Case) -> Iterator[Advice]:
        raise LookupError("of no use")

    monkeypatch.setattr(engines.get("llama_cpp"), "advice", broken)
    with pytest.raises(EngineError, match=r"^the plugin of llama_cpp broke while it advised: LookupError: of no use$"):
        given("engine=llama_cpp hw=cpu port=1")


def test_an_adapter_need_not_advise() -> None:
    """What holds for every engine is said all the same."""
    made = case(msgspec.structs.replace(ON_GPU, version="0.1"))._replace(usual="0.2")
    assert [each.id for each in advice.given(cast("Engine", object()), made)] == ["old-engine"]


def test_an_adapter_that_plans_only_the_version_it_is_told_has_no_usual_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """A refusal there is none of the plan's."""
    adapter = engines.get("llama_cpp")
    plan = adapter.plan

    def refusing(job: Job) -> LaunchPlan:
        if job.settings["version"] is None:
            raise ConfigError("engine.version is missing")
        return plan(job)

    monkeypatch.setattr(adapter, "plan", refusing)
    assert "old-engine" not in given("engine=llama_cpp hw=cpu engine.version=1.2.3 port=2")
