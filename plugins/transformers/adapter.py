"""Plans Transformers: ``transformers serve`` on whatever PyTorch runs on, with a model's folder or its id on a hub."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from xinfer import engines
from xinfer.errors import ConfigError
from xinfer.plan import Command, LaunchPlan, Memory
from xinfer.planning import artefacts, cache, parallel, precision, requirement
from xinfer.planning.parallel import Splits
from xinfer.planning.precision import Precision

from . import advice
from .settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from xinfer.catalog import Spec
    from xinfer.engines import Job
    from xinfer.facts import Hardware
    from xinfer.planning.advice import Advice, Case
    from xinfer.planning.artefacts import Weights
    from xinfer.planning.requirement import Provided

HERE = Path(__file__).parent
RESERVED = {"dtype": "dtype=", "quantization": "model.quantization="}
"""Flags that other parts of the plan depend on, and what to set instead."""
DEVICES = {"cuda": "cuda", "rocm": "cuda", "xpu": "xpu", "apple": "mps", "cpu": "cpu"}
"""What PyTorch calls each kind of machine."""
QUANTIZED = {"4-bit": "bnb-4bit", "8-bit": "bnb-8bit"}
"""Quantizations that are made while the weights are loaded."""
PACKAGES = {
    "gptq": "optimum and gptqmodel", "awq": "gptqmodel", "fp8": "compressed-tensors or kernels",
    "compressed-tensors": "compressed-tensors",
}  # fmt: skip
"""Formats that it reads through packages which are in no environment of this plugin's."""
BFLOAT16 = {"avx512_bf16", "amx_bf16", "bf16"}
"""Instruction sets that compute in bfloat16; where none is, a CPU takes float32 apart."""
BLOCK = 256
"""Tokens in one block of the cache, if nothing is said (``page_size``)."""
SPARE = 0.15
"""The share of the cache that must be free before a prompt is computed (``FIFOScheduler``)."""
BATCH = 512
"""Tokens that are computed at once on a CPU."""
TRASH = 2
"""Blocks of the cache that nobody is given (``PagedAttentionCache``)."""
PROGRAM_GIB = 0.45
"""PyTorch and the server without model and cache; resident, measured with 5.23.0 on Linux."""
REQUEST = {"generation_config": '{"eos_token_id": -1}'}
"""There is no ``ignore_eos``: no vocabulary has the token that ends an output. ``max_tokens`` still sets its length."""
SAMPLING = (
    "all requests are sampled as the first one is, which is xinfer's own and greedy: continuous batching has one "
    "temperature for all"
)


class Asked(NamedTuple):
    """The job, and what was made of it so far."""

    job: Job
    settings: Settings
    variant: str
    precision: Precision
    weights: Weights


class Room(NamedTuple):
    """A key-value cache."""

    slots: int
    """How many sequences it has room for."""
    block: int
    """Tokens in a block of it."""
    each: int
    """Blocks of one sequence."""
    blocks: int


class Transformers:
    """The HTTP server of Transformers."""

    name = "transformers"
    title = "Transformers"
    port = 8000
    splits: ClassVar[Splits] = Splits()
    conf = HERE / "conf"

    def pinned(self, hardware: Hardware, _settings: Mapping[str, Any]) -> str | None:
        """Return the version that would be installed on a machine."""
        return requirement.pinned(HERE / "requirements.yaml", requirement.variant_of(hardware))

    def plan(self, job: Job) -> LaunchPlan:
        """Return the launch plan; raise ConfigError for what Transformers, its packages or the GPU do not have."""
        settings = engines.settings(job, Settings)
        variant = requirement.variant_of(job.hardware)
        _check(job.spec, settings)
        engine = _engine(job, settings, variant)
        asked = _asked(job, settings, variant)
        model = _model(job.spec, asked.weights)
        command = Command(engine.python, "-m", "transformers.cli.transformers", "serve", model)
        _add_flags(command, asked)
        _add_cache(command, asked)
        _add_variables(command, asked)
        args = {name.replace("_", "-"): value for name, value in settings.args.items()}
        command.override(args, settings.env, RESERVED)
        return LaunchPlan(
            engine=self.name,
            version=engine.version,
            variant=engine.variant,
            environment=engine.environment,
            weights=asked.weights.needs,
            port=job.port,
            dtype=asked.precision.dtype,
            device="cpu" if variant == "cpu" else "gpu",
            model=model,
            request=REQUEST,
            scorer=(
                engine.python,
                "-I",
                str(HERE / "scorer.py"),
                model,
                asked.precision.dtype or "auto",
                DEVICES[variant],
            ),
            tokenizer=artefacts.tokenizing(engine.python, model),
            memory=_memory(asked),
            notes=_notes(asked),
            **command.parts,
        )

    def advice(self, case: Case) -> Iterator[Advice]:
        """Yield what of a plan costs speed or memory."""
        return advice.of(case)


def _check(spec: Spec, settings: Settings) -> None:
    """Refuse what this engine does not load, or only with packages that the user must bring."""
    artefacts.check_folder(spec, "transformers", ("pytorch", "mxfp4", *PACKAGES))
    packages = PACKAGES.get(spec.format or "")
    if packages and settings.python is None:
        needs = f"transformers reads {spec.format} through {packages}, which this plugin does not install"
        raise ConfigError(f"{needs}; say engine.python= for an interpreter that has it all, or model.format=pytorch")


def _engine(job: Job, settings: Settings, variant: str) -> Provided:
    quantizer = "-bnb" if job.spec.quantization in QUANTIZED else ""
    return requirement.provide(HERE / "requirements.yaml", settings, job, f"{variant}{quantizer}")


def _asked(job: Job, settings: Settings, variant: str) -> Asked:
    chosen = precision.choose(job.dtype, job.spec, job.hardware)
    isa = job.hardware.isa
    if variant == "cpu" and job.dtype is None and isa is not None and not BFLOAT16.intersection(isa):
        chosen = Precision(
            "float32", "a CPU without instructions for bfloat16 takes two to four times as long for a prompt"
        )
    weights = artefacts.folder(job.spec, home=job.home, python=job.python, dtype=chosen.dtype or "bfloat16")
    return Asked(job, settings, variant, chosen, weights)


def _model(spec: Spec, weights: Weights) -> str:
    """Return the model as the command names it, and as requests then must; what follows an @ is a revision."""
    if weights.needs or spec.hub == "local":
        if "@" in weights.place:
            raise ConfigError(f"{weights.place}: transformers takes what follows an @ for a revision; rename it")
        return weights.place
    return f"{weights.place}@{spec.revision}" if spec.revision else weights.place


def _add_flags(command: Command, asked: Asked) -> None:
    spec = asked.job.spec
    command.add("--host", "127.0.0.1", because="loopback only")
    command.add("--port", asked.job.port, because="port=; else a free one when it runs, the server's own in a plan")
    command.add("--device", DEVICES[asked.variant], because="what the machine has, in PyTorch's words")
    command.add("--dtype", asked.precision.dtype or "auto", because=asked.precision.why)
    if spec.quantization in QUANTIZED:
        command.add("--quantization", QUANTIZED[spec.quantization], because=f"the {spec.quantization} that was chosen")
    if spec.remote_code:
        command.add("--trust-remote-code", because="the model's own code was allowed explicitly")
    command.add("--continuous-batching", because="without it a request waits until the one before it has ended")


def _add_cache(command: Command, asked: Asked) -> None:
    """Bound the key-value cache, which else takes more than half of a machine's memory, or nearly all of a GPU's."""
    settings, job = asked.settings, asked.job
    if asked.variant == "cpu" or settings.slots:
        room = _room(asked)
        why = "engine.slots" if settings.slots else f"workload {job.workload.name} keeps {room.slots} in flight"
        alike = "prompts that begin alike share whole blocks, and a prompt that is measured is computed"
        size = f"context_length={job.context_length} in one block: {alike}"
        if job.workload.shared_prefix:
            size = "workload.shared_prefix: prompts that begin alike share whole blocks of this size"
        command.add("--cb-block-size", room.block, because=size)
        each = "a block" if room.each == 1 else f"{room.each} blocks"
        count = f"{each} for each of {room.slots} slots ({why}), and the {SPARE:.0%} that its scheduler keeps free"
        command.add("--cb-num-blocks", room.blocks, because=count)
    if asked.variant == "cpu":
        why = "a longer prompt is computed in parts, between which the others get their tokens"
        command.add("--cb-max-batch-tokens", BATCH, because=why)
    elif settings.gpu_memory:
        command.add("--cb-max-memory-percent", settings.gpu_memory, because="engine.gpu_memory")


def _room(asked: Asked) -> Room:
    """Return a cache in which prompts share blocks where the workload says so, and else have one block each."""
    slots = asked.settings.slots or asked.job.workload.concurrency
    needed = math.ceil(asked.job.context_length / BLOCK)
    block, each = (BLOCK, needed) if asked.job.workload.shared_prefix else (needed * BLOCK, 1)
    return Room(slots, block, each, math.ceil(slots * each / (1 - SPARE)))


def _add_variables(command: Command, asked: Asked) -> None:
    job = asked.job
    if asked.variant == "cpu":
        threads, why = parallel.free_threads(job.hardware, asked.settings.threads)
        if threads:
            command.set("OMP_NUM_THREADS", threads, because=why)
        if threads is None or (job.hardware.cores is not None and threads > max(1, job.hardware.cores - 1)):
            why = "threads may outnumber the free cores: one that spins at a barrier then stops the one it waits for"
            command.set("OMP_WAIT_POLICY", "passive", because=why)
    if asked.weights.needs or job.spec.hub == "local":
        command.set("HF_HUB_OFFLINE", 1, because="the model lies on this machine: no hub is asked")
    if asked.weights.needs:
        why = "/v1/models lists what is in a cache of Hugging Face's, and fails where there is no folder"
        command.set("HF_HUB_CACHE", f"{job.home}/models", because=why)
    for variable in ("HF_HUB_DISABLE_TELEMETRY", "HF_HUB_DISABLE_UPDATE_CHECK"):
        command.set(variable, 1, because="nothing is reported to anybody, and nobody is asked for a newer version")
    kept = "what PyTorch compiles lies with all else of xinfer"
    command.set("TORCHINDUCTOR_CACHE_DIR", f"{job.home}/caches/torch", because=kept)


def _memory(asked: Asked) -> Memory:
    """Return what a CPU's server sets aside, and needs beside it; on a GPU nobody here has measured it."""
    if asked.variant != "cpu":
        return Memory()
    room, formula = _room(asked), {"overhead_gib": f"{PROGRAM_GIB} GiB of program: PyTorch and the server"}
    tokens = (room.blocks + TRASH) * room.block
    kept = cache.size(asked.job.spec.shape, tokens, 1, cache.widths((), asked.precision.dtype))
    if kept is None:
        return Memory(overhead_gib=PROGRAM_GIB, formula=formula)
    blocks = f"{room.blocks} + {TRASH} blocks of {room.block} tokens"
    formula["kv_gib"] = f"{blocks}, {kept / tokens:g} bytes each: the slots', and what the scheduler keeps free"
    return Memory(overhead_gib=PROGRAM_GIB, kv_gib=kept / 2**30, formula=formula)


def _notes(asked: Asked) -> tuple[str, ...]:
    """Return what a person should know before running the plan."""
    hardware, settings, packaged = asked.job.hardware, asked.settings, asked.settings.python is None
    is_gpu = asked.variant != "cpu"
    remarks = {
        SAMPLING: True,
        "the server tokenizes for nobody: prompts are counted by the model's tokenizer, beside it": True,
        "it takes 0.9 of a GPU's free memory for its cache; engine.gpu_memory= says otherwise": (
            is_gpu and asked.variant != "apple" and not settings.gpu_memory and not settings.slots
        ),
        f"prompts that begin with the same {BLOCK} tokens share their cache, and no answer says so; engine.slots= "
        "gives each a block of its own": is_gpu and not settings.slots,
        f"one of the {hardware.gpus} GPUs is used: transformers serve does not split a network": (
            (hardware.gpus or 0) > 1
        ),
        "PyTorch 2.13.0 of PyPI is built for CUDA 13.0, which needs NVIDIA's driver 580 or later": (
            packaged and asked.variant == "cuda" and _is_old(hardware.gpu.driver)
        ),
        "the number of cores is not known: PyTorch chooses the threads; engine.threads= says otherwise": (
            not is_gpu and hardware.cores is None and settings.threads is None
        ),
        "these commands are for Linux and macOS": hardware.os == "windows",
    }
    return tuple(remark for remark, applies in remarks.items() if applies)


def _is_old(driver: str | None) -> bool:
    """Say whether NVIDIA's driver is older than CUDA 13 needs, or not known."""
    major = (driver or "0").partition(".")[0]
    return not major.isdecimal() or int(major) < 580  # noqa: PLR2004 -- CUDA 13's release notes
