"""A plan inside a container: what runs there, and what cannot."""

from __future__ import annotations

from typing import TYPE_CHECKING

import deployed
import msgspec
import pytest

from xinfer.deploying import formats
from xinfer.deploying.container import BASE, contained, foreign
from xinfer.errors import ConfigError
from xinfer.planning.artefacts import CONVERT

if TYPE_CHECKING:
    from conftest import Ask

IMAGES = {
    "vllm-cuda": "vllm/vllm-openai:v0.33.0",
    "vllm-cuda-4": "vllm/vllm-openai:v0.33.0",
    "vllm-cuda-12": "vllm/vllm-openai:v0.30.0-cu129",
    "vllm-rocm": "vllm/vllm-openai-rocm:v0.18.0",
    "vllm-cpu": "vllm/vllm-openai-cpu:v0.32.0-x86_64",
    "vllm-modelscope": "vllm/vllm-openai:v0.33.0",
    "vllm-key": "vllm/vllm-openai:v0.33.0",
    "sglang-cuda-8": "lmsysorg/sglang:v0.5.23",
}
"""Where an image has the plan's version; all others are installed."""


@pytest.mark.parametrize("case", deployed.CASES)
def test_the_image_and_the_interpreter(case: str) -> None:
    """An engine's own image runs it by its own Python; without one, the plan's environment is made in the volume."""
    made = contained(deployed.deployment(deployed.CASES[case], "compose"), "compose")
    assert made.image == IMAGES.get(case, BASE)
    if case in IMAGES:
        assert made.command[0] == "python3"
        assert "pip install --disable-pip-version-check vllm" not in made.script
    else:
        assert made.command[0].startswith("/xinfer/environments/")
        assert made.command[0].rpartition("/bin/")[0] in made.script


@pytest.mark.parametrize("case", deployed.CASES)
def test_the_server_listens_to_others(case: str) -> None:
    """The rest of the command is that of the plan, but for the interpreter and the paths of programs."""
    deployment = deployed.deployment(deployed.CASES[case], "compose")
    command = list(contained(deployment, "compose").command)
    argv = list(deployment.launch.argv)
    at = argv.index("--host") + 1
    assert (argv[at], command[at]) == ("127.0.0.1", "0.0.0.0")
    flags = next(place for place, word in enumerate(argv) if word.startswith("--"))
    assert [*command[flags:at], *command[at + 1 :]] == [*argv[flags:at], *argv[at + 1 :]]


@pytest.mark.parametrize("case", deployed.CASES)
def test_every_program_of_ours_is_brought_along(case: str) -> None:
    """What the commands run is among the files, and nothing else is."""
    made = contained(deployed.deployment(deployed.CASES[case], "compose"), "compose")
    words = {word.strip("'") for word in (*made.command, *made.script.split()) if word.startswith("/opt/xinfer/")}
    assert words == {f"/opt/xinfer/{name}" for name in made.files}
    assert all(made.files.values())


def test_what_converts_weights_is_brought_along() -> None:
    """The text is that of the program."""
    made = contained(deployed.deployment(deployed.CASES["vllm-cpu"], "compose"), "compose")
    text = (CONVERT / "gguf_to_folder.py").read_text(encoding="utf-8")
    assert made.files == {"gguf_to_folder.py": text}


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        pytest.param(
            "hw=cpu engine=llama_cpp engine.python=/usr/bin/python3",
            "this plan runs by an interpreter of this machine; leave engine.python= out", id="an-own-interpreter",
        ),
        pytest.param(
            "model=qwen2-instruct hw=cuda engine=llama_cpp engine.build=native",
            "a build from source needs the GPU's own compiler, which the base image has not; say format=shell",
            id="a-compiler-that-is-not-there",
        ),
    ],
)  # fmt: skip
@pytest.mark.parametrize("how", sorted(formats.CONTAINED))
def test_what_no_container_can_have(ask: Ask, typed: str, said: str, how: str) -> None:
    """One line says why."""
    done = ask("plan", *typed.split(), f"format={how}")
    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"xinfer: format={how}: {said}\n")


def test_a_server_that_only_its_own_container_reaches() -> None:
    """Somebody else's plugin may have no such flag."""
    deployment = deployed.deployment(deployed.CASES["vllm-cuda"], "compose")
    for argv in (("engine",), ("engine", "--host")):
        launch = msgspec.structs.replace(deployment.launch, argv=argv)
        with pytest.raises(ConfigError, match=r"^format=compose: this engine's plan has no --host, "):
            contained(msgspec.structs.replace(deployment, launch=launch), "compose")


def test_paths_that_the_container_has_not() -> None:
    """A user's own flag may name a file of this machine; what is the container's or mounted is none of them."""
    typed = "hw=cpu engine=llama_cpp engine.args.chat-template-file=/home/me/t.jinja engine.args.lora=/m/a"
    deployment = msgspec.structs.replace(deployed.deployment(typed, "compose"), local=("/m",))
    assert foreign(deployment, contained(deployment, "compose")) == ["/home/me/t.jinja"]
