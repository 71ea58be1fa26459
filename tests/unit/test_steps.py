"""What an installation step is called, and what its failure says."""

from __future__ import annotations

import pytest

from xinfer import steps
from xinfer.steps import title


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
        pytest.param("/usr/bin/cmake --build x", "running cmake", id="anything-else"),
    ],
)
def test_title(step: str, expected: str) -> None:
    """A person sees what is being done, not the whole command."""
    assert title(tuple(step.split())) == expected


PIP = ("/e/bin/python", "-m", "pip", "install", "a==9")
PIP_FAILED = "installing a==9: python exited with 1: "


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        pytest.param(
            [
                "ERROR: Could not find a version that satisfies the requirement a==9 (from versions: 1, 2)",
                "ERROR: No matching distribution found for a==9",
            ],
            "No matching distribution found for a==9; choose a version that exists for this Python and this machine",
            id="no-such-version",
        ),
        pytest.param(
            [
                "WARNING: Retrying (Retry(total=0)) after connection broken by 'Temporary failure in name resolution'",
                "ERROR: Could not find a version that satisfies the requirement a==9 (from versions: none)",
                "ERROR: No matching distribution found for a==9",
            ],
            "No matching distribution found for a==9; "
            "the network did not answer: check it, and your mirror if you use one, then run it again",
            id="no-network-is-told-from-no-such-version",
        ),
        pytest.param(
            [
                "Installing collected packages: a",
                "ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device",
                "",
            ],
            "Could not install packages due to an OSError: [Errno 28] No space left on device; "
            "free disk space, or choose another disk with home=",
            id="a-full-disk",
        ),
        pytest.param(
            [
                "  CMake Error at CMakeLists.txt:3 (project):",
                "    No CMAKE_CXX_COMPILER could be found.",
                "  error: subprocess-exited-with-error",
                "ERROR: Failed building wheel for a",
                "ERROR: Failed to build installable wheels for some pyproject.toml based projects (a)",
            ],
            "No CMAKE_CXX_COMPILER could be found; install a C++ compiler (g++ or clang), then run it again",
            id="no-compiler",
        ),
        pytest.param(
            [
                "  CMake Error at x:1:",
                "    No CMAKE_CUDA_COMPILER could be found.",
                "ERROR: Failed building wheel for a",
            ],
            "No CMAKE_CUDA_COMPILER could be found; install the CUDA toolkit (nvcc), then run it again",
            id="no-cuda-toolkit",
        ),
        pytest.param(
            ["Traceback (most recent call last):", '  File "x", line 1', "ValueError: what", "and more"],
            "ValueError: what; the log says more",
            id="an-unknown-error-is-quoted",
        ),
        pytest.param(["\x1b[31mERROR: red\x1b[0m"], "red; the log says more", id="colours-are-stripped"),
        pytest.param(["one", "two"], "two; the log says more", id="without-an-error-the-last-line"),
        pytest.param([], "it printed nothing; the log says more", id="silence"),
    ],
)
def test_a_failure_says_what_and_what_to_do(output: list[str], expected: str) -> None:
    """The one line quotes the line of the output that says most, and names a remedy."""
    error = steps._failure(PIP, {"ended": "1"}, [line for line in output if line])
    assert str(error) == PIP_FAILED + expected


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
