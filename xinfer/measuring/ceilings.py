"""How fast this machine can read memory and multiply at most: measured once for each machine, and kept below the home.

Two programs measure, in processes of their own: ``meters/processor.py`` with numpy, and ``meters/accelerator.py`` with
the PyTorch of an engine's environment. What was measured while others used the machine is not kept.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import time
from contextlib import nullcontext, suppress
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

import msgspec

from xinfer.environments import environment, locks, steps
from xinfer.machine import fingerprint
from xinfer.machine.disturbance import Disturbance
from xinfer.machine.fingerprint import Fingerprint

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence
    from contextlib import AbstractContextManager

    from xinfer.facts import Hardware
    from xinfer.plan import LaunchPlan

METERS = Path(__file__).parents[1] / "meters"
SECONDS, ACCELERATOR_S = 0.7, 0.4
"""How long each quantity is measured; PyTorch's are up to seven."""
TIMEOUT_S = 60.0
"""For a meter and all that it loads, which may come from a slow disk."""
CACHES = 4
"""How many times larger than the last-level cache the buffers are."""
LEAST_MIB, MOST_MIB = 256, 4096
MEMORY_SHARE = 8
"""The buffers take an eighth of the free memory at most."""
CALM = 0.5
"""The least that the median of the rounds may be of the best: on a quiet machine it is above 0.8."""
THREADS = ("--threads", "-t")
THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")
_ONE_EACH = dict.fromkeys((*THREAD_VARIABLES, "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS"), "1")
_DTYPES = {"cpu": ("bfloat16", "int8"), "gpu": ("float32", "float16", "bfloat16", "int8")}


class Ceilings(msgspec.Struct, frozen=True, kw_only=True):
    """What one device, or one number of threads, reached at most; null and missing where nothing was measured."""

    device: Literal["cpu", "gpu"]
    threads: int | None = None
    bandwidth: float | None = None
    """Bytes read from memory per second."""
    flops: dict[str, float] = {}
    """Operations per second in products of large matrices, by the type of their numbers."""
    by: dict[str, str] = {}
    """What was fastest, for ``bandwidth`` and each type."""
    source: Literal["measured", "published"] = "measured"
    busy: str | None = None
    """Why the figures may be too low; null where nothing disturbed."""
    notes: dict[str, str] = {}
    """Why something was not measured."""
    fingerprint: str = ""
    made: str = ""
    """UTC, ISO 8601."""
    seconds: float = 0.0  # how long measuring took


class _Rate(msgspec.Struct, frozen=True):
    best: float
    median: float
    rounds: int
    kernel: str


class _Told(msgspec.Struct, frozen=True):
    """What a meter prints."""

    flops: dict[str, _Rate]
    bandwidth: _Rate | None = None
    notes: dict[str, str] = {}

    @property
    def rates(self) -> dict[str, _Rate]:
        """Everything that was measured, by its name."""
        return {**self.flops, **({"bandwidth": self.bandwidth} if self.bandwidth else {})}


class _Kept(msgspec.Struct, frozen=True, kw_only=True):
    """What one meter said, and when; null where it said nothing."""

    told: _Told | None = None
    notes: dict[str, str] = {}
    busy: str | None = None
    made: str = ""
    seconds: float = 0.0


class _Meter(NamedTuple):
    """One program, the interpreter that runs it, and what it is told to do."""

    program: str
    python: str
    words: tuple[str, ...]
    variables: Mapping[str, str]
    cores: Collection[int] | None = None
    """Where it runs; null is wherever xinfer may."""


def measured(
    hardware: Hardware,
    home: Path,
    *,
    launch: LaunchPlan | None = None,
    machine: Fingerprint | None = None,
    cores: Collection[int] | None = None,
    progress: Callable[[str], object] | None = lambda _: None,
) -> Ceilings:
    """Return this machine's ceilings for what a plan uses of it: those that are kept, else newly measured ones.

    They are the same for all engines with as many threads on the same ``cores``, so that their distances can be
    compared. Without a plan, of all cores but one. Without ``progress`` nothing is measured: only what is kept is
    known. It never raises for a machine that cannot be measured; the notes say why.
    """
    machine = fingerprint.take(hardware) if machine is None else machine
    device = launch.device if launch else "cpu"
    threads = threads_of(launch, hardware) if device == "cpu" else None
    meters = [_processor(machine, threads, cores)] if threads else []
    torch = _torch(launch, home, hardware)
    if torch is not None:
        dtypes, kind = ",".join(_DTYPES[device]), ("cpu" if device == "cpu" else "cuda")
        words = (kind, dtypes, str(threads or 0), str(ACCELERATOR_S))
        meters.append(_Meter("accelerator.py", torch, words, launch.env if launch else {}, cores))
    found = [_part(meter, machine, device, threads, home / "ceilings", progress) for meter in meters]
    notes = {} if meters else {"bandwidth": "no environment here has a PyTorch for this GPU, which would measure it"}
    merged = _merged(found, Ceilings(device=device, threads=threads, fingerprint=machine.id, notes=notes))
    return _published(merged, hardware)


def _processor(machine: Fingerprint, threads: int, cores: Collection[int] | None) -> _Meter:
    words = (str(threads), str(_mebibytes(machine)), str(SECONDS))
    return _Meter("processor.py", sys.executable, words, _ONE_EACH, cores)


def _part(
    meter: _Meter,
    machine: Fingerprint,
    device: str,
    threads: int | None,
    folder: Path,
    progress: Callable[[str], object] | None,
) -> _Kept:
    """Return what a meter said: earlier, or now."""
    stem = Path(meter.program).stem
    path = folder / f"{machine.id}-{device}-{stem}-{_digest(machine, threads, meter)}.json"
    found = _read(path)
    if found is not None or progress is None:
        return found or _Kept()
    with _lock(path):
        found = _read(path)
        if found is None:
            progress(f"measuring how fast this machine is at most ({stem})")
            found = _measure(meter)
            _keep(path, found)
    return found


def threads_of(launch: LaunchPlan | None, hardware: Hardware) -> int:
    """Return how many threads a plan computes with on a CPU, by its flags and variables; else all cores but one."""
    flags = [value for flag, value in pairwise(launch.argv if launch else ()) if flag in THREADS]
    variables = [launch.env[name] for name in THREAD_VARIABLES if name in launch.env] if launch else []
    given = next((int(text) for text in (*flags, *variables) if text.isdecimal() and int(text) > 0), None)
    return given or max(1, (hardware.cores or 1) - 1)


def _torch(launch: LaunchPlan | None, home: Path, hardware: Hardware) -> str | None:
    """Return the interpreter of an environment with PyTorch, the plan's own if it has; null where there is none."""
    is_gpu = launch is not None and launch.device == "gpu"
    if launch is None or (is_gpu and hardware.gpu.vendor not in {"nvidia", "amd"}):
        return None
    program = Path(launch.argv[0] if launch.argv else "")
    own = Path(launch.environment.path) if launch.environment else program.parent.parent
    others = sorted(path for path in (home / "environments").glob("*") if environment.read(path) is not None)
    # An engine's: a load generator may come with any PyTorch.
    engines = (path for path in others if not path.name.startswith(("loadgen-", "tool-")))
    usable = (path for path in engines if not (is_gpu and "-cpu-" in path.name))
    for place in (*((own,) if own.is_absolute() else ()), *usable):
        if next(place.glob("lib/python3*/site-packages/torch/__init__.py"), None):
            return str(place / "bin/python")
    return None


def _digest(machine: Fingerprint, threads: int | None, meter: _Meter) -> str:
    """Hash whatever else the figures depend on: another program, driver, kernel or placement, other figures."""
    own = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else ()
    facts = msgspec.json.encode((machine, threads, sorted(meter.cores or own)), order="sorted")
    return hashlib.sha256((METERS / meter.program).read_bytes() + facts).hexdigest()[:8]


_disturbed: dict[Path, _Kept] = {}
"""What was measured on a busy machine, for as long as this process lives: a sweep does not try before each start."""


def _read(path: Path) -> _Kept | None:
    if path in _disturbed:
        return _disturbed[path]
    try:
        found = msgspec.json.decode(path.read_bytes(), type=_Kept)
    except (OSError, ValueError):  # there is none, or it is damaged: it is measured again
        return None
    return found if found.told else None


def _lock(path: Path) -> AbstractContextManager[object]:
    """Let one process measure at a time; where nothing can be written, nobody waits and nothing is kept."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        is_open = os.access(path.parent, os.W_OK)
    except OSError:
        is_open = False
    return locks.held(path.parent / "measuring", waiting=lambda: None) if is_open else nullcontext()


def _keep(path: Path, found: _Kept) -> None:
    if found.busy is not None:
        _disturbed[path] = found
    if found.busy is not None or found.told is None:
        return
    partial = path.with_suffix(f".{os.getpid()}.partial")
    with suppress(OSError):
        partial.write_bytes(msgspec.json.encode(found))
        partial.replace(path)


def _measure(meter: _Meter) -> _Kept:
    """Run a meter; of one that fails, only the reason is known."""
    from xinfer.running.runner import confined  # noqa: PLC0415 -- as below

    begun, watch = time.perf_counter(), Disturbance()
    environ = {**steps.variables(), **meter.variables}
    argv = [meter.python, "-I", str(METERS / meter.program), *meter.words]
    try:
        with confined(meter.cores):
            done = subprocess.run(argv, env=environ, capture_output=True, timeout=TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return _Kept(notes={meter.program: f"{type(error).__name__}: {error}"})
    try:
        told = msgspec.json.decode(done.stdout, type=_Told)
    except ValueError:
        last = done.stderr.decode(errors="replace").strip().rpartition("\n")[2]
        return _Kept(notes={meter.program: last[:200] or f"ended with exit code {done.returncode}"})
    made, seconds = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), round(time.perf_counter() - begun, 3)
    return _Kept(told=told, busy=watch.said() or _unsteady(told), made=made, seconds=seconds)


def _merged(found: Sequence[_Kept], known: Ceilings) -> Ceilings:
    """Put together what the meters said: of each quantity the fastest, and a note on what none of them measured."""
    best: dict[str, _Rate] = {}
    notes = dict(known.notes)
    for part in found:
        rates = part.told.rates if part.told else {}
        best |= {name: rate for name, rate in rates.items() if name not in best or rate.best > best[name].best}
        notes |= (part.told.notes if part.told else {}) | part.notes
    return msgspec.structs.replace(
        known,
        bandwidth=best["bandwidth"].best if "bandwidth" in best else None,
        flops={name: rate.best for name, rate in best.items() if name != "bandwidth"},
        by={name: rate.kernel for name, rate in best.items()},
        busy=next((part.busy for part in found if part.busy), None),
        notes={name: why for name, why in notes.items() if name not in best},
        made=max((part.made for part in found), default=""),
        seconds=sum(part.seconds for part in found),
    )


def _mebibytes(machine: Fingerprint) -> int:
    """Return how large the buffers are: far beyond the caches, and a small part of the free memory."""
    import psutil  # noqa: PLC0415 -- a plan, which measures nothing, does not wait for it

    caches = CACHES * (machine.last_level_cache_bytes or 0) // 2**20
    free = psutil.virtual_memory().available // MEMORY_SHARE // 2**20
    return max(1, min(max(LEAST_MIB, caches), MOST_MIB, free))


def _unsteady(told: _Told) -> str | None:
    rate = told.bandwidth
    if rate is None or rate.median >= CALM * rate.best:
        return None
    return f"half of the rounds reached {rate.median / rate.best:.0%} of the best at most: others use the memory"


def _published(found: Ceilings, hardware: Hardware) -> Ceilings:
    """Put a GPU's published bandwidth where none could be measured."""
    if found.bandwidth is not None or found.device == "cpu" or hardware.gpu.bandwidth_gbs is None:
        return found
    return msgspec.structs.replace(found, bandwidth=hardware.gpu.bandwidth_gbs * 1e9, source="published")
