"""Plans SGLang: its OpenAI server on CUDA or a CPU, with a model's folder or its id on a hub."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import msgspec

from xinfer import engines
from xinfer.errors import ConfigError
from xinfer.plan import Command, LaunchPlan, Memory
from xinfer.planning import artefacts, cache, memory, nodes, parallel, precision, requirement, spread
from xinfer.planning.parallel import Splits

from . import advice
from .reserve import reserve_mib
from .settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from xinfer.engines import Job
    from xinfer.facts import Hardware
    from xinfer.planning.advice import Advice, Case
    from xinfer.planning.artefacts import Weights
    from xinfer.planning.cache import Place
    from xinfer.planning.precision import Precision
    from xinfer.planning.spread import Spread

HERE = Path(__file__).parent
RESERVED = {"model-path": "model=", "model": "model=", "served-model-name": "model=", "dtype": "dtype="}
"""Flags that other parts of the plan depend on, and what to set instead."""
FORMATS = ("pytorch", "gptq", "awq", "fp8", "compressed-tensors", "mxfp4", "modelopt")
STAGED = {
    *("LlamaForCausalLM", "MistralForCausalLM", "MixtralForCausalLM", "OrionForCausalLM"),
    *("Qwen2ForCausalLM", "Qwen2MoeForCausalLM"),
}
"""The catalogue's networks whose layers SGLang can deal to stages (``pp_proxy_tensors`` in its models, 0.5.23)."""
SPLITS = Splits(tensor=True, staged=frozenset(STAGED), nodes=True)
KEPT = 2
"""Tokens of the context that no sequence gets (``max_req_len`` in ``managers/scheduler.py``)."""
RENDEZVOUS = 20000
"""The port at which machines find each other, in SGLang's own examples."""
SPARE = 64
"""Tokens of cache for each slot beyond its context, so that no request waits for the end of another."""


PROGRAM_GIB = 2.1
"""Its processes without weights and cache; resident, measured with sglang 0.5.23 on Linux."""
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
    context: int
    context_why: str
    spread: Spread


class Sglang:
    """SGLang's HTTP server."""

    name = "sglang"
    title = "SGLang"
    port = 30000
    splits: ClassVar[Splits] = SPLITS
    conf = HERE / "conf"
    key_variables: ClassVar[dict[str, str]] = {"SGLANG_API_KEY": "{key}"}
    """Known to server.py alone: SGLang itself takes a key as a flag, and shows it."""

    def pinned(self, hardware: Hardware, settings: Mapping[str, Any]) -> str | None:
        """Return the version that would be installed on a machine."""
        variant, backend = requirement.variant_of(hardware), settings.get("torch_backend")
        build = f"cuda-{backend}" if variant == "cuda" and backend else variant
        return requirement.pinned(HERE / "requirements.yaml", build)

    def plan(self, job: Job) -> LaunchPlan:
        """Return the launch plan; raise ConfigError for what SGLang, its packages or the GPU do not have."""
        settings = engines.settings(job, Settings)
        variant = requirement.variant_of(job.hardware)
        _check(settings, variant)
        artefacts.check_folder(job.spec, self.name, FORMATS)
        build = f"cuda-{settings.torch_backend}" if variant == "cuda" and settings.torch_backend else variant
        engine = requirement.provide(HERE / "requirements.yaml", settings, job, build)
        asked = _asked(job, settings, variant)
        # -P: what lies beside the script is no module of SGLang's.
        command = Command(engine.python, "-P", str(HERE / "server.py"))
        _add_flags(command, asked)
        (_add_cpu if variant == "cpu" else _add_gpus)(command, asked)
        _add_variables(command, asked)
        args = {name.replace("_", "-"): value for name, value in settings.args.items()}
        command.override(args, settings.env, RESERVED)
        parts, count = command.parts, job.hardware.nodes
        if count > 1:
            parts["nodes"] = nodes.ranked(parts["argv"], parts["env"], count)
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
            memory=_memory(asked),
            notes=_notes(asked),
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


def _asked(job: Job, settings: Settings, variant: str) -> Asked:
    chosen = precision.choose(job.dtype, job.spec, job.hardware)
    weights = artefacts.folder(job.spec, home=job.home, python=job.python, dtype=chosen.dtype or "bfloat16")
    at_once = f"workload {job.workload.name} keeps {job.workload.concurrency} in flight"
    slots, why = (settings.slots, "engine.slots") if settings.slots else (job.workload.concurrency, at_once)
    laid = spread.ALONE
    if variant != "cpu":

        def needs(place: Place) -> float | None:
            return _reserve(job, settings, place)[0]

        has = memory.available(job.hardware, "gpu")
        laid = spread.spread(job, SPLITS, chosen.dtype, has_gib=has, overhead_gib=needs)
    return Asked(job, settings, variant, chosen, weights, slots, why, *_context(job), laid)


def _context(job: Job) -> tuple[int, str]:
    """Return what SGLang is told, so that a sequence may use what was asked for, as far as the model allows it."""
    asked, most = job.context_length, job.spec.context_length
    if most is not None and asked + KEPT > most:
        return asked, f"context_length=, all that {job.spec.family} was made for; SGLang keeps {KEPT} tokens of it"
    return asked + KEPT, f"context_length={asked}, prompt and output together, and {KEPT} that SGLang keeps"


def _add_flags(command: Command, asked: Asked) -> None:
    job, spec = asked.job, asked.job.spec
    command.add("--model-path", asked.weights.place, because=f"{spec.family} {spec.size} {spec.format} from {spec.hub}")
    command.add("--served-model-name", spec.family, because="requests name the model by its family")
    command.add("--host", "127.0.0.1", because="loopback only")
    command.add("--port", job.port, because="port=; else a free one when it runs, SGLang's own in a plan")
    if spec.revision and not asked.weights.needs:
        command.add("--revision", spec.revision, because="the revision that the catalogue publishes")
    if spec.remote_code:
        command.add("--trust-remote-code", because="the model's own code was allowed explicitly")
    command.add("--dtype", asked.precision.dtype or "auto", because=asked.precision.why)
    command.add("--context-length", asked.context, because=asked.context_why)
    if not job.workload.shared_prefix:
        command.add("--disable-radix-cache", because="a prompt that is measured is computed, not remembered")
    command.add("--enable-cache-report", because="answers say how many tokens of a prompt were remembered")
    command.add("--enable-metrics", because="the server's own counters, beside what the client sees")


def _add_cpu(command: Command, asked: Asked) -> None:
    command.add("--device", "cpu", because="no GPU")
    command.add("--attention-backend", "torch_native", because="the one that needs no kernels of SGLang's")
    why = "SGLang's own networks need a kernel of sgl-kernel, whose build for CPUs is on no index"
    command.add("--model-impl", "transformers", because=why)
    why = f"a slot for each request that is served at once: {asked.slots_why}"
    command.add("--max-running-requests", asked.slots, because=why)
    tokens, why = _tokens(asked)
    command.add("--max-total-tokens", tokens, because=f"{why}; left alone, SGLang takes most of the memory")
    command.add("--sleep-on-idle", because="it otherwise spins while it waits, on most of a core")
    threads, why = parallel.free_threads(asked.job.hardware, asked.settings.threads)
    if threads:
        command.set("OMP_NUM_THREADS", threads, because=why)
    why = "SGLang's engine for CPUs needs sgl-kernel, whose build for CPUs is on no index"
    command.set("SGLANG_USE_CPU_ENGINE", 0, because=why)


def _add_gpus(command: Command, asked: Asked) -> None:
    settings, (split, is_own) = asked.settings, asked.spread
    if split.tensor > 1 and not is_own:
        command.add("--tp-size", split.tensor, because=split.tensor_why)
    if split.stages > 1 and not is_own:
        command.add("--pp-size", split.stages, because=split.stages_why)
    if settings.slots:
        command.add("--max-running-requests", asked.slots, because=asked.slots_why)
    if settings.kv_tokens:
        command.add("--max-total-tokens", settings.kv_tokens, because="engine.kv_tokens")
    if settings.gpu_memory:
        command.add("--mem-fraction-static", settings.gpu_memory, because="engine.gpu_memory")
    hardware = asked.job.hardware
    if hardware.nodes > 1:
        command.add("--nnodes", hardware.nodes, because="hw.nodes=")
        command.add("--node-rank", 0, because="its own for each machine; 0 answers requests")
        where = f"{nodes.head(hardware)}:{RENDEZVOUS}"
        command.add("--dist-init-addr", where, because="the first machine, where the others find it")


def _tokens(asked: Asked) -> tuple[int, str]:
    """Return the tokens of a CPU's cache, and how they came about."""
    if asked.settings.kv_tokens is not None:
        return asked.settings.kv_tokens, "engine.kv_tokens"
    return asked.slots * (asked.context + SPARE), f"{asked.slots} x ({asked.context} + {SPARE}) tokens"


def _add_variables(command: Command, asked: Asked) -> None:
    command.set(
        "SGLANG_CACHE_DIR", f"{asked.job.home}/caches/sglang", because="what it keeps lies with all else of xinfer"
    )
    if asked.weights.needs or asked.job.spec.hub == "local":
        for variable in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
            command.set(variable, 1, because="the model lies on this machine: no hub is asked")


def _reserve(job: Job, settings: Settings, place: Place) -> tuple[float | None, str]:
    """Return what SGLang leaves of a GPU for all but weights and cache, in GiB, and how that comes about."""
    has = memory.available(job.hardware, "gpu")
    if has is None:
        return None, "not known: SGLang computes it from the GPU's memory"
    share = spread.share_of(job.settings, "mem-fraction-static", settings.gpu_memory, 0.0)
    if share:
        return has * (1 - share), f"what a share of {share:g} leaves"
    is_latent = job.spec.shape.kv_lora_rank is not None
    mib, formula = reserve_mib(has, place, settings.slots, is_latent=is_latent)
    return mib / 1024, f"SGLang's own reserve: {formula} MiB"


def _memory(asked: Asked) -> Memory:
    """Return what SGLang fixes itself: a CPU's cache, and what it leaves of a GPU."""
    job, settings, split = asked.job, asked.settings, asked.spread.split
    if asked.variant != "cpu":
        overhead, why = _reserve(job, settings, split.place)
        return Memory(overhead_gib=overhead, least_gpus=split.least, formula={"overhead_gib": why})
    tokens, why = _tokens(asked)
    kept = cache.size(job.spec.shape, tokens, 1, cache.widths((), asked.precision.dtype))
    text = f"{PROGRAM_GIB} GiB of program: its three processes import PyTorch; resident, sglang 0.5.23 on Linux"
    formula = {"overhead_gib": text}
    if kept is None:
        return Memory(overhead_gib=PROGRAM_GIB, formula=formula)
    formula["kv_gib"] = f"{why}, {kept / tokens:g} bytes each"
    return Memory(overhead_gib=PROGRAM_GIB, kv_gib=kept / 2**30, formula=formula)


def _notes(asked: Asked) -> tuple[str, ...]:
    """Return what a person should know before running the plan."""
    settings, hardware, need = asked.settings, asked.job.hardware, asked.job.workload
    packaged, is_gpu = settings.python is None, asked.variant != "cpu"
    most = asked.context - KEPT
    remarks = {
        "SGLang's packages for CPUs are in its container images alone; this is its CUDA package, whose PyTorch code "
        "runs on any CPU, slowly": packaged and not is_gpu,
        "the number of cores is not known: PyTorch chooses the threads; engine.threads= says otherwise": (
            not is_gpu and hardware.cores is None and settings.threads is None
        ),
        f"the workload uses the whole context, of which SGLang keeps {KEPT} tokens: outputs end early": (
            need.input_tokens + need.output_tokens > most
        ),
        "SGLang computes the share of each GPU's memory that it takes; engine.gpu_memory= says otherwise": (
            is_gpu and not settings.gpu_memory
        ),
        "these commands are for Linux": hardware.os not in {"linux", None},
    }
    return (*(remark for remark, applies in remarks.items() if applies), *nodes.notes(hardware))
