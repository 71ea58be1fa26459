"""Plans llama.cpp: the prebuilt wheel or llama-server compiled for the machine, one GGUF file, one command line."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from xinfer import engines
from xinfer.errors import ConfigError
from xinfer.plan import Command, LaunchPlan
from xinfer.planning import artefacts, parallel, spread
from xinfer.planning.parallel import Splits

from . import advice, sizes
from .settings import Backend, Settings, requirements

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from xinfer.engines import Job
    from xinfer.facts import Hardware
    from xinfer.plan import Artefact
    from xinfer.planning.advice import Advice, Case
    from xinfer.planning.spread import Spread

HERE = Path(__file__).parent
RESERVED = {"model": "model=", "alias": "model="}
"""Flags that other parts of the plan depend on, and what to set instead."""
THREE_WAY = {"flash-attn", "fit", "reasoning", "log-colors"}
"""Flags that want the word on or off, which YAML reads as true and false."""
BACKENDS: Mapping[str, Backend] = {"nvidia": "cuda", "amd": "hip", "apple": "metal", "intel": "vulkan"}
SPLITS = Splits(staged=None)
"""Layers of any network go to any number of GPUs (``--split-mode layer``)."""
SPLIT_MODES = ("none", "layer", "row", "tensor")
REQUEST = {"ignore_eos": True}
"""Generate to the last token asked for."""


class Program(NamedTuple):
    """What is started, and where it comes from."""

    argv: tuple[str, ...]
    python: str
    """An interpreter that has pip."""
    environment: Artefact | None
    version: str | None
    variant: str


class LlamaCpp:
    """llama.cpp's HTTP server."""

    name = "llama_cpp"
    title = "llama.cpp"
    port = 8080
    splits: ClassVar[Splits] = SPLITS
    conf = HERE / "conf"
    key_variables: ClassVar[dict[str, str]] = {"LLAMA_API_KEY": "{key},{key}"}
    """Twice the same: of a single key, llama-server writes the last four characters into its log."""

    def pinned(self, _hardware: Hardware, settings: Mapping[str, Any]) -> str | None:
        """Return the version that would be installed: of the prebuilt package, or of the one that is compiled."""
        needs = requirements()
        return needs.native.version if settings.get("build") == "native" else needs.wheel.version

    def plan(self, job: Job) -> LaunchPlan:
        """Return the launch plan; raise ConfigError for settings that llama.cpp does not have."""
        settings = engines.settings(job, Settings)
        _check_dtype(job)
        backend = settings.backend or device(job.hardware)
        program = _program(job, settings, backend)
        weights = artefacts.single_file(job.spec, home=job.home, python=job.python)
        command = Command(*program.argv)
        _add_flags(command, job, settings, weights.place)
        laid = _spread(job, settings, backend)
        _add_device_flags(command, settings, backend)
        _add_split(command, job, laid)
        _add_variables(command, job.hardware, settings)
        command.override(_own_flags(settings), settings.env)
        return LaunchPlan(
            engine=self.name,
            version=program.version,
            variant=program.variant,
            environment=program.environment,
            weights=weights.needs,
            port=job.port,
            device="cpu" if backend == "cpu" else "gpu",
            tensor=laid.split.tensor,
            stages=laid.split.stages,
            model=job.spec.family,
            request={**REQUEST, "cache_prompt": bool(job.workload.shared_prefix)},
            memory=sizes.memory_of(job, _own_flags(settings), settings, laid.split, on_gpu=backend != "cpu"),
            notes=_notes(job, settings, backend),
            **command.parts,
        )

    def advice(self, case: Case) -> Iterator[Advice]:
        """Yield what of a plan costs speed or memory."""
        return advice.of(case)


def _check_dtype(job: Job) -> None:
    if job.dtype is not None:
        own = "llama.cpp computes in the file's own types; choose one with model.quantization="
        raise ConfigError(f"dtype={job.dtype}: {own}")


def device(hardware: Hardware) -> Backend:
    """Return the backend of the hardware's accelerators; the CPU's where there are none, or none known."""
    return "cpu" if hardware.gpus == 0 else BACKENDS.get(hardware.gpu.vendor or "", "cpu")


def _program(job: Job, settings: Settings, backend: Backend) -> Program:
    """Return the program that serves: in the user's own environment, or in one made for it."""
    made = None if settings.python else _environment(job, settings, backend)
    python = artefacts.interpreter(made.path) if made else settings.python or ""
    launcher = (python, "-I", str(HERE / "server.py"))
    compiled = (str(Path(python).with_name("llama-server")),)
    return Program(
        argv=launcher if settings.build == "wheel" else compiled,
        python=python,
        environment=made,
        version=_version(settings) if made else settings.version,
        variant=f"{settings.build}-{backend}",
    )


def _version(settings: Settings) -> str:
    needs = requirements()
    return settings.version or (needs.wheel if settings.build == "wheel" else needs.native).version


def _environment(job: Job, settings: Settings, backend: Backend) -> Artefact:
    is_native = settings.build == "native"
    return artefacts.environment(
        f"llama_cpp-{settings.build}-{backend}-{_version(settings)}",
        [_native(settings) if is_native else _wheel(settings, backend)],
        home=job.home,
        python=job.python,
        variables=_compiler_variables(job.hardware, backend) if is_native else None,
        built_for=" ".join([job.hardware.cpu or "", *(job.hardware.isa or ())]) if is_native else None,
        installer=job.installer,
    )


def _wheel(settings: Settings, backend: Backend) -> tuple[str, ...]:
    wheel = requirements().wheel
    index = settings.index or wheel.indexes[backend]
    return (*(("--index-url", index) if index else ()), f"{wheel.package}=={_version(settings)}")


def _native(settings: Settings) -> tuple[str, ...]:
    package = requirements().native.package
    # pip's cache knows a wheel by its source alone, and would give one that was compiled with other flags.
    return ("-v", "--no-cache-dir", "--no-binary", package, f"{package}=={_version(settings)}")


def _compiler_variables(hardware: Hardware, backend: Backend) -> dict[str, str]:
    native = requirements().native
    origin = "@loader_path" if hardware.os == "darwin" else "$ORIGIN"
    cmake = (native.backends[backend], *native.cmake, f"-DCMAKE_INSTALL_RPATH={origin}/../lib")
    return {"CMAKE_ARGS": " ".join(cmake), **native.variables}


def _add_flags(command: Command, job: Job, settings: Settings, file: str) -> None:
    spec, length = job.spec, job.context_length
    slots = settings.slots or job.workload.concurrency
    why = "engine.slots" if settings.slots else f"workload {job.workload.name} keeps {slots} in flight"
    artefact = f"{spec.family} {spec.size} {spec.format} {spec.quantization}"
    command.add("--model", file, because=f"{artefact}, from {spec.hub}")
    command.add("--alias", spec.family, because="requests name the model by its family")
    command.add("--host", "127.0.0.1", because="loopback only")
    command.add("--port", job.port, because="port=; else a free one when it runs, llama-server's own in a plan")
    context = f"context_length={length} for each of {slots} slots: llama-server divides the context over its slots"
    command.add("--ctx-size", length * slots, because=context)
    command.add("--parallel", slots, because=f"a slot for each request that is served at once: {why}")
    threads, why = _threads(job.hardware, settings)
    if threads:
        command.add("--threads", threads, because=why)
        command.add("--threads-batch", threads, because=why)
    command.add("--cache-ram", 0, because="prompts are not kept between requests; by default up to 8 GiB of them are")
    command.add("--metrics", because="the server's own counters, to check a measurement against")
    command.add("--slots", because="shows what each slot is doing")
    command.add("--no-webui", because="nothing but the API is served")


def _add_device_flags(command: Command, settings: Settings, backend: Backend) -> None:
    if settings.gpu_layers is not None:
        command.add("--n-gpu-layers", settings.gpu_layers, because="engine.gpu_layers")
    elif backend != "cpu":
        command.add("--n-gpu-layers", "all", because="the whole model on the GPU, or no start: never silently a part")
    if settings.cache_type_k:
        command.add("--cache-type-k", settings.cache_type_k, because="engine.cache_type_k")
    if settings.cache_type_v:
        command.add("--cache-type-v", settings.cache_type_v, because="engine.cache_type_v")


def _spread(job: Job, settings: Settings, backend: Backend) -> Spread:
    """Return over which GPUs the layers go: as few as hold them, unless the user's own flags say otherwise."""
    if backend == "cpu":
        return spread.ALONE
    flags, gpus = _own_flags(settings), job.hardware.gpus or 1
    mode = flags.get("split-mode")
    if mode is not None and mode not in SPLIT_MODES:
        raise ConfigError(f"engine.args.split-mode={mode}: llama.cpp splits by {', '.join(SPLIT_MODES)}")
    if mode == "none":
        return spread.Spread(spread.ALONE.split, is_own=True)
    if {"split-mode", "tensor-split", "device", "main-gpu"} & set(flags) or settings.gpu_layers not in (None, "all"):
        everything = parallel.everything(job.spec.shape, gpus, SPLITS)
        return spread.Spread(everything, is_own=True)
    return spread.Spread(parallel.choose(job.spec.shape, gpus, SPLITS, sizes.holder(job, settings, flags)))


def _add_split(command: Command, job: Job, laid: Spread) -> None:
    """Leave out the GPUs that are not needed; llama-server takes all that it sees."""
    gpus, split = job.hardware.gpus or 1, laid.split
    if laid.is_own or split.gpus == gpus:
        return
    if split.gpus == 1:
        command.add("--split-mode", "none", because=split.tensor_why)
        return
    shares = ",".join("1" if number < split.gpus else "0" for number in range(gpus))
    command.add("--tensor-split", shares, because=split.stages_why)


def _add_variables(command: Command, hardware: Hardware, settings: Settings) -> None:
    threads, _ = _threads(hardware, settings)
    if threads is None or (hardware.cores is not None and threads > max(1, hardware.cores - 1)):
        why = "threads may outnumber the free cores: one that spins at a barrier then stops the one it waits for"
        command.set("OMP_WAIT_POLICY", "passive", because=why)


def _threads(hardware: Hardware, settings: Settings) -> tuple[int | None, str]:
    if settings.threads:
        return settings.threads, "engine.threads"
    if hardware.cores is None:
        return None, ""
    why = f"{hardware.cores} cores, of which the load client keeps one"
    return max(1, hardware.cores - 1), why if hardware.cores > 1 else "one core, which the load client shares"


def _own_flags(settings: Settings) -> dict[str, object]:
    own: dict[str, object] = {name.replace("_", "-"): value for name, value in settings.args.items()}
    for name, value in own.items():
        if name in RESERVED:
            message = f"engine.args.{name}: the plan sets this flag; say {RESERVED[name]} instead"
            raise ConfigError(message)
        if name in THREE_WAY and isinstance(value, bool):
            own[name] = "on" if value else "off"
    return own


def _notes(job: Job, settings: Settings, backend: Backend) -> tuple[str, ...]:
    """Return what a person should know before running the plan."""
    hardware, wheel = job.hardware, requirements().wheel
    is_wheel = settings.build == "wheel" and settings.python is None
    index = wheel.indexes[backend] if is_wheel and settings.index is None else None
    remarks = {
        "llama.cpp does not read this file: since August 2023 it reads GGUF alone, and no GGML": (
            (job.spec.format or "").startswith("ggml")
        ),
        f"PyPI has no {wheel.package} for {backend}: it comes from its authors' own index, {index}": index is not None,
        "the wheel is built for every CPU with AVX2; engine.build=native uses all that this one has, and is faster": (
            is_wheel
            and backend == "cpu"
            and hardware.os == "linux"
            and hardware.arch in {None, "x86_64"}
            and hardware.isa is None  # where it is known, advice.py says what it costs
        ),
        "whether there is a GPU is not known, so this plan is for the CPU; engine.backend= says otherwise": (
            hardware.gpus is None and hardware.gpu.vendor is None and settings.backend is None
        ),
        "the number of cores is not known: llama.cpp chooses the threads; engine.threads= says otherwise": (
            hardware.cores is None and settings.threads is None
        ),
        "these commands are for Linux and macOS": hardware.os == "windows",
    }
    return tuple(remark for remark, applies in remarks.items() if applies)
