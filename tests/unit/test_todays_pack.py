"""The pack of today's engines: what each serves where; every condition decides a row, and is met in another."""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from xinfer import catalog, engines
from xinfer.catalog import Shape, Spec
from xinfer.config.compose import Composer, conf_dir, read
from xinfer.facts import Gpu, Hardware
from xinfer.judging import decision, packs, releases, rules
from xinfer.judging.decision import Prefer
from xinfer.judging.disagreement import TODAY
from xinfer.machine import hardware

if TYPE_CHECKING:
    from xinfer.catalog import Family
    from xinfer.judging.rules import Pack, Verdict

ENGINES = ("vllm", "sglang", "transformers", "llama_cpp", "mlx")


@cache
def pack() -> Pack:
    return packs.named(TODAY, Composer(engines.conf_directories()))


@cache
def families() -> dict[str, Family]:
    return catalog.load(conf_dir() / "model")


def server(*isa: str, arch: str = "x86_64") -> Hardware:
    return Hardware(profile="server", os="linux", arch=arch, isa=isa, apple_silicon=False, gpus=0)


def cuda(capability: str) -> Hardware:
    return Hardware(profile="card", os="linux", gpus=1, gpu=Gpu(vendor="nvidia", compute_capability=capability))


MACHINES = {
    "server": server("avx2", "avx512f"),
    "amx-server": server("avx2", "avx512f", "amx_tile"),
    "old-server": server("avx"),
    "arm-server": server("neon", arch="aarch64"),
    "v100": cuda("7.0"),
    "gtx-980": cuda("5.2"),
    "gtx-780": cuda("3.5"),
    "intel-gpu": Hardware(profile="arc", os="linux", arch="x86_64", gpus=1, gpu=Gpu(vendor="intel")),
    "intel-mac": Hardware(profile="mac", os="darwin", arch="x86_64", isa=("avx2",), apple_silicon=False, gpus=0),
    "windows": Hardware(profile="windows", os="windows", arch="x86_64", isa=("avx2",), gpus=0),
    "unknown": Hardware(profile="unknown"),
}
"""Machines that no profile is; every other name is a profile's."""


@cache
def machine(name: str) -> Hardware:
    return MACHINES.get(name) or hardware.declared(read(conf_dir() / "hw" / f"{name}.yaml"))


def artefact(text: str) -> Spec:
    """Build an artefact from its format, quantization and, if it is no Llama, architecture."""
    form, quantization, *named = text.split()
    architecture = named[0] if named else "LlamaForCausalLM"
    return Spec(
        family="f", size="7", format=form, quantization=quantization, hub="huggingface", id="a/b",
        shape=Shape(architecture=None if architecture == "?" else architecture),
    )  # fmt: skip


@cache
def judge(engine: str, where: str, what: str) -> Verdict:
    return pack().judge(engine, gathered(what, where))


def gathered(what: str, where: str) -> dict[str, Any]:
    """Return the facts of an artefact on a machine: ``@`` is before the engine's version, ``/`` before Python's."""
    place, _, interpreter = where.partition("/")
    name, _, version = place.partition("@")
    return rules.gather(artefact(what), machine(name), version=version or None, interpreter=interpreter or None)


# --- which engine serves what, where ---

TABLE: dict[str, dict[str, dict[str, str]]] = {
    "vllm": {
        "pytorch none": {
            "h100": "yes", "t4": "yes", "rtx4090": "yes", "a100-80g": "yes", "rocm": "yes", "server": "yes",
            "amx-server": "yes", "arm-server": "yes", "rocm/3.12.3": "yes", "rocm/3.11.9": "no rocm-python",
            "rocm/3.13.0": "no rocm-python", "h100/3.11.9": "yes", "server/3.13.0": "yes",
            "cuda": "unknown compute-capability", "cpu": "unknown cpu-build", "intel-gpu": "unknown device",
            "v100": "no compute-capability", "old-server": "no cpu-build", "windows": "no linux",
            "apple": "no linux", "m3-max": "no linux", "intel-mac": "no linux",
        },
        "pytorch 4-bit": {
            "h100": "no pytorch-quantization bitsandbytes-plugin", "h100@0.27.0": "no pytorch-quantization",
        },
        "pytorch bfloat16": {"server": "no pytorch-quantization"},
        "awq Int4": {
            "h100": "yes", "t4": "yes", "server": "yes", "rocm": "unknown rocm-quantized",
            "arm-server": "no cpu-quantized", "h100@0.9.2": "unknown version",
        },
        "awq Int8": {"h100": "no awq-quantization"},
        "gptq Int4": {
            "h100": "yes", "server": "yes", "rocm": "unknown rocm-quantized", "arm-server": "no cpu-quantized",
        },
        "gptq Int8": {"h100": "yes", "t4": "yes"},
        "gptq 8bits": {"h100": "yes"},
        "gptq Int3": {"h100": "no gptq-bits", "server": "no gptq-bits", "h100@0.21.0": "yes"},
        "gptq Int4-Int8Mix": {"h100": "no gptq-quantization gptq-bits"},
        "fp8 fp8": {"h100": "yes", "t4": "yes", "rocm": "yes", "server": "unknown cpu-fp8"},
        "ggufv2 Q4_0": {"h100": "no gguf gguf-plugin", "server": "no gguf gguf-plugin", "h100@0.23.0": "no gguf"},
        "compressed-tensors Int4": {"h100": "yes", "t4": "yes", "rocm": "yes", "server": "unknown cpu-formats"},
        "compressed-tensors fp4": {"h100": "yes"},
        "compressed-tensors Int2": {"h100": "unknown compressed-tensors-quantization"},
        "mxfp4 mxfp4": {
            "h100": "yes", "a100-80g": "yes", "t4": "no mxfp4-compute-capability", "server": "unknown cpu-formats",
        },
        "modelopt nvfp4": {"h100": "yes"},
        "modelopt w4a8": {"h100": "no modelopt-quantization"},
        "mlx 4-bit": {"h100": "no format", "apple": "no format linux"},
        "pytorch none ChatGLMModel": {"h100": "yes", "server": "yes"},
        "pytorch none QWenLMHeadModel": {
            "h100": "no removed-in-0.24", "h100@0.24.0": "no removed-in-0.24", "h100@0.23.0": "yes",
            "rocm@0.18.0": "yes",
        },
        "pytorch none BaichuanForCausalLM": {
            "h100": "no removed-in-0.25", "server": "no removed-in-0.25", "h100@0.24.0": "unknown baichuan-in-0.24",
            "h100@0.23.0": "yes",
        },
        "pytorch none AquilaForCausalLM": {"h100": "no removed-in-0.25", "h100@0.24.0": "yes"},
        "pytorch none TeleChatForCausalLM": {"h100": "no removed-in-0.26", "h100@0.25.0": "yes"},
        "pytorch none Plamo2ForCausalLM": {"h100": "no removed-in-0.27", "h100@0.26.0": "yes"},
        "pytorch none MPTForCausalLM": {"h100": "no removed-in-0.29", "h100@0.28.0": "yes"},
        "pytorch none Gemma4ForCausalLM": {"h100": "yes", "h100@0.18.0": "unknown new-in-0.19"},
        "pytorch none Ministral3ForCausalLM": {"h100": "yes", "h100@0.19.0": "unknown new-in-0.20"},
        "pytorch none Qwen3_5ForCausalLM": {"h100": "yes", "h100@0.26.0": "unknown new-in-0.27"},
        "pytorch none OfTomorrowForCausalLM": {"h100": "unknown architecture", "server": "unknown architecture"},
    },
    "sglang": {
        "pytorch none": {
            "h100": "yes", "t4": "unknown turing", "server": "yes", "old-server": "yes", "arm-server": "yes",
            "cpu": "yes", "cuda": "unknown compute-capability", "rocm": "unknown device", "intel-gpu": "unknown device",
            "v100": "no compute-capability", "apple": "no linux", "windows": "no linux",
        },
        "pytorch 8-bit": {"h100": "no pytorch-quantization"},
        "awq Int4": {
            "h100": "yes", "t4": "unknown turing", "amx-server": "yes", "server": "no cpu-quantized",
            "rocm": "unknown device",
        },
        "awq Int8": {"h100": "no awq-quantization"},
        "gptq Int4": {
            "h100": "yes", "rtx4090": "yes", "amx-server": "yes", "t4": "no quantized-compute-capability",
            "server": "no cpu-quantized", "cpu": "unknown cpu-quantized", "rocm": "unknown device rocm-gptq",
        },
        "gptq Int3": {"h100": "no gptq-quantization"},
        "fp8 fp8": {
            "h100": "yes", "a100-80g": "yes", "t4": "no quantized-compute-capability", "server": "no cpu-quantized",
        },
        "ggufv2 Q4_0": {"h100": "no gguf", "server": "no gguf"},
        "compressed-tensors Int4": {
            "h100": "yes", "t4": "no quantized-compute-capability", "amx-server": "yes", "server": "no cpu-quantized",
        },
        "compressed-tensors Int2": {"h100": "unknown compressed-tensors-quantization"},
        "mxfp4 mxfp4": {"h100": "yes", "t4": "no quantized-compute-capability", "amx-server": "yes"},
        "modelopt nvfp4": {"h100": "yes", "amx-server": "no cpu-modelopt"},
        "modelopt w4a8": {"h100": "no modelopt-quantization"},
        "mlx none": {"h100": "no format"},
        "ggmlv3 q4_0": {"h100": "no format"},
        "pytorch none QWenLMHeadModel": {
            "h100": "yes", "server": "yes", "h100@0.5.19": "unknown version", "h100@0.5.23": "yes",
        },
        "pytorch none InternLMForCausalLM": {"h100": "unknown architecture"},
    },
    "transformers": {
        "pytorch none": {
            "h100": "yes", "rocm": "yes", "apple": "yes", "m3-max": "yes", "server": "yes", "old-server": "yes",
            "cpu": "yes", "windows": "yes", "intel-mac": "yes",
            "intel-gpu": "yes", "cuda": "unknown compute-capability", "v100": "no compute-capability",
        },
        "pytorch 4-bit": {"h100": "yes", "server": "yes"},
        "pytorch Int4": {"h100": "no pytorch-quantization"},
        "awq Int4": {"h100": "no packages"},
        "awq Int3": {"h100": "no awq-quantization packages"},
        "compressed-tensors Int4": {"h100": "no packages"},
        "mxfp4 mxfp4": {"h100": "unknown mxfp4", "server": "unknown mxfp4"},
        "gptq Int3": {"h100": "no packages", "server": "no packages"},
        "gptq Int4-Int8Mix": {"h100": "no gptq-quantization packages"},
        "fp8 fp8": {"h100": "no packages", "v100": "no packages compute-capability"},
        "ggufv2 Q4_0": {"h100": "no gguf", "server": "no gguf"},
        "mlx none": {"apple": "no format"},
        "pytorch none ChatGLMModel": {
            "h100": "unknown architecture", "server": "unknown architecture",
            "server@5.0.0": "unknown version architecture",
            "server@5.19.0": "unknown architecture",
        },
    },
    "llama_cpp": {
        "ggufv2 Q4_0": {
            "server": "yes", "old-server": "yes", "arm-server": "yes", "cpu": "yes", "apple": "yes", "m3-max": "yes",
            "rocm": "yes", "h100": "yes", "v100": "yes", "gtx-980": "yes", "intel-gpu": "yes", "intel-mac": "yes",
            "windows": "yes", "cuda": "unknown compute-capability", "gtx-780": "no compute-capability",
        },
        "ggufv2 q2_k QWenLMHeadModel": {
            "server": "yes", "server@2026.10.11549": "yes", "server@0.2.90": "unknown version",
        },
        "ggufv2 F32 BaiChuanForCausalLM": {"server": "yes"},
        "ggufv2 Q4_0 InternLMForCausalLM": {"server": "unknown architecture"},
        "ggmlv3 q4_0": {"server": "no format", "h100": "no format"},
        "pytorch none": {"server": "no format"},
        "mlx 4-bit": {"apple": "no format"},
    },
    "mlx": {
        "mlx none": {
            "apple": "yes", "m3-max": "yes", "server": "yes", "old-server": "yes", "arm-server": "yes", "cpu": "yes",
            "h100": "yes", "t4": "yes", "cuda": "unknown compute-capability", "v100": "no compute-capability",
            "rocm": "no device", "intel-gpu": "no device", "windows": "no system", "intel-mac": "no apple-silicon",
        },
        "mlx None": {"apple": "yes"},
        "mlx 4-bit": {"apple": "yes", "server": "yes"},
        "mlx 8bit": {
            "apple": "yes", "apple@0.32.2": "yes", "apple@0.28.2": "unknown version", "server@0.28.2": "no linux",
            "server@0.28.3": "unknown version",
        },
        "mlx mxfp4": {"apple": "yes"},
        "mlx nvfp4": {"apple": "yes"},
        "mxfp4 mxfp4": {"apple": "yes"},
        "modelopt nvfp4": {"apple": "yes"},
        "modelopt fp8": {"apple": "no modelopt-quantization"},
        "compressed-tensors fp4": {"apple": "yes"},
        "compressed-tensors Int4": {"apple": "unknown compressed-tensors-quantization"},
        "mlx Int4": {"apple": "no mlx-quantization"},
        "pytorch none": {"apple": "yes", "server": "yes", "h100": "yes"},
        "pytorch 8-bit": {"apple": "no pytorch-quantization"},
        "awq Int4": {"apple": "yes", "server": "yes"},
        "awq Int8": {"apple": "no awq-quantization"},
        "gptq Int4": {"apple": "no format"},
        "fp8 fp8": {"apple": "no format"},
        "ggufv2 Q4_0": {"apple": "no format", "server": "no format"},
        "mlx 4-bit QWenLMHeadModel": {"apple": "yes"},
        "mlx 4-bit ChatGLMModel": {"apple": "no missing-architecture"},
        "pytorch none OrionForCausalLM": {"server": "no missing-architecture"},
        "pytorch none OfTomorrowForCausalLM": {"apple": "unknown architecture"},
    },
}  # fmt: skip
"""By engine, artefact and machine: the verdict, and the conditions that a no fails or that leave it open."""
ROWS = [
    pytest.param(engine, what, where, said, id=f"{engine}-{what}-{where}".replace(" ", "-"))
    for engine, artefacts in TABLE.items()
    for what, machines in artefacts.items()
    for where, said in machines.items()
]


@pytest.mark.parametrize(("engine", "what", "where", "said"), ROWS)
def test_a_verdict(engine: str, what: str, where: str, said: str) -> None:
    """Each engine serves what its packages and pages say, and the conditions in the way are exactly these."""
    verdict = judge(engine, where, what)
    against = verdict.of("failed") or verdict.of("unknown")
    assert [verdict.verdict, *(finding.id for finding in against)] == said.split()


@pytest.mark.parametrize(
    ("engine", "condition"), [(engine, condition) for engine in ENGINES for condition in pack().engines[engine]]
)
def test_every_condition_decides_a_row(engine: str, condition: rules.Condition) -> None:
    """It is met where it applies in one row, and keeps another from being a yes."""
    met, against = False, False
    for what, machines in TABLE[engine].items():
        for where in machines:
            verdict = judge(engine, where, what)
            (found,) = [f for f in verdict.findings if f.id == condition.id]
            facts = gathered(what, where)
            if found.outside:
                continue
            applies = condition.when is None or condition.when.test(facts) is True
            met |= found.result == "met" and applies
            against |= found in (verdict.of("failed") or verdict.of("unknown")) and applies
    assert against, "no row in which it decides"
    assert met, "no row in which it applies and holds"


@pytest.mark.parametrize("engine", ENGINES)
def test_an_architecture_that_is_not_known_is_unknown(engine: str) -> None:
    """Neither a name that nobody has published nor a record without one refuses an engine."""
    form = {"llama_cpp": "ggufv2 Q4_0", "mlx": "mlx none"}.get(engine, "pytorch none")
    where = "apple" if engine == "mlx" else "server"
    for name in ("?", "NeverSeenForCausalLM"):
        verdict = judge(engine, where, f"{form} {name}")
        assert verdict.verdict == "unknown"
        assert "architecture" in [finding.id for finding in verdict.of("unknown")]


def test_why_a_failure_is_open() -> None:
    """A source that contradicts another is named with it; where more may be possible, the pack says what."""
    (awq,) = judge("vllm", "rocm", "awq Int4").of("unknown")
    assert awq.fix == "sources conflict: vLLM documentation, Quantization says no, vLLM 0.33.0 does not"
    (other,) = judge("vllm", "server", "pytorch none NeverSeenForCausalLM").of("unknown")
    assert other.fix == "vLLM may know it, or run it with the code of transformers"


@pytest.mark.parametrize("form", ["gptq Int4", "awq Int4", "fp8 fp8"])
def test_transformers_reads_quantized_files_in_an_environment_of_the_users(form: str) -> None:
    """None that is made here has the packages for them, as its adapter says too; whose own interpreter it is, may."""
    (packages,) = judge("transformers", "h100", form).of("failed")
    assert packages.fix == "model.format=pytorch, or engine.python= for an interpreter that has those packages"
    facts = rules.gather(artefact(form), machine("h100"), python="/mine/bin/python")
    assert pack().judge("transformers", facts).verdict == "yes"


# --- the model that everybody can have ---


@pytest.mark.parametrize(
    ("engine", "form", "quantization"),
    [
        pytest.param("llama_cpp", "ggufv2", "Q4_1", id="llama_cpp-as-published"),
        pytest.param("llama_cpp", "ggufv2", "Q4_0", id="llama_cpp-derived"),
        pytest.param("vllm", "pytorch", "none", id="vllm"),
        pytest.param("sglang", "pytorch", "none", id="sglang"),
        pytest.param("transformers", "pytorch", "none", id="transformers"),
        pytest.param("mlx", "mlx", "none", id="mlx"),
        pytest.param("mlx", "pytorch", "none", id="mlx-reads-a-folder-of-transformers"),
    ],
)
def test_the_default_model_runs_on_all_five_engines_of_a_plain_server(
    engine: str, form: str, quantization: str
) -> None:
    """Each engine says yes to one of its formats, without a GPU."""
    found = catalog.select(families()["smollm2-135m-instruct"], day=None, format=form, quantization=quantization)
    facts = rules.gather(found[0], machine("server"))
    assert pack().judge(engine, facts).verdict == "yes"


# --- the order ---


def test_the_order_of_each_device() -> None:
    """Every device has one of its own, which begins with the engine that suits it best."""
    orders = pack().preferences | {"default": pack().preference}
    assert {device: order[0] for device, order in orders.items()} == {
        "cpu": "llama_cpp", "cuda": "vllm", "rocm": "vllm", "xpu": "transformers", "apple": "mlx", "default": "vllm",
    }  # fmt: skip
    for order in orders.values():
        assert set(order) <= set(ENGINES)
    assert set(pack().order(machine("apple"))) == set(ENGINES)


@cache
def prefer() -> Prefer:
    return msgspec.convert(Composer().compose([])["prefer"], Prefer)


@pytest.mark.parametrize(
    ("where", "model", "engine", "form"),
    [
        pytest.param("server", "qwen2-instruct", "llama_cpp", "ggufv2", id="a-server"),
        pytest.param("h100", "qwen2-instruct", "vllm", "pytorch", id="a-known-card"),
        pytest.param("cuda", "qwen2-instruct", "vllm", "pytorch", id="any-card"),
        pytest.param("rocm", "qwen2-instruct", "vllm", "pytorch", id="rocm"),
        pytest.param("apple", "qwen2-instruct", "mlx", "pytorch", id="apple-silicon"),
        pytest.param("apple", "glm4-chat", "llama_cpp", "ggufv2", id="what-mlx-does-not-know"),
        pytest.param("h100", "qwen-chat", "sglang", "pytorch", id="what-vllm-has-dropped"),
        pytest.param("rocm", "qwen-chat", "vllm", "pytorch", id="what-the-vllm-there-still-has"),
        pytest.param("intel-gpu", "qwen2-instruct", "transformers", "pytorch", id="a-card-of-intels"),
        pytest.param("intel-gpu", "glm4-chat", "llama_cpp", "ggufv2", id="what-transformers-does-not-know-there"),
        pytest.param("intel-mac", "qwen2-instruct", "llama_cpp", "ggufv2", id="an-intel-mac"),
        pytest.param("h100", "smollm2-135m-instruct", "llama_cpp", "ggufv2", id="what-is-published-comes-first"),
        pytest.param("unknown", "qwen2-instruct", "vllm", "pytorch", id="nothing-is-known"),
    ],
)
def test_what_is_chosen(where: str, model: str, engine: str, form: str) -> None:
    """The first engine of the device's order that may serve something of the model."""
    candidates = catalog.select(families()[model], day=catalog.DAYS[-1])
    judged = releases.settled(pack(), machine(where), {"name": "auto"})
    made = decision.decide(judged, candidates, machine(where), prefer(), engine=None, broken={}, tokens=4096)
    assert (made.engine, made.spec.format) == (engine, form)


# --- sources ---


def test_every_condition_has_a_source() -> None:
    """A package or a page with its day, and the place in it; a condition of xinfer's own says whose plugin it is of."""
    for engine in ENGINES:
        for condition in pack().engines[engine]:
            source = condition.source
            assert all((source.title, source.where, source.at)), (engine, condition.id)
            assert re.fullmatch(r"202[56]-\d\d(-\d\d)?", source.date), (engine, condition.id)
            assert source.date <= pack().date
            assert source.kind in {"page", "code"} or str(source.at).startswith(engine), (engine, condition.id)


def test_what_the_pack_is_about() -> None:
    """The five engines, today's catalogue, every family; and its name is its file's."""
    assert (pack().name, pack().catalog, pack().families) == (TODAY, None, ())
    assert tuple(pack().engines) == ENGINES


def test_no_engine_is_asked_by_family() -> None:
    """Engines know architectures, not the names that a catalogue gives to families."""
    asked: set[Any] = {fact for judged in pack().engines.values() for condition in judged for fact in condition.facts}
    assert asked == {
        "model.format", "model.quantization", "model.architecture", "hw.os", "hw.arch", "hw.isa", "hw.device",
        "hw.compute_capability", "hw.apple_silicon", "engine.own", "engine.version", "engine.interpreter",
    }  # fmt: skip
