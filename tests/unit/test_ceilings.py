"""The machine's ceilings: measured once, kept, and not believed when others were at work."""

from __future__ import annotations

import os
import sys
import textwrap
import threading
from pathlib import Path
from typing import Any

import msgspec
import psutil
import pytest

from xinfer.environments import environment
from xinfer.facts import Gpu, Hardware
from xinfer.machine import counters
from xinfer.machine.counters import Counters
from xinfer.machine.fingerprint import Fingerprint
from xinfer.measuring import ceilings
from xinfer.measuring.ceilings import Ceilings, measured, threads_of
from xinfer.plan import Artefact, LaunchPlan

HERE = Hardware(profile="auto", os="linux", cores=4, memory_gib=8, gpus=0)
MACHINE = Fingerprint(id="abc", cpu="cpu", cores=4)
PLAN = LaunchPlan(engine="e", version=None, variant="v", argv=("serve", "--threads", "2"))
METER = """
import json, os, sys
from pathlib import Path
with Path({log!r}).open("a") as log:
    log.write(" ".join([Path(sys.argv[0]).name, *sys.argv[1:], os.environ.get("OMP_NUM_THREADS", "-")]) + "\\n")
{body}
"""
TOLD: dict[str, Any] = {
    "bandwidth": {"best": 20e9, "median": 18e9, "rounds": 9, "kernel": "dot"},
    "flops": {"float32": {"best": 100e9, "median": 90e9, "rounds": 9, "kernel": "matmul of 512"}},
    "notes": {"bfloat16": "numpy has no such type", "int8": "not quickly"},
}
TORCH: dict[str, Any] = {
    "bandwidth": None,
    "flops": {
        "float32": {"best": 80e9, "median": 70e9, "rounds": 9, "kernel": "matmul of 1024"},
        "bfloat16": {"best": 200e9, "median": 190e9, "rounds": 9, "kernel": "matmul of 1024"},
    },
    "notes": {"int8": "PyTorch: no"},
}


class Meters:
    """Stands in for the programs, and says how they were called."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.log = folder, folder / "log"
        folder.mkdir()
        self.log.touch()
        self.say("processor.py", TOLD)
        self.say("accelerator.py", TORCH)

    def say(self, program: str, told: Any = None, body: str | None = None) -> None:
        text = body or f"print({msgspec.json.encode(told).decode()!r})"
        (self.folder / program).write_text(
            METER.format(log=str(self.log), body=textwrap.dedent(text)), encoding="utf-8"
        )

    @property
    def calls(self) -> list[list[str]]:
        return [line.split() for line in self.log.read_text(encoding="utf-8").splitlines()]


@pytest.fixture
def meters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Meters:
    made = Meters(tmp_path / "meters")
    monkeypatch.setattr(ceilings, "METERS", made.folder)
    return made


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let nobody else work, whatever runs beside these tests."""
    monkeypatch.setattr(counters, "read", lambda _: Counters(cpus=4, busy_s=0.0, stolen_s=0.0))


def measure(home: Path, hardware: Hardware = HERE, launch: LaunchPlan | None = PLAN) -> Ceilings:
    return measured(hardware, home, launch=launch, machine=MACHINE)


def with_torch(folder: Path, **changes: Any) -> LaunchPlan:
    """Return a plan whose environment has this interpreter, and seems to have PyTorch."""
    (folder / "bin").mkdir(parents=True)
    (folder / "bin/python").symlink_to(sys.executable)
    (folder / "lib/python3.11/site-packages/torch").mkdir(parents=True)
    (folder / "lib/python3.11/site-packages/torch/__init__.py").touch()
    plan = msgspec.structs.replace(PLAN, environment=Artefact(path=str(folder), steps=()))
    return msgspec.structs.replace(plan, **changes)


def test_a_cpu_is_measured_with_the_plans_threads(tmp_path: Path, meters: Meters) -> None:
    """In a process whose libraries use one thread each; what was fastest is said, and why something is missing."""
    found = measure(tmp_path / "home")
    ((program, threads, mebibytes, _, own),) = meters.calls
    assert (program, threads, own) == ("processor.py", "2", "1")
    assert int(mebibytes) > 0
    assert (found.device, found.threads, found.bandwidth, found.flops) == ("cpu", 2, 20e9, {"float32": 100e9})
    assert found.by == {"bandwidth": "dot", "float32": "matmul of 512"}
    assert found.notes["bfloat16"] == "numpy has no such type"
    assert (found.busy, found.source, found.fingerprint) == (None, "measured", "abc")


def test_an_environments_pytorch_knows_more_types(tmp_path: Path, meters: Meters) -> None:
    """Of each type the faster counts, and a note stays only for what none of them multiplied."""
    found = measure(tmp_path / "home", launch=with_torch(tmp_path / "env", env={"OMP_NUM_THREADS": "2"}))
    assert [call[0] for call in meters.calls] == ["processor.py", "accelerator.py"]
    assert meters.calls[1][1:4] == ["cpu", "bfloat16,int8", "2"]
    assert found.flops == {"float32": 100e9, "bfloat16": 200e9}
    assert found.bandwidth == 20e9
    assert "bfloat16" not in found.notes
    assert found.notes == {"int8": "PyTorch: no"}


GPU = Hardware(profile="auto", os="linux", cores=4, gpus=1, gpu=Gpu(vendor="nvidia", name="H100"))


def test_a_gpu_is_measured_by_the_engines_own_pytorch(tmp_path: Path, meters: Meters) -> None:
    """It gets the plan's variables, which say what devices it sees."""
    meters.say("accelerator.py", {**TORCH, "bandwidth": {**TOLD["bandwidth"], "best": 3e12, "median": 3e12}})
    plan = with_torch(tmp_path / "env", device="gpu", env={"OMP_NUM_THREADS": "7"})
    found = measure(tmp_path / "home", GPU, plan)
    assert [(call[0], call[1], call[3], call[-1]) for call in meters.calls] == [("accelerator.py", "cuda", "0", "7")]
    assert (found.device, found.threads, found.bandwidth) == ("gpu", None, 3e12)


def test_without_pytorch_a_gpus_published_bandwidth_counts(tmp_path: Path, meters: Meters) -> None:
    """And is called so; without that, nothing is known."""
    plan = msgspec.structs.replace(PLAN, device="gpu")
    assert measure(tmp_path / "home", GPU, plan).bandwidth is None
    known = msgspec.structs.replace(GPU, gpu=Gpu(vendor="nvidia", bandwidth_gbs=3350.0))
    found = measure(tmp_path / "home", known, plan)
    assert (found.bandwidth, found.source) == (3.35e12, "published")
    assert measure(tmp_path / "home", GPU, plan).notes == {
        "bandwidth": "no environment here has a PyTorch for this GPU, which would measure it"
    }
    assert meters.calls == []


def test_engines_are_measured_by_the_same_figures(tmp_path: Path, meters: Meters) -> None:
    """Their distances from them can be compared: another environment, with as many threads, measures nothing anew."""
    measure(tmp_path / "home", launch=with_torch(tmp_path / "env"))
    second = measure(tmp_path / "home", launch=with_torch(tmp_path / "other"))
    assert len(meters.calls) == 2
    assert second.flops == {"float32": 100e9, "bfloat16": 200e9}


@pytest.mark.parametrize(
    ("name", "complete", "expected"),
    [
        pytest.param("vllm-cuda-0.33.0-12345678", True, 1, id="another-engines-environment"),
        pytest.param("vllm-cuda-0.33.0-12345678", False, 0, id="one-that-is-being-made"),
        pytest.param("vllm-cpu-0.33.0-12345678", True, 0, id="one-that-knows-no-gpu"),
        pytest.param("loadgen-guidellm-12345678", True, 0, id="no-engines"),
    ],
)
def test_another_engines_pytorch_may_measure(
    tmp_path: Path, meters: Meters, monkeypatch: pytest.MonkeyPatch, name: str, *, complete: bool, expected: int
) -> None:
    """Where the plan's own environment has none, as llama.cpp's."""
    with_torch(tmp_path / "home/environments" / name)
    monkeypatch.setattr(environment, "read", lambda _: object() if complete else None)
    measure(tmp_path / "home", GPU, msgspec.structs.replace(PLAN, device="gpu"))
    assert len(meters.calls) == expected


def test_apples_gpu_has_no_meter(tmp_path: Path, meters: Meters) -> None:
    """PyTorch in its environment would not be asked in vain."""
    apple = Hardware(profile="auto", os="darwin", gpus=1, gpu=Gpu(vendor="apple"))
    found = measure(tmp_path / "home", apple, with_torch(tmp_path / "env", device="gpu"))
    assert (found.bandwidth, meters.calls) == (None, [])


# Kept


def test_it_is_measured_once(tmp_path: Path, meters: Meters) -> None:
    """The second time the first figures are read, whoever asks."""
    first = measure(tmp_path / "home")
    said: list[str] = []
    second = measured(HERE, tmp_path / "home", launch=PLAN, machine=MACHINE, progress=said.append)
    assert (first, said, len(meters.calls)) == (second, [], 1)


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"machine": msgspec.structs.replace(MACHINE, id="def")}, id="another-machine"),
        pytest.param({"machine": msgspec.structs.replace(MACHINE, kernel="7")}, id="another-kernel"),
        pytest.param({"launch": msgspec.structs.replace(PLAN, argv=("serve", "--threads", "3"))}, id="more-threads"),
    ],
)
def test_other_conditions_are_measured_anew(tmp_path: Path, meters: Meters, changes: dict[str, Any]) -> None:
    """The figures of the first stay as they are."""
    known: dict[str, Any] = {"launch": PLAN, "machine": MACHINE}
    measured(HERE, tmp_path / "home", **known)
    measured(HERE, tmp_path / "home", **{**known, **changes})
    measured(HERE, tmp_path / "home", **known)
    assert len(meters.calls) == 2


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"device": "cpu"}'], ids=["empty", "cut", "list", "wrong"])
def test_damaged_figures_are_measured_again(tmp_path: Path, meters: Meters, content: bytes) -> None:
    """And are whole afterwards."""
    first = measure(tmp_path / "home")
    (kept,) = (tmp_path / "home/ceilings").glob("*.json")
    kept.write_bytes(content)
    again = measure(tmp_path / "home")
    assert again.bandwidth == first.bandwidth
    assert len(meters.calls) == 2
    assert measure(tmp_path / "home") == again
    assert len(meters.calls) == 2
    assert list(kept.parent.glob("*.partial")) == []


def test_two_who_ask_at_once_measure_once(tmp_path: Path, meters: Meters) -> None:
    """The second waits for the first."""
    meters.say("processor.py", body=f"import time; time.sleep(0.5); print({msgspec.json.encode(TOLD).decode()!r})")
    found: list[Ceilings] = []
    threads = [threading.Thread(target=lambda: found.append(measure(tmp_path / "home"))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [each.bandwidth for each in found] == [20e9] * 3
    assert len(meters.calls) == 1


def test_a_home_that_cannot_be_written(tmp_path: Path, meters: Meters) -> None:
    """The figures are there, and are measured again the next time."""
    (tmp_path / "home").write_text("not a directory", encoding="utf-8")
    assert [measure(tmp_path / "home").bandwidth for _ in range(2)] == [20e9, 20e9]
    assert len(meters.calls) == 2


# Not believed


def busy(monkeypatch: pytest.MonkeyPatch, busy_s: float, stolen_s: float) -> None:
    """Let the machine's counters grow by so much, of an enormous time, between two readings."""
    readings = iter([Counters(cpus=1, busy_s=0.0, stolen_s=0.0), Counters(cpus=1, busy_s=busy_s, stolen_s=stolen_s)])
    monkeypatch.setattr(counters, "read", lambda _: next(readings))


@pytest.mark.parametrize(
    ("grown", "why"),
    [
        pytest.param({"busy_s": 1e6, "stolen_s": 0.0}, "others used", id="others-worked"),
        pytest.param({"busy_s": 0.0, "stolen_s": 0.1}, "the host took 100.0%", id="the-host-did"),
    ],
)
def test_figures_of_a_busy_machine_are_told_and_not_kept(
    tmp_path: Path, meters: Meters, monkeypatch: pytest.MonkeyPatch, grown: dict[str, float], why: str
) -> None:
    """They may be too low: the next process tries again, and this one does not before each start."""
    busy(monkeypatch, **grown)
    found = measure(tmp_path / "home")
    assert why in (found.busy or "")
    assert found.bandwidth == 20e9
    assert list((tmp_path / "home/ceilings").glob("*.json")) == []
    assert measure(tmp_path / "home") == found
    assert len(meters.calls) == 1
    monkeypatch.setattr(ceilings, "_disturbed", {})
    monkeypatch.setattr(counters, "read", lambda _: Counters())
    assert measure(tmp_path / "home").busy is None
    assert len(meters.calls) == 2


def test_unsteady_figures_are_not_kept_either(tmp_path: Path, meters: Meters) -> None:
    """A neighbour that no counter shows uses the memory, too."""
    meters.say("processor.py", {**TOLD, "bandwidth": {**TOLD["bandwidth"], "median": 5e9}})
    assert measure(tmp_path / "home").busy == (
        "half of the rounds reached 25% of the best at most: others use the memory"
    )
    assert list((tmp_path / "home/ceilings").glob("*.json")) == []


def test_a_system_that_counts_nothing(tmp_path: Path, meters: Meters, monkeypatch: pytest.MonkeyPatch) -> None:
    """There only the rounds tell."""
    monkeypatch.setattr(counters, "read", lambda _: Counters())
    assert measure(tmp_path / "home").busy is None
    assert len(meters.calls) == 1


@pytest.mark.parametrize(
    ("body", "why"),
    [
        pytest.param("raise MemoryError('too much')", "MemoryError: too much", id="it-breaks"),
        pytest.param("sys.exit(3)", "ended with exit code 3", id="it-ends-silently"),
        pytest.param("print('{')", "ended with exit code 0", id="it-says-something-else"),
        pytest.param("import time; time.sleep(60)", "TimeoutExpired", id="it-hangs"),
    ],
)
def test_a_meter_that_fails(
    tmp_path: Path, meters: Meters, monkeypatch: pytest.MonkeyPatch, body: str, why: str
) -> None:
    """Nothing is known, the reason is said, and nothing is kept."""
    monkeypatch.setattr(ceilings, "TIMEOUT_S", 1.0)
    meters.say("processor.py", body=body)
    found = measure(tmp_path / "home")
    assert (found.bandwidth, found.flops) == (None, {})
    assert why in found.notes["processor.py"]
    assert list((tmp_path / "home/ceilings").glob("*.json")) == []


def test_an_interpreter_that_cannot_be_started(tmp_path: Path, meters: Meters) -> None:
    """The processor's figures are there all the same."""
    plan = with_torch(tmp_path / "env")
    (tmp_path / "env/bin/python").unlink()
    found = measure(tmp_path / "home", launch=plan)
    assert found.bandwidth == 20e9
    assert "FileNotFoundError" in found.notes["accelerator.py"]
    assert len(meters.calls) == 1


@pytest.mark.parametrize(
    ("argv", "env", "cores", "threads"),
    [
        pytest.param(("s", "--threads", "6"), {}, 8, 6, id="a-flag"),
        pytest.param(("s", "--threads", "6"), {"OMP_NUM_THREADS": "3"}, 8, 6, id="a-flag-before-a-variable"),
        pytest.param(("s",), {"OMP_NUM_THREADS": "3"}, 8, 3, id="a-variable"),
        pytest.param(("s",), {"OPENBLAS_NUM_THREADS": "5"}, 8, 5, id="the-variable-of-another-library"),
        pytest.param(("s", "--threads", "-1"), {}, 8, 7, id="a-flag-that-leaves-it-open"),
        pytest.param(("s", "--threads"), {}, 1, 1, id="one-core"),
        pytest.param((), {}, None, 1, id="cores-not-known"),
    ],
)
def test_threads(argv: tuple[str, ...], env: dict[str, str], cores: int | None, threads: int) -> None:
    """As many as the engine will compute with."""
    plan = msgspec.structs.replace(PLAN, argv=argv, env=env)
    assert threads_of(plan, msgspec.structs.replace(HERE, cores=cores)) == threads


def test_without_a_plan_all_cores_but_one(tmp_path: Path, meters: Meters) -> None:
    """As engines get them."""
    assert measure(tmp_path / "home", launch=None).threads == 3
    assert meters.calls[0][1] == "3"


@pytest.mark.parametrize(
    ("cache", "free", "expected"),
    [
        (None, 2**34, 256),
        (2**25, 2**34, 256),
        (2**28, 2**34, 1024),
        (2**32, 2**40, 4096),
        (2**28, 2**30, 128),
        (0, 0, 1),
    ],
)
def test_buffers(monkeypatch: pytest.MonkeyPatch, cache: int | None, free: int, expected: int) -> None:
    """Four times the caches, within bounds, and a small part of what is free, in MiB."""
    monkeypatch.setattr(psutil, "virtual_memory", lambda: msgspec.defstruct("Free", [("available", int)])(free))
    machine = msgspec.structs.replace(MACHINE, last_level_cache_bytes=cache)
    assert ceilings._mebibytes(machine) == expected


@pytest.mark.parametrize("is_told", [False, True], ids=["of-xinfer", "of-the-engine"])
def test_placement_counts(tmp_path: Path, meters: Meters, monkeypatch: pytest.MonkeyPatch, *, is_told: bool) -> None:
    """On other cores, other memory is near: they are those of the engine, else those of xinfer."""
    meters.say(
        "processor.py",
        body=f"""
        with Path(sys.argv[0]).with_name("cores").open("a") as file:
            file.write(str(sorted(os.sched_getaffinity(0))) + "\\n")
        print({msgspec.json.encode(TOLD).decode()!r})
    """,
    )
    own = os.sched_getaffinity(0)
    for cores in ([min(own)], [max(own)]):
        if is_told:
            measured(HERE, tmp_path / "home", launch=PLAN, machine=MACHINE, cores=cores)
        else:
            monkeypatch.setattr(os, "sched_getaffinity", lambda _, cores=cores: set(cores))
            measure(tmp_path / "home")
            monkeypatch.undo()
            monkeypatch.setattr(ceilings, "METERS", meters.folder)
    assert len(meters.calls) == len({min(own), max(own)})
    said = (meters.folder / "cores").read_text(encoding="utf-8").splitlines()
    assert said[0] == str([min(own)] if is_told else sorted(own))
    assert os.sched_getaffinity(0) == own
