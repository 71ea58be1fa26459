"""Imports go one way: a module knows only those to its left, and no engine is ever imported."""

from __future__ import annotations

import ast
import sys
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import xinfer
from xinfer import engines

if TYPE_CHECKING:
    from collections.abc import Iterator

CORE = Path(xinfer.__file__).parent
PLUGINS = engines.get("vllm").conf.parent.parent
ROOMS = {
    "errors apikey versions spec facts plan guard": "",
    "document overrides parts compose pieces launcher spelling": "config",
    "bounds shape catalog engines": "",
    "probes contradictions accelerators hardware devices counters disturbance fingerprint pagecache": "machine",
    "dimensions mixture bits cache memory parallel nodes room spread precision installers artefacts requirement "
    "tunables": "planning",
    "predicates recall rules packs releases decision alternatives changes disagreement "
    "differences supplement": "judging",
    "advice": "planning",
    "keys": "",
    "limits naming gguf safetensors packing keeping network files contents fetched web hub source": "sources",
    "news remedies steps locks packages environment storage removal": "environments",
    "weights server runner deadline": "running",
    "processes usage resources corpus samples framing arrivals wire stream client schedule metronome "
    "orders worker tokens vocabulary cuts capabilities prompts placing crew capacity load distribution statistics "
    "validity metrics quantity": "measuring",
    "work tensors ceilings roofline conditions": "measuring",
    "bound prediction": "planning",
    "foreign vllm_bench sglang_bench guidellm aiperf llama_bench peers running": "loadgens",
    "answers dialects agreement interview scoring": "parity",
    "recipe deployment once dumping container shell compose kubernetes slurm systemd formats": "deploying",
    "record comparability evidence history external flow forecast judgement expectation matrix": "",
    "workflow": "deploying",
    "job work launcher pool batch cluster launchers": "launching",
    "outlook report": "verbs",
    "subject github_action_benchmark bencher openmetrics pytest_benchmark tables formats": "exporting",
    "unheeded artefact grid diff variation why candidates choose panel comparison ranking compare export "
    "cell start earlier agenda sweep trials tuned tuning dispatch matrix serve provisioning table": "verbs",
    "errand": "launching",
    "cli __main__": "",
}
"""Every module of the core, left to right, and its room; a new one is put where it belongs."""
LAYERS = tuple(f"{room}.{module}" if room else module for modules, room in ROOMS.items() for module in modules.split())
ENGINES = {"vllm", "torch", "sglang", "mlx", "mlx_lm", "llama_cpp", "transformers", "xllamacpp"}
THIRD_PARTY = {
    "hydra": {"config.compose", "config.launcher", "config.pieces"},
    "omegaconf": {"config.compose", "config.launcher", "config.pieces"},
    "joblib": {"launching.pool"},
    "submitit": {"launching.batch"},
    "ray": {"launching.cluster"},
    "httptools": {"measuring.framing"},
    "numpy": {"measuring.statistics"},
    "optuna": {"verbs.trials"},
    "uvloop": {"measuring.worker"},
    "pynvml": {"machine.accelerators", "machine.devices"},
    "packaging": {"judging.predicates", "versions"},
    "psutil": {
        "running.runner",
        "measuring.processes",
        "measuring.resources",
        "measuring.ceilings",
        "environments.storage",
    },
    "yaml": {
        "config.document",
        "catalog",
        "planning.requirement",
        "deploying.recipe",
        "deploying.dumping",
        "cli",
    },
    "msgspec": set(LAYERS),
}
"""Which modules may know a package of somebody else's."""
EXTRAS = {"joblib", "submitit", "ray", "optuna"}
"""Those of them that nobody needs who does not ask for them."""
METERS = {"processor.py": {"numpy"}, "accelerator.py": {"torch"}}
"""Programs that run in processes of their own, the second by an engine's interpreter; they import nothing of ours."""
CONVERSIONS = {
    "gguf_to_folder.py": {"numpy", "gguf"},
    "gguf_to_gguf.py": {"gguf"},
    "text_to_ids.py": {"huggingface_hub", "tokenizers", "transformers"},
}
"""Programs that run in a tool's or an engine's environment: they may import what that has, and nothing of ours."""
LAUNCHERS: dict[str, set[str]] = {
    "llama_cpp/server.py": {"xllamacpp"},
    "sglang/server.py": set(),
    "transformers/scorer.py": {"torch", "transformers"},
    "mlx/server.py": {"huggingface_hub", "mlx_lm"},
    "mlx/openblas.py": {"scipy_openblas32"},
}
"""Scripts that run in an engine's own environment: they may import the engine, and nothing of ours."""


def imported(source: str) -> set[str]:
    """Return the full name of everything a module imports, at its top or inside a function."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = "." * node.level + (node.module or "")
            joined = base if base.endswith(".") else f"{base}."
            is_room = base in {"xinfer", "."} or base.removeprefix("xinfer.") in ROOMS.values()
            found |= {joined + alias.name for alias in node.names} if is_room else {base}
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
            found |= {arg.value for arg in node.args if isinstance(arg, ast.Constant) and isinstance(arg.value, str)}
    return found


def ours(source: str) -> set[str]:
    """Return the modules of the core that a module imports, without the package's own attributes."""
    named = {name.removeprefix("xinfer.") for name in imported(source) if name.startswith("xinfer.")}
    return {"testing" if name.startswith("testing.") else name for name in named} - {"__version__"}


def theirs(source: str) -> set[str]:
    """Return the packages that a module imports which are neither ours nor Python's."""
    packages = {name.split(".")[0] for name in imported(source) if not name.startswith(".")}
    return packages - {"xinfer"} - set(sys.stdlib_module_names)


def text(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def _path(module: str) -> Path:
    return CORE.joinpath(*module.split(".")).with_suffix(".py")


def test_imports_are_found_wherever_they_stand() -> None:
    """At the top, in a function, for the type checker only, relative, and with another name."""
    source = """
import os, hydra.core as h
from xinfer import facts, __version__
from xinfer.judging import rules
from xinfer.plan import Command
from . import settings
from .settings import read
if TYPE_CHECKING:
    from xinfer.facts import Hardware
def late():
    import torch.nn
    from xinfer import flow as f
    importlib.import_module("vllm.engine")
"""
    assert imported(source) == {
        "os", "hydra.core", "xinfer.judging.rules", "xinfer.__version__", "xinfer.plan", ".settings", "xinfer.facts",
        "torch.nn", "xinfer.flow", "vllm.engine",
    }  # fmt: skip
    assert ours(source) == {"judging.rules", "plan", "facts", "flow"}
    assert theirs(source) == {"hydra", "torch", "vllm"}


def test_every_module_has_its_place() -> None:
    """A module that is not in the list, or a name in it that is no module, is an error."""
    paths = {path for room in ROOMS.values() for path in (CORE / room).glob("*.py") if path.stem != "__init__"}
    assert {".".join(path.relative_to(CORE).with_suffix("").parts) for path in paths} == set(LAYERS)
    assert len(LAYERS) == len(set(LAYERS))


@pytest.mark.parametrize("module", LAYERS)
def test_a_module_imports_only_what_is_left_of_it(module: str) -> None:
    """Data flows one way, and so do imports; the core knows no plugin."""
    right = ours(text(_path(module))) - set(LAYERS[: LAYERS.index(module)])
    assert right == set()


@pytest.mark.parametrize("module", LAYERS)
def test_a_package_is_imported_only_where_it_is_known(module: str) -> None:
    """No engine is, anywhere; Hydra is in one module; every other package has its few."""
    packages = theirs(text(_path(module)))
    assert packages & ENGINES == set()
    assert {package for package in packages if module not in THIRD_PARTY.get(package, ())} == set()


def test_the_package_itself_imports_next_to_nothing() -> None:
    """Asking for a module of ours loads only what that module needs."""
    assert imported(text(CORE / "__init__.py")) <= {"__future__", "pathlib"}


def test_every_package_is_a_dependency() -> None:
    """What the core may import is what the distribution asks for, and nothing more is."""
    project = tomllib.loads(text(CORE.parent / "pyproject.toml"))["project"]
    names = {"pynvml": "nvidia-ml-py", "yaml": "pyyaml", "hydra": "hydra-core", "optuna": "tune"}
    wanted = {names.get(package, package) for package in THIRD_PARTY.keys() - EXTRAS}
    asked = {dependency.partition(">=")[0] for dependency in project["dependencies"]}
    assert asked == wanted
    assert project["optional-dependencies"].keys() >= {names.get(package, package) for package in EXTRAS}


def plugin_modules() -> Iterator[str]:
    found = (path.relative_to(PLUGINS) for path in PLUGINS.rglob("*.py"))
    yield from sorted(path.as_posix() for path in found if path.parent.name != "tests")


@pytest.mark.parametrize("module", [name for name in plugin_modules() if name not in LAUNCHERS])
def test_a_plugin_imports_no_engine(module: str) -> None:
    """An adapter makes plans from the core's modules, its own, Python's, and msgspec and YAML."""
    source = text(PLUGINS / module)
    assert theirs(source) <= {"msgspec", "yaml"}
    assert ours(source) <= set(LAYERS)


@pytest.mark.parametrize("module", LAUNCHERS)
def test_a_launcher_runs_without_us(module: str) -> None:
    """A script for an engine's environment imports that engine and Python, as nothing else is installed there."""
    source = text(PLUGINS / module)
    assert theirs(source) == LAUNCHERS[module]
    assert ours(source) == set()


@pytest.mark.parametrize("program", CONVERSIONS)
def test_a_conversion_runs_without_us(program: str) -> None:
    """It is started by a tool's interpreter, where nothing but that tool is installed."""
    source = text(CORE / "convert" / program)
    assert theirs(source) == CONVERSIONS[program]
    assert ours(source) == set()
    assert {path.name for path in (CORE / "convert").glob("*.py")} == {"__init__.py", *CONVERSIONS}


@pytest.mark.parametrize("program", METERS)
def test_a_meter_runs_without_us(program: str) -> None:
    """What measures the machine shares a process with nothing else."""
    source = text(CORE / "meters" / program)
    assert theirs(source) == METERS[program]
    assert ours(source) == set()
    assert {path.name for path in (CORE / "meters").glob("*.py")} == {"__init__.py", *METERS}


CONTRACT = {"contract", "survey", "subject", "demands", "traces", "shared_memory", "wire", "pytest_plugin"}
"""The modules of the engines' contract, which start what a plan says, and so know the core; and the one of matrices."""


@pytest.mark.parametrize("path", sorted(CORE.glob("testing/*.py")), ids=lambda path: path.stem)
def test_the_test_servers_stand_alone(path: Path) -> None:
    """What looks like an engine to xinfer shares no code with it, and the core knows neither it nor the contract."""
    is_contract = path.stem in CONTRACT
    assert ours(text(path)) <= ({"testing", *LAYERS} if is_contract else {"testing"})
    assert theirs(text(path)) <= ({"msgspec", "psutil", "pytest"} if is_contract else {"msgspec", "uvloop"})


def test_only_what_makes_tests_needs_pytest() -> None:
    """Whoever starts a test server, or checks a stream, needs none."""
    paths = CORE.rglob("*.py")
    assert {path.stem for path in paths if "pytest" in theirs(text(path))} == {"contract", "pytest_plugin"}
