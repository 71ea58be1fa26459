"""What vLLM needs of a GPU beside weights and cache, against what it logged and others published."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
import yaml

from xinfer import engines
from xinfer.catalog import Shape, Spec
from xinfer.config.compose import conf_dir
from xinfer.config.document import read
from xinfer.engines import Job
from xinfer.facts import Gpu, Hardware
from xinfer.planning.cache import Place
from xinfer.spec import Workload

if TYPE_CHECKING:
    from collections.abc import Iterator

NEED = import_module("xinfer.plugins.vllm.need")
PUBLISHED = yaml.safe_load((Path(__file__).parent / "published_memory.yaml").read_text(encoding="utf-8"))
LLAMA = Shape(architecture="LlamaForCausalLM", heads=32, kv_heads=8, hidden=4096, intermediate=14336, vocab=128256)
SPEC = Spec(
    family="llama-3.1-instruct", size="8", format="pytorch", quantization="none", hub="huggingface", id="l", shape=LLAMA
)
H100 = Gpu(vendor="nvidia", name="NVIDIA H100 80GB HBM3", memory_gib=80, compute_capability="9.0")
RTX4090 = Gpu(vendor="nvidia", name="NVIDIA GeForce RTX 4090", memory_gib=24, compute_capability="8.9")


class Run(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    """One line of a log with all parts, in GiB."""

    model: str
    dtype: str
    tensor: int
    stages: int
    activations: float
    outside: float
    graphs: float
    log: str

    @property
    def needed(self) -> float:
        """What is missing of the GPU's nominal memory, for weights and cache."""
        return self.activations + self.outside + self.graphs + hidden(WHOLE["profile"], WHOLE["total"])


class Outside(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    """One line of a log of which only what lies outside PyTorch counts, in GiB."""

    gpu: str | None
    version: str | None
    tensor: int | None
    gib: float
    source: str


def hidden(profile: str, total: float) -> float:
    """Return what CUDA has less than a profile says."""
    return float(read(conf_dir() / "hw" / f"{profile}.yaml")["gpu"]["memory_gib"] - total)


WHOLE = PUBLISHED["whole"]
RUNS = msgspec.convert(WHOLE["runs"], list[Run])
OUTSIDE = msgspec.convert(PUBLISHED["outside"], list[Outside])


@cache
def shape_of(model: str) -> Shape:
    """Return the dimensions of a family's size, as the catalogue has them."""
    family, _, size = model.partition(" ")
    return msgspec.convert(read(conf_dir() / "model" / f"{family}.yaml")["shapes"][size], Shape)


def of_run(run: Run) -> Any:
    """Return the need that is predicted of a run."""
    width = 4 if run.dtype == "float32" else 2
    largest = NEED.Batch(WHOLE["tokens"], WHOLE["sequences"])
    return NEED.bounds(shape_of(run.model), largest, width, Place(run.tensor, run.stages))


def job(gpu: Gpu = H100, *, context: int = 4096, nodes: int = 1, args: Any = None, **spec: Any) -> Job:
    shape = msgspec.structs.replace(LLAMA, **spec.pop("shape", {}))
    return Job(
        spec=msgspec.structs.replace(SPEC, shape=shape, **spec),
        hardware=Hardware(profile="p", gpus=1, gpu=gpu, nodes=nodes), settings={"name": "vllm", "args": args or {}},
        workload=Workload(name="w", input_tokens=1, output_tokens=1), context_length=context,
        home="/h", python="python3", port=1,
    )  # fmt: skip


def of(on: Job | None = None, version: str | None = "0.33.0", place: Place = Place(1, 1)) -> Any:  # noqa: B008
    return NEED.of(on or job(), version, "bfloat16", None, place)


@pytest.mark.parametrize("run", [pytest.param(run, id=run.log) for run in RUNS])
def test_a_published_run_needed_no_more_and_no_less(run: Run) -> None:
    """What PyTorch held lies at most 2 % above its formula, and the sum between the least and the bound."""
    need = of_run(run)
    kept = WHOLE["sequences"] * (shape_of(run.model).vocab or 0) * NEED.PENALTIES / NEED.GIB
    outside = NEED.CONTEXT_GIB if run.tensor == 1 else NEED.CONTEXT_OF_MANY_GIB
    assert run.activations <= (need.most - outside - NEED.GRAPHS_GIB - NEED.HIDDEN_GIB - kept) * 1.02
    assert need.least <= run.needed <= need.most


def test_the_spread_that_a_plan_names_is_that_of_the_runs() -> None:
    """Whoever adds a run sees it there."""
    parts = [100 * run.needed / of_run(run).most for run in RUNS]
    assert (len(RUNS), (round(min(parts)), round(max(parts)))) == (NEED.RUNS, NEED.NEEDED)
    assert f"{NEED.RUNS} published runs of vLLM {WHOLE['version']} on H100s needed 43 to 92 % of it" in of().why


def test_the_most_that_was_published() -> None:
    """The parts that no formula gives are the largest and the least of all lines."""
    lines = [(run.tensor, run.outside) for run in RUNS] + [(each.tensor or 1, each.gib) for each in OUTSIDE]
    alone, together = ([gib for tensor, gib in lines if (tensor > 1) is several] for several in (False, True))
    assert (max(alone), max(together)) == (NEED.CONTEXT_GIB, NEED.CONTEXT_OF_MANY_GIB)
    assert min(alone) == NEED.LEAST_CONTEXT_GIB
    assert max(run.graphs for run in RUNS) == NEED.GRAPHS_GIB
    totals = [(WHOLE["profile"], WHOLE["total"]), *((profile, total) for profile, total, _ in PUBLISHED["totals"])]
    assert max(hidden(*each) for each in totals) == pytest.approx(NEED.HIDDEN_GIB)


def test_every_line_has_its_address() -> None:
    """At a fixed commit, or in a thread."""
    addresses = [WHOLE["source"], *(each.source for each in OUTSIDE), *(each[-1] for each in PUBLISHED["totals"])]
    assert all(address.startswith("https://github.com/") for address in addresses)
    assert all("/blob/" in address or "/issues/" in address or "/pull/" in address for address in addresses)
    assert len({run.log for run in RUNS}) == len(RUNS)


@pytest.mark.parametrize(
    ("on", "slots", "expected"),
    [
        pytest.param(job(), None, (8192, 1024, True), id="a-large-gpu"),
        pytest.param(job(RTX4090), None, (2048, 256, True), id="a-small-one"),
        pytest.param(
            job(msgspec.structs.replace(H100, name="NVIDIA A100-SXM4-80GB")), None, (2048, 256, True), id="an-a100"
        ),
        pytest.param(job(), 300, (8192, 300, True), id="the-slots-of-the-plan"),
        pytest.param(job(context=512), 4, (2048, 4, True), id="few-short-sequences"),
        pytest.param(
            job(args={"max_num_seqs": 16, "max-num-batched-tokens": 4096}), 300, (4096, 16, True), id="the-users-flags"
        ),
        pytest.param(job(args={"max-num-batched-tokens": 128}), None, (128, 128, True), id="no-more-than-the-tokens"),
        pytest.param(job(args={"enforce-eager": True}), None, (8192, 1024, False), id="without-graphs"),
    ],
)
def test_the_largest_batch(on: Job, slots: int | None, expected: tuple[int, int, bool]) -> None:
    """It is that of the flags, else of the GPU."""
    assert NEED.batch(on, slots) == expected


def test_the_bound_in_words() -> None:
    """Where sampling needs most, where a layer does, and on several GPUs."""
    logits = 1024 * 128256
    need = of()
    held = (logits * (15 + 4.125) + 9216 * 4096 * 2) / 2**30
    assert need.most == pytest.approx(held + 0.46 + 1.92 + 0.81)
    assert need.least == pytest.approx(8192 * (14336 + 4096) * 2 / 2**30 + 0.04)
    assert need.why == (
        "an estimated upper bound: 2.41 GiB of activations, 1024 x 128256 logits x 15 bytes + 9216 x 4096 x 2, and "
        "4.125 bytes for each of 1024 x 128256 logits; 0.46 of CUDA, 1.92 of CUDA graphs and 0.81 that CUDA has not of "
        "the GPU, the most that was published; 42 published runs of vLLM 0.19.0 on H100s needed 43 to 92 % of it; 0.32 "
        "is the least"
    )
    few = of(job(args={"max-num-seqs": 8, "enforce-eager": True}), place=Place(2, 1))
    assert few.most == pytest.approx((8192 * (3 * 7168 + 8 * 4096) * 2 + 8 * 128256 * 4.125) / 2**30 + 2.21 + 0.81)
    assert "8192 tokens x (3 x 14336 / 2 GPUs + 8 x 4096) x 2 bytes" in few.why
    assert "0.0 of CUDA graphs" in few.why
    assert NEED.of(job(), "0.33.0", "float32", None, Place()).most > need.most


def test_a_plan_has_it() -> None:
    """For the split and the slots of its own flags; on a CPU there are no bounds."""
    two = msgspec.structs.replace(job(args={"tp": 2}), hardware=Hardware(profile="p", gpus=2, gpu=H100))
    named = engines.get("vllm").plan(two).memory
    need = of(place=Place(2, 1))
    assert (named.overhead_gib, named.least_overhead_gib, named.formula["overhead_gib"]) == need[:3]
    few = msgspec.structs.replace(job(), settings={"name": "vllm", "slots": 16})
    assert engines.get("vllm").plan(few).memory.overhead_gib == NEED.of(few, "0.33.0", "bfloat16", 16, Place()).most
    cpu = msgspec.structs.replace(job(), hardware=Hardware(profile="c", gpus=0))
    assert engines.get("vllm").plan(cpu).memory.least_overhead_gib is None


def unlike(**changes: Any) -> Job:
    return job(msgspec.structs.replace(H100, **changes))


def cases() -> Iterator[Any]:
    """Yield what no bound is known of, and the words for it."""
    gpu, like = "of a GPU without a name and a size", "of such a GPU: no run on one is published"
    other = "of other networks than text decoders"
    yield pytest.param(unlike(memory_gib=None), gpu, id="a-gpu-of-unknown-size")
    yield pytest.param(unlike(name=None), gpu, id="a-gpu-without-a-name")
    yield pytest.param(unlike(vendor="amd", compute_capability=None), like, id="amd")
    yield pytest.param(unlike(memory_gib=179.1, compute_capability="10.0"), like, id="b200")
    yield pytest.param(unlike(memory_gib=15, compute_capability="7.5"), like, id="t4")
    yield pytest.param(unlike(name="NVIDIA GB10", compute_capability="12.1"), like, id="gb10")
    yield pytest.param(job(nodes=2), "for such a split", id="several-machines")
    yield pytest.param(job(shape={"experts": 8}), "of mixtures of experts", id="experts")
    yield pytest.param(job(shape={"kv_lora_rank": 512}), other, id="latent-attention")
    yield pytest.param(job(shape={"caching_layers": 4}), other, id="linear-attention")
    yield pytest.param(job(shape={"architecture": "LlavaForConditionalGeneration"}), other, id="another-network")
    yield pytest.param(job(shape={"architecture": None}), other, id="an-unknown-network")
    yield pytest.param(job(abilities=("chat", "vision")), other, id="one-that-sees")
    yield pytest.param(job(shape={"vocab": None}), "of a network whose hidden size", id="an-unknown-size")
    yield pytest.param(job(format="mxfp4", quantization="mxfp4"), "of mxfp4 mxfp4: no run", id="another-format")
    yield pytest.param(job(quantization="4-bit"), "of pytorch 4-bit: no run", id="quantized-while-it-loads")
    yield pytest.param(job(args={"enable_lora": True}), "with engine.args.enable-lora", id="what-changes-it")
    yield pytest.param(job(args={"max-num-seqs": "8k"}), "with engine.args.max-num-seqs=8k", id="no-number")


@pytest.mark.parametrize(("on", "reason"), [*cases()])
def test_where_no_bound_is_known(on: Job, reason: str) -> None:
    """There is no figure, and the reason."""
    need = of(on)
    assert (need.most, need.least) == (None, None)
    assert need.why.startswith(f"vLLM measures it when it starts; no bound is known {reason}")


@pytest.mark.parametrize(
    ("version", "place", "reason"),
    [
        pytest.param("0.16.0", Place(), "of version 0.16.0: it samples in other ways", id="an-old-version"),
        pytest.param(None, Place(), "of an unknown version", id="an-unknown-version"),
        pytest.param("0.33.0", Place(2, 2), "for such a split: no run is published", id="both-ways-split"),
        pytest.param("0.33.0", Place(16, 1), "for such a split: no run is published", id="over-many-gpus"),
    ],
)
def test_versions_and_splits_without_a_bound(version: str | None, place: Place, reason: str) -> None:
    """The published runs are of other ones."""
    need = of(version=version, place=place)
    assert (need.most, need.why) == (None, f"vLLM measures it when it starts; no bound is known {reason}")
