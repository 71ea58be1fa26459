"""The same installation in pip's words and in uv's."""

from __future__ import annotations

import pytest

from xinfer import engines, flow
from xinfer.config.compose import Composer
from xinfer.planning.installers import creation, installation


def test_an_environment_is_created_by_either() -> None:
    """From the interpreter that was chosen, at the place that was chosen."""
    assert creation("pip", "/usr/bin/python3", "/h/e") == ("/usr/bin/python3", "-m", "venv", "/h/e")
    assert creation("uv", "/usr/bin/python3", "/h/e") == ("uv", "venv", "--python", "/usr/bin/python3", "/h/e")


def test_pip_gets_the_words_as_they_are() -> None:
    """It runs in the environment itself, with the user's own settings."""
    words = ("--no-cache-dir", "--extra-index-url", "https://i", "a==1")
    expected = ("/e/bin/python", "-m", "pip", "install", "--disable-pip-version-check", *words)
    assert installation("pip", "/e/bin/python", words) == expected


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        pytest.param("a==1 b[c]>=2", "a==1 b[c]>=2", id="packages"),
        pytest.param(
            "--no-deps -v --only-binary=:all: --no-binary b a",
            "--no-deps -v --only-binary=:all: --no-binary b a",
            id="what-both-call-alike",
        ),
        pytest.param("--index-url https://i a", "--index-url https://i a", id="another-index"),
        pytest.param("--no-cache-dir a", "--no-cache a", id="another-name"),
        pytest.param("--pre a", "--prerelease=allow a", id="a-name-with-a-value"),
        pytest.param(
            "--extra-index-url https://i --find-links=/w a",
            "--index-strategy=unsafe-best-match --extra-index-url https://i --find-links=/w a",
            id="more-places-the-best-of-all-of-them",
        ),
    ],
)
def test_uv_gets_its_own_words(words: str, expected: str) -> None:
    """What is installed is the same, compiled as pip does it."""
    made = installation("uv", "/e/bin/python", words.split())
    assert made == ("uv", "pip", "install", "--compile-bytecode", "--python", "/e/bin/python", *expected.split())


@pytest.mark.parametrize("engine", ["llama_cpp", "transformers", "vllm", "sglang", "mlx"])
def test_every_engine_can_be_installed_by_uv(engine: str) -> None:
    """Its environment is uv's alone; what fetches the model is shared with all engines, and stays pip's."""
    composer = Composer(engines.conf_directories())
    words = ["hw=cpu", "hw.os=linux", "hw.arch=x86_64", "rules=engines-2026-11", f"engine={engine}"]
    by_pip, by_uv = (flow.plan(flow.ask(composer.compose([*words, *more]), composer), composer).launch
                     for more in ([], ["installer=uv"]))  # fmt: skip
    assert by_pip is not None
    assert by_uv is not None
    assert by_uv.environment is not None
    steps = [step for step in by_uv.environment.steps if "openblas.py" not in " ".join(step)]
    assert all("uv" in step for step in steps)
    assert by_uv.weights == by_pip.weights
