"""Plans MLX: mlx_lm's HTTP server on Apple silicon, and on Linux with CUDA or a CPU."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import msgspec

from xinfer import engines
from xinfer.errors import ConfigError
from xinfer.plan import Command, LaunchPlan, Memory
from xinfer.planning import artefacts, parallel, requirement
from xinfer.planning.parallel import Splits

from . import advice
from .settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from xinfer.catalog import Spec
    from xinfer.engines import Job
    from xinfer.facts import Hardware
    from xinfer.plan import Argv
    from xinfer.planning.advice import Advice, Case
    from xinfer.planning.artefacts import Weights
    from xinfer.planning.requirement import Provided

HERE = Path(__file__).parent
RESERVED = {"model": "model=", "revision": "model="}
"""Flags that other parts of the plan depend on, and what to set instead."""
FORMATS = ("mlx", "pytorch", "awq", "mxfp4", "modelopt", "compressed-tensors")
"""It converts AWQ weights while it loads them (``utils.py``)."""
CUDA13_SINCE = 580
"""The first of NVIDIA's drivers that runs what is built for CUDA 13."""
NEVER = -100
"""Added to the logit of a token that must not come."""
PROGRAM_GIB = 0.25
"""The server without model and cache; resident, measured with mlx_lm 0.32.2 on Linux."""


class Asked(NamedTuple):
    """The job, and what was made of it so far."""

    job: Job
    settings: Settings
    variant: str
    dtype: str | None
    weights: Weights
    slots: int


class Mlx:
    """MLX-LM's HTTP server."""

    name = "mlx"
    title = "MLX"
    port = 8080
    splits: ClassVar[Splits] = Splits()
    conf = HERE / "conf"

    def pinned(self, hardware: Hardware, _settings: Mapping[str, Any]) -> str | None:
        """Return the version that would be installed on a machine."""
        return requirement.pinned(HERE / "requirements.yaml", _variant(hardware))

    def plan(self, job: Job) -> LaunchPlan:
        """Return the launch plan; raise ConfigError for what MLX does not have or load."""
        settings = engines.settings(job, Settings)
        variant = _variant(job.hardware)
        _check(job.spec)
        engine = _engine(job, settings, variant)
        asked = _asked(job, settings, variant)
        command = Command(engine.python, "-I", str(HERE / "server.py"))
        _add_flags(command, asked)
        _add_variables(command, asked, engine)
        args = {name.replace("_", "-"): value for name, value in settings.args.items()}
        command.override(args, settings.env, RESERVED)
        return LaunchPlan(
            engine=self.name,
            version=engine.version,
            variant=engine.variant,
            environment=engine.environment,
            weights=asked.weights.needs,
            port=job.port,
            dtype=asked.dtype,
            device="cpu" if variant == "cpu" else "gpu",
            model="default_model",
            request=_request(job),
            tokenizer=_tokenizing(engine.python, asked),
            memory=_overhead(variant),
            notes=_notes(asked),
            **command.parts,
        )

    def advice(self, case: Case) -> Iterator[Advice]:
        """Yield what of a plan costs speed or memory."""
        return advice.of(case)


def _check(spec: Spec) -> None:
    """Refuse what MLX does not load."""
    artefacts.check_folder(spec, "mlx", FORMATS)
    if spec.pickled:
        raise ConfigError(f"{spec.id}: mlx reads weights from safetensors files alone, and this model's are pickled")


def _variant(hardware: Hardware) -> str:
    """Name the build: as for every engine, and on NVIDIA's GPUs by what the driver can run."""
    variant = requirement.variant_of(hardware)
    if variant != "cuda":
        return variant
    major = (hardware.gpu.driver or "").partition(".")[0]
    return "cuda12" if major.isdecimal() and int(major) < CUDA13_SINCE else "cuda13"


def _engine(job: Job, settings: Settings, variant: str) -> Provided:
    """Return the environment; a CPU's has an OpenBLAS as well, made from that of its packages."""
    needs = HERE / "requirements.yaml"
    if variant != "cpu":
        return requirement.provide(needs, settings, job, variant)
    program = HERE / "openblas.py"
    engine = requirement.provide(needs, settings, job, variant, built_for=artefacts.fingerprint(program))
    if engine.environment is None:
        return engine
    made = engine.environment
    step = (engine.python, "-I", str(program), _blas(engine))
    return msgspec.structs.replace(engine, environment=msgspec.structs.replace(made, steps=(*made.steps, step)))


def _blas(engine: Provided) -> str:
    return f"{engine.environment.path}/lib/libopenblas.so" if engine.environment else ""


def _asked(job: Job, settings: Settings, variant: str) -> Asked:
    if job.dtype == "float16" or (job.dtype and not job.spec.derived):
        able = "float32 or bfloat16" if job.spec.derived else "none"
        can = f"MLX computes in what the folder holds; of this model's it can choose: {able}"
        raise ConfigError(f"dtype={job.dtype}: {can}")
    dtype = job.dtype
    if dtype is None and job.spec.derived:
        dtype = "float32" if variant == "cpu" else "bfloat16"
    weights = artefacts.folder(job.spec, home=job.home, python=job.python, dtype=dtype or "bfloat16")
    return Asked(job, settings, variant, dtype, weights, settings.slots or job.workload.concurrency)


def _add_flags(command: Command, asked: Asked) -> None:
    job, settings, weights = asked.job, asked.settings, asked.weights
    artefact = f"{job.spec.family} {job.spec.size} {job.spec.format} {job.spec.quantization}"
    command.add("--model", weights.place, because=f"{artefact}, from {job.spec.hub}")
    if job.spec.revision and not weights.needs:
        command.add("--revision", job.spec.revision, because="the revision that the catalogue publishes")
    command.add("--host", "127.0.0.1", because="loopback only")
    command.add("--port", job.port, because="port=; else a free one when it runs, mlx_lm's own in a plan")
    if job.spec.remote_code:
        command.add("--trust-remote-code", because="the model's own code was allowed explicitly")
    why = "engine.slots" if settings.slots else f"workload {job.workload.name} keeps {asked.slots} in flight"
    command.add("--decode-concurrency", asked.slots, because=f"as many outputs grow together: {why}")
    command.add("--prompt-concurrency", asked.slots, because=f"as many prompts are computed together: {why}")
    if not job.workload.shared_prefix:
        command.add("--prompt-cache-size", 0, because="no prompt is kept for later: one that is measured is computed")
    command.add("--log-level", "WARNING", because="else the log tells of every step of every prompt")


def _add_variables(command: Command, asked: Asked, engine: Provided) -> None:
    job = asked.job
    if asked.variant == "cpu":
        if engine.environment:
            why = "OpenBLAS in place of the reference BLAS that MLX brings: prompts are computed twenty times faster"
            command.add("--blas", _blas(engine), because=why)
        threads, why = parallel.free_threads(job.hardware, asked.settings.threads)
        if threads:
            command.set("OPENBLAS_NUM_THREADS", threads, because=why)
    if asked.weights.needs or job.spec.hub == "local":
        command.set("HF_HUB_OFFLINE", 1, because="the model lies on this machine: no hub is asked")
    command.set("HF_HUB_DISABLE_TELEMETRY", 1, because="nothing is reported to anybody")


def _tokenizing(python: str, asked: Asked) -> Argv:
    """Return the program that tokenizes; a model made here has no revision."""
    return artefacts.tokenizing(python, asked.weights.place, None if asked.weights.needs else asked.job.spec.revision)


def _request(job: Job) -> dict[str, object]:
    """Return what makes outputs as long as ``max_tokens``: there is no ``ignore_eos``, but tokens can be ruled out."""
    never = {str(token): NEVER for token in job.spec.shape.end_tokens}
    return {"logit_bias": never} if never else {}


def _overhead(variant: str) -> Memory:
    """Return what a CPU's server needs besides weights and cache; on a GPU nobody here has measured it."""
    if variant != "cpu":
        return Memory()
    text = f"{PROGRAM_GIB} GiB of program and work space; resident, mlx_lm 0.32.2 on Linux"
    return Memory(overhead_gib=PROGRAM_GIB, formula={"overhead_gib": text})


def _notes(asked: Asked) -> tuple[str, ...]:
    """Return what a person should know before running the plan."""
    job, on_cpu = asked.job, asked.variant == "cpu"
    remarks = {
        "which tokens end this model's outputs is not known: they may end early, and are flagged when they do": (
            not job.spec.shape.end_tokens
        ),
        "the server tokenizes for nobody: prompts are counted by the model's tokenizer, beside it": True,
        "on a CPU MLX is slow in all but float32: a prompt takes six times as long in bfloat16, and an output fifteen "
        "times as long where the weights are quantized": on_cpu and asked.dtype != "float32",
        "MLX's own BLAS computes prompts twenty times slower than OpenBLAS; engine.args.blas=FILE takes its place": (
            on_cpu and asked.settings.python is not None and "blas" not in asked.settings.args
        ),
        "MLX uses one GPU of several": (job.hardware.gpus or 0) > 1,
        "these commands are for Linux and macOS": job.hardware.os == "windows",
    }
    return tuple(remark for remark, applies in remarks.items() if applies)
