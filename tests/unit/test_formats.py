"""The formats of a plan: each artefact is what it was, names no secret, and no path that is not where it runs."""

from __future__ import annotations

import os
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

import deployed
import msgspec
import pytest
import yaml

from xinfer import cli, engines
from xinfer.deploying import formats
from xinfer.testing.model_files import gguf

if TYPE_CHECKING:
    from conftest import Ask

GOLDEN = Path(__file__).parents[1] / "golden" / "deployments"
KEPT = {
    "shell": "llama_cpp-cpu", "compose": "llama_cpp-cpu", "kubernetes": "vllm-cuda-4", "slurm": "vllm-cuda-4",
    "systemd": "vllm-key",
}  # fmt: skip
"""The plan that is kept in each format."""


def portable(text: str) -> str:
    """Leave out what differs from one checkout and one Python to the next."""
    plugins, core = engines.get("vllm").conf.parent.parent, Path(formats.__file__).parents[1]
    return text.replace(str(plugins), "{plugins}").replace(str(core), "{xinfer}")


@pytest.mark.parametrize("how", formats.ARTEFACTS)
def test_an_artefact_is_as_it_was(how: str) -> None:
    """What operators run changes only on purpose."""
    typed = deployed.CASES[KEPT[how]]
    made = deployed.deployment(typed, how)
    programs = dict.fromkeys(made.programs, "its\ntext\n")
    text = portable(formats.text(how, msgspec.structs.replace(made, programs=programs)))
    path = GOLDEN / f"{how}.txt"
    if os.environ.get("XINFER_UPDATE_GOLDEN"):
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8")


def test_every_format_is_a_module_with_a_text() -> None:
    """The table names nothing that is not there."""
    for how in formats.ARTEFACTS:
        assert callable(import_module(f"xinfer.deploying.{how}").text)
    assert set(formats.ARTEFACTS) >= formats.CONTAINED


def test_the_formats_are_named_wherever_they_are_explained() -> None:
    """In the usage text and beside the key."""
    assert f"format={'|'.join(formats.NAMES)}" in cli.USAGE
    config = (Path(engines.get("vllm").conf.parents[2]) / "conf" / "config.yaml").read_text(encoding="utf-8")
    assert f"plan ({', '.join(formats.NAMES)})" in config


@pytest.mark.parametrize("how", [*formats.ARTEFACTS, "yaml"])
def test_a_refused_plan_has_no_artefact(ask: Ask, how: str) -> None:
    """One line says who refuses; of the documents, both are printed all the same."""
    done = ask("plan", "model=qwen2-instruct", "hw=cpu", "engine=vllm", f"format={how}")
    assert (done.returncode, done.stderr) == (3, "xinfer: xinference-2024-08 refuses vllm: cuda\n")
    assert bool(done.stdout) is (how == "yaml")


@pytest.mark.parametrize("how", formats.ARTEFACTS)
def test_a_server_that_runs_already_needs_none(ask: Ask, how: str) -> None:
    """A comment in every format says so."""
    done = ask("plan", "engine=external", "engine.url=http://127.0.0.1:1", f"format={how}")
    assert (done.returncode, done.stdout) == (0, "# http://127.0.0.1:1 runs already\n")


@pytest.mark.parametrize("how", sorted(set(formats.ARTEFACTS) - {"shell"}))
@pytest.mark.parametrize("hw", ["apple", "m3-max"])
def test_a_mac_has_commands_alone(ask: Ask, how: str, hw: str) -> None:
    """All other formats are Linux's, and the message says what there is instead."""
    done = ask("plan", f"hw={hw}", "engine=llama_cpp", f"format={how}")
    said = f"format={how}: this plan is for macOS, and that is for Linux; say format=shell, or hw="
    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"xinfer: {said}\n")


@pytest.mark.parametrize("how", formats.ARTEFACTS)
@pytest.mark.parametrize("how_given", ["typed", "named"])
def test_no_artefact_has_the_key(ask: Ask, monkeypatch: pytest.MonkeyPatch, how: str, how_given: str) -> None:
    """Only the name of a variable is written down, whether the key was typed or named."""
    monkeypatch.setenv("SERVER_KEY", "s3cret-key")
    word = "api_key=s3cret-key" if how_given == "typed" else "api_key_env=SERVER_KEY"
    done = ask("plan", "model=qwen2-instruct", "hw=cuda", "engine=vllm", word, f"format={how}")
    assert done.returncode == 0
    assert "s3cret" not in done.stdout
    assert ("KEY" in done.stdout.replace("VLLM_API_KEY", "")) is (how != "shell")


@pytest.mark.parametrize("typed", ["model=qwen2-instruct hw=cuda", "hw=cpu", "engine=vllm hw=cpu"])
def test_the_yaml_document_is_the_json_document(ask: Ask, typed: str) -> None:
    """Two spellings of one document."""
    words = ("plan", *typed.split(), "context_length=512")
    as_json, as_yaml = (ask(*words, f"format={how}").stdout for how in ("json", "yaml"))
    assert as_yaml.startswith("# made by: xinfer plan ")
    assert yaml.safe_load(as_yaml) == msgspec.json.decode(as_json)


@pytest.mark.parametrize(
    ("typed", "gib"),
    [
        pytest.param("model=qwen2-instruct model.size=72 hw=h100 hw.gpus=4 engine=vllm", 135.4, id="all-of-it"),
        pytest.param("hw=cpu engine=llama_cpp", 0.085, id="a-file-of-known-size"),
        pytest.param("hw=cpu engine=vllm rules=engines-2026-11", 0.5, id="what-is-made-and-what-it-is-made-from"),
        pytest.param("model=qwen2-instruct hw=cpu model.size=0.5 model.quantization=4-bit", None, id="quantized-here"),
    ],
)
def test_how_large_the_files_are(typed: str, gib: float | None) -> None:
    """Whatever part of them one device has in its memory."""
    assert deployed.deployment(typed).stored_gib == (gib if gib is None else pytest.approx(gib, rel=0.1))


@pytest.mark.parametrize("case", deployed.CASES)
@pytest.mark.parametrize("how", sorted(formats.CONTAINED))
def test_a_container_knows_no_path_of_this_machine(case: str, how: str) -> None:
    """Neither the home that was asked for, nor where xinfer and its plugins lie, nor this Python."""
    text = deployed.text(deployed.CASES[case], how)
    body = "\n".join(line for line in text.splitlines() if not line.startswith("#"))
    assert portable(body) == body
    assert "/home/me" not in body
    assert "its'_" not in body


@pytest.mark.parametrize("case", deployed.CASES)
@pytest.mark.parametrize("how", sorted(set(formats.ARTEFACTS) - {"shell"}))
def test_every_artefact_says_where_it_comes_from(case: str, how: str) -> None:
    """The command, the engine, the model, the machine, and a reason for each flag and variable."""
    typed = deployed.CASES[case]
    text = deployed.text(typed, how)
    head = [line for line in text.splitlines() if line.startswith("# ")]
    launch = deployed.deployment(typed, how).launch
    assert head[0].startswith("# made by: xinfer plan ")
    assert [line.split()[1] for line in head[1:5]] == ["xinfer:", "engine:", "model:", "machine:"]
    assert set(launch.because) <= {line.split()[1] for line in head if len(line.split()) > 1}


def test_a_model_of_this_machine(ask: Ask, tmp_path: Path) -> None:
    """A container has it at its own path, for reading alone; a cluster cannot have it, and is told what it can."""
    path = tmp_path / "my $model.gguf"
    path.write_bytes(gguf())
    words = ("plan", "model=local", f"model.path={path}", "engine=llama_cpp", "hw=cpu")
    server = yaml.safe_load(ask(*words, "format=compose").stdout.replace("$$", "$"))["services"]["server"]
    assert server["volumes"][1] == {"type": "bind", "source": str(path), "target": str(path), "read_only": True}
    assert server["command"][:2] == ["--model", str(path)]
    done = ask(*words, "format=kubernetes")
    said = f"{path} is on this machine, where no cluster sees it; say model=hf, or format=compose"
    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"xinfer: format=kubernetes: {said}\n")
