"""A plan as a unit of systemd: what systemd reads is what was planned."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import deployed
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xinfer.deploying.deployment import Deployment
from xinfer.deploying.systemd import quoted, text
from xinfer.environments.environment import MARKER
from xinfer.facts import Hardware
from xinfer.plan import LaunchPlan

if TYPE_CHECKING:
    from collections.abc import Iterator

WORD = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))
NAME = st.from_regex(r"[A-Z_]{1,8}", fullmatch=True)
ESCAPES = {"\\": "\\", '"': '"', "n": "\n", "t": "\t", "r": "\r"}


def words(line: str) -> Iterator[str]:
    """Read quoted words as systemd.syntax(7) and systemd.unit(5) say: escapes of C, and then %% as a specifier."""
    for part in re.findall(r'"((?:[^"\\]|\\.)*)"', line, re.DOTALL):
        plain = re.sub(r"\\(x[0-9a-f]{2}|.)", lambda m: _letter(m[1]), part)
        assert re.sub(r"%%", "", plain).count("%") == 0, "a specifier"
        yield plain.replace("%%", "%")


def _letter(escape: str) -> str:
    return chr(int(escape[1:], 16)) if len(escape) == 3 else ESCAPES[escape]


def unit(**fields: Any) -> str:
    plan = LaunchPlan(engine="e", version=None, variant="v", **{"argv": ("/bin/e",), "model": "m", **fields})
    return text(Deployment(launch=plan, hardware=Hardware(profile="h")))


def settings(unit: str) -> dict[str, list[str]]:
    """Return the values of each setting; a backslash at the end of a line continues it."""
    found: dict[str, list[str]] = {}
    lines = unit.replace("\\\n", "").split("\n")
    for line in (line for line in lines if "=" in line and not line.startswith("#")):
        key, _, value = line.partition("=")
        found.setdefault(key, []).append(value)
    return found


@given(WORD)
def test_a_word_is_read_as_it_was_written(word: str) -> None:
    """Spaces, quotes, line ends, %, $ and other scripts too."""
    assert list(words(quoted(word))) == [word]
    assert "\n" not in quoted(word)


@given(st.lists(WORD, min_size=1, max_size=5), st.dictionaries(NAME, WORD, max_size=4))
def test_a_command_is_read_as_it_was_planned(argv: list[str], env: dict[str, str]) -> None:
    """With its variables; the colon tells systemd to leave $ alone."""
    found = settings(unit(argv=("/bin/e", *argv), env=env))
    assert found["ExecStart"][0][0] == ":"
    assert list(words(found["ExecStart"][0][1:])) == ["/bin/e", *argv]
    given_ = [word for line in found.get("Environment", []) for word in words(line)]
    assert given_ == [f"{name}={value}" for name, value in env.items()]


@given(st.text())
def test_the_description_is_one_line(model: str) -> None:
    """A model may be called anything, and no part of its name is a specifier."""
    (said,) = settings(unit(model=model))["Description"]
    assert said.replace("%%", "").count("%") == 0
    assert not said.endswith("\\")


@pytest.mark.parametrize("path", ["/it's/e", '/a"b', "/a\\b", "/a\nb"])
def test_an_executable_that_no_unit_may_name(path: str) -> None:
    """A shell starts it, and gets the words as they are."""
    argv = list(words(settings(unit(argv=(path, "--a", "$b")))["ExecStart"][0]))
    assert argv == ["/bin/sh", "-c", 'exec "$0" "$@"', path, "--a", "$b"]


def test_variables_that_are_taken_away() -> None:
    """A user's own systemd may have them."""
    assert settings(unit(unset=("A", "B"), env={"B": "1"}))["UnsetEnvironment"] == ["A"]
    assert "UnsetEnvironment" not in settings(unit())


@pytest.mark.parametrize("case", deployed.CASES)
def test_the_unit_of_a_real_plan(case: str) -> None:
    """It starts only where all that the server itself needs is complete, and stays up."""
    deployment = deployed.deployment(deployed.CASES[case], "systemd")
    found = settings(text(deployment))
    assert list(words(found["ExecStart"][0]))[-len(deployment.launch.argv) :] == list(deployment.launch.argv)
    environment = deployment.launch.environment
    assert environment is not None
    assert found["AssertPathExists"][0] == f"{environment.path}/{MARKER}".replace("%", "%%")
    assert (found["Restart"], found["Type"]) == (["on-failure"], ["exec"])
    assert ("EnvironmentFile" in found) is (deployment.key is not None)


def test_what_the_server_runs_is_what_must_be_there() -> None:
    """Tools and files that only lead to the weights may be gone."""
    deployment = deployed.deployment(deployed.CASES["vllm-cpu"], "systemd")
    weights = [artefact.path for artefact in deployment.launch.weights]
    asserted = settings(text(deployment))["AssertPathExists"]
    assert len(weights) > 1
    assert asserted[1:] == [f"{weights[-1]}/{MARKER}"]


def test_how_the_key_comes_in() -> None:
    """By a file of the user's own, which the comments tell how to write."""
    unit = deployed.text(deployed.CASES["llama_cpp-cuda-key"], "systemd")
    assert "EnvironmentFile=%h/.config/xinfer/xinfer-qwen2-instruct.env\n" in unit
    assert "holds LLAMA_API_KEY=KEY,KEY, for you alone to read (mode 600)\n" in unit


def test_a_plan_without_environment() -> None:
    """The user's own interpreter needs nothing made."""
    deployment = deployed.deployment(deployed.CASES["vllm-cuda"], "systemd")
    launch = msgspec.structs.replace(deployment.launch, environment=None)
    assert "AssertPathExists" not in settings(text(msgspec.structs.replace(deployment, launch=launch)))
