"""A plugin of somebody else's: built, installed beside xinfer into an environment of its own, and used there."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from xinfer.testing import EngineContract

ROOT = Path(__file__).parents[2]
PLUGIN = ROOT / "tests" / "resources" / "third_party_plugin"
SOURCES = ("xinfer", "conf", "plugins", "pyproject.toml", "README.md", "LICENSE")
TESTS = [name for name in vars(EngineContract) if name.startswith("test_")]


class Installed(NamedTuple):
    """An environment that has xinfer and the plugin, and a directory to work in."""

    python: Path
    directory: Path

    def run(self, *argv: str, **environ: str) -> subprocess.CompletedProcess[str]:
        """Run Python there, away from the checkout."""
        own = {"XINFER_HOME": str(self.directory / "home"), "XINFER_TEST_HOME": str(self.directory / "home"), **environ}
        inherited = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "XINFER_ENGINES")}
        words, directory = [str(self.python), *argv], self.directory
        return subprocess.run(
            words, cwd=directory, env={**inherited, **own}, capture_output=True, text=True, check=False
        )

    def plan(self, *argv: str, **environ: str) -> dict[str, Any]:
        """Return the plan that xinfer prints."""
        done = self.run("-m", "xinfer", "plan", "format=json", *argv, **environ)
        assert done.returncode == 0, done.stderr
        found: dict[str, Any] = json.loads(done.stdout)
        return found


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """Build both distributions from copies of their sources, and install them as anybody would.

    What xinfer depends on is taken from the environment of these tests.
    """
    directory = tmp_path_factory.mktemp("third_party")
    source = directory / "source"
    source.mkdir()
    for name in SOURCES:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy2
        copy(ROOT / name, source / name)
    shutil.copytree(PLUGIN, directory / "plugin")
    subprocess.run([sys.executable, "-m", "venv", str(directory / "venv")], check=True)
    found = Installed(directory / "venv" / "bin" / "python", directory)
    site = found.run("-c", "import sysconfig; print(sysconfig.get_path('purelib'))").stdout.strip()
    (Path(site) / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    pip = ("-m", "pip", "install", "--disable-pip-version-check", "--no-deps")
    done = found.run(*pip, str(source), str(directory / "plugin"))
    assert done.returncode == 0, done.stderr
    return found


def test_both_are_installed_there(installed: Installed) -> None:
    """Neither is the checkout's."""
    done = installed.run("-c", "import xinfer, xinfer_markov; print(xinfer.__file__); print(xinfer_markov.__file__)")
    assert all(Path(line).is_relative_to(installed.directory / "venv") for line in done.stdout.splitlines())
    assert len(done.stdout.splitlines()) == 2


def test_the_engine_is_one_of_the_engines(installed: Installed) -> None:
    """It came through the same door as the five."""
    done = installed.run("-m", "xinfer", "engines", "format=json")
    rows = {row["engine"]: row for row in json.loads(done.stdout)}
    assert set(rows) == {"llama_cpp", "markov", "mlx", "sglang", "transformers", "vllm"}
    assert (rows["markov"]["title"], rows["markov"]["plugin"]) == ("Markov chain", "ok")


def verdict(plan: dict[str, Any], engine: str = "markov") -> dict[str, Any]:
    """Return one engine's verdict."""
    (found,) = (found for found in plan["decision"]["verdicts"] if found["engine"] == engine)
    return dict(found)


def test_its_model_and_its_rules_decide(installed: Installed) -> None:
    """Its conditions complete a pack that has none of it; each says that the plugin is its source."""
    plan = installed.plan("model=capitals")
    assert plan["decision"]["engine"] == "markov"
    assert plan["decision"]["rules"] != "markov"
    found = verdict(plan)
    assert found["verdict"] == "yes"
    assert [finding["id"] for finding in found["findings"]] == ["format", "system", "text"]
    assert {finding["source"]["title"] for finding in found["findings"]} == {"xinfer-markov"}
    assert verdict(plan, "vllm")["verdict"] == "no"
    assert installed.plan("model=capitals", "rules=markov")["decision"]["verdicts"][0] == found


def test_it_changes_nothing_for_other_models(installed: Installed) -> None:
    """It is judged, refused, and last in the order."""
    words = ("model=qwen2-instruct", "hw=cuda")
    plan, without = (
        installed.plan(*words),
        installed.plan(*words, XINFER_ENGINES="llama_cpp,mlx,sglang,transformers,vllm"),
    )
    assert [v["engine"] for v in plan["decision"]["verdicts"]][-1] == "markov"
    assert verdict(plan)["verdict"] == "no"
    assert plan["launch"] == without["launch"]
    assert plan["decision"]["verdicts"][:-1] == without["decision"]["verdicts"]


def test_it_runs(installed: Installed) -> None:
    """Installed into an environment of its own, started, measured and recorded."""
    done = installed.run("-m", "xinfer", "run", "engine=markov", "model=capitals")
    assert done.returncode == 0, done.stderr
    (path,) = installed.directory.glob("runs/*/*/record.json")
    record = json.loads(path.read_bytes())
    assert record["status"] == "ok"
    assert record["decision"]["engine"] == "markov"
    assert record["metrics"]["failed"] == 0
    assert record["capabilities"]["fixed_length"] is True
    argv = record["launch"]["argv"]
    assert Path(argv[0]).is_relative_to(installed.directory / "home" / "environments")
    assert Path(argv[1]).name == "server.py"


def test_it_keeps_the_contract(installed: Installed) -> None:
    """By the ten lines of its own tests."""
    file = installed.directory / "plugin" / "tests" / "test_markov.py"
    done = installed.run("-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider", str(file))
    assert done.returncode == 0, done.stdout
    assert f"{len(TESTS)} passed" in done.stdout
    code = file.read_text(encoding="utf-8").partition("class ")[2]
    assert len([line for line in code.splitlines() if line]) <= 10


def test_rules_that_cannot_be_read_are_unknown(installed: Installed) -> None:
    """With the file and what is wrong in it; nothing else is touched."""
    folder = installed.directory / "mine"
    (folder / "rules").mkdir(parents=True)
    broken = folder / "rules" / "markov.yaml"
    broken.write_text("sources: {}\nengines: {markov: {format: {fact: model.format, eq: x, source: nobody}}}\n")
    words = ("--config-dir", str(folder))
    found = verdict(installed.plan(*words, "model=qwen2-instruct", "hw=cuda"))
    assert found["verdict"] == "unknown"
    (finding,) = found["findings"]
    assert finding["observed"].startswith(f"{broken}: rule markov.format: source 'nobody' is not one of the pack's")
    plan = installed.plan(*words, "model=capitals", "engine=markov")
    assert plan["decision"]["because"][0] == "markov was asked for; none of its conditions fails, some are unknown"
    broken.write_text("sources: {}\nengines: {}\n")
    (finding,) = verdict(installed.plan(*words, "model=capitals"))["findings"]
    assert finding["observed"] == f"{broken}: has no conditions of markov"


def test_a_plugin_that_does_not_import_is_unknown(installed: Installed) -> None:
    """With its error; everything else works, and the engine cannot be asked for."""
    shadow = installed.directory / "shadow" / "xinfer_markov"
    shadow.mkdir(parents=True)
    (shadow / "__init__.py").write_text("raise OSError('the disk is gone')\n")
    path = str(shadow.parent)
    plan = installed.plan("model=qwen2-instruct", "hw=cuda", PYTHONPATH=path)
    found = verdict(plan)
    assert found["verdict"] == "unknown"
    assert [finding["observed"] for finding in found["findings"]] == ["OSError: the disk is gone"]
    assert plan["decision"]["engine"] == "vllm"
    done = installed.run("-m", "xinfer", "plan", "engine=markov", PYTHONPATH=path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("xinfer: there is no engine 'markov'")
