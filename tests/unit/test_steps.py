"""What an installation step is called, and what its failure says."""

from __future__ import annotations

import pytest

from xinfer.environments import steps
from xinfer.environments.steps import title


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        pytest.param("/p -m venv /h/e", "creating a virtual environment", id="a-venv"),
        pytest.param(
            "/e/bin/python -m pip install --disable-pip-version-check a==1", "installing a==1", id="a-package"
        ),
        pytest.param("/p -m pip install --no-deps --target /h/m b==2", "installing b==2", id="an-option-with-a-value"),
        pytest.param("/p -m pip install --index-url https://i a==1 b==2", "installing a==1 b==2", id="two-packages"),
        pytest.param("env CMAKE_ARGS=-DX=1 Y=2 /p -m pip install -v c==3", "installing c==3", id="behind-variables"),
        pytest.param("/e/bin/hf download org/m f.gguf --local-dir /d", "downloading org/m f.gguf", id="a-download"),
        pytest.param("/e/bin/modelscope download org/m --local-dir /d", "downloading org/m", id="a-folder"),
        pytest.param(
            "/t/python -I /c/gguf_to_folder.py /m/a.gguf /m/s-bf16-1a bfloat16", "making s-bf16-1a", id="a-format"
        ),
        pytest.param("/usr/bin/cmake --build x", "running cmake", id="anything-else"),
        pytest.param("/p -m pip install a b c d --no-deps e", "installing a b and 3 more", id="many-packages"),
        pytest.param("uv venv --python /p /h/e", "creating a virtual environment", id="a-venv-of-uv"),
        pytest.param(
            "env X=1 uv pip install --compile-bytecode --python /h/e/bin/python --only-binary :all: a==1",
            "installing a==1",
            id="a-package-by-uv",
        ),
        pytest.param("uv --version", "running uv", id="anything-else-of-uv"),
    ],
)
def test_title(step: str, expected: str) -> None:
    """A person sees what is being done, not the whole command."""
    assert title(tuple(step.split())) == expected


PIP = ("/e/bin/python", "-m", "pip", "install", "a==9")


def test_a_failure_is_one_line() -> None:
    """It names what was done, by which program, how that ended, what it said, and what to do."""
    error = steps._failure(PIP, {"ended": "1"}, ["ERROR: No matching distribution found for a==9"])
    assert str(error) == (
        "installing a==9: python exited with 1: No matching distribution found for a==9; "
        "choose a version that exists for this Python and this machine"
    )


@pytest.mark.parametrize(
    ("reports", "expected"),
    [
        pytest.param({"ended": "-9"}, "was ended by signal 9: it printed nothing", id="killed"),
        pytest.param({}, "exited with an unknown status: it printed nothing", id="the-guard-was-killed"),
    ],
)
def test_an_ending_is_named(reports: dict[str, str], expected: str) -> None:
    """Being killed is not an exit code."""
    assert expected in str(steps._failure(PIP, reports, []))


def test_details_are_the_last_lines() -> None:
    """A long output is not thrown at the user, nor kept from them."""
    error = steps._failure(PIP, {"ended": "1"}, [f"line {i}" for i in range(50)])
    assert error.details == tuple(f"line {i}" for i in range(30, 50))


def test_a_step_does_not_see_xinfers_own_python(monkeypatch: pytest.MonkeyPatch) -> None:
    """PYTHONPATH and its like would put xinfer's packages into the engine's environment."""
    for name in ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV"):
        monkeypatch.setenv(name, "/xinfer")
    monkeypatch.setenv("PIP_INDEX_URL", "https://mirror")
    seen = steps.variables()
    assert "/xinfer" not in seen.values()
    assert seen["PIP_INDEX_URL"] == "https://mirror"
    assert seen["PIP_NO_INPUT"] == "1"
