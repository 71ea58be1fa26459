"""What an engine needs installed is read from its plugin, for each kind of machine."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from xinfer.catalog import Spec
from xinfer.engines import Job, Settings
from xinfer.errors import ConfigError
from xinfer.facts import Gpu, Hardware
from xinfer.planning import requirement
from xinfer.spec import Workload

if TYPE_CHECKING:
    from pathlib import Path

    from xinfer.plan import Argv

FILE = """\
cuda:
  version: "1.2"
  installs: [[torch, --index-url, "https://example.org/cu"], ["engine=={version}", "kernels-{version}"]]
cpu:
  version: "1.1"
  installs: [["engine=={version}"]]
rocm:
  version: "1.0"
  installs: [[torch==2.1], [--no-deps, engine==1.0]]
  others:
    "0.9": [[engine==0.9]]
apple: "its documentation has a build from source"
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    written = tmp_path / "requirements.yaml"
    written.write_text(FILE, encoding="utf-8")
    return written


def job(**settings: Any) -> Job:
    return Job(
        spec=Spec(family="f", size="7", format="pytorch", quantization="none", hub="huggingface", id="a/b"),
        hardware=Hardware(profile="p"), settings=settings, workload=Workload(name="w", input_tokens=1, output_tokens=1),
        context_length=4096, home="/xinfer", python="python3", port=8000,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("machine", "variant"),
    [
        pytest.param({}, "cpu", id="nothing-is-known"),
        pytest.param({"gpus": 0}, "cpu", id="no-gpu"),
        pytest.param({"gpus": 0, "gpu": Gpu(vendor="nvidia")}, "cpu", id="no-gpu-of-a-make"),
        pytest.param({"gpus": 1}, "cpu", id="a-gpu-of-unknown-make"),
        pytest.param({"gpus": 1, "gpu": Gpu(vendor="nvidia")}, "cuda", id="nvidia"),
        pytest.param({"gpu": Gpu(vendor="nvidia")}, "cuda", id="some-nvidia"),
        pytest.param({"gpus": 2, "gpu": Gpu(vendor="amd")}, "rocm", id="amd"),
        pytest.param({"gpus": 1, "gpu": Gpu(vendor="intel")}, "xpu", id="intel"),
        pytest.param({"gpus": 1, "gpu": Gpu(vendor="apple")}, "apple", id="apple"),
    ],
)
def test_variant(machine: dict[str, Any], variant: str) -> None:
    """The kind of build follows the make of the accelerators; without any it is the CPU's."""
    assert requirement.variant_of(Hardware(profile="p", **machine)) == variant


def test_a_variant_is_read_and_filled_in(path: Path) -> None:
    """The version stands wherever the file says, in any of the installs."""
    needs = requirement.read(path, "engine", "cuda")
    assert needs.version == "1.2"
    assert needs.filled("2.0") == (
        ("torch", "--index-url", "https://example.org/cu"),
        ("engine==2.0", "kernels-2.0"),
    )


def test_a_variant_that_is_not_there(path: Path) -> None:
    """The message lists the variants that are."""
    message = "engine: no xpu build is known to its plugin; known: cuda, cpu, rocm"
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        requirement.read(path, "engine", "xpu")


def test_a_variant_that_no_index_has(path: Path) -> None:
    """The message says what there is instead, and which variants are known."""
    instead = "its documentation has a build from source; or engine.python="
    message = f"engine: no apple build: {instead}; known: cuda, cpu, rocm"
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        requirement.read(path, "engine", "apple")


def test_an_environment_of_our_own(path: Path) -> None:
    """The plugin's version is installed into a directory that is named after engine, variant, version and commands."""
    made = requirement.provide(path, Settings(name="engine"), job(), "cuda")
    assert made.environment is not None
    assert re.fullmatch(r"/xinfer/environments/engine-cuda-1\.2-[0-9a-f]{8}", made.environment.path)
    assert (made.version, made.variant, made.python) == ("1.2", "cuda", f"{made.environment.path}/bin/python")
    pip = (made.python, "-m", "pip", "install", "--disable-pip-version-check")
    assert made.environment.steps == (
        ("python3", "-m", "venv", made.environment.path),
        (*pip, "torch", "--index-url", "https://example.org/cu"),
        (*pip, "engine==1.2", "kernels-1.2"),
    )


def test_the_users_installer(path: Path) -> None:
    """It fills the engine's environment."""
    made = requirement.provide(path, Settings(name="engine"), msgspec.structs.replace(job(), installer="uv"), "cpu")
    assert made.environment is not None
    assert [step[:2] for step in made.environment.steps] == [("uv", "venv"), ("uv", "pip")]


def test_the_users_version(path: Path) -> None:
    """Another version is another environment, installed by the same commands."""
    made = requirement.provide(path, Settings(name="engine", version="0.9"), job(), "cpu")
    assert made.environment is not None
    assert made.version == "0.9"
    assert made.environment.steps[-1][-1] == "engine==0.9"
    assert made.environment.path.startswith("/xinfer/environments/engine-cpu-0.9-")


@pytest.mark.parametrize(
    ("version", "commands"),
    [
        pytest.param(None, [("torch==2.1",), ("--no-deps", "engine==1.0")], id="the-plugins"),
        pytest.param("0.9", [("engine==0.9",)], id="another-that-is-known"),
    ],
)
def test_pins_hold_for_their_version_alone(path: Path, version: str | None, commands: list[Argv]) -> None:
    """Where each package is pinned, a version brings its own list."""
    made = requirement.provide(path, Settings(name="engine", version=version), job(), "rocm").environment
    assert made is not None
    assert [step[5:] for step in made.steps[1:]] == commands


def test_a_version_whose_pins_are_not_known(path: Path) -> None:
    """The pins of one version would give another that nobody has tried; the message lists those that were."""
    known = "engine is known for rocm in 1.0, 0.9, or bring your own with engine.python="
    with pytest.raises(ConfigError, match=f"^{re.escape(f'engine.version=0.8: {known}')}$"):
        requirement.provide(path, Settings(name="engine", version="0.8"), job(), "rocm")


@pytest.mark.parametrize("version", ["banana", ">=0.9", "0.9,<2", ""])
def test_what_is_no_version(path: Path, version: str) -> None:
    """One is meant, in full: pip would read a range as something else, or ask its index for nothing."""
    said = f"engine.version={version} is no version that can be installed; say one in full, as in engine.version=1.1"
    with pytest.raises(ConfigError, match=f"^{re.escape(said)}$"):
        requirement.provide(path, Settings(name="engine", version=version), job(), "cpu")


@pytest.mark.parametrize("version", [None, "0.9"])
def test_the_users_interpreter(path: Path, version: str | None) -> None:
    """Nothing is installed; the version is what the user says, and the variant need not be known."""
    made = requirement.provide(path, Settings(name="engine", python="/mine/python", version=version), job(), "rocm")
    assert (made.environment, made.python, made.version, made.variant) == (None, "/mine/python", version, "rocm")
