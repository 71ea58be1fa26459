"""Which launcher is asked for, and what each asks of its library for a job."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from xinfer.config import launcher
from xinfer.config.compose import Composer
from xinfer.config.launcher import Chosen
from xinfer.errors import ConfigError, LaunchError
from xinfer.launching import batch, launchers
from xinfer.launching.batch import Slurm, Submitit
from xinfer.launching.cluster import Ray
from xinfer.launching.launcher import Launcher, Need, extra


def chosen(*words: str, directory: Path | None = None) -> Chosen:
    found, others = launcher.chosen([*words, "model=a,b"], Composer([directory] if directory else []))
    assert others == ["model=a,b"]
    assert found is not None
    return found


def test_without_a_launcher_there_is_none() -> None:
    """The cells stay as they were typed."""
    assert launcher.chosen(["model=a,b", "+x=1"], Composer()) == (None, ["model=a,b", "+x=1"])


def test_what_is_typed_is_laid_over_the_preset() -> None:
    """Values are read as Hydra reads them, and the last word counts."""
    words = ("hydra/launcher=joblib", "hydra/launcher=ray", "+hydra.launcher.ray.remote.resources.xinfer=1")
    found = chosen(*words, "hydra.launcher.retries=0", "hydra.launcher.alone=false")
    assert found.name == "ray"
    assert found.node["ray"]["remote"] == {"resources": {"xinfer": 1}}
    assert found.node["ray"]["init"] == {"address": "auto"}
    assert (found.node["retries"], found.node["alone"]) == (0, False)


def test_a_preset_of_a_site_uses_one_of_ours(tmp_path: Path) -> None:
    """It says only what is different there."""
    (tmp_path / "hydra" / "launcher").mkdir(parents=True)
    site = tmp_path / "hydra" / "launcher" / "site.yaml"
    site.write_text("uses: submitit_slurm\npartition: gpu\nadditional_parameters: {reservation: bench}\n")
    found = chosen("hydra/launcher=site", "hydra.launcher.account=me", directory=tmp_path)
    assert found.name == "submitit_slurm"
    assert (found.node["partition"], found.node["account"], found.node["exclusive"]) == ("gpu", "me", True)
    site.write_text("partition: gpu\n")
    with (
        pytest.raises(ConfigError, match=r"^hydra/launcher=site: uses: must name one of joblib, submitit_local, "),
        launchers.opened(*chosen("hydra/launcher=site", directory=tmp_path)),
    ):
        pass


@pytest.mark.parametrize(
    ("word", "said"),
    [
        pytest.param(
            "hydra.launcher.ray.init.address=a:1", "hydra.launcher has no key 'ray'", id="of-another-launcher"
        ),
        pytest.param("hydra.launcher.retries=-1", "hydra.launcher.retries=-1 must be at least 0", id="too-small"),
        pytest.param("~hydra.launcher.retries", "'~hydra.launcher.retries': a sweep has one launcher", id="removed"),
        pytest.param("hydra.launcher.retries=(", "'hydra.launcher.retries=(' cannot be read as key=value", id="broken"),
    ],
)
def test_a_setting_is_refused(word: str, said: str) -> None:
    """In one line that says which."""
    with pytest.raises(ConfigError) as raised, launchers.opened(*chosen("hydra/launcher=joblib", word)):
        pass
    assert str(raised.value).startswith(said)


@pytest.mark.parametrize("name", list(launchers.KINDS))
def test_every_preset_is_complete(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the library it is made ready as it is."""
    monkeypatch.setattr(Ray, "_start", lambda _: None)
    monkeypatch.setattr(Slurm, "_executor", lambda _: None)
    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace(remote=lambda _: None, shutdown=lambda: None))
    with launchers.opened(*chosen(f"hydra/launcher={name}")) as ready:
        assert (ready.name, ready.settings.alone, ready.settings.retries) == (name, True, 2)
        made: Launcher = ready
        assert made.at_once >= 1


def test_a_library_that_is_not_here_is_an_extra() -> None:
    """The line says how to have it."""
    with (
        pytest.raises(ConfigError, match=r"^ray is not installed here: pip install 'xinfer\[ray\]'$"),
        extra("ray"),
    ):
        raise ModuleNotFoundError


# What is asked of submitit


def parameters(kind: type[Submitit], need: Need, *words: str) -> dict[str, Any]:
    """Return what is asked for, without what is not said."""
    found = chosen(f"hydra/launcher={kind.name}", *words)
    made = object.__new__(kind)
    made._said = msgspec.convert(found.node, kind.kind)
    return {key: value for key, value in made.parameters(need).items() if value is not None}


@pytest.mark.parametrize(
    ("words", "need", "more"),
    [
        pytest.param((), Need(), {}, id="a-node-with-all-its-memory"),
        pytest.param((), Need(gpus=4, cores=8), {"gpus_per_node": 4, "cpus_per_task": 8}, id="what-the-plan-uses"),
        pytest.param(("gpus_per_node=2",), Need(gpus=4), {"gpus_per_node": 2}, id="what-is-said-instead"),
        pytest.param(("gres='gpu:h100:4'",), Need(gpus=4), {"slurm_gres": "gpu:h100:4"}, id="gres-for-gpus"),
        pytest.param(("partition=gpu",), Need(), {"slurm_partition": "gpu"}, id="a-partition"),
    ],
)
def test_slurm_is_asked_for(words: tuple[str, ...], need: Need, more: dict[str, Any]) -> None:
    """Whole nodes, so that nobody else is on them, and what the job's launch plan uses."""
    whole = {"slurm_exclusive": True, "slurm_mem": "0", "timeout_min": 720, "name": "xinfer"}
    assert parameters(Slurm, need, *(f"hydra.launcher.{word}" for word in words)) == {**whole, **more}


def test_a_shared_node_has_no_memory_of_its_own() -> None:
    """What is asked for is what was said."""
    words = ("hydra.launcher.exclusive=false", "hydra.launcher.mem_gb=16")
    assert parameters(Slurm, Need(), *words) == {"timeout_min": 720, "name": "xinfer", "mem_gb": 16}


def test_this_machine_shows_a_job_the_gpus_that_it_uses() -> None:
    """submitit hides all others from it."""
    assert parameters(Submitit, Need(gpus=1, cores=4)) == {"timeout_min": 720, "gpus_per_node": 1}


def test_a_slurm_job_that_is_gone_has_no_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is looked for in the queue, which is asked once for all jobs."""
    (tmp_path / "squeue").write_text(f"#!/bin/sh\necho asked >> {tmp_path}/log\necho 7\necho 8\n")
    (tmp_path / "squeue").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setattr(batch, "LATE_S", 0.0)
    monkeypatch.setattr(Submitit, "__init__", lambda *_: None)
    slurm = Slurm({})
    paths = SimpleNamespace(result_pickle=tmp_path / "result")
    gone = SimpleNamespace(job_id="9", paths=paths, stderr=lambda: "one\ntwo\n")
    with pytest.raises(LaunchError, match=r"^Slurm's job 9 ended without a result$") as raised:
        slurm.result(gone)
    assert raised.value.details == ("one", "two")
    assert not slurm._is_queued("9", 0.0)
    assert slurm._is_queued("7", 0.0)
    assert (tmp_path / "log").read_text() == "asked\n"
    paths.result_pickle.touch()
    assert slurm.result(SimpleNamespace(job_id="7", paths=paths, result=lambda: b"it")) == b"it"


# What is asked of Ray


def test_ray_gives_a_job_a_whole_node() -> None:
    """The cores of the smallest node that has what it needs, so that nothing else is put beside it."""
    nodes = [
        {"Alive": True, "Resources": {"CPU": 8.0, "GPU": 4.0}},
        {"Alive": True, "Resources": {"CPU": 16.0}},
        {"Alive": False, "Resources": {"CPU": 4.0, "GPU": 4.0}},
        {"Alive": True, "Resources": {"memory": 1.0}},
    ]
    asked: list[dict[str, Any]] = []

    def options(**said: Any) -> Any:
        asked.append(said)
        return SimpleNamespace(remote=lambda job: job)

    made = object.__new__(Ray)
    made._said = msgspec.convert(chosen("hydra/launcher=ray").node, Ray.kind)
    made._running = set()
    made._work = SimpleNamespace(options=options)
    made._ray = SimpleNamespace(nodes=lambda: nodes, wait=lambda jobs, **_: (jobs, []), get=lambda job: job)
    assert made.call(b"it", Need(gpus=2)) == b"it"
    assert made.call(b"it", Need()) == b"it"
    found = [(each["num_gpus"], each["num_cpus"], each["max_retries"]) for each in asked]
    assert found == [(2, 8.0, 0), (0, 8.0, 0)]
